# SPDX-License-Identifier: Apache-2.0
"""What may be forgotten, by records and their received times alone."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

from sopctl import retention
from sopctl.models import Keep
from sopctl.retention import Wanted
from sopctl.vault import Backup

NOW = "2026-06-30T12:00:00Z"
UTC = ZoneInfo("UTC")
NOBODY = Wanted({}, {})


def backup(number: int, **more: object) -> Backup:
    base = Backup(
        dataset="simpeg",
        name=f"b{number}",
        period=f"2026-{number:02d}",
        snapshot=f"{number:064x}",
        manifest_snapshot=f"{number + 1000:064x}",
        bytes=1,
        sha256="",
        started="2026-01-01T00:00:00Z",
        finished="2026-01-01T00:00:00Z",
        record=f"R{number}",
        verified=True,
        verified_at=None,
        depth=None,
        content=None,
        server="db01",
    )
    return replace(base, **more)  # type: ignore[arg-type]  # a test's own words


def going(
    backups: list[Backup], received: dict[str, str], keep: Keep | None, wanted: Wanted = NOBODY, days: int = 7
) -> list[str]:
    found = retention.verdicts(backups, received, {"simpeg": keep}, wanted, NOW, days, UTC)
    return [each.backup.name for each in found if each.goes]


MONTHS = [backup(number) for number in range(1, 7)]
RECEIVED = {f"R{number}": f"2026-{number:02d}-10T00:00:00Z" for number in range(1, 7)}


def test_the_newest_of_each_span_is_kept() -> None:
    assert going(MONTHS, RECEIVED, Keep(monthly=2)) == ["b1", "b2", "b3", "b4"]
    assert going(MONTHS, RECEIVED, Keep(daily=3, yearly=1)) == ["b1", "b2", "b3"]
    same_day = {name: f"2026-06-10T0{name[1]}:00:00Z" for name in RECEIVED}
    assert going(MONTHS, same_day, Keep(daily=7, weekly=4)) == ["b1", "b2", "b3", "b4", "b5"]


def test_without_retention_nothing_goes() -> None:
    assert going(MONTHS, RECEIVED, None) == []


def test_times_of_snapshots_count_for_nothing() -> None:
    claims = [replace(each, started=f"20{60 - at}-01-01T00:00:00Z") for at, each in enumerate(MONTHS)]
    assert going(claims, RECEIVED, Keep(monthly=1)) == ["b1", "b2", "b3", "b4", "b5"]


def test_the_newest_verified_and_what_is_newer_stay() -> None:
    unproven = [replace(each, verified=each.name in {"b2", "b4"}) for each in MONTHS]
    assert going(unproven, RECEIVED, Keep(monthly=1)) == ["b1", "b2", "b3"]
    assert going([replace(each, verified=False) for each in MONTHS], RECEIVED, Keep(monthly=1)) == []


def test_an_unproven_backup_takes_no_place_of_a_proven_one() -> None:
    unproven = [replace(each, verified=each.name != "b5") for each in MONTHS]
    assert going(unproven, RECEIVED, Keep(monthly=2)) == ["b1", "b2", "b3", "b5"]


def test_open_cases_and_kept_data_hold_what_they_need() -> None:
    keep = Keep(monthly=1)
    assert going(MONTHS, RECEIVED, keep, Wanted({"simpeg": ["RST-2026-0001"]}, {})) == []
    assert going(MONTHS, RECEIVED, keep, Wanted({"other": ["RST-2026-0001"]}, {MONTHS[0].snapshot: "kept"})) == [
        "b2",
        "b3",
        "b4",
        "b5",
    ]


def test_a_safety_backup_stays_for_the_keep_time_and_while_its_case_keeps_data() -> None:
    safety = replace(MONTHS[4], period="rst-2026-0001-safety")
    mine = [safety, MONTHS[5]]
    keep = Keep(monthly=1)
    assert going(mine, RECEIVED, keep, days=60) == []
    assert going(mine, RECEIVED, keep) == ["b5"]
    assert going(mine, RECEIVED, keep, Wanted({}, {"rst-2026-0001": "kept"})) == []


def test_what_is_forgotten_is_not_judged_again() -> None:
    gone = [replace(each, forgotten=each.name == "b1") for each in MONTHS]
    assert going(gone, RECEIVED, Keep(monthly=4)) == ["b2"]
