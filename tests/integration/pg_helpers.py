"""What the PostgreSQL engine's tests share: sample databases, a dump in memory, an independent look by pg_dump."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, DumpStream
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.postgresql import PostgresqlEngine

from tests.integration.pg_cluster import Cluster

SAMPLE = Path(__file__).with_name("pg_sample.sql")
CASE = "RST-2026-0001"
ROLES = 'CREATE ROLE app LOGIN; CREATE ROLE kepeg; CREATE ROLE pembaca; CREATE ROLE "Petugas ""Arsip""" ;'
PROPERTIES = Path(__file__).with_name("pg_properties.sql")


class Bytes(DumpSource):
    """A dump in memory; ``breaks`` raises that error after the bytes."""

    def __init__(self, data: bytes, breaks: Exception | None = None) -> None:
        self.data = data
        self.breaks = breaks

    def opened(self) -> None:
        """For tests that want to know."""

    def open(self) -> IO[bytes]:
        self.opened()
        return _Breaking(self.data, self.breaks)


class _Breaking(io.BytesIO):
    def __init__(self, data: bytes, breaks: Exception | None) -> None:
        super().__init__(data)
        self._breaks = breaks

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(min(size or 0, 65536) if size and size > 0 else size)
        if not data and self._breaks is not None:
            raise self._breaks
        return data


def make_sample(cluster: Cluster, options: str = "LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'") -> None:
    """Database simpeg of role app, with one of everything."""
    cluster.sql(f"CREATE DATABASE simpeg OWNER app TEMPLATE template0 ENCODING 'UTF8' {options}")
    cluster.sql(SAMPLE.read_text(), "simpeg")
    cluster.sql(PROPERTIES.read_text())


def engine(cluster: Cluster, database: str = "simpeg", **dataset: Any) -> PostgresqlEngine:
    return PostgresqlEngine(
        {"id": "simpeg", "engine": "postgresql", "database": database, "connection": cluster.connection, **dataset}, {}
    )


def drain(stream: DumpStream) -> bytes:
    parts = []
    while part := stream.read(65536):
        parts.append(part)
    return b"".join(parts)


def take(
    source: PostgresqlEngine, change: Callable[[dict[str, Any]], None] | None = None
) -> tuple[Bytes, dict[str, Any]]:
    """A finished dump and its manifest; ``change`` may spoil the manifest's content."""
    stream = source.dump()
    data = drain(stream)
    content = stream.finish()
    if change is not None:
        change(content)
    return Bytes(data), {"content": content, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def schema_text(cluster: Cluster, database: str = "simpeg", ordered: bool = True) -> str:
    """The whole definition of a database, by pg_dump, large objects included; made comparable by ordering its lines."""
    done = subprocess.run(
        [
            f"{cluster.bin_dir}/pg_dump", "--schema-only", "--create", "-h", str(cluster.path), "-p", str(cluster.port),
            "-U", "dba", "-d", database,
        ],
        capture_output=True, text=True, check=False, user=cluster.os_user, cwd="/",
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # grants of one object come in the order of their making, which is not part of their meaning
    lines = [line for line in done.stdout.splitlines() if not re.match(r"\\(un)?restrict |^--|^$", line)]
    return "\n".join(sorted(lines) if ordered else lines)


def databases(cluster: Cluster) -> list[str]:
    return cluster.sql("SELECT datname FROM pg_database ORDER BY 1").splitlines()


def no_rests(cluster: Cluster) -> bool:
    """True when neither a shadow nor a loading role is left."""
    roles = cluster.sql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^sop'")
    return roles == "0" and not [name for name in databases(cluster) if "__shadow" in name]
