"""The PostgreSQL engine on real servers: dumps, contents, staging and proof by restore."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import pg_stage
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_replay import (
    OBJECT_STATEMENTS,
    PRIVILEGE_STATEMENTS,
    checked_statements,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.secretfile import SecretFile

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
        "ALTER DATABASE simpeg SET datestyle = 'German'"
    )
    assert database.manifest(checksums=True)["tables"] == wanted
    source, manifest = take(database)
    assert database.stage(CASE, source, manifest)["tables"] == wanted


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
    free = iter([1 << 50] * 2)
    monkeypatch.setattr(pg_stage.SpaceGuard, "_free", lambda _self: next(free, 0))
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


_SCRATCH = """
import json, sys, time
sys.path[:0] = json.loads(sys.argv[1])
from tests.integration.pg_helpers import Bytes
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.postgresql import PostgresqlEngine
order = json.load(sys.stdin)
with PostgresqlEngine(order["dataset"], {}).scratch(Bytes(open(order["dump"], "rb").read()), order["manifest"]):
    print("ready", flush=True)
    time.sleep(60)
"""


def servers_in(folder: Path) -> list[str]:
    """Command lines that name ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "postgres" in line and str(folder) in line:
            found.append(line)
    return found


@pytest.mark.parametrize("how", ["end", "exception", "SIGTERM", "SIGKILL"])
def test_scratch_leaves_nothing(small: Cluster, tmp_path: Path, how: str) -> None:
    folder = Path("/var/tmp") / f"sop-test-{os.getpid()}-{how}"
    folder.mkdir(mode=0o711)
    try:
        source, manifest = take(engine(small))
        database = engine(small, scratch_dir=str(folder))
        if how in ("end", "exception"):
            try:
                with database.scratch(source, manifest):
                    assert servers_in(folder)
                    assert not list(folder.glob("*/*.lock")) or list(folder.glob("*/.s.PGSQL*"))
                    if how == "exception":
                        raise KeyError
            except KeyError:
                pass
        else:
            (tmp_path / "dump").write_bytes(source.data)
            order = {"dataset": database.dataset, "manifest": manifest, "dump": str(tmp_path / "dump")}
            child = subprocess.Popen(
                [sys.executable, "-c", _SCRATCH, json.dumps(sys.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert child.stdin and child.stdout
            child.stdin.write(json.dumps(order).encode())
            child.stdin.close()
            assert child.stdout.readline() == b"ready\n"
            assert servers_in(folder)
            child.send_signal(getattr(signal, how))
            child.wait(30)
        for _ in range(50):
            if not servers_in(folder):
                break
            time.sleep(0.1)
        assert servers_in(folder) == []
        left = list(folder.iterdir())
        if how == "SIGKILL":
            (rest,) = left
            os.utime(rest, (0, 0))
            with database.scratch(source, manifest):
                assert not rest.exists()
            left = list(folder.iterdir())
        assert left == []
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_scratch_that_fails_leaves_nothing(small: Cluster) -> None:
    source, manifest = take(engine(small))
    with (
        pytest.raises(SopError, match="pg_restore exited"),
        engine(small, scratch_dir="/var/tmp").scratch(Bytes(source.data[:-2000]), manifest),
    ):
        raise AssertionError
    with (
        pytest.raises(SopError, match="no scratch directory"),
        engine(small, scratch_dir="/var/tmp/not-there").scratch(source, manifest),
    ):
        raise AssertionError
    assert not list(Path("/var/tmp").glob(f"sop-scratch-{os.getpid()}-*"))


def test_dropped_database_comes_back(sample: Cluster) -> None:
    database = engine(sample)
    source, manifest = take(database)
    wanted, content = schema_text(sample), database.manifest(checksums=True)["tables"]
    sample.sql("DROP DATABASE simpeg")
    with pytest.raises(SopError, match="pg_restore exited"):
        database.stage(CASE, Bytes(source.data[:-200_000]), manifest)
    assert no_rests(sample) and not database.describe()["exists"]
    database.stage(CASE, source, manifest)
    assert database.quiesce(5)["fenced"]
    database.swap(CASE)
    assert schema_text(sample) == wanted
    assert database.manifest(checksums=True)["tables"] == content


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER ROLE app SUPERUSER;",
        'GRANT "x ON TABLE " TO app;',
        "GRANT pg_read_all_data TO app;",
        "GRANT SET ON PARAMETER work_mem TO app;",
        "GRANT ALL ON DATABASE simpeg TO app;",
        "GRANT ALL ON TABLE x TO app; DROP DATABASE simpeg;",
        "GRANT ALL ON TABLE x TO app /* ' */; DROP DATABASE simpeg; --'",
        "GRANT ALL ON TABLE x TO app $$'$$; DROP DATABASE simpeg; --'",
        "GRANT ALL ON TABLE x TO app\n\\! rm -rf /\n;",
        "GRANT ALL ON TABLE x TO :evil;",
        "GRANT ALL ON TABLE x TO app",
        "SECURITY LABEL FOR x ON ROLE app IS 'y';",
        "CREATE EVENT TRIGGER x ON ddl_command_end EXECUTE FUNCTION f();",
        "SELECT pg_catalog.set_config('search_path', '', true);",
        "-- note\rDROP DATABASE simpeg;",
    ],
)
def test_superuser_runs_only_grants_of_a_dump(statement: str) -> None:
    with pytest.raises(SopError):
        checked_statements(statement, PRIVILEGE_STATEMENTS, "simpeg")


def test_grants_of_a_dump_are_understood() -> None:
    script = """\\restrict abc
    SET statement_timeout = 0; SET client_encoding = 'UTF8';
    SELECT pg_catalog.set_config('search_path', '', false);
    -- Name: x; Type: ACL
    SET SESSION AUTHORIZATION "a;b";
    GRANT SELECT("k ; l"),UPDATE(n) ON TABLE public."t'" TO "P";
    RESET SESSION AUTHORIZATION;
    REVOKE GRANT OPTION FOR ALL ON FUNCTION public.f(a integer[]) FROM PUBLIC;
    GRANT ALL ON LARGE OBJECT 5 TO x WITH GRANT OPTION;
    ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES TO x;
    \\unrestrict abc
    """
    statements = checked_statements(script, PRIVILEGE_STATEMENTS, "simpeg")
    assert [statement.split(" ")[0] for statement in statements] == [
        "SET",
        "GRANT",
        "RESET",
        "REVOKE",
        "GRANT",
        "ALTER",
    ]
    assert statements[1] == """GRANT SELECT("k ; l"),UPDATE(n) ON TABLE public."t'" TO "P\""""
    assert checked_statements("CREATE PUBLICATION p FOR TABLE a WHERE ((x)::text = ':b');", OBJECT_STATEMENTS, "x")


def test_secret_file_is_only_in_memory() -> None:
    with SecretFile(b"rahasia") as secret:
        look = "import os, sys; s = os.stat(sys.argv[1]); print(open(sys.argv[1]).read(), oct(s.st_mode), s.st_uid)"
        for _ in range(2):
            out = subprocess.run(
                [sys.executable, "-c", look, secret.path], pass_fds=[secret.fd], capture_output=True, check=True
            ).stdout
            assert out.decode().split() == ["rahasia", "0o100600", str(os.geteuid())]
        assert "memfd" in str(Path(f"/proc/self/fd/{secret.fd}").readlink())
        hidden = subprocess.run([sys.executable, "-c", look, secret.path], capture_output=True, check=False)
        assert hidden.returncode != 0
    assert secret.fd == -1
