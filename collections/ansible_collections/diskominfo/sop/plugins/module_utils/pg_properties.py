# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What belongs to a database's name rather than to its data: owner, grants, settings, comment, limits."""

from __future__ import annotations

import re

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    PsqlSession,
    quote_ident,
    quote_literal,
    sql,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import is_own_setting

_PRIVILEGES = ("CREATE", "CONNECT", "TEMPORARY")
#: settings whose value is a list of names, each quoted by itself (PostgreSQL's GUC_LIST_QUOTE)
_LIST_SETTINGS = frozenset(
    (
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    )
)
_LIST_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",]*?))\s*(?:,|$)')


def setting_sql(setting: str) -> str:
    """``name=value`` of pg_db_role_setting as ``name TO value`` for ALTER DATABASE … SET."""
    name, _, value = setting.partition("=")
    target = ".".join(quote_ident(part) for part in name.split("."))
    if name.lower() not in _LIST_SETTINGS:
        return f"{target} TO {quote_literal(value)}"
    items, position = [], 0
    while position < len(value):
        match = _LIST_ITEM.match(value, position)
        if match is None or match.end() == position:
            raise SopError(f"the setting {name} of the live database cannot be read ({value[:60]})")
        position = match.end()
        items.append(match.group(2) if match.group(1) is None else match.group(1).replace('""', '"'))
    return f"{target} TO {', '.join(quote_literal(item) for item in items) or quote_literal('')}"


# Everything that stays with the old database's oid and belongs to the name.
_PROPERTIES = """
SELECT json_build_object(
  'owner', pg_get_userbyid(datdba), 'connection_limit', datconnlimit, 'is_template', datistemplate,
  'tablespace', dattablespace, 'comment', shobj_description(d.oid, 'pg_database'),
  'grantees', (SELECT coalesce(json_agg(DISTINCT CASE grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(grantee) END), '[]')
                 FROM aclexplode(coalesce(datacl, acldefault('d', datdba)))),
  'acl', (SELECT coalesce(json_agg(json_build_object(
             'grantee', CASE grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(grantee) END,
             'grantor', pg_get_userbyid(grantor), 'by_owner', grantor = datdba,
             'privilege', privilege_type, 'grantable', is_grantable) ORDER BY grantor <> datdba, n), '[]')
            FROM aclexplode(coalesce(datacl, acldefault('d', datdba)))
                 WITH ORDINALITY AS x(grantor, grantee, privilege_type, is_grantable, n)),
  'settings', (SELECT coalesce(json_agg(json_build_object(
                  'role', CASE setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(setrole) END, 'config', setconfig)), '[]')
                 FROM pg_db_role_setting WHERE setdatabase = d.oid),
  'labels', (SELECT coalesce(json_agg(json_build_object('provider', provider, 'label', label)), '[]')
               FROM pg_shseclabel WHERE classoid = 'pg_database'::regclass AND objoid = d.oid))
FROM pg_database d WHERE datname = {name};
"""


def read_properties(session: PsqlSession, database: str) -> Json:
    """The properties of ``database``, read from any database of its server."""
    properties: Json = session.query(sql(_PROPERTIES, name=database))
    return properties


def carry_over_sql(database: str, old: Json, new: Json) -> list[str]:
    """Statements that give ``database`` (now with properties ``new``) the properties ``old``."""
    name = quote_ident(database)
    whom = ["PUBLIC" if role is None else quote_ident(role) for role in {*old["grantees"], *new["grantees"], None}]
    owner = quote_ident(old["owner"])
    steps = [
        f"REVOKE ALL ON DATABASE {name} FROM {', '.join(sorted(whom))} CASCADE;",
        f"ALTER DATABASE {name} OWNER TO {owner};",
        f"REVOKE ALL ON DATABASE {name} FROM {', '.join(sorted({*whom, owner}))} CASCADE;",
        f"ALTER DATABASE {name} CONNECTION LIMIT {int(old['connection_limit'])} "
        f"IS_TEMPLATE {'true' if old['is_template'] else 'false'};",
        f"COMMENT ON DATABASE {name} IS {'NULL' if old['comment'] is None else quote_literal(old['comment'])};",
        f"ALTER DATABASE {name} RESET ALL;",
    ]
    for item in old["acl"]:
        if item["privilege"] not in _PRIVILEGES:  # it may come from a manifest
            raise SopError(f"{database}: {item['privilege'][:40]!r} is no privilege on a database; it was refused")
        grantee = "PUBLIC" if item["grantee"] is None else quote_ident(item["grantee"])
        option = " WITH GRANT OPTION" if item["grantable"] else ""
        grant = f"GRANT {item['privilege']} ON DATABASE {name} TO {grantee}{option};"
        # a superuser's grant counts as the owner's; another grantor must do it himself
        steps.append(
            grant if item["by_owner"] else f"SET LOCAL ROLE {quote_ident(item['grantor'])}; {grant} RESET ROLE;"
        )
    for entry in new["settings"]:
        if entry["role"] is not None:
            steps.append(f"ALTER ROLE {quote_ident(entry['role'])} IN DATABASE {name} RESET ALL;")
    for entry in old["settings"]:  # but for notes of ours, which are about the old database
        who = f"DATABASE {name}" if entry["role"] is None else f"ROLE {quote_ident(entry['role'])} IN DATABASE {name}"
        wanted = [setting for setting in entry["config"] if not is_own_setting(setting)]
        steps += [f"ALTER {who} SET {setting_sql(setting)};" for setting in wanted]
    for label in old["labels"]:
        steps.append(
            f"SECURITY LABEL FOR {quote_ident(label['provider'])} ON DATABASE {name} "
            f"IS {quote_literal(label['label'])};"
        )
    return steps
