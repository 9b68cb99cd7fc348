# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What a MariaDB schema holds: rows, checksums, sequences, counters, and the globals its dump does not carry."""

from __future__ import annotations

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_accounts import account_list, schema_grants
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import MySession, quote_name, sql
from ansible_collections.diskominfo.sop.plugins.module_utils.my_objects import digest, read_objects
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import OWN, require_server, schema_facts

_COLUMNS = """
SELECT JSON_OBJECT('table', TABLE_NAME, 'column', COLUMN_NAME, 'type', DATA_TYPE,
  'generated', COALESCE(GENERATION_EXPRESSION, '')) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {schema}
 ORDER BY TABLE_NAME, ORDINAL_POSITION
"""
_TABLES = """
SELECT JSON_OBJECT('name', TABLE_NAME, 'type', TABLE_TYPE, 'engine', COALESCE(ENGINE, ''),
  'auto_increment', AUTO_INCREMENT) FROM information_schema.TABLES
 WHERE TABLE_SCHEMA = {schema} AND TABLE_TYPE <> 'VIEW' ORDER BY TABLE_NAME
"""
_BYTES = """
SELECT CAST(COALESCE(SUM(DATA_LENGTH + INDEX_LENGTH + COALESCE(DATA_FREE, 0)), 0) AS UNSIGNED)
  FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema} AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')
"""
_PERIOD = ("ROW START", "ROW END")
# Each is hashed by itself: what CONCAT returns may not be longer than max_allowed_packet.
_LONG = frozenset((
    "tinyblob", "blob", "mediumblob", "longblob", "tinytext", "text", "mediumtext", "longtext", "json", "geometry", "point",
    "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection",
))  # fmt: skip


def table_list(session: MySession, schema: str) -> list[Json]:
    """{"name", "type", "engine", "auto_increment"} of every table and sequence, ours left out."""
    found: list[Json] = session.values(sql(_TABLES, schema=schema))
    return [table for table in found if not table["name"].startswith(OWN)]


def schema_bytes(session: MySession, schema: str) -> int:
    """Bytes of the tables' files, as InnoDB counts them."""
    return int(session.column(sql(_BYTES, schema=schema))[0])


def read_content(session: MySession, schema: str, checksums: bool) -> Json:
    """Tables (rows, checksum), sequences, counters and size, as the session's transaction sees them.

    Rows of a system-versioned table are all its rows, history included, as the dump has them. A checksum is the sum of
    a hash of each row, so the order of rows is nothing to it; computed columns are left out.
    """
    listed = table_list(session, schema)
    columns: dict[str, list[Json]] = {}
    for column in session.values(sql(_COLUMNS, schema=schema)):
        columns.setdefault(column["table"], []).append(column)
    tables: Json = {}
    for table in (each for each in listed if each["type"] != "SEQUENCE"):
        name = table["name"]
        versioned = table["type"] == "SYSTEM VERSIONED"
        source = f"{quote_name(schema)}.{quote_name(name)}" + (" FOR SYSTEM_TIME ALL" if versioned else "")
        if checksums:
            row = session.run(
                sql(
                    "SELECT COUNT(*), {sum:raw} FROM {source:raw}",
                    sum=_checksum(columns[name], versioned),
                    source=source,
                )
            )[0]
            tables[name] = {"rows": int(row[0]), "checksum": row[1]}
        else:
            tables[name] = {
                "rows": int(session.column(sql("SELECT COUNT(*) FROM {source:raw}", source=source))[0]),
                "checksum": None,
            }
    return {
        "tables": tables,
        "sequences": read_sequences(session, schema, listed),
        "auto_increment": counters(listed),
        "bytes": schema_bytes(session, schema),
    }


def read_sequences(session: MySession, schema: str, listed: list[Json]) -> Json:
    """Sequences do not obey snapshots: under writing their values are near those of the dump, not the same."""
    values: Json = {}
    for table in (each for each in listed if each["type"] == "SEQUENCE"):
        query = "SELECT next_not_cached_value, cycle_count FROM {schema:name}.{name:name}"
        row = session.run(sql(query, schema=schema, name=table["name"]))[0]
        values[table["name"]] = {"next": int(row[0]), "cycles": int(row[1])}
    return values


def counters(listed: list[Json]) -> Json:
    """AUTO_INCREMENT of each table that has one."""
    return {each["name"]: each["auto_increment"] for each in listed if each["auto_increment"] is not None}


def _checksum(columns: list[Json], versioned: bool) -> str:
    parts = [_part(column) for column in columns if not column["generated"] or column["generated"] in _PERIOD]
    if versioned and not any(column["generated"] in _PERIOD for column in columns):
        parts += ["row_start", "row_end"]  # there, though not listed
    row = ", ".join(f"COALESCE(CONCAT(LENGTH({part}), ':', {part}), 'N')" for part in parts) or "''"
    # 60 bits of the row's hash; the sum is exact, because it is a decimal
    return f"COALESCE(SUM(CAST(CONV(LEFT(MD5(CONCAT({row})), 15), 16, 10) AS UNSIGNED)), 0)"


def _part(column: Json) -> str:
    name = quote_name(column["column"])
    if column["type"] in _LONG:
        return f"MD5({name})"
    return f"CAST({name} AS BINARY)" if column["type"] != "bit" else f"CAST({name} + 0 AS BINARY)"


def read_globals(session: MySession, schema: str, server: Json | None = None) -> Json:
    """What belongs to the schema but does not stand among its rows; never a password or its hash."""
    server = server or require_server(session)
    facts = schema_facts(session, schema)
    if facts is None:
        raise SopError(f"{session.client.label}: no schema {schema} on this server; correct the register or restore it")
    objects = read_objects(session, schema)
    listed = table_list(session, schema)
    grants = schema_grants(session, schema)
    definers = {(item["definer"]["user"], item["definer"]["host"]) for item in objects}
    accounts = account_list(session)
    return {
        "engine": "mariadb",
        "version": server["version"],
        "lower_case_names": server["lower_case_names"],
        "schema": facts,
        "objects": objects,
        "digests": digest(objects),
        "history": any(table["type"] == "SYSTEM VERSIONED" for table in listed),
        "grants": grants,
        "definers": [
            {"user": user, "host": host, "role": bool(accounts.get((user, host), {}).get("role"))}
            for user, host in sorted(definers)
        ],
    }
