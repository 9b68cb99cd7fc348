# SPDX-License-Identifier: Apache-2.0
"""A host for the tests of the dead man's switch: data with a staged copy beside it, a service, and the switch itself."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import settle, switch_units
from ansible_collections.diskominfo.sop.plugins.module_utils.switch import Switch

from tests.integration.module_process import finish, grant_for, start_module

Json = dict[str, Any]
CASE = "RST-2026-0001"
MARK = "rst20260001"


class Host:
    """Data of one kind with a staged copy beside it, a service made of a flag file, and the host's switch."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder, self.engine = folder, engine
        self.site = uuid.uuid4().hex
        self.path = folder / ("antrean.db" if engine == "sqlite" else "berkas")
        self.flag = folder / "runs"
        self.flag.touch()
        words = {
            "start": ["/usr/bin/touch", str(self.flag)],
            "stop": ["/bin/rm", "-f", str(self.flag)],
            "status": ["/usr/bin/test", "-e", str(self.flag)],
        }
        self.service: Json = {"name": "antrean", "manager": "command", **words}
        self.dataset: Json = {
            "id": "antrean",
            "engine": engine,
            "path": str(self.path),
            "state_dir": str(folder / "state"),
        }
        self.switch = Switch(CASE, self.site)
        self.reset()

    def reset(self) -> None:
        """Old data live, new data staged and compared, nothing armed."""
        for path in self.folder.iterdir():
            if path.name.startswith((self.path.name, f".{self.path.name}")):
                remove(path)
        write(self.path, self.engine, "lama")
        write(Path(f"{self.path}__shadow_{MARK}"), self.engine, "baru")
        settle.restore_journal(self.dataset, CASE).write({"snapshot": "0" * 64, "tables": {}})
        self.flag.touch()

    @property
    def live(self) -> str:
        return read(self.path, self.engine)

    @property
    def runs(self) -> bool:
        return self.flag.exists()

    def to(self, state: str, *, seconds: int = 600, check: bool = False, **more: Any) -> Json:
        args: Json = {"case": CASE, "datasets": [self.dataset], "services": [self.service], "seconds": seconds}
        args |= {"together": False, "alone": True, "state": state, **more}
        return self.call("dead_mans_switch", f"switch.{state}", args, check)

    def step(self, module: str, operation: str) -> Json:
        args: Json = {"case": CASE, "state": operation.partition(".")[2]}
        if module == "service_state":
            args["service"] = self.service
        else:
            args["dataset"] = self.dataset
        if module == "restore_dataset":
            args |= {"snapshot": "0" * 64, "manifest_snapshot": "0" * 64}
        return self.call(module, operation, args)

    def call(self, module: str, operation: str, args: Json, check: bool = False) -> Json:
        grant = {**grant_for(operation, args), "site": self.site}
        return finish(start_module(module, {**args, "grant": grant}, check))

    def swap(self) -> None:
        """Everything up to the swap, as the role does it."""
        assert self.to("armed")["changed"]
        for module, operation in (
            ("service_state", "service.stopped"),
            ("quiesce", "quiesce.quiesced"),
            ("restore_dataset", "restore.swapped"),
        ):
            done = self.step(module, operation)
            assert not done.get("failed"), done
        assert (self.live, self.runs) == ("baru", False)

    def settle(self, mode: str = "--boot") -> subprocess.CompletedProcess[str]:
        """sop-settle itself, as systemd would start it: no Ansible, no PYTHONPATH."""
        program = switch_units.settle_path(self.switch)
        command = [sys.executable, "-I", program, mode, CASE]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={"PATH": os.defpath}, cwd="/", timeout=120
        )


def write(path: Path, engine: str, word: str) -> None:
    if engine == "files":
        path.mkdir()
        (path / "isi").write_text(word)
        return
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE isi (kata TEXT)")
        connection.execute("INSERT INTO isi VALUES (?)", (word,))
    connection.close()


def read(path: Path, engine: str) -> str:
    if engine == "files":
        return (path / "isi").read_text()
    connection = sqlite3.connect(path)
    try:
        (found,) = connection.execute("SELECT kata FROM isi").fetchone()
        return str(found)
    finally:
        connection.close()


def remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        for inner in path.iterdir():
            remove(inner)
        path.rmdir()


def forget(folder: str) -> None:
    """Remove a switch, which ends the process that waits; that one may be writing into it just now."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"{folder} stays")


@pytest.fixture(params=["sqlite", "files"])
def fast_host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host whose data lies in memory: thousands of fsyncs are not what a race is about."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        made = Host(Path(folder), request.param)
        yield made
        forget(made.switch.folder)
