# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""SQLite: one database file; a restore is a sibling file that is exchanged with it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

from ansible_collections.diskominfo.sop.plugins.module_utils.checks import LIMIT_S, results
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, DumpStream, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import Exchange, inode, sync_folder
from ansible_collections.diskominfo.sop.plugins.module_utils.openers import openers, visibility
from ansible_collections.diskominfo.sop.plugins.module_utils.path_engine import PathEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.space import require_space
from ansible_collections.diskominfo.sop.plugins.module_utils.sqlite_content import connect, content_of_file
from ansible_collections.diskominfo.sop.plugins.module_utils.sqlite_dump import BUSY_WORDS, SqliteDump
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import TreeSource

#: seconds to wait until readers and writers let the write-ahead log be emptied
BUSY_WAIT = 60.0
_CHUNK = 1 << 20
_SIDECARS = ("-wal", "-shm", "-journal")
_ASIDE = ".aside"
_HEADER = b"SQLite format 3\0"


class SqliteEngine(PathEngine):
    """One SQLite database file. ``dataset``: {"path": absolute, "busy_wait"?: seconds}."""

    kind = "sqlite"
    method = "stream"
    method_name = "sqlite main file | restic"
    dump_name = "dump.sqlite"
    noun = "file"
    staged_mode, kept_mode = 0o600, 0o400

    def _require_live(self) -> None:
        if not os.path.isfile(self.path):
            raise SopError(
                f"{self.path}: there is no such database file on this host; correct the register or restore it"
            )

    def _busy_wait(self) -> float:
        return float(self.dataset.get("busy_wait", BUSY_WAIT))

    def describe(self) -> Json:
        """See :class:`Engine`."""
        exists = os.path.isfile(self.path)
        return {
            "version": sqlite3.sqlite_version,
            "bytes": os.path.getsize(self.path) if exists else 0,
            "exists": exists,
        }

    def manifest(self, checksums: bool) -> Json:
        """See :class:`Engine`."""
        self._require_live()
        return content_of_file(self.path, checksums, quick_check=False)

    def dump(self) -> DumpStream:
        """See :class:`Engine`."""
        self._require_live()
        return SqliteDump(self.path, self._busy_wait())

    @contextmanager
    def scratch(self, source: DumpSource, manifest: Json) -> Iterator[Json]:
        """See :class:`Engine`."""
        place = self.scratch_place(self.loaded_bytes(manifest))
        require_space(place, "proof by restoring")
        folder = tempfile.mkdtemp(prefix=f"scratch-{self.dataset['id']}.", dir=place.path)
        try:
            copy, content = self._fill(os.path.join(folder, "copy.db"), source, manifest)
            yield {**content, "checks": results(self.dataset, lambda query: _answer(copy, query))}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # -- what this kind of path is --------------------------------------------------------------------------------

    def _is_kind(self, path: str) -> bool:
        return os.path.isfile(path) and not os.path.islink(path)

    def _require_more(self) -> None:
        names = os.stat(self.path).st_nlink
        if names > 1:
            raise SopError(
                f"{self.path}: has {names} names (hard links), of which the others would keep the old data; remove them first"
            )

    def _require_free(self, target: str) -> None:
        for end in ("", *_SIDECARS):  # a log that lies there would be played into the copy
            super()._require_free(target + end)

    def _proof(self) -> Json:
        return self._prove_quiet()[0]

    def _busy(self) -> str:
        return self._prove_quiet()[1]

    def _users(self, path: str) -> list[str]:
        return openers([path])

    def _prove_quiet(self) -> tuple[Json, str]:
        """Prove that nobody has the file open and everything written is in it: (proof, what is in the way)."""
        proof: Json = {"openers": [], "seen": visibility(), "log": "empty", "readable": True}
        if not os.path.exists(self.path):
            return {**proof, "log": "no file", "readable": False}, ""
        files = [self.path, *(self.path + end for end in _SIDECARS)]
        if found := openers(files):
            return proof, "open in " + ", ".join(found[:5])
        if not self._has_header():  # of a file without pages SQLite would throw the log away
            return {**proof, "readable": False, "log": "not read (no SQLite database, or an encrypted one)"}, ""
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
            if isinstance(error, sqlite3.OperationalError) and any(word in str(error) for word in BUSY_WORDS):
                return proof, str(error)
            # a broken file is a reason to restore, not to refuse
            return {**proof, "readable": False, "log": f"not read ({error})"}, ""
        left = [end for end in _SIDECARS if os.path.exists(self.path + end)]
        return proof, f"{', '.join(left)} still there" if left else ""

    def _has_header(self) -> bool:
        with open(self.path, "rb") as stream:
            return stream.read(len(_HEADER)) == _HEADER

    def _fill(self, part: str, source: DumpSource, manifest: Json) -> tuple[str, Json]:
        if isinstance(source, TreeSource):
            raise SopError(f"{self.path}: the backup is one of a folder, not of a database; choose another backup")
        _write(source, part)
        content = content_of_file(part, checksums=True, quick_check=True)
        for end in _SIDECARS:
            if os.path.exists(part + end):
                os.unlink(part + end)
        wanted = manifest["content"]["globals"].get("schema")
        if wanted is not None and content["globals"]["schema"] != wanted:
            raise SopError(f"{part}: its schema is not the one the manifest describes; choose another backup")
        return part, content

    def _make_empty(self, path: str) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    def _is_empty(self, path: str) -> bool:
        return not any(os.path.exists(path + end) for end in _SIDECARS) and os.path.getsize(path) == 0

    def _remove(self, path: str) -> None:
        for name in (*(path + end for end in _SIDECARS), path):
            if os.path.lexists(name):
                os.unlink(name)

    def _room(self, path: str) -> int:
        return sum(os.lstat(name).st_blocks * 512 for name in (path, *(path + end for end in _SIDECARS)) if inode(name))

    # -- logs ------------------------------------------------------------------------------------------------------

    def settle(self, case: str) -> None:
        """See :class:`PathEngine`."""
        super().settle(case)
        self._settle_sidecars(Exchange(self.path, case))

    def _before_exchange(self, names: Exchange, verb: str) -> None:
        """Put logs away under names that only we make, each named after the file that it belongs to afterwards.

        There is one only of a file that could not be read. Beside the wrong file it would be played into it.
        """
        kept, coming = (names.before, names.shadow) if verb == "swap" else (names.shadow, names.before)
        self._move_sidecars(coming, coming + _ASIDE)
        self._move_sidecars(self.path, kept + _ASIDE)

    def _settle_sidecars(self, names: Exchange) -> None:
        for name in (names.shadow, names.before):
            # what was put away for a name that no file has belongs to the file that has left it, which is live
            self._move_sidecars(name + _ASIDE, name if inode(name) else self.path)

    def _move_sidecars(self, source: str, target: str) -> None:
        moved = [end for end in _SIDECARS if inode(source + end)]
        for end in moved:
            os.rename(source + end, target + end)
        if moved:
            sync_folder(os.path.dirname(self.path))

    def _drop_sidecars(self) -> None:
        for end in _SIDECARS:
            if inode(self.path + end):
                os.unlink(self.path + end)


def _write(source: DumpSource, path: str) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as target, source.open() as stream:
        while chunk := stream.read(_CHUNK):
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())


def _answer(path: str, query: str) -> str:
    """A check's first value as text, from the file read-only; nothing that its schema brings along is trusted."""
    deadline = time.monotonic() + LIMIT_S
    with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        try:
            row = connection.execute(f"SELECT * FROM ({query}\n) LIMIT 1").fetchone()  # noqa: S608  # it is the register's
        except sqlite3.Error as error:
            raise SopError(" ".join(str(error).split())) from None
    return "" if row is None or row[0] is None else str(row[0])
