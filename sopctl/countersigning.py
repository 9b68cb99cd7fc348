# SPDX-License-Identifier: Apache-2.0
"""Officials put their electronic signature on a sealed record's form.

Nothing enters a sealed record: the signed form is a record of its own (a supplement), ``<record>T1``, and the next who signs
signs that one's form. Each holds the form as its signer found it as its first bytes, so the way back to the sealed form is
there for everybody who can compare files.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from sopctl import (
    archive,
    clock,
    forms,
    fsio,
    locks,
    paper,
    pdf_signers,
    pem,
    sealing,
    signatures,
    signed_pdf,
    stamping,
)
from sopctl.blanks import Official
from sopctl.errors import EvidenceError, GateRefused, SopctlError, UsageError
from sopctl.models import Person, to_json
from sopctl.pdf_signers import CannotSign, Holder, Terms
from sopctl.record_check import RecordCheck
from sopctl.session import Session
from sopctl.signatures import SignedForm

HOW = "docs/how-to/sign-pdf.md"


@dataclass(frozen=True)
class Countersigned:
    """The new record, what it says, and where its PDF lies."""

    record: Path
    said: SignedForm

    @property
    def pdf(self) -> Path:
        return self.record / "data" / self.said.form


def sign_form(
    session: Session,
    record_id: str,
    form: str,
    holder: Holder,
    reason: str,
    person: str | None,
    key: str | None,
) -> Countersigned:
    """Sign the form ``form`` (a file name, ``form.pdf``) of a record by the certificate of ``holder``; whose it is, the trust
    says. ``person`` and ``key`` seal the new record.

    GateRefused when the certificate is nobody's or does not hold, CannotSign's reason as SopctlError, EvidenceError when the
    record is not whole.
    """
    session.read_what_decides()
    sealer = session.signer(person, key)
    found = archive.record_path(session.site.archive, record_id)
    if found is None or signatures.record_of(record_id):
        raise UsageError(f"record {record_id!r} does not exist", hint="See sopctl record list.")
    with locks.held(session.site.state, [f"sign-{record_id}"], sealer.person.id, case=record_id):
        earlier = _earlier(session, record_id)
        lies = earlier[-1] if earlier else found
        _require_whole(session, [found, *earlier])
        if any(signatures.read(one).form != form for one in earlier):
            raise UsageError(f"another form of {record_id} was signed", where="--form")
        before = _form(lies, form)
        now = clock.now()
        official, role = _owner(session, holder, now)
        if official.id in {signatures.read(one).person for one in earlier}:
            raise GateRefused(f"{official.id} has signed this form already", where=record_id)
        pdf = _signed(session, before, holder, reason, official, role, record_id, now)
        judged = signed_pdf.judge_form(pdf, before, session.trust.anchors, now, _soft(session))
        if judged.reasons:
            raise GateRefused(list(judged.reasons), where=record_id)
        said = SignedForm(
            schema=signatures.SCHEMA,
            of=record_id,
            tagmanifest=fsio.sha256_file(found / archive.TAGMANIFEST),
            form=form,
            before_in=lies.name,
            before=fsio.sha256_bytes(before),
            person=official.id,
            role=role,
            certificate=judged.certificate,
            subject=judged.subject,
            at=now,
            level=judged.level,
            reason=reason,
        )
        files = {form: pdf, signatures.FILE: fsio.canonical_json(to_json(said))}
        files["trust/anchors.pem"] = pem.pem_of(session.trust.anchors)
        number = f"{record_id}T{len(earlier) + 1}"
        made = sealing.seal_maintenance(session, number, files, sealer, f"form of {record_id}, signed")
    return Countersigned(made, said)


def _earlier(session: Session, record: str) -> list[Path]:
    """The records that hold its form signed. EvidenceError when the ledger knows one more: signing again would put a second
    one into its place."""
    found = signatures.taken(session.site.archive, record)
    sealed = {line.ref for line in session.ledger.lines() if line.kind == "record"}
    for number in range(1, 10):
        name = f"{record}T{number}"
        there = number <= len(found)
        if there and name not in sealed:
            sealing.adopt(session, name)
        elif name in sealed and not there:
            raise EvidenceError(
                "the ledger names this record, but it is gone",
                where=name,
                hint="Put it back from a copy of the archive.",
            )
    return found


def _soft(session: Session) -> bool:
    return session.trust.file.papers.revocation == "soft"


def _require_whole(session: Session, records: list[Path]) -> None:
    check = RecordCheck(session, session.ledger.lines(), None)
    for record in records:
        if wrong := check.findings(record):
            raise EvidenceError(
                f"the record is not what was sealed ({wrong[0].meaning})",
                where=f"{record}/{wrong[0].file}",
                hint="Nobody should sign it: sopctl audit verify says more.",
            )


def _form(record: Path, form: str) -> bytes:
    try:
        return archive.record_file(record, form)
    except SopctlError:
        there = ", ".join(sorted(path.name for path in (record / "data").glob("*.pdf"))) or "none"
        raise UsageError(f"{record.name} holds no {form}", where="--form", hint=f"Its PDFs: {there}.") from None


def _owner(session: Session, holder: Holder, now: str) -> tuple[Person, str]:
    """Whose certificate it is by the trust, and the role that they hold now."""
    if not session.trust.anchors:
        raise GateRefused(
            "the trust names no CA whose certificates sign papers",
            where="trust/trust.yml:papers.anchors",
            hint=f"Name it (sopctl trust anchor FILE.pem) and have the trust signed ({HOW}).",
        )
    digest = fsio.sha256_bytes(holder.certificate)
    people = session.trust.file.people
    owner = next((one for one in people for pinned in one.certificates if pinned.sha256 == digest), None)
    if owner is None:
        raise GateRefused(
            f"certificate {digest[:19]} is nobody's in the trust (a name in it proves nothing)",
            where="trust/trust.yml:people",
            hint=f"Write it down (sopctl trust certificate PERSON FILE) and have the trust signed ({HOW}).",
        )
    role = next((one for one in session.site.profile.profile.roles if session.trust.has_role(owner, one, now)), "")
    if reasons := session.trust.certificate_reasons(digest, owner.id, [role], [now]):
        raise GateRefused(reasons, where="trust/trust.yml:people")
    return owner, role


def _signed(
    session: Session, before: bytes, holder: Holder, reason: str, person: Person, role: str, record: str, now: str
) -> bytes:
    authority = None
    if session.site.config.timestamps:
        stamping.require_signed(session)
        first = session.site.config.timestamps[0]
        ders = tuple(one.der for one in pem.certificates(first.anchors.encode()))
        authority = first.url, ders
    title = session.site.profile.profile.title(role)
    context = {
        "signer": Official(role_title=title, jabatan=person.jabatan, name=person.name, person=person.id),
        "at": now,
        "certificate": fsio.sha256_bytes(holder.certificate).removeprefix("sha256:")[:12],
    }
    html = forms.render_page("stamp.html.j2", context, session.site.config.timezone, session.site.templates)
    with tempfile.NamedTemporaryFile(suffix=".pdf") as page:
        page.write(paper.picture(html))
        page.flush()
        try:
            terms = Terms(Path(page.name), reason, session.trust.anchors, _soft(session), authority)
            pdf = pdf_signers.sign(before, holder, terms)
        except CannotSign as error:
            raise SopctlError(str(error), where=record) from error
    return pdf
