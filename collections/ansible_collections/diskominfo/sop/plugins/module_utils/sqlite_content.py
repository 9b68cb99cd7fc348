# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What an SQLite database holds, read so that a copy can be told from another."""

from __future__ import annotations

import os
import re
import sqlite3
import struct
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

from ansible_collections.diskominfo.sop.plugins.module_utils import ownership
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import Sum

T = TypeVar("T")

#: functions of the application that are stood in for
_MOST_FUNCTIONS = 100
#: as a name may be written after COLLATE, in whatever case it is looked up
_COLLATION = re.compile(r"""collate\s+("[^"]+"|\[[^]]+\]|`[^`]+`|'[^']+'|\w+)""", re.IGNORECASE)
_OWN_COLLATIONS = frozenset({"binary", "nocase", "rtrim"})


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


def content_of_file(path: str, checksums: bool, quick_check: bool) -> Json:
    """Content of the database file ``path``; SopError when it is not one, or not whole."""
    try:
        connection = connect(path)
        try:
            if quick_check:
                _quick_check(connection, path)
            connection.execute("BEGIN")
            content = with_stand_ins(connection, lambda: content_of(connection, checksums))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise unreadable(path, error) from error
    content["bytes"] = os.stat(path).st_size
    content["globals"]["owner"] = ownership.described(path)
    return content


def _quick_check(connection: sqlite3.Connection, path: str) -> None:
    (answer,) = with_stand_ins(connection, lambda: connection.execute("PRAGMA quick_check(1)").fetchone())
    if answer != b"ok":
        raise SopError(f"{path}: quick_check says {bytes(answer).decode('utf-8', 'replace')}; choose another backup")


def unreadable(path: str, error: sqlite3.Error) -> SopError:
    """Why ``path`` cannot be read, and what to do."""
    step = "restore it from a backup"
    if "not a database" in str(error):
        step = "if it is encrypted, register its folder with engine files; if it is damaged, restore it from a backup"
    return SopError(f"{path}: cannot be read as an SQLite database ({error}); nothing was stored or changed, {step}")


def with_stand_ins(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    """Do ``work`` although the schema names functions or collations that only the application has.

    None of our answers depends on them: rows are read in any order, and a function's result is stored or the same NULL
    on both sides.
    """
    _stand_in_for_collations(connection)
    for _each in range(_MOST_FUNCTIONS):
        try:
            return work()
        except sqlite3.OperationalError as error:
            found = re.search(r"(?:no such|unknown) function: (\w+)", str(error))
            if found is None:
                raise
            connection.create_function(found[1], -1, lambda *_values: None, deterministic=True)
    raise SopError(
        f"the database's schema names more than {_MOST_FUNCTIONS} functions of its application; register its folder with engine files"
    )


def _stand_in_for_collations(connection: sqlite3.Connection) -> None:
    names = set()
    for (statement,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql LIKE '%collate%'"):
        names |= {
            name.strip("\"`[]'").lower() for name in _COLLATION.findall(bytes(statement).decode("utf-8", "replace"))
        } - _OWN_COLLATIONS
    for name in names:
        connection.create_collation(name, lambda one, two: (one > two) - (one < two))
    if names:
        connection.execute("PRAGMA writable_schema = RESET")  # what was read without them is read again
