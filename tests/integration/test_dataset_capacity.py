# SPDX-License-Identifier: Apache-2.0
"""Covers dataset_capacity: its numbers against the source's own, the run's refusals agree, and nothing is changed."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import pg_stage, space
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import load_engine
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.postgresql import PostgresqlEngine

from tests.integration.module_process import Json, run_module
from tests.integration.pg_cluster import Cluster
from tests.integration.pg_helpers import Bytes, databases, take
from tests.integration.sop_fixtures import dataset_for, make_database, noise, tmpfs

pytest_plugins = ["tests.integration.pg_fixtures"]

CASE = "RST-2026-0001"
SLACK = 64 << 20  # other tests write to the same disk meanwhile


def look(dataset: Json, check: bool = False, **more: object) -> Json:
    """The evidence of one look."""
    result = run_module("dataset_capacity", {"case": CASE, "dataset": dataset, **more}, check=check)
    assert "failed" not in result, result
    assert result["changed"] is False
    evidence: Json = result["sop_evidence"]
    return evidence


def refusal(**args: object) -> str:
    """What the module says when it cannot look."""
    result = run_module("dataset_capacity", {"case": CASE, **args})
    assert result.get("failed") is True, result
    assert "\n" not in result["msg"]
    return str(result["msg"])


def picture(*folders: Path) -> dict[str, tuple[int, int, int, int]]:
    """Everything below ``folders``: name → size, mode, times of content and of inode."""
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            stat = path.lstat()
            found[str(path)] = (stat.st_size, stat.st_mode, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def free_and_total(path: Path) -> tuple[int, int]:
    """What `df` says."""
    done = subprocess.run(
        ["df", "--block-size=1", "--output=avail,size", str(path)], capture_output=True, text=True, check=True
    )
    free, total = done.stdout.splitlines()[1].split()
    return int(free), int(total)


def assert_room(evidence: Json, word: str, path: Path) -> None:
    free, total = free_and_total(path)
    assert abs(evidence[f"{word}_free"] - free) < SLACK
    assert evidence[f"{word}_total"] == total
    assert evidence[f"{word}_device"] == path.stat().st_dev


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "data" / "berkas"
    (folder / "a" / "b").mkdir(parents=True)
    for at in range(20):
        (folder / "a" / "b" / f"{at}.bin").write_bytes(noise(10_000 + at))
    (folder / "link").symlink_to("a")
    yield folder


# -- files and SQLite --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
def test_a_folder(tree: Path, tmp_path: Path, check: bool) -> None:
    state = tmp_path / "not-made-yet" / "state"
    before = picture(tmp_path)
    evidence = look(dataset_for(tree, state, "files"), check)
    said = subprocess.run(["du", "-sb", str(tree)], capture_output=True, text=True, check=True).stdout
    folders = sum(path.stat().st_size for path in [tree, *tree.rglob("*")] if path.is_dir() and not path.is_symlink())
    links = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_symlink())
    assert evidence["bytes"] == int(said.split()[0]) - folders - links == sum(10_000 + at for at in range(20))
    assert evidence["stage_path"] == str(tree.parent)
    assert evidence["needs"] == evidence["bytes"] * 105 // 100
    assert evidence["reserve"] == evidence["scratch_reserve"] == space.RESERVE
    assert_room(evidence, "stage", tree.parent)
    assert evidence["scratch_path"] == str(state)
    assert_room(evidence, "scratch", tmp_path)
    assert (evidence["kind"], evidence["dataset"], evidence["exists"]) == ("capacity", "berkas", True)
    assert picture(tmp_path) == before
    assert not state.parent.exists()


def test_an_sqlite_file_and_the_size_of_a_known_dump(tmp_path: Path) -> None:
    path = tmp_path / "antrean.db"
    make_database(path, rows=3000)
    before = picture(tmp_path)
    evidence = look(dataset_for(path, tmp_path / "state"))
    assert evidence["bytes"] == path.stat().st_size > 100_000
    assert evidence["engine_version"] == sqlite3.sqlite_version
    assert (evidence["needs_from"], evidence["needs"]) == ("live", evidence["bytes"] + evidence["bytes"] // 20)
    known = look(dataset_for(path, tmp_path / "state"), dump_bytes=1_000_000)
    assert (known["needs_from"], known["needs"], known["bytes"]) == ("dump", 1_050_000, evidence["bytes"])
    assert picture(tmp_path) == before


@pytest.mark.parametrize("engine", ["sqlite", "files"])
def test_data_that_is_gone_still_has_a_place(tmp_path: Path, engine: str) -> None:
    gone = dataset_for(tmp_path / "gone", tmp_path, engine)
    evidence = look(gone, dump_bytes=5000)
    assert (evidence["exists"], evidence["bytes"], evidence["needs"]) == (False, 0, 5250)
    nowhere = dataset_for(tmp_path / "no" / "folder" / "x", tmp_path, engine)
    assert f"{tmp_path}/no/folder: there is no such folder" in refusal(dataset=nowhere, operation="restore")
    assert look(nowhere, operation="backup")["exists"] is False


def test_plan_and_run_draw_the_same_line(tree: Path, tmp_path: Path) -> None:
    """On a file system of known size: what the plan calls enough stages, one byte more is refused by the run too."""
    with tmpfs(tmp_path / "small", "80m") as folder:
        live = folder / "berkas"
        live.mkdir()
        dataset = dataset_for(live, tmp_path, "files")
        evidence = look(dataset)
        assert (evidence["stage_free"], evidence["stage_total"]) == free_and_total(folder)
        room = evidence["stage_free"] - evidence["reserve"]
        fits = room * 20 // 21
        for size, wanted in ((fits, True), (fits + 2, False)):
            found = look(dataset, dump_bytes=size)
            assert (found["stage_free"] >= found["needs"] + found["reserve"]) is wanted
            place = load_engine(dataset, {}).staging_place(size)
            if wanted:
                space.require_space(place, "the staged copy")
            else:
                with pytest.raises(SopError, match="free space there"):
                    space.require_space(place, "the staged copy")


# -- PostgreSQL --------------------------------------------------------------------------------------------------------


def pg_dataset(server: Cluster, database: str = "simpeg", **more: object) -> Json:
    return {"id": "simpeg", "engine": "postgresql", "database": database, "connection": server.connection, **more}


def lasting_files(cluster: Cluster) -> list[str]:
    """What the server keeps its databases in; its folder for queries that spill comes by itself and stays."""
    found = (cluster.path / "data" / "base").rglob("*")
    return sorted(str(path) for path in found if "pgsql_tmp" not in path.parts)


@pytest.mark.parametrize("check", [False, True], ids=["run", "check"])
def test_a_database(sample: Cluster, check: bool) -> None:
    names = databases(sample)
    files = lasting_files(sample)
    evidence = look(pg_dataset(sample), check)
    assert evidence["bytes"] == int(sample.sql("SELECT pg_database_size('simpeg')"))
    assert sample.sql("SHOW server_version").startswith(evidence["engine_version"])
    assert evidence["stage_path"] == str(sample.path / "data") == sample.sql("SHOW data_directory")
    assert_room(evidence, "stage", sample.path / "data")
    assert evidence["needs"] == int(evidence["bytes"] * pg_stage.SPACE_FACTOR)
    assert evidence["reserve"] == pg_stage.SPACE_RESERVE
    assert evidence["scratch_path"] == "/var/tmp"
    assert (evidence["sessions"], evidence["standbys"]) == (0, 0)
    assert databases(sample) == names
    assert lasting_files(sample) == files


def test_the_registers_own_reserve_and_scratch_folder_and_who_is_in(small: Cluster, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [f"{small.bin_dir}/psql", "-X", "-q", "-h", str(small.path), "-p", str(small.port), "-U", "dba", "-d", "simpeg"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=small.os_user, cwd="/", env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        holder.stdin.write(b"\\echo here\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"here\n"
        evidence = look(
            pg_dataset(small, reserve_bytes=1 << 20, scratch_dir=str(tmp_path / "later")), operation="backup"
        )
    finally:
        holder.stdin.close()
        holder.wait(10)
    assert evidence["sessions"] == 1
    assert evidence["reserve"] == evidence["scratch_reserve"] == 1 << 20
    assert evidence["scratch_path"] == str(tmp_path / "later")
    assert_room(evidence, "scratch", tmp_path)
    assert not (tmp_path / "later").exists()


def test_a_lost_database_is_planned_from_its_dump(small: Cluster) -> None:
    evidence = look(pg_dataset(small, "hilang"), dump_bytes=10_000_000)
    assert (evidence["exists"], evidence["bytes"], evidence["needs"]) == (False, 0, 22_000_000)
    assert "sessions" not in evidence


def test_a_plan_that_does_not_fit_is_refused_by_the_run_too(small: Cluster) -> None:
    evidence = look(pg_dataset(small))
    reserve = evidence["stage_free"] + evidence["needs"] + SLACK
    engine = PostgresqlEngine(pg_dataset(small, reserve_bytes=reserve), {})
    data, manifest = take(engine)
    found = look(pg_dataset(small, reserve_bytes=reserve), dump_bytes=len(data.data))
    assert found["stage_free"] < found["needs"] + found["reserve"]
    with pytest.raises(SopError, match="MiB free, the restore needs"):
        engine.stage(CASE, Bytes(data.data), manifest)


def test_a_server_elsewhere_is_not_looked_at(small: Cluster) -> None:
    place = PostgresqlEngine(
        {**pg_dataset(small), "connection": {**small.connection, "host": "192.0.2.1"}}, {}
    ).staging_place(1000)
    assert place.path is None


def test_a_server_that_does_not_answer(small: Cluster, tmp_path: Path) -> None:
    silent = pg_dataset(small, connection={**small.connection, "socket": str(tmp_path)})
    said = refusal(dataset=silent)
    assert said.startswith("simpeg: ")
    assert "psql" in said


# -- the vault, and what is no question --------------------------------------------------------------------------------


def test_the_vaults_room(tmp_path: Path) -> None:
    before = picture(tmp_path)
    result = run_module("dataset_capacity", {"case": CASE, "vault_path": str(tmp_path)})
    evidence = result["sop_evidence"]
    free, total = free_and_total(tmp_path)
    assert {key: evidence[key] for key in ("kind", "path", "total")} == {
        "kind": "vault-capacity",
        "path": str(tmp_path),
        "total": total,
    }
    assert abs(evidence["free"] - free) < SLACK
    assert result["changed"] is False
    assert picture(tmp_path) == before


def test_what_is_no_question_is_refused(tmp_path: Path) -> None:
    dataset = dataset_for(tmp_path / "x", tmp_path)
    assert "either dataset or vault_path" in refusal()
    assert "either dataset or vault_path" in refusal(dataset=dataset, vault_path=str(tmp_path))
    assert "no such folder" in refusal(vault_path=str(tmp_path / "gone"))
    assert "not a plain absolute path" in refusal(vault_path=f"{tmp_path}/../x")
    assert "is no size" in refusal(dataset=dataset, dump_bytes=-1)
    assert "engine 'oracle' is unknown" in refusal(dataset={"id": "simpeg", "engine": "oracle"})
