# SPDX-License-Identifier: Apache-2.0
"""The application's database, PostgreSQL or SQLite, as the demo and its web service use it."""

from __future__ import annotations

import hashlib
import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any

from sopctl.errors import SopctlError

DATABASE, OWNER = "pelayanan", "aplikasi"
TABLES = ("warga", "jenis_layanan", "transaksi", "jejak")
DATED = ("transaksi", "jejak")  # tables that grow


class Database(ABC):
    """One database that connects anew for each question: a restore puts another one into its place."""

    @abstractmethod
    def connect(self) -> Any:
        """A DB-API connection, committing each statement."""

    @abstractmethod
    def create(self) -> None:
        """Make the database with its rows."""

    @property
    @abstractmethod
    def errors(self) -> type[Exception]:
        """What the driver raises."""

    mark = "?"  # of a parameter
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows of a query. SopctlError in one line."""
        try:
            with closing(self.connect()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        except self.errors as error:
            raise SopctlError(str(error).splitlines()[0], where=DATABASE) from None

    def change(self, statement: str) -> int:
        """Run a statement; the number of rows it changed. SopctlError in one line."""
        try:
            with closing(self.connect()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute(statement)
                return int(cursor.rowcount)
        except self.errors as error:
            raise SopctlError(str(error).splitlines()[0], where=DATABASE) from None

    def count(self) -> int:
        """Rows in all tables."""
        return sum(int(self.rows(f"SELECT count(*) FROM {table}")[0][0]) for table in TABLES)  # noqa: S608  # our names

    def moment(self) -> str:
        """The database's own time now."""
        return str(self.rows(f"SELECT {self.now}")[0][0])  # a constant

    def fingerprint(self, until: str) -> tuple[int, str]:
        """Count and SHA-256 of every row that was there at ``until``, in the order of their ids."""
        digest, count = hashlib.sha256(), 0
        for table in TABLES:
            query = f"SELECT * FROM {table}"  # noqa: S608  # our names
            if table in DATED:
                found = self.rows(f"{query} WHERE dibuat <= {self.mark} ORDER BY id", until)
            else:
                found = self.rows(f"{query} ORDER BY id")
            for row in found:
                digest.update(repr((table, *map(str, row))).encode())
            count += len(found)
        return count, digest.hexdigest()


class Postgres(Database):
    """A database of the private server; the application's role owns it."""

    mark = "%s"
    now = "clock_timestamp()"

    def __init__(self, sockets: str, port: int) -> None:
        self._sockets, self._port = sockets, port

    @property
    def errors(self) -> type[Exception]:
        """psycopg's."""
        import psycopg

        return psycopg.Error

    def connect(self, user: str = OWNER, database: str = DATABASE) -> Any:
        """A connection through the socket."""
        import psycopg

        return psycopg.connect(
            host=self._sockets, port=self._port, user=user, dbname=database, autocommit=True, connect_timeout=5
        )

    def create(self) -> None:
        """Role, database, tables, rows."""
        with closing(self.connect("postgres", "postgres")) as connection:
            connection.execute(f"CREATE ROLE {OWNER} LOGIN")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
            connection.execute(f"COMMENT ON DATABASE {DATABASE} IS 'Layanan publik (demo)'")
        with closing(self.connect()) as connection:
            connection.execute((Path(__file__).parent / "data/postgresql.sql").read_text())
            connection.execute("ANALYZE")

    def kept(self) -> list[str]:
        """The databases that restores have set aside, each with what the server says of it."""
        with closing(self.connect("postgres", "postgres")) as connection:
            found = connection.execute(
                "SELECT datname, pg_size_pretty(pg_database_size(oid)), datallowconn FROM pg_database"
                " WHERE starts_with(datname, %s) ORDER BY 1",
                (f"{DATABASE}__before_",),
            ).fetchall()
        return [f"{name}  {size}, {'open' if opened else 'closed to connections'}" for name, size, opened in found]


class Sqlite(Database):
    """A database file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def errors(self) -> type[Exception]:
        """sqlite3's."""
        return sqlite3.Error

    def connect(self) -> sqlite3.Connection:
        """A connection with foreign keys in force."""
        connection = sqlite3.connect(f"file:{self._path}?mode=rw", uri=True, timeout=5, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def create(self) -> None:
        """Tables and rows."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.executescript((Path(__file__).parent / "data/sqlite.sql").read_text())
