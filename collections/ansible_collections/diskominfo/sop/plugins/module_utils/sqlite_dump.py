# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Dump an SQLite database: the main file's own bytes, read while nothing may change them."""

from __future__ import annotations

import os
import sqlite3
import time

from ansible_collections.diskominfo.sop.plugins.module_utils import ownership
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpStream, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.sqlite_content import (
    connect,
    content_of,
    unreadable,
    with_stand_ins,
)

#: what SQLite says when another process holds a lock
BUSY_WORDS = ("locked", "busy")


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
            raise unreadable(path, error) from error
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
                if not any(word in str(error) for word in BUSY_WORDS):
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
            reader = self._reader
            assert reader is not None  # noqa: S101  (set by the constructor)
            content = with_stand_ins(reader, lambda: content_of(reader, checksums=False))
            end = os.fstat(self._file.fileno())
        except sqlite3.Error as error:
            raise unreadable(self._path, error) from error
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
