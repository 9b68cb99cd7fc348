# SPDX-License-Identifier: Apache-2.0
"""Erasing a paper of a closed case: it names people, and the law may want it gone. What was signed stays verifiable, and says so.

First the act is sealed as a record of its own, then the ledger gets its line, and only then the file goes; a command that is
killed between is finished by the same command again.
"""

from __future__ import annotations

from pathlib import Path

from sopctl import archive, attachments, clock, fsio, letters, sealing
from sopctl.case import Case
from sopctl.errors import GateRefused, UsageError
from sopctl.models import Json
from sopctl.session import Session, Signer

SCHEMA = "sop-erasure/v1"
FILE = "erasure.json"


def erase(session: Session, case_id: str, file: str, reason: str, person: str | None, key: str | None) -> Json:
    """Erase the paper ``file`` of a case that is closed and sealed; returns what its record says.

    Who decides requests of this SOP may; GateRefused when the case is open, UsageError when it has no such paper.
    """
    if not reason.strip():
        raise UsageError("erasing needs a reason", where="--reason", hint="For example: permintaan pemilik data.")
    session.read_what_decides()
    signer = session.signer(person, key)
    with session.holding(case_id, signer.person.id):
        case = session.case(case_id)
        role = session.role(signer.person, _deciders(session, case), "erasing a paper of a case")
        digest = attachments.bound(case).get(file)
        if digest is None:
            known = ", ".join(attachments.bound(case)) or "none"
            raise UsageError(f"no document of {case.id} names {file!r}", hint=f"Its papers: {known}.")
        lines = session.ledger.lines()
        if not case.state.closed or not any(line.kind == "record" and line.ref == f"{case.id}-C" for line in lines):
            raise GateRefused("papers of a case are erased when it is closed and sealed", where=case.id)
        said = {
            "schema": SCHEMA,
            "case": case.id,
            "file": file,
            "attachment": digest,
            "reason": reason,
            "person": signer.person.id,
            "role": role,
            "at": clock.now(),
        }
        if attachments.erased(case.id, lines).get(file) != digest:
            said["record"] = _seal(session, case, said, signer)
        _remove(case.folder / letters.FOLDER / file)
    return said


def _deciders(session: Session, case: Case) -> list[str]:
    """Who decides requests, or (where nobody does) who checks the form."""
    for act in ("decide", "confirm"):
        steps = [step for flow in session.site.profile.profile.flows.values() for step in flow.steps if step.act == act]
        roles = [role for step in steps for role in [*step.actors, *([step.gate.decide] if step.gate else [])]]
        if roles:
            return list(dict.fromkeys(roles))
    return list(case.flow.steps[0].actors)


def _seal(session: Session, case: Case, said: Json, signer: Signer) -> str:
    lines = session.ledger.lines()
    before = {line.ref for line in lines if line.kind == "record" and line.ref.startswith(f"{case.id}-E")}
    record = f"{case.id}-E{len(before) + 1:02d}"
    if bag := sealing.adopt(session, record):
        held = fsio.parse_json_strict(archive.record_file(bag, FILE), str(bag))
        if (held.get("file"), held.get("attachment")) != (said["file"], said["attachment"]):
            return _seal(session, case, said, signer)
    else:
        files = {FILE: fsio.canonical_json(said)}
        bag = sealing.seal_maintenance(session, record, files, signer, f"{case.id}: {said['file']} erased")
    digests = {"attachment": said["attachment"], "record": fsio.sha256_file(bag / "tagmanifest-sha256.txt")}
    session.ledger.append(attachments.ERASURE, f"{case.id}/{said['file']}", digests)
    return record


def _remove(path: Path) -> None:
    """The salt first: without it nobody can try out what the paper said."""
    for one in (path.with_name(f"{path.name}{letters.SALT}"), path):
        one.unlink(missing_ok=True)
    fsio.fsync_dir(path.parent)
