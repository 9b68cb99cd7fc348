"""restore_dataset, quiesce, dataset_manifest and vault_repository as real processes."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.module_process import finish, grant_for, run_module, start_module
from tests.integration.sop_fixtures import dataset_for, make_database, vault_at

pytestmark = pytest.mark.part(2)

Json = dict[str, Any]
CASE = "RST-2026-0001"


class Restore:
    """A backup of one dataset that was verified, and the live data damaged afterwards."""

    def __init__(self, folder: Path, engine: str, rows: int = 1000) -> None:
        self.path = folder / ("antrean.db" if engine == "sqlite" else "berkas")
        if engine == "sqlite":
            make_database(self.path, rows=rows)
        else:
            self.path.mkdir()
            (self.path / "a").write_text("isi")
        self.engine = engine
        dataset = dataset_for(self.path, folder / "state", engine)
        common: Json = {"case": "BKP-2026-0001", "dataset": dataset, "vault": vault_at(folder)}
        made = run_module("vault_repository", common, "vault_repository")
        assert made["sop_evidence"]["created"] is True
        backup = run_module("backup_dataset", {**common, "period": "2026-11", "name": "n"}, "backup")["sop_evidence"]
        ids = {key: backup[key] for key in ("snapshot", "manifest_snapshot")}
        verified = run_module("verify_dataset", {**common, **ids}, "verify")["sop_evidence"]
        self.args: Json = {**common, **ids, "case": CASE, "expected": {"tables": verified["tables"]}}
        self.good = self.content()
        self.damage()
        assert self.content() != self.good

    def damage(self) -> None:
        if self.engine == "sqlite":
            connection = sqlite3.connect(self.path)
            with connection:
                connection.execute("DELETE FROM pegawai WHERE id < 100")
            connection.close()
        else:
            (self.path / "a").write_text("rusak")

    def content(self) -> Json:
        result = run_module("dataset_manifest", {"dataset": self.dataset, "checksums": True})
        tables: Json = result["manifest"]["tables"]
        return tables

    @property
    def dataset(self) -> Json:
        dataset: Json = self.args["dataset"]
        return dataset

    def to(self, state: str, check: bool = False, **more: Any) -> Json:
        args = {**self.args, **more, "state": state}
        return run_module("restore_dataset", args, None if check else f"restore.{state}", check)

    def names(self) -> set[str]:
        return {each.name for each in self.path.parent.iterdir()} - {"state", "vault"}


def failed(result: Json, words: str) -> Json:
    assert result.get("failed"), result
    assert words in result["msg"]
    assert "\n" not in result["msg"]
    assert "CANARY" not in str(result)
    return result


@pytest.mark.parametrize("engine", ["sqlite", "files"])
def test_the_whole_way(tmp_path: Path, engine: str) -> None:
    restore = Restore(tmp_path, engine)
    bad, names = restore.content(), restore.names()
    for state in ("staged", "swapped"):
        assert restore.to(state, check=True)["changed"]
    assert restore.names() == names
    failed(restore.to("swapped"), "nothing is staged")
    failed(restore.to("finalised"), "is not live (absent)")
    first = restore.to("staged")
    assert first["changed"]
    assert first["sop_evidence"]["tables"] == restore.good
    assert first["sop_evidence"]["data_of"].endswith("Z")
    assert not restore.to("staged")["changed"]
    assert restore.content() == bad
    quiesce = {"case": CASE, "dataset": restore.dataset, "state": "quiesced", "timeout": 2}
    assert run_module("quiesce", quiesce, "quiesce.quiesced")["sop_evidence"]["proof"]["seen"]
    swapped = restore.to("swapped")
    assert swapped["changed"]
    assert swapped["diff"] == {"before": "state: staged\n", "after": "state: swapped\n"}
    assert restore.content() == restore.good
    assert Path(swapped["sop_evidence"]["before"]).exists()
    for state in ("swapped", "staged", "finalised"):
        assert not restore.to(state)["changed"]
        assert not restore.to(state, check=True)["changed"]
    assert Path(swapped["sop_evidence"]["before"]).exists()
    released = {**quiesce, "state": "released"}
    assert not run_module("quiesce", released, "quiesce.released")["changed"]
    restore.damage()
    assert restore.to("reverted", check=True)["changed"]
    assert restore.to("reverted")["changed"]
    assert not restore.to("reverted")["changed"]
    assert restore.content() == bad
    again = restore.to("staged")
    assert (again["changed"], again["sop_evidence"]["state"]) == (False, "reverted")
    failed(restore.to("swapped"), "was reverted")


def test_copy_that_differs_from_the_verified_one_is_dropped(tmp_path: Path) -> None:
    restore = Restore(tmp_path, "sqlite")
    names = restore.names()
    tables = {name: {**table} for name, table in restore.good.items()}
    tables["pegawai"]["checksum"] = "0" * 32
    result = failed(restore.to("staged", expected={"tables": tables}), "pegawai: same number of rows, other content")
    assert result["sop_evidence"]["mismatches"]
    tables = {**restore.good, "hilang": {"rows": 1, "checksum": None}}
    failed(restore.to("staged", expected={"tables": tables}), "hilang: missing")
    assert restore.names() == names
    failed(restore.to("staged", snapshot="1" * 64), "its dump_snapshot is not")
    failed(restore.to("staged", snapshot="--help"), "is not a snapshot id")


def test_data_in_use_is_not_exchanged(tmp_path: Path) -> None:
    restore = Restore(tmp_path, "sqlite")
    restore.to("staged")
    code = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('select * from pegawai'); print(1, flush=True); input()"
    user = subprocess.Popen(
        [sys.executable, "-c", code, str(restore.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert user.stdout is not None
    user.stdout.readline()
    quiesce = {"case": CASE, "dataset": restore.dataset, "state": "quiesced", "timeout": 0.5}
    failed(run_module("quiesce", quiesce, "quiesce.quiesced"), "open in python")
    failed(restore.to("swapped"), "is in use")
    user.kill()
    user.communicate()
    assert restore.to("swapped")["changed"]


def test_copy_of_a_killed_run_is_not_trusted(tmp_path: Path) -> None:
    restore = Restore(tmp_path, "sqlite")
    shadow = Path(f"{restore.path}__shadow_rst20260001")
    shadow.write_bytes(b"half")
    failed(restore.to("swapped"), "not a compared copy")
    assert restore.to("staged")["changed"]
    assert restore.to("swapped")["changed"]
    assert restore.content() == restore.good


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_while_staging(tmp_path: Path, number: signal.Signals) -> None:
    restore = Restore(tmp_path, "sqlite", rows=60_000)
    bad, names = restore.content(), restore.names()
    args = {**restore.args, "state": "staged"}
    args["grant"] = grant_for("restore.staged", args)
    for moment in (0.2, 0.9, 1.5, 1.8, 2.1, 2.4):
        process = start_module("restore_dataset", args)
        time.sleep(moment)
        process.send_signal(number)
        if number == signal.SIGTERM:
            if process.wait() == -signal.SIGTERM:  # ended before Python had read the module: nothing had begun
                assert restore.names() == names
                continue
            result = finish(process)
            if result.get("failed"):
                failed(result, "ended by SIGTERM")
                assert restore.names() == names
            else:
                break
        else:
            process.communicate()
        assert restore.content() == bad
    restore.to("staged")
    assert restore.to("swapped")["changed"]
    assert restore.content() == restore.good


@pytest.mark.parametrize("state", ["staged", "swapped", "finalised", "reverted", "cleaned"])
def test_another_case_of_the_same_number(tmp_path: Path, state: str) -> None:
    """What a run has left that the ledger does not name is another case's, of a site that was put back: nothing passes for
    done, goes back or is dropped. A later run of the same case, whose ledger names the first, goes on."""

    restore = Restore(tmp_path, "files")
    assert granted(restore, "staged", "sha256:1")["changed"]
    before = restore.names()
    failed(granted(restore, state, "sha256:2"), "in a run that the site's ledger does not name")
    assert restore.names() == before
    assert not granted(restore, "staged", "sha256:1", "sha256:2")["changed"]


def test_another_case_whose_data_is_gone_is_in_nobodys_way(tmp_path: Path) -> None:
    """Its journal alone is no data that could pass for this case's."""
    restore = Restore(tmp_path, "files")
    before = restore.names()
    assert granted(restore, "staged", "sha256:1")["changed"]
    for name in restore.names() - before:
        shutil.rmtree(restore.path.parent / name)
    assert granted(restore, "staged", "sha256:2")["changed"]


def granted(restore: Restore, state: str, *runs: str) -> Json:
    """A step of the last of ``runs``, which are those that the site's ledger names."""
    grant = grant_for(f"restore.{state}", {**restore.args, "case": CASE})
    return run_module(
        "restore_dataset", {**restore.args, "state": state, "grant": {**grant, "plan": runs[-1], "runs": list(runs)}}
    )
