"""Fixtures: a MariaDB server and sample schemas for the MariaDB engine's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.my_helpers import SMALL, Site, clean, make_zoo
from tests.integration.my_process import Server, installed, running


@pytest.fixture(scope="session")
def my_server() -> Iterator[Server]:
    if not installed():
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server")
    with running() as started:
        yield started


@pytest.fixture
def my_empty(my_server: Server, tmp_path: Path) -> Iterator[Site]:
    """The server, with every schema and account of a test gone before and afterwards."""
    clean(my_server)
    (tmp_path / "state").mkdir(mode=0o700)
    yield Site(my_server, tmp_path / "state")
    if my_server.process is not None and my_server.process.poll() is not None:
        my_server.start()
    clean(my_server)


@pytest.fixture
def my_small(my_empty: Site) -> Site:
    """A small schema, for tests that are not about its content."""
    my_empty.server.sql(SMALL)
    return my_empty


@pytest.fixture
def my_zoo(my_empty: Site) -> Site:
    """A schema with one of everything."""
    make_zoo(my_empty.server)
    return my_empty
