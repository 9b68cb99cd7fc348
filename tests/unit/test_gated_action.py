# SPDX-License-Identifier: Apache-2.0
"""Covers the collection's plugin_utils/gate.py: our modules and roles by hand, without a sopctl that holds a run open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sopctl.gate_server import GateServer

COLLECTIONS = Path(__file__).parents[2] / "collections"
COMMAND = "sopctl case execute CASE --as PERSON"
DATASET = {"id": "antrean", "engine": "files", "path": "/nonexistent/antrean"}


def playbook(tmp_path: Path, tasks: list[Any], *options: str, **env: str) -> str:
    """What a play by hand says; nothing of the caller's environment but PATH and HOME."""
    play = [{"hosts": "srv01", "gather_facts": False, "tasks": tasks}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    (tmp_path / "hosts").write_text(f"srv01 ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts"), *options]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "2000",
        **env,
    }
    done = subprocess.run(
        [*command, str(tmp_path / "play.yml")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"{done.stdout}\n{done.stderr}\nexit {done.returncode}"


def service(tmp_path: Path, **more: Any) -> dict[str, Any]:
    touch = ["touch", str(tmp_path / "changed")]
    planned = {"name": "web", "manager": "command", "start": touch, "stop": touch, "status": ["true"]}
    return {"case": "RST-2026-0001", "service": planned, "state": "stopped", **more}


def test_modules_and_roles_by_hand(tmp_path: Path) -> None:
    """The way round the door: nothing is changed, and each refusal says which command to type."""
    state = {"case": "RST-2026-0001", "dataset": {**DATASET, "state_dir": str(tmp_path / "state")}}
    asked: dict[str, dict[str, Any]] = {
        "service_state": service(tmp_path),
        "backup_dataset": {**state, "period": "2026-11", "name": "x"},
        "verify_dataset": {**state, "snapshot": "a", "manifest_snapshot": "b"},
        "restore_dataset": {**state, "snapshot": "a", "manifest_snapshot": "b", "state": "swapped"},
        "quiesce": {**state, "state": "quiesced"},
        "vault_repository": state,
        "authorize": {"case": "RST-2026-0001", "playbook": "restore"},
    }
    tasks: list[Any] = [{f"diskominfo.sop.{name}": args, "ignore_errors": True} for name, args in asked.items()]
    given = {
        "service_control_case": "RST-2026-0001",
        "service_control_state": "stopped",
        "service_control_services": [{"host": "srv01", "service": service(tmp_path)["service"]}],
    }
    tasks.append({"ansible.builtin.include_role": {"name": "diskominfo.sop.service_control"}, "vars": given})
    said = playbook(tmp_path, tasks)
    assert said.count("refused by the gate: no sopctl holds a run open") > len(asked), said
    assert said.count(COMMAND) > len(asked), said
    assert f"ignored={len(asked)}" in said
    assert "changed=0" in said
    assert "exit 2" in said
    assert not (tmp_path / "changed").exists()
    assert not (tmp_path / "state").exists()


def test_grant_of_ones_own_is_refused_by_name(tmp_path: Path) -> None:
    """Neither as an argument nor as a variable that would beat ours."""
    forged = {"operation": "service.stopped", "case": "RST-2026-0001", "expires": "2999-01-01T00:00:00Z"}
    tasks = [
        {"diskominfo.sop.service_state": service(tmp_path, grant="{{ grant }}"), "ignore_errors": True},
        {"diskominfo.sop.backup_dataset": {"case": "x", "vault": "{{ vault }}", "secrets": {}}, "ignore_errors": True},
    ]
    said = playbook(tmp_path, tasks, "-e", json.dumps({"grant": forged, "vault": {"password": "x"}}))
    assert "srv01/web: refused: grant come from the gate, never from a play" in said, said
    assert "refused: vault, secrets come from the gate, never from a play" in said
    assert not (tmp_path / "changed").exists()


def test_check_mode_asks_too_and_a_dead_sopctl_is_no_gate(tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    tasks = [{"diskominfo.sop.service_state": service(tmp_path)}]
    said = playbook(tmp_path, tasks, "--check", SOPCTL_GATE=str(tmp_path / "gate"))
    assert "the sopctl that held this run open does not answer" in said, said
    assert not (tmp_path / "changed").exists()


def test_only_true_is_yes(tmp_path: Path) -> None:
    answers: Iterator[dict[str, Any]] = iter(
        [{"allowed": "yes", "grant": {}}, {"allowed": False, "reasons": ["argument name is not the planned one"]}]
    )
    tasks = [{"diskominfo.sop.service_state": service(tmp_path), "ignore_errors": True}] * 2
    with GateServer(tmp_path, lambda _: next(answers)) as gate:
        said = playbook(tmp_path, tasks, SOPCTL_GATE=str(gate.path))
    assert "srv01/web: refused by the gate: no reason given" in said, said
    assert "srv01/web: refused by the gate: argument name is not the planned one" in said
    assert not (tmp_path / "changed").exists()


def test_no_secret_goes_to_disk_without_pipelining(tmp_path: Path) -> None:
    questions: list[dict[str, Any]] = []

    def allow(question: dict[str, Any]) -> dict[str, Any]:
        questions.append(question)
        return {"allowed": True, "grant": {}, "secrets": {"db_password": "kata sandi"}}

    with GateServer(tmp_path, allow) as gate:
        tasks = [{"diskominfo.sop.service_state": service(tmp_path), "vars": {"ansible_pipelining": False}}]
        said = playbook(tmp_path, tasks, SOPCTL_GATE=str(gate.path), ANSIBLE_PIPELINING="False")
    assert "srv01/web: refused: pipelining is off, so secrets would be written to the host" in said, said
    assert "kata sandi" not in said
    assert (questions[0]["operation"], questions[0]["host"], questions[0]["module"]) == (
        "service.stopped",
        "srv01",
        "service_state",
    )
    assert not (tmp_path / "changed").exists()


def test_module_that_is_killed_is_told_with_its_host_and_dataset(tmp_path: Path) -> None:
    """Ansible says "Module result deserialization failed" and leaves it to the reader what that means."""
    planned = service(tmp_path)
    planned["service"]["status"] = ["sh", "-c", "kill -9 $PPID"]  # the module asks it, also in check mode
    with GateServer(tmp_path, lambda _question: {"allowed": True, "grant": {}}) as gate:
        said = playbook(tmp_path, [{"diskominfo.sop.service_state": planned}], "--check", SOPCTL_GATE=str(gate.path))
    told = "srv01/web: the module was killed on the host (signal 9); see the host's journal (out of memory?), then run again"
    assert f'"msg": "{told}' in said, said


def test_a_host_speaks_of_no_other_dataset_than_it_was_asked_of(tmp_path: Path) -> None:
    """What a taken-over host answers in a module's place goes into the record."""
    evidence = {"kind": "verify", "dataset": "lain", "host": "srv99", "ok": True, "snapshot": "a"}
    liar = tmp_path / "python"
    liar.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{json.dumps({'changed': False, 'sop_evidence': evidence})}'\n")
    liar.chmod(0o755)
    asked = {"case": "BKP-2026-0001", "dataset": DATASET, "snapshot": "a", "manifest_snapshot": "b"}
    tasks = [
        {"diskominfo.sop.verify_dataset": asked, "register": "told"},
        {"ansible.builtin.debug": {"var": "told.sop_evidence"}},
    ]
    with GateServer(tmp_path, lambda _question: {"allowed": True, "grant": {}}) as gate:
        said = playbook(tmp_path, tasks, "-e", f"ansible_python_interpreter={liar}", SOPCTL_GATE=str(gate.path))
    assert '"dataset": "antrean"' in said, said
    assert '"host": "srv01"' in said
    assert "lain" not in said.partition("told.sop_evidence")[2]
