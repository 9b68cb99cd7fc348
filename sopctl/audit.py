# SPDX-License-Identifier: Apache-2.0
"""Checking an archive: records, their signatures and documents, and the ledger that ties them together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from sopctl import archive as archives
from sopctl import (
    clock,
    completeness,
    coverage,
    fixity,
    fsio,
    parallel,
    register,
    stamp_check,
    stamps,
    witness_copies,
)
from sopctl.completeness import CaseLines
from sopctl.errors import SopctlError, UsageError
from sopctl.findings import Finding
from sopctl.ledger import Ledger, LedgerLine
from sopctl.record_check import RecordCheck
from sopctl.remembered import Remembered, Taken
from sopctl.session import Session
from sopctl.stamps import Pins
from sopctl.trust import roots

T = TypeVar("T")

#: so many records are one job
PORTION = 50
#: below so many records other processes cost more than they save
MANY = 200


def verify(session: Session, archive: Path, only: list[str]) -> tuple[list[Finding], int]:
    """Findings over the archive (or the records ``only``), and how many records were looked at. Never repairs."""
    if not archive.is_dir():
        raise UsageError("the archive does not exist", where=str(archive))
    ledger = Ledger(archive / "ledger.jsonl")
    findings, lines = _ledger(ledger)
    records = _records(archive, only)
    check = RecordCheck(session, lines, None)
    for record in records:
        findings += check.findings(record)
    if not only:
        findings += fixity.compare_archive(archive, records, check.digests)
    if lines:
        findings += _stamps(session, archive, lines, set(only) or None).findings
    return findings, len(records)


def _ledger(ledger: Ledger) -> tuple[list[Finding], list[LedgerLine]]:
    """What is wrong with it, and its lines; none where the chain is broken: what hangs on it is then compared with nothing."""
    findings = ledger.verify()
    try:
        return findings, ledger.lines()
    except SopctlError:
        return findings, []


def _records(archive: Path, only: Collection[str]) -> list[Path]:
    """The records that are looked at. UsageError when one of ``only`` is not there."""
    everything = archives.list_records(archive)
    known = {path.name for path in everything}
    for record_id in only:
        if record_id not in known:
            raise UsageError(f"record {record_id!r} does not exist", hint="See sopctl record list.")
    return [path for path in everything if path.name in only] if only else everything


def _stamps(
    session: Session, archive: Path, lines: list[LedgerLine], records: set[str] | None, *, whole: bool = False
) -> stamp_check.Examined:
    """The time stamps of ``records`` (None: all); ``whole``: of checkpoints too, and what belongs to nothing. Nothing is read
    where no authority was ever named."""
    ever = (archive / stamps.FOLDER).exists() or any(line.kind == stamps.LEDGER_KIND for line in lines)
    if not ever and not session.trust.file.settings.get(register.TIMESTAMPS):
        return stamp_check.Examined([], 0)
    known = coverage.known_trusts(session, archive, lines)
    settings = {digest: trust.file.settings.get(register.TIMESTAMPS) for digest, trust in known.items()}
    config = session.site.config
    own = fsio.sha256_bytes(stamps.authorities_bytes(config)), config.timestamps
    everything = stamps.subjects(archive, lines)
    chosen = [
        one for one in everything if (whole if one.kind == "checkpoint" else records is None or one.name in records)
    ]
    return stamp_check.examine(Pins(archive, lines, settings, own), chosen, everything, whole=whole)


# --- the whole archive -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Audit:
    """What was found; how many records were looked at; how many lines the ledger has, and how many of them a checkpoint
    and a witness (its signature, or its copy that was given) cover; how many time stamps hold; how many records were looked at
    anew, and how many are remembered to be whole."""

    findings: list[Finding]
    records: int
    lines: int
    covered: int
    witnessed: int
    stamped: int
    read: int
    reused: int


def verify_all(
    session: Session,
    archive: Path,
    *,
    copies: Sequence[Path] = (),
    since: str = "",
    full: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Audit:
    """Records (with ``since``: a date or a record, those received from then on), ledger, checkpoints, and witnesses' copies;
    of the site's own archive also whether cases, records and months are all there.

    What was found whole and has not changed since is not read again, unless ``full``. Never repairs. UsageError when a copy
    is none, or ``since`` neither date nor record.
    """
    if not archive.is_dir():
        raise UsageError("the archive does not exist", where=str(archive))
    own = archive.resolve() == session.site.archive.resolve()
    keep = session.site.state / "audit" if own and not full else None
    remembered = Remembered(archive, keep, _basis(session) if keep else ())
    given = [witness_copies.read_copy(path, session.site.config.site) for path in copies]
    findings, lines = _ledger(Ledger(archive / "ledger.jsonl"))
    if remembered.remark:
        session.say(remembered.remark)
    only = set(_since(lines, since)) if since else set()
    records = [path for path in archives.list_records(archive) if not since or path.name in only]
    check = RecordCheck(session, lines, remembered)

    def look(portion: Sequence[Path]) -> _Looked:
        found = [finding for record in portion for finding in check.findings(record)]
        return _Looked(found, len(portion), taken=remembered.taken())

    def ends() -> _Looked:
        held = coverage.examine(session, archive, lines, given, remembered)
        return _Looked(held.findings, covered=held.covered, witnessed=held.witnessed, taken=remembered.taken())

    def stamped() -> _Looked:
        done = _stamps(session, archive, lines, only if since else None, whole=True)
        return _Looked(done.findings, stamped=done.good)

    def whole() -> _Looked:
        return _Looked(completeness.missing(session, lines) if own else [_copy_only()])

    def their(portion: Sequence[CaseLines]) -> _Looked:
        return _Looked(completeness.of_cases(session, portion, remembered), taken=remembered.taken())

    # what takes longest comes first
    others: list[Callable[[], _Looked]] = [ends, stamped, whole] if lines else []
    portions: list[Callable[[], _Looked]] = [partial(look, portion) for portion in _portions(records)]
    if lines and own:
        others += [partial(their, portion) for portion in _portions(completeness.cases_of(session, lines))]
    parts: list[_Looked] = []
    done = 0
    for part in parallel.results([*others, *portions], apart=len(records) >= MANY):
        parts.append(part)
        if part.taken:
            remembered.add(part.taken)
        if part.records:
            done += part.records
            progress(done, len(records))
    for part in [*parts[len(others) :], *parts[: len(others)]]:  # what is wrong with records is told first
        findings += part.findings
    if since:
        there = {path.name for path in records}
        findings += fixity.gone(name for name in only if name not in there)
    else:
        findings += fixity.compare_archive(archive, records, check.digests)
    try:
        remembered.save(whole=not since)
    except (SopctlError, OSError):  # an auditor may read the site and not write to it
        session.say("what was read could not be remembered: the next audit reads every file again")
    covered, witnessed, good = (
        sum(getattr(part, name) for part in parts) for name in ("covered", "witnessed", "stamped")
    )
    return Audit(findings, len(records), len(lines), covered, witnessed, good, remembered.read, remembered.reused)


@dataclass(frozen=True)
class _Looked:
    """What one part of an audit found: some records, or checkpoints and witnesses, or time stamps, or what is missing."""

    findings: list[Finding]
    records: int = 0
    covered: int = 0
    witnessed: int = 0
    stamped: int = 0
    taken: Taken | None = None


def _portions(things: Sequence[T]) -> Iterator[Sequence[T]]:
    return (things[first : first + PORTION] for first in range(0, len(things), PORTION))


def _basis(session: Session) -> list[str]:
    """What everything in the archive is judged by."""
    roots_now = sorted(roots(session.site.root).keys())
    return [session.site.config.site, session.trust.digest, session.code, *roots_now]


def _copy_only() -> Finding:
    meaning = "a copy of the archive alone: whether each case and month is there is seen from the site's own archive"
    return Finding("unchecked", "archive", "", "copy-only", meaning)


def _since(lines: list[LedgerLine], since: str) -> list[str]:
    """Records whose line was received on that day or later, or from the line of that record on."""
    records = [line for line in lines if line.kind == "record"]
    for at, line in enumerate(records):
        if line.ref == since:
            return [one.ref for one in records[at:]]
    if clock.is_time(f"{since}T00:00:00Z"):
        return [line.ref for line in records if line.at[:10] >= since]
    raise UsageError(
        f"{since!r} is neither a date nor a record of the ledger", where="--since", hint="2026-11-01, say."
    )
