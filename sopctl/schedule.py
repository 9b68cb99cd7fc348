# SPDX-License-Identifier: Apache-2.0
"""The Jadwal Back Up: what is due, what is proven, what was missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sopctl import clock
from sopctl.models import Schedule, ScheduleEntry
from sopctl.vault import Backup


@dataclass(frozen=True)
class Due:
    """One line of the schedule now. ``missed`` are past periods (at most twelve) without a verified backup."""

    entry: ScheduleEntry
    period: str
    done: Backup | None
    last_verified: Backup | None
    missed: list[str]

    @property
    def due(self) -> bool:
        """Whether this period has no verified backup yet."""
        return self.done is None


def status(schedule: Schedule, backups: list[Backup], now: str, tz: ZoneInfo) -> list[Due]:
    """Every line of the schedule with what the records prove of it."""
    found = []
    for entry in schedule.entries:
        verified = [backup for backup in backups if backup.dataset == entry.dataset and backup.verified]
        by_period = {clock.period(backup.started, entry.every, tz): backup for backup in verified}
        period = clock.period(now, entry.every, tz)
        missed = [past for past in _past_periods(schedule.valid.since, now, entry.every, tz) if past not in by_period]
        found.append(Due(entry, period, by_period.get(period), verified[-1] if verified else None, missed))
    return found


def _past_periods(since: str, now: str, every: str, tz: ZoneInfo) -> list[str]:
    """Complete periods between ``since`` and now, newest first, at most twelve."""
    current = clock.period(now, every, tz)
    first = clock.parse(since)
    moment = clock.parse(now)
    found: list[str] = []
    while moment >= first and len(found) < 12:
        moment -= timedelta(days=1)
        period = clock.period(clock.stamp(moment), every, tz)
        begins_inside = clock.period(
            clock.stamp(moment - timedelta(days=31 if every == "P1M" else 7 if every == "P1W" else 1)), every, tz
        )
        if moment >= first and period != current and period not in found and begins_inside != period:
            found.append(period)
    return [period for period in found if period != clock.period(since, every, tz) or _starts_period(since, every, tz)]


def _starts_period(since: str, every: str, tz: ZoneInfo) -> bool:
    before = clock.stamp(clock.parse(since) - timedelta(days=1))
    return clock.period(before, every, tz) != clock.period(since, every, tz)


def next_due(every: str, now: str, tz: ZoneInfo) -> str:
    """The day on which the next period begins."""
    moment = datetime.strptime(now, clock.FORMAT).replace(tzinfo=UTC)
    period = clock.period(now, every, tz)
    while clock.period(clock.stamp(moment), every, tz) == period:
        moment += timedelta(days=1)
    return moment.astimezone(tz).strftime("%Y-%m-01" if every == "P1M" else "%Y-%m-%d")
