"""What cannot be restored is refused by name, with the next step, before anything is made; and what looks odd is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import pg_client
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.postgresql import PostgresqlEngine

from tests.integration.pg_cluster import Cluster, running
from tests.integration.pg_fixtures import BINS
from tests.integration.pg_helpers import CASE, ROLES, Bytes, databases, engine, no_rests, schema_text, take

pytest_plugins = ["tests.integration.pg_fixtures"]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """Servers of two majors, the older first."""
    if "embedded" not in BINS or len(BINS) < 2:
        pytest.skip("only one version of PostgreSQL on this machine")
    debian = next(name for name in BINS if name != "embedded")
    with running(BINS[debian], 46000) as older, running(BINS["embedded"], 46100) as newer:
        for started in (older, newer):
            started.sql(ROLES)
            started.sql("CREATE DATABASE simpeg OWNER app")
            started.sql("SET ROLE app; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS x", "simpeg")
        yield older, newer


def every_load(database: PostgresqlEngine, source: Bytes, manifest: dict[str, Any]) -> list[Callable[[], object]]:
    """The three ways in which a dump gets into a server."""
    return [
        lambda: database.stage(CASE, source, manifest),
        lambda: database.place("lain", CASE, source, manifest),
        lambda: database.scratch(source, manifest).__enter__(),
    ]


def untouched(cluster: Cluster, wanted: list[str]) -> bool:
    return no_rests(cluster) and databases(cluster) == wanted


def test_dump_of_a_newer_major(pair: tuple[Cluster, Cluster]) -> None:
    older, newer = pair
    source, manifest = take(engine(newer))
    before = databases(older)
    database = engine(older)
    for attempt in every_load(database, source, manifest):
        with pytest.raises(SopError, match=r"dump is of PostgreSQL 18, this server is 15 .*--to.*upgrade"):
            attempt()
    assert untouched(older, before)
    # the newer client writes what the older one cannot read
    source, manifest = take(engine(older, connection={**older.connection, "bin_dir": newer.bin_dir}))
    with pytest.raises(SopError, match=r"written by pg_dump 18, pg_restore in .* is 15; install"):
        database.stage(CASE, source, manifest)
    assert untouched(older, before)


def test_dump_of_an_older_major_is_taken(pair: tuple[Cluster, Cluster]) -> None:
    older, newer = pair
    source, manifest = take(engine(older))
    assert engine(newer).place("lama", CASE, source, manifest)["tables"]["s.t"]["rows"] == 1
    engine(newer).unplace("lama", CASE)


def test_programs_newer_than_the_server(pair: tuple[Cluster, Cluster], monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server with an upgraded client beside: those of the server's own major are taken, or it is told."""
    older, newer = pair
    database = engine(older, connection={**older.connection, "bin_dir": newer.bin_dir})
    source, manifest = take(database)
    with pytest.raises(SopError, match=r"pg_restore 18 in .* cannot load into a server of 15; set connection.bin_dir"):
        database.stage(CASE, source, manifest)
    majors = older.path / "majors"
    for major, programs in (("15", older.bin_dir), ("18", newer.bin_dir)):
        (majors / major).mkdir(parents=True)
        (majors / major / "bin").symlink_to(programs)
    shutil.chown(majors, older.os_user or "root")
    monkeypatch.setattr(pg_client, "_DEBIAN", str(majors))
    database = engine(older, connection={key: value for key, value in older.connection.items() if key != "bin_dir"})
    assert database.client.bin_dir.endswith("18/bin")
    source, manifest = take(database)
    assert manifest["content"]["globals"]["dumped_by"] == 15
    with database.scratch(source, manifest) as proven:
        assert proven["globals"]["major"] == 15
    assert database.stage(CASE, source, manifest)["tables"]["s.t"]["rows"] == 1


def test_backup_of_another_engine(small: Cluster) -> None:
    source, manifest = take(engine(small))
    before = databases(small)
    for attempt in (engine(small).stage, lambda *a: engine(small).place("lain", *a)):
        with pytest.raises(
            SopError, match="backup is of engine sqlite, the dataset of postgresql; choose another backup"
        ):
            attempt(CASE, source, {**manifest, "engine": "sqlite"})
        with pytest.raises(SopError, match="no globals of a PostgreSQL database; choose another backup"):
            attempt(CASE, source, {"content": {"globals": {"root": "/srv"}}})
    assert untouched(small, before)


def test_encoding_mismatch(small: Cluster) -> None:
    small.sql("CREATE DATABASE lama TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    small.sql("CREATE TABLE t AS SELECT U&'caf\\00e9' AS x", "lama")
    source, manifest = take(engine(small, "lama"))
    before = databases(small)
    with pytest.raises(SopError, match=r"the dump is LATIN1, database simpeg is UTF8; .*--to"):
        engine(small).stage(CASE, source, manifest)
    assert untouched(small, before)
    # beside, it keeps its own
    engine(small).place("lama_dulu", CASE, source, manifest)
    assert small.sql("SELECT convert_to(x, 'UTF8') FROM t", "lama_dulu") == "\\x636166c3a9"


def test_locale_that_is_not_there(small: Cluster) -> None:
    def foreign(content: dict[str, Any]) -> None:
        content["globals"]["database"]["collate"] = "xx_XX.UTF-8"

    source, manifest = take(engine(small), foreign)
    before = databases(small)
    with pytest.raises(SopError, match=r"xx_XX.UTF-8.*generate that locale on this server \(locale-gen\)"):
        engine(small).place("lain", CASE, source, manifest)
    assert untouched(small, before)


def test_missing_role_and_tablespace(small: Cluster) -> None:
    place = small.path / "ruang"
    place.mkdir(exist_ok=True)
    if small.os_user is not None:
        shutil.chown(place, small.os_user)
    small.sql("CREATE ROLE sementara_saja")
    small.sql(f"CREATE TABLESPACE ruang LOCATION '{place}'")
    small.sql("CREATE TABLE s.jauh (x int) TABLESPACE ruang; ALTER TABLE s.t OWNER TO sementara_saja", "simpeg")
    source, manifest = take(engine(small))
    small.sql("REASSIGN OWNED BY sementara_saja TO app; DROP TABLE s.jauh", "simpeg")
    small.sql("DROP TABLESPACE ruang")
    small.sql("DROP ROLE sementara_saja")
    before = databases(small)
    for attempt in (engine(small).stage, lambda *a: engine(small).place("lain", *a)):
        with pytest.raises(SopError, match='not on this server; as superuser run: CREATE ROLE "sementara_saja";'):
            attempt(CASE, source, manifest)
    small.sql("CREATE ROLE sementara_saja")
    with pytest.raises(SopError, match=r'tablespaces .* as superuser run: CREATE TABLESPACE "ruang" LOCATION'):
        engine(small).stage(CASE, source, manifest)
    assert untouched(small, before)
    # beside, where things lie on the disk is this server's affair
    assert engine(small).place("lain", CASE, source, manifest)["tables"]["s.jauh"]["rows"] == 0
    small.sql("DROP DATABASE lain")
    small.sql("DROP ROLE sementara_saja")


@pytest.mark.parametrize("where", ["server", "database"])
def test_read_only_target(small: Cluster, where: str) -> None:
    database = engine(small)
    source, manifest = take(database)
    before = databases(small)
    database.require_swappable()
    target = "SYSTEM" if where == "server" else "DATABASE simpeg"
    small.sql(f"ALTER {target} SET default_transaction_read_only = on")
    small.sql("SELECT pg_reload_conf()")
    try:
        with pytest.raises(SopError, match=r"set read-only \(default_transaction_read_only = on\); find out who"):
            database.require_swappable()
        with pytest.raises(SopError, match="set read-only"):
            database.stage(CASE, source, manifest)
        if where == "server":
            for attempt in (lambda *a: database.place("lain", *a), lambda c, *_: database.empty(c)):
                with pytest.raises(SopError, match="the server is set read-only"):
                    attempt(CASE, source, manifest)
        assert untouched(small, before)
    finally:
        small.sql(f"SET default_transaction_read_only = off; ALTER {target} RESET default_transaction_read_only")
        small.sql("SELECT pg_reload_conf()")


def test_what_would_block_the_exchange(small: Cluster) -> None:
    database = engine(small)
    small.sql("BEGIN; INSERT INTO s.t VALUES (0); PREPARE TRANSACTION 'tertunda'", "simpeg")
    with pytest.raises(SopError, match=r"prepared transactions \(tertunda\); COMMIT PREPARED or ROLLBACK PREPARED"):
        database.require_swappable()
    small.sql("ROLLBACK PREPARED 'tertunda'", "simpeg")
    small.sql("SELECT pg_create_logical_replication_slot('langganan', 'test_decoding')", "simpeg")
    with pytest.raises(SopError, match=r"logical replication slots \(langganan\); drop them"):
        database.require_swappable()
    small.sql("SELECT pg_drop_replication_slot('langganan')", "simpeg")
    small.sql(
        "CREATE SUBSCRIPTION pelanggan CONNECTION 'host=192.0.2.1' PUBLICATION p WITH (connect = false, slot_name = NONE)",
        "simpeg",
    )
    source, manifest = take(database)
    with pytest.raises(SopError, match=r"subscriptions \(pelanggan\); drop them"):
        database.require_swappable()
    small.sql("DROP SUBSCRIPTION pelanggan", "simpeg")
    database.require_swappable()
    # a subscription in a dump never comes back: it would pull from, and keep a slot on, somebody else's server
    database.stage(CASE, source, manifest)
    assert small.sql("SELECT count(*) FROM pg_subscription") == "0"
    database.discard(CASE)
    with pytest.raises(SopError, match="template1 is the server's own template"):
        engine(small, "template1").require_swappable()
    engine(small, "tidak_ada").require_swappable()  # a dropped database can come back


SUPERUSER_ONLY = {
    "CREATE FUNCTION s.f(int4, int4) RETURNS int4 LANGUAGE internal IMMUTABLE STRICT AS 'int4pl'": r"function s.f\(integer,integer\) \(language internal\)",
    "CREATE FUNCTION s.f(int) RETURNS int LANGUAGE sql LEAKPROOF IMMUTABLE AS 'SELECT 1'": r"function s.f\(integer\) \(leakproof\)",
    "CREATE FUNCTION s.f() RETURNS int LANGUAGE sql SET log_min_messages = 'panic' AS 'SELECT 1'": r"function s.f\(\) \(sets a parameter",
    "CREATE AGGREGATE s.a(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, "
    "FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA)": r"aggregate s.a\(.*\) \(internal state\)",
    "CREATE TYPE s.kosong": r"type s.kosong \(base type\)",
    "CREATE OPERATOR FAMILY s.keluarga USING btree": r"operator family s.keluarga USING btree \(index support\)",
    "CREATE ACCESS METHOD tumpuk TYPE TABLE HANDLER heap_tableam_handler": r"access method tumpuk \(access method\)",
    "CREATE TEXT SEARCH TEMPLATE s.pola (LEXIZE = dsimple_lexize)": r"text search template s.pola \(template\)",
    "CREATE FOREIGN DATA WRAPPER bungkus": r"foreign-data wrapper bungkus \(wrapper\)",
    "CREATE CAST (date AS int) WITHOUT FUNCTION": r"cast \(pg_catalog.date AS integer\) \(without function\)",
    "CREATE EXTENSION file_fdw; CREATE SERVER v FOREIGN DATA WRAPPER file_fdw; "
    "CREATE FOREIGN TABLE s.berkas (x text) SERVER v OPTIONS (filename '/etc/hostname')": r"foreign table s.berkas \(reads files of the server\)",
    "CREATE EXTENSION postgres_fdw; CREATE SERVER v FOREIGN DATA WRAPPER postgres_fdw; "
    "CREATE USER MAPPING FOR app SERVER v OPTIONS (password_required 'false')": r"user mapping .*\(without a password, or with a key file\)",
}  # fmt: skip


@pytest.mark.parametrize("statement", SUPERUSER_ONLY)
def test_what_only_a_superuser_can_make_is_named(small: Cluster, statement: str) -> None:
    small.sql(statement, "simpeg")
    database = engine(small)
    source, manifest = take(database)
    before = databases(small)
    for attempt in every_load(database, source, manifest):
        with pytest.raises(SopError, match=SUPERUSER_ONLY[statement]) as error:
            attempt()
        assert "only a superuser can make" in str(error.value) and "extension" in str(error.value)
    assert untouched(small, before)


def test_what_was_there_before_raises_no_false_alarm(empty: Cluster) -> None:
    """A site's own template1: an untrusted extension, a schema, a public schema of another owner and with other grants."""
    empty.sql(
        "CREATE EXTENSION pageinspect; CREATE EXTENSION hstore; CREATE SCHEMA bawaan; CREATE TABLE bawaan.kode (x int);"
        "INSERT INTO bawaan.kode VALUES (1); ALTER SCHEMA public OWNER TO kepeg; REVOKE ALL ON SCHEMA public FROM PUBLIC;"
        "GRANT USAGE ON SCHEMA public TO pembaca; COMMENT ON SCHEMA public IS 'milik dinas'",
        "template1",
    )
    try:
        empty.sql("CREATE DATABASE simpeg OWNER app TEMPLATE template1; CREATE DATABASE lain TEMPLATE template1")
        empty.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION app", "lain")
        empty.sql("CREATE TABLE public.t AS SELECT 1 AS x; ALTER TABLE bawaan.kode OWNER TO app", "simpeg")
        for name in ("simpeg", "lain"):
            database = engine(empty, name)
            wanted, tables = schema_text(empty, name), database.manifest(checksums=True)["tables"]
            source, manifest = take(database)
            with database.scratch(source, manifest) as proven:
                assert proven["tables"] == tables
            assert database.stage(CASE, source, manifest)["tables"] == tables
            database.quiesce(5)
            database.swap(CASE)
            database.release()
            assert schema_text(empty, name) == wanted
    finally:
        empty.sql(
            "DROP EXTENSION pageinspect; DROP EXTENSION IF EXISTS hstore; DROP SCHEMA bawaan CASCADE;"
            "ALTER SCHEMA public OWNER TO pg_database_owner; GRANT USAGE ON SCHEMA public TO PUBLIC;"
            "REVOKE ALL ON SCHEMA public FROM pembaca; COMMENT ON SCHEMA public IS 'standard public schema'",
            "template1",
        )


def test_staging_is_closed_to_others_and_analysed_before_the_stop(
    small: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = engine(small)
    source, manifest = take(database)
    shadow = database.shadow_name(CASE)
    small.sql("ALTER ROLE app PASSWORD 'x'")
    seen: list[str] = []

    def look(_source: Bytes) -> None:
        if shadow in databases(small):
            seen.append(
                small.sql(
                    "SELECT bool_or(has_database_privilege(r.oid, d.oid, 'CONNECT')) FROM pg_roles r, pg_database d "
                    "WHERE datname ~ '__shadow' AND NOT rolsuper AND rolname !~ '^(sop|pg)_'"
                )
            )

    monkeypatch.setattr(Bytes, "opened", look)
    database.stage(CASE, source, manifest)
    assert seen and set(seen) == {"f"}
    with pytest.raises(AssertionError, match="not currently accepting"):
        small.sql("SELECT 1", shadow)
    database.quiesce(5)
    database.swap(CASE)
    database.release()
    assert small.sql("SELECT count(*) FROM pg_stats WHERE schemaname = 's' AND tablename = 't'", "simpeg") == "1"
    assert small.sql("SELECT reltuples FROM pg_class WHERE oid = 's.t'::regclass", "simpeg") == "100"
