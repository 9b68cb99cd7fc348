# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Databases as wholes: their names in a case, what the server says of one, making and dropping."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import (
    PgClient,
    quote_ident,
    quote_literal,
    sql,
)

NAME_BYTES = 63
#: settings whose names begin so are notes of ours, no properties of the database
_OWN = "sop."
_HALF_DROPPED = -2  # datconnlimit


def case_name(base: str, word: str, case: str) -> str:
    """``<base>__<word>_<case>``; PostgreSQL would cut a name over 63 bytes silently, so we shorten with a hash."""
    suffix = f"__{word}_{case.lower().replace('-', '')}"
    if len((base + suffix).encode()) <= NAME_BYTES:
        return base + suffix
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]
    head = base.encode()[: NAME_BYTES - len(suffix.encode()) - len(digest) - 1].decode("utf-8", "ignore")
    return f"{head}_{digest}{suffix}"


def complete_mark(case: str) -> str:
    """The comment that a wholly loaded copy carries; a copy without it is a rest of a killed run."""
    return f"sop: staged for {case}, complete"


def is_half_dropped(facts: Json) -> bool:
    """Whether :func:`database_facts` are of what an interrupted DROP DATABASE left; only DROP works on it."""
    return bool(facts["datconnlimit"] == _HALF_DROPPED)


def database_facts(client: PgClient, name: str) -> Json | None:
    """What pg_database says of one database, or None."""
    facts: Json | None = client.query(
        client.maintenance_db,
        sql(
            """SELECT to_jsonb(d) || jsonb_build_object(
                'owner', pg_get_userbyid(datdba), 'encoding_name', pg_encoding_to_char(encoding),
                'tablespace', (SELECT spcname FROM pg_tablespace WHERE oid = dattablespace),
                'comment', shobj_description(d.oid, 'pg_database'), 'oid', d.oid::bigint)
            FROM pg_database d WHERE datname = {name};""",
            name=name,
        ),
    )
    return facts


def locale_of(facts: Json) -> Json:
    """Encoding, locale, owner and tablespace of :func:`database_facts`, named as "database" of a manifest's globals."""
    return {
        "name": facts["datname"],
        "owner": facts["owner"],
        "encoding": facts["encoding_name"],
        "collate": facts["datcollate"],
        "ctype": facts["datctype"],
        "provider": facts.get("datlocprovider") or "c",
        "locale": facts.get("datlocale") or facts.get("daticulocale"),
        "icu_rules": facts.get("daticurules"),
        "tablespace": facts["tablespace"],
    }


def create_database(client: PgClient, name: str, owner: str, facts: Json, tablespace: str | None) -> None:
    """An empty database with the encoding and locale of ``facts`` ("database" of a manifest's globals)."""
    options = [
        "TEMPLATE template0",
        f"ENCODING {quote_literal(facts['encoding'])}",
        f"LC_COLLATE {quote_literal(facts['collate'])}",
        f"LC_CTYPE {quote_literal(facts['ctype'])}",
        "ALLOW_CONNECTIONS false",
        f"OWNER {quote_ident(owner)}",
    ]
    provider = {"i": "icu", "b": "builtin"}.get(facts["provider"])
    if provider is not None:
        options += [f"LOCALE_PROVIDER {provider}", f"{provider}_LOCALE {quote_literal(facts['locale'])}"]
    if facts.get("icu_rules"):
        options.append(f"ICU_RULES {quote_literal(facts['icu_rules'])}")
    if tablespace is not None:
        options.append(f"TABLESPACE {quote_ident(tablespace)}")
    database = quote_ident(name)
    # closed first, so that nobody slips in before the REVOKE
    try:
        client.execute(
            client.maintenance_db,
            f"CREATE DATABASE {database} {' '.join(options)};\n"
            f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;\nALTER DATABASE {database} ALLOW_CONNECTIONS true;",
        )
    except SopError as error:
        if "locale" in str(error) or "encoding" in str(error):
            raise SopError(
                f"{error}; the dump's database is {facts['encoding']} with locale {facts['collate']}/{facts['ctype']}: "
                "generate that locale on this server (locale-gen), restart PostgreSQL and run again"
            ) from None
        raise


def drop_database(client: PgClient, name: str) -> None:
    """Drop one of our own copies, if it is there; sessions in it are ended."""
    facts = database_facts(client, name)
    if facts is None:
        return
    database = quote_ident(name)
    if not is_half_dropped(facts):
        client.execute(
            client.maintenance_db,
            # first of all, so that what a crash leaves of it never looks complete: servers before 15.4 call nothing invalid
            f"COMMENT ON DATABASE {database} IS NULL;\n"
            f"ALTER DATABASE {database} ALLOW_CONNECTIONS false IS_TEMPLATE false;\n"
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {quote_literal(name)};",
        )
    # waits up to five seconds for the ended sessions
    client.execute(client.maintenance_db, f"DROP DATABASE IF EXISTS {database};")


def note_sql(client: PgClient, name: str, key: str, value: object) -> str:
    """Statement that keeps ``value`` with a database, readable while it is closed and gone when it goes.

    It is a setting of the superuser's in that database, which the database's owner can neither make nor change.
    """
    return (
        f"ALTER ROLE {quote_ident(client.user)} IN DATABASE {quote_ident(name)} SET {_OWN}{key} TO "
        f"{quote_literal(json.dumps(value))};"
    )


def noted(client: PgClient, name: str, key: str) -> Any:
    """What :func:`note_sql` left under ``key``, or None."""
    return client.query(
        client.maintenance_db,
        sql(
            "SELECT substr(c, length({head}) + 1) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase "
            "JOIN pg_roles r ON r.oid = setrole AND rolsuper, unnest(setconfig) c "
            "WHERE datname = {name} AND starts_with(c, {head}) LIMIT 1;",
            name=name,
            head=f"{_OWN}{key}=",
        ),
    )


def known_of(client: PgClient, name: str) -> Json:
    """{"extensions", "event_triggers": [name]} of a database: what a superuser let in, so a restore may bring it back."""
    known: Json = client.query(
        name,
        "SELECT json_build_object('extensions', (SELECT json_agg(extname) FROM pg_extension), "
        "'event_triggers', (SELECT coalesce(json_agg(evtname), '[]') FROM pg_event_trigger));",
    )
    return known


def is_own_setting(setting: str) -> bool:
    """Whether ``name=value`` is ours, and no property of the database."""
    return setting.startswith(_OWN)
