"""restore_dataset with state placed on database servers, as a real process: another name, compared, never over anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.module_process import run_module
from tests.integration.my_helpers import Site
from tests.integration.pg_cluster import Cluster
from tests.integration.sop_fixtures import vault_at
from tests.integration.test_restore_dataset import failed

pytestmark = pytest.mark.long

pytest_plugins = ["tests.integration.pg_fixtures", "tests.integration.my_fixtures"]
Json = dict[str, Any]
Sql = Callable[..., str]
COUNT = {"postgresql": "SELECT count(*) FROM s.t", "mariadb": "SELECT count(*) FROM t"}
DAMAGE = {"postgresql": "DELETE FROM s.t WHERE x > 10", "mariadb": "DELETE FROM t WHERE x > 10"}
EXISTING = "ada"


class Database:
    """A backup of a small database that was verified, and the live data damaged afterwards."""

    def __init__(self, kind: str, server: Any, folder: Path) -> None:
        self.kind = kind
        self.sql: Sql = server.sql
        dataset = {"id": "simpeg", "engine": kind, "database": "simpeg", "connection": server.connection}
        dataset["state_dir"] = str(folder / "state")
        common: Json = {"case": "BKP-2026-0001", "dataset": dataset, "vault": vault_at(folder)}
        run_module("vault_repository", common, "vault_repository")
        backup = run_module("backup_dataset", {**common, "period": "2026-11", "name": "n"}, "backup")
        assert "sop_evidence" in backup, backup
        self.bytes = backup["sop_evidence"]["bytes"]
        ids = {key: backup["sop_evidence"][key] for key in ("snapshot", "manifest_snapshot")}
        verified = run_module("verify_dataset", {**common, **ids}, "verify")
        assert "sop_evidence" in verified, verified
        self.tables: Json = verified["sop_evidence"]["tables"]
        self.args: Json = {
            **common,
            **ids,
            "case": "RST-2026-0001",
            "expected": {"tables": self.tables},
            "state": "placed",
        }
        self.sql(DAMAGE[kind], "simpeg")

    def place(self, to: str, check: bool = False, **more: Any) -> Json:
        return run_module(
            "restore_dataset", {**self.args, "to": to, **more}, None if check else "restore.placed", check
        )

    def rows(self, database: str) -> int:
        return int(self.sql(COUNT[self.kind], database))

    def names(self) -> set[str]:
        ask = "SELECT datname FROM pg_database" if self.kind == "postgresql" else "SHOW DATABASES"
        return set(self.sql(ask).split())


class Placing:
    """What holds for every engine with a server."""

    def test_beside_the_live_database(self, database: Database) -> None:
        names = database.names()
        look = {**database.args["dataset"], "database": "simpeg_salinan"}
        asked = {"case": "RST-2026-0001", "dataset": look, "operation": "restore", "dump_bytes": database.bytes}
        seen = run_module("dataset_capacity", asked)["sop_evidence"]
        assert seen["exists"] is False, "what a plan looks at: nothing has that name"
        assert seen["needs_from"] == "dump"
        assert database.place("simpeg_salinan", check=True)["changed"]
        assert database.names() == names
        first = database.place("simpeg_salinan")
        assert first.get("changed"), first
        assert first["sop_evidence"]["tables"] == database.tables
        assert (database.rows("simpeg_salinan"), database.rows("simpeg")) == (100, 10)
        assert not database.place("simpeg_salinan")["changed"]
        assert database.names() == names | {"simpeg_salinan"}
        assert run_module("dataset_capacity", asked)["sop_evidence"]["exists"] is True

    def test_what_is_there_is_never_replaced(self, database: Database) -> None:
        database.sql(f"CREATE DATABASE {EXISTING}")
        names = database.names()
        for taken in (EXISTING, "simpeg"):
            result = database.place(taken)
            assert result.get("failed"), result
            assert taken in result["msg"]
        assert database.names() == names
        assert database.rows("simpeg") == 10

    def test_a_copy_that_differs_is_dropped(self, database: Database) -> None:
        names, (table, *_) = database.names(), sorted(database.tables)
        wrong = {**database.tables, table: {**database.tables[table], "rows": 1}}
        result = failed(
            database.place("simpeg_salinan", expected={"tables": wrong}), "differs from the verified backup"
        )
        assert "it was dropped" in result["msg"]
        assert database.names() == names
        assert database.place("simpeg_salinan")["changed"]


class TestPostgresql(Placing):
    @pytest.fixture
    def database(self, small: Cluster, tmp_path: Path) -> Database:
        return Database("postgresql", small, tmp_path)


class TestMariadb(Placing):
    @pytest.fixture
    def database(self, my_small: Site, tmp_path: Path) -> Database:
        return Database("mariadb", my_small.server, tmp_path)
