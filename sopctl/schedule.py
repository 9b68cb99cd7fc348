# SPDX-License-Identifier: Apache-2.0
"""The Jadwal Back Up: what is due, what is proven, what was missed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time
from zoneinfo import ZoneInfo

from sopctl import clock, periods
from sopctl.models import Schedule, ScheduleEntry
from sopctl.periods import Period
from sopctl.vault import Backup

#: past periods that are looked at
LOOK_BACK = 12


@dataclass(frozen=True)
class Due:
    """One line of the schedule now. ``missed`` are past periods (at most twelve) without a verified backup, newest first.

    ``startable``: when its next backup may start (UTC); ``runs``: whether that is now, because it is due and its window open.
    ``last_verified`` and ``verified_before`` are the two newest that are verified: their sizes are the trend.
    """

    entry: ScheduleEntry
    period: Period
    done: Backup | None
    last_verified: Backup | None
    verified_before: Backup | None
    missed: list[str]
    overdue: bool
    startable: str
    runs: bool

    @property
    def due(self) -> bool:
        """Whether this period has no verified backup yet."""
        return self.done is None


def status(schedule: Schedule, backups: list[Backup], now: str, tz: ZoneInfo) -> list[Due]:
    """Every line of the schedule with what the records prove of it."""
    return [_line(schedule, entry, backups, now, tz) for entry in schedule.entries]


def _line(schedule: Schedule, entry: ScheduleEntry, backups: list[Backup], now: str, tz: ZoneInfo) -> Due:
    window = schedule.window_of(entry)

    def period_of(backup: Backup) -> str:
        """A scheduled backup's own period; any other serves the one in which it began."""
        if periods.is_own(backup.period, entry.every, tz):
            return backup.period
        return periods.of(backup.started, entry.every, tz, window).name

    # what a restore replaced may be what was broken
    verified = [
        backup for backup in backups if backup.dataset == entry.dataset and backup.verified and not backup.safety
    ]
    by_period = {period_of(backup): backup for backup in verified}
    period = periods.of(now, entry.every, tz, window)
    done = by_period.get(period.name)
    past = _past_periods(schedule.valid.since, period, entry.every, tz)
    missed = [each for each in past if each not in by_period]
    startable = periods.next_due(period, entry.every, tz, window, now) if done else periods.opens(window, now, tz)
    return Due(
        entry=entry,
        period=period,
        done=done,
        last_verified=verified[-1] if verified else None,
        verified_before=verified[-2] if len(verified) > 1 else None,
        missed=missed,
        overdue=done is None and past[:1] == missed[:1] != [],
        startable=startable,
        runs=done is None and startable <= now,
    )


def _past_periods(since: str, period: Period, every: str, tz: ZoneInfo) -> list[str]:
    """Periods before ``period`` that began with the order or after it, newest first, at most twelve.

    The calendar's count from the order's first day on, whatever the hour.
    """
    if every in periods.CALENDAR:
        day = clock.parse(since).astimezone(tz).date()
        since = clock.stamp(datetime.combine(day, time(), tz))
    found: list[str] = []
    while len(found) < LOOK_BACK and (period := periods.before(period, every, tz)).begins >= since:
        found.append(period.name)
    return found
