# SPDX-License-Identifier: Apache-2.0
"""A dataset's own checks: a backup that makes no sense is stored, not verified, and the next run makes another one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import record_json
from tests.e2e.conftest import proven_by_reading
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.long

NUMBERED = {"name": "setiap tamu bernomor", "query": "SELECT count(*) FROM antrean WHERE nomor IS NULL", "expect": "0"}
FILLED = {"name": "ada isinya", "query": "SELECT count(*) > 0 FROM antrean", "expect": "1"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """A queue in which one guest has no number, and whose keeper asks for that."""
    made = SiteBuilder(tmp_path_factory.mktemp("checks"))
    made.server("srv01")
    write(made, "CREATE TABLE antrean (nomor INTEGER, tamu TEXT); INSERT INTO antrean VALUES (1, 'a'), (NULL, 'b');")
    made.dataset(
        "antrean", engine="sqlite", server="srv01", path=str(made.folder / "antrean.db"), checks=[NUMBERED, FILLED]
    )
    made.schedule()
    return proven_by_reading(made, False)


def write(site: SiteBuilder, script: str) -> None:
    with closing(sqlite3.connect(site.folder / "antrean.db")) as connection:
        connection.executescript(script)


def run(site: SiteBuilder, code: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the run printed, its form's row)."""
    done = site.run("schedule", "run", "--due", "--json", as_="pelaksana", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    [row] = record_json(Path(told["record"]), "form.json")["rows"]
    return told, row


def test_the_whole_of_it(site: SiteBuilder) -> None:
    told, row = run(site, 20)
    said = [failure["msg"] for failure in told["failures"] if failure["dataset"] == "antrean"]
    assert len(said) == 1
    assert "the dataset's own checks fail on it (check 'setiap tamu bernomor': 1 instead of 0)" in said[0]
    assert "look at the live data, or correct the checks" in said[0]
    assert row["verification"] == "tidak_berhasil"
    assert "1 dari 2 pemeriksaan data sesuai" in row["remark"]
    [stored] = site.run_json("vault", "list")
    assert not stored["verified"]
    write(site, "UPDATE antrean SET nomor = 2 WHERE nomor IS NULL")
    told, row = run(site, 0)
    assert told["changed"] == 1, "another one is made: the first would be refuted each time"
    assert row["verification"] == "berhasil"
    assert "2 dari 2 pemeriksaan data sesuai" in row["remark"]
    first, second = site.run_json("vault", "list")
    assert (first["verified"], second["verified"]) == (False, True)
    assert first["period"] == second["period"]
    assert "Nothing is due (changed=0)." in site.run("schedule", "run", "--due", as_="pelaksana").stdout
