# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.destruction, sopctl.cleaning and sopctl.kept: dropping kept data that may not be dropped yet, or by whom, or
that is not the case's; each through ``sopctl case clean --yes`` or the questions of its play. Nothing may be begun."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from sopctl import beside, cleaning, cli, fsio, kept, workflow
from sopctl.kept import fold
from sopctl.models import Json
from tests.support.case_site import CaseSite
from tests.support.later import later
from tests.support.restored import evidence_of, executed, informed, name_of, received, restored, seal_restore
from tests.unit.attacks.forging import asked, disposed, emergency, extra, forge, person

Spoil = Callable[[CaseSite], None]


@pytest.fixture(autouse=True)
def _nothing_starts(nothing_starts: None) -> Iterator[None]:
    yield


def typed(site: CaseSite, capsys: pytest.CaptureFixture[str], person: str = "pelaksana") -> tuple[int, list[str]]:
    """Exit code and reasons of ``case clean --yes``; nothing may have been ordered or begun."""
    documents = sorted(path.name for path in site.folder.glob("*.json"))
    lines = len(site.ledger.lines())
    capsys.readouterr()
    code = cli.run(["-C", str(site.root), "case", "clean", site.case, "--yes", "--as", person, "--json"])
    said = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert sorted(path.name for path in site.folder.glob("*.json")) == documents
    assert len(site.ledger.lines()) == lines
    return code, list(said["reasons"])


def requested_anew(site: CaseSite) -> None:
    restored(site)
    first = site.case
    asked(site)
    site.case = first


def by_who_received(site: CaseSite) -> None:
    """The requester is an operator, too; somebody else executed."""
    site.retrust(
        person("pemohon", lambda one: changed(one, roles=[*one.roles, changed(one.roles[0], role="pelaksana")]))
    )
    restored(site)


def moved(site: CaseSite) -> None:
    restored(site)
    site.change_yaml("register/datasets/antrean.yml", path="/srv/lain/antrean.db")
    site.builder.sign_register()


def replaced(site: CaseSite) -> None:
    restored(site)
    site.change_yaml("register/servers/srv01.yml", machine_id="9" * 32)
    site.builder.sign_register()


def by_emergency(judgement: str) -> Spoil:
    def spoil(site: CaseSite) -> None:
        beside.withdraw(site.session, site.case, "dimohon lagi", "pemohon", None)
        emergency(site)
        executed(site)
        informed(site)
        received(site)
        if judgement:
            beside.ratify(site.session, site.case, judgement == "yes", "sudah dilihat", "kabid", None)

    return spoil


def shortened(site: CaseSite) -> None:
    """What the root demands is not undercut by sop.yml, which nobody signs for this: not even before the restore."""
    site.edit("sop.yml", "policy:\n", "policy:\n  keep_days: 1\n")
    restored(site)


def still_running(site: CaseSite) -> None:
    executed(site)
    informed(site)


def failed_but_swapped(site: CaseSite) -> None:
    restored(site, "gagal")


def said_restored_but_reverted(site: CaseSite) -> None:
    executed(site, "berhasil", evidence=evidence_of(site.case, "gagal_dikembalikan"))
    informed(site)
    received(site)


ATTACKS: dict[str, tuple[Spoil, int, str, str]] = {
    "before the keep time is over": (restored, 0, "antrean: is kept until", "pelaksana"),
    "the day before": (restored, 6, "antrean: is kept until", "pelaksana"),
    "before it was received": (still_running, 8, "the case is not closed: due is step 7", "pelaksana"),
    "by the decider": (restored, 8, "dropping kept data is for pelaksana", "kabid"),
    "by a service": (restored, 8, "robot is a service identity", "robot"),
    "by who also decided": (restored, 8, "the SOP needs two persons", "rangkap"),
    "by who received it": (by_who_received, 8, "that takes two persons", "pemohon"),
    "while another restore is asked for": (requested_anew, 8, "asks for its restore and is open", "pelaksana"),
    "place changed in the register": (moved, 8, f"was restored with path {'/srv/app/antrean.db'}", "pelaksana"),
    "machine changed in the register": (replaced, 8, "was restored on another machine", "pelaksana"),
    "an emergency that nobody judged": (by_emergency(""), 8, "the emergency was not ratified yet", "pelaksana"),
    "an emergency that was censured": (by_emergency("no"), 8, "the emergency was censured", "pelaksana"),
    "failed, and old data is set aside": (failed_but_swapped, 8, "a person must look at it first", "pelaksana"),
    "said to be done, and it was taken back": (said_restored_but_reverted, 8, "a person must look at it first", "pelaksana"),
    "keep time shortened by hand": (shortened, 6, "antrean: is kept until", "pelaksana"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "days", "reason", "who"), ATTACKS.values(), ids=ATTACKS.keys())
def test_refused(
    site: CaseSite, capsys: pytest.CaptureFixture[str], spoil: Spoil, days: int, reason: str, who: str
) -> None:
    if who == "rangkap":  # they hold both roles; here they decided
        asked(site)
        disposed(site)
        workflow.act(site.session, site.case, "decide", "rangkap", None, workflow.decision(site.session, True, "ya"))
    spoil(site)
    with later(days):
        code, reasons = typed(site, capsys, who)
    assert any(reason in one for one in reasons), reasons
    assert code == 10, reasons


@pytest.mark.parametrize(
    ("spoil", "days"),
    [(restored, 8), (lambda site: restored(site, "gagal_dikembalikan"), 8), (by_emergency("yes"), 8)],
    ids=["restored", "taken back", "ratified emergency"],
)
def test_true_cases_may_be_cleaned(site: CaseSite, spoil: Spoil, days: int) -> None:
    """Without these, the refusals above would prove nothing."""
    spoil(site)
    with later(days):
        look = cleaning.look(site.session, site.case, "pelaksana")
        assert [one.name.split("__")[1].split("_")[0] for one in look.holding.kept] in (["before"], ["shadow"])
        assert look.reasons == []


def test_withdrawn_after_the_inspector_sent_it_back(kaltim: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    executed(kaltim, by="pengelola")
    workflow.act(kaltim.session, kaltim.case, "confirm", "pemeriksa", None, workflow.confirmation(False, "salah"))
    beside.withdraw(kaltim.session, kaltim.case, "tidak jadi", "pemohon", None)
    with later(8):
        code, reasons = typed(kaltim, capsys, "pengelola")
    assert code == 10
    assert any("the case ended dibatalkan" in reason for reason in reasons), reasons


def test_kaltim_needs_the_inspector_s_yes(kaltim: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    executed(kaltim, by="pengelola")
    with later(8):
        code, reasons = typed(kaltim, capsys, "pengelola")
        assert code == 10
        assert any("the case is not closed: due is step 5" in reason for reason in reasons), reasons
    workflow.act(kaltim.session, kaltim.case, "confirm", "pemeriksa", None, workflow.confirmation(True, ""))
    with later(8):
        assert cleaning.look(kaltim.session, kaltim.case, "pengelola").reasons == []


def test_what_a_form_promised_outlives_a_shorter_policy(site: CaseSite) -> None:
    site.retrust(lambda file: changed(file, policy=changed(file.policy, keep_days=20)))
    restored(site)
    [was] = kept.of_case(site.session.site, site.ledger.lines(), site.case, site.session.policy.keep_days).kept
    site.retrust(lambda file: changed(file, policy=changed(file.policy, keep_days=1)))
    [now] = kept.of_case(site.session.site, site.ledger.lines(), site.case, site.session.policy.keep_days).kept
    assert now.until == was.until
    site.edit("sop.yml", "policy:\n", "policy:\n  keep_days: 30\n")
    [longer] = kept.of_case(site.session.site, site.ledger.lines(), site.case, site.session.policy.keep_days).kept
    assert longer.until > was.until


def test_an_edited_record_is_not_believed(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    restored(site)
    [path] = (site.root / "archive/records").glob(f"*/*/{site.case}-01/data/evidence.json")
    path.write_text(path.read_text().replace("__before_", "__beyond_"))
    with later(8):
        code, reasons = typed(site, capsys)
    assert code == 30, reasons
    assert "is not what was sealed" in reasons[0]
    shown = cli.run(["-C", str(site.root), "case", "show", site.case])
    assert shown == 0
    assert "is not what was sealed" in capsys.readouterr().out.replace("\n", "")


def test_a_record_that_is_gone_is_no_reason_to_forget_what_is_kept(
    site: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    restored(site)
    [path] = (site.root / "archive/records").glob(f"*/*/{site.case}-01")
    path.rename(site.root.parent / "away")
    with later(8):
        code, reasons = typed(site, capsys)
    assert (code, reasons[0]) == (30, "the ledger names this record, but it is gone")


def test_a_record_that_the_ledger_does_not_know_tells_nothing(site: CaseSite) -> None:
    """Evidence that somebody laid beside the records, of a copy that is not the case's."""
    restored(site)
    forged = site.root / "archive/records/2026/01" / f"{site.case}-09"
    forged.mkdir(parents=True)
    (forged / "data").mkdir()
    (forged / "data/evidence.json").write_text(json.dumps(evidence_of("RST-2026-0099", "berhasil")))
    [one] = kept.of_case(site.session.site, site.ledger.lines(), site.case, site.session.policy.keep_days).kept
    assert one.name == name_of(site.case)


# -- the document ---------------------------------------------------------------------------------------------------


def order(site: CaseSite, **values: Any) -> Json:
    drop = {"dataset": "antrean", "host": "srv01", "server": "srv01", "name": name_of(site.case), "bytes": 1}
    return {"drops": [{**drop, **values}]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda site: order(site, name="/srv/app/antrean.db"), "which is not what this case set aside"),
        (lambda site: order(site, name=name_of("RST-2026-0077")), "which is not what this case set aside"),
        (lambda site: order(site, name=name_of(site.case) + "/.."), "which is not what this case set aside"),
        (lambda site: order(site, dataset="berkas"), "which the case did not ask for"),
        (lambda site: order(site, host=None), "does not say what it drops"),
        (lambda _: {"drops": []}, "does not say what it drops"),
        (lambda _: {}, "does not say what it drops"),
    ],
)
def test_a_document_that_says_something_else_cannot_be_believed(
    site: CaseSite, body: Callable[[CaseSite], Json], reason: str
) -> None:
    restored(site)
    forge(extra("clean", "pelaksana", "pelaksana", **body(site)))(site)
    from sopctl.examination import examine

    found = examine(site.session.context(), site.session.case(site.case))
    assert any(reason in one for one in found), found


@pytest.mark.parametrize(
    ("who", "role", "key", "reason"),
    [
        ("kabid", "kabid", "kabid", "is for pelaksana, not kabid"),
        ("pelaksana", "pelaksana", "kabid", "is kabid's, not pelaksana's"),
    ],
)
def test_an_order_by_somebody_else_cannot_be_believed(
    site: CaseSite, who: str, role: str, key: str, reason: str
) -> None:
    from sopctl.examination import examine

    restored(site)
    papers = site.papers()
    extra("clean", who, role, **order(site))(site, papers)
    papers[-1].key = key
    site.refile(papers)
    found = examine(site.session.context(), site.session.case(site.case))
    assert any(reason in one for one in found), found


def test_an_order_in_an_open_case_does_not_fit(site: CaseSite) -> None:
    executed(site)
    forge(extra("clean", "pelaksana", "pelaksana", **order(site)))(site)
    assert site.session.case(site.case).state.reasons == [
        "document 5 drops what the case keeps before the case is closed"
    ]


# -- the fold -------------------------------------------------------------------------------------------------------


def _entry(kind: str, state: str, **more: Any) -> Json:
    return {"kind": kind, "dataset": "a", "state": state, "before": "B", "shadow": "S", "failed": False, **more}


@pytest.mark.parametrize(
    ("evidence", "copy_", "name", "size"),
    [
        ([], "", "", None),
        ([_entry("stage", "staged")], "shadow", "S", None),
        ([_entry("stage", "absent", failed=True)], "", "", None),
        ([_entry("stage", "staged"), _entry("revert", "reverted", changed=True)], "", "", None),
        ([_entry("stage", "staged"), _entry("swap", "swapped")], "before", "B", None),
        ([_entry("swap", "swapped"), _entry("finalise", "finalised", kept={"name": "B", "bytes": 7})], "before", "B", 7),
        ([_entry("swap", "swapped"), _entry("revert", "reverted", identity={"old": 1})], "shadow", "S", None),
        ([_entry("swap", "swapped"), _entry("revert", "reverted", kept={"name": "S", "bytes": 9})], "shadow", "S", 9),
        ([_entry("swap", "swapped"), _entry("revert", "reverted", failed=True)], "before", "B", None),
        ([_entry("stage", "reverted")], "shadow", "S", None),
        ([_entry("stage", "swapped")], "before", "B", None),
        ([_entry("swap", "swapped"), {"kind": "switch", "datasets": {"a": {"state": "staged"}}}], "shadow", "", None),
        ([_entry("swap", "swapped"), {"kind": "switch", "datasets": {"a": {"state": "swapped"}}}], "before", "B", None),
        ([_entry("swap", "swapped"), _entry("clean", "absent")], "", "", None),
        ([_entry("swap", "swapped"), _entry("clean", "absent", failed=True)], "before", "B", None),
    ],
)  # fmt: skip
def test_fold(evidence: list[Json], copy_: str, name: str, size: int | None) -> None:
    left = fold(evidence).get("a")
    assert ((left.copy, left.name, left.size) if left else ("", "", None)) == (copy_, name, size)


def test_a_run_that_went_on_from_a_killed_one_tells_what_that_left(site: CaseSite) -> None:
    """The first run was killed after its swap and never sealed; the second found the dataset swapped."""
    session = site.session
    session.ledger.append("run-started", f"{site.case}/{site.case}-01", {"plan": fsio.sha256_bytes(b"x")})
    told = [one for one in evidence_of(site.case, "berhasil") if one["kind"] == "finalise"]
    seal_restore(session, site.case, f"{site.case}-02", told)
    [one] = kept.of_case(session.site, session.ledger.lines(), site.case, session.policy.keep_days).kept
    assert (one.name, one.size, one.record) == (name_of(site.case), 4096, f"{site.case}-02")


def test_doctor_and_show_name_what_is_kept(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    restored(site)
    with later(8):
        assert cli.run(["-C", str(site.root), "case", "show", site.case, "--json"]) == 0
        [one] = json.loads(capsys.readouterr().out)["kept"]
        assert (one["bytes"], one["cleanable"], one["server"]) == (4096, True, "srv01")
        cli.run(["-C", str(site.root), "doctor", "--json"])
        said = [item for item in json.loads(capsys.readouterr().out) if item["what"] == "kept"]
    assert [item["state"] for item in said] == ["ok", "warn"]
    assert f"sopctl case clean {site.case}" in said[1]["detail"]
    assert Path(one["name"]).name in said[0]["detail"]
