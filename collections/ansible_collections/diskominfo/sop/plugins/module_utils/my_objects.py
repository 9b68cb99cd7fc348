# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Views, routines, triggers and events: read as the server writes them, checked, dropped and made again.

They are never made from the dump's text. Each is one CREATE statement of a kind in the list below, for a name without
another schema, and it is sent by EXECUTE IMMEDIATE, which takes one statement: a body cannot carry a second one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_accounts import in_mode_of, quote_account
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import (
    MySession,
    hex_text,
    quote_name,
    quote_text,
    sql,
)

#: the order in which they are made
KINDS = ("routine", "view", "trigger", "event")
_QUOTED = r"(?:`(?:[^`]|``)+`|\"(?:[^\"]|\"\")+\")"
_ACCOUNT = rf"(?P<user>`(?:[^`]|``)*`|\"(?:[^\"]|\"\")*\")(?:@(?P<host>{_QUOTED}|``|\"\"))?"
_IDENT = rf"(?:{_QUOTED}|[\w$]+)"
_GAP = r"(?:\s|/\*(?![!M])(?:[^*]|\*(?!/))*\*/|--\s[^\n]*\n|\#[^\n]*\n)"
_TEXT = r"'(?:[^'\\]|\\.|'')*'"
_MOMENT = rf"(?:{_TEXT})"
_HEADS = {
    "view": rf"CREATE ALGORITHM=(?:UNDEFINED|MERGE|TEMPTABLE) DEFINER={_ACCOUNT} SQL SECURITY (?:DEFINER|INVOKER) "
    rf"VIEW (?P<name>{_QUOTED}) AS ",
    "routine": rf"CREATE DEFINER={_ACCOUNT} (?P<type>AGGREGATE FUNCTION|FUNCTION|PROCEDURE|PACKAGE BODY|PACKAGE) "
    rf"(?P<name>{_QUOTED})(?=[\s(])",
    "trigger": rf"CREATE DEFINER={_ACCOUNT}{_GAP}+TRIGGER{_GAP}+(?:IF{_GAP}+NOT{_GAP}+EXISTS{_GAP}+)?"
    rf"(?:(?P<schema>{_IDENT}){_GAP}*\.{_GAP}*)?(?P<name>{_IDENT}){_GAP}+(?:BEFORE|AFTER){_GAP}+"
    rf"(?:INSERT|UPDATE|DELETE){_GAP}+ON{_GAP}*(?:(?P<schema2>{_IDENT}){_GAP}*\.{_GAP}*)?(?P<table>{_IDENT}){_GAP}*FOR{_GAP}+EACH{_GAP}+ROW\b",
    "event": rf"CREATE DEFINER={_ACCOUNT} EVENT (?P<name>{_QUOTED}) ON SCHEDULE "
    rf"(?:AT {_MOMENT}|EVERY (?:-?\d+|{_TEXT}) [A-Z_]+(?: STARTS {_MOMENT})?(?: ENDS {_MOMENT})?) "
    r"ON COMPLETION (?:NOT )?PRESERVE (?P<status>ENABLE|DISABLE ON SLAVE|DISABLE) ",
}
_PATTERNS = {kind: re.compile(text, re.IGNORECASE | re.DOTALL) for kind, text in _HEADS.items()}
_CHARSET = re.compile(r"[a-z0-9_]{2,64}", re.IGNORECASE)
_RESET = "SET NAMES utf8mb4"
_RESET_SESSION = "SET SESSION sql_mode = '', time_zone = '+00:00'"


def _plain(name: str) -> str:
    """The name that a quoted identifier stands for."""
    if name[:1] in ("`", '"'):
        return name[1:-1].replace(name[0] * 2, name[0])
    return name


def checked(item: Json, schema: str, label: str) -> re.Match[str]:
    """The head of the object's statement; SopError unless it is one CREATE of its kind and name in this schema."""
    kind, text = str(item.get("kind")), str(item.get("text"))
    found = _PATTERNS[kind].match(text) if kind in _PATTERNS else None
    what = f"{kind} {str(item.get('name'))[:64]}"
    if found is None:
        raise SopError(
            f"{label}: the definition of {what} does not begin as MariaDB writes one; it was refused. "
            "Make it again in the live schema without comments in its head, and back up again"
        )
    named = found.groupdict()
    others = {_plain(named[key]) for key in ("schema", "schema2") if named.get(key)}
    same = schema.lower() if item.get("fold") else schema
    if {name.lower() if item.get("fold") else name for name in others} - {same}:
        raise SopError(f"{label}: {what} names schema {', '.join(sorted(others))} in its head; it was refused")
    definer = item.get("definer") or {}
    said = (_plain(named["user"]), _plain(named.get("host") or "``"))
    if _plain(named["name"]) != item["name"] or said != (definer.get("user"), definer.get("host")):
        raise SopError(f"{label}: {what} is not what its definition says; it was refused, choose another backup")
    for key in ("client", "collation", "database_collation"):
        if not _CHARSET.fullmatch(str(item.get(key))):
            raise SopError(f"{label}: {what} has {key} {str(item.get(key))[:40]!r}; it was refused")
    return found


# -- reading -------------------------------------------------------------------------------------------------------


def read_objects(session: MySession, schema: str) -> list[Json]:
    """Every object of ``schema`` in the order of making, as the server writes it; the session's schema is ``schema``
    afterwards."""
    session.run(f"USE {quote_name(schema)}")
    label = session.client.label
    fold = session.column("SELECT @@lower_case_table_names")[0] != "0"
    found = [
        *_routines(session, schema),
        *_views(session, schema),
        *_triggers(session, schema),
        *_events(session, schema),
    ]
    for item in found:
        item["fold"] = fold
        head = _PATTERNS[item["kind"]].match(item["text"])
        if head is not None:
            item["definer"] = {"user": _plain(head.group("user")), "host": _plain(head.group("host") or "``")}
        checked(item, schema, label)
    return found


def _routines(session: MySession, schema: str) -> list[Json]:
    rows = session.run(
        sql(
            "SELECT type, name FROM mysql.proc WHERE db = {schema} "
            "ORDER BY FIELD(type, 'FUNCTION', 'PROCEDURE', 'PACKAGE', 'PACKAGE BODY'), name",
            schema=schema,
        )
    )
    found = []
    for kind, name in rows:
        shown = session.run(sql("SHOW CREATE {kind:raw} {name:name}", kind=kind, name=name))[0]
        found.append(
            {
                "kind": "routine",
                "type": kind,
                "name": name,
                "sql_mode": shown[1],
                "text": shown[2],
                "client": shown[3],
                "collation": shown[4],
                "database_collation": shown[5],
            }
        )
    return found


def _views(session: MySession, schema: str) -> list[Json]:
    found = []
    # SHOW FULL TABLES does not open the views, so that a broken one does not end the session
    names = [row[0] for row in session.run("SHOW FULL TABLES WHERE Table_type = 'VIEW'")]
    collation = session.column("SELECT @@collation_database")[0]
    for name in names:
        columns = session.column(
            sql(
                "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {schema} "
                "AND TABLE_NAME = {name} ORDER BY ORDINAL_POSITION",
                schema=schema,
                name=name,
            )
        )
        shown = session.run(sql("SHOW CREATE VIEW {name:name}", name=name))[0]
        found.append(
            {
                "kind": "view",
                "name": name,
                "sql_mode": "",
                "text": shown[1],
                "client": shown[2],
                "collation": shown[3],
                "database_collation": collation,
                "columns": columns,
            }
        )
    return found


def _triggers(session: MySession, schema: str) -> list[Json]:
    rows = session.run(
        sql(
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {schema} "
            "ORDER BY EVENT_OBJECT_TABLE, EVENT_MANIPULATION, ACTION_TIMING, ACTION_ORDER",
            schema=schema,
        )
    )
    found = []
    for name, table in rows:
        shown = session.run(sql("SHOW CREATE TRIGGER {name:name}", name=name))[0]
        found.append(
            {
                "kind": "trigger",
                "name": name,
                "table": table,
                "sql_mode": shown[1],
                "text": shown[2],
                "client": shown[3],
                "collation": shown[4],
                "database_collation": shown[5],
            }
        )
    return found


def _events(session: MySession, schema: str) -> list[Json]:
    rows = session.run(
        sql(
            "SELECT EVENT_NAME, STATUS FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {schema} ORDER BY EVENT_NAME",
            schema=schema,
        )
    )
    found = []
    for name, status in rows:
        shown = session.run(sql("SHOW CREATE EVENT {name:name}", name=name))[0]
        found.append(
            {
                "kind": "event",
                "name": name,
                "enabled": status == "ENABLED",
                "sql_mode": shown[1],
                "time_zone": shown[2],
                "text": shown[3],
                "client": shown[4],
                "collation": shown[5],
                "database_collation": shown[6],
            }
        )
    return found


def broken_views(session: MySession, schema: str) -> list[str]:
    """``name: why`` of every view that cannot be used; one of them ends a whole mariadb-dump."""
    names = [row[0] for row in session.run(sql("SHOW FULL TABLES FROM {s:name} WHERE Table_type = 'VIEW'", s=schema))]
    found: dict[str, str] = {}
    for start in range(0, len(names), 100):
        listed = ", ".join(f"{quote_name(schema)}.{quote_name(name)}" for name in names[start : start + 100])
        for table, _op, kind, text in session.run(f"CHECK TABLE {listed}"):
            if kind.lower() == "error":
                found.setdefault(table.split(".", 1)[1], text)
    return [f"{name} ({text})" for name, text in sorted(found.items())]


def digest(objects: Iterable[Json]) -> dict[str, str]:
    """``kind name`` → digest of the definition."""
    return {
        f"{item['kind']} {item['name']}": hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()
        for item in objects
    }


def naming(objects: Iterable[Json], schema: str) -> list[str]:
    """Objects whose definitions name ``schema`` explicitly: in another schema they would reach back into it."""
    pattern = re.compile(rf"(?<![\w$])[`\"]?{re.escape(schema)}[`\"]?\s*\.", re.IGNORECASE)
    return [f"{item['kind']} {item['name']}" for item in objects if pattern.search(item["text"])]


def standing_alone(objects: list[Json], schema: str) -> tuple[list[Json], list[str]]:
    """(objects that can be made in another schema, names of the others): those that name ``schema``, and views on them."""
    left = set(naming(objects, schema))
    while True:
        gone = {item["name"] for item in objects if f"{item['kind']} {item['name']}" in left}
        more = {
            f"view {item['name']}"
            for item in objects
            if item["kind"] == "view" and any(quote_name(name) in item["text"] for name in gone - {item["name"]})
        }
        if more <= left:
            return [item for item in objects if f"{item['kind']} {item['name']}" not in left], sorted(left)
        left |= more


def qualified(item: Json) -> bool:
    """Whether a trigger's head names its schema."""
    head = _PATTERNS["trigger"].match(item["text"])
    return head is None or bool(head.group("schema") or head.group("schema2"))


# -- dropping and making -------------------------------------------------------------------------------------------


def drop_all(session: MySession, schema: str, triggers: Iterable[str] = ()) -> None:
    """Drop every view, routine, trigger and event of ``schema``; idempotent.

    ``triggers``: names that may be there too. A server killed in DROP TRIGGER can leave the file of a trigger's name: it
    lists none, lets none of that name be made, and drops it when it is asked to.
    """
    place = quote_name(schema)
    session.run(f"USE {place}")
    for name in session.column(
        sql("SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {s}", s=schema)
    ):
        session.run(f"DROP EVENT IF EXISTS {place}.{quote_name(name)}")
    listed = sql("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {s}", s=schema)
    for name in dict.fromkeys([*session.column(listed), *triggers]):
        session.run(f"DROP TRIGGER IF EXISTS {place}.{quote_name(name)}")
    views = [row[0] for row in session.run("SHOW FULL TABLES WHERE Table_type = 'VIEW'")]
    for start in range(0, len(views), 100):
        session.run(
            "DROP VIEW IF EXISTS " + ", ".join(f"{place}.{quote_name(name)}" for name in views[start : start + 100])
        )
    # a package's body goes with the package
    for kind, name in session.run(sql("SELECT type, name FROM mysql.proc WHERE db = {s} ORDER BY type DESC", s=schema)):
        session.each(in_mode_of(kind, [f"DROP {kind} IF EXISTS {place}.{quote_name(name)}"]))


def make_all(session: MySession, schema: str, objects: list[Json], *, ours: bool = False) -> list[str]:
    """Make ``objects`` in ``schema``, where no object is; every event is made disabled. The names of those events that
    are to be enabled.

    ``ours``: views and routines are made as our own account's, for a schema on which their definers have no privileges.
    """
    label = session.client.label
    if ours:
        (whose,) = session.column("SELECT CURRENT_USER()")
        objects = [_owned(item, str(whose), schema, label) for item in objects]
    for item in objects:  # all before the first
        checked(item, schema, label)
    session.run(f"USE {quote_name(schema)}")
    own = session.column("SELECT @@collation_database")[0]
    ordered = [item for kind in KINDS for item in objects if item["kind"] == kind]
    # one view may stand on another: each is first a placeholder with its columns, as mariadb-dump does it
    placeholders = [item for item in ordered if item["kind"] == "view"]
    for item in placeholders:
        columns = ", ".join(f"NULL AS {quote_name(name)}" for name in item["columns"]) or "1"
        session.run(f"CREATE OR REPLACE SQL SECURITY INVOKER VIEW {quote_name(item['name'])} AS SELECT {columns}")
    try:
        for item in ordered:
            if item["database_collation"] != own:  # an object remembers its schema's collation at the time
                session.run(f"ALTER DATABASE {quote_name(schema)} COLLATE {item['database_collation']}")
                session.run(f"USE {quote_name(schema)}")
                own = item["database_collation"]
            _make(session, item, schema, label)
    except SopError as error:
        raise SopError(f"{error}; it happened at {item['kind']} {item['name']} of {schema}") from error
    return [item["name"] for item in ordered if item["kind"] == "event" and item["enabled"]]


def _owned(item: Json, account: str, schema: str, label: str) -> Json:
    """A view or routine with another definer: making a view asks what its own definer, and those of the routines it calls,
    may do in this schema."""
    if item["kind"] not in {"view", "routine"}:
        return item
    head, text = checked(item, schema, label), str(item["text"])
    user, _, host = account.rpartition("@")
    definer = f"{quote_name(user)}@{quote_name(host)}"
    end = head.end("host") if head.group("host") else head.end("user")
    return {**item, "definer": {"user": user, "host": host}, "text": text[: head.start("user")] + definer + text[end:]}


def _make(session: MySession, item: Json, schema: str, label: str) -> None:
    head = checked(item, schema, label)
    text = str(item["text"])
    if item["kind"] == "view":
        text = "CREATE OR REPLACE" + text[len("CREATE") :]
    elif item["kind"] == "event":
        text = text[: head.start("status")] + "DISABLE" + text[head.end("status") :]
    zone = f", time_zone = {quote_text(item['time_zone'])}" if item["kind"] == "event" else ""
    session.each(
        (
            f"SET @sop_text = {hex_text(text)}",
            f"SET SESSION sql_mode = {quote_text(item['sql_mode'])}{zone}",
            f"SET SESSION character_set_client = {item['client']}, collation_connection = {item['collation']}",
            "EXECUTE IMMEDIATE @sop_text",
            _RESET,
            _RESET_SESSION,
        )
    )


def set_event(session: MySession, schema: str, name: str, enabled: bool) -> None:
    """Enable or disable an event that is there, keeping its definer and character sets (ALTER EVENT would make the
    altering account its definer)."""
    found: Json | None = session.value(
        sql(
            "SELECT JSON_OBJECT('definer', DEFINER, 'client', CHARACTER_SET_CLIENT, 'collation', COLLATION_CONNECTION, "
            "'status', STATUS) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {s} AND EVENT_NAME = {n}",
            s=schema,
            n=name,
        )
    )
    if found is None or (found["status"] == "ENABLED") == enabled:
        return
    user, _, host = found["definer"].rpartition("@")
    # an event whose only moment has passed meanwhile cannot be enabled any more; that is no reason to stop here
    statement = (
        f"ALTER DEFINER = {quote_account(user, host)} EVENT {quote_name(schema)}.{quote_name(name)} "
        f"{'ENABLE' if enabled else 'DISABLE'}"
    )
    body = f"BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1544, 1588 BEGIN END; {statement}; END"
    session.each(
        (
            f"SET @sop_text = {hex_text(body)}",
            f"SET SESSION character_set_client = {found['client']}, collation_connection = {found['collation']}",
            "EXECUTE IMMEDIATE @sop_text",
            _RESET,
        )
    )
