"""Fixtures: clusters and sample databases for the PostgreSQL engine's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.integration.pg_cluster import Cluster, bin_dirs, running
from tests.integration.pg_helpers import ROLES, databases, make_sample
from tests.support import thin

BINS = bin_dirs()
#: Debian's, which servers have; `make test-long` asks the newest too
VERSIONS = sorted(BINS)[:: thin.stride(len(BINS))] if BINS else []


@pytest.fixture(scope="session", params=VERSIONS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with running(BINS[request.param], 15000 + os.getpid() % 15000) as started:  # below the ephemeral ports
        started.sql(ROLES)
        yield started


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with every database of a test gone afterwards."""
    yield cluster
    cluster.sql("SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE database = 'postgres' \\gexec")
    for name in databases(cluster):
        if name not in ("postgres", "template0", "template1"):
            quoted = name.replace('"', '""')
            cluster.sql(f'ALTER DATABASE "{quoted}" IS_TEMPLATE false; DROP DATABASE "{quoted}" WITH (FORCE)')
    cluster.sql("ALTER ROLE app NOSUPERUSER")


@pytest.fixture
def sample(empty: Cluster) -> Cluster:
    make_sample(empty)
    return empty


@pytest.fixture
def small(empty: Cluster) -> Cluster:
    """A small database, for tests that are not about its content."""
    empty.sql("CREATE DATABASE simpeg OWNER app")
    empty.sql(
        "SET ROLE app; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT g AS x FROM generate_series(1, 100) g", "simpeg"
    )
    return empty
