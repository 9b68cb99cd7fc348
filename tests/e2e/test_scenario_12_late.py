# SPDX-License-Identifier: Apache-2.0
"""Scenario 12, the parts that need no lab: a broken time limit shows everywhere, and one changed byte fails verify.

The case is written anew with times of weeks ago, signed by its people and entered into a ledger of that time, as it
would lie there had nobody touched it since.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from sopctl.models import Person, TrustFile
from tests.e2e.checks import all_verified
from tests.e2e.conftest import make_local_site
from tests.e2e.local import copied, refused
from tests.support.case_site import CaseSite, at_home
from tests.support.site_builder import STAMP, SiteBuilder

LONG_AGO = (datetime.now(UTC) - timedelta(days=90)).strftime(STAMP)


def earlier(person: Person) -> Person:
    """The same person, with roles and keys since long ago."""
    roles = [msgspec.structs.replace(held, since=LONG_AGO) for held in person.roles]
    keys = [msgspec.structs.replace(key, since=LONG_AGO) for key in person.keys]
    return msgspec.structs.replace(person, roles=roles, keys=keys)


def since_long_ago(file: TrustFile) -> TrustFile:
    """Everybody was in office before the case began."""
    return msgspec.structs.replace(file, people=[earlier(person) for person in file.people])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> CaseSite:
    """A request of twenty days ago, disposed the day after it came, and nothing since."""
    site = make_local_site(tmp_path_factory.mktemp("late"))
    with at_home(site):  # the trust that the record holds must be the one of that time
        CaseSite(site.root, site.keys, "", site).retrust(since_long_ago)
    site.run("schedule", "run", "--due", as_="pelaksana")
    case = site.requested("antrean")
    site.run("case", "dispose", case, as_="kadis")
    made = CaseSite(site.root, site.keys, case, site)
    with at_home(site):
        papers = made.papers()
        now = datetime.now(UTC)
        for paper, days in zip(papers, (20, 19), strict=True):
            moment = (now - timedelta(days=days)).strftime(STAMP)
            paper.body["at"] = paper.received = moment
        made.refile(papers)
    return made


@pytest.fixture
def site(base: CaseSite, tmp_path: Path) -> Iterator[tuple[SiteBuilder, str]]:
    """A copy, and its case."""
    yield copied(base.builder, tmp_path), base.case


DECIDE = ("--approve", "--reason", "sesuai")


def test_scenario_12_a_broken_time_limit_shows(site: tuple[SiteBuilder, str]) -> None:
    """`next` and `case list --late` tell before; case, record and form tell afterwards, with the reason."""
    made, case = site
    [row] = [row for row in made.run_json("case", "list", "--late") if row["case"] == case]
    assert row["left"] < 0
    assert "late by" in made.run("next").stdout
    assert made.run_json("case", "show", case)["problems"] == []
    done = made.run("case", "decide", case, *DECIDE, "--late-reason", "pejabat cuti", as_="kabid")
    assert "late" in done.stderr
    value = made.run_json("case", "show", case)
    [decided] = [row for row in value["documents"] if row["act"] == "decide"]
    assert (decided["late"], decided["late_reason"], decided["limit"]) == (True, "pejabat cuti", "P1D")
    assert decided["took"] > 0
    assert "LATE (pejabat cuti)" in " ".join(made.run("case", "show", case).stdout.split())
    made.run("case", "execute", case, as_="pelaksana")
    paper = (made.records[-1] / "data/permintaan.html").read_text(encoding="utf-8").lower()
    assert "terlambat" in paper or "lewat" in paper
    assert case in [row["case"] for row in made.run_json("case", "list", "--late")], "it stays on the list"
    all_verified(made)


def test_scenario_12_a_late_act_needs_its_reason_where_the_policy_blocks(site: tuple[SiteBuilder, str]) -> None:
    made, case = site
    made.edit("sop.yml", "policy:\n", "policy:\n  sla: block\n")
    decide = ("case", "decide", case, *DECIDE)
    refused(made.run(*decide, as_="kabid", check=False), "without a reason")
    refused(made.run(*decide, "--late-reason", "  ", as_="kabid", check=False), "without a reason")
    made.run(*decide, "--late-reason", "pejabat cuti", as_="kabid")


def test_scenario_12_one_changed_byte(base: CaseSite, tmp_path: Path) -> None:
    """Each file of a record in turn: one byte, and verify says which file."""
    made = copied(base.builder, tmp_path)
    [record] = [path for path in made.records if path.name.startswith("BKP")]
    files = [record / "data/form.html", record / "data/evidence.json", next((record / "data/trust").iterdir())]
    for path in files:
        whole = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        done = made.run("record", "verify", check=False)
        assert done.returncode == 30, done.stdout
        assert path.name in done.stdout + done.stderr
        path.write_bytes(whole)
    all_verified(made)


def test_the_fixture_is_believed(base: CaseSite) -> None:
    """The old case is good in the gate's eyes: what the tests see is its age, and nothing else."""
    value = base.builder.run_json("case", "show", base.case)
    assert value["problems"] == []
    assert value["due"]["act"] == "decide"
