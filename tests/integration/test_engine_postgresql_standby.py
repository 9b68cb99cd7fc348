"""A primary with a hot standby: what reads there is ended with the fence, and a standby is no target."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

from tests.integration.pg_cluster import Cluster, _free
from tests.integration.pg_helpers import CASE, engine, take

pytest_plugins = ["tests.integration.pg_fixtures"]


@pytest.fixture
def standby(small: Cluster) -> Iterator[Cluster]:
    """A hot standby of the cluster."""
    hba = small.path / "data" / "pg_hba.conf"
    allowed = hba.read_text()
    hba.write_text(f"local replication dba peer map=tests\n{allowed}")
    small.sql("SELECT pg_reload_conf()")
    path, port = small.path / "standby", _free(small.port + 1)
    common: dict[str, Any] = {"user": small.os_user, "cwd": "/", "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}}
    subprocess.run(
        [f"{small.bin_dir}/pg_basebackup", "-D", path, "-R", "-c", "fast", "-N", "-h", small.path, "-p", str(small.port), "-U", "dba"],
        check=True, capture_output=True, **common,
    )  # fmt: skip
    (small.path / "sockets").mkdir()
    shutil.chown(small.path / "sockets", small.os_user or "root")
    server = subprocess.Popen(
        [
            f"{small.bin_dir}/postgres", "-D", path, "-k", small.path / "sockets", "-p", str(port), "-c", "listen_addresses=",
            "-c", "fsync=off", "-c", "shared_buffers=64MB", "-c", "max_prepared_transactions=5", "-c", "max_connections=40",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **common,
    )  # fmt: skip
    found = replace(small, path=small.path / "sockets", port=port)
    try:
        for attempt in range(150):
            try:
                found.sql("SELECT 1", "simpeg")
                break
            except AssertionError:
                assert attempt < 149 and server.poll() is None
                time.sleep(0.1)
        yield found
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        hba.write_text(allowed)
        small.sql("SELECT pg_reload_conf()")
        shutil.rmtree(path)
        shutil.rmtree(small.path / "sockets")


def test_sessions_on_a_standby_are_ended(small: Cluster, standby: Cluster) -> None:
    here = {"socket": str(standby.path), "port": standby.port}
    database = engine(small, connection={**small.connection, "standbys": [here]})
    database.require_swappable()
    source, manifest = take(database)
    database.stage(CASE, source, manifest)
    failed: list[str] = []

    def read() -> None:
        try:
            standby.sql("BEGIN; SELECT count(*) FROM s.t; SELECT pg_sleep(60)", "simpeg")
        except AssertionError as error:
            failed.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    while standby.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'simpeg'") == "0":
        time.sleep(0.05)
    proof = database.quiesce(10)
    reader.join(10)
    assert proof["ended_on_standbys"] >= 1 and proof["standbys_unlisted"] == 0
    assert failed and "terminating connection" in failed[0]
    with pytest.raises(AssertionError, match="not currently accepting"):
        standby.sql("SELECT 1", "simpeg")
    database.swap(CASE)
    database.release()
    small.sql("CREATE TABLE s.baru AS SELECT 1 AS x", "simpeg")
    for _ in range(100):
        if standby.sql("SELECT pg_last_wal_replay_lsn() >= '" + small.sql("SELECT pg_current_wal_lsn()") + "'") == "t":
            break
        time.sleep(0.1)
    assert standby.sql("SELECT count(*) FROM s.t, s.baru", "simpeg") == "100"
    database.drop_kept(CASE)
    # not listed: nobody there is ended, and the proof says that there is one
    other = engine(small)
    proof = other.quiesce(10)
    assert (proof["ended_on_standbys"], proof["standbys_unlisted"]) == (0, 1)
    other.release()


def test_a_standby_that_cannot_be_asked_is_told_before_the_stop(small: Cluster, standby: Cluster) -> None:
    gone = {"socket": str(standby.path), "port": 1}
    for listed, message in ((gone, "cannot be asked"), ({"port": small.port}, "is no standby of this server")):
        database = engine(small, connection={**small.connection, "standbys": [listed]})
        with pytest.raises(SopError, match=f"{message}.*connection.standbys"):
            database.require_swappable()
        with pytest.raises(SopError, match=message):
            database.quiesce(2)
        assert not database.is_quiesced()


def test_a_standby_is_no_target(small: Cluster, standby: Cluster) -> None:
    target = engine(standby)
    source, manifest = take(target)  # a backup may be taken from a standby
    assert manifest["content"]["tables"]["s.t"]["rows"] == 100
    for attempt in (
        target.require_swappable,
        lambda: target.stage(CASE, source, manifest),
        lambda: target.place("lain", CASE, source, manifest),
        lambda: target.empty(CASE),
    ):
        with pytest.raises(SopError, match=r"this server is a standby \(in recovery\); restore on its primary"):
            attempt()
