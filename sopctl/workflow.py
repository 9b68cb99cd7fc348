# SPDX-License-Identifier: Apache-2.0
"""Acting on a case: who may, what the document says, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sopctl import letters, sealing
from sopctl.case import Case, due_step
from sopctl.duties import separation
from sopctl.errors import GateRefused, UsageError
from sopctl.examination import deciders, examine
from sopctl.models import Act, Json, Person
from sopctl.profile import DESK, Step
from sopctl.session import Session
from sopctl.targeting import approval_body

Body = Callable[[Case, Step], Json]


def act(session: Session, case_id: str, act_name: Act, person: str | None, key: str | None, body: Body) -> Case:
    """File the document of ``act_name`` when it is due and the person may; closes and seals the case at its end."""
    session.read_what_decides()
    signer = session.signer(person, key)
    with session.holding(case_id, signer.person.id):
        case = session.case_to_act_on(case_id)
        step, role = admitted(session, case, act_name, signer.person)
        case = session.file(case, step, signer, role, body(case, step))
        if case.state.closed:
            session.say(f"record {sealing.seal_case(session, case, signer).name} sealed")
    return case


def admitted(session: Session, case: Case, act_name: Act, person: Person) -> tuple[Step, str]:
    """The step that ``act_name`` completes now, and the role in which ``person`` may; GateRefused says why they may not."""
    step = due_step(case, act_name)
    role = session.role(person, actors(session, step), f"{act_name} (step {step.nomor or step.id})")
    together = separation(session.context(), case, (person.id, role))
    if together:
        raise GateRefused(together, where=case.id)
    if act_name == "decide" and (reasons := examine(session.context(), case)):  # before anything in it is used
        raise GateRefused(reasons, where=case.id)
    return step, role


def actors(session: Session, step: Step) -> list[str]:
    """Roles that may act in this step now: its own, whoever the authority over data names, and the desk for requesters."""
    if step.act == "decide" and step.gate:
        return deciders(session.site.profile.profile, step.gate.decide)
    return step.actors + ([DESK] if step.act == "receive" else [])


def decision(session: Session, approve: bool, reason: str) -> Body:
    """Body of a decision; an approval binds request, datasets, targets, backups, code and validity."""

    def body(case: Case, step: Step) -> Json:
        if not reason.strip():
            raise UsageError("a decision needs a reason", where="--reason")
        checks = dict.fromkeys(step.gate.checks if step.gate else [], approve)
        if not approve:
            return {"decision": "reject", "reason": reason, "checks": checks}
        days = session.policy.approval_days
        return {
            "decision": "approve",
            "reason": reason,
            "checks": checks,
            "approval": approval_body(session, case, days=days),
        }

    return body


def confirmation(approve: bool, reason: str) -> Callable[[Case, Step], Json]:
    """Body of an inspector's confirmation: bound to the record that was looked at."""

    def body(case: Case, _step: Step) -> Json:
        if not approve and not reason.strip():
            raise UsageError("sending back needs a reason", where="--reason")
        executed = case.body("execute")
        return {
            "decision": "approve" if approve else "reject",
            "reason": reason,
            "record": executed.get("record"),
            "record_digest": executed.get("record_digest"),
        }

    return body


def informing(text: str) -> Body:
    """Body of informing the requester how it went: what they are told, and by which record it can be looked at."""

    def body(case: Case, _step: Step) -> Json:
        decided = case.body("decide")
        told = {"text": text or decided.get("reason") or "", "to": case.request.get("requester")}
        if decided.get("decision") == "reject":  # nothing ran: there is no record to look at
            return {"status": "ditolak", **told}
        executed = case.body("execute")
        bound = {"record": executed.get("record"), "record_digest": executed.get("record_digest")}
        return {"status": executed.get("result"), **told, **bound}

    return body


def receiving(note: str, letter: Path | None) -> Body:
    """Body of the requester's receipt; for one without a key the desk signs, and their signed letter is bound to it."""

    def body(case: Case, _step: Step) -> Json:
        if letter is None:
            return {"note": note}
        data = letters.read(letter)
        return {
            "note": note,
            "letter": letters.keep(case.folder, f"tanda-terima-{len(case.filed) + 1:02d}{letter.suffix.lower()}", data),
        }

    return body
