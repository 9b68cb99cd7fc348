# SPDX-License-Identifier: Apache-2.0
"""A green run must prove that it touched the planned hosts: no host matched, or fewer than planned, is a failure."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sopctl.redact import Redactor
from sopctl.runner import RunOutcome, RunRequest, Stop, run
from tests.e2e.checks import Done, all_verified, one_line_error, record_json, run_error, snapshots
from tests.lab.hosts import Lab
from tests.lab.probe import wait_healthy
from tests.support.site_builder import SiteBuilder

EVIDENCE_PLAY = """
- hosts: {hosts}
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: done
"""


@contextmanager
def without_sshd(lab: Lab, host: str) -> Iterator[None]:
    """A host that is up and does not answer."""
    lab.exec(host, "systemctl stop ssh.service")
    try:
        yield
    finally:
        lab.exec(host, "systemctl start ssh.service")


@contextmanager
def changed(path: Path, text: str) -> Iterator[None]:
    """A file with other content for a while; a new one is removed again."""
    kept = path.read_text(encoding="utf-8") if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        if kept is None:
            path.unlink()
        else:
            path.write_text(kept, encoding="utf-8")


@pytest.fixture(scope="module")
def site(make_site: Callable[..., SiteBuilder], alone: None) -> SiteBuilder:
    """A site over db01 and file01, whose sshd the tests stop."""
    return make_site("simpeg", "berkas", quick=True)


def backup(site: SiteBuilder, *datasets: str, env: dict[str, str] | None = None) -> Done:
    """Back up these datasets, whatever comes of it."""
    words = [word for dataset in datasets for word in ("--dataset", dataset)]
    return site.run("schedule", "run", *words, as_="pelaksana", check=False, env=env)


@pytest.mark.lab
def test_one_of_one_hosts_does_not_answer(lab: Lab, site: SiteBuilder) -> None:
    with without_sshd(lab, "file01"):
        done = backup(site, "berkas")
    run_error(done, 20, "file01 does not answer", "Connection refused", "sshd")
    assert record_json(site.records[-1], "form.json")["header"]["result"] == "gagal"
    assert snapshots(lab, site) == []


@pytest.mark.long
@pytest.mark.lab
def test_one_of_two_hosts_does_not_answer(lab: Lab, site: SiteBuilder, personnel: Callable[[], None]) -> None:
    """What could be done is done and proven; the run says which part was not, and does not pass for a success."""
    with without_sshd(lab, "file01"):
        done = backup(site, "simpeg", "berkas")
    run_error(done, 22, "file01 does not answer")
    assert len(snapshots(lab, site)) == 2, "db01's dump and manifest"
    status = {row["dataset"]: row["due"] for row in site.run_json("schedule", "status", check=False)}
    assert status == {"simpeg": False, "berkas": True}
    all_verified(site)


@pytest.mark.long
@pytest.mark.lab
def test_a_service_host_that_does_not_answer(lab: Lab, site: SiteBuilder, personnel: Callable[[], None]) -> None:
    """Its dead man's switch cannot be armed, so nothing is stopped: the old data stays live, and it is run again."""
    backup(site, "simpeg")
    case = site.approved("simpeg")
    with without_sshd(lab, "web01"):
        done = site.run("case", "execute", case, as_="pelaksana", check=False)
    run_error(done, 20, "web01", "Connection refused")
    run_error(done, 20, f"run it again: sopctl case execute {case}")
    assert "THE SERVICE IS DOWN" not in done.stdout + done.stderr
    assert wait_healthy(f"{lab.web_url}/health", 1)
    assert not [name for name in lab.databases() if "before" in name]
    assert lab.exec("web01", "systemctl is-active simpeg-web.service").strip() == "active"
    done = site.run("case", "execute", case, as_="pelaksana", check=False)
    assert done.returncode == 0, done.stdout
    assert [name for name in lab.databases() if "before" in name]
    assert wait_healthy(f"{lab.web_url}/health", 10)
    all_verified(site)


@pytest.mark.lab
@pytest.mark.parametrize("planned", ["sop_plan: []\n", 'sop_plan: "{{ [] }}"\n'])
def test_an_inventory_that_empties_the_plan(site: SiteBuilder, planned: str) -> None:
    """host_vars are stronger than the plan that sopctl hands over; a host with nothing to do proves nothing."""
    with changed(site.root / "inventory/host_vars/file01.yml", planned):
        done = backup(site, "berkas")
    assert done.returncode in {20, 30}, done.stdout
    assert "file01" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.lab
def test_an_inventory_that_adds_targets(lab: Lab, site: SiteBuilder) -> None:
    """A group of the plan's name in the user's inventory: other hosts are refused, and nothing is done on any."""
    path = site.root / "inventory/hosts.yml"
    inventory = json.loads(path.read_text(encoding="utf-8"))
    extra = {"sop_case": "BKP-2026-0001", "sop_plan": []}
    inventory["all"]["children"] = {"sop_targets": {"hosts": {"web01": extra}}}
    before = snapshots(lab, site)
    with changed(path, json.dumps(inventory)):
        done = backup(site, "berkas")
    run_error(done, 20, "planned hosts")
    assert snapshots(lab, site) == before


@pytest.mark.lab
def test_a_host_that_the_inventory_does_not_know(site: SiteBuilder) -> None:
    path = site.root / "inventory/hosts.yml"
    inventory = json.loads(path.read_text(encoding="utf-8"))
    del inventory["all"]["hosts"]["file01"]
    records = len(site.records)
    with changed(path, json.dumps(inventory)):
        done = backup(site, "berkas")
    one_line_error(done, 2, "inventory", "'file01'", "register/servers/file01.yml")
    assert len(site.records) == records


@pytest.mark.lab
def test_the_caller_cannot_steer_ansible(lab: Lab, site: SiteBuilder) -> None:
    """Variables that would make Ansible skip, check or take another configuration do not reach it."""
    env = {
        "ANSIBLE_SKIP_TAGS": "all",
        "ANSIBLE_RUN_TAGS": "nothing",
        "ANSIBLE_CONFIG": "/nonexistent/ansible.cfg",
        "ANSIBLE_INVENTORY": "/nonexistent",
        "ANSIBLE_STRATEGY": "nothing",
        "ANSIBLE_CHECK_MODE_MARKERS": "yes",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_CALLBACKS_ENABLED": "nothing",
    }
    done = backup(site, "berkas", env=env)
    assert done.returncode == 0, done.stdout
    assert snapshots(lab, site)


def play(tmp_path: Path, inventory: dict[str, Any], *, hosts: list[str], pattern: str) -> RunOutcome:
    """Run a playbook that touches ``pattern`` under a plan of ``hosts``, as sopctl would."""
    folder, keep = tmp_path / "run", tmp_path / "keep"
    for made in (folder, keep):
        made.mkdir()
    hosts_file = tmp_path / "hosts.json"
    hosts_file.write_text(json.dumps(inventory), encoding="utf-8")
    playbook = tmp_path / "play.yml"
    playbook.write_text(EVIDENCE_PLAY.format(hosts=pattern), encoding="utf-8")
    request = RunRequest(
        playbook=str(playbook),
        inventories=[hosts_file],
        folder=folder,
        keep=keep,
        hosts=hosts,
        all_hosts=hosts,
        known_hosts="",
    )
    try:
        return run(request, Redactor([]), lambda _event: None, Stop(lambda _text: None))
    finally:
        shutil.rmtree(folder)


LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


def test_a_play_that_matches_no_host(tmp_path: Path) -> None:
    outcome = play(tmp_path, {"all": {"hosts": {"srv01": LOCAL}}}, hosts=["srv01"], pattern="sop_targets")
    assert outcome.problems
    assert outcome.evidence == []


def test_a_play_over_an_empty_group(tmp_path: Path) -> None:
    inventory = {"all": {"hosts": {"srv01": LOCAL}, "children": {"sop_targets": {}}}}
    outcome = play(tmp_path, inventory, hosts=["srv01"], pattern="sop_targets")
    assert any("srv01" in problem for problem in outcome.problems), outcome


def test_fewer_hosts_than_planned(tmp_path: Path) -> None:
    """Ansible exits 0; the planned host that said nothing makes the run unbelievable."""
    inventory = {"all": {"hosts": {"srv01": LOCAL}}}
    outcome = play(tmp_path, inventory, hosts=["srv01", "srv02"], pattern="all")
    assert outcome.rc == 0
    assert any("srv02" in problem for problem in outcome.problems), outcome.problems


def test_an_inventory_that_cannot_be_read(tmp_path: Path) -> None:
    tmp_path.joinpath("hosts.json").unlink(missing_ok=True)
    outcome = play(tmp_path, {"all": {"hosts": "not a table of hosts"}}, hosts=["srv01"], pattern="all")
    assert outcome.problems
