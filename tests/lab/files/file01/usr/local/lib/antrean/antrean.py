"""The lab's queue service: hands out numbers, kept in an SQLite database that stays open in WAL mode.

POST /antrean {"loket": 2} takes the next number; GET /antrean says how many were given; GET /health answers 200 only
when the database takes a write (rolled back).
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS loket (id INTEGER PRIMARY KEY, nama TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS antrean (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    loket_id INTEGER NOT NULL REFERENCES loket (id),
    catatan TEXT,
    lampiran BLOB,
    pada TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
);
CREATE INDEX IF NOT EXISTS antrean_loket ON antrean (loket_id, pada);
CREATE TABLE IF NOT EXISTS jumlah (loket_id INTEGER PRIMARY KEY REFERENCES loket (id), total INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS antrean_masuk AFTER INSERT ON antrean BEGIN
    INSERT INTO jumlah VALUES (NEW.loket_id, 1) ON CONFLICT (loket_id) DO UPDATE SET total = total + 1;
END;
CREATE VIEW IF NOT EXISTS ringkasan AS
    SELECT nama, total FROM jumlah JOIN loket ON loket.id = jumlah.loket_id;
"""


def open_database(path: str) -> sqlite3.Connection:
    """Open the database in WAL mode; a new one gets four counters and two thousand numbers given out."""
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.executescript(SCHEMA)
    if connection.execute("SELECT count(*) FROM loket").fetchone()[0] == 0:
        connection.execute("BEGIN")
        names = ["Umum", "Perizinan", "Kependudukan", "Pengaduan"]
        connection.executemany("INSERT INTO loket VALUES (?, ?)", list(enumerate(names, start=1)))
        rows = [(n % 4 + 1, f"tamu ke-{n}", bytes([n % 251]) * 32) for n in range(1, 2001)]
        connection.executemany("INSERT INTO antrean (loket_id, catatan, lampiran) VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
    return connection


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    database: sqlite3.Connection
    lock = threading.Lock()

    def do_GET(self) -> None:
        if self.path == "/health":
            self._run("UPDATE jumlah SET total = total", (), keep=False, status=200)
        elif self.path == "/antrean":
            self._run("SELECT count(*) AS jumlah FROM antrean", (), keep=False, status=200)
        else:
            self._answer(404, {"error": f"no such page: {self.path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        try:
            counter = int(json.loads(body)["loket"])
        except (ValueError, KeyError, TypeError) as error:
            self._answer(400, {"error": f"want loket: {error}"})
            return
        self._run("INSERT INTO antrean (loket_id) VALUES (?) RETURNING id", (counter,), keep=True, status=201)

    def _run(self, statement: str, values: tuple[int, ...], *, keep: bool, status: int) -> None:
        with self.lock:
            try:
                self.database.execute("BEGIN IMMEDIATE")
                cursor = self.database.execute(statement, values)
                names = [column[0] for column in cursor.description or []]
                rows = cursor.fetchall()
                self.database.execute("COMMIT" if keep else "ROLLBACK")
            except sqlite3.Error as error:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                self._answer(503, {"error": f"database: {error}"})
                return
        self._answer(status, dict(zip(names, rows[0], strict=True)) if rows else {"status": "ok"})

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
    Handler.database = open_database(sys.argv[1])
    ThreadingHTTPServer(("0.0.0.0", 8090), Handler).serve_forever()  # noqa: S104 - its users come over the network
