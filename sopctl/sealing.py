# SPDX-License-Identifier: Apache-2.0
"""Sealing: a run's or a closed case's bag, and its line in the ledger."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sopctl import (
    approval,
    archive,
    case_forms,
    clock,
    content,
    control,
    escalation,
    escalation_page,
    filing,
    fixity,
    forms,
    fsio,
    letters,
    outcomes,
    paper,
    pem,
    run_forms,
    signed_pdf,
    signing,
    witnessing,
)
from sopctl.case import Case
from sopctl.errors import EvidenceError, ExitCode, SopctlError
from sopctl.execution import Run
from sopctl.models import Json
from sopctl.session import Session, Signer


def _case_files(session: Session, case: Case) -> dict[str, bytes | Path]:
    """What every record holds: documents with signatures, the trust and the profile in force."""
    files: dict[str, bytes | Path] = {
        "trust/trust.yml": session.trust.data,
        "trust/trust.yml.sig": session.trust.signature,
        "trust/allowed_signers": session.trust.allowed_signers().encode(),
        "profile.yml": fsio.read_strict(session.site.profile.path),
    }
    for filed in case.filed:
        files[f"case/{filed.path.name}"] = filed.data
        files[f"case/{filed.signature_path.name}"] = filed.signature
    if session.trust.anchors:
        files["trust/anchors.pem"] = pem.pem_of(session.trust.anchors)
    return files


def seal_run(session: Session, case: Case, run: Run, operator: Signer) -> Path:
    """Seal the run's record and enter it into the ledger; returns the bag."""
    files = _case_files(session, case) | _form_files(session, _run_forms(session, case, run, operator), "form")
    if case.request and run.plan["operation"] != "clean":
        files |= _form_files(session, case_forms.request_forms(session, case), "permintaan")
        planned = case_forms.plan_form(session, case)
        files |= _form_files(session, [planned], "perencanaan") if planned else {}
    files |= {
        "plan.json": fsio.canonical_json(run.plan),
        "evidence.json": (
            json.dumps(run.outcome.evidence, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
        ).encode(),
        "run/events.jsonl.zst": run.folder / "events.jsonl.zst",
        "run/stdout.txt": run.folder / "stdout.txt",
        "run/inventory.json": run.inventory,
        "run/known_hosts": run.known_hosts.encode(),
        "run/result.json": fsio.canonical_json(result_json(run)),
        "versions.json": fsio.canonical_json(
            {
                **content.versions(),
                "code": session.code,
                "root": session.trust.root_source,
                "mode": control.mode(session.site),
            }
        ),
    }
    if outcomes.exit_code(run) is ExitCode.FAILED_DOWN:
        page = escalation.escalate(run, operator.person.id, run.finished)
        files["escalation.txt"] = escalation_page.text(page, session.site.tz).encode()
    if run.plan_signature:
        files["plan.json.sig"] = run.plan_signature
    if run.plan["operation"] == "backup" and session.site.schedule_path.exists():
        files["schedule.yml"] = fsio.read_strict(session.site.schedule_path)
        signature = session.site.schedule_path.with_name("schedule.yml.sig")
        if signature.exists():
            files["schedule.yml.sig"] = fsio.read_strict(signature)
    info = {
        "Source-Organization": session.site.config.agency.nama,
        "External-Description": f"{run.plan['operation']} {case.id}",
        "Sop-Case": case.id,
        "Sop-Operator": operator.person.id,
    }
    bag = archive.seal_record(
        session.site.archive, run.id, "run", files, info, sign=lambda data: session.sign(data, "sop-record", operator)
    )
    session.ledger.append(
        "record", run.id, {"tagmanifest": fsio.sha256_file(bag / "tagmanifest-sha256.txt")}, unique=True
    )
    for name in ("events.jsonl.zst", "stdout.txt"):
        (run.folder / name).unlink(missing_ok=True)
    run.folder.rmdir()
    witnessing.after_sealing(session, operator)
    return bag


def _run_forms(session: Session, case: Case, run: Run, operator: Signer) -> list[forms.Form]:
    if run.plan["operation"] == "backup":
        return [run_forms.backup_form(session, case, run, operator)]
    if run.plan["operation"] == "clean":
        return [run_forms.clean_form(session, case, run, operator)]
    return list(run_forms.restore_forms(session, case, run, operator))


def result_json(run: Run) -> Json:
    """What the run did, in one small file."""
    outcome = run.outcome
    return {
        "schema": "sop-run/v1",
        "run": run.id,
        "check": run.check,
        "started": run.started,
        "finished": run.finished,
        "rc": outcome.rc,
        "status": outcome.status,
        "changed": outcome.changed,
        "events": outcome.events,
        "interrupted": outcome.interrupted,
        "stats": outcome.stats,
        "failures": outcome.failures,
        "unreachable": outcome.unreachable,
        "problems": outcome.problems,
    }


def _form_files(session: Session, made: Sequence[forms.Form], name: str) -> dict[str, bytes | Path]:
    files: dict[str, bytes | Path] = {}
    for at, form in enumerate(made, 1):
        stem = name if at == 1 else f"{name}-{at:02d}"
        data = fsio.canonical_json(forms.form_json(form))
        html = forms.render_html(form, session.site.templates)
        files |= {f"{stem}.json": data, f"{stem}.html": html.encode()}
        if session.site.config.forms.pdf:
            try:
                files[f"{stem}.pdf"] = paper.pdf(html, data, form.header.date, places=signed_pdf.MARGIN_FIELDS)
            except paper.NoPrinter as error:
                if at == 1:
                    session.say(f"{error.message}; the record has its form as a page and as data")
    return files


def seal_case(session: Session, case: Case, signer: Signer) -> Path:
    """Seal the closed case: its documents, and its forms as they ended, with everybody who signed on them."""
    files = _case_files(session, case)
    requested = case_forms.request_forms(session, case) if case.request else []
    done = _finished_forms(session, case)
    files |= _form_files(session, done or requested, "form")
    if done:
        files |= _form_files(session, requested, "permintaan")
    if planned := case_forms.plan_form(session, case):
        files |= _form_files(session, [planned], "perencanaan")
    for name in letters.names(case.folder):
        digest = letters.digest(case.folder / letters.FOLDER / name)
        files[f"attachments/{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.sha256"] = f"{digest}\n".encode()
    state = case.state
    files["case.json"] = fsio.canonical_json(
        {
            "schema": "sop-case/v1",
            "case": case.id,
            "outcome": state.outcome,
            "runs": [line.ref.split("/")[1] for line in approval.executions(session.context(), case.id)],
        }
    )
    info = {
        "Source-Organization": session.site.config.agency.nama,
        "External-Description": f"case {case.id}: {state.outcome}",
        "Sop-Case": case.id,
    }
    bag = _unlisted(session, f"{case.id}-C") or archive.seal_record(
        session.site.archive,
        f"{case.id}-C",
        "case",
        files,
        info,
        sign=lambda data: session.sign(data, "sop-record", signer),
    )
    session.ledger.append(
        "record", f"{case.id}-C", {"tagmanifest": fsio.sha256_file(bag / "tagmanifest-sha256.txt")}, unique=True
    )
    witnessing.after_sealing(session, signer)
    return bag


def seal_maintenance(
    session: Session, record: str, files: Mapping[str, bytes | Path], signer: Signer, said: str
) -> Path:
    """Seal what maintenance of the vault (or another act beside the cases) came to, and enter it into the ledger; returns the
    bag. EvidenceError when the ledger knows such a record already, and the archive does not hold it."""
    if session.ledger.find("record", record):
        raise EvidenceError("the ledger has this record already", where=record, hint="sopctl audit verify says more.")
    common: dict[str, bytes | Path] = {
        "trust/trust.yml": session.trust.data,
        "trust/trust.yml.sig": session.trust.signature,
        "trust/allowed_signers": session.trust.allowed_signers().encode(),
        "versions.json": fsio.canonical_json({**content.versions(), "code": session.code}),
    }
    info = {
        "Source-Organization": session.site.config.agency.nama,
        "External-Description": said,
        "Sop-Operator": signer.person.id,
    }
    bag = archive.seal_record(
        session.site.archive,
        record,
        "supplement",
        common | dict(files),
        info,
        sign=lambda data: session.sign(data, "sop-record", signer),
    )
    session.ledger.append(
        "record", record, {"tagmanifest": fsio.sha256_file(bag / "tagmanifest-sha256.txt")}, unique=True
    )
    witnessing.after_sealing(session, signer)
    return bag


def adopt(session: Session, record: str) -> Path | None:
    """Enter a record into the ledger that a killed command had put into place; None when there is none. EvidenceError when it
    does not hold."""
    if session.ledger.find("record", record) or (bag := _unlisted(session, record)) is None:
        return None
    digest = fsio.sha256_file(bag / "tagmanifest-sha256.txt")
    session.ledger.append("record", record, {"tagmanifest": digest}, unique=True)
    session.say(f"record {record} was sealed when a command broke off, and is entered into the ledger now")
    return bag


def _unlisted(session: Session, record: str) -> Path | None:
    """A bag that a killed command put into place without entering it into the ledger; EvidenceError when it does not
    hold."""
    path = archive.record_path(session.site.archive, record)
    if path is None:
        return None

    def check(data: bytes, signature: bytes) -> list[str]:
        try:
            key = signing.verify(data, signature, "sop-record")
        except signing.BadSignature as error:
            return [str(error)]
        return [] if session.trust.key_holder(key, clock.now()) else ["the key is nobody's in the trust"]

    if findings := fixity.verify_record(path, check):
        raise EvidenceError(findings[0].meaning, where=f"{path}/{findings[0].file}", hint="Move the folder away.")
    return path


def _finished_forms(session: Session, case: Case) -> list[forms.Form]:
    """The forms of the case's last execution, now with all steps and the inspector; none when nothing was executed."""
    found: list[forms.Form] = []
    folder = archive.record_path(session.site.archive, str(case.body("execute").get("record")))
    confirmed = case.last("confirm")
    for path in sorted((folder / "data").glob("form*.json")) if folder else []:
        form = forms.form_from_json(fsio.parse_json_strict(fsio.read_strict(path), str(path)), str(path))
        if isinstance(form, forms.RestoreRequestForm | forms.PlanForm | forms.CleanForm | forms.ReviewForm):
            raise SopctlError("a run's form is no execution's", where=str(path))
        checker = filing.signed(session, confirmed) if confirmed else form.checker
        head = replace(form.header, ledger_head=str(session.ledger.head()), emergency=filing.emergency(session, case))
        found.append(replace(form, header=head, checker=checker, steps=filing.steps(session, case, None, "")))
    return found
