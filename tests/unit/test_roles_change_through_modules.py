# SPDX-License-Identifier: Apache-2.0
"""Roles and playbooks change hosts through our own modules only: nothing else asks the gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "collections/ansible_collections/diskominfo/sop"
OURS = {
    f"diskominfo.sop.{path.stem}" for path in (COLLECTION / "plugins/modules").glob("*.py") if path.stem != "__init__"
}
CONTROL_NAMES = "assert debug fail import_playbook import_role import_tasks include_role include_tasks set_fact"
CONTROL = {f"ansible.builtin.{name}" for name in CONTROL_NAMES.split()}
# Everything else that may stand in a task or block. `environment`, `vars_files` and a connection of its own are not here.
KEYWORDS = {
    "always", "block", "changed_when", "delegate_to", "failed_when", "loop", "loop_control", "name", "register", "rescue",
    "run_once", "tags", "until", "retries", "delay", "vars", "when",
}  # fmt: skip
PLAY = {"any_errors_fatal", "gather_facts", "hosts", "name", "serial", "strategy", "tasks", "vars"}
BLOCKS = ("block", "rescue", "always")
# What a server's administrator runs before sopctl comes to the host: enrol lays down what checks grants, so it can need
# none, and vault_server is for the vault's own host, which sopctl never changes. Role (and playbook): its one module.
UNGATED = {"enrol": "enrolment", "vault_server": "vault_server"}
TASK_FILES = sorted(path for path in COLLECTION.glob("roles/*/*/*.yml") if path.parent.name in {"tasks", "handlers"})
PLAYBOOKS = sorted((COLLECTION / "playbooks").glob("*.yml"))


def load(path: Path) -> list[dict[str, Any]]:
    """The tasks or plays of a file."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(found, list), path
    return found


def wrongs(tasks: list[dict[str, Any]]) -> Iterator[str]:
    """What stands in ``tasks`` and may not."""
    for task in tasks:
        name = task.get("name", "?")
        inner = [key for key in BLOCKS if key in task]
        yield from (f"{name}: {key} is not allowed" for key in set(task) - KEYWORDS - OURS - CONTROL)
        if not inner and len(set(task) & (OURS | CONTROL)) != 1:
            yield f"{name}: has no module, or several"
        for key in inner:
            yield from wrongs(task[key])


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: f"{path.parts[-3]}/{path.name}")
def test_tasks(path: Path) -> None:
    assert not list(wrongs(load(path)))


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.name)
def test_playbooks(path: Path) -> None:
    plays = load(path)
    for number, play in enumerate(plays):
        assert set(play) <= PLAY, f"{path.name}: {sorted(set(play) - PLAY)} is not allowed in a play"
        assert play["gather_facts"] is False, f"{path.name}: facts are gathered by nobody"
        # one who is refused for one host is refused for all, and nobody is left for the plays that follow
        assert play["hosts"] == plays[0]["hosts"]
        if path.stem not in UNGATED and number == 0:
            assert "diskominfo.sop.authorize" in play["tasks"][0], f"{path.name}: the first task must ask the gate"
        assert not list(wrongs(play["tasks"]))


def test_every_changing_module_asks_the_gate() -> None:
    """A module without an action plugin of its name would run without asking; only what reads may, and UNGATED."""
    asking = {path.stem for path in (COLLECTION / "plugins/action").glob("*.py")}
    modules = {name.rpartition(".")[2] for name in OURS}
    assert modules - asking == {"dataset_manifest", *UNGATED.values()}


@pytest.mark.parametrize(("role", "module"), UNGATED.items())
def test_only_its_own_role_uses_a_module_that_needs_no_grant(role: str, module: str) -> None:
    """Nothing that a run does may enrol a host or take it out, or touch a vault's host; and the role does nothing else."""
    name = f"diskominfo.sop.{module}"
    using = {path.parts[-3] for path in TASK_FILES if f"{name}:" in path.read_text(encoding="utf-8")}
    assert using == {role}
    for path in TASK_FILES:
        if path.parts[-3] == role:
            assert [set(task) - KEYWORDS for task in load(path)] == [{name}]
    calling = {path.stem for path in PLAYBOOKS if f"diskominfo.sop.{role}\n" in path.read_text(encoding="utf-8")}
    assert calling == {role}


@pytest.mark.parametrize(
    "task",
    [
        {"name": "x", "ansible.builtin.command": "true"},
        {"name": "x", "ansible.builtin.systemd": {"name": "nginx"}},
        {"name": "x", "ansible.builtin.debug": {}, "environment": {"A": "b"}},
        {"name": "x", "block": [{"name": "y", "shell": "true"}]},
        {"name": "x", "when": True},
    ],
)
def test_the_check_itself(task: dict[str, Any]) -> None:
    assert list(wrongs([task]))


def test_there_is_something_to_check() -> None:
    assert len(TASK_FILES) >= 4
    assert len(PLAYBOOKS) >= 2
    assert len(OURS) >= 8
