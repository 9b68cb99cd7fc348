"""What a module says of its progress while a real dump passes through a vault that is slow."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.module_process import finish, grant_for, run_module, start_module
from tests.integration.pg_cluster import Cluster, bin_dirs, running
from tests.integration.rest_vault import RestVault, rest_vault
from tests.integration.sop_fixtures import dataset_for, noise

pytestmark = [pytest.mark.long, pytest.mark.part(2)]

Json = dict[str, Any]
SIZE = 120_000_000  # restic takes some 80 MB at once, into the packs that it is uploading
SECONDS = 5  # that the vault takes for them
FIRST_CASE, CASE = "BKP-2026-0001", "RST-2026-0001"


class Host:
    """One dataset of this machine and the slow vault."""

    def __init__(self, dataset: Json, server: RestVault, vault: Json) -> None:
        self.dataset, self.server, self.vault = dataset, server, vault
        self.common: Json = {"dataset": dataset, "vault": vault}
        made = run_module("vault_repository", {**self.common, "case": FIRST_CASE}, "vault_repository")
        assert made["sop_evidence"]["created"], made

    def watched(self, module: str, operation: str, case: str, **more: Any) -> tuple[Json, list[Json]]:
        """The module's result, and each state that it showed meanwhile."""
        self.server.pace = SIZE // SECONDS
        args = {**self.common, "case": case, **more}
        process = start_module(module, {**args, "grant": grant_for(operation, args)})
        states = list(self.states(process, case))
        self.server.pace = 0
        return finish(process), states

    def file(self, case: str) -> Path:
        return Path(self.dataset["state_dir"]) / f"progress-{self.dataset['id']}-{case}.json"

    def states(self, process: subprocess.Popen[bytes], case: str) -> Iterator[Json]:
        """Each state of the file, while the process runs; half a file is an error here."""
        last = ""
        while process.poll() is None:
            try:
                text = self.file(case).read_text(encoding="ascii")
                assert stat.S_IMODE(self.file(case).stat().st_mode) == 0o600
            except FileNotFoundError:
                text = last
            if text != last:
                last = text
                yield json.loads(text)
            time.sleep(0.02)

    def left(self) -> list[str]:
        return [path.name for path in Path(self.dataset["state_dir"]).iterdir() if path.name.startswith("progress-")]


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[RestVault, Json]]:
    with rest_vault(tmp_path / "rest") as (server, settings):
        yield server, {**settings, "restic": "restic"}


@pytest.fixture(params=["sqlite", "files", "postgresql"])
def host(request: pytest.FixtureRequest, tmp_path: Path, slow: tuple[RestVault, Json]) -> Iterator[Host]:
    if request.param == "postgresql":
        found = bin_dirs()
        if not found:
            pytest.skip("no PostgreSQL on this machine")
        with running(found[sorted(found)[0]], 51000 + os.getpid() % 4000) as cluster:
            yield Host(pg_dataset(cluster, tmp_path), *slow)
        return
    path = tmp_path / "antrean.db" if request.param == "sqlite" else tmp_path / "berkas"
    if request.param == "sqlite":
        make_noise(path)
    else:
        path.mkdir()
        for number in range(6):
            (path / f"{number}").write_bytes(noise(SIZE // 6, str(number).encode()))
    yield Host(dataset_for(path, tmp_path / "state", request.param), *slow)


def make_noise(path: Path) -> None:
    """A SQLite database of nothing that compresses."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE isi (id INTEGER PRIMARY KEY, data BLOB)")
        connection.executemany(
            "INSERT INTO isi (data) VALUES (?)", [(noise(SIZE // 12, b"%d" % n),) for n in range(12)]
        )
    connection.close()


def pg_dataset(cluster: Cluster, folder: Path) -> Json:
    """About the same as a PostgreSQL database."""
    cluster.sql("CREATE DATABASE simpeg")
    cluster.sql(
        "CREATE TABLE isi (id int, data text);"
        "INSERT INTO isi SELECT n, md5(random()::text) || md5(random()::text) FROM generate_series(1, 2000000) n;",
        "simpeg",
    )
    dataset = {"id": "simpeg", "engine": "postgresql", "database": "simpeg", "connection": cluster.connection}
    return {**dataset, "state_dir": str(folder / "state")}


def check(states: list[Json], what: str, total: int | None) -> None:
    """Bytes grow, once a second or less often, towards the total."""
    assert len(states) >= 3, states
    assert {state["what"] for state in states} == {what}
    assert len({state["started"] for state in states}) == 1
    done = [state["done"] for state in states]
    assert done == sorted(done)
    assert len(set(done)) >= 3, done
    assert len(states) <= (SECONDS + 30) * 2
    if total is not None:
        assert {state["total"] for state in states} == {total}
        assert not any(state["estimate"] for state in states)
        assert total * 0.3 < done[-1] <= total * 1.1


def test_bytes_grow_while_a_dump_passes(host: Host) -> None:
    backup, states = host.watched("backup_dataset", "backup", FIRST_CASE, period="2026-11", name="n")
    proof = backup["sop_evidence"]
    check(states, "backup", None)
    assert all(state["estimate"] for state in states)
    assert states[-1]["total"] >= SIZE // 2
    ids = {key: proof[key] for key in ("snapshot", "manifest_snapshot")}

    staged, states = host.watched("restore_dataset", "restore.staged", CASE, **ids, state="staged")
    assert staged["sop_evidence"]["state"] == "staged"
    check(states, "stage", proof["bytes"])
    if host.dataset["engine"] == "postgresql":
        return
    # a stream is read into scratch; of a tree its whole archive is read
    depth = "read" if host.dataset["engine"] == "files" else "restore"
    verified, states = host.watched("verify_dataset", "verify", FIRST_CASE, **ids, depth=depth)
    check(states, "verify", proof["bytes"])
    assert host.left() == []
    assert "progress" not in json.dumps([backup, verified, staged])


def test_rest_of_a_killed_run_is_taken_away(tmp_path: Path, slow: tuple[RestVault, Json]) -> None:
    make_noise(tmp_path / "antrean.db")
    host = Host(dataset_for(tmp_path / "antrean.db", tmp_path / "state"), *slow)
    host.server.pace = SIZE // SECONDS
    args = {**host.common, "case": FIRST_CASE, "period": "2026-11", "name": "n"}
    process = start_module("backup_dataset", {**args, "grant": grant_for("backup", args)})
    assert next(host.states(process, FIRST_CASE))["what"] == "backup"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert host.left() == [host.file(FIRST_CASE).name]
    host.server.pace = 0
    again, _states = host.watched("backup_dataset", "backup", FIRST_CASE, period="2026-11", name="n")
    assert not again.get("failed"), again
    assert host.left() == []


def test_progress_that_cannot_be_written_stops_nothing(tmp_path: Path, slow: tuple[RestVault, Json]) -> None:
    """Its name is taken by a folder: neither written nor removed, and the backup is as good as ever."""
    make_noise(tmp_path / "antrean.db")
    host = Host(dataset_for(tmp_path / "antrean.db", tmp_path / "state"), *slow)
    host.file(FIRST_CASE).joinpath("x").mkdir(parents=True)
    Path(f"{host.file(FIRST_CASE)}.part").symlink_to(tmp_path / "elsewhere")
    result = run_module(
        "backup_dataset", {**host.common, "case": FIRST_CASE, "period": "2026-11", "name": "n"}, "backup"
    )
    assert not result.get("failed"), result
    assert not (tmp_path / "elsewhere").exists(), "a link is not followed"
