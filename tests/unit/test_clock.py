# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from sopctl import clock
from sopctl.errors import ConfigError

JAKARTA = ZoneInfo("Asia/Jakarta")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT30M", 1800), ("P1D", 86400), ("PT1H30M5S", 5405), ("P2DT1S", 172801), ("PT0S", 0), ("PT90M", 5400)],
)
def test_duration(text: str, seconds: int) -> None:
    assert clock.duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "P",
        "PT",
        "P1DT",
        "30M",
        "PT-5M",
        "PT1.5H",
        "P1M",
        "P1Y",
        "P1W",
        "pt30m",
        " PT30M",
        "PT30M\n",
        "PT3٠M",
        f"P{10**20}D",
        "PT" + "9" * 5000 + "S",
    ],
)
def test_not_a_duration(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a duration") as caught:
        clock.duration_seconds(text, "antrean.yml:max_downtime")
    assert caught.value.where == "antrean.yml:max_downtime"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22",
        "2026-11-22T03:00:00",
        "2026-11-22T03:00:00+00:00",
        "2026-11-22t03:00:00z",
        "2026-11-22T03:00:00Z\n",
        "2026-02-30T00:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T03:00:61Z",
        "２０２６-11-22T03:00:00Z",
        "",
    ],
)
def test_not_a_time(text: str) -> None:
    """Only the one form that compares as text the way the times do."""
    assert not clock.is_time(text)
    with pytest.raises(ConfigError, match="is not a time"):
        clock.parse(text)


def test_one_form() -> None:
    moment = datetime(2026, 11, 22, 10, 0, 0, 999999, tzinfo=timezone(timedelta(hours=7)))
    assert clock.stamp(moment) == "2026-11-22T03:00:00Z"
    assert clock.parse("2026-11-22T03:00:00Z") == datetime(2026, 11, 22, 3, tzinfo=UTC)
    assert clock.is_time(clock.now())


def test_arithmetic() -> None:
    assert clock.plus("2026-12-31T23:59:59Z", seconds=1) == "2027-01-01T00:00:00Z"
    assert clock.seconds_between("2026-11-22T03:00:00Z", "2026-11-22T02:59:00Z") == -60


def test_sum_beyond_the_calendar_is_an_error_of_the_caller() -> None:
    with pytest.raises(ConfigError, match="beyond the calendar"):
        clock.plus("2026-11-22T03:00:00Z", days=99_999_999)


@pytest.mark.parametrize("name", ["Asia/Trenggalek", "../etc/passwd", "", "/etc/localtime", "Asia"])
def test_unknown_zone(name: str) -> None:
    with pytest.raises(ConfigError, match="is unknown") as caught:
        clock.zone(name, "sop.yml:timezone")
    assert "Asia/Jakarta" in caught.value.hint
    assert clock.zone("Asia/Makassar").key == "Asia/Makassar"
