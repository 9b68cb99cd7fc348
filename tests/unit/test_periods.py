# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.periods: calendar periods, cron expressions and windows, by the site's own clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sopctl import clock, periods
from sopctl.errors import ConfigError
from sopctl.models import Window

JAKARTA, MAKASSAR, BERLIN = (ZoneInfo(name) for name in ("Asia/Jakarta", "Asia/Makassar", "Europe/Berlin"))
KINDS = ("P1M", "P1W", "P1D", "30 1 * * *", "0 */6 * * *", "15 2 1 * *")
moments = st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)).map(clock.stamp)


@pytest.mark.parametrize(
    ("moment", "every", "utc", "jakarta"),
    [
        ("2026-10-31T16:59:59Z", "P1M", "2026-10", "2026-10"),
        ("2026-10-31T17:00:00Z", "P1M", "2026-10", "2026-11"),
        ("2026-12-31T18:00:00Z", "P1M", "2026-12", "2027-01"),
        ("2026-12-31T18:00:00Z", "P1D", "2026-12-31", "2027-01-01"),
        ("2024-12-29T18:00:00Z", "P1W", "2024-W52", "2025-W01"),  # ISO weeks have ISO years
    ],
)
def test_period_is_the_sites_own_calendar(moment: str, every: str, utc: str, jakarta: str) -> None:
    assert periods.of(moment, every, ZoneInfo("UTC")).name == utc
    assert periods.of(moment, every, JAKARTA).name == jakarta


def test_the_same_moment_is_another_month_in_makassar() -> None:
    moment = "2026-10-31T16:30:00Z"  # 23:30 in Jakarta, 00:30 in Makassar
    assert periods.of(moment, "P1M", JAKARTA).name == "2026-10"
    assert periods.of(moment, "P1M", MAKASSAR).name == "2026-11"


@pytest.mark.parametrize("every", KINDS)
@pytest.mark.parametrize("tz", [JAKARTA, BERLIN])
@given(moment=moments)
def test_periods_follow_each_other(every: str, tz: ZoneInfo, moment: str) -> None:
    """Each moment lies in one period; the next one begins where it ends, the one before it ends where it begins."""
    period = periods.of(moment, every, tz)
    assert period.begins <= moment < period.ends
    assert periods.of(period.begins, every, tz) == period
    assert periods.before(period, every, tz).ends == period.begins
    assert periods.of(period.ends, every, tz).begins == period.ends
    assert periods.is_own(period.name, every, tz)


@pytest.mark.parametrize("every", KINDS[3:])
@given(moment=moments)
def test_cron_period_begins_at_a_time_of_the_expression(every: str, moment: str) -> None:
    minute, hour, day, *_ = every.split()
    local = clock.parse(periods.of(moment, every, JAKARTA).begins).astimezone(JAKARTA)
    assert local.minute == int(minute)
    assert (hour == "*/6" and local.hour % 6 == 0) or local.hour == int(hour.removeprefix("*/"))
    assert day in {"*", str(local.day)}


@pytest.mark.parametrize(
    ("every", "why"),
    [
        ("monthly", "neither a period nor a cron expression"),
        ("P1Y", "neither"),
        ("", "neither"),
        ("@monthly", "neither"),
        ("0 0 1 * * *", "neither"),  # six fields: seconds
        ("60 1 * * *", "no cron expression (Bad minute)"),
        ("0 0 31 2 *", "no cron expression"),
    ],
)
def test_what_is_no_period(every: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        periods.check_every(every, "schedule.yml:entries[1].every")
    assert why in caught.value.message
    assert caught.value.where == "schedule.yml:entries[1].every"
    assert "P1M" in caught.value.hint


@pytest.mark.parametrize("every", KINDS)
def test_what_is_one(every: str) -> None:
    periods.check_every(every, "here")


@pytest.mark.parametrize(
    ("every", "least", "enough"),
    [
        ("P1M", "P1M", True),
        ("P1D", "P1M", True),
        ("P1M", "P1W", False),
        ("0 3 1 * *", "P1M", True),
        ("0 3 31 * *", "P1M", False),  # seven months have a 31st
        ("0 3 1 */2 *", "P1M", False),
        ("0 3 * * sun", "P1W", True),
        ("0 3 * * sun", "P1D", False),
        ("0 3 * * *", "P1D", True),
        ("0 3 29 2 *", "P1M", False),
        ("0 1 * * sat#1", "P1M", True),  # up to 35 days from one to the next, and one in each month
        ("0 1 * * 6L", "P1M", True),
        ("*/15 * * * *", "P1D", True),
    ],
)
def test_as_often_as_the_sop_asks(every: str, least: str, enough: bool) -> None:
    for tz in (JAKARTA, BERLIN):
        assert periods.as_often(every, least, tz) is enough


def test_as_often_is_quick_for_an_expression_with_many_times() -> None:
    """Every schedule is looked at each time it is read: the same question is answered once."""
    periods.as_often.cache_clear()
    for _ in range(50):
        assert periods.as_often("* * * * *", "P1M", JAKARTA)
    assert periods.as_often.cache_info().misses == 1


@pytest.mark.parametrize(
    ("name", "every", "own"),
    [
        ("2026-11", "P1M", True),
        ("2026-11-22", "P1M", False),
        ("bkp-2026-0001", "P1M", False),
        ("2026-11-22T0130", "30 1 * * *", True),
        ("2026-11-22T0130", "0 3 * * *", False),  # that of the order before
        ("2026-13-45T9999", "30 1 * * *", False),
    ],
)
def test_own_names(name: str, every: str, own: bool) -> None:
    assert periods.is_own(name, every, JAKARTA) is own


@pytest.mark.parametrize(
    ("every", "window", "fits"),
    [
        ("P1M", Window("22:00-04:00", ["sat"]), True),
        ("P1W", Window("22:00-04:00", ["sun"]), True),
        ("P1D", Window("22:00-04:00"), True),
        ("P1D", Window("22:00-04:00", ["mon", "tue", "wed", "thu", "fri"]), False),
        ("30 1 * * *", Window("22:00-04:00"), True),
        ("30 1 1 * *", Window("22:00-04:00", ["sat"]), True),
        ("0 */6 * * *", Window("22:00-04:00"), False),  # what is due at 06:00 would have to wait until 22:00
        ("30 1 * * *", Window("22:00-04:00", ["sat"]), False),
    ],
)
def test_windows_in_which_each_period_can_be_served(every: str, window: Window, fits: bool) -> None:
    assert periods.fits(every, window.hours, tuple(window.days), JAKARTA) is fits


@pytest.mark.parametrize("every", ["30 2 * * *", "30 * * * *", "0 */2 * * *", "15 2,3 * * *"])
def test_hour_that_comes_twice(every: str) -> None:
    """Berlin, October 25, 2026: each moment of that night lies in its period, and no two periods have one name."""
    names: dict[str, str] = {}
    for minute in range(0, 6 * 60, 7):
        moment = clock.plus("2026-10-24T22:00:00Z", minutes=minute)
        period = periods.of(moment, every, BERLIN)
        assert period.begins <= moment < period.ends, moment
        assert names.setdefault(period.name, period.begins) == period.begins
        assert periods.is_own(period.name, every, BERLIN)


@pytest.mark.parametrize(
    ("window", "where", "why"),
    [
        (Window("22-04"), "hours", "'22-04' is no window"),
        (Window("22:00-24:00"), "hours", "no window"),
        (Window("22:00-04:60"), "hours", "no window"),
        (Window("22:00-04:00", []), "days", "not the days"),
        (Window("22:00-04:00", ["senin"]), "days", "not the days"),
        (Window("22:00-04:00", ["mon", "mon"]), "days", "not the days"),
    ],
)
def test_what_is_no_window(window: Window, where: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        periods.check_window(window, "schedule.yml:window")
    assert caught.value.where == f"schedule.yml:window.{where}"


@pytest.mark.parametrize("hours", ["22:00-04:00", "01:00-05:30", "00:00-00:00"])
@pytest.mark.parametrize("days", [["sat"], ["mon", "thu"], ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]])
@given(moment=moments)
def test_window_says_what_the_wall_clock_says(hours: str, days: list[str], moment: str) -> None:
    window = Window(hours, days)
    local = clock.parse(moment).astimezone(JAKARTA)
    first, last = (timedelta(hours=int(text[:2]), minutes=int(text[3:])) for text in hours.split("-"))
    since_midnight = timedelta(hours=local.hour, minutes=local.minute, seconds=local.second)
    yesterday = local - timedelta(days=1)
    day, before = (f"{each:%a}".lower() in days for each in (local, yesterday))
    if first < last:
        opened = day and first <= since_midnight < last
    else:
        opened = (day and since_midnight >= first) or (before and since_midnight < last)
    at = periods.opens(window, moment, JAKARTA)
    assert (at == moment) is opened
    assert moment <= at <= clock.plus(moment, days=8)
    assert periods.opens(window, at, JAKARTA) == at


def test_without_a_window_any_time_will_do() -> None:
    assert periods.opens(None, "2026-11-22T03:00:00Z", JAKARTA) == "2026-11-22T03:00:00Z"


@pytest.mark.parametrize("every", ["P1M", "P1W", "P1D"])
@given(moment=moments)
def test_next_due_is_the_first_moment_of_another_period(every: str, moment: str) -> None:
    window = Window("22:00-04:00")
    period = periods.of(moment, every, JAKARTA, window)
    at = periods.next_due(period, every, JAKARTA, window, moment)
    assert at >= moment
    assert periods.opens(window, at, JAKARTA) == at
    assert periods.of(at, every, JAKARTA, window).name > period.name
