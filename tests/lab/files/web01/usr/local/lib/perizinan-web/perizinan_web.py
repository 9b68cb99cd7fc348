"""The lab's licensing application: transactions, kept in MariaDB on another host.

POST /transaksi {"pemohon": 7, "jenis": "bayar", "nilai": 3} writes one row; GET /transaksi says how many there are;
GET /health answers 200 only when the database takes a write (rolled back, so the probe leaves no trace).
One connection is kept open, as real applications do: it is what a restore must find stopped.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql  # type: ignore[import-not-found, import-untyped, unused-ignore] # on the host it is a Debian package
from page import Page, Refused, Unavailable, serve

PASSWORD = Path("/etc/perizinan-web/password")
BROKEN = (pymysql.err.OperationalError, pymysql.err.InterfaceError)


class Database:
    """One shared connection that is made again when it is lost."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[Any], Any], *, keep: bool) -> Any:
        """Run `work(cursor)` in a transaction; commit it when `keep`. A lost connection is retried once."""
        try:
            with self._lock:
                return self._run(work, keep)
        except BROKEN as error:
            raise Unavailable(f"database: {error}") from error
        except pymysql.err.MySQLError as error:
            raise Refused(f"database: {error}") from error

    def _run(self, work: Callable[[Any], Any], keep: bool) -> Any:
        try:
            result = self._attempt(work)
        except BROKEN:
            self._drop()
            result = self._attempt(work)
        # Outside the retry: a commit whose answer was lost must not be sent twice.
        try:
            if keep:
                self._connection.commit()
            else:
                self._connection.rollback()
        except BROKEN:
            self._drop()
            raise
        return result

    def _attempt(self, work: Callable[[Any], Any]) -> Any:
        if self._connection is None:
            self._connection = pymysql.connect(
                host="db02",
                user="perizinan_app",
                password=PASSWORD.read_text(encoding="utf-8").strip(),
                database="perizinan",
                charset="utf8mb4",
                connect_timeout=2,
                read_timeout=20,
                write_timeout=20,
            )
        try:
            with self._connection.cursor() as cursor:
                return work(cursor)
        except BROKEN:
            raise
        except pymysql.err.MySQLError:
            self._connection.rollback()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(pymysql.err.MySQLError):
                self._connection.close()
        self._connection = None


DATABASE = Database()


def added(cursor: Any, row: tuple[int, str, int]) -> int:
    """Insert a row; its id."""
    cursor.execute("INSERT INTO transaksi (pemohon_id, jenis, nilai) VALUES (%s, %s, %s)", row)
    return int(cursor.lastrowid)


def counted(cursor: Any) -> int:
    """How many rows there are."""
    cursor.execute("SELECT count(*) FROM transaksi")
    return int(cursor.fetchone()[0])


class Licences(Page):
    application, collection = "perizinan-web", "/transaksi"

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        row = (int(request["pemohon"]), str(request["jenis"]), int(request["nilai"]))
        return {"id": DATABASE.run(lambda cursor: added(cursor, row), keep=True)}

    def count(self) -> int:
        return int(DATABASE.run(counted, keep=False))

    def probe(self) -> None:
        DATABASE.run(lambda cursor: cursor.execute("UPDATE denyut SET pada = now(6)"), keep=False)


if __name__ == "__main__":
    serve(Licences, "127.0.0.1", 8001)
