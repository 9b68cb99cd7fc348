"""A dataset's own checks, asked of real restored copies: what they find, what they may not do, what records tell of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.checks import failures, results
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.sqlite import SqliteEngine

from tests.integration.my_helpers import Site
from tests.integration.my_helpers import take as my_take
from tests.integration.pg_cluster import Cluster
from tests.integration.pg_helpers import Bytes
from tests.integration.pg_helpers import engine as pg_engine
from tests.integration.pg_helpers import take as pg_take

pytest_plugins = ["tests.integration.pg_fixtures", "tests.integration.my_fixtures"]

Json = dict[str, Any]
Ask = Callable[[list[Json]], list[Json]]


def check(query: str, expect: str = "", name: str = "tanya") -> Json:
    return {"name": name, "query": query, "expect": expect}


@pytest.fixture
def postgresql(small: Cluster) -> Ask:
    """Ask a copy of a database whose table s.t has 100 rows."""

    def ask(checks: list[Json]) -> list[Json]:
        with pg_engine(small, checks=checks).scratch(*pg_take(pg_engine(small))) as content:
            found: list[Json] = content["checks"]
            return found

    return ask


@pytest.fixture
def mariadb(my_small: Site) -> Ask:
    """The same of a schema whose table t has 100 rows."""

    def ask(checks: list[Json]) -> list[Json]:
        with my_small.engine(checks=checks).scratch(*my_take(my_small.engine())) as content:
            found: list[Json] = content["checks"]
            return found

    return ask


@pytest.fixture
def sqlite(tmp_path: Path) -> Ask:
    """The same of a file in WAL mode."""
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    with connection:
        connection.execute("CREATE TABLE t (x INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(1, 101)])
    connection.close()

    def ask(checks: list[Json]) -> list[Json]:
        engine = SqliteEngine({"id": "a", "path": str(path), "scratch_dir": str(tmp_path), "checks": checks}, {})
        stream = engine.dump()
        data = b""
        while part := stream.read(65536):
            data += part
        content = stream.finish()
        manifest = {"content": content, "bytes": len(data)}
        with engine.scratch(Bytes(data), manifest) as restored:
            found: list[Json] = restored["checks"]
        assert [left.name for left in tmp_path.iterdir()] == ["a.db"], "nothing is left"
        return found

    return ask


def test_answers_postgresql(postgresql: Ask) -> None:
    answers(postgresql, "s.t")


def test_answers_mariadb(mariadb: Ask) -> None:
    answers(mariadb, "t")


def test_answers_sqlite(sqlite: Ask) -> None:
    answers(sqlite, "t")


def answers(ask: Ask, table: str) -> None:
    """Right, wrong, nothing, a comment at the end, a query that cannot be answered, and one that would write."""
    questions = [
        check("SELECT count(*) FROM TABLE", "100", "jumlah"),
        check("SELECT max(x) FROM TABLE -- yang terbesar", "100", "komentar"),
        check("SELECT x FROM TABLE WHERE x > 100", "", "kosong"),
        check("SELECT count(*) FROM TABLE WHERE x > 90", "0", "salah"),
        check("SELECT 'Nama Orang'", "lain", "rahasia"),
        check("SELECT tidak_ada FROM juga_tidak", "1", "tak terjawab"),
        check("DELETE FROM TABLE", "", "menghapus"),
        check("SELECT count(*) FROM TABLE", "100", "tetap"),
    ]
    found = ask([{**one, "query": one["query"].replace("TABLE", table)} for one in questions])
    assert [one["name"] for one in found if one["ok"]] == ["jumlah", "komentar", "kosong", "tetap"]
    said = {one["name"]: one.get("why", "") for one in found}
    assert said["salah"] == "10 instead of 0"
    assert said["rahasia"] == "something else instead of lain", "a record holds no rows"
    assert "cannot be answered" in said["tak terjawab"]
    assert "cannot be answered" in said["menghapus"]
    assert failures({"checks": found})[0] == "check 'salah': 10 instead of 0"


@pytest.mark.parametrize(
    "query", ["SELECT 1;", "SELECT 1\n\\! touch {path}", "SELECT 1 \\! touch {path}", "SELECT 1 \\g"]
)
def test_what_a_client_would_take_as_its_own_command_is_refused(query: str, tmp_path: Path) -> None:
    """Also here, though sop.yml's reader refuses it: psql would run it as the server's account."""
    path = tmp_path / "ran"
    asked: list[str] = []

    def ask(text: str) -> str:
        asked.append(text)
        return "1"

    with pytest.raises(SopError, match="holds a backslash, a semicolon"):
        results({"id": "a", "checks": [check(query.format(path=path), "1")]}, ask)
    assert not asked


def test_the_loading_role_asks_not_the_servers_superuser(postgresql: Ask) -> None:
    """What a dump's author hid in a function gains nothing by being asked."""
    [told] = postgresql([check("SELECT rolsuper FROM pg_roles WHERE rolname = current_user", "false")])
    assert told["ok"], told
    [refused] = postgresql([check("SELECT pg_read_file('/etc/passwd')", "")])
    assert "cannot be answered" in refused["why"]
