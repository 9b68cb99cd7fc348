# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Facts about a MariaDB server and its schemas, and the names and marks of a case's own schemas."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import (
    OLDEST,
    MyClient,
    MySession,
    quote_name,
    sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import case_name
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_stage import SPACE_RESERVE, SpaceGuard

#: begins the names of our own tables in a case's schemas
OWN = "__sop_"
#: what lies in a schema and is moved by RENAME TABLE
MOVABLE = "('BASE TABLE', 'SYSTEM VERSIONED', 'SEQUENCE')"
_NEEDED = (
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "INDEX", "REFERENCES", "LOCK TABLES", "EXECUTE",
    "CREATE VIEW", "SHOW VIEW", "CREATE ROUTINE", "ALTER ROUTINE", "EVENT", "TRIGGER", "CREATE USER", "PROCESS",
)  # fmt: skip
# what a server writes a definition to before it takes its name
_HALF_WRITTEN = re.compile(r".+\.(?:TRG|TRN|frm|par|opt)~")
# SUPER stands for these on servers older than 10.11
_NEEDED_OR_SUPER = ("SET USER", "CONNECTION ADMIN")


def version_of(text: str) -> tuple[int, int]:
    """(10, 11) of ``10.11.6-MariaDB-0+deb12u1``; (0, 0) for what is no MariaDB."""
    found = re.match(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.", text)
    return (int(found.group(1)), int(found.group(2))) if found and "MariaDB" in text else (0, 0)


def require_server(session: MySession) -> Json:
    """{"version", "lower_case_names"}; SopError unless this is a MariaDB that we can work with, as an administrator."""
    client = session.client
    facts: Json = session.value(
        "SELECT JSON_OBJECT('version', VERSION(), 'lower_case_names', @@lower_case_table_names, 'user', CURRENT_USER())"
    )
    if "MariaDB" not in facts["version"]:
        raise SopError(
            f"{client.label}: {facts['version']} is MySQL or something else, not MariaDB; the engine mariadb needs "
            f"MariaDB {OLDEST[0]}.{OLDEST[1]} or newer, move the database to one"
        )
    if version_of(facts["version"]) < OLDEST:
        raise SopError(
            f"{client.label}: MariaDB {facts['version']} is too old; {OLDEST[0]}.{OLDEST[1]} is needed, upgrade the server"
        )
    user, _, host = facts["user"].rpartition("@")
    grantee = f"{_plain_quoted(user)}@{_plain_quoted(host)}"
    held = session.run(
        sql(
            "SELECT PRIVILEGE_TYPE, IS_GRANTABLE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {g}", g=grantee
        )
    )
    names = {row[0] for row in held}
    missing = [name for name in _NEEDED if name not in names]
    missing += [name for name in _NEEDED_OR_SUPER if name not in names and "SUPER" not in names]
    if missing or not any(row[1] == "YES" for row in held):
        named = ", ".join(missing) or "GRANT OPTION"
        raise SopError(
            f"{client.label}: {facts['user']} lacks {named} on *.*; use root, or GRANT ALL ON *.* TO it WITH GRANT OPTION"
        )
    return facts


def _plain_quoted(text: str) -> str:
    return f"'{text}'"


def schema_facts(session: MySession, name: str) -> Json | None:
    """{"name", "charset", "collation", "comment"} of a schema, or None."""
    found: Json | None = session.value(
        sql(
            "SELECT JSON_OBJECT('name', SCHEMA_NAME, 'charset', DEFAULT_CHARACTER_SET_NAME, "
            "'collation', DEFAULT_COLLATION_NAME, 'comment', SCHEMA_COMMENT) "
            "FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {name}",
            name=name,
        )
    )
    return found


def movable(session: MySession, schema: str) -> list[str]:
    """Tables and sequences of a schema, ours left out."""
    names = session.column(
        sql(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} "
            "AND TABLE_TYPE IN {movable:raw} ORDER BY TABLE_NAME",
            schema=schema,
            movable=MOVABLE,
        )
    )
    return [name for name in names if not name.startswith(OWN)]


def has_table(session: MySession, schema: str, table: str) -> bool:
    """Whether ``schema`` has ``table``."""
    found = session.run(
        sql("SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {s} AND TABLE_NAME = {t}", s=schema, t=table)
    )
    return bool(found)


def create_schema(session: MySession, name: str, charset: str, collation: str, comment: str) -> None:
    """An empty schema."""
    session.run(
        sql(
            "CREATE DATABASE {name:name} CHARACTER SET {charset} COLLATE {collation} COMMENT {comment}",
            name=name,
            charset=charset,
            collation=collation,
            comment=comment,
        )
    )


def mark_schema(session: MySession, name: str, comment: str) -> None:
    """Give a schema another comment."""
    session.run(sql("ALTER DATABASE {name:name} COMMENT {comment}", name=name, comment=comment))


def drop_schema(session: MySession, name: str) -> None:
    """Drop one of our own schemas, if it is there; sessions in it are ended."""
    if schema_facts(session, name) is None:
        return
    for number in session.column(sql("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = {name}", name=name)):
        kill(session, int(number))
    # a foreign key that leads from one of its tables to another must not decide their order
    session.run("SET SESSION foreign_key_checks = 0")
    _remove_half_written(session, name)
    session.run(f"DROP DATABASE IF EXISTS {quote_name(name)}")
    session.run("SET SESSION foreign_key_checks = 1")


def _remove_half_written(session: MySession, name: str) -> None:
    """Remove the definitions of one of our schemas that a server was killed at, half-way through writing or dropping them.

    The server knows them no more and leaves them lie, and DROP DATABASE ends in error 1010 for ever, having taken the
    schema's comment with it, by which we know what it is. On another machine's server that error stands.
    """
    if session.client.remote:
        return
    # HEX, or the name would be turned back into what it was on its way to us
    data, encoded = session.run(sql("SELECT @@datadir, HEX(CONVERT({name} USING filename))", name=name))[0]
    folder = os.path.join(data, bytes.fromhex(encoded).decode("ascii"))
    triggers = sql(
        "SELECT HEX(CONVERT(TRIGGER_NAME USING filename)) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {name}",
        name=name,
    )
    known = {bytes.fromhex(encoded).decode("ascii") for encoded in session.column(triggers)}
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            stem, _, kind = entry.name.rpartition(".")
            rest = bool(_HALF_WRITTEN.fullmatch(entry.name)) or (kind == "TRN" and stem not in known)
            if rest and stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode):
                os.unlink(entry.path)


def kill(session: MySession, number: int) -> None:
    """End a session, also when it has ended by itself (KILL of a gone id would be an error that ends ours)."""
    session.run(
        "EXECUTE IMMEDIATE 'BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; "
        f"KILL CONNECTION {int(number)}; END'"
    )


def hold(session: MySession, what: str, seconds: int = 60) -> None:
    """Have ``what`` to ourselves for as long as the session lasts; SopError when another session keeps it."""
    name = f"sop_{hashlib.sha256(what.encode()).hexdigest()[:24]}"
    if session.column(sql("SELECT GET_LOCK({name}, {s:raw})", name=name, s=int(seconds)))[0] != "1":
        raise SopError(
            f"{session.client.label}: another session is still at work on the {what} after {seconds} s; SHOW PROCESSLIST "
            "names it, wait for it or KILL it, then run again"
        )


def server_guard(client: MyClient, dataset: Json) -> SpaceGuard:
    """The guard of the server's data directory, when the server is on this host."""
    path = None
    if not client.remote:
        with MySession(client) as session:
            path = session.column("SELECT @@datadir")[0]
    return SpaceGuard(client.label, path, int(dataset.get("reserve_bytes") or SPACE_RESERVE))


class Marks:
    """The names of a case's schemas beside ``live``, and the comments that say what they are."""

    def __init__(self, live: str, case: str) -> None:
        self.live = live
        self.case = case
        self.shadow = case_name(live, "shadow", case)
        self.before = case_name(live, "before", case)
        self.loading = f"sop: loading for {case}"
        self.staged = f"sop: staged for {case}, complete"
        self.kept = f"sop: kept for {case}"
        self.placed = f"sop: placed for {case}, complete"

    def under_way(self, verb: str) -> str:
        """The comment of a schema that is just being filled by ``verb`` (swap, revert)."""
        return f"sop: {verb} for {self.case} under way"
