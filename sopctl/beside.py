# SPDX-License-Identifier: Apache-2.0
"""Acts beside the SOP's steps: signed, chained and received like them, but they complete no step."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sopctl import attachments, broken_runs, examination, fsio, letters, locks, sealing
from sopctl.case import Case, case_folders
from sopctl.context import document_ref
from sopctl.errors import GateRefused, UsageError
from sopctl.ledger import LedgerLine
from sopctl.models import Json, SideAct
from sopctl.session import Session
from sopctl.targeting import approval_body

MAX_ATTACHMENT = 20 * 1024 * 1024


def file(
    session: Session, case_id: str, act: SideAct, person: str | None, key: str | None, body: Callable[[Case], Json]
) -> Case:
    """File one side document; a case that ends with it is sealed."""
    session.read_what_decides()
    signer = session.signer(person, key)
    with session.holding(case_id, signer.person.id):
        case = session.case_to_act_on(case_id)
        allowed = examination.beside(session.site.profile.profile, case, act)
        if not allowed:
            raise GateRefused(f"this SOP knows no {act}", where=case.id)
        role = session.role(signer.person, allowed, act)
        was_closed = case.state.closed
        case = session.file_beside(case, act, signer, role, body(case))
        if case.state.closed and not was_closed:
            session.say(f"record {sealing.seal_case(session, case, signer).name} sealed")
    return case


def consent(
    session: Session, case_id: str, dataset: str, approve: bool, reason: str, person: str | None, key: str | None
) -> Case:
    """The owner of a dataset lets another unit's request have it, or does not."""

    def body(case: Case) -> Json:
        if dataset not in case.request.get("datasets", []):
            raise UsageError(f"the case does not ask for dataset {dataset!r}", where="--dataset")
        return {
            "dataset": dataset,
            "decision": "approve" if approve else "reject",
            "reason": reason,
            "request": case.filed[0].digest,
        }

    return file(session, case_id, "consent", person, key, body)


def withdraw(session: Session, case_id: str, reason: str, person: str | None, key: str | None) -> Case:
    """The requester takes the request back, before anything was executed."""

    def body(case: Case) -> Json:
        if not reason.strip():
            raise UsageError("withdrawing needs a reason", where="--reason")
        last = next((line for line in reversed(session.ledger.lines()) if _is_execution(line, case)), None)
        if last is not None and last.kind == "run-started":
            raise GateRefused(f"an execution was started at {last.at}; it must be finished", where=case.id)
        return {"reason": reason, "requester": case.request.get("requester")}

    return file(session, case_id, "withdraw", person, key, body)


def _is_execution(line: LedgerLine, case: Case) -> bool:
    """Whether the ledger's line starts an execution of the case, or receives one's document."""
    done = {document_ref(case.id, filed.document.seq) for filed in case.all("execute")}
    return line.ref in done or (line.kind == "run-started" and line.ref.startswith(f"{case.id}/"))


def attach(session: Session, case_id: str, path: Path, note: str, person: str | None, key: str | None) -> Case:
    """Put a paper into the case, bound by its digest."""
    if not path.exists():
        raise UsageError("the file does not exist", where=str(path))
    data = fsio.read_strict(path, MAX_ATTACHMENT)
    name = path.name
    if not re.fullmatch(attachments.NAME, name):
        raise UsageError(
            f"{name!r} is not a plain file name", where=str(path), hint="Use letters, digits, '.', '_' and '-'."
        )

    def body(case: Case) -> Json:
        target = case.folder / letters.FOLDER / name
        if target.exists() and fsio.read_strict(target, MAX_ATTACHMENT) != data:
            raise UsageError("the case has another attachment of that name", where=str(target), hint="Rename the file.")
        return {**letters.keep(case.folder, name, data), "note": note}

    return file(session, case_id, "attach", person, key, body)


def emergency(session: Session, case_id: str, reason: str, person: str | None, key: str | None) -> Case:
    """Break the glass: the first operator says why and what, the second countersigns; then execution is due at once."""

    def body(case: Case) -> Json:
        glass = session.site.profile.profile.break_glass
        if glass is None or not session.trust.file.policy.break_glass:
            raise GateRefused(
                "emergencies are not allowed here",
                where=case.id,
                hint="The root holder allows them: policy.break_glass in trust/trust.yml.",
            )
        if not reason.strip():
            raise UsageError("an emergency needs a reason", where="--reason")
        if not case.request:
            raise UsageError("nothing was requested here; the schedule starts it", where=case.id)
        asked = case.all("emergency")
        if asked:
            return {"reason": reason, "countersigns": asked[0].link}
        return {"reason": reason, "approval": approval_body(session, case, hours=glass.hours)}

    return file(session, case_id, "emergency", person, key, body)


def ratify(session: Session, case_id: str, approve: bool, reason: str, person: str | None, key: str | None) -> Case:
    """The decider's word on an emergency, afterwards: ratified, or censured."""

    def body(_case: Case) -> Json:
        if not reason.strip():
            raise UsageError("a judgement needs a reason", where="--reason")
        return {"decision": "approve" if approve else "reject", "reason": reason}

    return file(session, case_id, "ratify", person, key, body)


def _without_unreceived(session: Session, case: Case) -> tuple[Case, Json | None]:
    """The case without a last document that a killed command had signed, but that can no longer be received.

    It is kept as an attachment, and its digest stands in the take-over; its step is due again.
    """
    last = case.filed[-1] if case.filed else None
    ref = document_ref(case.id, last.document.seq) if last else ""
    if last is None or any(line.ref == ref for line in session.ledger.lines()):
        return case, None
    folder = case.folder / "attachments"
    folder.mkdir(exist_ok=True)
    name = f"tidak-diterima-{last.path.name}"
    fsio.write_atomic(folder / name, last.data)
    fsio.write_atomic(folder / f"tidak-diterima-{last.signature_path.name}", last.signature)
    last.path.unlink()
    last.signature_path.unlink()
    session.say(f"{last.path.name} was never received; it is kept in attachments/{name}, and its step is due again")
    return case.with_filed(case.filed[:-1]), {"file": name, "sha256": last.digest}


def seal(session: Session, case_id: str, person: str | None, key: str | None) -> Case:
    """Seal a closed case whose record is missing because a command ended before it was made."""
    signer = session.signer(person, key)
    with session.holding(case_id, signer.person.id):
        case = session.case_to_act_on(case_id)
        if not case.state.closed:
            raise UsageError("the case is not closed", where=case.id, hint=f"See sopctl case show {case.id}.")
        if session.ledger.find("record", f"{case.id}-C"):
            raise UsageError("the case's record is sealed already", where=case.id)
        if reasons := examination.examine(session.context(), case):
            raise GateRefused(reasons, where=case.id)
        session.say(f"record {sealing.seal_case(session, case, signer).name} sealed")
    return case


def take_over(session: Session, case_id: str, reason: str, person: str | None, key: str | None) -> Case:
    """Take over the locks of a command that died over this case: said who, why and whose, then cleared."""
    if not reason.strip():
        raise UsageError("taking over needs a reason", where="--reason")
    known = [folder.name for folder in case_folders(session.site.cases)]
    stale = locks.stale(session.site.state, case_id, known)
    if not stale:
        raise UsageError(
            f"no lock of {case_id} is stale", where=str(session.site.state / "locks"), hint="See sopctl doctor."
        )
    signer = session.signer(person, key)
    case, aside = _without_unreceived(session, session.case_to_act_on(case_id))
    role = session.role(
        signer.person, examination.beside(session.site.profile.profile, case, "takeover"), "taking over"
    )
    body: Json = {"reason": reason, "locks": [{"name": lock.name, "holder": str(lock)} for lock in stale]}
    body |= {"set_aside": aside} if aside else {}
    case = session.file_beside(case, "takeover", signer, role, body)
    locks.take_over(session.site.state, stale)
    with session.holding(case.id, signer.person.id):
        broken_runs.seal(session, case.id, signer)
    if case.state.closed and not session.ledger.find("record", f"{case.id}-C"):  # died before it was sealed
        session.say(f"record {sealing.seal_case(session, case, signer).name} sealed")
    return case
