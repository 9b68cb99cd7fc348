# SPDX-License-Identifier: Apache-2.0
"""When a backup is due: calendar periods, cron expressions, and windows in which it may start, by the site's own clock.

A period is what one backup is due for. With ``P1M``, ``P1W`` and ``P1D`` it is the calendar's month, ISO week or day; with a
cron expression it lasts from one of its times to the next. For the calendar's periods, a window that goes past midnight belongs
whole to the day on which it opens: what is backed up at 01:00 in the window of November 30 is November's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from sopctl import clock
from sopctl.errors import ConfigError
from sopctl.models import WEEK, Window

CALENDAR = {"P1M": "bulanan", "P1W": "mingguan", "P1D": "harian"}
#: how a period's name looks, by its kind; a cron expression's are named after the local time of its beginning
_NAMES = {"P1M": r"\d{4}-\d\d", "P1W": r"\d{4}-W\d\d", "P1D": r"\d{4}-\d\d-\d\d", "cron": r"\d{4}-\d\d-\d\dT\d{4}b?"}
#: days that a period of the calendar lasts at most
_LONGEST = {"P1M": 31, "P1W": 7, "P1D": 1}
#: periods of a cron expression that are looked at before a window is believed to fit
_LOOKED_AT = 400
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True)
class Period:
    """``begins`` belongs to it, ``ends`` to the next one; both UTC."""

    name: str
    begins: str
    ends: str


# --- periods ---------------------------------------------------------------------------------------------------


def check_every(every: str, where: str) -> None:
    """ConfigError unless ``every`` is a period of the calendar or a cron expression that has times."""
    if every in CALENDAR:
        return
    hint = "Write P1M, P1W, P1D, or five fields of cron such as '30 1 * * sat' (minute hour day month weekday)."
    if len(every.split()) != 5:
        raise ConfigError(f"{every!r} is neither a period nor a cron expression", where=where, hint=hint)
    from cronsim import CronSimError  # 15 ms, and most schedules have none

    try:
        of("2026-01-01T00:00:00Z", every, ZoneInfo("UTC"))
    except (CronSimError, StopIteration) as error:
        why = str(error) or "it has no time"
        raise ConfigError(f"{every!r} is no cron expression ({why})", where=where, hint=hint) from None


def of(moment: str, every: str, tz: ZoneInfo, window: Window | None = None) -> Period:
    """The period that a backup started at ``moment`` (UTC) is for. ``every`` is one that :func:`check_every` took."""
    counted = clock.parse(moment)
    if every not in CALENDAR:
        return _cron_period(counted, every, tz)
    if window:
        counted = min(counted, opening(window, moment, tz)[0])
    local = counted.astimezone(tz)
    if every == "P1M":
        first = local.date().replace(day=1)
        after = (first + timedelta(days=31)).replace(day=1)
        name = f"{first:%Y-%m}"
    elif every == "P1W":
        first = local.date() - timedelta(days=local.weekday())
        after = first + timedelta(days=7)
        name = f"{first:%G-W%V}"
    else:
        first = local.date()
        after = first + timedelta(days=1)
        name = f"{first:%Y-%m-%d}"
    return Period(name, *(clock.stamp(datetime.combine(day, time(), tz)) for day in (first, after)))


def _cron_period(moment: datetime, every: str, tz: ZoneInfo) -> Period:
    """Counted in UTC: where summer time ends, an hour comes twice by the wall clock that cron expressions are written for."""
    from cronsim import CronSim

    early = moment.astimezone(tz) - timedelta(hours=3)  # longer than any change of the clock
    begins = next(CronSim(every, early + timedelta(seconds=1), reverse=True))
    for at in CronSim(every, begins):
        if at.astimezone(UTC) > moment:
            name = f"{begins:%Y-%m-%dT%H%M}{'b' if begins.fold else ''}"
            return Period(name, clock.stamp(begins), clock.stamp(at))
        begins = at
    raise StopIteration


def before(period: Period, every: str, tz: ZoneInfo) -> Period:
    """The period before ``period``."""
    return of(clock.plus(period.begins, seconds=-1), every, tz)


def next_due(period: Period, every: str, tz: ZoneInfo, window: Window | None, now: str) -> str:
    """When a backup for the period after ``period`` may start first (UTC), never earlier than ``now``."""
    at = opens(window, max(period.ends, now), tz)
    while window and of(at, every, tz, window).name == period.name:  # in a window that opened before the period's end
        at = opens(window, clock.stamp(opening(window, at, tz)[1]), tz)
    return at


def cron_times(every: str) -> set[tuple[int, int]]:
    """(hour, minute) by the site's clock at which a cron expression has times on its days."""
    from cronsim import CronSim

    parsed = CronSim(every, datetime(2026, 1, 1, tzinfo=UTC))
    return {(hour, minute) for hour in parsed.hours for minute in parsed.minutes}


def is_own(name: str, every: str, tz: ZoneInfo) -> bool:
    """Whether a period of ``every`` has that name: it looks like one, and a cron expression has that time."""
    if not re.fullmatch(_NAMES.get(every, _NAMES["cron"]), name, re.ASCII):
        return False
    if every in CALENDAR:
        return True
    try:
        begins = datetime.strptime(name.rstrip("b"), "%Y-%m-%dT%H%M").replace(tzinfo=tz, fold=int(name.endswith("b")))
    except ValueError:
        return False
    return of(clock.stamp(begins), every, tz).name == name


@lru_cache
def as_often(every: str, least: str, tz: ZoneInfo) -> bool:
    """Whether each of the calendar's periods ``least`` has a time of ``every``: looked at for four years from 2024."""
    if every in CALENDAR:
        return _LONGEST[every] <= _LONGEST[least]
    period = of("2024-01-15T00:00:00Z", least, tz)
    while period.begins < "2028-02-01T00:00:00Z":
        at = of(clock.plus(period.begins, seconds=-1), every, tz).ends
        if at >= period.ends:
            return False
        period = of(period.ends, least, tz)
    return True


# --- windows ---------------------------------------------------------------------------------------------------


def check_window(window: Window, where: str) -> None:
    """ConfigError unless ``window`` can open."""
    if not _HOURS.fullmatch(window.hours):
        raise ConfigError(
            f"{window.hours!r} is no window", where=f"{where}.hours", hint="Write it as '22:00-04:00' (site's time)."
        )
    if not window.days or set(window.days) - set(WEEK) or len(set(window.days)) < len(window.days):
        raise ConfigError(
            f"{window.days} are not the days of a window",
            where=f"{where}.days",
            hint=f"Name each day on which it opens once: {', '.join(WEEK)}.",
        )


@lru_cache
def fits(every: str, hours: str, days: tuple[str, ...], tz: ZoneInfo) -> bool:
    """Whether a backup may start in each period of ``every``, with a window of ``hours`` and ``days``: a year from 2026."""
    window = Window(hours, list(days))
    if every in CALENDAR:
        return every != "P1D" or len(days) == len(WEEK)
    period = of("2026-01-15T00:00:00Z", every, tz)
    for _ in range(_LOOKED_AT):
        if opens(window, period.begins, tz) >= period.ends:
            return False
        period = of(period.ends, every, tz)
        if period.begins > "2027-02-01T00:00:00Z":
            break
    return True


def opening(window: Window, moment: str, tz: ZoneInfo) -> tuple[datetime, datetime]:
    """From when to when the window is open that ``moment`` (UTC) lies in, else the next one; its end is not in it."""
    now = clock.parse(moment)
    today = now.astimezone(tz).date()
    for ahead in range(-1, 9):
        day = today + timedelta(days=ahead)
        if WEEK[day.weekday()] in window.days:
            begins, ends = _span(window, day, tz)
            if now < ends:
                return begins, ends
    raise AssertionError("a window opens within a week")


def _span(window: Window, day: date, tz: ZoneInfo) -> tuple[datetime, datetime]:
    first, last = (time.fromisoformat(border) for border in window.hours.split("-"))
    next_day = day + timedelta(days=1) if last <= first else day
    return datetime.combine(day, first, tz).astimezone(UTC), datetime.combine(next_day, last, tz).astimezone(UTC)


def opens(window: Window | None, moment: str, tz: ZoneInfo) -> str:
    """When a backup may start, seen from ``moment``: ``moment`` itself, or when the window opens next (UTC)."""
    if window is None:
        return moment
    return max(moment, clock.stamp(opening(window, moment, tz)[0]))
