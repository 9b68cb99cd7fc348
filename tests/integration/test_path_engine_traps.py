"""Files and SQLite: mounts, namespaces, subvolumes and names that would leave a service with the old data."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.files import FilesEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.sqlite import SqliteEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import Exchange
from ansible_collections.diskominfo.sop.plugins.module_utils.openers import openers, writers_below
from ansible_collections.diskominfo.sop.plugins.module_utils.path_engine import PathEngine

from tests.integration.sop_fixtures import dataset_for, make_database, tmpfs

CASE = "RST-2026-0001"
#: opens, or maps writable and shared, its first argument; says so, and waits
HOLD = (
    "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0) if sys.argv[2] == 'map' else None;"
    "f.close() if m else None; print('x', flush=True); sys.stdin.read()"
)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounts and namespaces need root")


@contextmanager
def holding(path: Path | str, how: str, *inside: str) -> Iterator[int]:
    """A process that has ``path`` open (``open``) or only mapped (``map``), started by the words ``inside``."""
    process = subprocess.Popen(
        [*inside, sys.executable, "-c", HOLD, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"x\n"
    try:
        yield process.pid
    finally:
        process.communicate()


@contextmanager
def bind(source: Path, target: Path) -> Iterator[None]:
    """``source`` shown at ``target`` too."""
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


def in_namespace(command: str) -> list[str]:
    """Words that start a program in a mount namespace of its own, after ``command``."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{command} && exec "$@"', "sh"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "srv" / "berkas"
    (found / "dalam").mkdir(parents=True)
    (found / "dalam" / "isi").write_text("isi")
    return found


@pytest.fixture
def database(tmp_path: Path) -> Path:
    found = tmp_path / "srv" / "app.db"
    found.parent.mkdir(exist_ok=True)
    make_database(found)
    return found


def files_engine(path: Path) -> FilesEngine:
    return FilesEngine(dataset_for(path, path.parent, "files"), {})


def sqlite_engine(path: Path) -> SqliteEngine:
    return SqliteEngine(dataset_for(path, path.parent), {})


def staged(engine: PathEngine) -> None:
    """A staged copy, made by hand: this is about the exchange."""
    live = Path(engine.path)
    (shutil.copytree if live.is_dir() else shutil.copy)(live, engine.shadow_name(CASE))


def assert_refused(engine: PathEngine, words: str) -> None:
    """The exchange and the way back are refused, and nothing is changed."""
    inode = os.lstat(engine.path).st_ino
    with pytest.raises(SopError, match=words):
        engine.swap(CASE)
    assert os.lstat(engine.path).st_ino == inode
    assert engine.state(CASE) == "staged"


# -- writers ---------------------------------------------------------------------------------------------------------


@root_only
@pytest.mark.parametrize("how", ["open", "map"])
def test_writer_through_a_bind_mount_of_a_folder_above_is_found(folder: Path, tmp_path: Path, how: str) -> None:
    engine = files_engine(folder)
    staged(engine)
    other = tmp_path / "lain"
    other.mkdir()
    with bind(folder.parent, other):
        engine.require_swappable()  # what is mounted is the folder above, which goes on showing the name
        with holding(other / "berkas" / "dalam" / "isi", how) as pid:
            assert [each.split()[-1] for each in writers_below(str(folder))] == [f"{pid})"]
            assert_refused(engine, r"not quiet \(written by")
    engine.swap(CASE)


@root_only
@pytest.mark.parametrize("how", ["open", "map"])
def test_writer_in_another_mount_namespace_is_found(folder: Path, tmp_path: Path, how: str) -> None:
    engine = files_engine(folder)
    staged(engine)
    other = tmp_path / "lain"
    other.mkdir()
    inside = in_namespace(f"mount --bind {folder.parent} {other}")
    with holding(other / "berkas" / "dalam" / "isi", how, *inside) as pid:
        assert any(str(pid) in each for each in writers_below(str(folder)))
        assert_refused(engine, r"not quiet \(written by")
    assert writers_below(str(folder)) == []


@root_only
def test_writer_through_a_hard_link_elsewhere_is_found(folder: Path, tmp_path: Path) -> None:
    os.link(folder / "dalam" / "isi", tmp_path / "nama lain")
    with holding(tmp_path / "nama lain", "open"):
        assert writers_below(str(folder))
    (tmp_path / "bukan itu").write_text("x")
    os.link(tmp_path / "bukan itu", tmp_path / "nama lain lagi")
    with holding(tmp_path / "bukan itu", "open"):
        assert writers_below(str(folder)) == []


@root_only
def test_loop_device_is_a_writer(folder: Path) -> None:
    with (folder / "citra").open("wb") as stream:
        stream.truncate(1 << 20)
    made = subprocess.run(
        ["losetup", "--find", "--show", folder / "citra"], capture_output=True, check=False, text=True
    )
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    try:
        assert any(each.startswith("loop device") for each in writers_below(str(folder)))
        assert any(each.startswith("loop device") for each in openers([str(folder / "citra")]))
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)
    assert writers_below(str(folder)) == []


def test_database_that_is_only_mapped_is_in_use(database: Path) -> None:
    engine = sqlite_engine(database)
    staged(engine)
    with holding(database, "map"):
        assert_refused(engine, r"not quiet \(open in")
    engine.swap(CASE)


def test_own_mapping_does_not_matter(database: Path) -> None:
    with database.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ):
        assert openers([str(database)]) == []


def test_log_of_a_killed_application_is_played_in_before_the_exchange(database: Path) -> None:
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM pegawai WHERE id > 10');"
        "c.commit(); os.kill(os.getpid(), 9)"
    )
    engine = sqlite_engine(database)
    staged(engine)
    assert subprocess.run([sys.executable, "-c", code, database], check=False).returncode == -signal.SIGKILL
    assert Path(f"{database}-wal").stat().st_size > 0
    assert engine.quiesce(5)["log"] == "empty"
    assert not Path(f"{database}-wal").exists()
    engine.swap(CASE)
    for path, rows in ((database, 1000), (engine.before_name(CASE), 10)):
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT count(*) FROM pegawai").fetchone() == (rows,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


# -- mounts ----------------------------------------------------------------------------------------------------------


@root_only
@pytest.mark.parametrize("below", ["", "dalam"])
def test_bind_mount_that_would_go_on_showing_the_old_data_is_refused(folder: Path, tmp_path: Path, below: str) -> None:
    engine = files_engine(folder)
    staged(engine)
    other = tmp_path / "lain"
    other.mkdir()
    with bind(folder / below, other):
        with pytest.raises(SopError, match=f"is mounted at {other} too, which would go on showing the old data"):
            engine.require_swappable()
        assert_refused(engine, "too, which would go on showing the old data")
        with pytest.raises(SopError, match="too, which would"):
            engine.empty(CASE)
    engine.require_swappable()
    engine.swap(CASE)


@root_only
def test_bind_mount_of_another_process_is_refused_at_the_exchange(folder: Path, tmp_path: Path) -> None:
    engine = files_engine(folder)
    staged(engine)
    other = tmp_path / "lain"
    other.mkdir()
    (tmp_path / "biasa").write_text("x")
    with holding(tmp_path / "biasa", "open", *in_namespace(f"mount --bind {folder} {other}")) as pid:
        engine.require_swappable()  # the service itself may have such a mount; it is stopped before
        with pytest.raises(SopError, match=rf"mounted by .*\(pid {pid}\)"):
            engine.quiesce(0)
        assert_refused(engine, rf"mounted by .*\(pid {pid}\)")
    engine.swap(CASE)


@root_only
def test_mount_point_of_the_same_file_system_is_refused(folder: Path, database: Path) -> None:
    for engine in (files_engine(folder), sqlite_engine(database)):
        with bind(Path(engine.path), Path(engine.path)), pytest.raises(SopError, match="is a mount point"):
            engine.require_swappable()


@root_only
def test_mount_below_is_refused_at_the_exchange_too(folder: Path) -> None:
    engine = files_engine(folder)
    staged(engine)
    with tmpfs(folder / "dalam", "1m"):
        with pytest.raises(SopError, match="below it is mounted"):
            engine.require_swappable()
        assert_refused(engine, "below it is mounted")
    engine.swap(CASE)
    kept = Path(engine.before_name(CASE))
    with tmpfs(kept / "dalam", "1m") as mounted:
        (mounted / "x").write_text("x")
        with pytest.raises(SopError, match=r"cannot be removed, .* is mounted"):
            engine.drop_kept(CASE)
        assert (mounted / "x").exists()


@pytest.fixture(scope="module")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mkfs.btrfs") is None:
        pytest.skip("needs root and the package btrfs-progs")
    image = tmp_path_factory.mktemp("btrfs") / "image"
    with image.open("wb") as stream:
        stream.truncate(256 << 20)
    subprocess.run(["mkfs.btrfs", "-q", image], check=True)
    mounted = image.parent / "fs"
    mounted.mkdir()
    if subprocess.run(["mount", "-o", "loop", image, mounted], check=False).returncode:
        pytest.skip("this machine does not mount btrfs")
    yield mounted
    subprocess.run(["umount", "-l", mounted], check=True)


def test_subvolume_is_refused_and_a_folder_in_one_is_exchanged(btrfs: Path) -> None:
    volume = btrfs / "volume"
    subprocess.run(["btrfs", "-q", "subvolume", "create", volume], check=True)
    (volume / "isi").write_text("x")
    with pytest.raises(SopError, match=r"subvolume, which cannot be exchanged; register a folder below it"):
        files_engine(volume).require_swappable()
    below = volume / "berkas"
    below.mkdir()
    (below / "isi").write_text("lama")
    engine = files_engine(below)
    staged(engine)
    with holding(below / "isi", "map"):
        assert_refused(engine, "written by")
    with holding(volume / "isi", "map"):
        engine.swap(CASE)
    assert engine.state(CASE) == "swapped"


def test_same_inode_number_cannot_be_told_apart(btrfs: Path) -> None:
    for name in ("satu", "satu__shadow_rst20260001"):
        subprocess.run(["btrfs", "-q", "subvolume", "create", btrfs / name], check=True)
    with pytest.raises(SopError, match="same inode number"):
        Exchange(str(btrfs / "satu"), CASE).exchange("swap")


# -- places that cannot be written -------------------------------------------------------------------------------------


def _read_only(folder: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)


def _immutable(folder: Path) -> None:
    subprocess.run(["chattr", "+i", folder], check=True)


@root_only
@pytest.mark.parametrize("close", [_read_only, _immutable])
def test_place_that_cannot_be_written_is_refused_before_anything(tmp_path: Path, close: Callable[[Path], None]) -> None:
    with tmpfs(tmp_path / "fs", "4m") as place:
        (place / "berkas").mkdir()
        make_database(place / "app.db", rows=10)
        try:
            close(place)
        except subprocess.CalledProcessError:
            pytest.skip("this file system has no such attribute")
        try:
            for engine in (files_engine(place / "berkas"), sqlite_engine(place / "app.db")):
                with pytest.raises(SopError, match=r"nothing can be made or renamed there .*writable"):
                    engine.require_swappable()
        finally:
            subprocess.run(["chattr", "-i", place], check=False, capture_output=True)
        assert sorted(each.name for each in place.iterdir()) == ["app.db", "berkas"]


@root_only
def test_immutable_live_data_is_refused_by_name(folder: Path, database: Path) -> None:
    for engine in (files_engine(folder), sqlite_engine(database)):
        subprocess.run(["chattr", "+i", engine.path], check=True)
        try:
            with pytest.raises(SopError, match=r"has attribute i of chattr.*run chattr -i"):
                engine.require_swappable()
        finally:
            subprocess.run(["chattr", "-i", engine.path], check=True)
        engine.require_swappable()


def test_other_things_under_the_name_are_refused(folder: Path, database: Path) -> None:
    with pytest.raises(SopError, match="is not a folder"):
        files_engine(database).require_swappable()
    with pytest.raises(SopError, match="is not a file"):
        sqlite_engine(folder).require_swappable()
    os.link(database, f"{database} lain")
    with pytest.raises(SopError, match=r"has 2 names \(hard links\)"):
        sqlite_engine(database).require_swappable()
    with pytest.raises(SopError, match="there is no such folder"):
        files_engine(folder / "tidak" / "ada").require_swappable()


def test_longest_name_can_be_restored(tmp_path: Path) -> None:
    for base in ("n" * 255, "é" * 127 + "x"):
        path = tmp_path / base
        path.mkdir()
        (path / "isi").write_text("lama")
        engine = files_engine(path)
        staged(engine)
        engine.swap(CASE)
        assert Path(engine.before_name(CASE), "isi").read_text() == "lama"
        engine.revert(CASE)
        engine.discard(CASE)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["n" * 255, "é" * 127 + "x"])
