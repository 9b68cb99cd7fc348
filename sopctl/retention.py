# SPDX-License-Identifier: Apache-2.0
"""Which backups may be forgotten: decided by our own records, and the times at which the ledger received them. Pure.

What restic says of a snapshot (its time, its tags) counts for nothing: whoever can write into the vault can say anything there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sopctl import clock
from sopctl.models import Keep
from sopctl.vault import Backup

#: how each of Keep's spans is named by a moment in it
_SPANS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: (at.year,),
}


@dataclass(frozen=True)
class Verdict:
    """What becomes of one backup; ``why`` it stays, empty when it goes."""

    backup: Backup
    received: str
    why: str

    @property
    def goes(self) -> bool:
        """Whether it may be forgotten."""
        return not self.why


@dataclass(frozen=True)
class Wanted:
    """What backups are wanted for besides retention: ``cases`` (dataset → open cases that ask for it), ``kept`` (snapshot or
    case in lower letters → what is still kept of that restore)."""

    cases: Mapping[str, Collection[str]]
    kept: Mapping[str, str]


def verdicts(
    backups: Iterable[Backup],
    received: Mapping[str, str],
    keep: Mapping[str, Keep | None],
    wanted: Wanted,
    now: str,
    safety_days: int,
    tz: ZoneInfo,
) -> list[Verdict]:
    """What becomes of each backup, oldest first. ``received``: record → when the ledger received it; ``keep``: dataset → its
    retention, None for none: nothing of it goes. ``safety_days``: how long what a restore replaced is kept at least."""
    by_dataset: dict[str, list[Backup]] = {}
    for backup in backups:
        if not backup.forgotten:
            by_dataset.setdefault(backup.dataset, []).append(backup)
    found: list[Verdict] = []
    for dataset, own in by_dataset.items():
        own.sort(key=lambda each: (received[each.record], each.started, each.snapshot))
        slots = _slots(own, received, keep.get(dataset), tz)
        good = [each for each in own if each.proven and not each.safety]
        for backup in own:
            why = _wanted(backup, wanted) or slots.get(backup.snapshot, "")
            if keep.get(dataset) is None:
                why = why or "no retention is set for it"
            elif backup.safety:
                until = clock.plus(received[backup.record], days=safety_days)
                why = why or (f"what a restore replaced is kept until {until}" if now < until else "")
            elif not good or own.index(backup) >= own.index(good[-1]):
                why = why or (
                    "the newest verified one" if good and backup is good[-1] else "newer than any verified one"
                )
            found.append(Verdict(backup, received[backup.record], why))
    return sorted(found, key=lambda each: (each.received, each.backup.snapshot))


def _slots(own: list[Backup], received: Mapping[str, str], keep: Keep | None, tz: ZoneInfo) -> dict[str, str]:
    """Snapshot → the span it is kept for: of each span with a verified backup the newest, as many spans as are kept."""
    found: dict[str, str] = {}
    for span, name_of in _SPANS.items():
        left = getattr(keep, span) if keep else 0
        seen: set[tuple[int, ...]] = set()
        for backup in reversed(own):
            name = name_of(clock.parse(received[backup.record]).astimezone(tz))
            if backup.proven and not backup.safety and name not in seen and len(seen) < left:
                seen.add(name)
                found.setdefault(backup.snapshot, f"kept as {span}")
    return found


def _wanted(backup: Backup, wanted: Wanted) -> str:
    if cases := sorted(wanted.cases.get(backup.dataset, [])):
        return f"{', '.join(cases)} asks for its dataset and is open"
    for key, what in wanted.kept.items():
        if key in {backup.snapshot, *backup.lies} or backup.period.startswith(f"{key}-"):
            return what
    return ""
