# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.schedule: due, proven, missed, by the site's own calendar."""

from __future__ import annotations

from typing import Literal
from zoneinfo import ZoneInfo

import pytest

from sopctl import schedule as schedules
from sopctl.models import Schedule, ScheduleEntry, Validity
from sopctl.vault import Backup

JAKARTA, UTC = ZoneInfo("Asia/Jakarta"), ZoneInfo("UTC")
Every = Literal["P1M", "P1W", "P1D"]


def standing(since: str, every: Every = "P1M") -> Schedule:
    validity = Validity(since, "2099-01-01T00:00:00Z")
    return Schedule("sop-schedule/v1", "site", "profile", validity, [ScheduleEntry("simpeg", every)])


def backup(started: str, *, verified: bool = True, dataset: str = "simpeg") -> Backup:
    return Backup(
        dataset=dataset, name=f"b-{started}", period="", snapshot=started, manifest_snapshot="m", bytes=1, sha256="s",
        started=started, finished=started, record="R", verified=verified, verified_at=started if verified else None,
        depth="restore", content=None,
    )  # fmt: skip


def look(now: str, *backups: Backup, since: str, every: Every = "P1M", tz: ZoneInfo = JAKARTA) -> schedules.Due:
    return schedules.status(standing(since, every), list(backups), now, tz)[0]


def test_due_until_proven() -> None:
    line = look("2026-11-22T03:00:00Z", since="2026-11-01T00:00:00Z")
    assert (line.due, line.done, line.last_verified, line.missed) == (True, None, None, [])
    stored = backup("2026-11-05T00:00:00Z", verified=False)
    assert look("2026-11-22T03:00:00Z", stored, since="2026-11-01T00:00:00Z").due
    proven = backup("2026-11-06T00:00:00Z")
    line = look("2026-11-22T03:00:00Z", stored, proven, since="2026-11-01T00:00:00Z")
    assert (line.due, line.done, line.last_verified) == (False, proven, proven)


def test_other_datasets_prove_nothing() -> None:
    assert look(
        "2026-11-22T03:00:00Z", backup("2026-11-06T00:00:00Z", dataset="berkas"), since="2026-11-01T00:00:00Z"
    ).due


def test_backup_of_last_month_does_not_count_now() -> None:
    line = look("2026-12-01T03:00:00Z", backup("2026-11-06T00:00:00Z"), since="2026-11-01T00:00:00Z")
    assert line.due
    assert line.last_verified is not None
    assert line.missed == []


@pytest.mark.parametrize(
    ("tz", "due"),
    [(JAKARTA, False), (UTC, True)],
)
def test_month_ends_by_the_sites_clock(tz: ZoneInfo, due: bool) -> None:
    """18:00 UTC on October 31 is November in Jakarta: a backup made then is November's there, October's in UTC."""
    line = look("2026-11-20T00:00:00Z", backup("2026-10-31T18:00:00Z"), since="2026-10-01T00:00:00Z", tz=tz)
    assert line.due is due


def test_missed_months_newest_first() -> None:
    line = look("2026-12-10T00:00:00Z", backup("2026-10-06T00:00:00Z"), since="2026-08-01T01:00:00Z")
    assert line.missed == ["2026-11", "2026-09", "2026-08"]


def test_month_that_began_before_the_order_is_not_missed() -> None:
    line = look("2026-12-10T00:00:00Z", since="2026-09-15T00:00:00Z")
    assert line.missed == ["2026-11", "2026-10"]


def test_month_that_the_order_begins_with_is() -> None:
    midnight_in_jakarta = "2026-10-31T17:00:00Z"
    assert look("2026-12-10T00:00:00Z", since=midnight_in_jakarta).missed == ["2026-11"]
    assert look("2026-12-10T00:00:00Z", since=midnight_in_jakarta, tz=UTC).missed == ["2026-11"]
    assert look("2026-12-01T00:30:00Z", since="2026-11-01T00:00:00Z").missed == ["2026-11"]


def test_at_most_twelve() -> None:
    assert len(look("2026-12-10T00:00:00Z", since="2020-01-01T00:00:00Z").missed) == 12


def test_every_month_is_seen_whatever_the_day() -> None:
    """31 January, minus a month: February must not be jumped over."""
    for day in ("28", "29", "30", "31"):
        missed = look(f"2026-03-{day}T12:00:00Z", since="2025-12-31T17:00:00Z").missed
        assert missed == ["2026-02", "2026-01"], day


@pytest.mark.parametrize("hour", ["00", "09", "11", "23"])
def test_missed_days_do_not_depend_on_the_hour(hour: str) -> None:
    line = look(f"2026-11-22T{hour}:00:00Z", since="2026-11-20T10:00:00Z", every="P1D", tz=UTC)
    assert line.missed == ["2026-11-21", "2026-11-20"]


def test_missed_weeks() -> None:
    line = look("2026-11-25T00:00:00Z", since="2026-11-02T00:00:00Z", every="P1W", tz=UTC)
    assert line.missed == ["2026-W47", "2026-W46", "2026-W45"]


@pytest.mark.parametrize(
    ("every", "now", "expected"),
    [
        ("P1M", "2026-11-22T03:00:00Z", "2026-12-01"),
        ("P1M", "2026-12-31T16:59:00Z", "2027-01-01"),
        ("P1M", "2026-12-31T17:00:00Z", "2027-02-01"),
        ("P1D", "2026-11-22T16:59:59Z", "2026-11-23"),
        ("P1D", "2026-11-22T17:00:00Z", "2026-11-24"),
        ("P1W", "2026-11-22T03:00:00Z", "2026-11-23"),  # a Sunday
        ("P1W", "2026-11-23T03:00:00Z", "2026-11-30"),  # a Monday
    ],
)
def test_next_due(every: str, now: str, expected: str) -> None:
    assert schedules.next_due(every, now, JAKARTA) == expected
