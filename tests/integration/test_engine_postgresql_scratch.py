"""Proof by restore in a private PostgreSQL leaves nothing behind, however it ends, and gives a dump's author nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

from tests.integration.pg_cluster import Cluster
from tests.integration.pg_helpers import CASE, Bytes, engine, take

pytest_plugins = ["tests.integration.pg_fixtures"]

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


#: each attempt that succeeds ends the load by its name; a superuser's would also leave the file
_EVIL = """SET ROLE app;
CREATE FUNCTION s.evil(x int) RETURNS bool LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  BEGIN EXECUTE format('ALTER ROLE %I SUPERUSER', session_user); RAISE EXCEPTION 'became superuser';
  EXCEPTION WHEN insufficient_privilege THEN NULL; END;
  BEGIN PERFORM pg_read_file('/etc/passwd'); RAISE EXCEPTION 'read a file';
  EXCEPTION WHEN insufficient_privilege THEN NULL; END;
  BEGIN PERFORM lo_import('/etc/passwd'); RAISE EXCEPTION 'imported a file';
  EXCEPTION WHEN insufficient_privilege THEN NULL; END;
  BEGIN COPY s.t TO PROGRAM 'touch {trap}'; RAISE EXCEPTION 'ran a program';
  EXCEPTION WHEN insufficient_privilege THEN NULL; END;
  RETURN true;
END $$;
CREATE TABLE s.jebakan (x int CHECK (s.evil(x)));
INSERT INTO s.jebakan VALUES (1);"""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A file that must not come to be."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777)
    return tmp_path / "terperangkap"


def test_a_check_gains_nothing(small: Cluster, trap: Path) -> None:
    """It runs when its rows are loaded, as a role that has nothing but the copy."""
    small.sql(_EVIL.format(trap=trap), "simpeg")
    source, manifest = take(engine(small))
    with engine(small).scratch(source, manifest) as proven:
        assert proven["tables"]["s.jebakan"]["rows"] == 1
    assert not trap.exists()
    with pytest.raises(
        AssertionError, match="became superuser"
    ):  # the trap is a real one: a superuser's row springs it
        small.sql("INSERT INTO s.jebakan VALUES (2)", "simpeg")


_AT_ONCE = "ON ddl_command_start EXECUTE FUNCTION s.f()"


@pytest.mark.parametrize(
    "event", [_AT_ONCE, f"{_AT_ONCE}; ALTER EVENT TRIGGER e ENABLE ALWAYS", "ON login EXECUTE FUNCTION s.f()"]
)
def test_an_event_trigger_of_the_dump_gains_nothing(small: Cluster, trap: Path, event: str) -> None:
    """Its function would run as the superuser, who may start programs, at whatever is made after it; a proof's server and
    the live one alike."""
    if "login" in event and int(small.sql("SHOW server_version_num")) < 170000:
        pytest.skip("comes with PostgreSQL 17")
    small.sql(
        f"""SET ROLE app;
        CREATE FUNCTION s.f() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN IF current_database() <> 'simpeg' THEN COPY s.t TO PROGRAM 'touch {trap}'; END IF; END $$;
        CREATE PUBLICATION p FOR TABLE s.t;
        RESET ROLE;
        CREATE EVENT TRIGGER e {event}""",
        "simpeg",
    )
    database = engine(small)
    source, manifest = take(database)
    small.sql("DROP EVENT TRIGGER e", "simpeg")
    with database.scratch(source, manifest) as proven:
        assert proven["tables"]["s.t"]["rows"] == 100
    assert not trap.exists()
    with pytest.raises(SopError, match="event trigger e would run a function that no superuser owns"):
        database.stage(CASE, source, manifest)
    assert not trap.exists()
