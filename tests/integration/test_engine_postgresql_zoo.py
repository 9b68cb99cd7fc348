"""The schema zoo: every kind of object goes through backup, proof, staging, swap, revert and swap unchanged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.postgresql import PostgresqlEngine

from tests.integration.pg_cluster import Cluster
from tests.integration.pg_helpers import CASE, engine, schema_text, take

pytest_plugins = ["tests.integration.pg_fixtures"]

HERE = Path(__file__).parent
ROLES = ("zoo_app", "zoo_dinas", "zoo_baca", '"Zoo Pengawas"')
TABLESPACES = ("zoo_ruang", "zoo_indeks", "zoo_dasar")
# plain SQL beside pg_dump's word, for what pg_dump does not write or what must be there at all
FACTS = {
    "memberships": "SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members WHERE "
    "member::regrole::text ~* 'zoo'",
    "role settings everywhere": "SELECT setdatabase = 0, setrole::regrole, setconfig FROM pg_db_role_setting s LEFT JOIN "
    "pg_database d ON d.oid = setdatabase WHERE datname = 'zoo' OR setdatabase = 0",
    "extensions": "SELECT extname, extversion, extnamespace::regnamespace, extowner::regrole FROM pg_extension",
    "large objects": "SELECT oid, lomowner::regrole, lomacl, obj_description(oid, 'pg_largeobject') FROM "
    "pg_largeobject_metadata",
    "row security": "SELECT oid::regclass, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relrowsecurity",
    "policies": "SELECT * FROM pg_policies",
    "publications": "SELECT pubname, pubowner::regrole, puballtables, pubinsert, pubupdate, pubdelete, pubviaroot FROM "
    "pg_publication",
    "generated columns": "SELECT attrelid::regclass, attname, attgenerated FROM pg_attribute WHERE attgenerated <> ''",
    "identity columns": "SELECT attrelid::regclass, attname, attidentity FROM pg_attribute WHERE attidentity <> ''",
    "partitions": "SELECT inhrelid::regclass, inhparent::regclass, pg_get_expr(relpartbound, c.oid) FROM pg_inherits JOIN "
    "pg_class c ON c.oid = inhrelid",
    "collations": "SELECT collname, collprovider, collisdeterministic, collowner::regrole FROM pg_collation WHERE oid >= 16384",
    "tablespaces": "SELECT c.oid::regclass, spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = reltablespace WHERE "
    "c.oid >= 16384 AND relkind <> 't' AND c.oid::regclass::text !~ 'toast'",
    "database": "SELECT pg_get_userbyid(datdba), datcollate, datctype, datconnlimit, datistemplate, datallowconn, spcname, "
    "(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a) FROM pg_database d JOIN pg_tablespace t ON "
    "t.oid = dattablespace WHERE datname = 'zoo'",
    "triggers": "SELECT tgrelid::regclass, tgname, tgenabled, tgdeferrable, tginitdeferred FROM pg_trigger WHERE NOT tgisinternal ",
    "rules": "SELECT ev_class::regclass, rulename, ev_enabled FROM pg_rewrite WHERE oid >= 16384",
    "event triggers": "SELECT evtname, evtowner::regrole, evtenabled, evttags FROM pg_event_trigger",
    "owners": "SELECT oid::regclass, relowner::regrole, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(relacl) a) FROM pg_class WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', "
    "'S', 'f')",
    "column privileges": "SELECT attrelid::regclass, attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL",
    "routines": "SELECT oid::regprocedure, proowner::regrole, prosecdef, proconfig, (SELECT array_agg(a::text ORDER BY a::text) "
    "FROM unnest(proacl) a) FROM pg_proc p WHERE oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid "
    "AND deptype = 'e')",
    "types": "SELECT oid::regtype, typtype, typowner::regrole FROM pg_type WHERE oid >= 16384 AND typtype IN ('e', 'd', 'r', 'm') ",
    "enum order": "SELECT enumtypid::regtype, array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum GROUP BY 1",
    "sequences": "SELECT schemaname, sequencename, last_value, cycle, cache_size FROM pg_sequences",
    "constraints": "SELECT conrelid::regclass, conname, convalidated, condeferrable, pg_get_constraintdef(oid) FROM pg_constraint "
    "WHERE oid >= 16384",
    "statistics": "SELECT stxname, stxowner::regrole, stxkind FROM pg_statistic_ext",
    "unlogged": "SELECT oid::regclass FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'",
    "materialised": "SELECT oid::regclass, relispopulated FROM pg_class WHERE relkind = 'm'",
    "default privileges": "SELECT defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, defaclacl FROM "
    "pg_default_acl",
    "foreign": "SELECT srvname, srvowner::regrole, umuser::regrole, (SELECT array_agg(o ORDER BY o) FROM unnest(umoptions) o) FROM pg_user_mapping JOIN pg_foreign_server s ON "
    "s.oid = umserver",
    "casts": "SELECT castsource::regtype, casttarget::regtype, castcontext FROM pg_cast WHERE oid >= 16384 AND castfunc::regproc::text "
    "LIKE 'data%'",
    "text search": "SELECT cfgname, cfgowner::regrole FROM pg_ts_config WHERE oid >= 16384",
}  # fmt: skip


class View(NamedTuple):
    """What can be seen of the database at one moment."""

    text: list[str]
    facts: dict[str, list[str]]
    tables: dict[str, Any]
    sequences: dict[str, Any]


def definition(cluster: Cluster, database: str = "zoo") -> list[str]:
    """pg_dump's text in its own order, but for grants, whose order is that of their making; as if of database zoo."""
    lines = schema_text(cluster, database, ordered=False).replace(database, "zoo").splitlines()
    lines = [line for line in lines if "sop.placed" not in line and '"sop"."placed"' not in line]  # our note
    grants = [line for line in lines if line.startswith(("GRANT ", "REVOKE "))]
    return [line for line in lines if line not in grants] + sorted(grants)


def look(cluster: Cluster, database: PostgresqlEngine) -> View:
    content = database.manifest(checksums=True)
    facts = {
        key: sorted(cluster.sql(f"SET search_path = ''; {query}", "zoo").splitlines()) for key, query in FACTS.items()
    }
    return View(definition(cluster), facts, content["tables"], content["sequences"])


@pytest.fixture
def zoo(empty: Cluster) -> Iterator[Cluster]:
    cluster = empty
    cluster.sql((HERE / "pg_zoo_roles.sql").read_text())
    for name in TABLESPACES:
        folder = cluster.path / name
        folder.mkdir()
        if cluster.os_user is not None:
            shutil.chown(folder, cluster.os_user)
        cluster.sql(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
    cluster.sql("GRANT CREATE ON TABLESPACE zoo_ruang, zoo_indeks TO zoo_app")
    major = int(cluster.sql("SHOW server_version_num")) // 10000
    cluster.sql(
        "CREATE DATABASE zoo OWNER zoo_app TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8' TABLESPACE zoo_dasar"
    )
    parts = ["pg_zoo.sql"]
    parts += [f"pg_zoo_{since}.sql" for since in (15, 18) if major >= since]
    if cluster.sql("SELECT count(*) FROM pg_collation WHERE collname = 'id-x-icu'") != "0":
        parts.append("pg_zoo_icu.sql")
    for part in parts:
        cluster.sql((HERE / part).read_text(), "zoo")
    cluster.sql((HERE / "pg_zoo_properties.sql").read_text())
    yield cluster
    for name in cluster.sql("SELECT datname FROM pg_database WHERE datname ~ '^zoo'").splitlines():
        cluster.sql(f'ALTER DATABASE "{name}" IS_TEMPLATE false; DROP DATABASE "{name}" WITH (FORCE)')
    cluster.sql("".join(f"DROP TABLESPACE {name};" for name in TABLESPACES))
    for name in TABLESPACES:
        shutil.rmtree(cluster.path / name)
    cluster.sql("".join(f"DROP OWNED BY {role}; DROP ROLE {role};" for role in ROLES))


def test_zoo_survives_the_way_there_and_back(zoo: Cluster) -> None:
    database = engine(zoo, "zoo")
    before = look(zoo, database)
    assert [fact for fact, found in before.facts.items() if not found] == []
    source, manifest = take(database)
    with database.scratch(source, manifest) as proven:
        assert proven["tables"] == before.tables and proven["sequences"] == before.sequences
    staged = database.stage(CASE, source, manifest)
    assert staged["tables"] == before.tables
    database.place("zoo_lain", CASE, source, manifest)
    assert definition(zoo, "zoo_lain") == before.text
    assert engine(zoo, "zoo_lain").manifest(checksums=True)["tables"] == before.tables
    zoo.sql("DELETE FROM data.berkas; DROP VIEW data.peminta; SELECT lo_unlink(70002)", "zoo")
    changed = look(zoo, database)
    for step, wanted in ((database.swap, before), (database.revert, changed), (database.swap, before)):
        database.quiesce(10)
        step(CASE)
        database.release()
        found = look(zoo, database)
        assert found.text == wanted.text
        for key, facts in wanted.facts.items():
            assert found.facts[key] == facts, key
        assert found.tables == wanted.tables and found.sequences == wanted.sequences
    database.drop_kept(CASE)
    assert look(zoo, database).text == before.text
