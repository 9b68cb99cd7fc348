# The one entry for people and CI. `make help` lists the targets; CONTRIBUTING.md tells more.
#   PYTHON=…     the Python (3.11 or newer) that .venv is made with     SKIP_LAB=1   leave out what needs the podman lab
#   PYTEST=…     further words for pytest, such as PYTEST="-k restore -x"
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
PYTEST ?=
# A __pycache__ in the collection is refused by sopctl: a planted .pyc runs beside honest source. So bytecode lies apart;
# without any, each of the thousands of sopctl starts compiles it anew.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pyc
export PATH := $(CURDIR)/.venv/bin:$(PATH)
SKIPPING := $(if $(filter-out 0,$(SKIP_LAB)),1)
WORKERS := -n auto --dist worksteal
LAB := python tests/lab/lab.py

.NOTPARALLEL:
.PHONY: help deps deps-demo venv demo lint test test-unit test-integration test-e2e test-faults test-long molecule lab lab-down bench clean pyc

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 18

deps: ## install the Debian packages that tests need and this machine lacks (root or sudo)
	@tests/tools/deps.sh test

deps-demo:
	@tests/tools/deps.sh demo

venv: .venv/installed-dev ## make .venv with everything for development

# Its packages are compiled where they lie, as for everybody: Ansible is started without our prefix.
.venv/installed-%: pyproject.toml
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "venv: installing into .venv ($*)"
	@env -u PYTHONPYCACHEPREFIX .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[$(if $(filter dev,$*),dev$(comma))demo]'
	@touch $@

comma := ,

demo: deps-demo $(or $(wildcard .venv/installed-dev),.venv/installed-demo) ## the whole SOP on this machine, in demo-site/ (2 minutes)
	@sopctl demo demo-site

lint: deps venv ## ruff, mypy, import-linter, yamllint, ansible-lint (production, nothing skipped)
	ruff check .
	ruff format --check --quiet .
	mypy sopctl tests collections/ansible_collections
	lint-imports | sed -n '/^Analyzed/,$$p'
	yamllint --strict .
	ansible-lint -q

test: ## what CI runs: lint, and the tests with the real labs; of the long ones a part (test-long has the rest)
	@tests/tools/test-all.sh

test-unit: deps venv pyc ## tests/unit
	pytest $(WORKERS) tests/unit $(PYTEST)

test-integration: deps venv pyc ## tests/integration: modules and engines on this machine's own databases and vaults
	pytest $(WORKERS) tests/integration $(PYTEST)

test-e2e: deps venv pyc $(if $(SKIPPING),,lab) ## tests/e2e: sopctl as people use it, in the lab
	pytest tests/e2e $(if $(SKIPPING),-m "not lab") $(PYTEST)

test-faults: deps venv pyc ## the whole fault matrix in labs of its own (an hour); PART=mariadb, PART=swapped … runs a part
	@tests/tools/test-faults.sh '$(PART)'

test-long: deps venv pyc lab ## the matrices of which `make test` takes a part: each byte of a record, each statement of an exchange, each PostgreSQL
	SOPTEST_WHOLE=1 pytest $(WORKERS) -m "(long or part) and not lab" tests --ignore tests/bench $(PYTEST)
	SOPTEST_WHOLE=1 pytest -m "(long or part) and lab" tests --ignore tests/bench $(PYTEST)

molecule: deps venv pyc lab ## the molecule scenario of each role, in the lab
	SOPTEST_WHOLE=1 pytest tests/e2e/test_molecule.py $(PYTEST)

lab: deps venv ## start the lab: Debian hosts as podman containers
	@$(LAB) up --install

lab-down: ## remove the lab
	@$(PYTHON) tests/lab/lab.py down

bench: deps venv pyc lab ## downtime, and what a backup costs, at 0.1, 1 and 4 GB beside other ways, in the lab (BENCH_SIZES=100,1000 for less)
	pytest tests/bench $(PYTEST)

pyc:
	@find collections -name __pycache__ -prune -exec rm -rf {} +

clean: pyc ## remove what tools leave behind; .venv, the lab and demo-site stay
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .ansible
	@find sopctl tests -name __pycache__ -prune -exec rm -rf {} +
