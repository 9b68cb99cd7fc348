# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.timetable: at which times of day other schedulers start a run, and by whose clock."""

from __future__ import annotations

import json
import os
import shlex
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from sopctl import cli, standing, timetable
from sopctl.cli.schedules import _program
from sopctl.errors import ConfigError
from sopctl.models import Schedule, ScheduleEntry, Validity, Window
from tests.support.case_site import CaseSite

JAKARTA, MAKASSAR, KOLKATA, BERLIN = (
    ZoneInfo(name) for name in ("Asia/Jakarta", "Asia/Makassar", "Asia/Kolkata", "Europe/Berlin")
)
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
HARD = timetable.Command("/opt/sop ctl/bin/sopctl", "/srv/a%b $HOME 'q' \\n", "jadwal", "sop")


def order(*entries: ScheduleEntry, window: Window | None = None) -> Schedule:
    validity = Validity("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z")
    return Schedule("sop-schedule/v1", "site", "profile", validity, list(entries), window)


@pytest.mark.parametrize(
    ("schedule", "times"),
    [
        (order(ScheduleEntry("a")), {(1, 0)}),
        (order(ScheduleEntry("a", "P1D"), ScheduleEntry("b", "P1W")), {(1, 0)}),
        (order(ScheduleEntry("a", window=Window("22:30-04:00"))), {(22, 30)}),
        (order(ScheduleEntry("a"), window=Window("22:30-04:00")), {(22, 30)}),
        (order(ScheduleEntry("a", "15 2 1 * *")), {(2, 15)}),
        (order(ScheduleEntry("a", "0,30 */12 * * sat")), {(0, 0), (0, 30), (12, 0), (12, 30)}),
        # its time may lie outside the window: then the window's opening is when it runs
        (order(ScheduleEntry("a", "15 2 1 * *"), window=Window("20:00-23:00")), {(2, 15), (20, 0)}),
    ],
)
def test_times_of_day(schedule: Schedule, times: set[tuple[int, int]]) -> None:
    assert timetable.times_of_day(schedule) == times


@pytest.mark.parametrize(
    ("times", "tz", "machine", "expected"),
    [
        ({(1, 0)}, JAKARTA, UTC, {(18, 0)}),
        ({(1, 0)}, MAKASSAR, UTC, {(17, 0)}),
        ({(1, 0)}, MAKASSAR, JAKARTA, {(0, 0)}),
        ({(1, 0), (22, 30)}, JAKARTA, KOLKATA, {(23, 30), (21, 0)}),
        ({(1, 0)}, JAKARTA, JAKARTA, {(1, 0)}),
    ],
)
def test_by_another_clock(
    times: set[tuple[int, int]], tz: ZoneInfo, machine: timezone | ZoneInfo, expected: set[tuple[int, int]]
) -> None:
    assert timetable.in_zone(frozenset(times), tz, NOW.astimezone(machine)) == expected


def test_by_the_machines_clock_as_datetime_gives_it() -> None:
    """``astimezone()`` without a zone has a fixed offset, with a name."""
    machine = NOW.astimezone(timezone(timedelta(hours=8), "WITA"))
    assert timetable.in_zone(frozenset({(1, 0)}), JAKARTA, machine) == {(2, 0)}


def test_lines_are_few_and_say_the_same() -> None:
    times = frozenset({(1, 0), (13, 0), (1, 30), (13, 30), (22, 0)})
    assert timetable.lines(times) == [("0", "1,13,22"), ("30", "1,13")]
    every_ten = frozenset((hour, minute) for hour in range(24) for minute in range(0, 60, 10))
    [(minutes, hours)] = timetable.lines(every_ten)
    assert (minutes, hours) == ("0,10,20,30,40,50", ",".join(map(str, range(24))))


@pytest.mark.parametrize(("tz", "changes"), [(JAKARTA, False), (MAKASSAR, False), (BERLIN, True)])
def test_summer_time(tz: ZoneInfo, changes: bool) -> None:
    assert timetable.changes_clock(tz, NOW) is changes
    for kind in ("cron", "github"):
        [text] = timetable.export(kind, order(ScheduleEntry("a")), tz, HARD, NOW).values()
        assert ("Export it again" in text) is (changes or kind == "cron")  # this machine's zone is not the site's


@pytest.mark.parametrize("kind", ["cron", "gitlab", "github"])
def test_shell_sees_the_words(kind: str) -> None:
    """Whatever a path holds: what each scheduler hands to its shell is the command, word for word."""
    [text] = timetable.export(kind, order(ScheduleEntry("a")), JAKARTA, HARD, NOW).values()
    if kind == "cron":
        line = text.splitlines()[-1].split(maxsplit=6)
        assert line[:6] == ["0", "18", "*", "*", "*", "sop"]
        command = line[6].replace("\\%", "%")
    elif kind == "gitlab":
        [command] = yaml.safe_load(text)["sop-backup"]["script"]
    else:
        [step] = yaml.safe_load(text)["jobs"]["sop-backup"]["steps"]
        command, _, rest = step["run"].partition(" || ")
        assert rest == "{ code=$?; test $code -eq 11 || exit $code; }"
    assert shlex.split(command) == [
        HARD.program, "-C", HARD.site, "schedule", "run", "--due", "--as", HARD.identity,
    ]  # fmt: skip


@pytest.mark.parametrize("site", ["/srv/a\nb", "/srv/${{ secrets.X }}"])
def test_what_cannot_be_written(site: str) -> None:
    command = timetable.Command("/bin/sopctl", site, "jadwal", "sop")
    with pytest.raises(ConfigError, match="cannot be written"):
        timetable.export("github", order(ScheduleEntry("a")), JAKARTA, command, NOW)


@pytest.mark.parametrize("user", ["root /bin/evil #", "%i", "", "Sop", "so p", "-x"])
def test_what_is_no_user(user: str) -> None:
    command = timetable.Command("/bin/sopctl", "/srv", "jadwal", user)
    with pytest.raises(ConfigError, match="is no user's name"):
        timetable.export("cron", order(ScheduleEntry("a")), JAKARTA, command, NOW)


def test_root_that_the_environment_pins_goes_with_the_command() -> None:
    command = timetable.Command("/bin/sopctl", "/srv/😀", "jadwal", "sop", "/home/sop/root")
    for kind in timetable.KINDS:
        texts = timetable.export(kind, order(ScheduleEntry("a")), JAKARTA, command, NOW)
        assert any("SOPCTL_ROOT=/home/sop/root" in text for text in texts.values()), kind
    [text] = timetable.export("gitlab", order(ScheduleEntry("a")), JAKARTA, command, NOW).values()
    [line] = yaml.safe_load(text)["sop-backup"]["script"]
    assert shlex.split(line)[:5] == ["/usr/bin/env", "SOPCTL_ROOT=/home/sop/root", "/bin/sopctl", "-C", "/srv/😀"]


def test_program_that_systemd_would_refuse() -> None:
    with pytest.raises(ConfigError, match="systemd starts no program with such a name"):
        timetable.export(
            "systemd", order(ScheduleEntry("a")), JAKARTA, timetable.Command("/o'/s", "/srv", "j", "s"), NOW
        )


def test_empty_schedule() -> None:
    with pytest.raises(ConfigError, match="no entries"):
        timetable.export("cron", order(), JAKARTA, HARD, NOW)


# --- the command -----------------------------------------------------------------------------------------------


def export(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), "schedule", "export", *words])


def test_written_or_printed(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(site, "cron", "--as", "pelaksana", "--user", "sop") == 0
    printed = capsys.readouterr().out
    root, program = os.environ["SOPCTL_ROOT"], _program()
    assert f" sop /usr/bin/env SOPCTL_ROOT={root} {program} -C {site.root} schedule run --due" in printed
    assert export(site, "cron", "--as", "pelaksana", "--user", "sop", "--to", str(tmp_path)) == 0
    assert (tmp_path / "sopctl-schedule").read_text(encoding="utf-8") == printed
    assert f"written: {tmp_path}/sopctl-schedule" in capsys.readouterr().out
    assert export(site, "systemd", "--as", "pelaksana", "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["files"]) == {"sopctl-schedule.service", "sopctl-schedule.timer"}
    assert export(site, "cron", "--as", "pelaksana", "--to", str(tmp_path / "lain")) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_key_that_is_not_found_by_itself(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(site, "cron", "--key", str(site.keys / "robot")) == 0
    assert capsys.readouterr().out.endswith(f" --as robot --key {site.keys / 'robot'}\n")


def test_who_executes(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    """The trust's only service identity, unless one is named; nobody who may not."""
    assert export(site, "cron") == 0
    assert " --as robot\n" in capsys.readouterr().out
    assert standing.executes_schedule(site.session, "pelaksana") == "pelaksana"
    assert export(site, "cron", "--as", "kabid") == 2
    said = capsys.readouterr().err
    assert "kabid may not execute the schedule now" in said
    assert "pelaksana" in said
