# SPDX-License-Identifier: Apache-2.0
"""Breaking the glass, and delegates: execution before approval, flagged until judged; Plh. in the definitive's place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.checks import all_verified
from tests.e2e.conftest import make_local_site
from tests.e2e.local import copied, data, refused, requested, sql, untouched
from tests.support.site_builder import STAMP, SiteBuilder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """A site with a backup and two operators."""
    site = make_local_site(tmp_path_factory.mktemp("emergency"))
    site.person("pelaksana-2", ["pelaksana"], "Pranata Komputer Ahli Muda")
    site.run("schedule", "run", "--due", as_="pelaksana")
    return site


@pytest.fixture
def site(base: SiteBuilder, tmp_path: Path) -> SiteBuilder:
    """A copy of it whose trust allows emergencies."""
    made = copied(base, tmp_path)
    made.edit("trust/trust.yml", "break_glass: false", "break_glass: true")
    made.sign_trust()
    return made


def glass(site: SiteBuilder, case: str, who: str, reason: str = "layanan publik berhenti") -> tuple[str, ...]:
    """The emergency act's words, for `run`."""
    return ("case", "emergency", case, "--reason", reason)


def flagged(site: SiteBuilder, case: str) -> bool:
    """Whether list, its filter, `next` and `show` all flag the case; they must agree while it is open."""
    [row] = [row for row in site.run_json("case", "list") if row["case"] == case]
    listed = case in [row["case"] for row in site.run_json("case", "list", "--emergency")]
    shown = site.run("case", "show", case).stdout
    lines = [line for line in site.run("next").stdout.splitlines() if case in line]
    assert listed is (row["emergency"] in {"asked", "open"})
    assert listed is ("not yet judged" in shown), shown
    assert all(("EMERGENCY" in line) is listed for line in lines), lines
    return listed


def test_an_emergency_from_the_glass_to_its_ratification(site: SiteBuilder) -> None:
    sql(data(site), "DELETE FROM antrean WHERE id > 50")
    case = requested(site, "restore", "antrean")
    execute = ("case", "execute", case)
    with untouched(site):
        refused(site.run(*glass(site, case, ""), as_="kabid", check=False), "pelaksana", "kabid")
        site.run(*glass(site, case, ""), as_="pelaksana")
        assert flagged(site, case)
        refused(site.run(*execute, as_="pelaksana", check=False), "not due")
        refused(site.run(*glass(site, case, ""), as_="pelaksana", check=False), "two persons")
        site.run(*glass(site, case, "", "saya setuju"), as_="pelaksana-2")
    value = site.run_json("case", "show", case)
    assert (value["emergency"], value["due"]["act"]) == ("open", "execute")
    done = site.run_json(*execute, as_="pelaksana")
    assert done["result"] == "berhasil"
    assert sql(data(site), "SELECT count(*) FROM antrean") == [(200,)]
    form = (Path(done["record"]) / "data/form.html").read_text(encoding="utf-8")
    assert "TINDAKAN DARURAT" in form
    assert "layanan publik berhenti" in form
    assert flagged(site, case)
    refused(site.run(*execute, as_="pelaksana-2", check=False), "not due")  # an emergency too is used once
    site.run("case", "inform", case, as_="pelaksana")
    site.run("case", "receive", case, as_="pemohon")
    assert flagged(site, case), "all steps are done, and nobody has judged it"
    assert site.run_json("case", "show", case)["outcome"] == "berjalan"
    ratify = ("case", "ratify", case, "--approve", "--reason", "memang mendesak")
    refused(site.run(*ratify, as_="pelaksana-2", check=False), "kabid")
    site.run(*ratify, as_="kabid")
    assert not flagged(site, case)
    value = site.run_json("case", "show", case)
    assert (value["outcome"], value["emergency"], value["problems"]) == ("selesai", "ratified", [])
    assert [row["act"] for row in value["documents"]] == [
        *("request", "emergency", "emergency", "execute", "inform", "receive", "ratify")
    ]
    closed = (site.records[-1] / "data/form.html").read_text(encoding="utf-8")
    assert "TINDAKAN DARURAT" in closed
    all_verified(site)


def test_a_censured_emergency_stays_on_the_paper(site: SiteBuilder) -> None:
    case = requested(site, "restore", "antrean")
    for who in ("pelaksana", "pelaksana-2"):
        site.run(*glass(site, case, who), as_=who)
    site.run("case", "execute", case, as_="pelaksana")
    site.run("case", "ratify", case, "--reject", "--reason", "seharusnya menunggu", as_="kabid")
    assert not flagged(site, case)
    [row] = [row for row in site.run_json("case", "list") if row["case"] == case]
    assert row["emergency"] == "censured"
    assert "CENSURED" in site.run("case", "show", case).stdout


def test_no_emergency_where_the_trust_allows_none(base: SiteBuilder, tmp_path: Path) -> None:
    """The default; and nobody helps themselves by editing the trust."""
    site = copied(base, tmp_path)
    case = requested(site, "restore", "antrean")
    with untouched(site):
        refused(site.run(*glass(site, case, ""), as_="pelaksana", check=False), "emergencies are not allowed", "root")
        site.edit("trust/trust.yml", "break_glass: false", "break_glass: true")
        refused(site.run(*glass(site, case, ""), as_="pelaksana", check=False), "trust.yml", "signature")


def test_the_second_operator_cannot_be_the_first_under_another_name(site: SiteBuilder) -> None:
    """Nor may whoever will judge it have executed it."""
    site.person("rangkap", ["pelaksana", "kabid"], "Staf")
    case = requested(site, "restore", "antrean")
    site.run(*glass(site, case, ""), as_="pelaksana")
    site.run(*glass(site, case, ""), as_="rangkap")
    site.run("case", "execute", case, as_="pelaksana")
    done = site.run("case", "ratify", case, "--approve", "--reason", "baik", as_="rangkap", check=False)
    refused(done, "rangkap")
    assert flagged(site, case)


# --- delegates ---------------------------------------------------------------------------------------------------


def delegate(site: SiteBuilder, person: str, days: int, *, acting_for: str = "kabid") -> None:
    """The root holder names a Plh. for some days, from now on."""
    until = (datetime.now(UTC) + timedelta(days=days)).strftime(STAMP)
    options = ("--kind", "plh", "--acting-for", acting_for, "--until", until)
    if not (site.keys / person).exists():
        site.make_key(person)
    key = site.keys / f"{person}.pub"
    words = ("--role", "kabid", "--jabatan", "Kepala Seksi Infrastruktur", "--key", str(key))
    site.run("trust", "add", person, *words, *options)
    site.sign_trust()


@pytest.mark.long
def test_a_plh_decides_while_the_holder_is_away(site: SiteBuilder) -> None:
    """For their days alone; case and form call them Plh."""
    case = requested(site, "restore", "antrean")
    site.run("case", "dispose", case, as_="kadis")
    decide = ("case", "decide", case, "--approve", "--reason", "sesuai")
    delegate(site, "kasi", 5)
    site.run(*decide, as_="kasi")
    [row] = [row for row in site.run_json("case", "show", case)["documents"] if row["act"] == "decide"]
    assert (row["person"], row["role"], row["delegate"], row["signature"]) == ("kasi", "kabid", "Plh.", "valid")
    assert "Plh. Kepala Seksi Infrastruktur" in site.run("case", "show", case).stdout
    done = site.run_json("case", "execute", case, as_="pelaksana")
    paper = (Path(done["record"]) / "data/permintaan.html").read_text(encoding="utf-8")
    assert "Plh." in paper
    site.run("case", "inform", case, as_="pelaksana")
    site.run("case", "receive", case, as_="pemohon")
    assert site.run_json("case", "show", case)["outcome"] == "selesai"
    all_verified(site)


@pytest.mark.long
def test_a_plh_is_also_whom_they_stand_in_for(site: SiteBuilder) -> None:
    """The operator as the Kabid's delegate decides on nothing that the operator does; nor does the Kabid execute."""
    until = (datetime.now(UTC) + timedelta(days=5)).strftime(STAMP)
    words = ("--role", "kabid", "--kind", "plh", "--acting-for", "kabid", "--until", until)
    site.run("trust", "add", "pelaksana-2", *words)
    site.sign_trust()
    case = requested(site, "restore", "antrean")
    site.run("case", "dispose", case, as_="kadis")
    site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="pelaksana-2")
    with untouched(site):
        done = site.run("case", "execute", case, as_="pelaksana-2", check=False)
        refused(done, "pelaksana-2", "two persons")
    site.run("case", "execute", case, as_="pelaksana")


def test_a_delegation_must_end(site: SiteBuilder) -> None:
    """A Plh. without an end, or for longer than is lawful, is not signed."""
    site.make_key("kasi-2") if not (site.keys / "kasi-2").exists() else None
    words = ("--role", "kabid", "--jabatan", "Kasi", "--key", str(site.keys / "kasi-2.pub"), "--kind", "plh")
    done = site.run("trust", "add", "kasi-2", *words, "--acting-for", "kabid", check=False)
    assert done.returncode == 2, done.stdout
    assert "--until" in done.stderr
    long = (datetime.now(UTC) + timedelta(days=120)).strftime(STAMP)
    done = site.run("trust", "add", "kasi-2", *words, "--acting-for", "kabid", "--until", long, check=False)
    if done.returncode == 0:
        done = site.run("trust", "sign", "--key", site.root_key, check=False)
    assert done.returncode in {2, 10}, done.stdout
    assert "90" in done.stderr
    assert json.loads(site.run("case", "list", "--json").stdout) is not None
