# SPDX-License-Identifier: Apache-2.0
"""file01's plain files and its SQLite queue, restored together by one case, compared with what the host's tools say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.checks import all_verified, evidence, record_json
from tests.lab.hosts import Lab
from tests.lab.probe import Probe, healthy
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab

KEPT = "__before_rst20260001"
TREE = "/srv/berkas"
QUEUE = "/srv/antrean/antrean.db"
# Names, kinds, modes, owners, sizes of files, times, link targets, link counts; contents; ACLs; extended attributes.
LISTING = r"""cd "$1"
find . ! -type d -printf '%p %y %m %U:%G %s %T@ %l %n\0' | LC_ALL=C sort -z | tr '\0' '\n'
find . -type d -printf '%p %y %m %U:%G %T@\0' | LC_ALL=C sort -z | tr '\0' '\n'
find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
getfacl -R -P -n . 2>/dev/null
find . ! -type l -print0 | LC_ALL=C sort -z | xargs -0 getfattr -d -m - 2>/dev/null
"""
QUEUE_DUMP = """
import hashlib, sqlite3, sys
c = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True)
print(c.execute("PRAGMA integrity_check").fetchone()[0], c.execute("PRAGMA journal_mode").fetchone()[0])
for name, in c.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1").fetchall():
    print(name, c.execute(f"SELECT count(*) FROM {name}").fetchone()[0])
print(hashlib.sha256("\\n".join(c.iterdump()).encode()).hexdigest())
"""
DESTROY_QUEUE = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
c.execute("DELETE FROM antrean WHERE id % 3 = 0")
c.execute("UPDATE jumlah SET total = 0")
c.execute("DROP VIEW ringkasan")
c.execute("DROP TRIGGER antrean_masuk")
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


def tree(lab: Lab, path: str) -> str:
    """Everything about a tree that a restore may lose."""
    return lab.exec("file01", ["sh", "-euc", LISTING, "sh", path])


def queue(lab: Lab, path: str) -> str:
    """Counts, schema and content of the queue's database."""
    return lab.exec("file01", ["python3", "-c", QUEUE_DUMP, path])


@dataclass
class Story:
    """What was there at each time."""

    site: SiteBuilder
    source: tuple[str, str]
    destroyed: tuple[str, str]
    restored: tuple[str, str]
    kept_mode: str
    kept: tuple[str, str]
    executed: dict[str, str]
    outage: float
    leftovers: list[str]
    owner: str


@pytest.fixture(scope="module")
def story(lab: Lab, filed: None, make_site: Callable[..., SiteBuilder]) -> Story:
    """Back up both, destroy both, restore both in one case while the queue is watched from outside."""
    site = make_site("berkas", "antrean")

    def both(suffix: str = "") -> tuple[str, str]:
        return tree(lab, TREE + suffix), queue(lab, QUEUE + suffix)

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
    )


def test_both_are_equal_to_the_source(story: Story) -> None:
    assert story.destroyed[0] != story.source[0]
    assert story.destroyed[1] != story.source[1]
    assert story.restored[0] == story.source[0]
    assert story.restored[1].splitlines() == story.source[1].splitlines()
    assert story.source[1].startswith("ok wal\n")
    assert story.owner == "antrean:antrean 644"


def test_what_was_destroyed_is_kept_aside(story: Story) -> None:
    assert story.kept_mode == "700", "nobody works on by mistake in what was set aside"
    assert story.kept[0] == story.destroyed[0]
    assert story.kept[1].splitlines()[1:] == story.destroyed[1].splitlines()[1:]


def test_nothing_else_is_left(story: Story) -> None:
    assert not [name for name in story.leftovers if "shadow" in name or name.startswith("scratch")]
    assert f"{TREE}{KEPT}" in story.leftovers
    assert f"{QUEUE}{KEPT}" in story.leftovers


def test_downtime(story: Story, lab: Lab) -> None:
    assert 0 < story.outage < 10
    assert healthy(f"{lab.queue_url}/health")
    assert story.executed["result"] == "berhasil"


def test_one_record_with_a_form_for_each_dataset(story: Story) -> None:
    record = Path(story.executed["record"])
    assert {entry["dataset"] for entry in evidence(record, "swap")} == {"berkas", "antrean"}
    forms = [record_json(record, path.name) for path in sorted((record / "data").glob("form*.json"))]
    assert {form["dataset"] for form in forms} == {"berkas", "antrean"}
    assert {form["safety_copy"] for form in forms} == {TREE + KEPT, QUEUE + KEPT}
    all_verified(story.site)
