"""The lab's queue service: hands out numbers, kept in an SQLite database that stays open in WAL mode.

POST /antrean {"loket": 2} takes the next number ("catatan", a word of the visitor's, may come with it); GET /antrean says
how many were given; GET /health answers 200 only when the database takes a write (rolled back).
"""

from __future__ import annotations

import sqlite3
import sys
import threading
from typing import Any

from page import Page, Unavailable, serve

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


class Queue(Page):
    application, collection = "antrean", "/antrean"
    database: sqlite3.Connection
    lock = threading.Lock()

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        row = (int(request["loket"]), request.get("catatan"))
        statement = "INSERT INTO antrean (loket_id, catatan) VALUES (?, ?) RETURNING id"
        return {"id": int(self._run(statement, row, keep=True)[0][0])}

    def count(self) -> int:
        return int(self._run("SELECT count(*) FROM antrean", (), keep=False)[0][0])

    def probe(self) -> None:
        self._run("UPDATE jumlah SET total = total", (), keep=False)

    def _run(self, statement: str, values: tuple[Any, ...], *, keep: bool) -> list[Any]:
        with self.lock:
            try:
                self.database.execute("BEGIN IMMEDIATE")
                rows = self.database.execute(statement, values).fetchall()
                self.database.execute("COMMIT" if keep else "ROLLBACK")
            except sqlite3.Error as error:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise Unavailable(f"database: {error}") from error
            return rows


if __name__ == "__main__":
    Queue.database = open_database(sys.argv[1])
    serve(Queue, "0.0.0.0", 8090)  # noqa: S104 - its users come over the network
