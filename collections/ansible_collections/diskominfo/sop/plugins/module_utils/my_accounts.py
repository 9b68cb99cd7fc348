# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Accounts, roles and grants of a MariaDB server: who can reach a schema, who may be a definer, what to grant again."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import MySession, quote_name, quote_text, sql

#: accounts that are never locked: the way in for whoever mends, and the server's own
_NEVER_LOCKED = frozenset(("root", "mysql", "mariadb.sys", "debian-sys-maint"))
# Bits of "access" in mysql.global_priv by which an account could change any schema: INSERT UPDATE DELETE CREATE DROP
# INDEX ALTER SUPER EXECUTE CREATE_VIEW CREATE_ROUTINE ALTER_ROUTINE EVENT TRIGGER DELETE_HISTORY
_WRITING = sum(1 << bit for bit in (1, 2, 3, 4, 5, 12, 13, 15, 18, 21, 23, 24, 26, 27, 29))
_PRIVILEGE = re.compile(r"[A-Z][A-Z ]{2,40}")
_PUBLIC = ("PUBLIC", "")
Account = tuple[str, str]

_ACCOUNTS = """
SELECT JSON_OBJECT('user', User, 'host', Host, 'role', COALESCE(JSON_VALUE(Priv, '$.is_role'), 0) IN ('true', '1'),
  'locked', COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) IN ('true', '1'),
  'access', CAST(COALESCE(JSON_VALUE(Priv, '$.access'), '0') AS CHAR)) FROM mysql.global_priv
"""
_REACHING = """
SELECT JSON_OBJECT('user', User, 'host', Host) FROM mysql.db WHERE {schema} LIKE Db
UNION SELECT JSON_OBJECT('user', User, 'host', Host) FROM mysql.tables_priv WHERE Db = {schema}
UNION SELECT JSON_OBJECT('user', User, 'host', Host) FROM mysql.columns_priv WHERE Db = {schema}
UNION SELECT JSON_OBJECT('user', User, 'host', Host) FROM mysql.procs_priv WHERE Db = {schema}
"""
_ROUTINE_GRANTS = """
SELECT JSON_OBJECT('user', User, 'host', Host, 'name', Routine_name, 'type', Routine_type, 'privileges',
  UPPER(Proc_priv)) FROM mysql.procs_priv WHERE Db = {schema} ORDER BY Routine_type, Routine_name, User, Host
"""
# The underscore of a name is a wildcard where it is not escaped, and both ways of writing are common.
_SCHEMA_GRANTS = """
SELECT JSON_OBJECT('grantee', GRANTEE, 'privilege', PRIVILEGE_TYPE, 'grantable', IS_GRANTABLE = 'YES')
  FROM information_schema.SCHEMA_PRIVILEGES WHERE REPLACE(REPLACE(TABLE_SCHEMA, '\\\\_', '_'), '\\\\%', '%') = {schema}
 ORDER BY 1
"""
_TABLE_GRANTS = """
SELECT JSON_OBJECT('grantee', GRANTEE, 'table', TABLE_NAME, 'privilege', PRIVILEGE_TYPE,
  'grantable', IS_GRANTABLE = 'YES') FROM information_schema.TABLE_PRIVILEGES WHERE TABLE_SCHEMA = {schema} ORDER BY 1
"""
_COLUMN_GRANTS = """
SELECT JSON_OBJECT('grantee', GRANTEE, 'table', TABLE_NAME, 'column', COLUMN_NAME, 'privilege', PRIVILEGE_TYPE,
  'grantable', IS_GRANTABLE = 'YES') FROM information_schema.COLUMN_PRIVILEGES WHERE TABLE_SCHEMA = {schema} ORDER BY 1
"""


def quote_account(user: str, host: str) -> str:
    """``user@host`` for SQL; a role has no host."""
    return f"{quote_text(user)}@{quote_text(host)}" if host else quote_name(user)


def account_list(session: MySession) -> dict[Account, Json]:
    """Every account and role of the server."""
    found: list[Json] = session.values(_ACCOUNTS)
    return {(entry["user"], entry["host"]): {**entry, "access": int(entry["access"])} for entry in found}


def writers(session: MySession, schema: str) -> list[Json]:
    """The accounts to be locked so that nobody can change ``schema``: those with any privilege of this schema, by
    themselves or a role, and those who may change all schemas; but no administrator of the machine, nor ourselves."""
    accounts = account_list(session)
    reaching = {(entry["user"], entry["host"]) for entry in session.values(sql(_REACHING, schema=schema))}
    reaching |= {key for key, entry in accounts.items() if entry["access"] & _WRITING}
    granted = session.run("SELECT User, Host, Role FROM mysql.roles_mapping")
    while True:
        more = {(user, host) for user, host, role in granted if (role, "") in reaching} - reaching
        if not more:
            break
        reaching |= more
    if _PUBLIC in reaching:  # MariaDB 10.11: what PUBLIC may, everybody may
        reaching |= set(accounts)
    own = tuple(session.column("SELECT CURRENT_USER()")[0].rsplit("@", 1))
    return [
        entry
        for key, entry in sorted(accounts.items())
        if key in reaching and key != own and not entry["role"] and key[0] not in _NEVER_LOCKED
    ]


def lock_sql(entry: Json, locked: bool) -> str:
    """The statement that locks or unlocks an account."""
    return (
        f"ALTER USER IF EXISTS {quote_account(entry['user'], entry['host'])} ACCOUNT {'LOCK' if locked else 'UNLOCK'}"
    )


def open_by_pattern(session: MySession, names: Iterable[str], live: str) -> list[str]:
    """Grants that reach one of ``names`` by a pattern, as ``pattern for user@host``."""
    found: set[str] = set()
    for name in names:
        rows = session.run(sql("SELECT DISTINCT Db, User, Host FROM mysql.db WHERE {name} LIKE Db", name=name))
        found |= {f"{db} for {user}@{host}" for db, user, host in rows if db != live}
    return sorted(found)


# -- definers ------------------------------------------------------------------------------------------------------


def missing_definers(session: MySession, objects: list[Json]) -> list[str]:
    """Definers of ``objects`` that are no account or role of this server."""
    accounts = account_list(session)
    wanted = {(item["definer"]["user"], item["definer"]["host"]) for item in objects}
    return [quote_account(*key) for key in sorted(wanted) if key not in accounts]


def unwelcome_definers(session: MySession, objects: list[Json], known: list[Json], allowed: Iterable[str]) -> list[str]:
    """Objects that would run as an account with power over the whole server, which no object of the live schema does
    and the dataset's signed record does not allow: a backup must not give its author more than he had."""
    accounts = account_list(session)
    fine = {(item["definer"]["user"], item["definer"]["host"]) for item in known}
    named = set(allowed)
    bad = []
    for item in objects:
        key = (item["definer"]["user"], item["definer"]["host"])
        power = accounts[key]["access"] if key in accounts else 0
        if power and key not in fine and "@".join(key).rstrip("@") not in named:
            bad.append(f"{item['kind']} {item['name']} as {quote_account(*key)}")
    return bad


# -- grants --------------------------------------------------------------------------------------------------------


def routine_grants(session: MySession, schema: str) -> list[Json]:
    """Privileges on single routines: DROP PROCEDURE takes them away."""
    found: list[Json] = session.values(sql(_ROUTINE_GRANTS, schema=schema))
    return found


def schema_grants(session: MySession, schema: str) -> Json:
    """All privileges that name ``schema``, for the manifest."""
    return {
        "schema": session.values(sql(_SCHEMA_GRANTS, schema=schema)),
        "tables": session.values(sql(_TABLE_GRANTS, schema=schema)),
        "columns": session.values(sql(_COLUMN_GRANTS, schema=schema)),
        "routines": routine_grants(session, schema),
    }


def in_mode_of(kind: str, statements: list[str]) -> list[str]:
    """``statements`` about a routine of ``kind``: those about a package are known in Oracle's mode only."""
    if not kind.startswith("PACKAGE"):
        return statements
    return ["SET SESSION sql_mode = 'ORACLE'", *statements, "SET SESSION sql_mode = ''"]


def routine_grant_sql(schema: str, grant: Json) -> list[str]:
    """Statements that give one entry of :func:`routine_grants` again."""
    if grant["type"] not in ("FUNCTION", "PROCEDURE", "PACKAGE", "PACKAGE BODY"):
        raise SopError(f"{schema}: {grant['type'][:40]!r} is no kind of routine; the grant was refused")
    names = [name.strip() for name in str(grant["privileges"]).split(",") if name.strip()]
    option = " WITH GRANT OPTION" if "GRANT" in names else ""
    names = [_privilege(schema, name) for name in names if name != "GRANT"] or ["USAGE"]
    target = f"{grant['type']} {quote_name(schema)}.{quote_name(grant['name'])}"
    statement = f"GRANT {', '.join(names)} ON {target} TO {quote_account(grant['user'], grant['host'])}{option}"
    return in_mode_of(grant["type"], [statement])


def grant_sql(schema: str, grants: Json, accounts: dict[Account, Json]) -> list[str]:
    """Statements that give the grants of a manifest on ``schema``; those of accounts that are not here are left out."""
    steps: list[str] = []
    pattern = quote_name(schema.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%"))
    for level in ("schema", "tables", "columns"):
        for grant in grants.get(level, []):
            key = _grantee(grant["grantee"])
            if key not in accounts:
                continue
            name = _privilege(schema, grant["privilege"])
            if level == "columns":
                name += f" ({quote_name(grant['column'])})"
            place = f"{pattern}.*" if level == "schema" else f"{quote_name(schema)}.{quote_name(grant['table'])}"
            option = " WITH GRANT OPTION" if grant["grantable"] else ""
            steps.append(f"GRANT {name} ON {place} TO {quote_account(*key)}{option}")
    for grant in grants.get("routines", []):
        if (grant["user"], grant["host"]) in accounts:
            steps += routine_grant_sql(schema, grant)
    return steps


def _privilege(schema: str, name: str) -> str:
    if not _PRIVILEGE.fullmatch(name.upper()):
        raise SopError(f"{schema}: {name[:40]!r} is no privilege; the grant was refused")
    return name.upper()


def _grantee(text: str) -> Account:
    """The account of ``'user'@'host'`` as information_schema writes it."""
    user, _, host = text.rpartition("'@'")
    return (user[1:], host[:-1]) if user else (text.strip("'"), "")
