# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.workflow and sopctl.session: who may act, what is written, and what a broken-off command leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from sopctl import cli, clock, examination, fsio, requesting, standing, targeting, workflow
from sopctl.errors import ConfigError, GateRefused, UsageError
from sopctl.ledger import Ledger
from sopctl.models import Act
from tests.support.case_site import CaseSite, seal_backup

Words = list[str]


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    path = tmp_path / "surat.pdf"
    path.write_bytes(b"%PDF surat")
    return path


def ask(site: CaseSite, letter: Path, **values: Any) -> str:
    given: dict[str, Any] = {
        "operation": "restore",
        "datasets": ["antrean"],
        "unit": "Bidang Mutasi",
        "letter": letter,
        "letter_number": "1",
        "reason": "terhapus",
        "person": "pemohon",
        "key": None,
        **values,
    }
    person, key = given.pop("person"), given.pop("key")
    return requesting.request(site.session, requesting.Asked(**given), person, key).id


def ask_with(site: CaseSite, values: dict[str, Any], letter: Path) -> str:
    return ask(site, **{"letter": letter, **values})


def files(site: CaseSite) -> set[str]:
    return {str(path.relative_to(site.root)) for path in (site.root / "cases").rglob("*")}


# --- requests --------------------------------------------------------------------------------------------------------


def test_request_leaves_letter_document_and_ledger_line(site: CaseSite, letter: Path) -> None:
    case = ask(site, letter)
    folder = site.root / "cases" / case.split("-")[1] / case
    document = json.loads((folder / "01-request.json").read_bytes())
    assert (folder / "attachments/surat.pdf").read_bytes() == letter.read_bytes()
    salt = (folder / "attachments/surat.pdf.salt").read_bytes()
    bound = document["body"]["letter"]
    assert (bound["sha256"], bound["salted"]) == (fsio.sha256_bytes(salt + letter.read_bytes()), True)
    assert [line.ref for line in site.ledger.lines() if line.kind == "document"][-1] == f"{case}/01"
    assert examination.examine(site.session.context(), site.session.case(case)) == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"datasets": []}, "no dataset named"),
        ({"datasets": ["simpeg"]}, "dataset 'simpeg' is not in the register"),
        ({"datasets": ["antrean", "antrean"]}, "a dataset is named twice"),
        ({"letter": Path("/nonexistent/surat.pdf")}, "the letter file does not exist"),
        ({"letter": Path("/")}, "a directory, not a regular file"),
        ({"letter_date": "besok"}, "'besok' is not a date"),
        ({"letter_date": "2026-02-30"}, "'2026-02-30' is not a date"),
        ({"letter_number": " "}, "must not be empty"),
        ({"unit": ""}, "must not be empty"),
        ({"reason": ""}, "must not be empty"),
        ({"point": "kemarin"}, "is neither 'latest', a time"),
        ({"point": "2020-01-01T00:00:00Z"}, "no verified backup of antrean at or before"),
        ({"person": None}, "who acts?"),
        ({"person": "siapa"}, "person 'siapa' is not in the trust"),
        ({"person": "kadis"}, "is for pemohon"),
        ({"key": "/nonexistent/key"}, "the key file does not exist"),
        ({"operation": "backup"}, "its schedule starts it"),
    ],
)
def test_bad_request_writes_nothing(values: dict[str, Any], problem: str, site: CaseSite, letter: Path) -> None:
    before, lines = files(site), site.ledger.head()
    with pytest.raises((UsageError, GateRefused, ConfigError), match=problem) as caught:
        ask_with(site, values, letter)
    assert "\n" not in str(caught.value)
    assert (files(site), site.ledger.head()) == (before, lines)


@pytest.mark.parametrize(
    ("name", "data"), [("surat", b"x"), ("surat.pdf", b""), ("surat.pdf\n", b"x"), ("a.p df", b"x")]
)
def test_letter_that_is_none(name: str, data: bytes, site: CaseSite, tmp_path: Path) -> None:
    before = files(site)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError):
        ask(site, tmp_path / name)
    assert files(site) == before


def test_unverified_backup_is_passed_over_with_a_remark(site: CaseSite, letter: Path) -> None:
    session = site.session
    seal_backup(
        session, "antrean", "BKP-2020-0005-01", snapshot="0f" * 32, name="baru", started=clock.now(), proof=False
    )
    said: list[str] = []
    session.say = said.append
    case = ask(site, letter)
    plan = targeting.case_plan(session, session.case(case))
    assert plan["items"][0]["backup_name"] == "cadangan_antrean"
    assert said == ["antrean: baru is newer but not verified; passed over"]


# --- acts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["case", "decide", "CASE", "--reject", "--reason", "x", "--as", "kabid"], "takes back an approval"),
        (["case", "dispose", "CASE", "--as", "kadis"], "Due is step 4: execute, by pelaksana"),
        (["case", "receive", "CASE", "--as", "pemohon"], "receive is not due"),
        (["case", "confirm", "CASE", "--approve", "--as", "kabid"], "confirm is not due"),
    ],
)
def test_wrong_act_names_the_one_that_is_due(
    words: Words, problem: str, site: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.run(["-C", str(site.root), *(site.case if word == "CASE" else word for word in words)])
    said = capsys.readouterr().err
    assert code == 10
    assert problem in said


def test_key_of_another_person(site: CaseSite, letter: Path) -> None:
    case = ask(site, letter)
    with pytest.raises(GateRefused, match="the key is not kadis's \\(it is kabid's\\)"):
        workflow.act(site.session, case, "dispose", "kadis", str(site.keys / "kabid"), lambda *_: {})
    with pytest.raises(GateRefused, match="it is nobody's in the trust"):
        workflow.act(site.session, case, "dispose", "kadis", str(site.builder.root_key), lambda *_: {})


def test_public_half_swapped_beside_the_key(site: CaseSite, letter: Path, tmp_path: Path) -> None:
    """The .pub beside a private key is only a claim: what was signed is looked at."""
    case = ask(site, letter)
    key = tmp_path / "key"
    key.write_bytes((site.keys / "kabid").read_bytes())
    key.chmod(0o600)
    key.with_name("key.pub").write_bytes((site.keys / "kadis.pub").read_bytes())
    with pytest.raises((GateRefused, UsageError)):
        workflow.act(site.session, case, "dispose", "kadis", str(key), lambda *_: {})
    assert len(site.session.case(case).filed) == 1


def test_requester_does_not_decide(site: CaseSite, letter: Path) -> None:
    case = ask(site, letter, person="rangkap")
    workflow.act(site.session, case, "dispose", "kadis", None, lambda *_: {"to": "", "note": ""})
    decision = workflow.decision(site.session, True, "ya")
    with pytest.raises(GateRefused, match="rangkap acts as pemohon and as kabid; the SOP needs two persons"):
        workflow.act(site.session, case, "decide", "rangkap", None, decision)
    assert workflow.act(site.session, case, "decide", "kabid", None, decision).state.due is not None


def test_rejected_case_is_closed_and_sealed(site: CaseSite, letter: Path) -> None:
    case = ask(site, letter)
    steps: list[tuple[Act, str, Callable[..., Any]]] = [
        ("dispose", "kadis", lambda *_: {"to": "", "note": ""}),
        ("decide", "kabid", workflow.decision(site.session, False, "bukan kewenangan")),
        ("inform", "pelaksana", lambda *_: {"status": "ditolak", "text": "", "to": "pemohon"}),
        ("receive", "pemohon", lambda *_: {"note": ""}),
    ]
    for act, person, body in steps:
        workflow.act(site.session, case, act, person, None, body)
    found = site.session.case(case)
    assert (found.state.closed, found.state.outcome) == (True, "ditolak")
    assert [line.ref for line in site.ledger.lines() if line.kind == "record"][-1] == f"{case}-C"
    with pytest.raises(GateRefused, match="the case is closed \\(ditolak\\); nothing is due"):
        workflow.act(site.session, case, "receive", "pemohon", None, lambda *_: {})


def test_decision_needs_a_reason(site: CaseSite, letter: Path) -> None:
    case = ask(site, letter)
    workflow.act(site.session, case, "dispose", "kadis", None, lambda *_: {"to": "", "note": ""})
    with pytest.raises(UsageError, match="a decision needs a reason"):
        workflow.act(site.session, case, "decide", "kabid", None, workflow.decision(site.session, True, " "))


def test_approval_holds_no_longer_than_the_trust_allows(site: CaseSite, letter: Path) -> None:
    site.retrust(lambda file: changed(file, policy=changed(file.policy, approval_days_max=2)))
    case = ask(site, letter)
    workflow.act(site.session, case, "dispose", "kadis", None, lambda *_: {"to": "", "note": ""})
    workflow.act(site.session, case, "decide", "kabid", None, workflow.decision(site.session, True, "ya"))
    given = site.session.case(case).body("decide")["approval"]
    assert clock.seconds_between(given["valid_from"], given["valid_until"]) == 2 * 86400


# --- broken off ------------------------------------------------------------------------------------------------------


def test_document_signed_but_not_received_is_received_later(site: CaseSite) -> None:
    papers = site.papers()
    papers[-1].received = None
    papers[-1].body["at"] = clock.now()
    site.refile(papers)
    said: list[str] = []
    session = site.session
    session.say = said.append
    case = session.case(site.case)
    assert examination.examine(session.context(), case) == []
    assert "03-decide.json had been signed but not received" in said[0]
    assert [line.ref for line in site.ledger.lines()][-1] == f"{site.case}/03"


@pytest.mark.parametrize("hours", [-1, 1])
def test_document_of_another_hour_is_not(hours: int, site: CaseSite) -> None:
    papers = site.papers()
    papers[-1].received = None
    papers[-1].body["at"] = clock.plus(clock.now(), hours=hours)
    site.refile(papers)
    reasons = examination.examine(site.session.context(), site.session.case(site.case))
    assert any("was never received" in reason for reason in reasons)


def test_full_disk_at_the_ledger_leaves_a_case_that_goes_on(
    site: CaseSite, letter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = ask(site, letter)

    def full(*_: object, **__: object) -> None:
        raise ConfigError("cannot append to the ledger: No space left on device", where="ledger.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", full)
        with pytest.raises(ConfigError, match="No space left"):
            workflow.act(site.session, case, "dispose", "kadis", None, lambda *_: {"to": "", "note": ""})
    done = workflow.act(site.session, case, "decide", "kabid", None, workflow.decision(site.session, True, "ya"))
    assert [filed.document.act for filed in done.filed] == ["request", "dispose", "decide"]


def test_clock_that_went_back_refuses(site: CaseSite, letter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = ask(site, letter)
    ahead = clock.parse(clock.plus(clock.now(), hours=1))
    Ledger(site.ledger.path, clock=lambda: ahead).append("schedule", "schedule")
    with pytest.raises(GateRefused, match="this machine's clock says"):
        workflow.act(site.session, case, "dispose", "kadis", None, lambda *_: {"to": "", "note": ""})


# --- schedule --------------------------------------------------------------------------------------------------------


def _unsigned(site: CaseSite) -> None:
    (site.root / "schedule.yml.sig").unlink()


def _edited(site: CaseSite) -> None:
    site.edit("schedule.yml", '"P1M"', '"P1D"')


def _by_the_operator(site: CaseSite) -> None:
    from sopctl import signing

    path = site.root / "schedule.yml"
    path.with_name("schedule.yml.sig").write_bytes(
        signing.sign(path.read_bytes(), "sop-schedule", site.keys / "pelaksana")
    )


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_unsigned, "the schedule is not signed by kabid"),
        (_edited, "the schedule's signature is not one of kabid"),
        (_by_the_operator, "the schedule's signature is not one of kabid"),
    ],
)
def test_schedule_that_is_no_standing_order(
    spoil: Callable[[CaseSite], None], reason: str, site: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(site)
    before = files(site)
    assert cli.run(["-C", str(site.root), "schedule", "run", "--dataset", "antrean", "--as", "robot"]) == 10
    assert reason in capsys.readouterr().err
    assert files(site) == before, "no case is opened for a refused run"
    assert not [line for line in site.ledger.lines() if line.kind == "run-started"]


def test_nothing_is_due_twice(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-C", str(site.root), "schedule", "run", "--due", "--as", "robot"]) == 0
    assert "Nothing is due (changed=0)." in capsys.readouterr().out


def test_operator_does_not_sign_the_schedule(site: CaseSite) -> None:
    with pytest.raises(GateRefused, match="signing the schedule is for kabid"):
        standing.sign_schedule(site.session, "pelaksana", None)
