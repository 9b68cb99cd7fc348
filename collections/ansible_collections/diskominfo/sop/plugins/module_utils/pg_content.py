# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What a PostgreSQL database holds: rows, checksums, sequences, and the globals its dump does not carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import PsqlSession, sql
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_properties import read_properties

#: key under which large objects stand among the tables
LARGE_OBJECTS = "pg_catalog.pg_largeobject"
_COUNTS_AT_ONCE = 100
# Shared by the queries below; user relations only, what an extension owns comes with the extension.
_RELATIONS = """
SELECT coalesce(json_agg(format('%I.%I', n.nspname, c.relname)
                         ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"), '[]')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = '{kind}' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');
"""
# ROW(x.*)::text cannot be hijacked by a cast that the table's owner defined (x::text can), and does not depend on the
# order of rows; COLLATE "C" so that a nondeterministic collation hashes bytes as well.
_CHECKSUM = """
SELECT json_build_array(count(*),
         coalesce(sum(hashtextextended(ROW(sop_row.*)::text COLLATE "C", 0)::numeric), 0)::text)
  FROM ONLY {table} AS sop_row;
"""
_LARGE_OBJECTS = """
SELECT json_build_array(count(*), {checksum}) FROM pg_largeobject_metadata AS lo;
"""
_LARGE_OBJECT_SUM = (
    "coalesce(sum(hashtextextended(lo.oid::text || ':' || encode(sha256(lo_get(lo.oid)), 'hex'), 0)::numeric), 0)::text"
)

# One JSON object; every part is a catalogue query, no user code runs.
_GLOBALS = """
WITH db AS (SELECT * FROM pg_database WHERE datname = current_database()),
depends AS (
  SELECT DISTINCT s.refobjid AS role FROM pg_shdepend s, db
   WHERE s.refclassid = 'pg_authid'::regclass
     AND (s.dbid = db.oid OR (s.classid = 'pg_database'::regclass AND s.objid = db.oid))
  UNION SELECT datdba FROM db
  UNION SELECT setrole FROM pg_db_role_setting s, db WHERE s.setdatabase = db.oid AND setrole <> 0),
needed AS (
  SELECT role FROM depends
  UNION SELECT m.roleid FROM pg_auth_members m JOIN needed n ON n.role = m.member)
SELECT json_build_object(
 'major', current_setting('server_version_num')::int / 10000,
 'bootstrap', (SELECT rolname FROM pg_roles WHERE oid = 10),
 'database', (SELECT json_build_object(
    'name', datname, 'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding),
    'collate', datcollate, 'ctype', datctype,
    'provider', coalesce(to_jsonb(db) ->> 'datlocprovider', 'c'),
    'locale', coalesce(to_jsonb(db) ->> 'datlocale', to_jsonb(db) ->> 'daticulocale'),
    'icu_rules', to_jsonb(db) ->> 'daticurules',
    'tablespace', (SELECT spcname FROM pg_tablespace WHERE oid = dattablespace)) FROM db),
 'public_owner', (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public'),
 'extensions', (SELECT coalesce(json_agg(json_build_object(
    'name', extname, 'version', extversion, 'owner', pg_get_userbyid(extowner),
    'schema', nspname, 'schema_oid', n.oid) ORDER BY e.oid), '[]')
   FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace),
 'roles', (SELECT coalesce(json_agg(json_build_object(
    'name', rolname, 'needed', EXISTS (SELECT FROM depends WHERE role = r.oid),
    'superuser', rolsuper, 'inherit', rolinherit, 'createrole', rolcreaterole, 'createdb', rolcreatedb,
    'login', rolcanlogin, 'replication', rolreplication, 'bypassrls', rolbypassrls, 'connection_limit', rolconnlimit,
    'member_of', (SELECT coalesce(json_agg(pg_get_userbyid(m.roleid) ORDER BY m.roleid), '[]')
                    FROM pg_auth_members m WHERE m.member = r.oid)) ORDER BY rolname COLLATE "C"), '[]')
   FROM pg_roles r WHERE oid IN (SELECT role FROM needed) AND oid >= 16384),
 'owners', (SELECT coalesce(json_agg(json_build_object(
    'type', a.type, 'names', a.object_names, 'args', a.object_args, 'owner', pg_get_userbyid(s.refobjid))), '[]')
   FROM pg_shdepend s JOIN db ON s.dbid = db.oid,
        LATERAL pg_identify_object(s.classid, s.objid, s.objsubid) i,
        LATERAL pg_identify_object_as_address(s.classid, s.objid, s.objsubid) a
  WHERE s.refclassid = 'pg_authid'::regclass AND s.deptype = 'o'
    AND a.type NOT IN ('default acl', 'user mapping', 'subscription', 'extension')
    AND coalesce(i.schema, '') !~ '^pg_(temp|toast)' AND i.identity !~ '^pg_(temp|toast)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid AND d.deptype = 'e')
    -- a table's own sequence follows its table
    AND NOT (a.type = 'sequence' AND EXISTS (
          SELECT FROM pg_depend d WHERE d.classid = s.classid AND d.objid = s.objid AND d.objsubid = 0
             AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')))));
""".replace("WITH db", "WITH RECURSIVE db")


def read_globals(session: PsqlSession) -> Json:
    """What belongs to the database but does not stand in its dump; never a password or its hash."""
    facts: Json = session.query(_GLOBALS)
    facts["properties"] = read_properties(session, facts["database"]["name"])
    return facts


def read_content(session: PsqlSession, checksums: bool, sequences: bool = True) -> Json:
    """Tables (rows, checksum), sequences and size, as the session's transaction sees them."""
    tables: Json = {}
    names: list[str] = session.query(_RELATIONS.format(kind="r"))
    if checksums:
        for name in names:
            rows, checksum = session.query(_CHECKSUM.format(table=name))
            tables[name] = {"rows": rows, "checksum": checksum}
    else:
        for chunk in _chunks(names):
            for name, rows in _each(session, "SELECT count(*) FROM ONLY {name:raw}", chunk):
                tables[name] = {"rows": rows, "checksum": None}
    rows, checksum = session.query(_LARGE_OBJECTS.format(checksum=_LARGE_OBJECT_SUM if checksums else "NULL::text"))
    if rows:
        tables[LARGE_OBJECTS] = {"rows": rows, "checksum": checksum}
    size = session.query("SELECT pg_database_size(current_database());")
    values = _sequences(session) if sequences else {}
    return {"tables": tables, "sequences": values, "bytes": size}


def _sequences(session: PsqlSession) -> Json:
    """Sequences do not obey snapshots: under writing their values are near those of the dump, not the same."""
    values: Json = {}
    names: list[str] = session.query(_RELATIONS.format(kind="S"))
    for chunk in _chunks(names):
        for name, value in _each(session, "SELECT json_build_array(last_value, is_called) FROM {name:raw}", chunk):
            values[name] = {"last_value": value[0], "is_called": value[1]}
    return values


def _each(session: PsqlSession, template: str, names: list[str]) -> Iterator[tuple[str, Any]]:
    """One value for each of ``names`` (quoted already), by one query."""
    parts = ", ".join(f"({sql(template, name=name)})" for name in names)
    values: list[Any] = session.query(f"SELECT json_build_array({parts});")
    return zip(names, values)


def _chunks(names: list[str]) -> list[list[str]]:
    return [names[start : start + _COUNTS_AT_ONCE] for start in range(0, len(names), _COUNTS_AT_ONCE)]
