"""Datasets and vaults that the tests of the collection share."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "CANARY-vault-password-7f3a"  # looked for in process lists and results
Json = dict[str, Any]


def noise(size: int, seed: bytes = b"noise") -> bytes:
    """Bytes that do not compress, the same in every run."""
    return hashlib.shake_256(seed).digest(size)


def vault_at(folder: Path, **more: Any) -> Json:
    """Settings of a vault in ``folder``."""
    return {"repository": str(folder / "vault"), "password": PASSWORD, "ca_pem": None, "restic": "restic", **more}


def make_database(path: Path, rows: int = 1000, wal: bool = True, width: int = 40) -> None:
    """A database with two tables, an index, a view, a trigger and awkward values."""
    connection = sqlite3.connect(path)
    if wal:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(
        """
        CREATE TABLE pegawai (id INTEGER PRIMARY KEY, nama TEXT, gaji REAL, foto BLOB);
        CREATE TABLE "tabel aneh; --" (a, b, PRIMARY KEY (a)) WITHOUT ROWID;
        CREATE INDEX pegawai_nama ON pegawai (nama);
        CREATE VIEW kaya AS SELECT * FROM pegawai WHERE gaji > 10;
        CREATE TRIGGER jaga AFTER DELETE ON pegawai BEGIN SELECT 1; END;
        PRAGMA user_version = 7;
        """
    )
    connection.executemany(
        "INSERT INTO pegawai (nama, gaji, foto) VALUES (?, ?, ?)",
        ((f"Pegawai {n} é" + "x" * width, n / 7, None if n % 3 else bytes([n % 256]) * 20) for n in range(rows)),
    )
    connection.execute(
        """INSERT INTO "tabel aneh; --" VALUES (CAST(x'ff00fe' AS TEXT), 1.0), (x'ff00fe', 1), ('1', NULL)"""
    )
    connection.commit()
    connection.close()


def dataset_for(path: Path, state_dir: Path, engine: str = "sqlite", **more: Any) -> Json:
    """A dataset record."""
    return {
        "id": "antrean" if engine == "sqlite" else "berkas",
        "engine": engine,
        "path": str(path),
        "state_dir": str(state_dir),
        **more,
    }


@contextmanager
def tmpfs(path: Path, size: str) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("a small tmpfs needs root")
    path.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=False).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
