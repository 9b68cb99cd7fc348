# SPDX-License-Identifier: Apache-2.0
"""What all forms of a case share: letterhead, head, officials, and the SOP's own table with how each line went."""

from __future__ import annotations

from sopctl import clock, control, forms
from sopctl.case import SIDE_ACTS, Case, Filed
from sopctl.context import deadline, received_at
from sopctl.execution import Run
from sopctl.forms import FormHeader, Letterhead, Official
from sopctl.models import Person
from sopctl.naming import fill
from sopctl.profile import Step
from sopctl.session import Session

ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
MODES = {
    "guard rail": "pagar pengaman: kunci SSH dipegang akun pelaksana; kesalahan dicegah, pemilik akun tidak",
    "control": "kendali: kunci SSH dan rahasia milik akun tersendiri; pelaksana hanya dapat melalui sopctl",
}


def letterhead(session: Session) -> Letterhead:
    """The agency's letterhead."""
    agency = session.site.config.agency
    return Letterhead(agency=agency.nama, government=agency.pemerintah, address=agency.alamat, city=agency.kota)


def official(session: Session, role: str, person: Person | None = None, at: str | None = None) -> Official:
    """A signature block; without a person, the place is left empty for the holder of the role."""
    title = session.site.profile.profile.title(role)
    if person is None:
        holders = [entry for entry in session.trust.file.people if session.trust.has_role(entry, role, clock.now())]
        if len(holders) != 1:
            return Official(role_title=title)
        person = holders[0]
    return Official(role_title=title, jabatan=person.jabatan, name=person.name, nip=person.nip, person=person.id, at=at)


def number(session: Session, case_id: str, flow: str, at: str) -> str:
    """The form's number by the agency's rule. ConfigError names an unknown word of the rule."""
    moment = clock.parse(at).astimezone(session.site.tz)
    words = {
        "seq": int(case_id[-4:]),
        "flow": flow.upper().replace("_", "-"),
        "agency": session.site.config.agency.kode.upper(),
        "month_roman": ROMAN[moment.month - 1],
        "month": moment.month,
        "year": moment.year,
        "case": case_id,
    }
    return fill(session.site.config.numbering, words, f"{session.site.root / 'sop.yml'}:numbering")


def header(
    session: Session,
    title: str,
    case_id: str,
    run_id: str,
    flow: str,
    result: str,
    *,
    check: bool = False,
    notes: tuple[str, ...] = (),
    inferred: bool = False,
    case: Case | None = None,
) -> FormHeader:
    """What every form carries; ``case`` tells whether it is an emergency."""
    profile = session.site.profile
    now = clock.now()
    return FormHeader(
        form_title=title,
        number=number(session, case_id, flow, now),
        date=clock.parse(now).astimezone(session.site.tz).strftime("%Y-%m-%d"),
        sop_name=profile.profile.document.nama_sop,
        sop_number=profile.profile.document.nomor_sop,
        profile_id=profile.profile.id,
        profile_digest=profile.digest,
        run_id=run_id,
        case_id=case_id,
        ledger_head=str(session.ledger.head()),
        result=result,  # type: ignore[arg-type]  # outcomes.py returns the words of forms.Result
        timezone=session.site.config.timezone,
        check_mode=check,
        form_inferred=inferred,
        mode=MODES[control.mode(session.site)],
        notes=notes,
        emergency=emergency(session, case) if case else "",
    )


def steps(session: Session, case: Case, run: Run | None, operator: str) -> tuple[forms.Step, ...]:
    """The SOP's own table and how each line went, in the agency's working time."""
    context = session.context()
    done: dict[str, tuple[int, Filed]] = {}
    people: dict[str, dict[str, None]] = {}
    for number, filed in enumerate(case.filed):
        if filed.document.act not in SIDE_ACTS:
            for step in case.flow.group(case.flow.step(filed.document.step)):
                done[step.id] = number, filed
                people.setdefault(step.id, {})[filed.document.actor.person] = None
    rows = []
    for step in case.flow.steps:
        number, filed_here = done.get(step.id, (len(case.filed), None))
        at = (received_at(context, case, filed_here) or filed_here.document.at) if filed_here else None
        person = ", ".join(people.get(step.id, {}))
        limit = deadline(context, case, number) if filed_here else None
        duration = session.work.seconds(limit[0], at) if limit and at else None
        if step.act == "execute" and run is not None and (filed_here is None or filed_here is case.filed[-1]):
            at, person = run.finished, operator
        if run is not None and step.act == "execute":
            duration = clock.seconds_between(run.started, run.finished)
        elif filed_here and step.act == "execute":
            duration = seconds(filed_here.document.body.get("started"), filed_here.document.body.get("finished"))
        rows.append(_row(session, case, step, at, person, duration, limit[1] if limit else None, _remark(filed_here)))
    return tuple(rows)


def _remark(filed: Filed | None) -> str:
    late = filed.document.body.get("late") if filed else None
    if not isinstance(late, dict):
        return ""
    reason = late.get("reason")
    return f"alasan keterlambatan: {reason}" if reason else ""


def _row(
    session: Session,
    case: Case,
    step: Step,
    at: str | None,
    person: str,
    duration: int | None,
    until: str | None,
    remark: str,
) -> forms.Step:
    profile = session.site.profile.profile
    return forms.Step(
        number=step.nomor or "",
        text=step.text,
        by=", ".join(profile.title(role) for role in step.by),
        person=person,
        at=at,
        duration_s=duration if duration is None or duration >= 0 else None,
        limit=step.sla,
        until=until,
        remark=remark,
        inferred=step.source == "inferred",
        by_inferred=case.flow.actors_source == "inferred",
    )


def seconds(first: str | None, second: str | None) -> int | None:
    """Seconds between two moments, when both are known."""
    return clock.seconds_between(first, second) if first and second else None


JUDGED = {"ratified": "diratifikasi", "censured": "ditegur"}


def emergency(session: Session, case: Case) -> str:
    """What the form of an emergency says on top: who broke the glass and why, and what the decider said; empty else."""
    asked = case.all("emergency")
    if case.state.emergency in {"", "asked"}:
        return ""
    who = " dan ".join(_name(signed(session, filed)) for filed in asked)
    text = f"Dilaksanakan sebelum persetujuan, atas tanda tangan {who}. Alasan: {asked[0].document.body.get('reason')}."
    judged = case.last("ratify")
    if judged is None:
        return f"{text} Belum dinilai oleh pejabat pemutus."
    word, reason = JUDGED[case.state.emergency], judged.document.body.get("reason")
    return f"{text} Telah {word} oleh {_name(signed(session, judged))}: {reason}."


def _name(person: Official) -> str:
    return " ".join(part for part in (person.delegate, person.jabatan or person.role_title, person.name) if part)


def signed(session: Session, filed: Filed) -> Official:
    actor = filed.document.actor
    person = next((entry for entry in session.trust.file.people if entry.id == actor.person), None)
    title = session.site.profile.profile.title(actor.role)
    if person is None:
        return Official(role_title=title, person=actor.person, at=filed.document.at, on_paper=filed.on_paper)
    return Official(
        role_title=title,
        jabatan=person.jabatan,
        name=person.name,
        nip=person.nip,
        person=person.id,
        at=filed.document.at,
        delegate=session.trust.delegate_mark(person, actor.role, filed.document.at),
        on_paper=filed.on_paper,
    )


def requester(session: Session, case: Case) -> Official:
    """Who asks: with their signature, or (where the desk signed) as the letter names them."""
    asked = case.filed[0]
    named = str(case.request.get("requester", ""))
    if named == asked.document.actor.person:
        return signed(session, asked)
    person = next((entry for entry in session.trust.file.people if entry.id == named), None)
    return official(session, case.flow.steps[0].actors[0], person)
