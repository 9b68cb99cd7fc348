# SPDX-License-Identifier: Apache-2.0
"""An SOP that passes a decision on, plans by capacity and has an inspector: each of these left out or forged."""

from __future__ import annotations

from dataclasses import replace

from sopctl import clock
from tests.support.case_site import CaseSite, Paper
from tests.unit.attacks.forging import (
    Attack,
    Papers,
    Spoil,
    Table,
    body,
    by,
    everybody_early,
    extra,
    forge,
    key,
    without,
)

REQUEST, DECIDE, FORWARD, PLAN = range(4)


def _kaltim(spoil: Spoil, reason: str, person: str = "pengelola") -> Attack:
    return Attack(spoil, reason, person, "kaltim")


def _without(at: int) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        del papers[at]
        for number, paper in enumerate(papers, 1):
            paper.body["seq"] = number

    return change


def _swapped(_: CaseSite, papers: list[Paper]) -> None:
    papers[FORWARD], papers[PLAN] = papers[PLAN], papers[FORWARD]
    for number, paper in enumerate(papers, 1):
        paper.body["seq"] = number


def _specified(**values: object) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[REQUEST].body["body"]["specification"][0].update(values)

    return change


def _planned(**values: object) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[PLAN].body["body"]["targets"][0].update(values)

    return change


def _window(since: int, until: int) -> Papers:
    """Hours from the plan's own time."""

    def change(_: CaseSite, papers: list[Paper]) -> None:
        at = papers[PLAN].body["at"]
        papers[PLAN].body["body"]["window"] = {
            "since": clock.plus(at, hours=since),
            "until": clock.plus(at, hours=until),
        }

    return change


def _rejected(_: CaseSite, papers: list[Paper]) -> None:
    papers[DECIDE].body["body"] = {"decision": "reject", "reason": "tidak"}


def _executed(site: CaseSite, papers: list[Paper]) -> None:
    extra("execute", "pengelola", "pengelola", "k4", run="x", result="berhasil", datasets={})(site, papers)


def _confirmed(by_whom: str, decision: str) -> Papers:
    def change(site: CaseSite, papers: list[Paper]) -> None:
        _executed(site, papers)
        extra("confirm", by_whom, "pemeriksa", "k5", decision=decision, reason="x")(site, papers)

    return change


def _inspector_is_operator(site: CaseSite) -> None:
    """The operator holds the inspector's role, too, and sends the case back to themselves."""
    from msgspec.structs import replace as changed

    from tests.unit.attacks.forging import person

    site.retrust(
        person("pengelola", lambda one: changed(one, roles=[*one.roles, changed(one.roles[0], role="pemeriksa")]))
    )
    forge(_confirmed("pengelola", "reject"))(site)


def _planned_for_last_week(site: CaseSite, papers: list[Paper]) -> None:
    site.retrust(everybody_early)
    for paper in papers:
        paper.body["at"] = paper.received = clock.plus(paper.body["at"], hours=-6)
    granted = papers[DECIDE].body["body"]["approval"]
    granted["valid_from"] = clock.plus(granted["valid_from"], hours=-6)
    _window(0, 4)(site, papers)


def _nothing(_: CaseSite) -> None:
    """The case is true; who types is not who may."""


def _emergency_half(site: CaseSite, papers: list[Paper]) -> None:
    """One operator breaks the glass alone, so that nobody looks at the plan's window."""
    _window(2, 4)(site, papers)
    made = replace(papers[DECIDE], key="pengelola")
    extra("emergency", "pengelola", "pengelola", reason="mendesak", approval=made.body["body"]["approval"])(
        site, papers
    )


ATTACKS: Table = {
    "request without its specification": _kaltim(
        forge(without(REQUEST, "specification")), "lacks the specification of antrean"
    ),
    "request whose specification leaves the size out": _kaltim(
        forge(_specified(size=" ")), "lacks the specification of antrean (size)"
    ),
    "request whose specification is of another dataset": _kaltim(
        forge(_specified(dataset="berkas")), "lacks the specification of antrean"
    ),
    "request whose specification is a word": _kaltim(
        forge(body(REQUEST, specification="terlampir")), "lacks the specification of antrean"
    ),
    "decision not passed on": _kaltim(forge(_without(FORWARD)), "but dispose of step k2 was due"),
    "decision passed on by the administrator": _kaltim(
        forge(by(FORWARD, "administrator", "administrator")), "step k2 is for pengawas, not administrator"
    ),
    "decision passed on in the supervisor's name": _kaltim(
        forge(key(FORWARD, "administrator")), "is administrator's, not pengawas's"
    ),
    "decision by the supervisor": _kaltim(
        forge(by(DECIDE, "pengawas", "pengawas")), "step k2 is for administrator, not pengawas"
    ),
    "planned before it was passed on": _kaltim(forge(_swapped), "but dispose of step k2 was due"),
    "rejected and passed on": _kaltim(forge(_rejected), "but inform of step k2r was due"),
    "never planned": _kaltim(forge(_without(PLAN)), "execute is not due"),
    "planned by the inspector": _kaltim(
        forge(by(PLAN, "pemeriksa", "pemeriksa")), "step k3 is for pengelola, not pemeriksa"
    ),
    "planned by the decider": _kaltim(forge(key(PLAN, "administrator")), "is administrator's, not pengelola's"),
    "plan names no targets": _kaltim(forge(without(PLAN, "targets")), "04-plan.json does not say what it approves"),
    "plan for another dataset": _kaltim(
        forge(_planned(dataset="berkas")), "the plan is another: dataset antrean was not"
    ),
    "plan for another host": _kaltim(
        forge(_planned(host="srv09")), "the plan is another: antrean: host was approved as srv09"
    ),
    "plan with another backup": _kaltim(
        forge(_planned(backup="f" * 64)), "the plan is another: antrean: backup was approved"
    ),
    "plan without its services": _kaltim(
        forge(_planned(services=[])), "the plan is another: antrean: services was approved"
    ),
    "plan's window has not begun": _kaltim(forge(_window(1, 4)), "the plan's window is"),
    "plan's window is over": _kaltim(forge(_planned_for_last_week), "the plan's window is"),
    "plan's window is no time": _kaltim(
        forge(body(PLAN, window={"since": "pagi", "until": "sore"})), "window is not a time"
    ),
    "plan has no window": _kaltim(forge(without(PLAN, "window")), "window is not a time"),
    "plan's window is a word": _kaltim(forge(body(PLAN, window="selalu")), "window is not a time"),
    "plan's window passed over by one operator's emergency": _kaltim(forge(_emergency_half), "the plan's window is"),
    "decider executes": _kaltim(_nothing, "execution (step 4) is for pengelola", "administrator"),
    "inspector executes": _kaltim(_nothing, "execution (step 4) is for pengelola", "pemeriksa"),
    "executed once": _kaltim(forge(_executed), "execute is not due"),
    "confirmed by its operator and executed again": _kaltim(
        _inspector_is_operator, "pengelola acts as pengelola and as pemeriksa"
    ),
    "sent back in the inspector's name": _kaltim(
        forge(_confirmed("pemeriksa", "reject"), key(5, "pengelola")), "is pengelola's, not pemeriksa's"
    ),
}
