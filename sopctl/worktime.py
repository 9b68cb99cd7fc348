# SPDX-License-Identifier: Apache-2.0
"""Working time: when a step's time limit ends, and how much of it was used.

The clock on the agency's wall decides. A span's border is the first moment of its day at which that clock shows the
border's time or has passed it, so a span is one piece also on the days on which a zone changes to summer time or back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sopctl import clock
from sopctl.errors import ConfigError
from sopctl.settings import Calendar

WEEKDAYS = {
    "mon": "Senin",
    "tue": "Selasa",
    "wed": "Rabu",
    "thu": "Kamis",
    "fri": "Jumat",
    "sat": "Sabtu",
    "sun": "Minggu",
}
#: how many days in a row may be free; a calendar with more is mistaken, and nobody should wait for us to find out
LONGEST_PAUSE = 400
#: local days are counted within these years; what lies outside is no time that a case can have
YEARS = range(1970, 2200)

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_SPAN = re.compile(r"(\d\d):([0-5]\d)-(\d\d):([0-5]\d)", re.ASCII)
_DAYS = re.compile(r"P(\d+)D", re.ASCII)
_DAY = 86400

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class WorkTime:
    """An agency's working time; made by :func:`work_time`, once for a site.

    ``hours``: seven entries from Monday on, each the day's spans in seconds since its midnight by the wall clock.
    ``work_hours``: the spans of a work day whose weekday has none. ``free`` and ``worked``: day → its name.
    ``public``: day → name of the country's holidays. ``where`` is the calendar's place, for messages.
    """

    tz: ZoneInfo
    where: str
    hours: tuple[Spans, ...]
    work_hours: Spans
    free: dict[date, str]
    worked: dict[date, str]
    public: dict[date, str]
    _spans: dict[date, Spans] = field(default_factory=dict, init=False, repr=False, compare=False)

    def day_kind(self, day: date) -> str:
        """Why ``day`` is free: the name of the day off, of the holiday, or of the weekday; empty for a working day."""
        if day in self.worked:
            return ""
        weekday = day.weekday()
        named = self.free.get(day) or self.public.get(day)
        return named or ("" if self.hours[weekday] else list(WEEKDAYS.values())[weekday])

    def is_working(self, at: str) -> bool:
        """Whether the agency works at ``at`` (UTC). A span has its first moment and not its last."""
        moment = self._moment(at)
        _, start, _ = next(self._from(moment))
        return start <= moment

    def deadline(self, start: str, duration: str) -> str:
        """When ``duration`` (ISO 8601: P1D, PT1H, P1DT2H) that begins at ``start`` (UTC) is over, in working time.

        Counting begins at ``start``, or with the next working moment where ``start`` is none. Each ``D`` is a working
        day: the same time by the wall clock on the next day that has working time; where that time lies outside the
        day's spans, the day's next working moment, and after its last span, the end of that. Hours, minutes and seconds
        are then counted through the spans; what is full at the end of a span ends there, not when the next one begins.
        ConfigError for what is no time or duration, or ends beyond the years that we count.
        """
        total = clock.duration_seconds(duration)
        days = int(match[1]) if (match := _DAYS.match(duration)) else 0
        moment = self._moment(start)
        spans = self._from(moment)
        day, begin, end = next(spans)
        moment = max(moment, begin)
        if days:
            at = self._wall(moment).time()
            for _ in range(days):
                last = day
                while day == last:
                    day, begin, end = next(spans)
            moment = self._same_time(day, at)
            while end < moment:  # always within this day: its last span ends at or after what _same_time gives
                day, begin, end = next(spans)
        left = total - days * _DAY
        while left > end - max(moment, begin):
            left -= end - max(moment, begin)
            day, begin, end = next(spans)
        return clock.stamp(datetime.fromtimestamp(max(moment, begin) + left if left else moment, UTC))

    def seconds(self, start: str, end: str) -> int:
        """Working seconds from ``start`` to ``end`` (UTC); negative when ``end`` is earlier."""
        first, last = self._moment(start), self._moment(end)
        if last < first:
            return -self.seconds(end, start)
        total = 0
        day = self._local_day(first)
        while self._border(day, 0) < last:
            total += sum(max(0, min(until, last) - max(since, first)) for since, until in self._day(day))
            day += timedelta(days=1)
        return total

    def _moment(self, text: str) -> int:
        moment = clock.parse(text)
        if moment.year not in YEARS:
            raise ConfigError(f"{text} lies beyond the working calendar", where="time")
        return int(moment.timestamp())

    def _local_day(self, moment: int) -> date:
        return self._wall(moment).date()

    def _from(self, moment: int) -> Iterator[tuple[date, int, int]]:
        """Every span that ends after ``moment``, with its local day, without end; ConfigError when there are no more."""
        day = self._local_day(moment)
        pause = 0
        while pause <= LONGEST_PAUSE and day.year in YEARS:
            spans = self._day(day)
            pause = 0 if spans else pause + 1
            yield from ((day, since, until) for since, until in spans if until > moment)
            day += timedelta(days=1)
        if pause:
            why, hint = f"{pause} days before {day} have no working time", "Name weekdays that are worked."
        else:
            why, hint = f"{day} lies beyond the working calendar", "Is the time, or the duration, right?"
        raise ConfigError(why, where=self.where, hint=hint)

    def _day(self, day: date) -> Spans:
        """The day's spans in seconds since 1970, UTC; none that has no length."""
        known = self._spans.get(day)
        if known is None:
            rule: Spans = () if self.day_kind(day) else self.hours[day.weekday()] or self.work_hours
            borders = ((self._border(day, since), self._border(day, until)) for since, until in rule)
            known = self._spans[day] = tuple(pair for pair in borders if pair[0] < pair[1])
        return known

    def _same_time(self, day: date, at: time) -> int:
        """The moment of ``day`` at that time by the wall clock, moved into the day's spans (see :meth:`deadline`)."""
        moment = self._border(day, (at.hour * 60 + at.minute) * 60 + at.second)
        for since, until in self._day(day):
            if moment < until:
                return max(moment, since)
        return self._day(day)[-1][1]

    def _border(self, day: date, seconds: int) -> int:
        """The first moment at which the wall clock shows ``day`` and ``seconds`` after midnight, or has passed it."""
        wall = datetime.combine(day, time()) + timedelta(seconds=seconds)
        moment = int(wall.replace(tzinfo=self.tz).timestamp())
        if self._wall(moment) == wall:
            return moment
        # the clock jumps over this time, and ``moment`` is counted from before the jump: it lies after it
        before = int(wall.replace(tzinfo=self.tz, fold=1).timestamp())
        while moment - before > 1:
            middle = (before + moment) // 2
            before, moment = (middle, moment) if self._wall(middle) < wall else (before, middle)
        return moment

    def _wall(self, moment: int) -> datetime:
        return datetime.fromtimestamp(moment, self.tz).replace(tzinfo=None)


def work_time(calendar: Calendar, tz: ZoneInfo, where: str) -> WorkTime:
    """Check ``calendar`` and make it ready for counting; ConfigError for what is wrong in it.

    ``where`` is the calendar's place (``…/sop.yml:calendar``); errors name the key below it.
    """
    for name in calendar.hours:
        if name not in WEEKDAYS:
            hint = f"Weekdays: {', '.join(WEEKDAYS)}."
            raise ConfigError(f"{name!r} is not a weekday", where=f"{where}.hours", hint=hint)
    hours = tuple(_spans(calendar.hours.get(name, []), f"{where}.hours.{name}") for name in WEEKDAYS)
    if not any(hours):
        hint = 'Write at least one weekday with spans, as mon: ["07:30-12:00", "13:00-16:00"].'
        raise ConfigError("there is no working time at all", where=f"{where}.hours", hint=hint)
    return WorkTime(
        tz=tz,
        where=where,
        hours=hours,
        work_hours=next(spans for spans in hours if spans),
        free=_dates(calendar.days_off, f"{where}.days_off"),
        worked=_dates(calendar.work_days, f"{where}.work_days"),
        public=_public(calendar.holidays, f"{where}.holidays"),
    )


def _spans(texts: list[str], where: str) -> Spans:
    spans: list[tuple[int, int]] = []
    for text in texts:
        match = _SPAN.fullmatch(text)
        hours = [int(part) for part in match.groups()] if match else []
        since, until = (60 * (60 * hours[0] + hours[1]), 60 * (60 * hours[2] + hours[3])) if hours else (0, 0)
        if not since < until <= _DAY:
            hint = 'Write "HH:MM-HH:MM", the earlier time first, between 00:00 and 24:00.'
            raise ConfigError(f"{text!r} is not a span of time", where=where, hint=hint)
        if spans and since < spans[-1][1]:
            hint = "Write the day's spans in order; none may begin before the one above it ends."
            raise ConfigError(f"{text!r} begins before {texts[len(spans) - 1]!r} ends", where=where, hint=hint)
        spans.append((since, until))
    return tuple(spans)


def _dates(names: dict[str, str], where: str) -> dict[date, str]:
    days: dict[date, str] = {}
    for text, name in names.items():
        try:
            day = date.fromisoformat(text) if _DATE.fullmatch(text) else None
        except ValueError:
            day = None
        if day is None:
            raise ConfigError(f"{text!r} is not a date", where=where, hint="Write it as 2026-03-20.")
        if not name.strip():
            hint = "Write why, as people know it: it is printed where a time limit passes over the day."
            raise ConfigError("the day has no name", where=f"{where}.{text}", hint=hint)
        days[day] = name
    return days


def _public(country: str, where: str) -> dict[date, str]:
    """The country's public holidays in its own language; the library fills in a year when a day of it is looked up."""
    if not country:
        return {}
    import holidays  # 50 ms: only for who counts time

    try:
        if not re.fullmatch(r"[A-Z]{2}", country):  # the library would take other names too, and some are no country
            raise NotImplementedError
        known = holidays.country_holidays(country)
        # the language must be named, or the names follow the locale of whoever runs the command
        return holidays.country_holidays(country, language=known.default_language)
    except NotImplementedError:
        hint = 'Use a code of two capital letters, as ID, or "" for no public holidays.'
        raise ConfigError(f"country {country!r} has no known holidays", where=where, hint=hint) from None
