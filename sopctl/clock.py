# SPDX-License-Identifier: Apache-2.0
"""Points in time and durations as the documents write them: UTC, whole seconds, ``2026-11-22T03:00:00Z``.

Strings of that one form compare as the times they name, so documents are compared as strings once they are checked.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sopctl.errors import ConfigError

FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_DURATION = re.compile(r"P(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9})S)?)?", re.ASCII)


def now() -> str:
    """This moment."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    """Write a moment (with time zone) in our one form."""
    return moment.astimezone(UTC).strftime(FORMAT)


def parse(text: str, where: str = "time") -> datetime:
    """Read our one form; ConfigError for any other."""
    if (moment := _moment(text)) is None:
        raise ConfigError(f"{text!r} is not a time", where=where, hint="Write it in UTC as 2026-11-22T03:00:00Z.")
    return moment


@lru_cache(maxsize=4096)  # a register's thousands of entries were reviewed on a few days
def _moment(text: str) -> datetime | None:
    if _PATTERN.fullmatch(text):
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, FORMAT).replace(tzinfo=UTC)
    return None


def is_time(text: str) -> bool:
    """Whether ``text`` is a time in our one form."""
    try:
        parse(text)
    except ConfigError:
        return False
    return True


@lru_cache(maxsize=4096)
def plus(text: str, **duration: int) -> str:
    """``plus("…Z", days=7)``; ConfigError when the sum lies beyond the calendar."""
    try:
        return stamp(parse(text) + timedelta(**duration))
    except OverflowError:
        words = ", ".join(f"{count} {unit}" for unit, count in duration.items())
        raise ConfigError(f"{text} and {words} lies beyond the calendar", where="time") from None


def seconds_between(first: str, second: str) -> int:
    """Whole seconds from ``first`` to ``second``; negative when ``second`` is earlier."""
    return int((parse(second) - parse(first)).total_seconds())


def duration_seconds(text: str, where: str = "duration") -> int:
    """Seconds of an ISO 8601 duration of days, hours, minutes, seconds (``PT30M``, ``P1D``)."""
    match = _DURATION.fullmatch(text)
    if not match or text.endswith(("P", "T")):
        raise ConfigError(f"{text!r} is not a duration", where=where, hint="Write it as PT30M, PT1H or P1D.")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def zone(name: str, where: str = "timezone") -> ZoneInfo:
    """The time zone of that name; ConfigError when this machine knows none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"time zone {name!r} is unknown", where=where, hint="Use Asia/Jakarta, Asia/Makassar or Asia/Jayapura."
        ) from None
