# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.schedule: due, proven, missed, by the site's own calendar."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

import msgspec
import pytest

from sopctl import schedule as schedules
from sopctl.models import Schedule, ScheduleEntry, Validity, Window
from sopctl.vault import Backup

JAKARTA, UTC = ZoneInfo("Asia/Jakarta"), ZoneInfo("UTC")


def standing(since: str, every: str = "P1M", window: Window | None = None) -> Schedule:
    validity = Validity(since, "2099-01-01T00:00:00Z")
    return Schedule("sop-schedule/v1", "site", "profile", validity, [ScheduleEntry("simpeg", every)], window)


def backup(started: str, *, verified: bool = True, dataset: str = "simpeg") -> Backup:
    return Backup(
        dataset=dataset, name=f"b-{started}", period="", snapshot=started, manifest_snapshot="m", bytes=1, sha256="s",
        started=started, finished=started, record="R", verified=verified, verified_at=started if verified else None,
        depth="restore", content=None,
    )  # fmt: skip


def look(
    now: str, *backups: Backup, since: str, every: str = "P1M", tz: ZoneInfo = JAKARTA, window: Window | None = None
) -> schedules.Due:
    return schedules.status(standing(since, every, window), list(backups), now, tz)[0]


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
        ("P1M", "2026-11-22T03:00:00Z", "2026-11-30T17:00:00Z"),
        ("P1M", "2026-12-31T16:59:00Z", "2026-12-31T17:00:00Z"),
        ("P1M", "2026-12-31T17:00:00Z", "2027-01-31T17:00:00Z"),
        ("P1D", "2026-11-22T16:59:59Z", "2026-11-22T17:00:00Z"),
        ("P1D", "2026-11-22T17:00:00Z", "2026-11-23T17:00:00Z"),
        ("P1W", "2026-11-22T03:00:00Z", "2026-11-22T17:00:00Z"),  # a Sunday
        ("P1W", "2026-11-23T03:00:00Z", "2026-11-29T17:00:00Z"),  # a Monday
    ],
)
def test_next_due(every: str, now: str, expected: str) -> None:
    line = look(now, backup(now), since="2026-11-01T00:00:00Z", every=every)
    assert not line.due
    assert line.startable == expected
    assert look(now, since="2026-11-01T00:00:00Z", every=every).startable == now


def test_overdue_until_caught_up() -> None:
    """A month that was missed stays missed; overdue is what has nothing newer either."""
    now, since = "2026-12-10T00:00:00Z", "2026-10-01T00:00:00Z"
    assert look(now, since=since).overdue
    assert look(now, backup("2026-10-05T00:00:00Z"), since=since).overdue
    caught_up = look(now, backup("2026-12-05T00:00:00Z"), since=since)
    assert (caught_up.overdue, caught_up.missed) == (False, ["2026-11", "2026-10"])
    due = look(now, backup("2026-11-05T00:00:00Z"), since=since)
    assert (due.due, due.overdue, due.missed) == (True, False, ["2026-10"])


def test_new_order_is_not_overdue() -> None:
    assert not look("2026-11-22T00:00:00Z", since="2026-11-20T00:00:00Z").overdue


def test_scheduled_backup_serves_its_own_period_a_requested_one_that_in_which_it_began() -> None:
    """One that began in the last minute of a window may be stored after the month's end."""
    late = replace(backup("2026-11-30T17:00:30Z"), period="2026-11")
    assert look("2026-12-10T00:00:00Z", late, since="2026-11-01T00:00:00Z").due
    assert look("2026-12-10T00:00:00Z", late, since="2026-11-01T00:00:00Z").missed == []
    requested = replace(late, period="bkp-2026-0003")
    assert not look("2026-12-10T00:00:00Z", requested, since="2026-11-01T00:00:00Z").due


# --- windows ---------------------------------------------------------------------------------------------------

NIGHT = Window("22:00-04:00")


@pytest.mark.parametrize(
    ("now", "startable"),
    [
        ("2026-11-22T14:59:59Z", "2026-11-22T15:00:00Z"),  # 21:59:59 in Jakarta
        ("2026-11-22T15:00:00Z", "2026-11-22T15:00:00Z"),
        ("2026-11-22T20:59:59Z", "2026-11-22T20:59:59Z"),
        ("2026-11-22T21:00:00Z", "2026-11-23T15:00:00Z"),  # 04:00: closed
    ],
)
def test_due_waits_for_its_window(now: str, startable: str) -> None:
    line = look(now, since="2026-11-01T00:00:00Z", window=NIGHT)
    assert line.due
    assert line.startable == startable
    assert line.runs is (startable == now)


def test_missed_window_is_caught_up_in_the_next_one() -> None:
    """The order wants Saturday nights; the controller was off on the last of the month, the next is December's."""
    saturdays = Window("22:00-04:00", ["sat"])
    since, sunday = "2026-11-01T00:00:00Z", "2026-11-15T03:00:00Z"
    line = look(sunday, since=since, window=saturdays)
    assert (line.due, line.startable) == (True, "2026-11-21T15:00:00Z")
    late = look("2026-11-29T03:00:00Z", since=since, window=saturdays)
    assert late.startable == "2026-12-05T15:00:00Z"
    over = look("2026-12-05T15:00:00Z", since=since, window=saturdays)
    assert (over.runs, over.overdue, over.missed) == (True, True, ["2026-11"])


def test_night_belongs_to_the_day_on_which_it_begins() -> None:
    """01:00 on December 1 in the night of November 30: November's backup, and December's is not due before the evening."""
    now, since = "2026-11-30T18:00:00Z", "2026-11-01T00:00:00Z"
    line = look(now, since=since, window=NIGHT)
    assert (line.period.name, line.due, line.missed) == ("2026-11", True, [])
    done = look(now, replace(backup(now), period="2026-11"), since=since, window=NIGHT)
    assert (done.due, done.startable) == (False, "2026-12-01T15:00:00Z")
    evening = look("2026-12-01T15:00:00Z", replace(backup(now), period="2026-11"), since=since, window=NIGHT)
    assert (evening.period.name, evening.due, evening.missed) == ("2026-12", True, [])


def test_window_of_the_schedule_is_for_entries_without_their_own() -> None:
    order = standing("2026-11-01T00:00:00Z", window=NIGHT)
    own = ScheduleEntry("berkas", window=Window("06:00-08:00"))
    order = msgspec.structs.replace(order, entries=[*order.entries, own])
    night, morning = schedules.status(order, [], "2026-11-22T03:00:00Z", JAKARTA)
    assert (night.startable, morning.startable) == ("2026-11-22T15:00:00Z", "2026-11-22T23:00:00Z")


# --- cron ------------------------------------------------------------------------------------------------------


def test_changed_cron_expression_is_not_overdue_at_once() -> None:
    """Backups of the order before have names of its times; they serve the periods in which they began."""
    before = [
        replace(backup(f"2026-11-{day:02d}T18:30:30Z"), period=f"2026-11-{day + 1:02d}T0130") for day in range(1, 22)
    ]
    line = look("2026-11-22T00:00:00Z", *before, since="2026-11-02T00:00:00Z", every="0 3 * * *")
    assert (line.overdue, line.missed) == (False, [])


def test_what_a_restore_replaced_is_no_backup_of_the_period() -> None:
    safety = replace(backup("2026-11-06T00:00:00Z"), period="rst-2026-0001-safety")
    line = look("2026-11-22T03:00:00Z", safety, since="2026-11-01T00:00:00Z")
    assert (line.due, line.last_verified) == (True, None)


def test_cron() -> None:
    """Each of its times begins a period; a backup in it serves until the next one."""
    every, since = "30 1 * * sat", "2026-11-01T00:00:00Z"
    line = look(
        "2026-11-22T03:00:00Z", since=since, every=every
    )  # Sunday; Saturday 01:30 in Jakarta is Friday 18:30 UTC
    assert (line.period.name, line.period.begins) == ("2026-11-21T0130", "2026-11-20T18:30:00Z")
    assert line.missed == ["2026-11-14T0130", "2026-11-07T0130"]
    done = look("2026-11-22T03:00:00Z", backup("2026-11-20T18:30:00Z"), since=since, every=every)
    assert (done.due, done.startable) == (False, "2026-11-27T18:30:00Z")
    assert look("2026-11-22T03:00:00Z", backup("2026-11-20T18:29:59Z"), since=since, every=every).due
