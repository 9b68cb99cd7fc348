# SPDX-License-Identifier: Apache-2.0
"""file01's plain files and its SQLite queue, restored together by one case, compared with what the host's tools say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import all_verified, evidence, record_json
from tests.e2e.faults.subjects import Letters, Queue
from tests.lab.hosts import Lab
from tests.lab.probe import Probe, healthy
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab

KEPT = "__before_rst20260001"
TREE = "/srv/berkas"
QUEUE = "/srv/antrean/antrean.db"
# Counter 1 is where people go on working.
DESTROY_QUEUE = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=20)
c.execute("BEGIN IMMEDIATE")
c.execute("DELETE FROM antrean WHERE id % 3 = 0 AND loket_id <> 1")
c.execute("UPDATE jumlah SET total = 0 WHERE loket_id <> 1")
c.execute("DROP VIEW ringkasan")
c.execute("CREATE TRIGGER asing AFTER DELETE ON antrean BEGIN UPDATE jumlah SET total = 0; END")
c.commit()
"""
DESTROY_TREE = f"""cd {TREE}
rm -r unit-03 kosong tautan
echo rusak >"unit-01/surat masuk/surat 005.pdf"
chmod 0777 rahasia.txt
chown root: unit-02
setfacl -b laporan*
setfattr -x user.klasifikasi nama-kedua.pdf
echo asing >"berkas asing.txt"
"""
Facts = dict[str, Any]


@dataclass
class Story:
    """What was there at each time."""

    site: SiteBuilder
    source: tuple[Facts, Facts]
    destroyed: tuple[Facts, Facts]
    restored: tuple[Facts, Facts]
    kept_mode: str
    kept: tuple[Facts, Facts]
    executed: dict[str, str]
    outage: float
    leftovers: list[str]
    owner: str
    journal_mode: str


@pytest.fixture(scope="module")
def story(lab: Lab, filed: None, make_site: Callable[..., SiteBuilder]) -> Story:
    """Back up both, destroy both, restore both in one case while the queue is watched from outside."""
    site = make_site("berkas", "antrean")
    letters, queue = Letters(lab), Queue(lab)

    def both(suffix: str = "") -> tuple[Facts, Facts]:
        return letters.facts(suffix), queue.facts(suffix)

    source = both()
    site.run("schedule", "run", "--due", as_="pelaksana")
    lab.exec("file01", DESTROY_TREE)
    lab.exec("file01", ["python3", "-c", DESTROY_QUEUE, QUEUE], user="antrean")
    destroyed = both()
    case = site.approved("berkas", "antrean")
    with Probe(f"{lab.queue_url}/health") as probe:
        done = site.run("case", "execute", case, "--json", as_="pelaksana")
    return Story(
        site=site,
        source=source,
        destroyed=destroyed,
        restored=both(),
        kept_mode=lab.exec("file01", f"stat -c %a {TREE}{KEPT}; chmod 0755 {TREE}{KEPT}").strip(),
        kept=both(KEPT),
        executed=json.loads(done.stdout),
        outage=probe.longest,
        leftovers=lab.exec("file01", "find /srv -name '*__*' -prune; ls -A /var/lib/sop").split(),
        owner=lab.exec("file01", f"stat -c '%U:%G %a' {QUEUE}").strip(),
        journal_mode=lab.exec("file01", f"sqlite3 -readonly {QUEUE} 'PRAGMA journal_mode'").strip(),
    )


def test_both_are_equal_to_the_source(story: Story) -> None:
    assert story.destroyed[0] != story.source[0]
    assert story.destroyed[1] != story.source[1]
    assert story.restored[0] == story.source[0]
    assert story.restored[1] == story.source[1]
    assert story.source[1]["check"] == [["ok"]]
    assert story.journal_mode == "wal"
    assert story.owner == "antrean:antrean 644"


def test_what_was_destroyed_is_kept_aside(story: Story) -> None:
    assert story.kept_mode == "700", "nobody works on by mistake in what was set aside"
    assert story.kept[0] == story.destroyed[0]
    assert story.kept[1] == story.destroyed[1]


def test_nothing_else_is_left(story: Story) -> None:
    assert not [name for name in story.leftovers if "shadow" in name or name.startswith("scratch")]
    assert f"{TREE}{KEPT}" in story.leftovers
    assert f"{QUEUE}{KEPT}" in story.leftovers


def test_the_queue_was_stopped_and_answers_again(story: Story, lab: Lab) -> None:
    """How long it may be stopped is for `make bench`: seconds depend on the machine."""
    assert story.outage > 0
    assert healthy(f"{lab.queue_url}/health")
    assert story.executed["result"] == "berhasil"


def test_one_record_with_a_form_for_each_dataset(story: Story) -> None:
    record = Path(story.executed["record"])
    assert {entry["dataset"] for entry in evidence(record, "swap")} == {"berkas", "antrean"}
    forms = [record_json(record, path.name) for path in sorted((record / "data").glob("form*.json"))]
    assert {form["dataset"] for form in forms} == {"berkas", "antrean"}
    assert {form["safety_copy"] for form in forms} == {TREE + KEPT, QUEUE + KEPT}
    all_verified(story.site)
