# SPDX-License-Identifier: Apache-2.0
"""The schedule for other schedulers: files that start ``sopctl schedule run --due`` where systemd, cron or a CI keeps time.

They start it every day at the times of day that the standing order knows: where a window opens, where a cron expression has
its times, else at 01:00. The run itself decides what is due. So a window that was missed is caught up on the next day, and
a signed order with other periods needs no new file.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from sopctl import periods
from sopctl.errors import ConfigError
from sopctl.models import Schedule

#: scheduler → template → file that it becomes
KINDS: dict[str, dict[str, str]] = {
    "systemd": {"service": "sopctl-schedule.service", "timer": "sopctl-schedule.timer"},
    "cron": {"cron": "sopctl-schedule"},
    "gitlab": {"gitlab": ".gitlab-ci.yml"},
    "github": {"github": "sopctl-schedule.yml"},
    "jenkins": {"jenkins": "Jenkinsfile"},
}
#: where a calendar's period has no window: after midnight, when the day's work is done
OTHERWISE = (1, 0)
_USER = re.compile(r"[a-z_][a-z0-9_-]*\$?", re.ASCII)

Times = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Command:
    """What is started: program, site's folder, who executes (a service identity of the trust), as which user of the machine.

    ``root``: file with the root's line, where the environment says it; None where /etc/sopctl/root does. ``key``: the
    identity's private key; None where that is one of the user's own.
    """

    program: str
    site: str
    identity: str
    user: str
    root: str | None = None
    key: str | None = None

    @property
    def words(self) -> list[str]:
        """The command line."""
        environment = ["/usr/bin/env", f"SOPCTL_ROOT={self.root}"] if self.root else []
        key = ["--key", self.key] if self.key else []
        return [*environment, self.program, "-C", self.site, "schedule", "run", "--due", "--as", self.identity, *key]


def times_of_day(schedule: Schedule) -> Times:
    """(hour, minute) by the site's clock at which a run may find something to do."""
    found: set[tuple[int, int]] = set()
    for entry in schedule.entries:
        window = schedule.window_of(entry)
        if window:
            hour, minute = window.hours.split("-")[0].split(":")
            found.add((int(hour), int(minute)))
        if entry.every not in periods.CALENDAR:
            found |= periods.cron_times(entry.every)
        elif not window:
            found.add(OTHERWISE)
    return frozenset(found)


def in_zone(times: Times, tz: ZoneInfo, other: datetime) -> Times:
    """``times`` by the clock of ``other``'s zone, as both zones are on ``other``'s day."""
    moved = set()
    for hour, minute in times:
        at = other.astimezone(tz).replace(hour=hour, minute=minute).astimezone(other.tzinfo)
        moved.add((at.hour, at.minute))
    return frozenset(moved)


def changes_clock(tz: ZoneInfo | None, now: datetime) -> bool:
    """Whether ``tz`` (None: the machine's zone) changes to summer time or back within a year."""
    return (
        len({(now.astimezone(UTC) + timedelta(days=days)).astimezone(tz).utcoffset() for days in range(0, 366, 7)}) > 1
    )


def lines(times: Times, form: str = "") -> list[tuple[str, str]]:
    """``times`` as few pairs (minutes, hours), as cron and systemd list them: ``("0,30", "1,13")``; ``form`` of each number."""
    by_minute: dict[int, list[int]] = {}
    for hour, minute in sorted(times):
        by_minute.setdefault(minute, []).append(hour)
    by_hours: dict[tuple[int, ...], list[int]] = {}
    for minute, hours in sorted(by_minute.items()):
        by_hours.setdefault(tuple(hours), []).append(minute)
    in_order = sorted(by_hours.items(), key=lambda each: each[1])
    return [(_listed(minutes, form), _listed(hours, form)) for hours, minutes in in_order]


def _listed(numbers: Iterable[int], form: str) -> str:
    return ",".join(format(number, form) for number in numbers)


def export(kind: str, schedule: Schedule, tz: ZoneInfo, command: Command, now: datetime) -> dict[str, str]:
    """File name → text for ``kind``. ``now`` has the machine's zone, which cron keeps time by.

    ConfigError when the schedule has no entry, or when a path or name cannot be written into such a file.
    """
    if not schedule.entries:
        raise ConfigError("the schedule has no entries", where="schedule.yml:entries", hint="Name its datasets.")
    if not _USER.fullmatch(command.user):
        raise ConfigError(f"{command.user!r} is no user's name", where="schedule export --user")
    for value in (*command.words, command.user):
        if not value.isprintable() or "${{" in value:  # GitHub would put something else there
            raise ConfigError(f"{value!r} cannot be written into a file for {kind}", where="schedule export")
    if kind == "systemd" and not command.root and set("'\"\\$") & set(command.program):
        raise ConfigError(
            f"systemd starts no program with such a name: {command.program}",
            where="schedule export",
            hint="Install sopctl in a folder without quotes and dollar signs.",
        )
    site_times = times_of_day(schedule)
    utc = now.astimezone(UTC)
    words = {
        "command": command,
        "run": command.words,
        "zone": tz.key,
        "changes_clock": changes_clock(tz, now),
        "machine_changes_clock": changes_clock(None, now),
        "machine_zone": now.tzname(),
        "site_lines": lines(site_times),
        "padded_lines": lines(site_times, "02"),
        "machine_lines": lines(in_zone(site_times, tz, now)),
        "utc_lines": lines(in_zone(site_times, tz, utc)),
    }
    import jinja2

    environment = jinja2.Environment(  # noqa: S701  # what it makes is no HTML
        loader=jinja2.PackageLoader("sopctl", "templates/timetable"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shell": shlex.join, "systemd": _systemd, "yaml": _yaml, "groovy": _groovy}
    return {
        name: environment.get_template(f"{part}.j2").render(words).rstrip("\n") + "\n"
        for part, name in KINDS[kind].items()
    }


def _systemd(words: list[str]) -> str:
    """A command line for ExecStart=: each word quoted, nothing of it expanded."""
    return " ".join(
        '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$") + '"'
        for word in words
    )


def _yaml(text: str) -> str:
    """A double-quoted YAML scalar."""
    return json.dumps(text, ensure_ascii=False)


def _groovy(text: str) -> str:
    """A single-quoted Groovy string, which expands nothing."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
