# SPDX-License-Identifier: Apache-2.0
"""Dropping what a restore has set aside: shown first, ordered by a signed document, then done and recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sopctl import approval, clock, destruction, examination, kept, sealing
from sopctl import plan as plans
from sopctl.case import Case
from sopctl.errors import GateRefused, UsageError
from sopctl.execution import NOTHING, Run, execute
from sopctl.kept import Holding, Kept
from sopctl.models import Json
from sopctl.outcomes import clean_result, exit_code
from sopctl.session import Session, Signer


@dataclass(frozen=True)
class Look:
    """What a case keeps, and why it may not be dropped now by who asks (empty: it may)."""

    case: Case
    holding: Holding
    reasons: list[str]


@dataclass(frozen=True)
class Cleaned:
    """A clean run, its record, its case afterwards and the exit code it deserves."""

    run: Run
    record: Path
    case: Case
    code: int
    result: str


def look(session: Session, case_id: str, person: str | None) -> Look:
    """What would be dropped, from evidence alone: nothing is signed, no connection opened."""
    session.read_what_decides()
    case = session.case_to_act_on(case_id)
    holding = kept.of_case(session.site, session.ledger.lines(), case.id, session.policy.keep_days)
    if not person:
        raise UsageError("who acts?", where="--as", hint="Give --as PERSON or set $SOPCTL_AS.")
    role = session.role(session.trust.person(person), _roles(session, case), "dropping kept data")
    plan = _plan(session, case, holding.kept, person, None)
    reasons = _gate(session, case, plan, person, role) if holding.kept else []
    return Look(case, holding, reasons)


def clean(
    session: Session,
    case_id: str,
    person: str | None,
    key: str | None,
    *,
    check: bool,
    progress: Callable[[Json], None],
) -> Cleaned | None:
    """Drop what the case keeps. The order is signed, received and on disk before anything is dropped.

    None when nothing is kept (any more). ``check``: Ansible's check mode; nothing is ordered.
    """
    session.read_what_decides()
    signer = session.signer(person, key)
    with session.holding(case_id, signer.person.id):
        case = session.case_to_act_on(case_id)
        role = session.role(signer.person, _roles(session, case), "dropping kept data")
        if reasons := examination.examine(session.context(), case):  # before anything in the documents is used
            raise GateRefused(reasons, where=case.id, hint=NOTHING)
        copies = kept.of_case(session.site, session.ledger.lines(), case.id, session.policy.keep_days).kept
        if not copies:
            return None
        plan = _plan(session, case, copies, signer.person.id, None)
        if not check:
            if reasons := _gate(session, case, plan, signer.person.id, role):
                raise GateRefused(reasons, where=case.id, hint=NOTHING)
            case, plan = _order(session, case, plan, signer, role)

        def decide(current: Json) -> list[str]:
            if check:
                return approval.targets(session.context(), current)
            return _gate(session, session.case(case_id), current, signer.person.id, role)

        run = execute(session, plan, decide, signer, check=check, progress=progress, case_held=True)
        record = sealing.seal_run(session, case, run, signer)
        return Cleaned(run, record, case, int(exit_code(run)), clean_result(run))


def _roles(session: Session, case: Case) -> list[str]:
    allowed = examination.beside(session.site.profile.profile, case, "clean")
    if not allowed or case.operation != "restore":
        raise GateRefused(f"{case.id} is no restore; it sets nothing aside", where=case.id)
    return allowed


def _plan(session: Session, case: Case, copies: list[Kept], by: str, order: str | None) -> Json:
    return plans.clean_plan(session.site, case.id, case.flow_name, copies, by, order, clock.now())


def _gate(session: Session, case: Case, plan: Json, person: str, role: str) -> list[str]:
    with session.deciding():
        return destruction.gate_clean(session.context(), case, plan, person, role, _rivals(session, case))


def _rivals(session: Session, case: Case) -> dict[str, list[str]]:
    """Dataset → other open cases that ask for its restore; a case that cannot be read is one that could."""
    found: dict[str, list[str]] = {}
    for other in session.all_cases():
        if other.id != case.id and other.operation == "restore" and not other.state.closed:
            for dataset in other.request.get("datasets") or []:
                found.setdefault(str(dataset), []).append(other.id)
    return found


def order(session: Session, plan: Json) -> Json:
    """What the document says that orders the plan."""
    return {"drops": destruction.drops(plan), "code": session.code}


def _order(session: Session, case: Case, plan: Json, signer: Signer, role: str) -> tuple[Case, Json]:
    """The signed document that names what is dropped, and the plan bound to it. One that a broken-off command had filed
    still holds when it says the same, so that running the command again adds nothing."""
    body = order(session, plan)
    last = case.filed[-1]
    same = last.document.act == "clean" and last.document.body == body
    if not same or last.document.actor.person != signer.person.id:
        case = session.file_beside(case, "clean", signer, role, body)
    return case, {**plan, "order": case.filed[-1].digest}
