# SPDX-License-Identifier: Apache-2.0
"""Looking at cases: whose turn it is, and one case like its paper file."""

from __future__ import annotations

from sopctl import approval, clock
from sopctl.case import Case
from sopctl.models import Json
from sopctl.session import Session


def waiting(session: Session) -> list[Json]:
    """Open cases: whose turn it is, what is due, and how much of the step's time is left (seconds; negative: late)."""
    found: list[Json] = []
    for case in session.all_cases():
        state = case.state
        if state.due is None:
            continue
        since = case.filed[-1].document.at if case.filed else None
        left: int | None = None
        if since and state.due.sla:
            left = clock.duration_seconds(state.due.sla) - clock.seconds_between(since, clock.now())
        by = [state.due.gate.decide] if state.due.gate else state.due.by
        found.append(
            {
                "case": case.id,
                "flow": case.flow_name,
                "step": state.due.nomor,
                "act": state.due.act,
                "by": by,
                "text": state.due.text,
                "left": left,
                "broken": state.reasons,
            }
        )
    return found


def summary(session: Session, case: Case) -> Json:
    """Everything `case show` prints: who, what, when, how long against mutu baku, signature state."""
    context = session.context()
    rows: list[Json] = []
    previous: str | None = None
    for filed in case.filed:
        document = filed.document
        step = case.flow.step(document.step)
        single = Case(case.id, case.folder, case.flow_name, case.flow, [filed])
        reasons = approval.examine_one(context, single, filed)
        took = clock.seconds_between(previous, document.at) if previous else None
        rows.append(
            {
                "seq": document.seq,
                "step": step.nomor,
                "act": document.act,
                "person": document.actor.person,
                "role": document.actor.role,
                "at": document.at,
                "took": took,
                "limit": clock.duration_seconds(step.sla) if step.sla else None,
                "decision": document.body.get("decision"),
                "reason": document.body.get("reason"),
                "result": document.body.get("result"),
                "record": document.body.get("record"),
                "signature": "valid" if not reasons else "; ".join(reasons),
            }
        )
        previous = document.at
    state = case.state
    return {
        "case": case.id,
        "flow": case.flow_name,
        "outcome": state.outcome,
        "due": None
        if state.due is None
        else {
            "step": state.due.nomor,
            "act": state.due.act,
            "by": [state.due.gate.decide] if state.due.gate else state.due.by,
            "text": state.due.text,
        },
        "problems": approval.examine(context, case),
        "request": case.request,
        "documents": rows,
    }
