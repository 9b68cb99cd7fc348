# SPDX-License-Identifier: Apache-2.0
"""Both SOPs from request to closing on the lab's hosts: PostgreSQL, a web service that stops and starts, the REST vault."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import pg_facts
from tests.e2e.checks import all_verified, evidence, record_json, snapshots
from tests.e2e.faults.subjects import Personnel
from tests.e2e.local import requested as asked
from tests.lab.hosts import Lab
from tests.lab.probe import wait_healthy
from tests.support.site_builder import PEOPLE, UNIT, SiteBuilder

pytestmark = pytest.mark.lab

Json = dict[str, Any]
DESTROY = "DELETE FROM kepegawaian.transaksi; UPDATE kepegawaian.pegawai SET nama = 'rusak'"
HURT = "SELECT count(*) FROM kepegawaian.pegawai WHERE nama = 'rusak'"


@pytest.fixture(scope="module")
def trenggalek(make_site: Callable[..., SiteBuilder], personnel: Callable[[], None]) -> SiteBuilder:
    """Trenggalek's SOP; the schedule has made the month's backup of the personnel database."""
    site = make_site("simpeg")
    site.run("schedule", "run", "--due", as_="pelaksana")
    return site


@pytest.fixture(scope="module")
def kaltim(make_site: Callable[..., SiteBuilder], personnel: Callable[[], None]) -> SiteBuilder:
    """Kaltim's SOP; nothing was backed up yet. Its cases have the other site's numbers, so the database is made anew."""
    personnel()
    return make_site("simpeg", profile="kaltim")


def steps(site: SiteBuilder) -> dict[str, Json]:
    """Every step of the site's profile by id, read from the YAML as it lies."""
    [path] = (site.root / "profiles").glob("*.yml")
    flows = yaml.safe_load(path.read_text(encoding="utf-8"))["flows"]
    return {step["id"]: step for flow in flows.values() for step in flow["steps"]}


def words(text: str) -> str:
    """Text without the line breaks of the terminal or the markup of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def reads_like_the_paper(site: SiteBuilder, case: str, acts: list[tuple[str, str, str]]) -> Json:
    """`case show` of a closed case and its ``--json`` tell the same: the SOP's words, who, when, mutu baku, signatures.

    ``acts``: (step's id, act, person) of every document in order.
    """
    value: Json = site.run_json("case", "show", case)
    printed = words(site.run("case", "show", case).stdout)
    sop = steps(site)
    assert (value["problems"], value["missing"], value["due"]) == ([], [], None)
    assert value["sop"] in printed
    assert printed.startswith(f"{case}: {value['outcome']}")
    assert [(row["act"], row["person"]) for row in value["documents"]] == [(act, person) for _, act, person in acts]
    assert printed.count("signature valid") == len(acts)
    at = 0
    for row, (step, act, person) in zip(value["documents"], acts, strict=True):
        assert row["text"] == sop[step]["text"], "the SOP's own words, every one"
        assert row["step"] == (sop[step].get("nomor") or step)
        assert row["inferred"] == (sop[step].get("source") == "inferred")
        assert row["signature"] == "valid"
        assert row["official"]["jabatan"] == PEOPLE[site.profile][person]
        assert row["limit"] == sop[step].get("sla")
        found = printed.find(words(f"{row['step']}. {row['text']}"), at)
        assert found >= at, f"{act} is not printed in its place"
        at = found + 1
        line = printed[at : at + 900]
        assert f"{act} by {row['official']['jabatan']} ({person} as {row['role']}), " in line
        assert re.search(r"\d{1,2} \w+ 20\d\d pukul \d\d\.\d\d WIB", line)
        if row["took"] is not None and row["limit"]:
            assert re.search(r"; took [^;]+ of \d+ \w+ \(working time\)", line), line
        for said in ("reason", "result", "record"):
            if row[said]:
                assert words(str(row[said])) in line
    if value["request"]:
        assert value["request"]["reason"] in printed
        assert value["request"]["letter"]["number"] in printed
        assert value["requester"]["unit"] == UNIT
    return value


def printed(record: Path, name: str) -> str:
    """A form of a record as a reader sees it."""
    return words((record / "data" / name).read_text(encoding="utf-8"))


# --- Trenggalek ------------------------------------------------------------------------------------------------


def test_trenggalek_backup(lab: Lab, trenggalek: SiteBuilder) -> None:
    """Rows 1 to 5 are one run by the signed schedule; row 6 is the Kabid's look at its form."""
    site = trenggalek
    [row] = site.run_json("case", "list")
    case = row["case"]
    assert row["due"] == "confirm"
    site.run("case", "confirm", case, "--approve", as_="kabid")
    shown = reads_like_the_paper(site, case, [("b1", "execute", "pelaksana"), ("b6", "confirm", "kabid")])
    assert shown["outcome"] == "selesai"
    [stored] = evidence(site.records[0], "backup")
    form = printed(site.records[0], "form.html")
    for said in (stored["name"], stored["sha256"][:40], *(steps(site)[f"b{n}"]["text"] for n in range(1, 7))):
        assert words(said) in form or said.removeprefix("sha256:")[:30] in form.replace(" ", ""), said
    assert len(snapshots(lab, site)) == 2, "the dump and its manifest"
    all_verified(site)


def test_trenggalek_restore(lab: Lab, trenggalek: SiteBuilder) -> None:
    """Request, disposition, decision, execution with the service stopped, information, receipt: all as the paper wants."""
    site = trenggalek
    source = pg_facts.facts(lab, "simpeg")["tables"]
    lab.psql(DESTROY)
    case = site.approved("simpeg")
    assert wait_healthy(f"{lab.web_url}/health", 5)
    done = site.run_json("case", "execute", case, as_="pelaksana")
    assert (done["result"], done["exit"]) == ("berhasil", 0)
    assert done["downtime_s"] is not None
    assert wait_healthy(f"{lab.web_url}/health", 10)
    restored = pg_facts.facts(lab, "simpeg")["tables"]
    assert [line for line in restored if "rekap" not in line] == [line for line in source if "rekap" not in line]
    services = [(entry["state"], entry["host"]) for entry in evidence(Path(done["record"]), "service")]
    assert services == [("stopped", "web01"), ("started", "web01")]
    site.run("case", "inform", case, as_="pelaksana")
    site.run("case", "receive", case, as_="pemohon")
    acts = [
        ("r1", "request", "pemohon"),
        ("r2", "dispose", "kadis"),
        ("r3", "decide", "kabid"),
        ("r4", "execute", "pelaksana"),
        ("r6b", "inform", "pelaksana"),
        ("r7", "receive", "pemohon"),
    ]
    assert reads_like_the_paper(site, case, acts)["outcome"] == "selesai"
    form = printed(Path(done["record"]), "form.html")
    assert words(steps(site)["r5"]["text"]) in form
    kept = f"simpeg__before_{case.lower().replace('-', '')}"
    assert kept in lab.databases(), "old data is set aside, not destroyed"
    all_verified(site)


def test_scenario_01_rejected_in_the_lab(lab: Lab, trenggalek: SiteBuilder) -> None:
    """The decision is no: the database and the service stay as they are, the requester is told, the case is closed."""
    site = trenggalek
    before = (Personnel(lab).facts(), lab.databases(), snapshots(lab, site), site.records)
    case = site.requested("simpeg")
    site.run("case", "dispose", case, as_="kadis")
    site.run("case", "decide", case, "--reject", "--reason", "data masih utuh", as_="kabid")
    assert site.run("case", "execute", case, as_="pelaksana", check=False).returncode == 10
    site.run("case", "inform", case, as_="pelaksana")
    site.run("case", "receive", case, as_="pemohon")
    acts = [("r1", "request", "pemohon"), ("r2", "dispose", "kadis"), ("r3", "decide", "kabid")]
    acts += [("r6b", "inform", "pelaksana"), ("r7", "receive", "pemohon")]
    assert reads_like_the_paper(site, case, acts)["outcome"] == "ditolak"
    records = [record for record in site.records if record.name != f"{case}-C"]
    assert (Personnel(lab).facts(), lab.databases(), snapshots(lab, site), records) == before
    all_verified(site)


# --- Kaltim ----------------------------------------------------------------------------------------------------


def _sizes(lab: Lab) -> tuple[int, int]:
    """Bytes that are free where the vault's repositories lie, and that the database takes."""
    free = lab.exec("vault01", f"df --output=avail -B1 {lab.facts['vault']['root']} | tail -1")
    return int(free), int(lab.psql("SELECT pg_database_size('simpeg')", "postgres"))


def plan_and_look(lab: Lab, site: SiteBuilder, case: str) -> Json:
    """Plan the case; what it says of the vault's room is what ``df`` says there. Returns the plan's line of simpeg."""
    before = snapshots(lab, site), lab.databases()
    looks = [_sizes(lab)]
    site.run("case", "plan", case, "--risk", "jam kerja", as_="pengelola")
    looks.append(_sizes(lab))
    assert (snapshots(lab, site), lab.databases()) == before, "a plan changes nothing"
    [path] = (site.root / "cases").rglob(f"{case}/*-plan.json")
    body = json.loads(path.read_text(encoding="utf-8"))["body"]
    [line] = body["capacity"]
    # the lab's hosts share one disk, on which other tests write meanwhile, and autovacuum gives back what DESTROY left
    for key, found, slack in zip(("vault_free", "bytes"), zip(*looks, strict=True), (0.05, 0.3), strict=True):
        assert (1 - slack) * min(found) <= line[key] <= (1 + slack) * max(found), (key, line[key], found)
    assert line["needs"] > 0
    assert line["predicted_s"] >= 1
    assert "jam kerja" in body["risk"]
    assert body["on_duty"] == [{"person": "pengelola", "roles": ["pengelola"]}]
    return dict(line)


def test_kaltim_backup(lab: Lab, kaltim: SiteBuilder) -> None:
    """One flow with its plan by capacity; a confirmation that sends back, and a second execution that changes nothing."""
    site = kaltim
    case = asked(site, "backup", "simpeg")
    site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="administrator")
    site.run("case", "dispose", case, "--note", "segera", as_="pengawas")
    line = plan_and_look(lab, site, case)
    assert "belum ada catatan" in line["basis"], "said, not made up"
    done = site.run_json("case", "execute", case, as_="pengelola")
    assert (done["result"], done["changed"]) == ("berhasil", 1)
    stored = snapshots(lab, site)
    site.run("case", "confirm", case, "--reject", "--reason", "keterangan kurang", as_="pemeriksa")
    again = site.run_json("case", "execute", case, as_="pengelola")
    assert (again["result"], again["changed"]) == ("berhasil", 0)
    assert snapshots(lab, site) == stored
    site.run("case", "confirm", case, "--approve", "--reason", "sesuai", as_="pemeriksa")
    acts = [
        ("k1", "request", "pemohon"),
        ("k2", "decide", "administrator"),
        ("k2", "dispose", "pengawas"),
        ("k3", "plan", "pengelola"),
        ("k4", "execute", "pengelola"),
        ("k5", "confirm", "pemeriksa"),
        ("k4", "execute", "pengelola"),
        ("k5", "confirm", "pemeriksa"),
    ]
    shown = reads_like_the_paper(site, case, acts)
    assert (shown["outcome"], shown["operation"]) == ("selesai", "backup")
    assert shown["request"]["specification"][0]["server"] == "db01"
    compared(site, Path(done["record"]), line)
    all_verified(site)


def compared(site: SiteBuilder, record: Path, line: Json) -> None:
    """The execution's form prints the SOP's rows and, beside each other, what was predicted and what came of it."""
    form = printed(record, "form.html")
    assert "Perkiraan dan kenyataan" in form
    assert "Kenyataan" in form
    assert words(str(line["basis"])) in form
    for step in ("k1", "k2", "k3", "k4", "k5"):
        assert words(steps(site)[step]["text"]) in form
    value = record_json(record, "form.json")
    rows = value["expected"]
    assert rows, value.keys()
    assert all(row["actual"] for row in rows), rows
    plan = printed(record, "perencanaan.html")
    assert "layak dilaksanakan" in plan.lower()
    assert "Sisa vault" in plan


def test_kaltim_restore(lab: Lab, kaltim: SiteBuilder) -> None:
    """The restore takes what the first backup stored, predicts from records where there are some, and is confirmed."""
    site = kaltim
    source = pg_facts.facts(lab, "simpeg")["tables"]
    lab.psql(DESTROY)
    assert lab.psql(HURT) != "0"
    case = asked(site, "restore", "simpeg")
    site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="administrator")
    site.run("case", "dispose", case, as_="pengawas")
    line = plan_and_look(lab, site, case)
    assert line["predicted_downtime_s"] is not None
    done = site.run_json("case", "execute", case, as_="pengelola")
    assert (done["result"], done["exit"]) == ("berhasil", 0)
    assert wait_healthy(f"{lab.web_url}/health", 10)
    assert lab.psql(HURT) == "0"
    restored = pg_facts.facts(lab, "simpeg")["tables"]
    assert [row for row in restored if "rekap" not in row] == [row for row in source if "rekap" not in row]
    site.run("case", "confirm", case, "--approve", as_="pemeriksa")
    acts = [
        ("k1", "request", "pemohon"),
        ("k2", "decide", "administrator"),
        ("k2", "dispose", "pengawas"),
        ("k3", "plan", "pengelola"),
        ("k4", "execute", "pengelola"),
        ("k5", "confirm", "pemeriksa"),
    ]
    shown = reads_like_the_paper(site, case, acts)
    assert (shown["outcome"], shown["operation"]) == ("selesai", "restore")
    compared(site, Path(done["record"]), line)
    form = printed(Path(done["record"]), "form.html")
    assert str(done["downtime_s"]) in form
    all_verified(site)
