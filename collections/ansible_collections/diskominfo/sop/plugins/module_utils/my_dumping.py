# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A mariadb-dump being produced; rows are counted from its own stream.

Two runs of mariadb-dump stand behind each other in one file, which `mariadb SCHEMA < dump.sql` restores whole: tables,
rows and views of one snapshot, then triggers, routines and events. So nothing in the body of a routine can be taken
for a row when the first part is read.
"""

from __future__ import annotations

import contextlib
import re
import subprocess

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpStream, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import MyClient, MySession, sql
from ansible_collections.diskominfo.sop.plugins.module_utils.my_content import (
    counters,
    read_globals,
    read_sequences,
    schema_bytes,
    table_list,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.my_objects import broken_views
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import OWN, require_server, schema_facts
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import Stderr
from ansible_collections.diskominfo.sop.plugins.module_utils.pipes import widen

#: the last line of a whole mariadb-dump
COMPLETED = b"-- Dump completed"
_TABLE = b"CREATE TABLE `"
_NEW_TABLE = b"\n" + _TABLE
_ROW = b"\nINSERT INTO `"
_COMMON = ["--default-character-set=utf8mb4", "--skip-dump-date", "--no-tablespaces", "--max-allowed-packet=1G"]
_DATA = [
    "--single-transaction",
    "--skip-extended-insert",
    "--hex-blob",
    "--skip-triggers",
    "--skip-lock-tables",
    "--quick",
    "--skip-add-locks",  # with them a table whose default is nextval() cannot be filled again
]
_OBJECTS = [
    "--no-data",
    "--no-create-info",
    "--skip-opt",
    "--skip-lock-tables",
    "--set-charset",
    "--triggers",
    "--routines",
    "--events",
]
#: the first client that writes the history of system-versioned tables
_HISTORY_SINCE = (10, 11)


def client_version(client: MyClient) -> tuple[int, int]:
    """Version of mariadb-dump."""
    child = client.spawn("mariadb-dump", ["--version"], stdout=subprocess.PIPE, client=False)
    out, _ = child.communicate()
    found = re.search(rb"(?:Distrib|from) (\d+)\.(\d+)", out)
    if found is None:
        raise SopError(f"{client.label}: mariadb-dump does not tell its version; install MariaDB's own client programs")
    return int(found.group(1)), int(found.group(2))


def require_dumpable(session: MySession, schema: str) -> None:
    """SopError naming what would make a dump of ``schema`` wrong or impossible."""
    label = session.client.label
    if schema_facts(session, schema) is None:
        raise SopError(f"{label}: no schema {schema} on this server; correct the register or restore it")
    listed = table_list(session, schema)
    for table in listed:
        if any(ord(character) < 32 or character == "\x7f" for character in table["name"]):
            raise SopError(f"{label}: table {table['name']!r} has a control character in its name; rename it")
    ours = session.column(
        sql(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {s} AND LEFT(TABLE_NAME, 6) = {own}",
            s=schema,
            own=OWN,
        )
    )
    if ours:
        raise SopError(f"{label}: {schema} has a table {ours[0]}, a name that is kept for restores; rename it")
    foreign = [f"{table['name']} ({table['engine'] or 'unusable'})" for table in listed if table["engine"] != "InnoDB"]
    if foreign:
        raise SopError(
            f"{label}: {schema} has tables that are not InnoDB, which no consistent dump can read while it is written to: "
            f"{', '.join(foreign[:10])}; convert each with ALTER TABLE … ENGINE=InnoDB"
        )
    broken = broken_views(session, schema)
    if broken:
        raise SopError(
            f"{label}: {schema} has views that do not work: {'; '.join(broken[:5])}; mend or drop them, a dump would end there"
        )
    versioned = [table["name"] for table in listed if table["type"] == "SYSTEM VERSIONED"]
    if versioned and client_version(session.client) < _HISTORY_SINCE:
        raise SopError(
            f"{label}: {schema} has system-versioned tables ({', '.join(versioned[:5])}), and this mariadb-dump would leave "
            f"out their history; install the client programs of MariaDB {_HISTORY_SINCE[0]}.{_HISTORY_SINCE[1]} or newer"
        )
    precise = session.column(
        sql(
            "SELECT DISTINCT TABLE_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {s} AND DATA_TYPE = 'bigint' "
            "AND GENERATION_EXPRESSION = 'ROW START'",
            s=schema,
        )
    )
    if precise:
        raise SopError(
            f"{label}: {', '.join(precise[:5])} keep history by transaction numbers, which have no meaning on another "
            "server; use timestamp(6) columns for the period"
        )


class RowCounter:
    """Counts the rows of each table in a dump's first part as its bytes pass; a row is one line."""

    def __init__(self) -> None:
        self.tables: Json = {}
        self._rest = b"\n"
        self._table = ""

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        text = self._rest + data
        cut = text.rfind(b"\n")
        # the line break that begins the unfinished line is kept with it: the marks begin with one
        self._rest = text[cut:]
        position = 0
        while True:  # by position: every byte of the dump passes here, and each slice would copy a megabyte
            start = text.find(_NEW_TABLE, position, cut)
            self._count(text, position, cut if start < 0 else start)
            if start < 0:
                break
            end = text.find(b"\n", start + 1, cut)
            position = cut if end < 0 else end
            self._table = name_at(text[start + 1 : position], len(_TABLE))
            self.tables[self._table] = {"rows": 0, "checksum": None}

    def _count(self, text: bytes, start: int, end: int) -> None:
        found = text.count(_ROW, start, end)
        if found:
            self.tables[self._table]["rows"] += found


def name_at(line: bytes, start: int) -> str:
    """The name whose text begins at ``start`` behind its opening backtick."""
    found = re.compile(rb"((?:[^`]|``)+)`").match(line, start)
    if found is None:
        raise SopError(f"a line of the dump has no name where one belongs ({line[:60]!r}); choose another backup")
    return found.group(1).decode("utf-8", "surrogateescape").replace("``", "`")


class MyDumpStream(DumpStream):
    """Both runs of mariadb-dump, one behind the other."""

    def __init__(self, client: MyClient, schema: str) -> None:
        self._client = client
        self._schema = schema
        self._errors = Stderr()
        self._closed = False
        self._ended = False
        self._counter = RowCounter()
        self._tail = b""
        try:
            with MySession(client) as session:
                server = require_server(session)
                require_dumpable(session, schema)
                self._globals = read_globals(session, schema, server)
            history = ["--dump-history"] if self._globals["history"] else []
            self._parts = [[*_DATA, *history], _OBJECTS]
            self._part = 0
            self._child = self._start()
        except BaseException:
            self._errors.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of the mariadb-dump that is running."""
        return self._child.pid

    def _start(self) -> subprocess.Popen[bytes]:
        args = [*_COMMON, *self._parts[self._part], "--", self._schema]
        child = self._client.spawn("mariadb-dump", args, stdout=subprocess.PIPE, stderr=self._errors.fd)
        if child.stdout is not None:
            widen(child.stdout)
        return child

    def read(self, size: int) -> bytes:
        """See :class:`DumpStream`."""
        while not self._ended and self._child.stdout is not None:
            data = self._child.stdout.read(size)
            if data:
                self._tail = (self._tail + data[-200:])[-200:]
                if self._part == 0:
                    self._counter.feed(data)
                return data
            self._check_part()
            if self._part + 1 == len(self._parts):
                self._ended = True
            else:
                self._part += 1
                self._tail = b""
                self._child.stdout.close()
                self._child = self._start()
        return b""

    def _check_part(self) -> None:
        """SopError unless the run that has just ended is whole."""
        code = self._child.wait()
        label = self._client.label
        if code != 0:
            how = f"was killed by signal {-code}" if code < 0 else f"exited {code}"
            raise SopError(
                f"{label}: mariadb-dump {how} ({self._errors.line()}); nothing was stored that counts, mend the cause and "
                "run the backup again"
            )
        if not self._tail.rstrip().endswith(COMPLETED):
            raise SopError(f"{label}: mariadb-dump ended without '{COMPLETED.decode()}'; nothing counts, run again")

    def finish(self) -> Json:
        """See :class:`DumpStream`."""
        try:
            if not self._ended and self.read(1):
                raise SopError(f"{self._client.label}: the dump was not read to its end; nothing counts")
            with MySession(self._client) as session:
                require_dumpable(session, self._schema)
                after = read_globals(session, self._schema)
                listed = table_list(session, self._schema)
                sequences = read_sequences(session, self._schema, listed)
                size = schema_bytes(session, self._schema)
            self._require_unchanged(after, listed)
            return {
                "tables": self._counter.tables,
                "sequences": sequences,
                "auto_increment": counters(listed),
                "bytes": size,
                "globals": self._globals,
            }
        finally:
            self._close()

    def _require_unchanged(self, after: Json, listed: list[Json]) -> None:
        """Definitions obey no snapshot: SopError when they were changed while the dump was made."""
        one, two = self._globals["digests"], after["digests"]
        changed = sorted(name for name in {*one, *two} if one.get(name) != two.get(name))
        tables = {table["name"] for table in listed if table["type"] != "SEQUENCE"}
        changed += [f"table {name}" for name in sorted(tables ^ set(self._counter.tables))]
        if changed:
            raise SopError(
                f"{self._client.label}: {', '.join(changed[:5])} changed while {self._schema} was dumped; nothing was "
                "stored that counts, run the backup again when nobody changes definitions"
            )

    def abort(self) -> None:
        """See :class:`DumpStream`."""
        with contextlib.suppress(Exception):
            self._close()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._errors.close()
