# SPDX-License-Identifier: Apache-2.0
"""Breaking the glass without what it takes: two operators, a reason, the trust's word, and no more than the SOP's hours."""

from __future__ import annotations

from msgspec.structs import replace as changed

from sopctl import clock, workflow
from tests.support.case_site import CaseSite, Paper
from tests.unit.attacks.forging import (
    EARLY,
    REQUEST,
    Attack,
    Papers,
    Table,
    after,
    body,
    by,
    disposed,
    emergency,
    everybody_early,
    extra,
    forge,
    key,
    namespace,
)

FIRST, SECOND = 1, 2


def _true(_: CaseSite, papers: list[Paper]) -> None:
    """The second signature goes on naming the first one, whatever that says now."""
    papers[SECOND].countersigns = FIRST


def _granted(**values: object) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[FIRST].body["body"]["approval"].update(values)

    return change


def _days(_: CaseSite, papers: list[Paper]) -> None:
    granted = papers[FIRST].body["body"]["approval"]
    granted["valid_until"] = clock.plus(granted["valid_from"], days=2)


def _target(**values: object) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[FIRST].body["body"]["approval"]["targets"][0].update(values)

    return change


def _second_dropped(_: CaseSite, papers: list[Paper]) -> None:
    del papers[SECOND]


def _counter(value: object) -> Papers:
    def change(_: CaseSite, papers: list[Paper]) -> None:
        papers[SECOND].body["body"]["countersigns"] = value

    return change


def _counter_missing(_: CaseSite, papers: list[Paper]) -> None:
    del papers[SECOND].body["body"]["countersigns"]


def _not_allowed(site: CaseSite) -> None:
    site.retrust(lambda file: changed(file, policy=changed(file.policy, break_glass=False)))


def _long_ago(site: CaseSite, papers: list[Paper]) -> None:
    """All of it happened six hours ago: the glass may stay broken for four."""
    site.retrust(everybody_early)
    for paper in papers:
        paper.body["at"] = paper.received = clock.plus(paper.body["at"], hours=-6)
    granted = papers[FIRST].body["body"]["approval"]
    granted.update(
        valid_from=clock.plus(granted["valid_from"], hours=-6), valid_until=clock.plus(granted["valid_until"], hours=-6)
    )
    _true(site, papers)


def _after_the_rejection(site: CaseSite) -> None:
    """What the decider refused is executed as an emergency."""
    from tests.unit.attacks.forging import asked

    site.retrust(lambda file: changed(file, policy=changed(file.policy, break_glass=True)))
    asked(site)
    disposed(site)
    workflow.act(site.session, site.case, "decide", "kabid", None, workflow.decision(site.session, False, "tidak"))
    approval = {"request": "", "targets": [], "code": "", "valid_from": EARLY, "valid_until": EARLY}
    forge(
        extra("emergency", "pelaksana", "pelaksana", reason="mendesak", approval=approval),
        extra("emergency", "rangkap", "pelaksana", reason="setuju", countersigns="sha256:" + "0" * 64),
    )(site)


def _decided_meanwhile(site: CaseSite, papers: list[Paper]) -> None:
    """The decider refuses while the glass is broken; the documents are put in the order that suits."""
    extra("ratify", "kabid", "kabid", decision="reject", reason="tidak")(site, papers)
    _true(site, papers)


def _decider_breaks(site: CaseSite, papers: list[Paper]) -> None:
    by(FIRST, "kabid", "kabid")(site, papers)
    _true(site, papers)


ATTACKS: Table = {
    "emergency that the trust does not allow": Attack(after(emergency, _not_allowed), "the trust allows no emergency"),
    "emergency by one operator": Attack(after(emergency, forge(_second_dropped)), "execute is not due"),
    "emergency by one operator twice": Attack(
        after(emergency, forge(by(SECOND, "pelaksana", "pelaksana"))), "is pelaksana's second signature"
    ),
    "emergency by one operator for two": Attack(
        after(emergency, forge(key(SECOND, "pelaksana"))), "is pelaksana's, not rangkap's"
    ),
    "emergency by a service": Attack(after(emergency, forge(by(SECOND, "robot", "pelaksana"))), "robot"),
    "emergency by the decider": Attack(after(emergency, forge(_decider_breaks)), "step - is for pelaksana, not kabid"),
    "emergency by the requester": Attack(
        after(emergency, forge(by(SECOND, "pemohon", "pemohon"))), "step - is for pelaksana, not pemohon"
    ),
    "emergency countersigns another document": Attack(
        after(emergency, forge(_counter("sha256:" + "0" * 64))), "carries no approval"
    ),
    "emergency countersigns nothing": Attack(after(emergency, forge(_counter(None))), "carries no approval"),
    "emergency countersigns by a word": Attack(after(emergency, forge(_counter("ya"))), "carries no approval"),
    "emergency signed twice, countersigned never": Attack(
        after(emergency, forge(_counter_missing)), "carries no approval"
    ),
    "emergency changed after it was countersigned": Attack(
        after(emergency, forge(_granted(valid_from=EARLY))), "carries no approval"
    ),
    "emergency without a reason": Attack(after(emergency, forge(body(FIRST, reason=" "), _true)), "gives no reason"),
    "emergency whose reason is empty": Attack(
        after(emergency, forge(body(FIRST, reason=""), _true)), "gives no reason"
    ),
    "emergency countersigned without a reason": Attack(
        after(emergency, forge(body(SECOND, reason=""), _true)), "gives no reason"
    ),
    "emergency for two days": Attack(after(emergency, forge(_days, _true)), "longer than the 4 hours that the SOP"),
    "emergency for ever": Attack(
        after(emergency, forge(_granted(valid_until="2999-01-01T00:00:00Z"), _true)), "longer than the 4 hours"
    ),
    "emergency of this morning": Attack(after(emergency, forge(_long_ago)), "the approval held until"),
    "emergency for another dataset": Attack(
        after(emergency, forge(_target(dataset="berkas"), _true)), "dataset antrean was not approved"
    ),
    "emergency for another host": Attack(
        after(emergency, forge(_target(host="srv02"), _true)), "host was approved as srv02"
    ),
    "emergency with other code": Attack(
        after(emergency, forge(_granted(code="sha256:" + "9" * 64), _true)), "the code differs from the approved code"
    ),
    "emergency of another request": Attack(
        after(emergency, forge(_granted(request="sha256:" + "0" * 64), _true)), "the approval is of another request"
    ),
    "emergency that says nothing": Attack(
        after(emergency, forge(body(FIRST, approval="semua"), _true)), "does not say what it approves"
    ),
    "emergency signed for another purpose": Attack(
        after(emergency, forge(namespace(SECOND, "sop-grant"))), "signed for namespace 'sop-grant'"
    ),
    "emergency after a rejection": Attack(_after_the_rejection, "breaks the glass of a case that was decided"),
    "emergency censured before it was executed": Attack(
        after(emergency, forge(_decided_meanwhile)), "execute is not due"
    ),
    "emergency of a request that was edited": Attack(
        after(emergency, forge(body(REQUEST, reason="lain"), _true)), "the approval is of another request"
    ),
}
