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

# What only a superuser can make and no extension makes; a load by an ordinary role would fail at it, half way.
_SUPERUSER_OBJECTS = """
  SELECT i.type || ' ' || i.identity || ' (' || why || ')' AS word
    FROM (SELECT 'pg_proc'::regclass AS class, p.oid,
                 CASE WHEN NOT lanpltrusted THEN 'language ' || lanname WHEN proleakproof THEN 'leakproof'
                      WHEN prosupport <> 0 THEN 'planner support' ELSE 'sets a parameter of the superuser' END AS why
            FROM pg_proc p JOIN pg_language l ON l.oid = prolang
           WHERE prokind <> 'a' AND (NOT lanpltrusted OR proleakproof OR prosupport <> 0 OR EXISTS (
             SELECT FROM unnest(proconfig) c JOIN pg_settings g ON g.name = lower(split_part(c, '=', 1))
              WHERE g.context = 'superuser'))
          UNION ALL SELECT 'pg_proc'::regclass, aggfnoid, 'internal state' FROM pg_aggregate
           WHERE 'internal'::regtype IN (aggtranstype, aggmtranstype)
          UNION ALL SELECT 'pg_type'::regclass, oid, 'base type' FROM pg_type
           WHERE (typtype = 'b' AND typinput <> 'array_in'::regproc) OR NOT typisdefined
          UNION ALL SELECT 'pg_opclass'::regclass, oid, 'index support' FROM pg_opclass
          UNION ALL SELECT 'pg_opfamily'::regclass, oid, 'index support' FROM pg_opfamily
          UNION ALL SELECT 'pg_am'::regclass, oid, 'access method' FROM pg_am
          UNION ALL SELECT 'pg_language'::regclass, oid, 'language' FROM pg_language
          UNION ALL SELECT 'pg_ts_parser'::regclass, oid, 'parser' FROM pg_ts_parser
          UNION ALL SELECT 'pg_ts_template'::regclass, oid, 'template' FROM pg_ts_template
          UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, 'wrapper' FROM pg_foreign_data_wrapper
          UNION ALL SELECT 'pg_cast'::regclass, oid, 'without function' FROM pg_cast WHERE castmethod = 'b'
          UNION ALL SELECT 'pg_transform'::regclass, oid, 'transform' FROM pg_transform
          UNION ALL SELECT 'pg_user_mapping'::regclass, oid, 'without a password, or with a key file' FROM pg_user_mapping
           WHERE EXISTS (SELECT FROM unnest(umoptions) o WHERE o ~ '^(password_required=f|sslcert=|sslkey=)')
          UNION ALL SELECT 'pg_class'::regclass, ftrelid, 'reads files of the server' FROM pg_foreign_table
            JOIN pg_foreign_server v ON v.oid = ftserver JOIN pg_foreign_data_wrapper w ON w.oid = srvfdw
            JOIN pg_proc h ON h.oid = fdwhandler AND h.proname = 'file_fdw_handler') o,
         LATERAL pg_identify_object(class, oid, 0) i
   WHERE oid >= 16384 AND coalesce(i.schema, '') !~ '^pg_(temp|toast)'
     -- 'i': made along with something else, such as the constructors of a range type
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = oid AND d.deptype IN ('e', 'i'))
"""
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
 'tablespaces', (SELECT coalesce(json_agg(DISTINCT spcname), '[]') FROM pg_class JOIN pg_tablespace t ON t.oid = reltablespace
    WHERE spcname NOT IN ('pg_default', 'pg_global')),
 'superuser_objects', (SELECT coalesce(json_agg(word ORDER BY word), '[]') FROM ({superuser_objects}) s),
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
""".replace("WITH db", "WITH RECURSIVE db").replace("{superuser_objects}", _SUPERUSER_OBJECTS)


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
