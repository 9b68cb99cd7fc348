# SPDX-License-Identifier: Apache-2.0
"""What ``sopctl schedule export`` makes, read by the tool that it is for. cron itself reads its file in the lab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from sopctl import timetable
from sopctl.models import Schedule, ScheduleEntry, Validity, Window

JAKARTA = ZoneInfo("Asia/Jakarta")
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
ENTRIES = [
    ScheduleEntry("a"),
    ScheduleEntry("b", "5,35 1,13 * * sat"),
    ScheduleEntry("c", "P1W", window=Window("22:00-04:00")),
]
ORDER = Schedule(
    "sop-schedule/v1", "site", "profile", Validity("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"), ENTRIES
)
Made = Callable[[str], list[Path]]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The files of a kind, for a program whose path needs quoting in each of them."""

    def export(kind: str) -> list[Path]:
        program = tmp_path / ("100 % of it" if kind == "systemd" else "it's 100 % $HOME") / "sopctl"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
        command = timetable.Command(str(program), "/srv/sop site", "jadwal", "root")
        files = timetable.export(kind, ORDER, JAKARTA, command, NOW)
        for name, text in files.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        return [tmp_path / name for name in files]

    return export


def ran(*words: str | Path) -> str:
    """Standard output; whatever the tool complains of fails the test."""
    java = Path(shutil.which("java") or "/usr/bin/java").resolve()
    env = {**os.environ, "TZ": "UTC", "JAVA_HOME": str(java.parents[1])}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_takes_the_units(made: Made) -> None:
    assert "sopctl-schedule" not in ran("systemd-analyze", "verify", *made("systemd"))


def test_systemd_fires_when_the_schedule_says(made: Made) -> None:
    """A day of systemd's own reckoning, by the clock in Jakarta."""
    timer = next(path for path in made("systemd") if path.suffix == ".timer")
    found = set()
    for line in timer.read_text(encoding="utf-8").splitlines():
        if not line.startswith("OnCalendar="):
            continue
        said = ran(
            "systemd-analyze", "calendar", "--iterations=8", "--base-time=2026-11-22 00:00:00 UTC",
            line.removeprefix("OnCalendar="),
        )  # fmt: skip
        for row in said.splitlines():
            if "(in UTC)" in row or ("UTC" in row and ("elapse" in row or "Iter" in row)):
                text = row.split(": ", 1)[1].split()
                at = datetime.fromisoformat(f"{text[1]}T{text[2]}+00:00")
                if at < datetime(2026, 11, 23, tzinfo=UTC):
                    found.add(at)
    expected = set()
    for hour, minute in ((1, 0), (1, 5), (1, 35), (13, 5), (13, 35), (22, 0)):
        at = datetime(2026, 11, 22, hour, minute, tzinfo=JAKARTA).astimezone(UTC)
        expected.add(at if at.day == 22 else at + timedelta(days=1))
    assert found == expected


@pytest.mark.parametrize(("kind", "schema"), [("gitlab", "vendor.gitlab-ci"), ("github", "vendor.github-workflows")])
def test_ci_knows_every_key(kind: str, schema: str, made: Made) -> None:
    """By the schemas that GitLab and GitHub publish."""
    tool = Path(sys.executable).parent / "check-jsonschema"
    assert "ok" in ran(tool, "--builtin-schema", schema, *made(kind))


def test_jenkins_pipeline_is_groovy(made: Made, tmp_path: Path) -> None:
    """Parsed by Groovy, in which Jenkins runs it, with the pipeline's steps as what they are there: methods with a closure.

    Jenkins itself cannot be had from a package repository.
    """
    if not shutil.which("groovy"):
        pytest.skip("needs groovy: apt-get install groovy (make deps)")
    [path] = made("jenkins")
    run = tmp_path / "run.groovy"
    run.write_text(
        """
        class Steps extends Script {
            def said = [:]
            def invokeMethod(String name, Object given) {
                def all = given as List
                def body = all && all.last() instanceof Closure ? all.pop() : null
                if (all) said[name] = all[0]
                if (name == 'sh') { println "sh:" + all[0].script; return 22 }
                if (name in ['unstable', 'cron', 'stage']) println name + ":" + all[0]
                if (name == 'label') println name + ":" + all[0]
                if (body) { body.delegate = this; body.resolveStrategy = Closure.DELEGATE_FIRST; body() }
                return null
            }
            def run() { }
        }
        def setup = new org.codehaus.groovy.control.CompilerConfiguration()
        setup.scriptBaseClass = Steps.name
        new GroovyShell(this.class.classLoader, new Binding(), setup).evaluate(new File(args[0]))
        """,
        encoding="utf-8",
    )
    said = ran("groovy", run, path)
    program = tmp_path / "it's 100 % $HOME" / "sopctl"
    assert "cron:TZ=Asia/Jakarta\n0 1,22 * * *\n5,35 1,13 * * *\n" in said
    [command] = [line.removeprefix("sh:") for line in said.splitlines() if line.startswith("sh:")]
    shell = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert shell.stdout.splitlines()[:3] == [str(program), "-C", "/srv/sop site"]
    assert "unstable:some backups failed" in said
