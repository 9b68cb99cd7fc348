# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.approval: forged cases, one fault each, through ``sopctl case execute``.

A refused run opens nothing: no line in the ledger, no run folder, no inventory read, no Ansible started.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec.structs import replace as changed

from sopctl import approval, clock, targeting
from sopctl.models import Person, TrustFile
from tests.support.case_site import CaseSite, Paper, refused

pytestmark = pytest.mark.usefixtures("nothing_starts")
REQUEST, DISPOSE, DECIDE = 0, 1, 2
Forge = Callable[[CaseSite, list[Paper]], None]


def _hours(paper: Paper, hours: int) -> str:
    return clock.plus(str(paper.body["at"]), hours=hours)


def _by(person: str, role: str, key: str | None = None, at: int = DECIDE) -> Forge:
    def forge(site: CaseSite, papers: list[Paper]) -> None:
        papers[at].body["actor"] = {"person": person, "role": role}
        papers[at].key = key or person

    return forge


def _person(person_id: str, change: Callable[[Person], Person]) -> Callable[[TrustFile], TrustFile]:
    def edit(file: TrustFile) -> TrustFile:
        people = [change(person) if person.id == person_id else person for person in file.people]
        return changed(file, people=people)

    return edit


def _role_ended(site: CaseSite, papers: list[Paper]) -> None:
    ended = _hours(papers[DECIDE], -1)
    end = _person("kabid", lambda one: changed(one, roles=[changed(role, until=ended) for role in one.roles]))
    site.retrust(end)


def _key_later(site: CaseSite, papers: list[Paper]) -> None:
    later = _hours(papers[DECIDE], 1)
    site.retrust(_person("kabid", lambda one: changed(one, keys=[changed(key, since=later) for key in one.keys])))


def _dismissed(site: CaseSite, papers: list[Paper]) -> None:
    site.retrust(lambda file: changed(file, people=[one for one in file.people if one.id != "kabid"]), forget=["kabid"])


def _other_namespace(site: CaseSite, papers: list[Paper]) -> None:
    papers[DECIDE].namespace = "sop-record"


def _other_case(site: CaseSite, papers: list[Paper]) -> None:
    papers[DECIDE].body["case"] = "RST-2026-0099"


def _other_site(site: CaseSite, papers: list[Paper]) -> None:
    for paper in papers:
        paper.body["site"] = "11111111-2222-3333-4444-555555555555"


def _reordered(site: CaseSite, papers: list[Paper]) -> None:
    papers[DISPOSE], papers[DECIDE] = papers[DECIDE], papers[DISPOSE]
    for number, paper in enumerate(papers, 1):
        paper.body["seq"] = number


def _dropped(site: CaseSite, papers: list[Paper]) -> None:
    del papers[DISPOSE]
    papers[-1].body["seq"] = 2


def _gap(site: CaseSite, papers: list[Paper]) -> None:
    papers[DECIDE].body["seq"] = 4


def _prev(value: str | None) -> Forge:
    def forge(site: CaseSite, papers: list[Paper]) -> None:
        papers[DECIDE].linked, papers[DECIDE].body["prev"] = False, value

    return forge


def _both(site: CaseSite, papers: list[Paper]) -> None:
    second = json.loads(json.dumps(papers[DECIDE].body))
    second["body"], second["seq"] = {"decision": "reject", "reason": "tidak"}, 4
    papers.append(replace(papers[DECIDE], body=second))


def _rejected(site: CaseSite, papers: list[Paper]) -> None:
    papers[DECIDE].body["body"] = {"decision": "reject", "reason": "tidak"}


def _body(at: int, **values: Any) -> Forge:
    def forge(site: CaseSite, papers: list[Paper]) -> None:
        papers[at].body["body"].update(values)

    return forge


def _approval(**values: Any) -> Forge:
    def forge(site: CaseSite, papers: list[Paper]) -> None:
        papers[DECIDE].body["body"]["approval"].update(values)

    return forge


def _target(**values: Any) -> Forge:
    def forge(site: CaseSite, papers: list[Paper]) -> None:
        papers[DECIDE].body["body"]["approval"]["targets"][0].update(values)

    return forge


def _approved_two(site: CaseSite, papers: list[Paper]) -> None:
    targets = papers[DECIDE].body["body"]["approval"]["targets"]
    targets.append({**targets[0], "dataset": "berkas"})


def _approved_for_years(site: CaseSite, papers: list[Paper]) -> None:
    until = clock.plus(papers[DECIDE].body["at"], days=400)
    papers[DECIDE].body["body"]["approval"]["valid_until"] = until


def _expired(site: CaseSite, papers: list[Paper]) -> None:
    for paper in papers:
        paper.body["at"] = paper.received = _hours(paper, -2)
    ago = _hours(papers[DECIDE], 1)
    papers[DECIDE].body["body"]["approval"].update(valid_from=papers[DECIDE].body["at"], valid_until=ago)
    early = "2020-01-01T00:00:00Z"

    def since(file: TrustFile) -> TrustFile:
        people = [
            changed(
                one,
                roles=[changed(role, since=early) for role in one.roles],
                keys=[changed(key, since=early) for key in one.keys],
            )
            for one in file.people
        ]
        return changed(file, people=people)

    site.retrust(since)


def _late(site: CaseSite, papers: list[Paper]) -> None:
    papers[DECIDE].received = _hours(papers[DECIDE], 1)


def _unreceived(at: int) -> Forge:
    def forge(site: CaseSite, papers: list[Paper]) -> None:
        papers[at].received = None

    return forge


def _step(**values: str) -> Forge:
    def forge(site: CaseSite, papers: list[Paper]) -> None:
        papers[DECIDE].body.update(values)

    return forge


def _asked_for_by_the_decider(site: CaseSite, papers: list[Paper]) -> None:
    papers[REQUEST].body["body"]["requester"] = "kabid"


def _asked_and_decided(site: CaseSite, papers: list[Paper]) -> None:
    _by("rangkap", "pemohon", at=REQUEST)(site, papers)
    papers[REQUEST].body["body"]["requester"] = "rangkap"
    _by("rangkap", "kabid")(site, papers)


#: name → (how the case is forged, what the refusal must say, whether it is the only reason)
FORGED: dict[str, tuple[Forge, str]] = {
    "signed with another person's key": (_by("kabid", "kabid", "pemohon"), "is pemohon's, not kabid's"),
    "signed in another role": (_by("kabid", "pelaksana"), "step r3 is for kabid, not pelaksana"),
    "signed without the role": (_by("pelaksana", "kabid"), "pelaksana did not hold kabid at"),
    "signed by nobody we know": (_by("hantu", "kabid", "kabid"), "person 'hantu' is not in the trust"),
    "signer's role had ended": (_role_ended, "kabid did not hold kabid at"),
    "signer's key holds only later": (_key_later, "held for nobody at"),
    "signer dismissed with their key": (_dismissed, "person 'kabid' is not in the trust"),
    "signed for another purpose": (_other_namespace, "signed for namespace 'sop-record', not 'sop-document'"),
    "replayed from another case": (_other_case, "is document 3 of RST-2026-0099, not 3 of RST-"),
    "of another site": (_other_site, "01-request.json is of another site"),
    "reordered": (_reordered, "document 2 is decide of step r3, but dispose of step r2 was due"),
    "one dropped": (_dropped, "document 2 is decide of step r3, but dispose of step r2 was due"),
    "a number left out": (_gap, "is document 4 of"),
    "chained to another document": (_prev("sha256:" + "0" * 64), "03-decide.json does not follow the document before"),
    "chained to nothing": (_prev(None), "03-decide.json does not follow the document before it"),
    "approved and rejected": (_both, "document 4 takes back an approval"),
    "rejected": (_rejected, "execute is not due"),
    "decides neither way": (_body(DECIDE, decision="maybe"), "decides neither approve nor reject"),
    "decides with a list": (_body(DECIDE, decision=["approve"]), "decides neither approve nor reject"),
    "approves nothing": (_body(DECIDE, approval=None), "does not say what it approves"),
    "approves a word": (_body(DECIDE, approval="semua"), "does not say what it approves"),
    "approves no list": (_approval(targets=5), "does not say what it approves"),
    "requests a word": (_body(REQUEST, datasets="antrean"), "does not say which datasets"),
    "requests nothing": (_body(REQUEST, datasets=[]), "does not say which datasets"),
    "requests no point": (_body(REQUEST, point=None), "01-request.json does not say 'point'"),
    "dataset swapped": (_target(dataset="berkas"), "dataset antrean was not approved"),
    "request widened": (_body(REQUEST, datasets=["antrean", "berkas"]), "dataset berkas was not approved"),
    "request narrowed": (_approved_two, "dataset berkas was approved but is not planned"),
    "another host": (_target(host="srv02"), "antrean: host was approved as srv02, now is srv01"),
    "another server": (_target(server="srv02"), "antrean: server was approved as srv02, now is srv01"),
    "another place": (_target(place="/srv/lain.db"), "antrean: place was approved as /srv/lain.db, now is"),
    "another backup": (_target(backup="f" * 64), "the approved backup ffff"),
    "other bytes of the backup": (_target(backup_sha256="0" * 64), "antrean: backup_sha256 was approved as 000"),
    "other services": (_target(services=[]), "antrean: services was approved as [], now is ['srv01/web']"),
    "other code": (_approval(code="sha256:" + "9" * 64), "the code differs from the approved code"),
    "approval over": (_expired, "the approval held until"),
    "approval not begun": (_approval(valid_from="2999-01-01T00:00:00Z"), "the approval held"),
    "approval without end": (_approval(valid_until="~"), "is not a time"),
    "approval longer than the trust allows": (_approved_for_years, "longer than the 30 days"),
    "put in by hand, long ago": (_late, "03-decide.json says"),
    "unknown to the ledger": (_unreceived(DISPOSE), "02-dispose.json was never received by sopctl in this form"),
    "unknown step": (_step(step="r99"), "but decide of step r3 was due"),
    "unknown act in that step": (_step(act="confirm"), "but decide of step r3 was due"),
    "of another profile": (_step(profile="trenggalek-060-017-2023@sha256:" + "0" * 64), "was made under profile"),
    "requester decides": (_asked_and_decided, "rangkap acts as pemohon and as kabid; the SOP needs two persons"),
    "desk signs for the decider": (_asked_for_by_the_decider, "kabid acts as pemohon and as kabid"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_case_is_refused(name: str, site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    forge, expected = FORGED[name]
    papers = site.papers()
    forge(site, papers)
    site.refile(papers)
    code, reasons = refused(site, capsys)
    assert code == 10, reasons
    assert any(expected in reason for reason in reasons), reasons
    assert not any("never received" in reason for reason in reasons if "never received" not in expected), reasons


def test_true_case_is_allowed(site: CaseSite) -> None:
    """Without this, every refusal above would prove nothing."""
    site.refile(site.papers())
    session = site.session
    plan = targeting.case_plan(session, session.case(site.case))
    assert approval.gate_case(session.context(), session.case(site.case), plan, "pelaksana", "pelaksana") == []
