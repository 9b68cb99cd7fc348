# SPDX-License-Identifier: Apache-2.0
"""The Jadwal Back Up: what is due, what is proven, what was missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
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
    """Periods that are over and began on the order's first day or later, newest first, at most twelve."""

    def period(day: date) -> str:
        return clock.period(clock.stamp(datetime.combine(day, time(12), tz)), every, tz)

    first, day = (clock.parse(moment).astimezone(tz).date() for moment in (since, now))
    passed_over = {period(day)}
    if period(first - timedelta(days=1)) == period(first):
        passed_over.add(period(first))  # it had begun before the order
    found: list[str] = []
    while day > first and len(found) < 12:
        day -= timedelta(days=1)
        if (past := period(day)) not in passed_over:
            found.append(past)
            passed_over.add(past)
    return found


def next_due(every: str, now: str, tz: ZoneInfo) -> str:
    """The day on which the next period begins."""
    moment = datetime.strptime(now, clock.FORMAT).replace(tzinfo=UTC)
    period = clock.period(now, every, tz)
    while clock.period(clock.stamp(moment), every, tz) == period:
        moment += timedelta(days=1)
    return moment.astimezone(tz).strftime("%Y-%m-01" if every == "P1M" else "%Y-%m-%d")
