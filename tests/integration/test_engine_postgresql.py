"""The PostgreSQL engine on real servers: dumps, contents, staging and proof by restore."""

from __future__ import annotations

import os
import signal
import time

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import pg_stage
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_client import PsqlSession

from tests.integration.pg_cluster import Cluster
from tests.integration.pg_helpers import CASE, Bytes, drain, engine, no_rests, schema_text, take

pytest_plugins = ["tests.integration.pg_fixtures"]


def test_manifests_are_equal_table_by_table(sample: Cluster) -> None:
    database = engine(sample)
    live = database.manifest(checksums=True)
    source, manifest = take(database)
    counted = manifest["content"]
    assert {name: table["rows"] for name, table in counted["tables"].items()} == {
        name: table["rows"] for name, table in live["tables"].items()
    }
    with database.scratch(source, manifest) as proven:
        assert proven["tables"] == live["tables"]
        assert proven["sequences"] == live["sequences"] == counted["sequences"]
        assert proven["globals"]["extensions"] and not schema_drift(proven["globals"], live["globals"])
    staged = database.stage(CASE, source, manifest)
    assert staged["tables"] == live["tables"]
    assert staged["sequences"] == live["sequences"]
    assert not schema_drift(staged["globals"], live["globals"])
    assert live["tables"]['"DATA"."ACL"']["rows"] == 1
    assert live["tables"]["public.presensi_2025"]["rows"] + live["tables"]["public.presensi_2026"]["rows"] == 400
    assert live["tables"]["public.induk"]["rows"] == 2
    assert live["tables"]["pg_catalog.pg_largeobject"]["rows"] == 3
    assert live["tables"]["public.rahasia"]["rows"] == 50
    assert not sample.sql("SELECT rolname FROM pg_roles WHERE rolname ~ '^sop'")


def schema_drift(one: dict[str, object], other: dict[str, object]) -> list[str]:
    """Kinds of globals that differ, object ids and order aside."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return tuple(sorted((key, plain(item)) for key, item in value.items() if key != "schema_oid"))
        return tuple(sorted((plain(item) for item in value), key=repr)) if isinstance(value, list) else value

    return [key for key in ("extensions", "owners", "public_owner") if plain(one[key]) != plain(other[key])]


def test_no_password_hash_in_manifest(small: Cluster) -> None:
    small.sql("ALTER ROLE app PASSWORD 'kata-sandi-rahasia'")
    _, manifest = take(engine(small))
    assert "app" in [role["name"] for role in manifest["content"]["globals"]["roles"]]
    assert "SCRAM" not in repr(manifest) and "kata-sandi" not in repr(manifest)


def test_checksum_ignores_order_and_sees_one_value(small: Cluster) -> None:
    database = engine(small)
    first = database.manifest(checksums=True)["tables"]["s.t"]
    small.sql(
        "CREATE TABLE s.u AS SELECT * FROM s.t ORDER BY x DESC; DROP TABLE s.t; ALTER TABLE s.u RENAME TO t", "simpeg"
    )
    assert database.manifest(checksums=True)["tables"]["s.t"] == first
    small.sql("UPDATE s.t SET x = 101 WHERE x = 100", "simpeg")
    changed = database.manifest(checksums=True)["tables"]["s.t"]
    assert changed["rows"] == first["rows"] and changed["checksum"] != first["checksum"]


def test_checksum_is_not_hijacked_by_a_cast(small: Cluster) -> None:
    small.sql(
        """SET ROLE app;
        CREATE FUNCTION s.evil(s.t) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN EXECUTE 'ALTER ROLE app SUPERUSER'; RETURN 'x'; END $$;
        CREATE CAST (s.t AS text) WITH FUNCTION s.evil(s.t);""",
        "simpeg",
    )
    small.sql("BEGIN; SELECT (t::text) FROM s.t LIMIT 1; SELECT 1/(CASE rolsuper WHEN true THEN 1 ELSE 0 END) "
              "FROM pg_roles WHERE rolname = 'app'; ROLLBACK", "simpeg")  # fmt: skip
    engine(small).manifest(checksums=True)
    assert small.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'") == "f"


def test_settings_of_the_database_do_not_bend_the_engine(small: Cluster) -> None:
    database = engine(small)
    wanted = database.manifest(checksums=True)["tables"]
    small.sql(
        "ALTER DATABASE simpeg SET default_transaction_read_only = on; ALTER DATABASE simpeg SET role = 'kepeg';"
        "ALTER DATABASE simpeg SET statement_timeout = 1; ALTER DATABASE simpeg SET search_path = 's';"
        "ALTER DATABASE simpeg SET datestyle = 'German';"
    )
    assert database.manifest(checksums=True)["tables"] == wanted
    source, manifest = take(database)
    with pytest.raises(
        SopError, match="simpeg is set read-only"
    ):  # somebody froze it, and shall say that it may change
        database.stage(CASE, source, manifest)
    small.sql("SET default_transaction_read_only = off; ALTER DATABASE simpeg RESET default_transaction_read_only")
    assert database.stage(CASE, source, manifest)["tables"] == wanted


def test_transaction_timeout_does_not_end_our_sessions(small: Cluster) -> None:
    """PostgreSQL 17 and newer have it; on older ones there is nothing to survive."""
    small.sql(
        "SELECT format('ALTER DATABASE simpeg SET %s = 300', name) FROM pg_settings WHERE name = 'transaction_timeout' "
        "\\gexec\n"
    )
    with PsqlSession(engine(small).client, "simpeg") as session:
        session.execute("BEGIN;")
        time.sleep(0.6)
        assert session.query("SELECT count(*) FROM s.t;") == 100


def big(cluster: Cluster) -> None:
    cluster.sql(
        "CREATE TABLE s.besar AS SELECT g, repeat(md5(g::text), 30) t FROM generate_series(1, 20000) g", "simpeg"
    )


def test_dump_killed_half_way_does_not_count(small: Cluster) -> None:
    big(small)
    stream = engine(small).dump()
    assert stream.read(65536).startswith(b"PGDMP")
    os.kill(stream.pid, signal.SIGKILL)  # type: ignore[attr-defined]  # PgDumpStream
    assert len(drain(stream)) < 15_000_000
    with pytest.raises(SopError, match="killed by signal 9"):
        stream.finish()


def test_dump_whose_session_is_ended_does_not_count(small: Cluster) -> None:
    big(small)
    stream = engine(small).dump()
    stream.read(65536)
    small.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^COPY'")
    drain(stream)
    with pytest.raises(SopError, match=r"simpeg: pg_dump exited 1 \("):
        stream.finish()


def test_dump_aborted_leaves_no_session(small: Cluster) -> None:
    big(small)
    stream = engine(small).dump()
    stream.read(65536)
    stream.abort()
    stream.abort()
    small.sql("SELECT pg_sleep(0.3)")
    assert small.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('sop', 'pg_dump')") == "0"


def test_counts_are_of_the_dump_snapshot(small: Cluster) -> None:
    database = engine(small)
    stream = database.dump()
    small.sql("DELETE FROM s.t", "simpeg")
    data = drain(stream)
    content = stream.finish()
    assert content["tables"]["s.t"]["rows"] == 100
    with database.scratch(Bytes(data), {"content": content, "bytes": len(data)}) as proven:
        assert proven["tables"]["s.t"]["rows"] == 100


def test_dump_author_gains_nothing(small: Cluster) -> None:
    small.sql(
        """SET ROLE app;
        CREATE FUNCTION s.evil(x int) RETURNS bool LANGUAGE plpgsql VOLATILE AS $$
        BEGIN ALTER ROLE app SUPERUSER; RETURN true; EXCEPTION WHEN insufficient_privilege THEN RETURN true; END $$;
        CREATE TABLE s.jebakan (x int CHECK (s.evil(x)));
        INSERT INTO s.jebakan VALUES (1);
        CREATE FUNCTION s.evil_index(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN PERFORM s.evil(x); RETURN x; END $$;
        CREATE INDEX ON s.jebakan (s.evil_index(x));
        CREATE MATERIALIZED VIEW s.jebakan_mv AS SELECT s.evil(x) FROM s.jebakan;""",
        "simpeg",
    )
    database = engine(small)
    source, manifest = take(database)
    superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = 'app'"
    assert small.sql(superuser) == "f"
    database.stage(CASE, source, manifest)
    assert small.sql(superuser) == "f"
    database.quiesce(5)
    database.swap(CASE)
    database.release()
    assert small.sql(superuser) == "f"
    with database.scratch(source, manifest):
        assert small.sql(superuser) == "f"
    # the same rows written by a superuser do spring the trap
    small.sql("INSERT INTO s.jebakan VALUES (2)", "simpeg")
    assert small.sql(superuser) == "t"


def test_stage_that_fails_leaves_nothing(small: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    big(small)
    database = engine(small)
    source, manifest = take(database)
    whole = source.data
    with pytest.raises(SopError, match="pg_restore exited"):
        database.stage(CASE, Bytes(whole[: len(whole) // 2]), manifest)
    assert no_rests(small)
    with pytest.raises(SopError, match="vault is gone"):
        database.stage(CASE, Bytes(whole[: len(whole) // 2], SopError("vault is gone")), manifest)
    assert no_rests(small)
    with pytest.raises(SopError, match="sha256"):
        database.stage(CASE, source, {**manifest, "sha256": "0" * 64})
    assert no_rests(small)
    with pytest.raises(SopError, match="MiB free"):
        engine(small, reserve_bytes=1 << 60).stage(CASE, source, manifest)
    # the disk fills up once the load itself reads the dump (the first opening is for the table of contents)
    opened: list[int] = []
    monkeypatch.setattr(Bytes, "opened", lambda _self: opened.append(1))
    monkeypatch.setattr(pg_stage.SpaceGuard, "_free", lambda _self: 0 if len(opened) > 1 else 1 << 50)
    with pytest.raises(SopError, match="below the reserve"):
        database.stage(CASE, source, manifest)
    monkeypatch.undo()
    assert no_rests(small)
    assert database.state(CASE) == "absent"
    assert database.stage(CASE, source, manifest)["tables"] == database.manifest(checksums=True)["tables"]


def test_stage_refuses_what_it_cannot_do(small: Cluster) -> None:
    database = engine(small)

    def role(content: dict[str, object]) -> None:
        content["globals"]["roles"].append({"name": "hilang", "needed": True})  # type: ignore[index]

    def extension(content: dict[str, object]) -> None:
        content["globals"]["extensions"].append(  # type: ignore[index]
            {"name": "pageinspect", "version": "1.11" if "15" in small.bin_dir else "1.13", "schema": "public"}
        )

    def encoding(content: dict[str, object]) -> None:
        content["globals"]["database"]["encoding"] = "LATIN1"  # type: ignore[index]

    for change, message in (
        (role, 'CREATE ROLE "hilang";'),
        (extension, "pageinspect, which is not trusted"),
        (encoding, "is LATIN1"),
    ):
        source, manifest = take(database, change)
        with pytest.raises(SopError, match=message):
            database.stage(CASE, source, manifest)
    with pytest.raises(SopError, match="no globals"):
        database.stage(CASE, source, {"content": {}})
    assert no_rests(small)


def test_event_trigger_of_an_ordinary_role_is_not_brought_in(small: Cluster) -> None:
    small.sql(
        "SET ROLE app; CREATE FUNCTION s.f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END'; RESET ROLE;"
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION s.f()",
        "simpeg",
    )
    database = engine(small)
    source, manifest = take(database)
    database.stage(CASE, source, manifest)
    database.discard(CASE)
    with database.scratch(source, manifest) as proven:
        assert proven["tables"]["s.t"]["rows"] == 100
    small.sql("DROP EVENT TRIGGER e", "simpeg")
    with pytest.raises(SopError, match="event trigger e would run a function that no superuser owns"):
        database.stage(CASE, source, manifest)
    assert no_rests(small)


def test_incomplete_shadow_is_not_staged(small: Cluster) -> None:
    database = engine(small)
    source, manifest = take(database)
    small.sql(f'CREATE DATABASE "{database.shadow_name(CASE)}"')
    assert database.state(CASE) == "absent"
    with pytest.raises(SopError, match="nothing complete is staged"):
        database.swap(CASE)
    database.stage(CASE, source, manifest)
    assert database.state(CASE) == "staged"
    with pytest.raises(SopError, match="already staged"):
        database.stage(CASE, source, manifest)
    database.discard(CASE)
    database.discard(CASE)
    assert database.state(CASE) == "absent"


def test_describe(small: Cluster) -> None:
    facts = engine(small).describe()
    assert facts["exists"] and facts["bytes"] > 1_000_000 and facts["version"]
    assert not engine(small, "tidak_ada").describe()["exists"]
    with pytest.raises(SopError, match="cannot open database tidak_ada"):
        engine(small, "tidak_ada").dump()
    with pytest.raises(SopError, match="maintenance_db"):
        engine(small, "postgres")
    stopped = engine(small, connection={**small.connection, "port": 1})
    with pytest.raises(SopError, match="start PostgreSQL or correct the connection") as error:
        stopped.describe()
    assert "\n" not in str(error.value)


def test_dropped_database_comes_back(sample: Cluster) -> None:
    database = engine(sample)
    source, manifest = take(database)
    wanted, content = schema_text(sample), database.manifest(checksums=True)["tables"]
    sample.sql("DROP DATABASE simpeg")
    with pytest.raises(SopError, match=r"postgres_fdw, which is not trusted .* list it in the dataset's extensions"):
        database.stage(CASE, source, manifest)
    database = engine(sample, extensions=["postgres_fdw"])
    with pytest.raises(SopError, match="pg_restore exited"):
        database.stage(CASE, Bytes(source.data[:200_000]), manifest)
    assert no_rests(sample) and not database.describe()["exists"]
    database.stage(CASE, source, manifest)
    assert database.quiesce(5)["fenced"]
    database.swap(CASE)
    database.release()
    assert schema_text(sample) == wanted
    assert database.manifest(checksums=True)["tables"] == content
