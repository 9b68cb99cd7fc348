# SPDX-License-Identifier: Apache-2.0
"""What the report rests on: records as they were sealed, cases, the register, and what `audit verify` found.

Nothing that does not follow from the ledger down to its bytes is believed: such a record is listed, and speaks of nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sopctl import approval, archive, clock, fsio, loading, locks, vault
from sopctl import case as cases
from sopctl.audit import Audit, verify_all
from sopctl.case import Case
from sopctl.errors import SopctlError, UsageError
from sopctl.findings import Finding
from sopctl.ledger import Ledger, LedgerLine
from sopctl.models import Json, Schedule
from sopctl.profile import LoadedProfile
from sopctl.session import Session
from sopctl.vault import Backup

_PERIOD = re.compile(r"(20\d\d)(?:-(0[1-9]|1[0-2]))?", re.ASCII)
_RECORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{1,79}", re.ASCII)
_FORM = re.compile(r"[a-z0-9-]{1,60}", re.ASCII)
#: what a hand-made record's evidence can make a fold trip over
_MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, SopctlError)


@dataclass(frozen=True)
class Record:
    """One sealed record. ``month``: of its folder, ``2026-11``; ``sealed``: when the ledger received it, empty when it did not.

    ``operation``: backup, restore, clean, case, vault (maintenance), check (a run that only looked) or empty. ``doubt``: why it
    is not believed; then ``evidence``, ``result``, ``forms`` and the times are empty. ``forms``: stems of its papers.
    """

    id: str
    path: Path
    month: str
    kind: str = ""
    what: str = ""
    operation: str = ""
    case: str = ""
    operator: str = ""
    sealed: str = ""
    digest: str = ""  # of its tag manifest, as the ledger has it
    result: str = ""
    started: str = ""
    finished: str = ""
    doubt: str = ""
    evidence: list[Json] = field(default_factory=list)
    forms: tuple[str, ...] = ()
    rows: list[Json] = field(default_factory=list)  # of a backup's form: dataset and its result

    @property
    def plain(self) -> bool:
        """Whether its id may stand in a file name and a link."""
        return bool(_RECORD.fullmatch(self.id))


@dataclass(frozen=True)
class Facts:
    """Everything of one site, at ``at`` (UTC), of ``period`` (a year, a month, or empty for all).

    ``audit`` is None where nothing was verified. ``lines`` is empty where there is no ledger. ``unread``: cases that
    cannot be read, with the reason. ``orders``: standing orders, the oldest first, that records or the site hold.
    """

    session: Session
    at: str
    period: str
    audit: Audit | None
    lines: list[LedgerLine]
    records: list[Record]
    cases: list[Case]
    unread: dict[str, str]
    backups: list[Backup]
    orders: list[Schedule]

    @property
    def tz_name(self) -> str:
        """Name of the agency's time zone."""
        return self.session.site.config.timezone

    def month_of(self, moment: str) -> str:
        """The agency's month in which a moment lies, ``2026-11``; empty for what is no moment."""
        if not clock.is_time(moment):
            return ""
        return clock.parse(moment).astimezone(self.session.site.tz).strftime("%Y-%m")

    def within(self, month: str) -> bool:
        """Whether a month belongs to the period."""
        return month.startswith(self.period)

    @property
    def findings(self) -> list[Finding]:
        """What `audit verify` found, the broken first."""
        found = list(self.audit.findings) if self.audit else []
        return sorted(found, key=lambda one: (one.severity != "broken", one.record, one.file))

    def state(self, name: str) -> str:
        """``verified``, ``broken``, ``unchecked`` (could not check) or ``unverified`` (was not looked at) of a record or case."""
        if self.audit is None:
            return "unverified"
        return self._worst.get(name, "verified")

    @cached_property
    def _worst(self) -> dict[str, str]:
        """Record or case → the worst that was found of it."""
        found: dict[str, str] = {}
        for one in reversed(self.findings):  # the broken last
            found[one.record] = one.severity
        return found


def check_period(period: str) -> str:
    """``period`` if it is a year or a month (or empty); UsageError else."""
    if period and not _PERIOD.fullmatch(period):
        raise UsageError(f"{period!r} is no period", where="--period", hint="Write a year or a month: 2026, 2026-11.")
    return period


def collect(
    session: Session,
    *,
    period: str = "",
    check: bool = True,
    copies: Sequence[Path] = (),
    full: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Facts:
    """Read the site. UsageError when it has no archive, ConfigError when its register or settings cannot be read,
    EvidenceError when the ledger's chain is broken: what hangs on it could not be told from what does not."""
    session.reading = True
    site = session.site
    if not site.archive.is_dir():
        raise UsageError("the archive does not exist", where=str(site.archive), hint="It comes with the first record.")
    audit = verify_all(session, site.archive, copies=copies, full=full, progress=progress) if check else None
    lines = Ledger(site.archive / "ledger.jsonl").lines()
    received = {line.ref: line for line in lines if line.kind == "record"}
    orders: dict[str, Schedule] = {}
    records = [_record(path, received, orders) for path in archive.list_records(site.archive)]
    records, backups = _catalogue(session, records)
    _present_order(session, orders)
    readable, unread = _cases(session, site.profile)
    return Facts(
        session=session,
        at=session.started,
        period=check_period(period),
        audit=audit,
        lines=lines,
        records=[record for record in records if record.month.startswith(period)],
        cases=readable,
        unread=unread,
        backups=backups,
        orders=sorted(orders.values(), key=lambda order: order.valid.since),
    )


def _record(path: Path, received: Mapping[str, LedgerLine], orders: dict[str, Schedule]) -> Record:
    line = received.get(path.name)
    known: dict[str, Any] = {
        "id": path.name,
        "path": path,
        "month": f"{path.parent.parent.name}-{path.parent.name}",
        "sealed": line.at if line else "",
        "digest": line.digests.get("tagmanifest", "") if line else "",
    }
    sealed = {path.name: line.digests.get("tagmanifest")} if line else {}
    try:
        info = _info(path, sealed)
        known |= {
            "kind": info.get("Sop-Record-Kind", ""),
            "what": info.get("External-Description", ""),
            "case": info.get("Sop-Case", ""),
            "operator": info.get("Sop-Operator", ""),
        }
        evidence = _json(path, "evidence.json", sealed)
        ran, form, closed = (_json(path, name, sealed) for name in ("run/result.json", "form.json", "case.json"))
        _order(path, sealed, orders)
    except SopctlError as error:
        return Record(**known, doubt=error.message)
    ran, form, closed = (value if isinstance(value, dict) else {} for value in (ran, form, closed))
    head = form.get("header")
    rows = form.get("rows")
    return Record(
        **known,
        operation=_operation(path.name, known["kind"], known["what"], bool(ran.get("check"))),
        result=_text(closed.get("outcome")) or (_text(head.get("result")) if isinstance(head, dict) else ""),
        started=_moment(ran.get("started")),
        finished=_moment(ran.get("finished")),
        evidence=[entry for entry in evidence if isinstance(entry, dict)] if isinstance(evidence, list) else [],
        forms=tuple(sorted(one.stem for one in (path / "data").glob("*.html") if _FORM.fullmatch(one.stem))),
        rows=[row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else [],
    )


def _info(path: Path, sealed: Mapping[str, str | None]) -> dict[str, str]:
    """bag-info.txt, followed from the ledger's digest of the tag manifest; the first value of each label."""
    data = vault.sealed_tag(path, sealed, "bag-info.txt")
    lines = (line.partition(": ") for line in data.decode("utf-8", "replace").splitlines())
    return {label: value for label, colon, value in reversed(list(lines)) if colon}


def _json(path: Path, name: str, sealed: Mapping[str, str | None]) -> Any:
    """A payload file's value; None where the record has none."""
    if not (path / "data" / name).is_file():
        return None
    data = vault.sealed_file(path, sealed, f"data/{name}")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise SopctlError(f"data/{name} is not JSON") from None


def _order(path: Path, sealed: Mapping[str, str | None], orders: dict[str, Schedule]) -> None:
    """The standing order that a backup's record holds; each is read once."""
    place = path / "data/schedule.yml"
    if not place.is_file():
        return
    data = vault.sealed_file(path, sealed, "data/schedule.yml")
    digest = fsio.sha256_bytes(data)
    if digest not in orders:
        orders[digest] = loading.from_yaml(Schedule, data, place)


def _present_order(session: Session, orders: dict[str, Schedule]) -> None:
    """The site's own order. One that does not hold takes no sealed order's place: who may edit it could hide a month."""
    if not session.site.schedule_path.exists():
        return
    try:
        schedule, data, signature = session.site.standing_order()
        reasons = approval.standing_order(session.context(), schedule, data, signature)
    except SopctlError as error:
        session.say(str(error))
        return
    if not reasons or not orders:
        orders[fsio.sha256_bytes(data)] = schedule
    if reasons:
        session.say(f"{session.site.schedule_path.name}: {'; '.join(reasons)}")


def _operation(name: str, kind: str, what: str, check: bool) -> str:
    if name.startswith(locks.MAINTENANCE):
        return "vault"
    if kind == "case":
        return "case"
    if check:
        return "check"
    word = what.partition(" ")[0]
    return word if word in ("backup", "restore", "clean") else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: object) -> str:
    return value if isinstance(value, str) and clock.is_time(value) else ""


def _catalogue(session: Session, records: list[Record]) -> tuple[list[Record], list[Backup]]:
    """The catalogue of what can be believed; a record whose evidence is misshapen is doubted from then on."""
    kept: list[Record] = []
    for record in records:
        try:
            for backup in vault.backups(session.site, {record.id: record.evidence}):
                _check(backup)
            kept.append(record)
        except _MISSHAPEN:
            kept.append(
                replace(record, evidence=[], forms=(), rows=[], result="", doubt="its evidence is not as runs write it")
            )
    try:
        return kept, vault.backups(session.site, {record.id: record.evidence for record in kept if record.evidence})
    except _MISSHAPEN as error:  # two records that only together make no sense
        session.say(f"the catalogue cannot be made ({type(error).__name__}): the calendar is empty")
        return kept, []


def _check(backup: Backup) -> None:
    words = (backup.dataset, backup.name, backup.period, backup.snapshot)
    if not all(isinstance(word, str) for word in words) or not isinstance(backup.bytes, int):
        raise TypeError("a backup's words")
    for moment in (backup.started, backup.finished):
        clock.seconds_between(moment, moment)


def _cases(session: Session, profile: LoadedProfile) -> tuple[list[Case], dict[str, str]]:
    found: list[Case] = []
    unread: dict[str, str] = {}
    for folder in cases.case_folders(session.site.cases):
        try:
            found.append(cases.load_case(folder, profile.profile))
        except SopctlError as error:
            unread[folder.name] = error.message
    return found, unread
