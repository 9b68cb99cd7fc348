"""Files and SQLite: killed -9 before every single line of an exchange, the data is wholly old or wholly new."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import exchange, openers, ownership, path_engine, removal
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import files, sqlite
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.files import FilesEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.sqlite import SqliteEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import Exchange
from ansible_collections.diskominfo.sop.plugins.module_utils.path_engine import PathEngine

from tests.integration.sop_fixtures import dataset_for

pytestmark = pytest.mark.part(2)

CASE = "RST-2026-0001"
TRACED = {module.__file__ for module in (exchange, ownership, path_engine, removal, files, sqlite)}
MODE = 0o2750


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder on a file system that has nothing to wait for: these tests sync to disk thousands of times."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="sop-test-") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for users of the data is tested elsewhere; here it would run a thousand times."""
    monkeypatch.setattr(openers, "_others", lambda: iter(()))


def killed_before_line(number: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a child that is killed before its ``number``-th line; False when it came to its end."""
    child = os.fork()
    if child == 0:
        left = number

        def trace(frame: FrameType, event: str, _arg: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in TRACED:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        code = 3
        try:
            sys.settrace(trace)
            work()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


class Folder:
    """A folder ``live`` with old data, and what is staged, kept or reverted beside it."""

    old: Any = (("a", "lama"), ("b/c", "lama"))
    new: Any = (("a", "baru"), ("b/d", "baru"))

    def __init__(self, place: Path) -> None:
        self.place = place
        self.live = place / "live"
        self.names = Exchange(str(self.live), CASE)

    def engine(self) -> PathEngine:
        return FilesEngine(dataset_for(self.live, self.place, "files"), {})

    def write(self, path: str, content: Any) -> None:
        for name, text in content:
            file = Path(path, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def read(self, path: str | Path) -> Any:
        found = sorted(each for each in Path(path).rglob("*") if each.is_file())
        return tuple((str(each.relative_to(path)), each.read_text()) for each in found)

    def reset(self, state: str) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        self.write(str(self.live), self.old)
        self.live.chmod(MODE)
        self.write(self.names.shadow, self.new)
        if state == "swapped":
            self.engine().swap(CASE)

    def left(self) -> list[str]:
        return sorted(each.name for each in self.place.iterdir())


class Broken(Folder):
    """The same with two database files that cannot be read, so that their logs belong to them."""

    old: Any = (b"rusak" * 100, b"log")
    new: Any = (b"baru dan rusak" * 100, b"log baru")

    def engine(self) -> PathEngine:
        return SqliteEngine(dataset_for(self.live, self.place), {})

    def write(self, path: str, content: Any) -> None:
        Path(path).write_bytes(content[0])
        if content[1] is not None:
            Path(path + "-wal").write_bytes(content[1])

    def read(self, path: str | Path) -> Any:
        log = Path(f"{path}-wal")
        return Path(path).read_bytes(), log.read_bytes() if log.exists() else None


class Readable(Broken):
    """Two good databases, with a log that has to be emptied."""

    def write(self, path: str, content: Any) -> None:
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (?)", (content,))
        connection.commit()
        connection.close()

    old, new = "lama", "baru"

    def read(self, path: str | Path) -> Any:
        connection = sqlite3.connect(path)
        try:
            return connection.execute("SELECT a FROM t").fetchone()[0]
        finally:
            connection.close()


KINDS = [Folder, Broken, Readable]


def every_line(kind: type[Folder], place: Path, state: str, work: Callable[[PathEngine], object]) -> Iterator[Folder]:
    """The folder after each possible kill, until one comes too late."""
    number = 0
    while True:
        number += 1
        case = kind(place / "srv")
        case.reset(state)
        engine = case.engine()
        killed = killed_before_line(number, lambda engine=engine: work(engine))  # type: ignore[misc]  # bound at once
        yield case
        if not killed:
            break
    assert number > 20


@pytest.mark.parametrize("kind", KINDS)
def test_swap(memory: Path, kind: type[Folder]) -> None:
    outcomes = set()
    for case in every_line(kind, memory, "staged", lambda engine: engine.swap(CASE)):
        told = case.engine().state(CASE)
        case.engine().settle(CASE)
        assert case.engine().state(CASE) == told
        outcomes.add(told)
        assert case.read(case.live) == (case.new if told == "swapped" else case.old)
        assert case.live.stat().st_mode & 0o7777 == MODE
        case.engine().swap(CASE)
        assert (case.read(case.live), case.read(case.names.before)) == (case.new, case.old)
        assert not [name for name in case.left() if name.startswith(".") or "aside" in name or "shadow" in name]
    assert outcomes == {"staged", "swapped"}


@pytest.mark.parametrize("kind", KINDS)
def test_revert(memory: Path, kind: type[Folder]) -> None:
    outcomes = set()
    for case in every_line(kind, memory, "swapped", lambda engine: engine.revert(CASE)):
        told = case.engine().state(CASE)
        case.engine().settle(CASE)
        assert case.engine().state(CASE) == told
        outcomes.add(told)
        assert case.read(case.live) == (case.new if told == "swapped" else case.old)
        assert case.live.stat().st_mode & 0o7777 == MODE
        case.engine().revert(CASE)
        assert (case.read(case.live), case.read(case.names.shadow)) == (case.old, case.new)
        assert not [name for name in case.left() if name.startswith(".") or "aside" in name or "before" in name]
        case.engine().swap(CASE)
        assert (case.read(case.live), case.read(case.names.before)) == (case.new, case.old)
    assert outcomes == {"staged", "swapped"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_half_removed_has_no_name_that_counts(memory: Path, kind: type[Folder]) -> None:
    for case in every_line(kind, memory, "staged", lambda engine: engine.discard(CASE)):
        if case.engine().state(CASE) == "staged":
            assert case.read(case.names.shadow) == case.new
        case.engine().discard(CASE)
        assert {name.split("-")[0] for name in case.left()} == {"live"}
        assert case.read(case.live) == case.old
    for case in every_line(kind, memory, "swapped", lambda engine: engine.drop_kept(CASE)):
        if case.engine().state(CASE) == "swapped" and kind is Folder:
            assert case.read(case.names.before) == case.old
        if len(case.left()) > 1 and kind is Readable:  # an empty folder takes no room in memory
            assert case.engine().kept_bytes(CASE) > 0
        case.engine().drop_kept(CASE)
        assert {name.split("-")[0] for name in case.left()} == {"live"}
        assert case.engine().kept_bytes(CASE) == 0
        assert case.read(case.live) == case.new


@pytest.mark.parametrize("kind", KINDS)
def test_emptying_is_all_or_nothing(memory: Path, kind: type[Folder]) -> None:
    def prepare(engine: PathEngine) -> None:
        engine.empty(CASE)

    seen = set()
    for case in every_line(kind, memory, "staged", prepare):
        empty = case.engine()._is_empty(str(case.live))
        seen.add(empty)
        if not empty and kind in {Folder, Readable}:
            assert case.read(case.live) == case.old
        assert case.live.stat().st_mode & 0o7777 == MODE
        case.engine().empty(CASE)
        case.engine().empty(CASE)
        assert case.engine()._is_empty(str(case.live))
        assert case.live.stat().st_mode & 0o7777 == MODE
        case.engine().discard(CASE)
        assert case.left() == ["live"]
    assert seen == {True, False}


class Data(DumpSource):
    """A database in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self) -> IO[bytes]:
        return io.BytesIO(self.data)


def test_a_copy_beside_is_whole_or_not_there(tmp_path: Path) -> None:
    good = Readable(tmp_path / "good")
    good.reset("staged")
    manifest: Json = {"content": good.engine().manifest(checksums=True)}
    data = Data(good.live.read_bytes())
    target = tmp_path / "srv" / "salinan.db"
    seen = set()
    for case in every_line(
        Readable, tmp_path, "staged", lambda engine: engine.place(str(target), CASE, data, manifest)
    ):
        engine = case.engine()
        there = engine.placed(str(target), CASE)
        seen.add(there)
        assert target.exists() is there
        if not there:
            engine.place(str(target), CASE, data, manifest)
        assert engine.placed(str(target), CASE)
        assert case.read(target) == "lama"
        assert not [name for name in case.left() if "placing" in name]
    assert seen == {True, False}
