# SPDX-License-Identifier: Apache-2.0
"""What people may want to be told, derived from the cases' own documents, the ledger and the clock. Nothing is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, get_args

from sopctl import archive, assets, clock, overview, reviews, standing, vault
from sopctl import case as cases
from sopctl.case import SIDE_ACTS, Case, Filed, due_act
from sopctl.context import Context, deadline, document_ref, received_at
from sopctl.duties import separation
from sopctl.errors import SopctlError
from sopctl.examination import examine
from sopctl.models import Json, Person
from sopctl.profile import DESK, RESERVED, Step
from sopctl.session import Session
from sopctl.settings import NoticeEvent
from sopctl.workflow import actors

EVENTS: tuple[str, ...] = get_args(NoticeEvent)
#: what is older is told to nobody: the day on which notices are set up is no day for years of mail
MAX_AGE_DAYS = 7
#: the part of a step's time that is left when its holder is reminded
NEAR = 4
LISTED = 10


@dataclass(frozen=True)
class Happening:
    """Something that happened, or that the clock says.

    ``ref`` tells it from every other of its ``event``; ``at`` is when it happened (UTC). ``people`` are those whom it
    concerns, ``turn`` those who can do what is due then. ``facts``: words for the templates. ``record``: the record whose form
    belongs to it; the request's form where it is empty and there is a ``case``.
    """

    event: str
    ref: str
    at: str
    people: tuple[str, ...]
    turn: tuple[str, ...] = ()
    case: str = ""
    record: str = ""
    facts: Json = field(default_factory=dict)


#: every word that a template may use, so that none is ever undefined
NO_FACTS: Json = {
    "case": "", "operation": "restore", "datasets": [], "unit": "", "requester": "", "requester_id": "", "request_reason": "",
    "actor": "", "reason": "", "text": "", "step_number": "", "step_text": "", "act": "", "by": "", "until": None,
    "since": None, "window_since": None, "window_until": None, "result": "", "record": "", "down": False, "server": "",
    "servers": [], "overdue": False, "at": None, "beside": False,
}  # fmt: skip


def of_cases(session: Session) -> list[Happening]:
    """What the documents and runs of the last days tell. A case that cannot be believed tells nothing."""
    context, found = session.context(), list[Happening]()
    oldest = clock.plus(context.now, days=-MAX_AGE_DAYS)
    for case_id in _recent(context, oldest):
        with suppress(SopctlError):  # `case list` and `audit verify` tell of it, and the other cases are told of
            case = cases.find_case(session.site.cases, case_id, session.site.profile.profile)
            if case.filed and not examine(context, case):
                found += [one for one in _of_case(session, context, case) if one.at >= oldest]
    return found


def _recent(context: Context, oldest: str) -> list[str]:
    refs = [
        line.ref for line in context.lines if line.at >= oldest and line.kind in {"document", "run-started", "record"}
    ]
    found = (re.match(r"[A-Z]{3}-[0-9]{4}-[0-9]{4}(?=[/-])", ref) for ref in refs)
    return sorted({match[0] for match in found if match and not match[0].startswith("CEK")})


def _of_case(session: Session, context: Context, case: Case) -> Iterator[Happening]:
    requester = str(case.request.get("requester") or "")
    common = _common(session, context, case)
    turn = turn_of(session, context, case)

    def happening(event: str, ref: str, at: str, people: Iterable[str], record: str = "", **facts: Any) -> Happening:
        told_of = record or _record(case)
        merged = {**common, "at": at, "record": told_of, **facts}
        return Happening(event, ref, at, tuple(people), turn, case.id, told_of, merged)

    for filed in case.filed:
        document, at = filed.document, received_at(context, case, filed)
        if at is None:
            continue
        body, ref = document.body, document_ref(case.id, document.seq)
        concerned = people_of(context, case, at, "" if document.act == "execute" else document.actor.person)
        signer = {"actor": title(context, document.actor.person), "reason": str(body.get("reason") or "")}
        if document.act == "request":
            yield happening("received", ref, at, [requester], **signer)
        elif document.act == "decide" and body.get("decision") in {"approve", "reject"}:
            yield happening("approved" if body["decision"] == "approve" else "rejected", ref, at, concerned, **signer)
        elif document.act == "plan" and isinstance(window := body.get("window"), dict):
            signer |= {"window_since": str(window.get("since")), "window_until": str(window.get("until"))}
            yield happening("window", ref, at, {*concerned, *_on_duty(body)}, **signer)
        elif document.act == "execute":
            record = str(body.get("record") or "")
            yield _run(happening, record or ref, at, concerned, str(body.get("result") or ""), record)
        elif document.act == "inform":
            said = {"result": str(body.get("status") or ""), "text": str(body.get("text") or "")}
            yield happening("informed", ref, at, [requester], **signer, **said)
    for line in context.lines:
        if line.kind == "run-started" and line.ref.startswith(f"{case.id}/"):
            yield happening("started", line.ref, line.at, people_of(context, case, line.at))
    for record, at, result in _unfiled(session, context, case):
        yield _run(happening, record, at, people_of(context, case, at), result, record)
    due, last = case.state.due, _last_word(case)
    if due and turn and last and (at := received_at(context, case, last)):
        yield happening("turn", f"{document_ref(case.id, last.document.seq)}/{due.id}", at, turn)


def _run(happening: Any, ref: str, at: str, people: Iterable[str], result: str, record: str) -> Happening:
    event = "finished" if result == "berhasil" else "failed"
    facts = {"result": result, "down": result == "gagal_layanan_mati"}
    made: Happening = happening(event, ref, at, people, record, **facts)
    return made


def _unfiled(session: Session, context: Context, case: Case) -> Iterator[tuple[str, str, str]]:
    """(record, when, result) of runs that went wrong and left no document, because their step is due again."""
    filed = {str(one.document.body.get("record")) for one in case.all("execute")}
    sealed = {line.ref: line for line in context.lines if line.kind == "record" and line.ref.startswith(f"{case.id}-")}
    for name, line in sealed.items():
        if name in filed or not re.fullmatch(r"[0-9]+", name.removeprefix(f"{case.id}-")):
            continue
        path = archive.record_path(session.site.archive, name)
        if path is None:
            continue
        form = json.loads(vault.sealed_file(path, {name: line.digests.get("tagmanifest")}, "data/form.json"))
        head = form.get("header") or {}
        if (
            form.get("form") in {"backup", "restore"}
            and not head.get("check_mode")
            and head.get("result") != "berhasil"
        ):
            yield name, line.at, str(head.get("result"))


def _last_word(case: Case) -> Filed | None:
    """The document since which the step that is due is due: papers beside the steps change nobody's turn."""
    moving = [filed for filed in case.filed if filed.document.act not in {*SIDE_ACTS} - {"emergency", "ratify"}]
    return moving[-1] if moving else None


def _record(case: Case) -> str:
    return str(case.body("execute").get("record") or "")


def _common(session: Session, context: Context, case: Case) -> Json:
    request, due = case.request, case.state.due
    requester = str(request.get("requester") or "")
    until = None
    if due:
        try:
            limit = deadline(context, case, len(case.filed))
        except SopctlError:
            limit = None
        until = limit[1] if limit else None
    return {
        "case": case.id,
        "operation": case.operation,
        "datasets": list(request.get("datasets") or case.body("execute").get("datasets") or []),
        "unit": str(request.get("unit") or ""),
        "requester": title(context, requester) if requester else "",
        "requester_id": requester,
        "beside": bool(request.get("to")),
        "request_reason": str(request.get("reason") or ""),
        **_step(session, due),
        "until": until,
    }


def _step(session: Session, due: Step | None) -> Json:
    if due is None:
        return {}
    return {
        "step_number": due.nomor or due.id,
        "step_text": due.text,
        "act": due_act(due),
        "by": next(iter(actors(session, due)), ""),
    }


def _on_duty(body: Json) -> set[str]:
    listed = body.get("on_duty")
    return {str(one.get("person")) for one in (listed if isinstance(listed, list) else []) if isinstance(one, dict)}


# --- by the clock ----------------------------------------------------------------------------------------------


def by_clock(session: Session) -> tuple[list[Happening], list[str]]:
    """What no document tells: steps whose time is nearly over or past, overdue backups, reviews that are due.

    What lasts is told once a week. Returns what was found, and what could not be looked at.
    """
    context, found, problems = session.context(), list[Happening](), list[str]()
    for look in (_limits, _backups, _reviews):
        try:
            found += look(session, context)
        except SopctlError as error:
            problems.append(str(error))
    return found, problems


def _limits(session: Session, context: Context) -> Iterator[Happening]:
    for line in overview.waiting(session):
        if line["left"] is None or line["broken"]:
            continue
        late = line["left"] < 0
        if not late and line["left"] * NEAR > session.work.seconds(line["since"], line["until"]):
            continue
        case = cases.find_case(session.site.cases, line["case"], session.site.profile.profile)
        if examine(context, case):
            continue
        turn = turn_of(session, context, case)
        week = clock.seconds_between(line["until"], context.now) // (7 * 86400)
        ref = f"{case.id}/{line['step']}/{line['until']}" + (f"/{week}" if late else "")
        facts = {**_common(session, context, case), "at": context.now}
        yield Happening("overdue" if late else "near", ref, context.now, turn, turn, case.id, _record(case), facts)


def _backups(session: Session, context: Context) -> Iterator[Happening]:
    profile = session.site.profile.profile
    flow = profile.schedule_flow()
    if flow is None or not session.site.schedule_path.exists():
        return
    late = [line for line in standing.schedule_status(session) if line.overdue]
    if late:
        by = profile.flow(flow).steps[0].by
        proven = [line.last_verified.started for line in late if line.last_verified]
        turn = holders(context, by)
        facts = {
            "datasets": [line.entry.dataset for line in late],
            "operation": "backup",
            "since": min(proven) if len(proven) == len(late) else None,
            "act": "schedule",
            "by": by[0],
            "at": context.now,
        }
        people = tuple(dict.fromkeys([*turn, *holders(context, profile.schedule_signers())]))
        yield Happening("overdue", f"backups/{_week(context.now)}", context.now, people, turn, facts=facts)


def _reviews(session: Session, context: Context) -> Iterator[Happening]:
    horizon = clock.plus(context.now, days=reviews.SOON)[:10]
    wanted = [one for one in assets.everything(session) if one.overdue or (one.holds and one.holds <= horizon)]
    if not wanted:
        return
    overdue = [one for one in wanted if one.overdue]
    told = overdue or wanted
    names = [one.server.id for one in told]
    held = [one.holds for one in told if one.holds]
    turn = holders(context, reviews.roles(session.site.profile.profile))
    more = f" (+{len(names) - LISTED})" if len(names) > LISTED else ""
    facts = {
        "server": ", ".join(names[:LISTED]) + more,
        "servers": names,
        "overdue": bool(overdue),
        "until": f"{min(held)}T00:00:00Z" if len(held) == len(told) else None,
        "act": "review",
        "by": reviews.roles(session.site.profile.profile)[0],
        "at": context.now,
    }
    word = "overdue" if overdue else "soon"
    yield Happening("review", f"register/{word}/{_week(context.now)}", context.now, turn, turn, facts=facts)


def _week(moment: str) -> str:
    year, week, _ = clock.parse(moment).isocalendar()
    return f"{year}-W{week:02d}"


# --- people ----------------------------------------------------------------------------------------------------


def holders(context: Context, roles: Iterable[str], at: str | None = None) -> tuple[str, ...]:
    """Who holds one of the roles now, or held it at ``at``."""
    wanted, moment = list(roles), at or context.now
    return tuple(
        person.id
        for person in context.trust.file.people
        if any(context.trust.has_role(person, role, moment) for role in wanted)
    )


def holds_any(context: Context, person: Person) -> bool:
    """Whether the person holds any role now: who has left is told nothing more."""
    return any(held.since <= context.now <= held.until for held in person.roles)


def _signs(context: Context, person: Person) -> bool:
    """Whether the person has a key that counts now."""
    return any(key.since <= context.now <= key.until and not key.revoked for key in person.keys)


def title(context: Context, person_id: str) -> str:
    """How a person is named to others: position and name."""
    person = next((each for each in context.trust.file.people if each.id == person_id), None)
    if person is None:
        return person_id
    return ", ".join(part for part in (person.jabatan, person.name) if part) or person.id


def turn_of(session: Session, context: Context, case: Case) -> tuple[str, ...]:
    """Who can do what is due: holds its role and is kept from it by no separation of duties."""
    due = case.state.due
    if due is None:
        return ()
    if due.act == "receive":  # the requester's alone, and the desk's for one without a key
        requester = str(case.request.get("requester") or "")
        person = next((each for each in context.trust.file.people if each.id == requester), None)
        desk = holders(context, [DESK]) if person is not None and not _signs(context, person) else ()
        return tuple(dict.fromkeys([requester, *desk]))
    roles = [role for role in actors(session, due) if role not in RESERVED]
    return tuple(
        person
        for person in holders(context, roles)
        if not all(separation(context, case, (person, role)) for role in roles if person in holders(context, [role]))
    )


def people_of(context: Context, case: Case, at: str, but: str = "") -> tuple[str, ...]:
    """Whom something that happened at ``at`` concerns: who asked, who had signed in the case by then, and who executes.

    ``but``: who brought it about, and knows.
    """
    execution = case.flow.first("execute")
    operators = holders(context, execution.actors if execution else [], at)
    signers = [
        filed.document.actor.person
        for filed in case.filed
        if (received := received_at(context, case, filed)) is not None and received <= at
    ]
    requester = str(case.request.get("requester") or "")
    found = dict.fromkeys([*([requester] if requester else []), *signers, *operators])
    return tuple(person for person in found if person != but)
