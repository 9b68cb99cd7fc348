"""The PostgreSQL engine exchanges databases: what survives, what is fenced, and the way back."""

from __future__ import annotations

import contextlib
import json
import threading

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

from tests.integration.pg_cluster import Cluster
from tests.integration.pg_helpers import CASE, databases, engine, make_sample, schema_text, take

pytest_plugins = ["tests.integration.pg_fixtures"]


@pytest.fixture(scope="session")
def swapped(cluster: Cluster) -> tuple[str, str, dict[str, str], dict[str, str]]:
    """pg_dump's view and single facts of the live database, just before the swap and after it."""
    make_sample(cluster)
    database = engine(cluster)
    source, manifest = take(database)
    database.stage(CASE, source, manifest)
    # what changes while the copy waits belongs to the live database as well
    cluster.sql('ALTER DATABASE simpeg OWNER TO "Petugas ""Arsip"""; ALTER DATABASE simpeg IS_TEMPLATE true')
    text, facts = schema_text(cluster), {key: cluster.sql(sql, "simpeg") for key, sql in FACTS.items()}
    cluster.sql("DROP TABLE catatan; DELETE FROM penunjuk", "simpeg")
    database.quiesce(10)
    database.swap(CASE)
    database.release()
    after = schema_text(cluster), {key: cluster.sql(sql, "simpeg") for key, sql in FACTS.items()}
    for name in ("simpeg", "simpeg__before_rst20260001"):
        cluster.sql(f"ALTER DATABASE {name} IS_TEMPLATE false; DROP DATABASE {name}")
    return text, after[0], facts, after[1]


_DB = "FROM pg_database WHERE datname = 'simpeg'"
FACTS = {
    "owner": f"SELECT pg_get_userbyid(datdba) {_DB}",
    "encoding": f"SELECT pg_encoding_to_char(encoding) {_DB}",
    "locale": f"SELECT datcollate, datctype {_DB}",
    "acl": "SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM pg_database, unnest(datacl) a WHERE datname = 'simpeg'",
    "settings": "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase "
    "WHERE datname = 'simpeg' AND setrole = 0",
    "role settings": "SELECT setrole::regrole, setconfig FROM pg_db_role_setting s JOIN pg_database d "
    "ON d.oid = setdatabase WHERE datname = 'simpeg' AND setrole <> 0 ORDER BY 1",
    "comment": f"SELECT shobj_description(oid, 'pg_database') {_DB}",
    "connection limit": f"SELECT datconnlimit {_DB}",
    "template": f"SELECT datistemplate {_DB}",
    "open": f"SELECT datallowconn {_DB}",
    "extensions": "SELECT extname, extversion, extnamespace::regnamespace, extowner::regrole FROM pg_extension ORDER BY 1",
    "large objects": "SELECT oid, lomowner::regrole, lomacl FROM pg_largeobject_metadata ORDER BY 1",
    "table owners": "SELECT oid::regclass, relowner::regrole FROM pg_class WHERE oid >= 16384 AND relkind IN "
    "('r', 'p', 'v', 'm', 'S') ORDER BY oid::regclass::text",
}


@pytest.mark.parametrize("fact", sorted(FACTS))
def test_fact_survives_swap(swapped: tuple[str, str, dict[str, str], dict[str, str]], fact: str) -> None:
    _, _, before, after = swapped
    assert before[fact] == after[fact]
    assert after[fact]


def test_definition_survives_swap(swapped: tuple[str, str, dict[str, str], dict[str, str]]) -> None:
    before, after, _, _ = swapped
    assert after.splitlines() == before.splitlines()


def oid(cluster: Cluster, name: str) -> int:
    oids = cluster.sql("SELECT json_object_agg(datname, oid::bigint) FROM pg_database")
    return int(json.loads(oids)[name])


def test_swap_revert_swap(small: Cluster) -> None:
    database = engine(small)
    source, manifest = take(database)
    small.sql("DELETE FROM s.t WHERE x > 10", "simpeg")
    old = oid(small, "simpeg")
    database.stage(CASE, source, manifest)
    with pytest.raises(SopError, match="still open"):
        database.swap(CASE)
    database.quiesce(5)
    new = oid(small, database.shadow_name(CASE))
    first = database.swap(CASE)
    assert first["old"] == {"oid": old, "name": database.before_name(CASE)}
    assert first["new"] == {"oid": new, "name": "simpeg"}
    assert database.swap(CASE)["new"] == first["new"]
    assert database.state(CASE) == "swapped" and database.is_quiesced()
    with pytest.raises(AssertionError, match="not currently accepting"):  # whether it counts is not the engine's to say
        small.sql("SELECT 1", "simpeg")
    database.release()
    assert small.sql("SELECT count(*) FROM s.t", "simpeg") == "100"
    closed = "SELECT datallowconn FROM pg_database WHERE oid = "
    assert small.sql(closed + str(old)) == "f"
    back = database.revert(CASE)
    assert back["old"] == {"oid": old, "name": "simpeg"} and database.revert(CASE)["old"] == back["old"]
    assert database.is_quiesced()
    database.release()
    assert small.sql("SELECT count(*) FROM s.t", "simpeg") == "10"
    assert small.sql(closed + str(new)) == "f"
    assert database.state(CASE) == "staged"
    database.quiesce(5)
    assert database.swap(CASE)["new"] == first["new"]
    database.release()
    assert small.sql("SELECT count(*) FROM s.t", "simpeg") == "100"
    assert databases(small) == ["postgres", "simpeg", database.before_name(CASE), "template0", "template1"]


def test_busy_clients_do_not_stop_the_exchange(small: Cluster) -> None:
    database = engine(small)
    source, manifest = take(database)
    database.stage(CASE, source, manifest)
    over = threading.Event()
    served: list[str] = []

    def visit() -> None:
        while not over.is_set():
            with contextlib.suppress(AssertionError):  # ended by the fence
                served.append(small.sql("SELECT count(*) FROM s.t, pg_sleep(0.02)", "simpeg"))

    visitors = [threading.Thread(target=visit) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    try:
        for _ in range(3):
            database.quiesce(10)
            database.swap(CASE)
            assert database.state(CASE) == "swapped"
            database.release()  # a revert fences by itself what is open
            database.revert(CASE)
            assert database.state(CASE) == "staged"
            database.release()
    finally:
        over.set()
        for visitor in visitors:
            visitor.join()
    assert set(served) == {"100"}


def test_quiesce_fences_and_ends_sessions(small: Cluster) -> None:
    database = engine(small)
    failed: list[AssertionError] = []

    def write() -> None:
        try:
            small.sql("INSERT INTO s.t VALUES (0); SELECT pg_sleep(60)", "simpeg")
        except AssertionError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    while small.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'simpeg'") == "0":
        pass
    proof = database.quiesce(10)
    writer.join(10)
    assert failed and "terminating connection" in str(failed[0])
    assert (proof["sessions"], proof["prepared"], proof["fenced"]) == (0, 0, True)
    assert database.is_quiesced() and database.quiesce(1)["fenced"]
    with pytest.raises(AssertionError, match="not currently accepting"):
        small.sql("SELECT 1", "simpeg")
    database.release()
    database.release()
    assert small.sql("SELECT 1", "simpeg") == "1"


def test_quiesce_refuses_what_would_go_on(small: Cluster) -> None:
    database = engine(small)
    small.sql("BEGIN; INSERT INTO s.t VALUES (0); PREPARE TRANSACTION 'tertunda'", "simpeg")
    with pytest.raises(SopError, match=r"prepared transactions \(tertunda\)"):
        database.quiesce(1)
    small.sql("ROLLBACK PREPARED 'tertunda'", "simpeg")
    small.sql("SELECT pg_create_logical_replication_slot('langganan', 'test_decoding')", "simpeg")
    with pytest.raises(SopError, match="logical replication slots"):
        database.quiesce(1)
    small.sql("SELECT pg_drop_replication_slot('langganan')", "simpeg")
    assert not database.is_quiesced()
    database.quiesce(5)


def test_strange_and_long_database_names(empty: Cluster) -> None:
    for name in ('we\'ird "db" é=1 \\', "é" * 31):
        quoted = '"' + name.replace('"', '""') + '"'
        empty.sql(f"CREATE DATABASE {quoted}; COMMENT ON DATABASE {quoted} IS 'aneh'")
        empty.sql("CREATE TABLE t AS SELECT 1 AS x", name)
        database = engine(empty, name)
        source, manifest = take(database)
        assert len(database.before_name(CASE).encode()) <= 63
        database.stage(CASE, source, manifest)
        database.quiesce(5)
        database.swap(CASE)
        database.release()
        assert {name, database.before_name(CASE)} <= set(databases(empty))
        assert empty.sql("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()",
                         name) == "aneh"  # fmt: skip
        assert empty.sql("SELECT x FROM t", name) == "1"


def test_locale_provider_survives(empty: Cluster) -> None:
    """ICU where the build has it, else PostgreSQL 17's own."""
    icu = empty.sql("SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i' AND collname = 'id-x-icu'") == "t"
    provider, locale = ("ICU", "id-ID") if icu else ("BUILTIN", "C.UTF-8")
    make_sample(
        empty, f"LOCALE_PROVIDER {provider} {provider}_LOCALE '{locale}' LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
    )
    database = engine(empty)
    before = schema_text(empty)
    source, manifest = take(database)
    with database.scratch(source, manifest) as proven:
        assert proven["globals"]["database"]["locale"] == locale
    database.stage(CASE, source, manifest)
    database.quiesce(5)
    database.swap(CASE)
    database.release()
    assert schema_text(empty) == before


INTERRUPTED_DROP = "UPDATE pg_database SET datconnlimit = -2 WHERE starts_with(datname, 'simpeg__shadow')"


def test_half_dropped_copy_is_never_put_in_place(small: Cluster) -> None:
    """A crash in the middle of DROP DATABASE leaves the copy with its mark and perhaps without its files: PostgreSQL calls it
    invalid, refuses to alter it, and it is staged anew."""
    database = engine(small)
    source, manifest = take(database)
    database.stage(CASE, source, manifest)
    small.sql(INTERRUPTED_DROP)
    assert database.state(CASE) == "absent"
    database.quiesce(5)
    with pytest.raises(SopError, match="nothing complete is staged"):
        database.swap(CASE)
    database.release()
    database.stage(CASE, source, manifest)
    assert database.state(CASE) == "staged"
    small.sql(INTERRUPTED_DROP)
    database.discard(CASE)
    assert databases(small) == ["postgres", "simpeg", "template0", "template1"]


def test_what_begins_to_be_dropped_does_not_look_complete(small: Cluster) -> None:
    """Servers before 15.4 call nothing invalid, so the mark goes first. Here the DROP fails: a prepared transaction is in it."""
    database = engine(small)
    source, manifest = take(database)
    database.stage(CASE, source, manifest)
    shadow = database.shadow_name(CASE)
    small.sql(f"ALTER DATABASE {shadow} ALLOW_CONNECTIONS true")
    small.sql("BEGIN; CREATE TABLE tersangkut (x int); PREPARE TRANSACTION 'tersangkut'", shadow)
    try:
        with pytest.raises(SopError, match="is being accessed by other users"):
            database.discard(CASE)
        assert database.state(CASE) == "absent"
    finally:
        small.sql(f"ALTER DATABASE {shadow} ALLOW_CONNECTIONS true")
        small.sql("ROLLBACK PREPARED 'tersangkut'", shadow)
        database.discard(CASE)
