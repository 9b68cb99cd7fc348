# SPDX-License-Identifier: Apache-2.0
"""Looking at cases: whose turn it is, what is late, and one case like its paper file."""

from __future__ import annotations

from typing import Any

from sopctl import approval, attachments, clock, letters, remains
from sopctl.case import SIDE_ACTS, Case, Filed, State, case_folders, due_act, load_case
from sopctl.context import Context, deadline, received_at
from sopctl.errors import SopctlError
from sopctl.examination import examine, examine_one
from sopctl.models import Json
from sopctl.outbox import Outbox
from sopctl.profile import RESERVED, Step
from sopctl.session import Session
from sopctl.workflow import actors


def listing(session: Session) -> list[Json]:
    """Every case in one line; one that cannot be read says why and hides none of the others."""
    context = session.context()
    profile = session.site.profile.profile
    found = []
    for folder in case_folders(session.site.cases):
        try:
            found.append(_line(session, context, load_case(folder, profile)))
        except SopctlError as error:
            found.append({**UNREADABLE, "case": folder.name, "broken": [str(error)]})
    return found


UNREADABLE: Json = {
    "flow": "", "operation": "", "outcome": "rusak", "emergency": "", "step": None, "act": None, "due": None, "by": [],
    "people": [], "text": None, "since": None, "until": None, "left": None, "late_steps": [], "datasets": [],
}  # fmt: skip


def waiting(session: Session) -> list[Json]:
    """Open cases: whose turn it is, what is due, and how much of the step's time is left (working seconds; negative:
    late)."""
    return [line for line in listing(session) if line["act"] or line["broken"]]


def _line(session: Session, context: Context, case: Case) -> Json:
    state = case.state
    due = state.due
    line: Json = {
        "case": case.id,
        "flow": case.flow_name,
        "operation": case.operation,
        "outcome": state.outcome,
        "emergency": state.emergency,
        "step": due.nomor or due.id if due else None,
        "act": due_act(due) if due else None,
        "due": due_act(due) if due else None,
        "by": actors(session, due) if due else [],
        "people": _holders(context, actors(session, due)) if due else [],
        "text": due.text if due else None,
        "since": None,
        "until": None,
        "left": None,
        "late_steps": [filed.document.step for filed in case.filed if filed.document.body.get("late")],
        "datasets": case.request.get("datasets") or list(case.body("execute").get("datasets") or {}),
        "broken": state.reasons,
    }
    if due and (limit := _deadline(context, case)):
        line |= {"since": limit[0], "until": limit[1], "left": left(session, limit[1])}
    return line


def left(session: Session, until: str) -> int:
    """Working seconds until then; negative when it has passed."""
    now = clock.now()
    return session.work.seconds(now, until) if now <= until else -max(session.work.seconds(until, now), 1)


def _deadline(context: Context, case: Case) -> tuple[str, str] | None:
    try:
        return deadline(context, case, len(case.filed))
    except SopctlError:  # a hand-made document may hold any time; examine names it
        return None


def _holders(context: Context, roles: list[str]) -> list[str]:
    """Who could act now, without those whom the desk's role would let in everywhere."""
    wanted = [role for role in roles if role not in RESERVED]
    return [
        person.id
        for person in context.trust.file.people
        if person.kind == "person" and any(context.trust.has_role(person, role, context.now) for role in wanted)
    ]


def missing(session: Session, case: Case) -> list[str]:
    """What stands in the way of the act that is due, beside the person who must do it."""
    state, context = case.state, session.context()
    found = list(state.reasons)
    if state.due and state.due.act == "execute" and not state.reasons:
        granted = approval.approval_of(case)
        until = granted[0].get("valid_until") if granted and isinstance(granted[0], dict) else None
        if isinstance(until, str) and until < context.now:
            found.append(f"the approval held until {until}")
    return found


def summary(session: Session, case: Case) -> Json:
    """Everything `case show` prints: who, what, when, how long against mutu baku, signature state."""
    context = session.context()
    state = case.state
    rows = steps_taken(session, context, case)
    limit = _deadline(context, case) if state.due else None
    request = case.request
    holding = remains.of_case(session, case)
    return {
        "case": case.id,
        "flow": case.flow_name,
        "sop": context.profile.profile.document.nomor_sop,
        "profile": context.profile.reference,
        "operation": case.operation,
        "outcome": state.outcome,
        "emergency": state.emergency,
        "due": _due(session, context, state, limit),
        "missing": missing(session, case),
        "kept": holding["kept"],
        "cleaned": holding["cleaned"],
        "problems": examine(context, case)
        + attachments.wrong(case, context.lines)
        + ([holding["unknown"]] if holding["unknown"] else []),
        "request": request,
        "requester": _person(context, str(request.get("requester", ""))) if request else None,
        "documents": rows,
        "attachments": letters.names(case.folder),
        "erased": sorted(attachments.erased(case.id, context.lines)),
        "notices": _undelivered(session, case.id),
    }


def _undelivered(session: Session, case_id: str) -> list[Json]:
    """Notices of the case that nobody has got yet, and why."""
    try:
        found = Outbox(session.site.state).undelivered(case_id)
    except SopctlError:  # a damaged outbox hides no case; doctor tells of it
        return []
    kept = ("event", "person", "channel", "state", "tries", "cause", "at")
    return [{key: getattr(entry, key) for key in kept} for entry in found]


def steps_taken(session: Session, context: Context, case: Case) -> list[Json]:
    """Each document of the case: step, act, who, received, how long against mutu baku, decision, signature state."""
    return [_row(session, context, case, number, filed) for number, filed in enumerate(case.filed)]


def _due(session: Session, context: Context, state: State, limit: tuple[str, str] | None) -> Json | None:
    if state.due is None:
        return None
    by = actors(session, state.due)
    return {
        "step": state.due.nomor or state.due.id,
        "act": due_act(state.due),
        "by": by,
        "people": _holders(context, by),
        "text": state.due.text,
        "until": limit[1] if limit else None,
        "left": left(session, limit[1]) if limit else None,
    }


def _row(session: Session, context: Context, case: Case, number: int, filed: Filed) -> Json:
    document = filed.document
    step = _step(case, document.step)
    at = received_at(context, case, filed) or document.at
    since = _since(context, case, number)
    took = session.work.seconds(since, at) if since and document.act not in SIDE_ACTS else None
    if document.act == "execute":  # how long it ran, as its form says
        took = _ran(document.body) or took
    limit = _deadline(context, case.with_filed(case.filed[:number])) if document.act not in SIDE_ACTS else None
    reasons = examine_one(context, case, filed)
    body: dict[str, Any] = document.body
    return {
        "seq": document.seq,
        "step": step.nomor or step.id if step else None,
        "text": step.text if step else None,
        "inferred": bool(step and step.source == "inferred"),
        "act": document.act,
        "person": document.actor.person,
        "official": _person(context, document.actor.person),
        "role": document.actor.role,
        "delegate": _person_mark(context, document.actor.person, document.actor.role, document.at),
        "at": document.at,
        "received": at,
        "took": took,
        "limit": step.sla if step else None,
        "until": limit[1] if limit else None,
        "late": bool(limit and at > limit[1]),
        "late_reason": (body.get("late") or {}).get("reason") if isinstance(body.get("late"), dict) else None,
        "decision": body.get("decision"),
        "reason": body.get("reason"),
        "result": body.get("result"),
        "record": body.get("record"),
        "note": body.get("note"),
        "signature": "valid" if not reasons else "; ".join(reasons),
    }


def _ran(body: Json) -> int | None:
    """Seconds that an execution ran; a hand-made document may hold anything."""
    times = [body.get(key) for key in ("started", "finished")]
    if not all(isinstance(one, str) and clock.is_time(one) for one in times):
        return None
    return clock.seconds_between(str(times[0]), str(times[1]))


def _step(case: Case, step_id: str) -> Step | None:
    return next((step for step in case.flow.steps if step.id == step_id), None)


def _since(context: Context, case: Case, number: int) -> str | None:
    """When the turn came to the document at ``number``: the reception of the SOP's document before it."""
    before = [filed for filed in case.filed[:number] if filed.document.act not in SIDE_ACTS]
    return (received_at(context, case, before[-1]) or before[-1].document.at) if before else None


def _person(context: Context, person_id: str) -> Json:
    person = next((each for each in context.trust.file.people if each.id == person_id), None)
    if person is None:
        return {"id": person_id, "jabatan": "", "name": "", "nip": None, "unit": ""}
    return {"id": person.id, "jabatan": person.jabatan, "name": person.name, "nip": person.nip, "unit": person.unit}


def _person_mark(context: Context, person_id: str, role: str, at: str) -> str:
    person = next((each for each in context.trust.file.people if each.id == person_id), None)
    return context.trust.delegate_mark(person, role, at) if person else ""
