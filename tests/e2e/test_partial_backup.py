# SPDX-License-Identifier: Apache-2.0
"""Ten datasets of which three fail in different ways: seven are proven, three are named, and only they are done again."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import Done, all_verified, record_json
from tests.e2e.conftest import proven_by_reading
from tests.support.site_builder import SiteBuilder

GOOD = ("db1", "db2", "db3", "db4", "tree1", "tree2", "tree3")
BAD = ("hilang", "rusak", "pindah")
TEN = (*GOOD, *BAD)


@dataclass
class Story:
    """What happened: the first run, the record and form it left, what was proven, the run after mending, one more."""

    site: SiteBuilder
    first: Done
    proven: list[str]
    second: dict[str, Any]
    third: Done
    status: list[dict[str, Any]]

    @property
    def told(self) -> dict[str, Any]:
        """What the first run printed as JSON."""
        found: dict[str, Any] = json.loads(self.first.stdout)
        return found


def database(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE surat (id INTEGER PRIMARY KEY, perihal TEXT NOT NULL)")
        connection.executemany("INSERT INTO surat (perihal) VALUES (?)", [(f"{path.stem} {n}",) for n in range(50)])
    connection.close()


def tree(path: Path) -> None:
    path.mkdir()
    for number in range(5):
        (path / f"surat-{number}.txt").write_text(f"{path.name} {number}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("partial")
    site = SiteBuilder(folder)
    site.server("srv01")
    data = folder / "data"
    data.mkdir()
    for name in TEN:
        if name.startswith("tree") or name == "pindah":
            site.dataset(name, engine="files", server="srv01", path=str(data / name))
            tree(data / name)
        else:
            site.dataset(name, engine="sqlite", server="srv01", path=str(data / f"{name}.db"))
            database(data / f"{name}.db")
    site.schedule()
    proven_by_reading(site, True)
    (data / "hilang.db").rename(data / "hilang.lain")
    whole = (data / "rusak.db").read_bytes()
    (data / "rusak.db").write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    (data / "pindah").rename(data / "di-tempat-lain")
    first = site.run("schedule", "run", "--due", "--json", as_="pelaksana", check=False)
    proven = [backup["dataset"] for backup in site.run_json("vault", "list") if backup["verified"]]
    (data / "hilang.lain").rename(data / "hilang.db")
    (data / "rusak.db").write_bytes(whole)
    (data / "di-tempat-lain").rename(data / "pindah")
    second = site.run_json("schedule", "run", "--due", as_="pelaksana")
    third = site.run("schedule", "run", "--due", as_="pelaksana")
    return Story(site, first, proven, second, third, site.run_json("schedule", "status"))


def test_seven_of_ten_are_proven(story: Story) -> None:
    assert story.first.returncode == 22, story.first.stdout + story.first.stderr
    assert sorted(story.proven) == sorted(GOOD)
    assert story.told["result"] == "sebagian"


@pytest.mark.parametrize(
    ("dataset", "cause"),
    [
        ("hilang", "there is no such database file on this host; correct the register or restore it"),
        ("rusak", "(database disk image is malformed); nothing was stored or changed, restore it from a backup"),
        ("pindah", "there is no such folder on this host; correct the register or restore it"),
    ],
)
def test_each_failure_is_named_with_its_cause(dataset: str, cause: str, story: Story) -> None:
    """On the terminal and on the form: what, where, why, and what to do."""
    [said] = [failure["msg"] for failure in story.told["failures"] if failure["dataset"] == dataset]
    assert cause in said
    form = record_json(Path(story.told["record"]), "form.json")
    assert len(form["rows"]) == 10
    [row] = [row for row in form["rows"] if row["dataset"] == dataset]
    assert row["result"] == "gagal"
    assert cause in row["remark"]


def test_the_form_says_what_was_done(story: Story) -> None:
    form = record_json(Path(story.told["record"]), "form.json")
    assert [row["dataset"] for row in form["rows"] if row["result"] != "gagal"] == list(GOOD)
    page = (Path(story.told["record"]) / "data/form.html").read_text(encoding="utf-8")
    assert all(name in page for name in TEN)


def test_only_the_three_are_done_again(story: Story) -> None:
    plan = record_json(Path(story.second["record"]), "plan.json")
    assert sorted(item["dataset"]["id"] for item in plan["items"]) == sorted(BAD)
    assert story.second["exit"] == 0
    assert "Nothing is due (changed=0)." in story.third.stdout
    assert not [row for row in story.status if row["due"] or row["missed"]]
    all_verified(story.site)
