# SPDX-License-Identifier: Apache-2.0
"""Is anything missing? Every executed case has its record, every record its case and its line, every past month its form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sopctl import archive, locks, vault
from sopctl import case as cases
from sopctl import schedule as schedules
from sopctl.case import Case
from sopctl.clock import now
from sopctl.errors import ConfigError, SopctlError
from sopctl.findings import Finding
from sopctl.fsio import read_strict, sha256_bytes
from sopctl.ledger import LedgerLine
from sopctl.models import CASE_PATTERN
from sopctl.register import REVIEW, SCAN
from sopctl.session import Session
from sopctl.signed_pdf import MAX_BYTES

CHECK_RUN = "CEK-"  # runs that only said what they would change: they have no case


def missing(session: Session, lines: list[LedgerLine]) -> list[Finding]:
    """What the site's cases, ledger and records do not say of each other. Only for the site's own archive."""
    records = {line.ref for line in lines if line.kind == "record"}
    found = [*_runs(lines, records), *_documents(session, lines)]
    found += [
        Finding("broken", "register", "register/reviews", "review-altered", problem)
        for problem in session.context().reviews.problems
    ]
    readable, unreadable = _cases(session)
    found += unreadable
    for case in readable:
        found += _case(case, records)
    found += _record_cases(session, records, {line.ref.split("/")[0] for line in lines if line.kind == "document"})
    return found + list(_months(session))


def _runs(lines: list[LedgerLine], records: set[str]) -> Iterator[Finding]:
    """Each run that was started against the records. A run that was killed has none, until the next command seals it."""
    for line in lines:
        if line.kind == "run-started" and (run := line.ref.partition("/")[2]) not in records:
            meaning = f"the run began at {line.at} and has no record: it was killed, or its record's line is gone"
            yield Finding("unchecked", run, f"ledger.jsonl:{line.seq}", "run-unrecorded", meaning)


def _documents(session: Session, lines: list[LedgerLine]) -> Iterator[Finding]:
    """Each document that was received against the file in its case."""
    for line in lines:
        if line.kind != "document" or "/" not in line.ref:
            continue
        case_id, number = line.ref.split("/", 1)
        if not re.fullmatch(CASE_PATTERN, case_id) or not number.isdecimal():
            continue  # no line that sopctl writes; the case it could speak of has its own
        folder = session.site.cases / case_id.split("-")[1] / case_id
        place = f"cases/{folder.parent.name}/{case_id}"
        if not folder.is_dir():
            if number == "01":
                yield Finding(
                    "broken", case_id, place, "case-missing", "the ledger received documents of it; its folder is gone"
                )
            continue
        paths = [path for path in folder.glob(f"{number}-*.json") if path.is_file()]
        if len(paths) != 1:
            meaning = f"the ledger received document {number}; the folder holds {len(paths)} of that number"
            yield Finding("broken", case_id, place, "document-missing", meaning)
            continue
        name = f"{place}/{paths[0].name}"
        paper = paths[0].with_suffix(".pdf")
        signature = paper if paper.is_file() else paths[0].with_name(paths[0].name + ".sig")
        for what, path in (("document", paths[0]), ("signature", signature)):
            try:
                digest = sha256_bytes(read_strict(path, MAX_BYTES))
            except ConfigError as error:
                yield Finding(
                    "broken", case_id, f"{place}/{path.name}", "document-missing", f"the {what}: {error.message}"
                )
                continue
            if digest != line.digests.get(what):
                meaning = f"the {what} is not the one that the ledger received at {line.at}"
                yield Finding("broken", case_id, name, "document-altered", meaning)


def _cases(session: Session) -> tuple[list[Case], list[Finding]]:
    found: list[Case] = []
    wrong: list[Finding] = []
    for folder in cases.case_folders(session.site.cases):
        try:
            found.append(cases.load_case(folder, session.site.profile.profile))
        except SopctlError as error:
            place = f"cases/{folder.parent.name}/{folder.name}"
            wrong.append(Finding("unchecked", folder.name, place, "case-unreadable", error.message))
    return found, wrong


def _case(case: Case, records: set[str]) -> Iterator[Finding]:
    place = f"cases/{case.folder.parent.name}/{case.id}"
    for filed in case.filed:
        record = str(filed.document.body.get("record", "")) if filed.document.act == "execute" else ""
        if record and record not in records:
            meaning = f"document {filed.path.name} names record {record}, and the ledger has no line of it"
            yield Finding("broken", case.id, f"{place}/{filed.path.name}", "case-unrecorded", meaning)
    for reason in cases.attachments_wrong(case):
        yield Finding("broken", case.id, f"{place}/attachments", "attachment", reason)
    if case.filed and case.state.closed and f"{case.id}-C" not in records:
        meaning = f"the case is closed and has no record: sopctl case seal {case.id}, unless it had one"
        yield Finding("unchecked", case.id, place, "case-unsealed", meaning)


def _record_cases(session: Session, records: set[str], received: set[str]) -> Iterator[Finding]:
    """Each record of a case against the case's folder; where the ledger received documents of it, those are missed already."""
    known = received | {folder.name for folder in cases.case_folders(session.site.cases)}
    for path in archive.list_records(session.site.archive):
        name = path.name
        if name not in records or name.startswith((locks.MAINTENANCE, CHECK_RUN, SCAN, REVIEW)):
            continue
        case_id = "-".join(name.split("-")[:3])
        if case_id not in known and re.fullmatch(CASE_PATTERN, case_id):
            place = f"cases/{case_id.split('-')[1]}/{case_id}"
            yield Finding(
                "unchecked",
                name,
                place,
                "record-without-case",
                f"the record is of case {case_id}, whose folder is gone",
            )


def _months(session: Session) -> Iterator[Finding]:
    """Each past period of the standing order against the verified backups: at most twelve back."""
    path: Path = session.site.schedule_path
    if not path.exists():
        return
    try:
        due = schedules.status(session.site.schedule(), vault.catalogue(session.site), now(), session.site.tz)
    except SopctlError as error:
        yield Finding("unchecked", "schedule", path.name, "schedule-unreadable", error.message)
        return
    for entry in due:
        for period in entry.missed:
            meaning = f"{entry.entry.dataset} has no verified backup for {period}: it was not made, failed, or its record is gone"
            yield Finding("unchecked", "schedule", path.name, "period-missing", meaning)
