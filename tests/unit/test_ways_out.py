# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.case, beside, running, session: no honest case is stuck for ever, and no way out is a way round the gate."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from sopctl import approval, beside, clock, content, runner, standing, targeting, workflow
from sopctl.case import State, fold
from sopctl.context import key_digest
from sopctl.duties import separation
from sopctl.errors import ConfigError, GateRefused
from sopctl.examination import examine
from sopctl.models import Act, Actor, Document, Json, SideAct
from sopctl.profile import DESK, load_profile, shipped
from tests.support.case_site import CaseSite
from tests.unit.attacks.forging import asked, decided, disposed, emergency

KALTIM = load_profile(shipped()["kaltim"]).profile
FLOW, GLASS = KALTIM.flow("backup_restore"), KALTIM.break_glass
YES: Json = {"decision": "approve"}
NO: Json = {"decision": "reject"}
STEPS: dict[str, tuple[str, Act | SideAct, Json]] = {
    "request": ("k1", "request", {}),
    "approve": ("k2", "decide", YES),
    "take back": ("k2", "decide", NO),
    "forward": ("k2", "dispose", {}),
    "plan": ("k3", "plan", {}),
    "execute": ("k4", "execute", {}),
    "send back": ("k5", "confirm", NO),
    "confirm": ("k5", "confirm", YES),
    "break": ("-", "emergency", {}),
    "ratify": ("-", "ratify", YES),
    "censure": ("-", "ratify", NO),
    "withdraw": ("-", "withdraw", {}),
    "take over": ("-", "takeover", {}),
}
PLANNED = ["request", "approve", "forward", "plan"]
BROKEN = ["request", "break", "break"]


def after(*names: str) -> State:
    """State behind these documents; the second one who breaks the glass is another person than the first."""
    documents = []
    for seq, name in enumerate(names, 1):
        step, act, body = STEPS[name]
        person = f"operator{list(names[:seq]).count('break')}" if name == "break" else "orang"
        documents.append(
            Document(
                schema="sop/document/v1",
                site="s",
                case="RST-2026-0001",
                seq=seq,
                flow="backup_restore",
                step=step,
                act=act,
                actor=Actor(person, "r"),
                at="2026-11-22T03:00:00Z",
                profile="p",
                prev=None,
                body=body,
            )
        )
    return fold(FLOW, documents, GLASS)


@pytest.mark.parametrize(
    ("names", "due", "outcome", "glass"),
    [
        ([*PLANNED, "plan"], "k4", "berjalan", ""),
        ([*PLANNED, "approve"], "k4", "berjalan", ""),
        ([*PLANNED, "execute", "send back", "approve", "plan"], "k4", "berjalan", ""),
        ([*PLANNED, "execute", "send back", "withdraw"], None, "dibatalkan", ""),
        ([*PLANNED, "execute", "confirm"], None, "selesai", ""),
        (["request", "break", "withdraw"], None, "dibatalkan", ""),
        ([*BROKEN, "withdraw"], None, "dibatalkan", ""),
        ([*BROKEN, "censure"], "k2", "berjalan", ""),
        ([*BROKEN, "ratify", "approve"], "k2", "berjalan", ""),
        ([*BROKEN, "execute", "confirm"], "ratify", "berjalan", "open"),
        ([*BROKEN, "execute", "confirm", "ratify"], None, "selesai", "ratified"),
        ([*BROKEN, "execute", "send back", "censure", "withdraw"], None, "dibatalkan", "censured"),
        (["request", "break", "take back"], "k2r", "berjalan", "asked"),
    ],
)
def test_where_a_case_stands(names: list[str], due: str | None, outcome: str, glass: str) -> None:
    state = after(*names)
    assert (state.due.id if state.due else None, state.outcome, state.emergency, state.reasons) == (
        due,
        outcome,
        glass,
        [],
    )


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ([*PLANNED, "take back"], "takes back an approval"),
        ([*PLANNED, "execute", "withdraw"], "withdraws what was executed already"),
        ([*BROKEN, "execute", "send back", "withdraw"], "withdraws an emergency that nobody has judged yet"),
        (["request", "take back", "withdraw"], "withdraws what was rejected already"),
        ([*PLANNED[:3], "approve"], "is decide of step k2, but plan of step k3 was due"),
        ([*BROKEN, "plan"], "is plan of step k3, but execute of step k4 was due"),
        ([*BROKEN, "execute", "confirm", "ratify", "censure"], "lies behind the end of the flow"),
        (["take over"], "lies before the case's first step"),
        ([*BROKEN, "censure", "break"], "breaks the glass a second time"),
    ],
)
def test_no_way_round(names: list[str], problem: str) -> None:
    assert problem in after(*names).reasons[0]


def reasons(site: CaseSite, person: str = "pelaksana") -> list[str]:
    session = site.session
    case = session.case(site.case)
    return approval.gate_case(session.context(), case, targeting.case_plan(session, case), person, "pelaksana")


def test_censured_emergency_executes_nothing_more(site: CaseSite) -> None:
    emergency(site)
    assert reasons(site) == []
    case = site.session.case(site.case)
    state = case.state
    assert state.due and state.due.act == "execute"
    session = site.session
    signer = session.signer("pelaksana", None)
    body: Json = {"run": f"{case.id}-01", "record": f"{case.id}-01", "result": "berhasil", "datasets": {}}
    session.file(case, state.due, signer, "pelaksana", body)
    beside.ratify(site.session, site.case, False, "tidak perlu", "kabid", None)
    assert any("execution is not due" in reason for reason in reasons(site))


def test_approval_that_holds_no_more_is_renewed(site: CaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an upgrade of sopctl."""
    monkeypatch.setattr(content, "code_digest", lambda: "sha256:" + "9" * 64)
    assert any("the code differs from the approved code" in reason for reason in reasons(site))
    decided(site)
    assert reasons(site) == []


def test_requester_withdraws_after_a_check(site: CaseSite) -> None:
    site.ledger.append("observed", f"{site.case}/{site.case}-S01", {"plan": "sha256:" + "0" * 64})
    assert beside.withdraw(site.session, site.case, "batal", "pemohon", None).state.outcome == "dibatalkan"


def test_run_that_was_begun_is_finished_first(site: CaseSite) -> None:
    site.ledger.append("run-started", f"{site.case}/{site.case}-01", {"plan": "sha256:" + "0" * 64})
    with pytest.raises(GateRefused, match="it must be finished"):
        beside.withdraw(site.session, site.case, "batal", "pemohon", None)


def test_whoever_started_a_run_has_executed(site: CaseSite) -> None:
    """The starter was killed before the document; somebody else resumed. The starter still cannot judge it."""
    session = site.session
    person = session.trust.person("rangkap")
    digest = key_digest(" ".join(person.keys[0].key.split()[:2]))
    assert separation(session.context(), session.case(site.case), ("rangkap", "pelaksana")) == []
    site.ledger.append("run-started", f"{site.case}/{site.case}-01", {"plan": "sha256:" + "0" * 64, "operator": digest})
    found = separation(session.context(), session.case(site.case), ("rangkap", "kabid"))
    assert "rangkap acts as pelaksana and as kabid; the SOP needs two persons" in found


def test_keeper_s_change_leaves_what_was_decided(site: CaseSite) -> None:
    site.change_yaml("register/datasets/antrean.yml", owner_unit="Bidang Keuangan")
    assert examine(site.session.context(), site.session.case(site.case)) == []
    assert any("its owner has not consented" in reason for reason in reasons(site))
    assert beside.withdraw(site.session, site.case, "batal", "pemohon", None).state.closed


def test_revised_sop_lets_a_case_end(site: CaseSite) -> None:
    path = site.root / "profiles/trenggalek-060-017-2023.yml"
    path.write_text(path.read_text() + "# ditinjau kembali\n")
    site.retrust(lambda file: file)
    assert any("was made under profile" in reason for reason in reasons(site))
    assert beside.withdraw(site.session, site.case, "SOP baru", "pemohon", None).state.outcome == "dibatalkan"


def test_long_run_sees_a_revocation(site: CaseSite) -> None:
    session = site.session
    assert session.trust.has_role(session.trust.person("kabid"), "kabid", clock.now())
    site.retrust(
        lambda file: changed(
            file,
            people=[
                changed(one, keys=[changed(key, revoked="2020-01-01T00:00:00Z") for key in one.keys])
                if one.id == "kabid"
                else one
                for one in file.people
            ],
        )
    )
    assert any("revoked" in reason for reason in examine(session.context(), session.case(site.case)))


def test_number_of_a_lost_case_is_given_to_nobody(site: CaseSite) -> None:
    shutil.rmtree(site.folder)
    assert asked(site).id == "RST-2026-0002" if site.case.endswith("0001") else True


def test_desk_does_not_decide_what_it_entered(site: CaseSite) -> None:
    site.retrust(
        lambda file: changed(
            file,
            people=[
                changed(one, roles=[*one.roles, changed(one.roles[0], role="loket")]) if one.id == "kabid" else one
                for one in file.people
            ],
        )
    )
    asked(site, "kabid", requester="pemohon")
    disposed(site)
    with pytest.raises(GateRefused, match="kabid acts as pemohon and as kabid"):
        workflow.act(site.session, site.case, "decide", "kabid", None, workflow.decision(site.session, True, "ya"))


def test_schedule_is_changed_and_an_older_one_stays_away(site: CaseSite) -> None:
    path = site.root / "schedule.yml"
    old = [(one, one.read_bytes()) for one in (path, path.with_name("schedule.yml.sig"))]
    path.write_text(path.read_text() + "\n")
    standing.sign_schedule(site.session, "kabid", None)
    context = site.session.context()
    assert approval.standing_order(context, *site.session.site.standing_order()) == []
    for one, data in old:
        one.write_bytes(data)
    found = approval.standing_order(site.session.context(), *site.session.site.standing_order())
    assert any("is not the one that was signed last" in reason for reason in found)


@pytest.mark.parametrize("change", [lambda path: path.write_text("lain"), lambda path: path.unlink()])
def test_letter_that_was_exchanged(site: CaseSite, change: Callable[[Path], object]) -> None:
    change(site.folder / "attachments/surat.txt")
    with pytest.raises(GateRefused, match=r"attachment surat\.txt is not"):
        site.session.case_to_act_on(site.case)


def test_approval_of_what_the_keeper_did_not_sign(site: CaseSite) -> None:
    asked(site)
    disposed(site)
    site.change_yaml("register/datasets/antrean.yml", classification="terbuka")
    with pytest.raises(GateRefused, match="is not as its keeper signed it"):
        decided(site)


def test_link_among_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "sopctl"
    package.mkdir()
    (package / "a.py").write_text("")
    monkeypatch.setattr(content, "package", lambda: package)
    monkeypatch.setattr(content, "collection", lambda: package)
    assert content.code_files()
    (package / "approval").symlink_to(tmp_path)
    with pytest.raises(GateRefused, match="a link stands among the code"):
        content.code_files()


def test_plugins_of_the_home_stay_out(tmp_path: Path) -> None:
    """A connection plugin below ~/.ansible would get every secret, and no approval names it."""
    home = tmp_path / "home"
    (home / ".ansible/plugins/connection").mkdir(parents=True)
    folder = tmp_path / "run"
    folder.mkdir()
    env = runner.environment(folder) | {"HOME": str(home), "PATH": f"{runner.tool_path()}:{os.defpath}"}
    said = subprocess.run(["ansible-config", "dump"], env=env, capture_output=True, text=True, check=True).stdout
    paths = [line for line in said.splitlines() if "PLUGIN_PATH" in line or line.startswith("DEFAULT_MODULE_")]
    assert len(paths) > 10
    assert not [line for line in paths if str(home) in line or "/usr/share/ansible" in line]


def test_entry_of_another_ending_is_named(site: CaseSite) -> None:
    path = site.root / "register/datasets/berkas.yml"
    path.rename(path.with_suffix(".yaml"))
    with pytest.raises(ConfigError, match=r"register entries end in \.yml"):
        _ = site.session.site.datasets


def test_desk_that_is_also_a_requester(site: CaseSite) -> None:
    site.retrust(
        lambda file: changed(
            file,
            people=[
                changed(one, roles=[*one.roles, changed(one.roles[0], role="loket")]) if one.id == "rangkap" else one
                for one in file.people
            ],
        )
    )
    case = asked(site, "rangkap", requester="pemohon")
    assert case.filed[0].document.actor.role == DESK
