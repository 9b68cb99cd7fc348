# SPDX-License-Identifier: Apache-2.0
"""Covers the collection's plugin_utils/watch.py: its command in a real shell, and what a look may never do to a task."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import default_state_dir
from ansible_collections.diskominfo.sop.plugins.plugin_utils import watch

Json = dict[str, Any]
CASE = "RST-2026-0001"
STATE: Json = {
    "what": "stage",
    "done": 5,
    "total": 10,
    "estimate": False,
    "started": "2026-11-22T03:00:00Z",
    "at": "2026-11-22T03:00:10Z",
}


class Become:
    """What keeps the mark of one command."""


class Connection:
    transport = "local"

    def __init__(self) -> None:
        self.become = Become()


class Action:
    """The part of an action plugin that a look uses; commands run in a real shell, as ``answer`` says otherwise."""

    def __init__(self, home: Path, answer: Any = None) -> None:
        self._connection = Connection()
        self.home, self.answer = home, answer
        self.eyes: list[Action] = []
        self.seen: list[Connection] = []

    def _low_level_execute_command(self, command: str, in_data: bytes) -> Json:
        self.eyes.append(self)
        self.seen.append(self._connection)
        if self.answer is not None:
            return dict(self.answer())
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home)}
        done = subprocess.run(["sh", "-c", command], env=env, input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode()}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PAUSE", 0.05)


def look(action: Action, dataset: Json, seconds: float = 0.5, case: str = CASE) -> list[Json]:
    told: list[Json] = []
    with watch.Watch(action, "db01", dataset, case, told.append):
        time.sleep(seconds)
    return told


def write(folder: Path, text: str | None = None) -> None:
    (folder / f"progress-simpeg-{CASE}.json").write_text(json.dumps(STATE) if text is None else text)


def test_each_new_state_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "a folder's; name"
    folder.mkdir()
    write(folder, json.dumps({**STATE, "password": "rahasia"}))
    action = Action(tmp_path)
    told = look(action, {"id": "simpeg", "state_dir": str(folder)})
    assert told == [{"kind": "progress", "host": "db01", "dataset": "simpeg", **STATE}]
    own = {id(action), id(action._connection), id(action._connection.become)}
    for eye, connection in zip(action.eyes, action.seen, strict=True):
        assert not own & {id(eye), id(connection), id(connection.become)}, "a look has all of its own"


@pytest.mark.parametrize("uid", ["0", "1000"])
def test_default_folder_is_the_module_s(uid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "id").write_text(f"#!/bin/sh\necho {uid}\n")
    (tmp_path / "id").chmod(0o755)
    command = watch.command_for({"id": "simpeg"}, CASE)
    assert command is not None
    script = command.partition("; head")[0] + '; printf %s "$d"'
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True)
    monkeypatch.setattr(os, "geteuid", lambda: int(uid))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert done.stdout == default_state_dir()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "5", "x" * 10_000, '{"done": 1' + " " * 9000 + "}"])
def test_what_is_no_state_is_not_told(text: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    assert look(Action(tmp_path), {"id": "simpeg", "state_dir": str(tmp_path)}) == []


@pytest.mark.parametrize("dataset", [{}, {"id": "x; reboot"}, {"id": "../etc"}, {"id": None}])
def test_names_that_are_none_are_never_looked_for(dataset: Json, tmp_path: Path) -> None:
    assert watch.command_for(dataset, CASE) is None
    assert watch.command_for({"id": "simpeg"}, "RST-2026-0001; reboot") is None
    action = Action(tmp_path)
    assert look(action, dataset, 0.2) == []
    assert action.eyes == []


def test_a_host_that_refuses_is_left_alone(tmp_path: Path) -> None:
    asked: list[int] = []

    def refuse() -> Json:
        asked.append(1)
        if len(asked) == 1:
            return {"rc": 1, "stdout": ""}
        raise OSError("unreachable")

    action = Action(tmp_path, refuse)
    assert look(action, {"id": "simpeg"}) == []
    assert len(action.eyes) == watch.PATIENCE


def test_other_connections_are_left_alone(tmp_path: Path) -> None:
    action = Action(tmp_path)
    action._connection.transport = "community.general.lxd"
    assert look(action, {"id": "simpeg"}, 0.2) == []
    assert action.eyes == []


def test_a_look_that_hangs_delays_the_task_by_a_second_at_most(tmp_path: Path) -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> Json:
        begun.set()
        release.wait(30)
        return {"rc": 0, "stdout": json.dumps(STATE)}

    told: list[Json] = []
    with watch.Watch(Action(tmp_path, hang), "db01", {"id": "simpeg"}, CASE, told.append):
        assert begun.wait(10)
        ended = time.monotonic()
    assert time.monotonic() - ended < watch.GRACE + 0.5
    release.set()
    time.sleep(0.2)
    assert told == [], "what comes after the task is not told"


def test_a_short_task_is_never_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PAUSE", 2.0)
    action = Action(tmp_path)
    assert look(action, {"id": "simpeg"}, 0.1) == []
    assert action.eyes == []
