# SPDX-License-Identifier: Apache-2.0
"""Officials who sign PDFs: the paper of the step that is due is printed for them, and taken as their act when it comes back.

What was printed stands in the ledger by its digest, so a paper that comes back is known by its first bytes. The CA is asked
here, once, and its answers are put into the file; every later look needs no network.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sopctl import case_forms, clock, filing, forms, fsio, loading, paper, sealing, signed_pdf, workflow
from sopctl.beside import MAX_ATTACHMENT
from sopctl.case import RATIFY, Case, Filed, due_act
from sopctl.context import PAPER, paper_ref, papers_of
from sopctl.errors import GateRefused, UsageError
from sopctl.examination import ON_PAPER
from sopctl.ledger import LedgerLine
from sopctl.models import Act, Actor, Document, Json, Person, to_json
from sopctl.profile import Step
from sopctl.session import Session
from sopctl.signed_pdf import BadPdf

_HOW = "docs/how-to/sign-pdf.md"
#: act → heading of its paper, Indonesian and English
TITLES: dict[str, tuple[str, str]] = {
    "dispose": ("Lembar Disposisi", "Disposition"),
    "decide": ("Lembar Keputusan", "Decision"),
    "confirm": ("Lembar Pemeriksaan", "Check of the form"),
    "inform": ("Lembar Pemberitahuan", "Notice to the requester"),
    "receive": ("Tanda Terima", "Receipt"),
}
#: (act, decision) → the one word in the middle of the paper
WORDS: dict[tuple[str, str], tuple[str, str]] = {
    ("decide", "approve"): ("DISETUJUI", "APPROVED"),
    ("decide", "reject"): ("DITOLAK", "REJECTED"),
    ("confirm", "approve"): ("SESUAI", "FOUND RIGHT"),
    ("confirm", "reject"): ("DIKEMBALIKAN", "SENT BACK"),
    ("dispose", ""): ("DITERUSKAN", "PASSED ON"),
    ("inform", ""): ("DIBERITAHUKAN", "NOTIFIED"),
    ("receive", ""): ("DITERIMA", "RECEIVED"),
}


@dataclass(frozen=True)
class Printed:
    """A paper to be signed: its bytes and digest, the document inside (``name``), for whom, and until when it is good."""

    case: str
    name: str
    person: str
    until: str
    pdf: bytes
    digest: str


# --- printing --------------------------------------------------------------------------------------------------------


def print_paper(session: Session, case_id: str, approve: bool | None, reason: str, person_id: str | None) -> Printed:
    """Print the paper of the step that is due, as ``person_id`` would sign it, and enter it into the ledger.

    Everything is asked that is asked of an act; what may not be done is not printed. GateRefused or UsageError says why.
    """
    session.read_what_decides()
    if not session.trust.anchors:
        raise GateRefused(
            "the trust names no CA whose certificates sign papers",
            where="trust/trust.yml:papers.anchors",
            hint=f"Name it (sopctl trust anchor FILE.pem) and have the trust signed ({_HOW}).",
        )
    with session.holding(case_id, person_id or "print"):
        case = session.case_to_act_on(case_id)
        step = _due(case)
        act: Act = step.act
        person = _official(session, step, person_id)
        step, role = workflow.admitted(session, case, act, person)
        body = session.timed(case, step, _body(session, case, step, approve, reason))
        document = session.next_document(case, step.id, act, Actor(person.id, role), body)
        name = f"{document.seq:02d}-{act}.json"
        data = fsio.canonical_json(to_json(document))
        html = _page(session, case.with_filed([*case.filed, Filed(case.folder / name, document, data, b"")]), step)
        made = signed_pdf.ready_to_sign(paper.pdf(html, data, document.at[:10], name))
        digests = {"document": fsio.sha256_bytes(data), "paper": fsio.sha256_bytes(made)}
        session.ledger.append(PAPER, paper_ref(case.id, document.seq), digests)
    until = clock.plus(document.at, days=session.trust.file.papers.days)
    return Printed(case.id, name, person.id, until, made, digests["paper"])


def _due(case: Case) -> Step:
    if case.state.reasons:
        raise GateRefused(case.state.reasons, where=case.id)
    due = case.state.due
    if due is None:
        raise GateRefused(f"the case is closed ({case.state.outcome}); nothing is due", where=case.id)
    if due.id == RATIFY or due.act not in ON_PAPER:
        raise GateRefused(
            f"{due_act(due)} is due, which is not signed on paper",
            where=case.id,
            hint=f"Its actor signs with their key: sopctl case {due_act(due)} {case.id}.",
        )
    return due


def _official(session: Session, step: Step, person_id: str | None) -> Person:
    """Who signs: as named, or whoever alone holds the role. UsageError or GateRefused when nobody could."""
    now = clock.now()
    if person_id:
        person = session.trust.person(person_id)
    else:
        roles = workflow.actors(session, step)
        holders = [
            one
            for one in session.trust.file.people
            if one.certificates and any(session.trust.has_role(one, role, now) for role in roles)
        ]
        if len(holders) != 1:
            names = ", ".join(one.id for one in holders) or "nobody with a certificate"
            raise UsageError(f"who signs? {' or '.join(roles)} is held by {names}", where="--for", hint="Name them.")
        person = holders[0]
    if not any(one.since <= now <= one.until and not one.revoked for one in person.certificates):
        raise GateRefused(
            f"{person.id} has no certificate in the trust",
            where="trust/trust.yml:people",
            hint=f"Write it down (sopctl trust certificate {person.id} FILE) and have the trust signed ({_HOW}).",
        )
    return person


def _body(session: Session, case: Case, step: Step, approve: bool | None, reason: str) -> Json:
    decides = step.act in {"decide", "confirm"}
    if decides != (approve is not None):
        which = "--approve or --reject" if decides else "--due"
        raise UsageError(f"{step.act} is due", where="--approve/--reject/--due", hint=f"Give {which}.")
    if step.act == "decide":
        return workflow.decision(session, bool(approve), reason)(case, step)
    if step.act == "confirm":
        return workflow.confirmation(bool(approve), reason)(case, step)
    if step.act == "inform":
        return workflow.informing(reason)(case, step)
    return {"to": "", "note": reason} if step.act == "dispose" else {"note": reason}


def _page(session: Session, case: Case, step: Step) -> str:
    document = case.filed[-1].document
    title, english = TITLES[document.act]
    decision = str(document.body.get("decision") or "")
    word, word_english = WORDS[document.act, decision]
    approval = document.body.get("approval")
    context = {
        "letterhead": filing.letterhead(session),
        "header": filing.header(session, title, case.id, "", case.flow_name, "menunggu", case=case),
        "english": english,
        "word": word,
        "word_english": word_english,
        "tone": "bad" if decision == "reject" else "good",
        "document": document,
        "digest": case.filed[-1].digest,
        "step": step,
        "reason": document.body.get("reason") or document.body.get("note") or document.body.get("text") or "",
        "valid_until": approval["valid_until"] if isinstance(approval, dict) else None,
        "backups": {one["dataset"]: one for one in approval["targets"]} if isinstance(approval, dict) else {},
        "forms": case_forms.request_forms(session, case) if case.request else [],
        "executed": case.body("execute"),
        "signer": filing.signed(session, case.filed[-1]),
        "good_until": clock.plus(document.at, days=session.trust.file.papers.days),
        "verification_text": forms.VERIFICATION_TEXT,
    }
    return forms.render_page("act.html.j2", context, session.site.config.timezone, session.site.templates)


# --- taking it back --------------------------------------------------------------------------------------------------


def accept(session: Session, case_id: str, path: Path, person: str | None, key: str | None) -> Case | None:
    """File the document on the signed paper at ``path`` as its official's act; None when the file is no paper of ours.

    ``person`` and ``key`` seal the case's record where the act closes the case; it may be sealed later.
    """
    if not path.exists():
        raise UsageError("the file does not exist", where=str(path))
    data = fsio.read_strict(path, MAX_ATTACHMENT)
    if not signed_pdf.is_pdf(data):
        return None
    lines = [line for line in session.ledger.lines() if line.kind == PAPER]
    size = signed_pdf.paper_size(data, {line.digests.get("paper", "") for line in lines})
    if size is None:
        _require_no_paper(data, path)
        return None
    if len(data) > signed_pdf.MAX_BYTES:
        raise UsageError(f"is larger than {signed_pdf.MAX_BYTES} bytes", where=str(path), hint="Sign without pictures.")
    digest = fsio.sha256_bytes(data[:size])
    session.read_what_decides()
    with session.holding(case_id, person or "attach"):
        case = session.case_to_act_on(case_id)
        filed = _filed(session, case, data, size, path, next(line for line in lines if line.digests["paper"] == digest))
        case = session.accept(case, filed)
        if case.state.closed:
            _seal(session, case, person, key)
    return case


def _require_no_paper(data: bytes, path: Path) -> None:
    """GateRefused when this is one of our papers whose bytes were written anew: nobody can say any more what was signed."""
    try:
        inside = signed_pdf.attached(data)
    except BadPdf:
        return  # any scan
    if any(re.fullmatch(r"\d\d-[a-z]+\.json", name) and b"sop/document/v1" in held for name, held in inside.items()):
        raise GateRefused(
            "is not the paper that sopctl printed: the tool wrote the file anew, or it was altered",
            where=str(path),
            hint=f"Have the printed file signed by a tool that only adds to it, unchanged since `case print` ({_HOW}).",
        )


def _filed(session: Session, case: Case, data: bytes, size: int, path: Path, line: LedgerLine) -> Filed:
    """The signed paper as the case's next document, with the CA's answers inside. GateRefused says what is wrong with it."""
    due = paper_ref(case.id, len(case.filed) + 1)
    if line.ref != due:
        other, _, number = line.ref.partition("/")
        if other != case.id:
            said, hint = f"is a paper of case {other}, not of {case.id}", f"sopctl case attach {other} FILE"
        else:
            said = f"was printed as document {number.partition('-')[0]}, and document {len(case.filed) + 1:02d} is next"
            hint = "Another document came since: print the paper anew and have it signed."
        raise GateRefused(said, where=str(path), hint=hint)
    try:
        inside = signed_pdf.attached(data[:size])
    except BadPdf as error:
        raise GateRefused(f"the paper cannot be read ({error})", where=str(path)) from None
    name, document_data = next(iter(inside.items()))
    document = loading.load_json(Document, document_data, path)
    filed = Filed(case.folder / name, document, document_data, data)
    if case.filed and document.prev != case.filed[-1].link:
        raise GateRefused(
            "was printed before the document that lies there now came",
            where=str(path),
            hint="Print the paper anew and have it signed.",
        )
    days, now = session.trust.file.papers.days, clock.now()
    if clock.seconds_between(document.at, now) > days * 86400:
        raise GateRefused(
            f"was printed at {document.at}, and a paper is good for {days} days",
            where=str(path),
            hint="Print it anew and have it signed.",
        )
    return _answered(session, case, filed, size, path)


def _answered(session: Session, case: Case, filed: Filed, size: int, path: Path) -> Filed:
    """The same with the CA's answers, asked for only when everything else about it is right."""
    trust = session.trust
    now, soft = clock.now(), trust.file.papers.revocation == "soft"
    papers = papers_of(session.ledger.lines(), case.id, filed.document, filed.digest)
    if signed_pdf.paper_size(filed.signature, papers) != size:
        raise GateRefused("the data inside is not what it was printed for", where=str(path))
    how = size, filed.path.name, filed.data, trust.anchors, now
    first = signed_pdf.judge(filed.signature, *how, soft=True)
    who = filed.document.actor.person, [filed.document.actor.role], sorted({filed.document.at, now})
    pinned = trust.certificate_reasons(first.certificate, *who) if first.certificate else []
    if reasons := [*first.reasons, *pinned]:
        raise GateRefused(reasons, where=str(path), hint=_way_out(reasons))
    signed, problem = signed_pdf.with_answers(filed.signature, trust.anchors, soft)
    if problem == signed_pdf.REVOKED:  # whatever older answer lies in the file
        raise GateRefused(problem, where=str(path), hint="The root holder writes their new certificate down.")
    if len(signed) > signed_pdf.MAX_BYTES:
        raise GateRefused(
            f"is larger than {signed_pdf.MAX_BYTES} bytes with the CA's answers",
            where=str(path),
            hint="Sign without pictures; a CA with OCSP gives smaller answers than one with lists.",
        )
    last = signed_pdf.judge(signed, *how, soft=soft)
    if last.reasons:
        more = f" ({problem})" if problem and problem not in last.reasons else ""
        raise GateRefused([f"{reason}{more}" for reason in last.reasons], where=str(path), hint=_way_out(last.reasons))
    if problem:
        by = "as the trust's soft policy allows" if soft else "by the CA's answers that lay in the file"
        session.say(f"the CA could not be asked ({problem}); taken {by}")
    return Filed(filed.path, filed.document, filed.data, signed)


def _way_out(reasons: Collection[str]) -> str:
    said = " ".join(reasons)
    if signed_pdf.UNKNOWN in said:
        return "Try again when the CA's OCSP or CRL address answers, or have it signed with its answers inside (PAdES B-LT)."
    if "nobody's in the trust" in said:
        return "The root holder writes a person's certificate down: sopctl trust certificate PERSON FILE."
    return "Have the printed paper, unchanged, signed by the official whose turn it is."


def _seal(session: Session, case: Case, person: str | None, key: str | None) -> None:
    if person is None:
        session.say(f"the case is closed; its record waits for a key: sopctl case seal {case.id} --as PERSON")
        return
    session.say(f"record {sealing.seal_case(session, case, session.signer(person, key)).name} sealed")
