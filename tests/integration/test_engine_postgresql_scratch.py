"""Proof by restore in a private PostgreSQL leaves nothing behind, however it ends."""

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
from tests.integration.pg_helpers import Bytes, engine, take

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
