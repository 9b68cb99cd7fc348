"""What the MariaDB engine's tests share: sample schemas, a dump in memory, an independent look by mariadb-dump."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.diskominfo.sop.plugins.module_utils.engines.mariadb import MariadbEngine

from tests.integration.my_process import Server
from tests.integration.pg_helpers import Bytes, drain

CASE = "RST-2026-0001"
SHADOW, BEFORE = "simpeg__shadow_rst20260001", "simpeg__before_rst20260001"
ZOO = Path(__file__).with_name("my_zoo.sql")
ACCOUNTS = ("app", "pembaca", "petugas", "pemilik")
SMALL = """
CREATE DATABASE simpeg CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
CREATE USER app@localhost IDENTIFIED BY 'rahasia'; GRANT ALL ON simpeg.* TO app@localhost;
USE simpeg;
CREATE TABLE t (x INT PRIMARY KEY, y VARCHAR(20));
INSERT INTO t SELECT seq, CONCAT('baris ', seq) FROM seq_1_to_100;
CREATE TABLE catatan (x INT);
CREATE DEFINER=app@localhost VIEW v AS SELECT x FROM t WHERE x > 50;
CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO catatan VALUES (NEW.x);
CREATE PROCEDURE p() SELECT COUNT(*) FROM t;
GRANT EXECUTE ON PROCEDURE p TO app@localhost;
CREATE EVENT ev ON SCHEDULE EVERY 1 SECOND DISABLE DO INSERT INTO simpeg.catatan VALUES (-1);
"""


@dataclass
class Site:
    """A server and the folder where this host's journals lie."""

    server: Server
    state: Path

    def engine(self, database: str = "simpeg", **dataset: Any) -> MariadbEngine:
        connection = {**self.server.connection, **dataset.pop("connection", {})}
        record = {"id": "simpeg", "engine": "mariadb", "database": database, "connection": connection}
        return MariadbEngine({**record, "state_dir": str(self.state), **dataset}, {})

    def sql(self, text: str, schema: str = "simpeg", **who: str) -> str:
        return self.server.sql(text, schema, **who)


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def clean(server: Server) -> None:
    """Remove everything that a test made."""
    for name in server.sql("SHOW DATABASES").splitlines():
        if name not in ("mysql", "information_schema", "performance_schema", "sys"):
            for rest in (server.path / "data").glob("*/*~"):  # of a server that a test killed
                rest.unlink()
            server.sql(f"SET foreign_key_checks = 0; DROP DATABASE {quoted(name)}")
    for line in server.sql("SELECT User, Host FROM mysql.global_priv").splitlines():
        user, _, host = line.partition("\t")
        if user in ("root", "mysql", "mariadb.sys", "PUBLIC", ""):
            continue
        server.sql(f"DROP USER '{user}'@'{host}'" if host else f"DROP ROLE `{user}`")
    server.sql("SET GLOBAL read_only = 0")


def make_zoo(server: Server) -> None:
    """Schema simpeg with one of everything."""
    server.sql(ZOO.read_text())


def take(source: MariadbEngine, change: Callable[[dict[str, Any]], None] | None = None) -> tuple[Bytes, dict[str, Any]]:
    """A finished dump and its manifest; ``change`` may spoil the manifest's content."""
    stream = source.dump()
    data = drain(stream)
    content = stream.finish()
    if change is not None:
        change(content)
    return Bytes(data), manifest_of(data, content)


def manifest_of(data: bytes, content: dict[str, Any]) -> dict[str, Any]:
    return {"content": content, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def staged(site: Site, case: str = CASE) -> MariadbEngine:
    """The engine, with its own dump staged and the fence up."""
    engine = site.engine()
    engine.stage(case, *take(engine))
    engine.quiesce(10)
    return engine


def schemas(server: Server) -> list[str]:
    own = ("mysql", "information_schema", "performance_schema", "sys")
    return [name for name in server.sql("SHOW DATABASES").splitlines() if name not in own]


def no_rests(server: Server) -> bool:
    """True when neither a shadow nor a loading account is left."""
    accounts = server.sql("SELECT COUNT(*) FROM mysql.global_priv WHERE User LIKE 'sop%'")
    return accounts == "0" and not [name for name in schemas(server) if "__shadow" in name]
