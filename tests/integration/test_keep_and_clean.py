# SPDX-License-Identifier: Apache-2.0
"""Keep and clean on this machine: what a restore set aside is shown, kept as long as promised, and dropped by a signed order."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import later
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.long

Json = dict[str, Any]
CASE = "RST-2026-0001"


class Story:
    """A site of Trenggalek's SOP with one SQLite dataset that was restored."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "data/antrean.db"
        self.path.parent.mkdir()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("CREATE TABLE tamu (id INTEGER PRIMARY KEY, nama TEXT NOT NULL)")
            connection.executemany("INSERT INTO tamu (nama) VALUES (?)", [(f"tamu {n}",) for n in range(500)])
        self.site = SiteBuilder(folder)
        self.site.server("srv01")
        self.site.dataset("antrean", engine="sqlite", server="srv01", path=str(self.path))
        self.site.schedule()
        self.site.run("schedule", "run", "--due", as_="pelaksana")
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("DELETE FROM tamu WHERE id > 100")
        self.case = self.site.approved("antrean")
        self.site.run("case", "execute", self.case, as_="pelaksana")
        self.before = Path(f"{self.path}__before_{self.case.lower().replace('-', '')}")
        self.today = list(self.site.sopctl)

    def rows(self, path: Path) -> int:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM tamu").fetchone()[0])

    def in_days(self, days: int) -> None:
        """All commands from now on are typed that many days later."""
        self.site.sopctl = [sys.executable, str(Path(later.__file__)), str(days)]
        self.site.env["PYTHONPATH"] = str(Path(__file__).parents[2])

    def close(self) -> None:
        self.site.run("case", "inform", self.case, as_="pelaksana")
        self.site.run("case", "receive", self.case, as_="pemohon")

    def clean(self, *words: str, as_: str = "pelaksana", check: bool = False) -> Any:
        return self.site.run("case", "clean", self.case, *words, as_=as_, check=check)

    def show(self) -> Json:
        shown: Json = self.site.run_json("case", "show", self.case)
        return shown

    def doctor(self) -> list[str]:
        found = self.site.run("doctor", "--json", check=False)
        return [f"{item['state']}: {item['detail']}" for item in json.loads(found.stdout) if item["what"] == "kept"]

    def ledger(self) -> list[Json]:
        text = (self.site.root / "archive/ledger.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def documents(self) -> list[str]:
        return sorted(path.name for path in (self.site.root / "cases").rglob(f"{self.case}/*.json"))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(tmp_path_factory.mktemp("keep"))


def test_1_what_is_kept_is_shown_at_once(story: Story) -> None:
    [kept] = story.show()["kept"]
    assert (kept["name"], kept["server"], kept["copy"]) == (str(story.before), "srv01", "before")
    assert (kept["past"], kept["cleanable"]) == (False, False)
    assert kept["bytes"] >= 4096
    shown = story.site.run("case", "show", story.case).stdout
    assert f"kept: srv01 {story.before}" in shown
    assert "and until the case is closed" in shown
    [line] = story.doctor()
    assert line.startswith("ok: srv01: ")
    assert str(story.before) in line


def test_2_not_before_the_case_is_closed(story: Story) -> None:
    done = story.clean("--yes")
    assert done.returncode == 10, done.stderr
    assert "the case is not closed: due is step 6" in done.stderr
    assert story.rows(story.before) == 100


def test_3_not_before_the_keep_time_is_over(story: Story) -> None:
    story.close()
    before = story.documents()
    done = story.clean("--yes")
    assert done.returncode == 10, done.stderr
    assert "antrean: is kept until" in done.stderr
    assert f"{story.before}" in done.stdout, "it is shown all the same"
    assert story.documents() == before
    assert not [line for line in story.ledger() if line["kind"] == "destruction"]
    shown = story.site.run("case", "show", story.case).stdout
    assert f"sopctl case clean {story.case}" in shown


def test_4_check_mode_asks_the_host_and_changes_nothing(story: Story) -> None:
    before = story.documents()
    done = story.clean("--check", "--json", check=True)
    value = json.loads(done.stdout)
    assert [copy["name"] for copy in value["would_drop"]] == [str(story.before)]
    assert value["bytes"] >= 4096
    assert value["dropped"] == []
    assert story.rows(story.before) == 100
    assert story.documents() == before
    assert [line["kind"] for line in story.ledger()][-2:] == ["observed", "record"]


def test_5_without_yes_it_only_shows(story: Story) -> None:
    story.in_days(8)
    before = story.documents()
    done = story.clean(check=True)
    assert "Nothing was dropped" in done.stdout
    assert str(story.before) in done.stdout
    value = json.loads(story.clean("--json", check=True).stdout)
    assert (value["dropped"], [kept["cleanable"] for kept in value["kept"]]) == ([], [True])
    assert story.rows(story.before) == 100
    assert story.documents() == before
    assert any("its keep time was over on" in line and "sopctl case clean" in line for line in story.doctor())


def test_6_not_by_who_decides_or_receives(story: Story) -> None:
    for person in ("kabid", "pemohon", "kadis"):
        done = story.clean("--yes", as_=person)
        assert done.returncode == 10, done.stderr
        assert "dropping kept data is for pelaksana" in done.stderr
    assert story.rows(story.before) == 100


def test_7_dropped_by_a_signed_order_and_recorded(story: Story) -> None:
    sealed = {path.name: sorted(path.rglob("*")) for path in story.site.records}
    done = story.clean("--yes", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    value = json.loads(done.stdout)
    assert [copy["name"] for copy in value["dropped"]] == [str(story.before)]
    assert value["bytes"] >= 4096
    assert not story.before.exists()
    assert story.rows(story.path) == 500
    left = [path.name for path in story.path.parent.iterdir()]
    assert left == ["antrean.db"], left

    # the order came first, named what it drops, and nothing entered the sealed case
    assert story.documents()[-1].endswith("-clean.json")
    kinds = [(line["kind"], line["ref"]) for line in story.ledger()][-3:]
    number = story.documents()[-1][:2]
    run = f"{story.case}-H01"
    assert kinds == [("document", f"{story.case}/{number}"), ("destruction", f"{story.case}/{run}"), ("record", run)]
    [path] = (story.site.root / "cases").rglob(f"{story.case}/{story.documents()[-1]}")
    document = json.loads(path.read_text())
    [drop] = document["body"]["drops"]
    assert (drop["dataset"], drop["host"], drop["name"]) == ("antrean", "srv01", str(story.before))
    assert {path.name: sorted(path.rglob("*")) for path in story.site.records if path.name in sealed} == sealed
    record = Path(value["record"])
    assert record.name == run
    assert json.loads((record / "data/plan.json").read_text())["order"].startswith("sha256:")
    form = (record / "data/form.html").read_text(encoding="utf-8")
    assert "Berita Acara Penghapusan Salinan Pengaman" in form
    assert str(story.before) in form
    story.site.run("record", "verify")


def test_8_shown_as_cleaned_and_nothing_to_do_again(story: Story) -> None:
    shown = story.show()
    assert shown["kept"] == []
    assert shown["problems"] == []
    assert shown["outcome"] == "selesai"
    [gone] = shown["cleaned"]
    assert (gone["name"], gone["by"]) == (str(story.before), "pelaksana")
    assert "cleaned at" in story.site.run("case", "show", story.case).stdout
    assert story.doctor() == []
    documents = story.documents()
    again = story.clean("--yes", check=True)
    assert "keeps nothing" in again.stdout
    assert story.documents() == documents
