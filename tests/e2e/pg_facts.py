# SPDX-License-Identifier: Apache-2.0
"""What a PostgreSQL database is and holds, asked with SQL and pg_dump alone: independent of the code under test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.lab.hosts import Lab

# One line a relation with rows of its own: its name, how many rows, and a sum over the MD5 of each row's text.
_TABLES = """
SELECT format($$SELECT %L, count(*), coalesce(sum(('x' || left(md5(r::text), 15))::bit(60)::bigint), 0)
                FROM %s AS r %s;$$,
              relation, relation,
              CASE relation WHEN 'kepegawaian.transaksi' THEN $$WHERE jenis <> 'penulis'$$
                            WHEN 'kepegawaian.jejak' THEN $$WHERE baris ->> 'jenis' IS DISTINCT FROM 'penulis'$$ END)
FROM (SELECT format('%I.%I', nspname, relname) AS relation, relname
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
      WHERE relkind IN ('r', 'm') AND nspname !~ '^pg_' AND nspname <> 'information_schema') AS relations
ORDER BY relation COLLATE "C" \\gexec
"""
_SEQUENCES = """
SELECT format('SELECT %L, last_value, is_called FROM %I.%I;', sequencename, schemaname, sequencename)
FROM pg_sequences ORDER BY 1 \\gexec
"""
_LARGE_OBJECTS = """
SELECT oid, pg_get_userbyid(lomowner), lomacl, length(lo_get(oid)), md5(lo_get(oid))
FROM pg_largeobject_metadata ORDER BY oid;
"""
_DATABASE = """
SELECT json_build_object(
    'owner', pg_get_userbyid(datdba), 'encoding', pg_encoding_to_char(encoding), 'collate', datcollate,
    'ctype', datctype, 'provider', datlocprovider, 'icu', daticulocale, 'limit', datconnlimit, 'template', datistemplate,
    'open', datallowconn, 'acl', (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) AS a),
    'comment', shobj_description(d.oid, 'pg_database'),
    'settings', (SELECT json_object_agg(coalesce(rolname, '*'), setconfig ORDER BY rolname)
                 FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = setrole WHERE setdatabase = d.oid))
FROM pg_database d WHERE datname = current_database();
"""
_EXTENSIONS = "SELECT extname, extversion, extnamespace::regnamespace, extowner::regrole FROM pg_extension ORDER BY 1;"
_CONSTRAINTS = """
SELECT conrelid::regclass, conname, contype, convalidated, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace::regnamespace::text !~ '^(pg_|information_schema)';
"""


def schema(lab: Lab, database: str) -> list[str]:
    """The whole definition as pg_dump writes it (with CREATE DATABASE, its settings, comment and rights)."""
    argv = ["pg_dump", "--schema-only", "--create", "--dbname", database]
    lines = lab.exec("db01", argv, user="postgres").splitlines()
    return [line for line in lines if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))]


def facts(lab: Lab, database: str) -> dict[str, Any]:
    """Everything that must be equal after a restore. Rows that the tests' own writer made are not counted."""
    return {
        "tables": lab.psql(_TABLES, database).splitlines(),
        "sequences": dict(line.split("|", 1) for line in lab.psql(_SEQUENCES, database).splitlines()),
        "large objects": lab.psql(_LARGE_OBJECTS, database).splitlines(),
        "database": json.loads(lab.psql(_DATABASE, database)),
        "extensions": lab.psql(_EXTENSIONS, database).splitlines(),
        "constraints": sorted(lab.psql(_CONSTRAINTS, database).splitlines()),
        "schema": schema(lab, database),
    }


@contextmanager
def opened(lab: Lab, database: str) -> Iterator[None]:
    """Let a superuser look into a database that a restore has set aside and closed."""
    lab.psql(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true', "postgres")
    try:
        yield
    finally:
        lab.psql(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false', "postgres")
