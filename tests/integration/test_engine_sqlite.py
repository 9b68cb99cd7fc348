"""The SQLite engine: consistent dumps beside a busy writer, and an exchange that no crash leaves half done."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import space
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import sqlite
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.sqlite import SqliteEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import Exchange

from tests.integration.sop_fixtures import dataset_for, make_database

CASE = "RST-2026-0001"
INSERT = "INSERT INTO t VALUES "


class Bytes(DumpSource):
    """A dump in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self) -> IO[bytes]:
        return io.BytesIO(self.data)


def engine_for(path: Path, **more: Any) -> SqliteEngine:
    return SqliteEngine(dataset_for(path, path.parent, **more), {})


def take(engine: SqliteEngine, size: int = 65536, pause: float = 0) -> tuple[Bytes, Json]:
    """A finished dump and its manifest."""
    dump = engine.dump()
    parts = []
    while part := dump.read(size):
        parts.append(part)
        time.sleep(pause)
    return Bytes(b"".join(parts)), {"content": dump.finish()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database whose name needs quoting everywhere."""
    folder = tmp_path / "data é 100%?#"
    folder.mkdir()
    found = folder / "app db.sqlite"
    make_database(found)
    return found


def rows(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM pegawai").fetchone()[0])
    finally:
        connection.close()


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


@pytest.mark.parametrize("wal", [True, False])
def test_dump_beside_a_busy_writer_is_one_moment(tmp_path: Path, wal: bool) -> None:
    path = tmp_path / "app.db"
    make_database(path, rows=20_000, wal=wal)
    setup = sqlite3.connect(path)
    setup.executescript("CREATE TABLE kiri (n INTEGER, isi BLOB); CREATE TABLE kanan (n INTEGER, isi BLOB);")
    setup.close()
    stop = threading.Event()
    slowest, commits = 0.0, 0

    def write() -> None:
        nonlocal slowest, commits
        connection = sqlite3.connect(path, timeout=60)
        connection.execute("PRAGMA wal_autocheckpoint = 5")
        while not stop.is_set():
            start = time.monotonic()
            with connection:
                connection.execute("INSERT INTO kiri VALUES (?, randomblob(3000))", (commits,))
                connection.execute("DELETE FROM pegawai WHERE id = ?", (commits,))
                connection.execute("INSERT INTO kanan VALUES (?, randomblob(3000))", (commits,))
            slowest = max(slowest, time.monotonic() - start)
            commits += 1
            time.sleep(0.002)
        connection.close()

    # as a process of its own: two users of one file in one process share its locks
    child = os.fork()
    if child == 0:
        threading.Timer(3.0, stop.set).start()
        try:
            write()
            os._exit(0 if slowest < 0.7 else 3)
        finally:
            os._exit(4)
    time.sleep(0.3)
    dump, manifest = take(engine_for(path), pause=0.05)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    copy = tmp_path / "copy.db"
    copy.write_bytes(dump.data)
    found = sqlite3.connect(copy)
    assert found.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    left = found.execute("SELECT count(*), max(n) FROM kiri").fetchone()
    right = found.execute("SELECT count(*), max(n) FROM kanan").fetchone()
    assert left == right
    assert left[0] > 0
    assert manifest["content"]["tables"]["kiri"]["rows"] == left[0]
    found.close()
    live = sqlite3.connect(path)
    assert live.execute("SELECT count(*) FROM kiri").fetchone()[0] > left[0]
    assert live.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    if wal:
        assert code == 0, "the writer was held up by the dump"


def test_scratch_gives_the_same_content_and_leaves_nothing(path: Path) -> None:
    engine = engine_for(path)
    before = names(path)
    dump, manifest = take(engine)
    with engine.scratch(dump, manifest) as content:
        assert content["tables"] == engine.manifest(checksums=True)["tables"]
        assert content["tables"]["tabel aneh; --"]["rows"] == 3
    assert names(path) == before
    with pytest.raises(ZeroDivisionError), engine.scratch(dump, manifest):
        raise ZeroDivisionError
    assert names(path) == before


def test_checksum_does_not_depend_on_order_but_on_types(tmp_path: Path) -> None:
    sums: list[str] = []
    for values in ("(1, 'a'), (2, 'b')", "(2, 'b'), (1, 'a')", "('1', 'a'), (2, 'b')", "(1, x'61'), (2, 'b')"):
        path = tmp_path / f"{len(sums)}.db"
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE t (a, b)")
        connection.executescript(INSERT + values)
        connection.close()
        sums.append(engine_for(path).manifest(checksums=True)["tables"]["t"]["checksum"])
    assert sums[0] == sums[1]
    assert len(set(sums)) == 3


def test_log_that_stays_in_use_is_said(path: Path) -> None:
    reader = sqlite3.connect(path)
    writer = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM pegawai").fetchone()
    with writer:
        writer.execute("DELETE FROM pegawai WHERE id = 1")
    with pytest.raises(SopError, match=r"stayed busy for 0 s.*long reading transaction"):
        engine_for(path, busy_wait=0.3).dump()
    reader.close()
    writer.close()
    take(engine_for(path))


def test_write_past_the_locks_is_found(path: Path) -> None:
    dump = engine_for(path).dump()
    while dump.read(1 << 20):
        pass
    os.utime(path)
    with pytest.raises(SopError, match="written past SQLite's locks"):
        dump.finish()


def test_unusable_live_data_is_said(tmp_path: Path) -> None:
    missing = tmp_path / "none.db"
    for call in (engine_for(missing).dump, lambda: engine_for(missing).manifest(False)):
        with pytest.raises(SopError, match="no such database file"):
            call()
    assert not missing.exists()
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 1000)
    with pytest.raises(SopError, match="cannot be read as an SQLite database"):
        engine_for(broken).dump()
    link = tmp_path / "link.db"
    link.symlink_to(broken)
    with pytest.raises(SopError, match="is a link"):
        engine_for(link)
    with pytest.raises(SopError, match="not a plain absolute path"):
        engine_for(Path("relative/../x.db"))


@pytest.mark.parametrize("spoil", ["cut", "page", "schema", "breaks"])
def test_bad_dump_is_refused_and_leaves_nothing(path: Path, spoil: str) -> None:
    engine = engine_for(path)
    dump, manifest = take(engine)
    before = names(path)
    if spoil == "cut":
        dump.data = dump.data[: len(dump.data) // 2]
    elif spoil == "page":
        dump.data = dump.data[:8192] + b"\xff" * 4096 + dump.data[12288:]
    elif spoil == "schema":
        manifest["content"]["globals"]["schema"] = "0" * 32
    else:
        dump.open = lambda: (_ for _ in ()).throw(SopError("vault is gone"))  # type: ignore[method-assign]
    with pytest.raises(SopError):
        engine.stage(CASE, dump, manifest)
    assert names(path) == before
    assert engine.state(CASE) == "absent"


def test_no_space_is_said_before_anything_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(path)
    dump, manifest = take(engine)
    monkeypatch.setattr(space, "RESERVE", 1 << 60)
    with pytest.raises(SopError, match="MiB free, the staged copy needs"):
        engine.stage(CASE, dump, manifest)
    with pytest.raises(SopError, match="MiB free, proof by restoring needs"), engine.scratch(dump, manifest):
        pass


def test_swap_and_revert(path: Path) -> None:
    engine = engine_for(path)
    dump, manifest = take(engine)
    if os.geteuid() == 0:
        os.chown(path, 33, 44)
    path.chmod(0o640)
    os.setxattr(path, "user.catatan", b"x")
    live = sqlite3.connect(path)
    with live:
        live.execute("DELETE FROM pegawai WHERE id <= 400")
    content = engine.stage(CASE, dump, manifest)
    assert content["tables"]["pegawai"]["rows"] == 1000
    shadow = Path(engine.shadow_name(CASE))
    assert stat.S_IMODE(shadow.stat().st_mode) == 0o600
    assert rows(path) == 600
    live.close()
    assert engine.quiesce(1)["log"] == "empty"
    assert engine.is_quiesced()
    engine.swap(CASE)
    engine.swap(CASE)
    assert (engine.state(CASE), rows(path)) == ("swapped", 1000)
    found = path.stat()
    assert (stat.S_IMODE(found.st_mode), os.getxattr(path, "user.catatan")) == (0o640, b"x")
    if os.geteuid() == 0:
        assert (found.st_uid, found.st_gid) == (33, 44)
    kept = Path(engine.before_name(CASE))
    assert kept.name == "app db.sqlite__before_rst20260001"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o400
    assert not shadow.exists()
    engine.discard(CASE)
    assert kept.exists()
    with sqlite3.connect(path) as after:
        after.execute("DELETE FROM pegawai WHERE id <= 10")
    after.close()
    engine.revert(CASE)
    engine.revert(CASE)
    assert (engine.state(CASE), rows(path)) == ("staged", 600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert rows(shadow) == 990
    assert not kept.exists()


def test_open_file_keeps_the_swap_away(path: Path) -> None:
    engine = engine_for(path)
    engine.stage(CASE, *take(engine))
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; f = open(sys.argv[1]); print('x', flush=True); sys.stdin.read()",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(SopError, match=r"not quiet after 0 s \(open in python.*pid"):
        engine.quiesce(0)
    with pytest.raises(SopError, match="is not quiet"):
        engine.swap(CASE)
    assert not engine.is_quiesced()
    assert engine.state(CASE) == "staged"
    holder.communicate()
    engine.swap(CASE)


def test_file_opened_at_the_last_moment_takes_the_exchange_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(path)
    engine.stage(CASE, *take(engine))
    inode = path.stat().st_ino
    answers = iter([[], ["late (pid 1)"]])
    monkeypatch.setattr(sqlite, "openers", lambda _paths: next(answers))
    with pytest.raises(SopError, match=r"opened meanwhile by late \(pid 1\)"):
        engine.swap(CASE)
    assert path.stat().st_ino == inode
    assert engine.state(CASE) == "staged"
    assert not [name for name in names(path) if name.startswith(".")]


@pytest.mark.parametrize("verb", ["swap", "revert"])
def test_crash_between_exchange_and_renaming_is_finished(path: Path, verb: str) -> None:
    engine = engine_for(path)
    engine.stage(CASE, *take(engine))
    with sqlite3.connect(path) as live:
        live.execute("DELETE FROM pegawai WHERE id <= 400")
    live.close()
    if verb == "revert":
        engine.swap(CASE)
    Exchange(str(path), CASE).exchange(verb)  # and here the power fails
    again = engine_for(path)
    expected = ("swapped", 1000) if verb == "swap" else ("staged", 600)
    assert (again.state(CASE), rows(path)) == expected
    again.discard(CASE)  # whatever is called next: the data that was live is kept
    assert rows(path) == expected[1]
    if verb == "swap":
        assert rows(Path(again.before_name(CASE))) == 600


def test_marker_without_exchange_changes_nothing(path: Path) -> None:
    engine = engine_for(path)
    engine.stage(CASE, *take(engine))
    exchange = Exchange(str(path), CASE)
    Path(exchange.folder, f".{path.name}__swap_rst20260001").symlink_to(str(os.lstat(exchange.shadow).st_ino))
    assert engine.state(CASE) == "staged"
    engine.swap(CASE)
    assert engine.state(CASE) == "swapped"


def test_missing_and_broken_live_data_can_be_restored(path: Path) -> None:
    engine = engine_for(path)
    dump, manifest = take(engine)
    keep = path.read_bytes()
    path.unlink()
    engine.stage(CASE, dump, manifest)
    assert engine.is_quiesced()
    engine.swap(CASE)
    assert rows(path) == 1000
    assert Path(engine.before_name(CASE)).stat().st_size == 0
    assert stat.S_IMODE(path.stat().st_mode) == manifest["content"]["globals"]["owner"]["mode"]
    other = "RST-2026-0002"
    path.write_bytes(b"\0" * 100 + keep[100:])
    engine.stage(other, dump, manifest)
    assert engine.quiesce(1)["readable"] is False
    engine.swap(other)
    assert rows(path) == 1000
    assert Path(engine.before_name(other)).read_bytes()[:100] == b"\0" * 100


def test_log_of_an_unreadable_file_stays_with_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_for(path)
    engine.stage(CASE, *take(engine))
    log, kept = Path(f"{path}-wal"), Path(f"{engine.before_name(CASE)}-wal")
    log.write_bytes(b"log")
    with monkeypatch.context() as patched:
        patched.setattr(SqliteEngine, "_prove_quiet", lambda _self: ({"readable": False}, ""))
        engine.swap(CASE)
        assert (log.exists(), kept.read_bytes()) == (False, b"log")
        engine.revert(CASE)
    assert (log.read_bytes(), kept.exists()) == (b"log", False)


def test_other_cases_do_not_meet(path: Path) -> None:
    engine = engine_for(path)
    dump, manifest = take(engine)
    engine.stage(CASE, dump, manifest)
    engine.swap(CASE)
    engine.stage("RST-2026-0002", dump, manifest)
    assert engine.state("RST-2026-0002") == "staged"
    engine.discard("RST-2026-0002")
    assert engine.state(CASE) == "swapped"
    shutil.copy(path, engine.shadow_name("RST-2026-0003"))
    assert engine.state("RST-2026-0003") == "staged"
