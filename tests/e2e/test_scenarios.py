# SPDX-License-Identifier: Apache-2.0
"""The scenarios of DOMAIN §5 that concern the gate, on this machine, through public commands alone.

| no. | scenario | shown by |
|---|---|---|
| 1 | rejected | here; in the lab test_sops_in_the_lab.py::test_scenario_01_* |
| 2 | expired or altered approval | test_scenario_02_attacks.py (in the lab, sshd's log unchanged); tests/unit/attacks |
| 3 | missing specification list | here |
| 4 | authority | here |
| 5 | missed month | here |
| 6 | unregistered server | here; in the lab test_scenario_02_attacks.py |
| 7 | review overdue | here |
| 8 | restore fails midway | test_scenario_08_fails_midway.py; the ways back of engines and services: molecule/restore |
| 9 | same person | here |
| 10 | two operators at once, stale locks | test_scenario_10_locks.py; in the lab test_interrupt.py |
| 11 | "data terbaru" | test_scenario_11_newest.py |
| 12 | interrupted, tampered, late | in the lab test_interrupt.py; test_scenario_12_late.py (late, one byte); tests/unit/test_archive.py |
| | emergencies and delegates (issue 3) | test_emergency.py |
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.checks import all_verified, one_line_error, record_json
from tests.e2e.conftest import make_local_site
from tests.e2e.local import copied, decided, planned, refused, request, requested, resign, specification, untouched
from tests.support.site_builder import UNIT, SiteBuilder


@pytest.fixture(scope="module")
def trenggalek(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """Trenggalek's SOP over one queue that has a proven backup."""
    site = make_local_site(tmp_path_factory.mktemp("trenggalek"))
    site.run("schedule", "run", "--due", as_="pelaksana")
    return site


@pytest.fixture(scope="module")
def kaltim(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """Kaltim's SOP over one queue, without any backup yet."""
    site = make_local_site(tmp_path_factory.mktemp("kaltim"), "kaltim")
    site.sign_register()
    return site


@pytest.fixture
def site(trenggalek: SiteBuilder, tmp_path: Path) -> SiteBuilder:
    """A copy of Trenggalek's."""
    return copied(trenggalek, tmp_path)


@pytest.fixture
def other(kaltim: SiteBuilder, tmp_path: Path) -> SiteBuilder:
    """A copy of Kaltim's."""
    return copied(kaltim, tmp_path)


def form_of(site: SiteBuilder) -> str:
    """What the form of the newest record prints; of a case that executed nothing it is the request's."""
    return (site.records[-1] / "data/form.html").read_text(encoding="utf-8")


# --- 1: rejected -----------------------------------------------------------------------------------------------


def test_scenario_01_rejected(site: SiteBuilder) -> None:
    """No run, the reason on the form, the requester told, the case closed as *ditolak*, its record sealed."""
    with untouched(site):
        case = requested(site, "restore", "antrean")
        site.run("case", "dispose", case, as_="kadis")
        site.run("case", "decide", case, "--reject", "--reason", "jenis data di luar kewenangan", as_="kabid")
        refused(
            site.run("case", "execute", case, as_="pelaksana", check=False), "execute is not due", "inform", "pelaksana"
        )
        site.run("case", "inform", case, as_="pelaksana")
        refused(site.run("case", "receive", case, as_="kadis", check=False), "pemohon")
        site.run("case", "receive", case, as_="pemohon")
    shown = site.run_json("case", "show", case)
    assert (shown["outcome"], shown["due"], shown["problems"]) == ("ditolak", None, [])
    told = json.loads(next((site.root / "cases").rglob("*-inform.json")).read_text(encoding="utf-8"))["body"]
    assert told == {"status": "ditolak", "text": "jenis data di luar kewenangan", "to": "pemohon"}
    assert site.records[-1].name == f"{case}-C"
    printed = form_of(site)
    assert "DITOLAK" in printed.upper()
    assert record_json(site.records[-1], "form.json")["decision_reason"] == "jenis data di luar kewenangan"
    assert "jenis data di luar kewenangan" in printed
    assert [row["outcome"] for row in site.run_json("case", "list") if row["case"] == case] == ["ditolak"]
    assert case not in site.run("next").stdout
    all_verified(site)


def test_scenario_01_rejected_in_kaltim(other: SiteBuilder) -> None:
    """The same without a single line of code for it: row 2 leads to the inferred row, and that one ends the case."""
    with untouched(other):
        case = requested(other, "backup", "antrean")
        other.run("case", "decide", case, "--reject", "--reason", "spesifikasi tidak sesuai", as_="administrator")
        refused(other.run("case", "plan", case, as_="pengelola", check=False), "plan is not due", "inform")
        other.run("case", "inform", case, as_="administrator")
    assert other.run_json("case", "show", case)["outcome"] == "ditolak"
    assert "spesifikasi tidak sesuai" in form_of(other)
    all_verified(other)


# --- 3: missing specification list -----------------------------------------------------------------------------

ORDER = ["server", "application", "data", "size"]


def test_scenario_03_missing_specification(other: SiteBuilder) -> None:
    """No request without the list, nor with holes in it; each missing field is named and no half case is left."""
    done = request(other, "backup", "antrean", specified=False, check=False)
    assert "server, application, data, size" in json.loads(done.stderr.splitlines()[-1])["reasons"][0]
    assert done.returncode == 10
    for hole in ({"application": ""}, {"data": "  "}, {"size": "", "server": " "}):
        listed = specification(other, "antrean", **hole)
        done = request(other, "backup", "antrean", specified=False, more=("--specification", str(listed)), check=False)
        assert done.returncode == 10, done.stdout
        [reason] = json.loads(done.stderr.splitlines()[-1])["reasons"]
        assert reason.endswith(f"the specification of antrean ({', '.join(sorted(hole, key=ORDER.index))})")
    assert other.run_json("case", "list") == []


def test_scenario_03_a_request_signed_by_hand_without_its_list(other: SiteBuilder) -> None:
    """The requester's own signature over a request without the list does not reach step 2."""
    case = requested(other, "backup", "antrean")
    resign(other, case, "01-request.json", specification=[])
    done = other.run("case", "decide", case, "--approve", "--reason", "x", as_="administrator", check=False)
    refused(done, "01-request.json")
    assert len(other.run_json("case", "show", case)["documents"]) == 1


# --- 4: authority ----------------------------------------------------------------------------------------------


def test_scenario_04_authority(site: SiteBuilder) -> None:
    """Another unit's request waits for the owner's signed yes; a yes of anybody else is none, and a no is no."""
    for person, role, unit in (
        ("tamu", "pemohon", "Bidang Lain"),
        ("pemilik", "pemilik-data", UNIT),
        ("bukan-pemilik", "pemilik-data", "Bidang Lain"),
    ):
        site.person(person, [role], "Kepala Bidang", sign=False, options=["--unit", unit])
    site.sign_trust()
    with untouched(site):
        done = request(site, "restore", "antrean", as_="tamu", check=False)
        assert "Bidang Lain" in done.stderr
        assert done.returncode == 10, "nobody asks in another unit's name"
        case = requested(site, "restore", "antrean", as_="tamu", unit="Bidang Lain")
        site.run("case", "dispose", case, as_="kadis")
        decide = ("case", "decide", case, "--approve", "--reason", "sesuai")
        refused(site.run(*decide, as_="kabid", check=False), "antrean", UNIT, "Bidang Lain", "not consented")
        consent = ("case", "consent", case, "--dataset", "antrean")
        refused(site.run(*consent, "--approve", as_="kabid", check=False), "pemilik-data")
        refused(site.run(*consent, "--approve", as_="bukan-pemilik", check=False), UNIT, "bukan-pemilik")
        site.run(*consent, "--reject", "--reason", "tidak perlu", as_="pemilik")
        refused(site.run(*decide, as_="kabid", check=False), "not consented")
        site.run(*consent, "--approve", as_="pemilik")
        site.run(*decide, as_="kabid")
    site.run("case", "execute", case, as_="pelaksana")
    shown = site.run_json("case", "show", case)
    assert [row["act"] for row in shown["documents"]] == [
        "request",
        "dispose",
        "consent",
        "consent",
        "decide",
        "execute",
    ]


def test_scenario_04_kind_of_data(site: SiteBuilder) -> None:
    """The site's own policy takes secret data from the usual decider; it cannot give it to another (only the SOP can)."""
    path = site.root / "register/datasets/antrean.yml"
    entry = json.loads(path.read_text(encoding="utf-8"))
    site.write_yaml("register/datasets/antrean.yml", {**entry, "classification": "rahasia"})
    site.sign_register()
    site.edit("sop.yml", "policy:\n", "policy:\n  authority: {rahasia: [kadis]}\n")
    case = requested(site, "restore", "antrean")
    site.run("case", "dispose", case, as_="kadis")
    decide = ("case", "decide", case, "--approve", "--reason", "sesuai")
    with untouched(site):
        refused(site.run(*decide, as_="kabid", check=False), "rahasia", "nobody may approve it", "kabid may not")
    assert site.run_json("case", "show", case)["due"]["act"] == "decide"


# --- 5: missed month -------------------------------------------------------------------------------------------


def test_scenario_05_missed_month(local_site: SiteBuilder) -> None:
    """Exit 31 names the months without a verified backup; a run that failed proves nothing, a later one heals nothing."""
    site = local_site
    path = site.root / "schedule.yml"
    order = json.loads(path.read_text(encoding="utf-8"))
    now = datetime.now(UTC)
    since = (now - timedelta(days=75)).strftime("%Y-%m-%dT00:00:00Z")
    site.write_yaml("schedule.yml", {**order, "valid": {**order["valid"], "since": since}})
    site.run("schedule", "sign", as_="kabid")
    last_month = (now.replace(day=1) - timedelta(days=2)).strftime("%Y-%m")

    def missed(due: bool) -> None:
        done = site.run("schedule", "status", "--json", check=False)
        assert done.returncode == 31, done.stdout + done.stderr
        [row] = json.loads(done.stdout)
        assert last_month in row["missed"]
        assert row["due"] is due

    missed(due=True)
    moved = site.folder / "data/pindah.db"
    (site.folder / "data/antrean.db").rename(moved)
    assert site.run("schedule", "run", "--due", as_="pelaksana", check=False).returncode == 20
    assert len(site.records) == 1, "a failed run has its record"
    missed(due=True)
    moved.rename(site.folder / "data/antrean.db")
    site.run("schedule", "run", "--due", as_="pelaksana")
    missed(due=False)


# --- 6: unregistered server ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sop", ["trenggalek", "kaltim"])
def test_scenario_06_unregistered_server(
    trenggalek: SiteBuilder, kaltim: SiteBuilder, tmp_path: Path, sop: str
) -> None:
    """A server that the inventory knows and the register does not: nothing is approved for it and nothing connects."""
    site = copied(trenggalek if sop == "trenggalek" else kaltim, tmp_path)
    server = site.root / "register/servers/srv01.yml"
    text = server.read_text(encoding="utf-8")
    operation, decider = ("restore", "kabid") if sop == "trenggalek" else ("backup", "administrator")
    case = requested(site, operation, "antrean")
    if sop == "trenggalek":
        site.run("case", "dispose", case, as_="kadis")
    decide = ("case", "decide", case, "--approve", "--reason", "sesuai")
    server.unlink()
    with untouched(site):
        assert "srv01" in (site.root / "inventory/hosts.yml").read_text(encoding="utf-8")
        refused(site.run(*decide, as_=decider, check=False), "srv01", "register")
        if sop == "trenggalek":
            done = site.run("schedule", "run", "--dataset", "antrean", as_="pelaksana", check=False)
            assert done.returncode in {2, 10}, done.stdout
            assert "srv01" in done.stderr
        server.write_text(text, encoding="utf-8")
        site.run(*decide, as_=decider)
        if sop == "kaltim":
            site.run("case", "dispose", case, as_="pengawas")
        # a server put in by hand is not registered: its keeper has not signed it
        server.write_text(text.replace('"ssh_host_key": null', '"ssh_host_key": null, "holder": "x"'), encoding="utf-8")
        act, who = ("execute", "pelaksana") if sop == "trenggalek" else ("plan", "pengelola")
        refused(site.run("case", act, case, as_=who, check=False), "servers/srv01.yml")


# --- 7: review overdue -----------------------------------------------------------------------------------------


def overdue(site: SiteBuilder) -> None:
    """The register says of srv01 that it was last looked at two years ago."""
    path = site.root / "register/servers/srv01.yml"
    entry = json.loads(path.read_text(encoding="utf-8"))
    site.write_yaml("register/servers/srv01.yml", {**entry, "reviewed": {"at": "2024-11-01", "by": "kabid"}})
    site.sign_register()


def test_scenario_07_review_overdue(site: SiteBuilder) -> None:
    """It warns or blocks by policy, and the site may only tighten."""
    overdue(site)
    run = ("schedule", "run", "--dataset", "antrean")
    assert site.run(*run, as_="pelaksana").returncode == 0, "warn is the default here"
    site.edit("sop.yml", "asset_review: warn", "asset_review: block")
    with untouched(site):
        refused(site.run(*run, as_="pelaksana", check=False), "review of srv01 is overdue", "2024-11-01")
    site.edit("sop.yml", "asset_review: block", "asset_review: warn")
    site.edit("trust/trust.yml", "asset_review: warn", "asset_review: block")
    site.sign_trust()
    with untouched(site):
        refused(site.run(*run, as_="pelaksana", check=False), "review of srv01 is overdue")


def test_scenario_07_review_overdue_in_kaltim(other: SiteBuilder) -> None:
    """Kaltim's SOP itself demands the yearly review, whatever sop.yml says."""
    case = decided(other, "backup", "antrean")
    overdue(other)
    assert "asset_review: warn" in (other.root / "sop.yml").read_text(encoding="utf-8")
    with untouched(other):
        refused(other.run("case", "plan", case, as_="pengelola", check=False), "review of srv01 is overdue")


# --- 9: same person --------------------------------------------------------------------------------------------


def test_scenario_09_same_person(site: SiteBuilder) -> None:
    """Nobody checks what they did themselves, although they hold both roles."""
    site.person("rangkap", ["pelaksana", "kabid"], "Staf")
    [case] = [row["case"] for row in site.run_json("case", "list")]
    assert site.run_json("case", "show", case)["due"]["act"] == "confirm"
    site.run("schedule", "run", "--dataset", "antrean", as_="rangkap")
    own = [row["case"] for row in site.run_json("case", "list")][-1]
    confirm = ("--approve", "--reason", "sesuai")
    refused(site.run("case", "confirm", own, *confirm, as_="rangkap", check=False), "rangkap", "two persons")
    assert site.run_json("case", "show", own)["due"]["act"] == "confirm"
    site.run("case", "confirm", own, *confirm, as_="kabid")
    assert site.run_json("case", "show", own)["outcome"] == "selesai"


def test_scenario_09_same_person_in_kaltim(other: SiteBuilder) -> None:
    """Pengelola and Pemeriksa share one column of the SOP; the persons are told apart all the same."""
    other.person("rangkap", ["pengelola", "pemeriksa"], "Staf")
    case = decided(other, "backup", "antrean")
    other.run("case", "plan", case, as_="rangkap")
    other.run("case", "execute", case, as_="rangkap")
    confirm = ("case", "confirm", case, "--approve")
    refused(other.run(*confirm, as_="rangkap", check=False), "rangkap", "two persons")
    other.run(*confirm, as_="pemeriksa")


def test_scenario_09_a_second_account(site: SiteBuilder) -> None:
    """Two accounts with one NIP, however it is written, are an error that the root holder cannot sign."""
    trust = ("trust", "add", "pelaksana", "--role", "pelaksana", "--nip", "19800101 200501 1 001")
    site.run(*trust)
    site.sign_trust()
    key = site.make_key("akun-kedua")
    added = ("trust", "add", "akun-kedua", "--role", "kabid", "--jabatan", "Staf", "--nip", "198001012005011001")
    done = site.run(*added, "--key", f"{key}.pub", check=False)
    if done.returncode == 0:
        done = site.run("trust", "sign", "--key", site.root_key, check=False)
    assert done.returncode in {2, 10}, done.stdout
    for word in ("pelaksana", "akun-kedua", "NIP"):
        assert word in done.stderr


def test_scenario_09_requester_and_decider(site: SiteBuilder) -> None:
    """Nor does anybody decide on what they asked for."""
    site.person("kabid-mutasi", ["pemohon", "kabid"], "Kepala Bidang", options=["--unit", UNIT])
    case = requested(site, "restore", "antrean", as_="kabid-mutasi")
    site.run("case", "dispose", case, as_="kadis")
    done = site.run("case", "decide", case, "--approve", "--reason", "x", as_="kabid-mutasi", check=False)
    refused(done, "kabid-mutasi", "two persons")
    one_line_error(done, 10)


def test_planned_is_not_yet_executed(other: SiteBuilder) -> None:
    """Kaltim: without its plan an execution is not due, and a plan by anybody but the Pengelola is none."""
    case = decided(other, "backup", "antrean")
    with untouched(other):
        refused(other.run("case", "execute", case, as_="pengelola", check=False), "plan")
        refused(other.run("case", "plan", case, as_="pemeriksa", check=False), "pengelola")
    assert planned(other, "backup", "antrean")
