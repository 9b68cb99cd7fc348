"""restore_dataset with state placed, as a real process: another name, compared, never over anything, killed anywhere."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.module_process import finish, grant_for, start_module
from tests.integration.sop_fixtures import noise, tmpfs
from tests.integration.test_restore_dataset import Restore, failed

pytestmark = pytest.mark.part(6)

Json = dict[str, Any]
ENGINES = pytest.mark.parametrize("engine", ["sqlite", "files"])


def placed(restore: Restore, to: Path | str, check: bool = False, **more: Any) -> Json:
    return restore.to("placed", check, to=str(to), **more)


def content(restore: Restore, path: Path) -> Json:
    """Content of a copy, by the module that describes live data."""
    live = restore.args["dataset"]
    restore.args["dataset"] = {**live, "path": str(path)}
    try:
        return restore.content()
    finally:
        restore.args["dataset"] = live


def owner(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid, found.st_mode & 0o7777


@ENGINES
def test_another_name(tmp_path: Path, engine: str) -> None:
    restore = Restore(tmp_path, engine)
    bad, names, live, copy = restore.content(), restore.names(), owner(restore.path), tmp_path / "salinan"
    assert placed(restore, copy, check=True)["changed"]
    assert restore.names() == names
    first = placed(restore, copy)
    assert first["changed"]
    assert first["diff"] == {"before": "", "after": f"{copy}\n"}
    proof = first["sop_evidence"]
    assert (proof["kind"], proof["state"], proof["to"], proof["tables"]) == ("place", "placed", str(copy), restore.good)
    assert content(restore, copy) == restore.good
    assert owner(copy) == live
    assert restore.content() == bad
    for check in (False, True):
        again = placed(restore, copy, check)
        assert not again["changed"]
        assert again["sop_evidence"]["tables"] == restore.good
    assert restore.names() == names | {"salinan"}


@ENGINES
def test_live_data_need_not_be_there(tmp_path: Path, engine: str) -> None:
    restore, copy = Restore(tmp_path, engine), tmp_path / "salinan"
    shutil.rmtree(restore.path) if engine == "files" else restore.path.unlink()
    assert placed(restore, copy)["changed"]
    assert content(restore, copy) == restore.good
    assert not restore.path.exists()


@ENGINES
@pytest.mark.parametrize("kind", ["file", "folder", "link", "another case's"])
def test_what_is_there_is_never_replaced(tmp_path: Path, engine: str, kind: str) -> None:
    restore, copy = Restore(tmp_path, engine), tmp_path / "salinan"
    if kind == "file":
        copy.write_text("milik orang lain")
    elif kind == "folder":
        copy.mkdir()
    elif kind == "link":
        copy.symlink_to(tmp_path / "tidak-ada")
    else:
        placed(restore, copy, case="RST-2026-0002")
    before = copy.lstat()
    failed(placed(restore, copy), "exists already")
    assert copy.lstat() == before
    assert not [path for path in tmp_path.iterdir() if "placing" in path.name]


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("", "needs a target"),
        ("salinan", "is not a plain absolute path"),
        ("{}/../salinan", "is not a plain absolute path"),
        ("{}/tidak/ada", "there is no such folder"),
        ("{}/tautan/salinan", "goes through a link"),
    ],
)
def test_a_place_that_is_none(tmp_path: Path, to: str, words: str) -> None:
    restore = Restore(tmp_path, "sqlite")
    (tmp_path / "dalam").mkdir()
    (tmp_path / "tautan").symlink_to(tmp_path / "dalam")
    names = restore.names()
    failed(placed(restore, to.format(tmp_path)), words)
    assert restore.names() == names
    assert not list((tmp_path / "dalam").iterdir())


@ENGINES
def test_a_copy_that_differs_is_dropped(tmp_path: Path, engine: str) -> None:
    restore, copy = Restore(tmp_path, engine), tmp_path / "salinan"
    names = restore.names()
    first = next(iter(restore.good))
    wrong = {**restore.good, first: {**restore.good[first], "checksum": "0" * 32}}
    result = failed(placed(restore, copy, expected={"tables": wrong}), f"{first}: same number of rows, other content")
    assert "it was dropped" in result["msg"]
    assert result["sop_evidence"]["mismatches"]
    assert restore.names() == names
    assert placed(restore, copy)["changed"]


def test_a_copy_of_another_backup_is_not_taken_for_this_one(tmp_path: Path) -> None:
    restore, copy = Restore(tmp_path, "sqlite"), tmp_path / "salinan"
    placed(restore, copy)
    failed(placed(restore, copy, snapshot="1" * 64), "does not know it as the planned backup")
    for journal in (tmp_path / "state").glob("placed-*"):
        journal.unlink()
    failed(placed(restore, copy), "does not know it as the planned backup")


def test_no_room(tmp_path: Path) -> None:
    restore = Restore(tmp_path, "sqlite")
    with tmpfs(tmp_path / "sempit", "1M") as small:
        failed(placed(restore, small / "salinan"), "MiB free, the copy needs")
        assert not list(small.iterdir())


def test_a_copy_on_a_read_only_file_system_is_told(tmp_path: Path) -> None:
    restore = Restore(tmp_path, "sqlite")
    with tmpfs(tmp_path / "baca", "100M") as place:
        assert os.system(f"mount -o remount,ro {place}") == 0  # noqa: S605  # a path of pytest's
        result = placed(restore, place / "salinan")
        assert result.get("failed"), result
        assert "\n" not in result["msg"]


@ENGINES
def test_killed_anywhere_the_next_run_has_the_whole_copy(tmp_path: Path, engine: str) -> None:
    """SIGKILL at moments all over the run: under the name is nothing, or the whole copy; the next call ends it."""
    restore, copy = Restore(tmp_path, engine, rows=20_000), tmp_path / "salinan"
    if engine == "files":
        (restore.path / "besar").write_bytes(noise(1 << 20))
    names, args = restore.names(), {**restore.args, "state": "placed", "to": str(copy)}
    args["grant"] = grant_for("restore.placed", args)
    begin = time.monotonic()
    finish(start_module("restore_dataset", args))
    whole = time.monotonic() - begin
    for part in (2, 5, 7, 9):
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink(missing_ok=True)
        process = start_module("restore_dataset", args)
        time.sleep(whole * part / 10)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        if copy.exists():
            assert content(restore, copy) == restore.good
        assert not placed(restore, copy).get("failed")
        assert content(restore, copy) == restore.good
        assert restore.names() == names | {"salinan"}
