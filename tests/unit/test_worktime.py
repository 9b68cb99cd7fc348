# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.worktime: against known dates, and against a slow restatement that looks at every minute."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sopctl import clock, yamls
from sopctl.errors import ConfigError
from sopctl.settings import Calendar
from sopctl.worktime import WorkTime, work_time

JAKARTA = ZoneInfo("Asia/Jakarta")
BERLIN = ZoneInfo("Europe/Berlin")
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
#: Diskominfo's office: the calendar's own defaults
OFFICE = work_time(Calendar(), JAKARTA, "sop.yml:calendar")


def utc(local: str, tz: ZoneInfo = JAKARTA) -> str:
    """``2026-11-23 08:00`` by the office's clock."""
    return clock.stamp(datetime.fromisoformat(local).replace(tzinfo=tz))


# known dates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "duration", "end"),
    [
        # 2026-11-23 is a Monday: 07:30-12:00, 13:00-16:00; Friday 07:30-11:30, 13:00-16:30
        ("2026-11-23 08:00", "PT15M", "2026-11-23 08:15"),
        ("2026-11-23 11:50", "PT15M", "2026-11-23 13:05"),  # over the break
        ("2026-11-23 11:45", "PT15M", "2026-11-23 12:00"),  # full when the break begins
        ("2026-11-23 12:00", "PT15M", "2026-11-23 13:15"),  # noon is no working moment any more
        ("2026-11-23 12:30", "PT15M", "2026-11-23 13:15"),
        ("2026-11-23 15:30", "PT1H", "2026-11-24 08:00"),  # over the night
        ("2026-11-23 06:00", "PT1H", "2026-11-23 08:30"),
        ("2026-11-27 16:00", "PT1H", "2026-11-30 08:00"),  # over the weekend
        ("2026-11-28 10:00", "PT1H", "2026-11-30 08:30"),  # a Saturday
        ("2026-11-23 08:00", "PT7H", "2026-11-23 16:00"),
        ("2026-11-23 08:00", "PT7H1S", "2026-11-24 07:30:01"),
        ("2026-11-23 08:00", "P1D", "2026-11-24 08:00"),
        ("2026-11-23 08:00", "P5D", "2026-11-30 08:00"),
        ("2026-11-27 08:00", "P1D", "2026-11-30 08:00"),  # Friday to Monday
        ("2026-11-28 10:00", "P1D", "2026-12-01 07:30"),  # counts from Monday's first moment
        ("2026-11-23 16:00", "P1D", "2026-11-25 07:30"),  # the day was over: counts from Tuesday's first moment
        ("2026-11-23 15:59:59", "P1D", "2026-11-24 15:59:59"),
        ("2026-11-26 11:45", "P1D", "2026-11-27 13:00"),  # Friday's break: the day's next working moment
        ("2026-11-27 16:15", "P1D", "2026-11-30 16:00"),  # after Monday's last span: its end
        ("2026-11-23 08:00", "P1DT1H", "2026-11-24 09:00"),
        ("2026-11-27 16:15", "P1DT1H", "2026-12-01 08:30"),
        # 24 hours of work are no day: half an hour, three days, and one hour of Friday
        ("2026-11-23 15:30", "PT24H", "2026-11-27 08:30"),
        ("2026-11-23 08:00", "PT0S", "2026-11-23 08:00"),
        ("2026-11-28 08:00", "PT0S", "2026-11-30 07:30"),
        # Monday 17 August 2026 is Hari Kemerdekaan, Idul Fitri is on the weekend of 21 and 22 March, Nyepi on Thursday 19
        ("2026-08-14 08:00", "P1D", "2026-08-18 08:00"),
        ("2026-08-14 16:00", "PT1H", "2026-08-18 08:00"),
        ("2026-08-17 09:00", "PT15M", "2026-08-18 07:45"),
        ("2026-03-18 15:00", "P1D", "2026-03-20 15:00"),
        ("2026-03-18 15:00", "PT2H", "2026-03-20 08:30"),
        # New Year's Day is a Friday: the next year's holidays count too
        ("2026-12-31 15:00", "P1D", "2027-01-04 15:00"),
    ],
)
def test_when_a_time_limit_ends(start: str, duration: str, end: str) -> None:
    assert OFFICE.deadline(utc(start), duration) == utc(end)


@pytest.mark.parametrize(
    ("start", "end", "hours"),
    [
        ("2026-11-23 00:00", "2026-11-24 00:00", 7.5),
        ("2026-11-27 00:00", "2026-11-30 00:00", 7.5),
        ("2026-11-23 00:00", "2026-11-30 00:00", 37.5),
        ("2026-11-23 12:10", "2026-11-23 12:50", 0),
        ("2026-11-27 16:30", "2026-11-30 07:30", 0),
        ("2026-11-23 11:00", "2026-11-23 14:00", 2),
        ("2026-08-14 16:00", "2026-08-18 08:00", 1),
        ("2026-08-10 00:00", "2026-08-24 00:00", 9 * 7.5),
        ("2026-03-16 00:00", "2026-03-30 00:00", 9 * 7.5),  # Nyepi on a Thursday, Idul Fitri on the weekend
        ("2026-01-01 00:00", "2027-01-01 00:00", (261 - 13) * 7.5),  # 17 holidays, 4 of them on weekends
    ],
)
def test_how_much_working_time_lies_between(start: str, end: str, hours: float) -> None:
    assert OFFICE.seconds(utc(start), utc(end)) == hours * 3600
    assert OFFICE.seconds(utc(end), utc(start)) == -hours * 3600


def test_the_agency_has_days_of_its_own() -> None:
    calendar = Calendar(
        days_off={"2026-03-20": "Cuti bersama Idul Fitri", "2026-03-23": "Cuti bersama Idul Fitri"},
        work_days={"2026-03-28": "Pindah pusat data", "2026-08-17": "Upacara", "2026-03-23": "Piket"},
    )
    site = work_time(calendar, JAKARTA, "sop.yml:calendar")
    assert site.deadline(utc("2026-03-18 15:00"), "P1D") == utc("2026-03-23 15:00")  # a work day wins over a day off
    assert site.deadline(utc("2026-03-27 16:00"), "PT1H") == utc("2026-03-28 08:00")  # a Saturday, with Monday's hours
    assert site.seconds(utc("2026-03-28 00:00"), utc("2026-03-29 00:00")) == 7.5 * 3600
    assert site.is_working(utc("2026-08-17 08:00")) and not OFFICE.is_working(utc("2026-08-17 08:00"))
    assert site.day_kind(date(2026, 3, 20)) == "Cuti bersama Idul Fitri"
    assert site.day_kind(date(2026, 3, 28)) == "" == site.day_kind(date(2026, 8, 17))


def test_a_work_day_has_its_own_weekdays_hours_where_it_has_any() -> None:
    calendar = Calendar(hours={"tue": ["08:00-10:00"], "fri": ["08:00-09:00"]}, work_days={"2026-12-25": "Piket"})
    site = work_time(calendar, JAKARTA, "sop.yml:calendar")
    assert site.seconds(utc("2026-12-25 00:00"), utc("2026-12-26 00:00")) == 3600


@pytest.mark.parametrize(
    ("day", "kind"),
    [
        ("2026-08-17", "Hari Kemerdekaan Republik Indonesia"),
        ("2026-03-19", "Hari Suci Nyepi"),
        ("2026-03-21", "Hari Raya Idul Fitri"),
        ("2026-03-22", "Hari kedua dari Hari Raya Idul Fitri"),
        ("2026-11-28", "Sabtu"),
        ("2026-11-29", "Minggu"),
        ("2026-11-30", ""),
    ],
)
def test_why_a_day_is_free(day: str, kind: str) -> None:
    assert OFFICE.day_kind(date.fromisoformat(day)) == kind


def test_holidays_have_indonesian_names_in_every_locale() -> None:
    code = (
        "import datetime, zoneinfo\nfrom sopctl import settings, worktime\n"
        "site = worktime.work_time(settings.Calendar(), zoneinfo.ZoneInfo('Asia/Jakarta'), '')\n"
        "print(site.day_kind(datetime.date(2026, 8, 17)))"
    )
    for locale in ("en_US.UTF-8", "uk_UA.UTF-8", "C"):
        environment = {
            **os.environ,
            "LANG": locale,
            "LANGUAGE": locale,
            "LC_ALL": locale,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "Hari Kemerdekaan Republik Indonesia"


def test_without_a_country_only_weekends_are_free() -> None:
    site = work_time(Calendar(holidays=""), JAKARTA, "sop.yml:calendar")
    assert site.is_working(utc("2026-08-17 08:00"))
    assert site.day_kind(date(2026, 8, 17)) == ""


def test_a_case_that_is_open_for_years_takes_no_time() -> None:
    site = work_time(Calendar(), JAKARTA, "sop.yml:calendar")
    before = time.process_time()
    assert site.seconds("2023-11-22T03:00:00Z", "2026-11-22T03:00:00Z") > 0
    site.deadline("2023-11-22T03:00:00Z", "P740D")
    assert time.process_time() - before < 1


def test_the_calendar_of_the_reference_can_be_used_as_it_stands() -> None:
    text = Path(__file__).parents[2].joinpath("docs/reference/site-files.md").read_text(encoding="utf-8")
    block = text.partition("```yaml\nschema: sop-site/v1\n")[2].partition("```")[0]
    calendar = msgspec.convert(yamls.parse_yaml_strict(block.encode(), "site-files.md")["calendar"], Calendar)
    site = work_time(calendar, JAKARTA, "site-files.md")
    assert (site.hours, calendar.holidays) == (OFFICE.hours, Calendar().holidays)  # it says: these are the defaults
    assert site.day_kind(date(2026, 3, 20)) == "Cuti bersama Idul Fitri"


# summer time -------------------------------------------------------------------------------------------------------

NIGHT = {"sat": ["22:00-24:00"], "sun": ["00:00-02:30", "02:30-06:00"]}


def test_summer_time_takes_an_hour_and_gives_it_back() -> None:
    night = work_time(Calendar(hours=NIGHT, holidays=""), BERLIN, "sop.yml:calendar")
    assert night.seconds("2026-03-28T21:00:00Z", "2026-03-29T12:00:00Z") == 7 * 3600  # 29 March: 02:00 is 03:00
    assert night.seconds("2026-10-24T20:00:00Z", "2026-10-25T12:00:00Z") == 9 * 3600  # 25 October: 03:00 is 02:00
    assert night.seconds("2026-11-07T20:00:00Z", "2026-11-08T12:00:00Z") == 8 * 3600
    assert night.deadline("2026-03-28T21:00:00Z", "PT5H") == "2026-03-29T02:00:00Z"
    assert night.deadline("2026-03-28T21:00:00Z", "PT7H") == "2026-03-29T04:00:00Z"
    assert night.deadline("2026-10-24T20:00:00Z", "PT9H") == "2026-10-25T05:00:00Z"


def test_the_next_day_has_the_same_time_by_the_clock() -> None:
    site = work_time(Calendar(holidays="DE"), BERLIN, "sop.yml:calendar")
    assert site.deadline("2026-03-27T09:00:00Z", "P1D") == "2026-03-30T08:00:00Z"
    assert site.deadline("2026-10-23T08:00:00Z", "P1D") == "2026-10-26T09:00:00Z"
    every_day = work_time(
        Calendar(hours={name: ["00:00-24:00"] for name in WEEK}, holidays=""), BERLIN, "sop.yml:calendar"
    )
    assert every_day.deadline("2026-03-28T01:30:00Z", "P1D") == "2026-03-29T01:00:00Z"  # 02:30 does not exist
    assert every_day.deadline("2026-10-24T00:30:00Z", "P1D") == "2026-10-25T00:30:00Z"  # 02:30 comes twice: the first


# against every minute ----------------------------------------------------------------------------------------------


def minutes(calendar: Calendar, tz: ZoneInfo, start: datetime, count: int) -> list[bool]:
    """Whether each of ``count`` minutes after ``start`` is worked: the rules, read out minute by minute.

    ``shown`` is what the wall clock would show if nobody ever set it back.
    """
    found = []
    shown = datetime.min
    for step in range(-180, count):
        shown = max(shown, (start + timedelta(minutes=step)).astimezone(tz).replace(tzinfo=None))
        day, now = str(shown)[:10], str(shown)[11:16]
        spans = calendar.hours.get(WEEK[shown.weekday()], [])
        if day in calendar.work_days:
            spans = spans or next(calendar.hours[each] for each in WEEK if calendar.hours.get(each))
        elif day in calendar.days_off:
            spans = []
        found.append(any(span[:5] <= now < span[6:] for span in spans))
    return found[180:]


def span_texts(cuts: list[int]) -> list[str]:
    """Spans between pairs of times (minutes of the day), in order."""
    ordered = sorted(set(cuts))
    pairs = zip(ordered[::2], ordered[1::2], strict=False)
    return [f"{a // 60:02d}:{a % 60:02d}-{b // 60:02d}:{b % 60:02d}" for a, b in pairs]


SPANS = st.lists(st.integers(0, 96).map(lambda quarter: quarter * 15), min_size=2, max_size=6).map(span_texts)
#: a week around each day on which Berlin's clock is changed
FIRST = {BERLIN: [datetime(2026, 3, 26, tzinfo=UTC), datetime(2026, 10, 22, tzinfo=UTC)]}
FIRST[JAKARTA] = FIRST[BERLIN]


@st.composite
def situations(draw: st.DrawFn) -> tuple[Calendar, ZoneInfo, datetime]:
    tz = draw(st.sampled_from([JAKARTA, BERLIN]))
    first = draw(st.sampled_from(FIRST[tz]))
    days = st.dictionaries(st.integers(-1, 9).map(lambda n: str((first + timedelta(days=n)).date())), st.just("libur"))
    hours = draw(st.dictionaries(st.sampled_from(WEEK), SPANS, min_size=1).filter(lambda each: any(each.values())))
    calendar = Calendar(hours=hours, holidays="", days_off=draw(days), work_days=draw(days))
    return calendar, tz, first + timedelta(minutes=draw(st.integers(0, 3 * 1440)))


@settings(deadline=None, max_examples=40)
@given(situations(), st.integers(0, 6 * 1440), st.integers(1, 3000))
def test_hours_are_counted_like_minute_by_minute(
    situation: tuple[Calendar, ZoneInfo, datetime], length: int, limit: int
) -> None:
    calendar, tz, start = situation
    site = work_time(calendar, tz, "sop.yml:calendar")
    worked = minutes(calendar, tz, start, 7 * 1440)
    at = clock.stamp(start)
    assert site.is_working(at) == worked[0]
    assert site.seconds(at, clock.stamp(start + timedelta(minutes=length))) == 60 * sum(worked[:length])
    if sum(worked) >= limit:
        needed = next(step for step in range(len(worked) + 1) if sum(worked[:step]) == limit)
        assert site.deadline(at, f"PT{limit}M") == clock.stamp(start + timedelta(minutes=needed))


def slow_day_later(calendar: Calendar, tz: ZoneInfo, start: datetime, worked: list[bool]) -> datetime | None:
    """P1D by reading: None when the minutes do not reach that far."""

    def local(step: int) -> datetime:
        return (start + timedelta(minutes=step)).astimezone(tz).replace(tzinfo=None)

    first = next((step for step, each in enumerate(worked) if each), None)
    if first is None:
        return None
    begin = local(first)
    later = [step for step, each in enumerate(worked) if each and local(step).date() > begin.date()]
    if not later:
        return None
    day = [step for step in later if local(step).date() == local(later[0]).date()]
    after = [step for step in day if local(step).time() >= begin.time()]
    return start + timedelta(minutes=after[0] if after else day[-1] + 1)


@settings(deadline=None, max_examples=40)
@given(situations())
def test_a_day_is_counted_like_minute_by_minute(situation: tuple[Calendar, ZoneInfo, datetime]) -> None:
    calendar, _, start = situation
    site = work_time(calendar, JAKARTA, "sop.yml:calendar")
    expected = slow_day_later(calendar, JAKARTA, start, minutes(calendar, JAKARTA, start, 10 * 1440))
    if expected and expected.astimezone(JAKARTA) < (start + timedelta(days=9)).astimezone(JAKARTA):
        assert site.deadline(clock.stamp(start), "P1D") == clock.stamp(expected)


MOMENT = st.integers(0, 3 * 366 * 86400).map(
    lambda n: clock.stamp(datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=n))
)
LIMIT = st.sampled_from(["PT15M", "PT1H", "P1D", "P3D", "P1DT2H", "PT40H", "PT1S"])


@settings(deadline=None)
@given(
    MOMENT,
    MOMENT,
    MOMENT,
    LIMIT,
    st.sampled_from([OFFICE, work_time(Calendar(holidays="DE"), BERLIN, "sop.yml:calendar")]),
)
@example("2026-11-27T09:15:00Z", "2026-11-28T00:00:00Z", "2026-11-30T09:00:00Z", "P1D", OFFICE)
def test_what_must_hold_whatever_the_calendar(one: str, two: str, three: str, limit: str, site: WorkTime) -> None:
    one, two, three = sorted([one, two, three])
    assert site.seconds(one, two) + site.seconds(two, three) == site.seconds(one, three)
    assert site.deadline(one, limit) <= site.deadline(two, limit)  # who begins later has never less time
    if "D" not in limit:
        assert site.seconds(one, site.deadline(one, limit)) == clock.duration_seconds(limit)
    else:
        assert site.seconds(one, site.deadline(one, limit)) > 0


# what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calendar", "place", "why"),
    [
        (Calendar(hours={"senin": ["07:30-12:00"]}), "calendar.hours", "'senin' is not a weekday"),
        (Calendar(hours={"mon": ["7:30-12:00"]}), "calendar.hours.mon", "'7:30-12:00' is not a span"),
        (Calendar(hours={"mon": ["07:60-12:00"]}), "calendar.hours.mon", "is not a span"),
        (Calendar(hours={"mon": ["12:00-07:30"]}), "calendar.hours.mon", "is not a span"),
        (Calendar(hours={"mon": ["12:00-12:00"]}), "calendar.hours.mon", "is not a span"),
        (Calendar(hours={"mon": ["22:00-24:01"]}), "calendar.hours.mon", "is not a span"),
        (Calendar(hours={"mon": ["٠7:30-12:00"]}), "calendar.hours.mon", "is not a span"),
        (Calendar(hours={"mon": ["07:30-12:00\n"]}), "calendar.hours.mon", "is not a span"),
        (Calendar(hours={"fri": ["07:30-12:00", "11:00-16:00"]}), "calendar.hours.fri", "'11:00-16:00' begins before"),
        (Calendar(hours={"fri": ["13:00-16:00", "07:30-12:00"]}), "calendar.hours.fri", "'07:30-12:00' begins before"),
        (Calendar(hours={}), "calendar.hours", "no working time at all"),
        (Calendar(hours={"mon": []}), "calendar.hours", "no working time at all"),
        (Calendar(holidays="XX"), "calendar.holidays", "'XX' has no known holidays"),
        (Calendar(holidays="id"), "calendar.holidays", "'id' has no known holidays"),
        (Calendar(holidays="Indonesia"), "calendar.holidays", "'Indonesia' has no known holidays"),
        (Calendar(days_off={"2026-02-30": "x"}), "calendar.days_off", "'2026-02-30' is not a date"),
        (Calendar(days_off={"20260320": "x"}), "calendar.days_off", "'20260320' is not a date"),
        (Calendar(work_days={"2026-W12-1": "x"}), "calendar.work_days", "'2026-W12-1' is not a date"),
        (Calendar(work_days={"2026-03-20": " "}), "calendar.work_days.2026-03-20", "the day has no name"),
    ],
)
def test_a_calendar_that_cannot_be_meant(calendar: Calendar, place: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        work_time(calendar, JAKARTA, "/site/sop.yml:calendar")
    assert caught.value.where == f"/site/sop.yml:{place}"
    assert caught.value.hint


def test_spans_may_touch_and_last_all_day() -> None:
    site = work_time(Calendar(hours={"mon": ["00:00-12:00", "12:00-24:00"]}, holidays=""), JAKARTA, "sop.yml:calendar")
    assert site.seconds(utc("2026-11-23 00:00"), utc("2026-11-24 00:00")) == 86400
    assert site.deadline(utc("2026-11-23 11:00"), "PT2H") == utc("2026-11-23 13:00")


def test_a_calendar_whose_days_are_all_free_is_told_and_not_searched_for_ever() -> None:
    off = {str(date(2026, 11, 29) + timedelta(weeks=n)): "Libur" for n in range(60)}
    sundays = work_time(Calendar(hours={"sun": ["08:00-12:00"]}, days_off=off), JAKARTA, "sop.yml:calendar")
    with pytest.raises(ConfigError, match="401 days before 2027-12-29 have no working time") as caught:
        sundays.deadline("2026-11-23T08:00:00Z", "PT15M")
    assert caught.value.where == "sop.yml:calendar"
    assert sundays.seconds("2026-11-23T00:00:00Z", "2027-11-23T00:00:00Z") == 0


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1969-12-31T23:59:59Z", "yesterday"])
def test_times_that_no_case_can_have(at: str) -> None:
    for ask in (OFFICE.is_working, lambda at: OFFICE.deadline(at, "P1D"), lambda at: OFFICE.seconds(at, at)):
        with pytest.raises(ConfigError):
            ask(at)


@pytest.mark.parametrize("limit", ["P999999D", "PT999999H", "PT999999999S", "P1W", "", "P"])
def test_durations_that_no_step_can_have(limit: str) -> None:
    if limit == "PT999999999S":  # 277,778 hours of work: 148 years
        assert OFFICE.deadline("2026-11-23T08:00:00Z", limit) > "2170"
        return
    with pytest.raises(ConfigError):
        OFFICE.deadline("2026-11-23T08:00:00Z", limit)
