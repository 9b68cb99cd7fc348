"""The lab's web application: personnel transactions, kept in PostgreSQL on another host.

POST /transaksi {"pegawai": 7, "jenis": "cuti", "nilai": 3} writes one row; GET /transaksi says how many there are;
GET /health answers 200 only when the database takes a write (rolled back, so the probe leaves no trace).
One connection is kept open, as real applications do: it is what a restore must find stopped.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import psycopg2  # type: ignore[import-untyped] # on the host it is a Debian package
from page import Page, Refused, Unavailable, serve

DSN = "host=db01 port=5432 dbname=simpeg user=simpeg_app application_name=simpeg-web connect_timeout=2"
BROKEN = (psycopg2.OperationalError, psycopg2.InterfaceError)


class Database:
    """One shared connection that is made again when it is lost."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[Any], Any], *, keep: bool) -> Any:
        """Run `work(cursor)` in a transaction; commit it when `keep`. A lost connection is retried once."""
        try:
            return self._run(work, keep)
        except BROKEN as error:
            raise Unavailable(f"database: {str(error).splitlines()[0]}") from error
        except psycopg2.Error as error:
            raise Refused(f"database: {str(error).splitlines()[0]}") from error

    def _run(self, work: Callable[[Any], Any], keep: bool) -> Any:
        with self._lock:
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
            except psycopg2.Error:
                self._connection.rollback()
                raise
            return result

    def _attempt(self, work: Callable[[Any], Any]) -> Any:
        if self._connection is None:
            self._connection = psycopg2.connect(DSN)
        try:
            with self._connection.cursor() as cursor:
                return work(cursor)
        except BROKEN:
            raise
        except psycopg2.Error:
            self._connection.rollback()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.close()
        self._connection = None


DATABASE = Database()


def asked(cursor: Any, statement: str, values: tuple[Any, ...] = ()) -> int:
    """The one number that a statement returns."""
    cursor.execute(statement, values)
    return int(cursor.fetchone()[0])


class Personnel(Page):
    application, collection = "simpeg-web", "/transaksi"

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        row = (int(request["pegawai"]), str(request["jenis"]), int(request["nilai"]))
        statement = "INSERT INTO kepegawaian.transaksi (pegawai_id, jenis, nilai) VALUES (%s, %s, %s) RETURNING id"
        return {"id": DATABASE.run(lambda cursor: asked(cursor, statement, row), keep=True)}

    def count(self) -> int:
        statement = "SELECT count(*) FROM kepegawaian.transaksi"
        return int(DATABASE.run(lambda cursor: asked(cursor, statement), keep=False))

    def probe(self) -> None:
        statement = "UPDATE kepegawaian.denyut SET pada = now()"
        DATABASE.run(lambda cursor: cursor.execute(statement), keep=False)


if __name__ == "__main__":
    serve(Personnel, "127.0.0.1", 8000)
