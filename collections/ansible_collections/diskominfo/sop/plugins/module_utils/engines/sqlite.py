# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""SQLite: the dump is the main file's own bytes, read while nothing may change them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from ansible_collections.diskominfo.sop.plugins.module_utils import ownership
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import (
    DumpSource,
    DumpStream,
    Engine,
    Json,
    Place,
    SopError,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import Exchange, inode, sync_folder
from ansible_collections.diskominfo.sop.plugins.module_utils.openers import openers, visibility
from ansible_collections.diskominfo.sop.plugins.module_utils.space import place_for, require_space
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import Sum

#: seconds to wait until readers and writers let the write-ahead log be emptied
BUSY_WAIT = 60.0
_CHUNK = 1 << 20
_SIDECARS = ("-wal", "-shm", "-journal")
_BUSY_WORDS = ("locked", "busy")


class _Text(bytes):
    """TEXT as its bytes: text that is not UTF-8 must not stop a checksum, and must differ from a BLOB."""


def connect(path: str, mode: str = "rw", timeout: float = 5.0) -> sqlite3.Connection:
    """Open an existing database; never makes one."""
    connection = sqlite3.connect(f"file:{quote(path)}?mode={mode}", uri=True, timeout=timeout, isolation_level=None)
    connection.text_factory = _Text
    return connection


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _tables(connection: sqlite3.Connection) -> list[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'create virtual%'"
    return sorted(bytes(name).decode("utf-8", "surrogateescape") for (name,) in connection.execute(query))


def _encoded(value: object) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, int):
        return b"i%d" % value
    if isinstance(value, float):
        return b"f" + struct.pack(">d", value)
    data: bytes = bytes(value)  # type: ignore[call-overload]  # _Text or bytes: sqlite3 gives nothing else
    return (b"t" if isinstance(value, _Text) else b"b") + b"%d:" % len(data) + data


def content_of(connection: sqlite3.Connection, checksums: bool) -> Json:
    """Rows (and checksums) of every table, and a digest of the schema, in the connection's own transaction."""
    tables: Json = {}
    for name in _tables(connection):
        if checksums:
            total = Sum()
            for row in connection.execute(f"SELECT * FROM {_quoted(name)}"):  # noqa: S608  (a name, quoted)
                total.add(b"|".join(map(_encoded, row)))
            tables[name] = {"rows": total.members, "checksum": total.hex()}
        else:
            (rows,) = connection.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchone()  # noqa: S608  (a name, quoted)
            tables[name] = {"rows": rows, "checksum": None}
    schema = Sum()
    for row in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        schema.add(b"|".join(map(_encoded, row)))
    (user_version,) = connection.execute("PRAGMA user_version").fetchone()
    return {"tables": tables, "globals": {"schema": schema.hex(), "user_version": user_version}, "bytes": 0}


def _content_of_file(path: str, checksums: bool, quick_check: bool) -> Json:
    try:
        connection = connect(path)
        try:
            if quick_check:
                (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if answer != b"ok":
                    raise SopError(
                        f"{path}: quick_check says {bytes(answer).decode('utf-8', 'replace')}; choose another backup"
                    )
            connection.execute("BEGIN")
            content = content_of(connection, checksums)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SopError(f"{path}: cannot be read as an SQLite database ({error}); restore it from a backup") from error
    content["bytes"] = os.stat(path).st_size
    content["globals"]["owner"] = ownership.described(path)
    return content


class SqliteDump(DumpStream):
    """The main file's bytes while a reading transaction keeps the file as it is.

    With a write-ahead log: the log is emptied, and our read lock on the empty log keeps every checkpoint, which alone
    writes the main file, away; the application goes on writing into the log. With a rollback journal the same
    transaction keeps writers from committing until the dump is done.
    """

    def __init__(self, path: str, busy_wait: float) -> None:
        self._path = path
        # closing any descriptor of the file would drop the locks of this process: opened first, closed last
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed in _close)
        self._reader: sqlite3.Connection | None = None
        try:
            self._reader = self._frozen(busy_wait)
            self._start = os.fstat(self._file.fileno())
        except sqlite3.Error as error:
            self._close()
            raise SopError(f"{path}: cannot be read as an SQLite database ({error}); nothing was stored") from error
        except BaseException:
            self._close()
            raise

    def _frozen(self, busy_wait: float) -> sqlite3.Connection:
        deadline = time.monotonic() + busy_wait
        while True:
            writer = connect(self._path)
            try:
                reader = self._try_freeze(writer)
            except sqlite3.OperationalError as error:
                if not any(word in str(error) for word in _BUSY_WORDS):
                    raise
                reader = None
            finally:
                writer.close()
            if reader is not None:
                return reader
            if time.monotonic() > deadline:
                raise SopError(
                    f"{self._path}: stayed busy for {busy_wait:.0f} s, so its log could not be emptied; nothing was stored, "
                    "end the long reading transaction of the application and run again"
                )
            time.sleep(0.1)

    def _try_freeze(self, writer: sqlite3.Connection) -> sqlite3.Connection | None:
        """With ``writer`` keeping other writers out for a moment, begin to read with an empty log."""
        (mode,) = writer.execute("PRAGMA journal_mode").fetchone()
        if mode == b"wal":
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        writer.execute("BEGIN IMMEDIATE")
        wal = self._path + "-wal"
        if mode == b"wal" and os.path.exists(wal) and os.path.getsize(wal) != 0:
            return None
        reader = connect(self._path)
        try:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            reader.close()
            raise
        writer.execute("ROLLBACK")
        return reader

    def read(self, size: int) -> bytes:
        return self._file.read(size) or b""

    def finish(self) -> Json:
        try:
            assert self._reader is not None  # noqa: S101  (set by the constructor)
            content = content_of(self._reader, checksums=False)
            end = os.fstat(self._file.fileno())
        except sqlite3.Error as error:
            raise SopError(f"{self._path}: cannot be counted ({error}); nothing was stored") from error
        finally:
            position = self._file.tell()
            self._close()
        if (end.st_mtime_ns, end.st_size) != (self._start.st_mtime_ns, self._start.st_size) or position != end.st_size:
            raise SopError(
                f"{self._path}: was written past SQLite's locks while it was read; nothing was stored, run again"
            )
        content["bytes"] = end.st_size
        content["globals"]["owner"] = ownership.described(self._path)
        return content

    def abort(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._file.close()


class SqliteEngine(Engine):
    """One SQLite database file. ``dataset``: {"path": absolute, "busy_wait"?: seconds}."""

    kind = "sqlite"
    method = "stream"
    method_name = "sqlite main file | restic"
    dump_name = "dump.sqlite"
    #: quiesce proves and holds nothing
    fences = False

    def __init__(self, dataset: Json, secrets: Json) -> None:
        super().__init__(dataset, secrets)
        path = dataset.get("path")
        if not isinstance(path, str) or not os.path.isabs(path) or os.path.normpath(path) != path:
            raise SopError(f"{dataset.get('id')}: path {path!r} is not a plain absolute path; correct the register")
        self.path = path
        if os.path.islink(path):
            raise SopError(f"{path}: is a link; register the file it points to ({os.path.realpath(path)})")

    def _require_live(self) -> None:
        if not os.path.isfile(self.path):
            raise SopError(
                f"{self.path}: there is no such database file on this host; correct the register or restore it"
            )

    def _busy_wait(self) -> float:
        return float(self.dataset.get("busy_wait", BUSY_WAIT))

    def describe(self) -> Json:
        exists = os.path.isfile(self.path)
        return {
            "version": sqlite3.sqlite_version,
            "bytes": os.path.getsize(self.path) if exists else 0,
            "exists": exists,
        }

    def staging_place(self, size: int) -> Place:
        return place_for(os.path.dirname(self.path), size)

    def scratch_place(self, size: int) -> Place:
        return place_for(self.dataset.get("state_dir") or tempfile.gettempdir(), size)

    def manifest(self, checksums: bool) -> Json:
        self._require_live()
        return _content_of_file(self.path, checksums, quick_check=False)

    def dump(self) -> DumpStream:
        self._require_live()
        return SqliteDump(self.path, self._busy_wait())

    @contextmanager
    def scratch(self, source: DumpSource, manifest: Json) -> Iterator[Json]:
        place = self.scratch_place(int(manifest["content"]["bytes"]))
        require_space(place, "proof by restoring")
        folder = tempfile.mkdtemp(prefix=f"scratch-{self.dataset['id']}.", dir=place.path)
        try:
            copy = os.path.join(folder, "copy.db")
            _write(source, copy)
            yield _checked(copy, manifest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def shadow_name(self, case: str) -> str:
        return Exchange(self.path, case).shadow

    def before_name(self, case: str) -> str:
        return Exchange(self.path, case).before

    def state(self, case: str) -> str:
        return Exchange(self.path, case).state()

    def stage(self, case: str, source: DumpSource, manifest: Json) -> Json:
        names = Exchange(self.path, case)
        names.settle()
        require_space(self.staging_place(int(manifest["content"]["bytes"])), "the staged copy")
        names.probe()
        part = self._part(case)
        try:
            _remove_database(part)
            _write(source, part)
            content = _checked(part, manifest)
            if not os.path.exists(self.path):
                ownership.apply(part, manifest["content"]["globals"]["owner"])
            os.rename(part, names.shadow)
            sync_folder(names.folder)
        except BaseException:
            _remove_database(part)
            raise
        return content

    def _part(self, case: str) -> str:
        return Exchange(self.path, case).shadow + ".part"

    def discard(self, case: str) -> None:
        names = Exchange(self.path, case)
        names.settle()
        _remove_database(self._part(case))
        if names.state() == "staged":
            _remove_database(names.shadow)
            sync_folder(names.folder)

    def quiesce(self, timeout: float) -> Json:
        """Prove that nobody has the file open and everything written is in it; nothing is held afterwards, so
        :meth:`swap` proves it again."""
        deadline = time.monotonic() + timeout
        while True:
            proof, problem = self._prove_quiet()
            if not problem:
                return proof
            if time.monotonic() >= deadline:
                raise SopError(
                    f"{self.path}: not quiet after {timeout:.0f} s ({problem}); stop what uses it, then run again"
                )
            time.sleep(0.2)

    def _prove_quiet(self) -> tuple[Json, str]:
        proof: Json = {"openers": [], "seen": visibility(), "log": "empty", "readable": True}
        if not os.path.exists(self.path):
            return {**proof, "log": "no file", "readable": False}, ""
        files = [self.path, *(self.path + end for end in _SIDECARS)]
        if found := openers(files):
            return proof, "open in " + ", ".join(found[:5])
        try:
            connection = connect(self.path, timeout=0.5)
            try:
                if connection.execute("PRAGMA journal_mode").fetchone() == (b"wal",):
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("ROLLBACK")
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in _BUSY_WORDS):
                return proof, str(error)
            proof.update(
                readable=False, log=f"not read ({error})"
            )  # a broken file is a reason to restore, not to refuse
            return proof, ""
        left = [end for end in _SIDECARS if os.path.exists(self.path + end)]
        return proof, f"{', '.join(left)} still there" if left else ""

    def is_quiesced(self) -> bool:
        return self._prove_quiet()[1] == ""

    def release(self) -> None:
        """Nothing is held, so nothing is to be lifted."""

    def settle(self, case: str) -> None:
        """Finish the renaming that a crash left open between the exchange and the end of a swap or revert."""
        Exchange(self.path, case).settle()

    def swap(self, case: str) -> Json:
        names = Exchange(self.path, case)
        if names.state() == "staged":
            if not os.path.exists(self.path):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # what is kept: nothing
                ownership.copy(names.shadow, self.path)
            ownership.copy(self.path, names.shadow)
            self._exchange(names, "swap", names.shadow)
        names.settle()
        if names.state() != "swapped":
            raise SopError(f"{self.path}: nothing is staged for {case}; stage it first")
        self._close_kept(names.before)
        return self._identity(names)

    def _exchange(self, names: Exchange, verb: str, other: str) -> None:
        _proof, problem = self._prove_quiet()
        if problem:
            raise SopError(f"{self.path}: is not quiet ({problem}); quiesce it, then run again")
        names.exchange(verb)
        # who opened the old file between proof and exchange would go on writing into it
        late = openers([other])
        if late:
            names.take_back(verb)
            raise SopError(
                f"{self.path}: was opened meanwhile by {', '.join(late[:5])}; nothing was changed, stop it and run again"
            )
        for end in _SIDECARS:  # only of a file that could not be read: they belong to the old data
            if os.path.exists(self.path + end):
                os.rename(self.path + end, (names.before if verb == "swap" else names.shadow) + end)

    def _close_kept(self, path: str) -> None:
        os.chmod(path, stat.S_IRUSR)

    def revert(self, case: str) -> Json:
        names = Exchange(self.path, case)
        if names.state() == "swapped":
            names.settle()
            ownership.copy(self.path, names.before)
            self._exchange(names, "revert", names.before)
            for end in _SIDECARS:
                if os.path.exists(names.before + end):
                    os.rename(names.before + end, self.path + end)
        names.settle()
        if inode(names.shadow):
            os.chmod(names.shadow, stat.S_IRUSR | stat.S_IWUSR)
        return self._identity(names)

    def _identity(self, names: Exchange) -> Json:
        kept = names.before if inode(names.before) else names.shadow
        return {"old": {"path": kept, "inode": inode(kept)}, "new": {"path": self.path, "inode": inode(self.path)}}


def _write(source: DumpSource, path: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as target, source.open() as stream:
        while chunk := stream.read(_CHUNK):
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())


def _checked(path: str, manifest: Json) -> Json:
    """Content with checksums of a restored copy; SopError when its schema is not the manifest's."""
    content = _content_of_file(path, checksums=True, quick_check=True)
    for end in _SIDECARS:
        if os.path.exists(path + end):
            os.unlink(path + end)
    wanted = manifest["content"]["globals"].get("schema")
    if wanted is not None and content["globals"]["schema"] != wanted:
        raise SopError(f"{path}: its schema is not the one the manifest describes; choose another backup")
    return content


def _remove_database(path: str) -> None:
    for name in (path, *(path + end for end in _SIDECARS)):
        if os.path.lexists(name):
            os.unlink(name)
