# SPDX-License-Identifier: Apache-2.0
"""Is anything missing? Every executed case has its record, every record its case and its line, every past month its form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sopctl import archive, attachments, broken_runs, locks, vault
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
from sopctl.remembered import Remembered
from sopctl.session import Session
from sopctl.signed_pdf import MAX_BYTES

#: the case that a line is about, and its year
_ABOUT = re.compile(r"[A-Z]{3}-([0-9]{4})-[0-9]{4}(?=[/-]|$)")
CHECK_RUN = "CEK-"  # runs that only said what they would change: they have no case


def missing(session: Session, lines: list[LedgerLine]) -> list[Finding]:
    """What the site's cases, ledger and records do not say of each other, but for each case's own (:func:`of_cases`). Only for
    the site's own archive."""
    records = {line.ref for line in lines if line.kind == "record"}
    found = [*_runs(lines, records), *_misplaced(session.site.cases)]
    found += [
        Finding("broken", "register", "register/reviews", "review-altered", problem)
        for problem in session.context().reviews.problems
    ]
    found += _record_cases(session, records, {line.ref.split("/")[0] for line in lines if line.kind == "document"})
    return found + list(_months(session))


@dataclass(frozen=True)
class CaseLines:
    """A case's folder (which may be gone), and the ledger's lines about it and its records."""

    id: str
    folder: Path
    lines: list[LedgerLine] = field(default_factory=list)


def cases_of(session: Session, lines: list[LedgerLine]) -> list[CaseLines]:
    """Every case that has a folder, or of which the ledger received a document, by its id."""
    root = session.site.cases
    there = {folder.name for folder in cases.case_folders(root)}
    found = {name: CaseLines(name, _folder(root, name)) for name in there}
    for line in lines:
        match = _ABOUT.match(line.ref)
        if match and (match[0] in found or (line.kind == "document" and re.fullmatch(CASE_PATTERN, match[0]))):
            found.setdefault(match[0], CaseLines(match[0], _folder(root, match[0]))).lines.append(line)
    return [found[name] for name in sorted(found)]


def _folder(root: Path, case_id: str) -> Path:
    """Where a case lies, and nowhere else."""
    return root / case_id.split("-")[1] / case_id


def _misplaced(root: Path) -> Iterator[Finding]:
    """Folders of cases that lie where no command looks."""
    for folder in cases.case_folders(root):
        if folder != _folder(root, folder.name):
            place = f"cases/{folder.parent.name}/{folder.name}"
            meaning = f"lies in another year than its own ({_folder(root, folder.name).parent.name}): no command reads it there"
            yield Finding("broken", folder.name, place, "case-misplaced", meaning)


def of_cases(session: Session, chosen: Sequence[CaseLines], remembered: Remembered) -> list[Finding]:
    """What speaks against these cases: documents that are not those which the ledger received, and records that they lack."""
    found: list[Finding] = []
    for case in chosen:
        records = {line.ref for line in case.lines if line.kind == "record"}
        if f"{case.id}-C" in records:  # it is closed and sealed, and time changes nothing about it any more
            by = case.lines[-1].digest
            found += remembered.once(f"cases/{case.id}", by, [case.folder], partial(_of_case, session, case, records))
        else:
            found += _of_case(session, case, records)
    return found


def _of_case(session: Session, case: CaseLines, records: set[str]) -> list[Finding]:
    if case.folder.is_symlink():
        meaning = "a link lies in the place of its folder"
        return [Finding("broken", case.id, _place(case), "case-missing", meaning)]
    found = list(_documents(case))
    if not case.folder.is_dir():
        return found
    try:
        return found + list(_case(cases.load_case(case.folder, session.site.profile.profile), case.lines, records))
    except SopctlError as error:
        return [*found, Finding("unchecked", case.id, _place(case), "case-unreadable", error.message)]


def _place(case: CaseLines) -> str:
    return f"cases/{case.folder.parent.name}/{case.id}"


def _runs(lines: list[LedgerLine], records: set[str]) -> Iterator[Finding]:
    """Each run that was started against the records. A run that was killed has none, until the next command seals it."""
    for line in lines:
        run = line.ref.partition("/")[2]
        if line.kind == "run-started" and not {run, broken_runs.record_of(run)} & records:
            meaning = f"the run began at {line.at} and has no record: it was killed, or its record's line is gone"
            yield Finding("unchecked", run, f"ledger.jsonl:{line.seq}", "run-unrecorded", meaning)


def _documents(case: CaseLines) -> Iterator[Finding]:
    """Each document that was received against the file in its case."""
    place = _place(case)
    for line in case.lines:
        number = line.ref.partition("/")[2]
        if line.kind != "document" or not number.isdecimal():
            continue  # the last are no line that sopctl writes
        if not case.folder.is_dir():
            meaning = "the ledger received documents of it; its folder is gone"
            yield Finding("broken", case.id, place, "case-missing", meaning)
            return
        paths = [path for path in case.folder.glob(f"{number}-*.json") if path.is_file()]
        if len(paths) != 1:
            meaning = f"the ledger received document {number}; the folder holds {len(paths)} of that number"
            yield Finding("broken", case.id, place, "document-missing", meaning)
            continue
        name = f"{place}/{paths[0].name}"
        paper = paths[0].with_suffix(".pdf")
        signature = paper if paper.is_file() else paths[0].with_name(paths[0].name + ".sig")
        for what, path in (("document", paths[0]), ("signature", signature)):
            try:
                digest = sha256_bytes(read_strict(path, MAX_BYTES))
            except ConfigError as error:
                file = f"{place}/{path.name}"
                yield Finding("broken", case.id, file, "document-missing", f"the {what}: {error.message}")
                continue
            if digest != line.digests.get(what):
                meaning = f"the {what} is not the one that the ledger received at {line.at}"
                yield Finding("broken", case.id, name, "document-altered", meaning)


def _case(case: Case, lines: list[LedgerLine], records: set[str]) -> Iterator[Finding]:
    place = f"cases/{case.folder.parent.name}/{case.id}"
    for filed in case.filed:
        record = str(filed.document.body.get("record", "")) if filed.document.act == "execute" else ""
        if record and record not in records:
            meaning = f"document {filed.path.name} names record {record}, and the ledger has no line of it"
            yield Finding("broken", case.id, f"{place}/{filed.path.name}", "case-unrecorded", meaning)
    for reason in attachments.wrong(case, lines):
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
