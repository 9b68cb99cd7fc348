# SPDX-License-Identifier: Apache-2.0
"""Who may not be the same person, who may decide on whose data, and for whom a request is."""

from __future__ import annotations

from msgspec.structs import replace as changed

from sopctl import beside, clock
from sopctl.models import RoleHolding
from tests.support.case_site import CaseSite, Paper
from tests.support.site_builder import UNIT
from tests.unit.attacks.forging import (
    EARLY,
    REQUEST,
    Attack,
    Spoil,
    Table,
    after,
    asked,
    at_desk,
    body,
    by,
    decided,
    disposed,
    extra,
    forge,
    lent,
    person,
    without,
)

CONSENT = 1  # place of the owner's consent in a case that `lent` made
DECIDE = 2


def _stands_in(one_id: str, role: str, other: str) -> Spoil:
    """``one_id`` is made the Plh of ``other`` in ``role``."""

    def spoil(site: CaseSite) -> None:
        now = clock.now()
        held = RoleHolding(role, clock.plus(now, days=-1), clock.plus(now, days=30), "plh", other)
        site.retrust(person(one_id, lambda one: changed(one, roles=[*one.roles, held])))

    return spoil


def _decides_as_delegate_of_the_requester(site: CaseSite) -> None:
    """The requester's Plh holds the decider's role, too, and decides in it what the requester asked for."""
    now = clock.now()
    held = RoleHolding("kabid", clock.plus(now, days=-1), clock.plus(now, days=30), "plh", "pemohon")
    site.retrust(person("kadis", lambda one: changed(one, roles=[*one.roles, held])))
    forge(by(DECIDE, "kadis", "kabid"))(site)


def _operator_is_the_deciders_delegate(site: CaseSite) -> None:
    _stands_in("rangkap", "pelaksana", "kabid")(site)


def _decider_executes(site: CaseSite) -> None:
    forge(by(DECIDE, "rangkap", "kabid"))(site)


def _requester_decides(site: CaseSite) -> None:
    forge(by(REQUEST, "rangkap", "pemohon"), body(REQUEST, requester="rangkap"), by(DECIDE, "rangkap", "kabid"))(site)


def _consent_by(person_id: str) -> Spoil:
    """The consent is signed by somebody who holds the role, but is of another unit."""

    def spoil(site: CaseSite) -> None:
        lent(site)
        site.retrust(
            person(
                person_id,
                lambda one: changed(one, roles=[*one.roles, RoleHolding("pemilik-data", EARLY, one.roles[0].until)]),
            )
        )
        forge(by(CONSENT, person_id, "pemilik-data"))(site)

    return spoil


def _no_consent(_: CaseSite, papers: list[Paper]) -> None:
    del papers[CONSENT]
    for number, paper in enumerate(papers, 1):
        paper.body["seq"] = number


def _consent_afterwards(_: CaseSite, papers: list[Paper]) -> None:
    papers.append(papers.pop(CONSENT))
    for number, paper in enumerate(papers, 1):
        paper.body["seq"] = number


def _withdrawn_before_the_decision(site: CaseSite, papers: list[Paper]) -> None:
    said = {**papers[CONSENT].body["body"], "decision": "reject", "reason": "tidak"}
    extra("consent", "kadis", "pemilik-data", at=CONSENT + 1, **said)(site, papers)


def _withdrawn_after_the_decision(site: CaseSite) -> None:
    lent(site)
    beside.consent(site.session, site.case, "antrean", False, "ditarik", "kadis", None)


def _consented_for_another(site: CaseSite) -> None:
    """Two datasets are asked for; the owner consents for one of them."""
    lent(site)
    forge(body(CONSENT, dataset="berkas"))(site)


def _borrowed_unit(site: CaseSite) -> None:
    """The requester was moved to another unit after the case began."""
    site.retrust(person("pemohon", lambda one: changed(one, unit="Bidang Lain")))


def _desk_without_requester(_: CaseSite, papers: list[Paper]) -> None:
    del papers[REQUEST].body["body"]["requester"]


def _desk_is_no_desk(site: CaseSite) -> None:
    """Somebody signs as the desk who does not hold that role."""
    at_desk(site)
    forge(by(REQUEST, "rangkap", "loket"))(site)


def _withdrawn_for_the_requester(site: CaseSite) -> None:
    """The operator of another case asks in the requester's place."""
    asked(site)
    disposed(site)
    decided(site)
    forge(by(REQUEST, "rangkap", "pemohon"))(site)


ATTACKS: Table = {
    "one person asks and decides": Attack(_requester_decides, "rangkap acts as pemohon and as kabid"),
    "one person decides and executes": Attack(_decider_executes, "rangkap acts as", "rangkap"),
    "the operator stands in for the decider": Attack(_operator_is_the_deciders_delegate, "kabid acts as", "rangkap"),
    "the requester's delegate decides": Attack(
        _decides_as_delegate_of_the_requester, "pemohon acts as pemohon and as kabid; the SOP needs two persons"
    ),
    "the desk enters the decider's own request": Attack(
        after(at_desk, forge(body(REQUEST, requester="kabid", unit=""))), "kabid acts as pemohon and as kabid"
    ),
    "the desk names nobody": Attack(
        after(at_desk, forge(_desk_without_requester)), "01-request.json does not say 'requester'"
    ),
    "the desk names somebody we do not know": Attack(
        after(at_desk, forge(body(REQUEST, requester="siapa"))), "names a requester who is not in the trust (siapa)"
    ),
    "the desk names a list": Attack(
        after(at_desk, forge(body(REQUEST, requester=["pemohon"]))), "01-request.json does not say 'requester'"
    ),
    "the desk is not the desk": Attack(_desk_is_no_desk, "rangkap did not hold loket at"),
    "request in another's name": Attack(
        _withdrawn_for_the_requester, "names pemohon as requester, but rangkap signed it"
    ),
    "request of another unit than the trust says": Attack(
        forge(body(REQUEST, unit="Bidang Lain")), "asks for unit 'Bidang Lain', but the trust says pemohon is of"
    ),
    "request of no unit": Attack(forge(without(REQUEST, "unit")), "01-request.json does not say 'unit'"),
    "request of a unit in look-alike letters": Attack(
        forge(body(REQUEST, unit=UNIT.replace("a", "\u0430"))), "but the trust says pemohon is of"
    ),
    "requester moved to another unit": Attack(_borrowed_unit, "but the trust says pemohon is of 'Bidang Lain'"),
    "owner's consent missing": Attack(after(lent, forge(_no_consent)), "its owner has not consented"),
    "owner's consent after the decision": Attack(
        after(lent, forge(_consent_afterwards)), "its owner has not consented"
    ),
    "owner's consent refused": Attack(
        after(lent, forge(body(CONSENT, decision="reject"))), "its owner has not consented"
    ),
    "owner's consent says nothing": Attack(
        after(lent, forge(without(CONSENT, "decision"))), "its owner has not consented"
    ),
    "owner's consent taken back before the decision": Attack(
        after(lent, forge(_withdrawn_before_the_decision)), "its owner has not consented"
    ),
    "owner's consent taken back after the decision": Attack(
        _withdrawn_after_the_decision, "its owner has not consented any more"
    ),
    "owner's consent for another dataset": Attack(_consented_for_another, "its owner has not consented"),
    "owner's consent for no dataset": Attack(
        after(lent, forge(without(CONSENT, "dataset"))), "02-consent.json does not say which dataset"
    ),
    "owner's consent by another unit": Attack(_consent_by("kabid"), "but kabid is of ''"),
    "owner's consent by the requester": Attack(_consent_by("pemohon"), "but pemohon is of 'Bidang Lain'"),
    "owner's consent without the role": Attack(
        after(lent, forge(by(CONSENT, "kadis", "kadis"))), "step - is for pemilik-data, not kadis"
    ),
    "owner's consent by nobody's key": Attack(
        after(lent, forge(by(CONSENT, "kadis", "pemilik-data", "root"))), "held for nobody at"
    ),
    "owner's consent to another request": Attack(
        after(lent, forge(body(CONSENT, request="sha256:" + "0" * 64))), "consents to another request"
    ),
}
