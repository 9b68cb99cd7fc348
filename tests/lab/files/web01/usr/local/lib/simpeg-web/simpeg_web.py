"""The lab's web application: personnel transactions, kept in PostgreSQL on another host.

POST /transaksi {"pegawai": 7, "jenis": "cuti", "nilai": 3} writes one row; GET /transaksi says how many there are;
GET /health answers 200 only when the database takes a write (rolled back, so the probe leaves no trace).
One connection is kept open, as real applications do: it is what a restore must find stopped.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psycopg2  # type: ignore[import-untyped] # on the host it is a Debian package

DSN = "host=db01 port=5432 dbname=simpeg user=simpeg_app application_name=simpeg-web connect_timeout=2"
BROKEN = (psycopg2.OperationalError, psycopg2.InterfaceError)


class Database:
    """One shared connection that is made again when it is lost."""

    def __init__(self) -> None:
        self._connection: Any = None
        self._lock = threading.Lock()

    def run(self, work: Callable[[Any], Any], *, keep: bool) -> Any:
        """Run `work(cursor)` in a transaction; commit it when `keep`. A lost connection is retried once."""
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


def probe(cursor: Any) -> dict[str, str]:
    cursor.execute("UPDATE kepegawaian.denyut SET pada = now()")
    return {"status": "ok"}


def count(cursor: Any) -> dict[str, int]:
    cursor.execute("SELECT count(*) FROM kepegawaian.transaksi")
    return {"jumlah": int(cursor.fetchone()[0])}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self._database(probe, keep=False, status=200)
        elif self.path == "/transaksi":
            self._database(count, keep=False, status=200)
        else:
            self._answer(404, {"error": f"no such page: {self.path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path != "/transaksi":
            self._answer(404, {"error": f"no such page: {self.path}"})
            return
        try:
            request = json.loads(body)
            row = (int(request["pegawai"]), str(request["jenis"]), int(request["nilai"]))
        except (ValueError, KeyError, TypeError) as error:
            self._answer(400, {"error": f"want pegawai, jenis, nilai: {error}"})
            return

        def insert(cursor: Any) -> dict[str, int]:
            cursor.execute(
                "INSERT INTO kepegawaian.transaksi (pegawai_id, jenis, nilai) VALUES (%s, %s, %s) RETURNING id", row
            )
            return {"id": int(cursor.fetchone()[0])}

        self._database(insert, keep=True, status=201)

    def _database(self, work: Callable[[Any], Any], *, keep: bool, status: int) -> None:
        try:
            answer = DATABASE.run(work, keep=keep)
        except BROKEN as error:
            self._answer(503, {"error": f"database: {str(error).splitlines()[0]}"})
        except psycopg2.Error as error:
            self._answer(422, {"error": f"database: {str(error).splitlines()[0]}"})
        else:
            self._answer(status, answer)

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a health check ten times a second is no news."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
