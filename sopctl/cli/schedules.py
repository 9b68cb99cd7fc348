# SPDX-License-Identifier: Apache-2.0
"""``sopctl schedule …``."""

from __future__ import annotations

import os
import pwd
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from sopctl import fsio, standing, timetable
from sopctl.cli.cases import show_run
from sopctl.cli.common import Settings, acting, local, settings, with_json
from sopctl.errors import ExitCode, UsageError
from sopctl.models import Json
from sopctl.output import Output, Progress
from sopctl.output import size as formatted
from sopctl.schedule import Due
from sopctl.trust import ROOT_ENV, ROOT_PIN


@click.group()
def schedule() -> None:
    """The backup schedule (Jadwal Back Up): a signed standing order."""


@schedule.command()
@acting
@with_json
@settings
def sign(config: Settings, person: str | None, key: str | None) -> None:
    """Sign schedule.yml as the standing order."""
    path = standing.sign_schedule(config.session, person, key)
    config.output.result({"signature": str(path)}, lambda output: output.line(f"signed: {path}"))


@schedule.command()
@with_json
@settings
def status(config: Settings) -> int:
    """Show what is proven, due, overdue and missed. Exit 31 when a past period has no verified backup."""
    lines = standing.schedule_status(config.session)
    tz = config.session.site.tz

    def render(output: Output) -> None:
        output.table(
            ["dataset", "period", "state", "last verified", "size", "missed"],
            [
                [
                    line.entry.dataset,
                    line.period.name,
                    _state(line, tz),
                    local(line.last_verified.started, tz) if line.last_verified else "never",
                    _size(line),
                    ", ".join(line.missed),
                ]
                for line in lines
            ],
        )

    config.output.result([_row(line) for line in lines], render)
    return int(ExitCode.OVERDUE if any(line.missed for line in lines) else ExitCode.OK)


def _row(line: Due) -> Json:
    last, before = line.last_verified, line.verified_before
    return {
        "dataset": line.entry.dataset,
        "every": line.entry.every,
        "period": line.period.name,
        "due": line.due,
        "window_open": line.runs if line.due else None,
        "overdue": line.overdue,
        "next_due": line.startable,
        "last_verified": last.started if last else None,
        "last_name": last.name if last else None,
        "bytes": last.bytes if last else None,
        "bytes_before": before.bytes if before else None,
        "missed": line.missed,
    }


def _state(line: Due, tz: ZoneInfo) -> str:
    word = "overdue" if line.overdue else "due"
    if line.runs:
        return f"{word} now"
    at = local(line.startable, tz)
    return f"{word}, window opens {at}" if line.due else f"done, next {at}"


def _size(line: Due) -> str:
    """The newest size, and how it has changed."""
    if not line.last_verified:
        return ""
    size, before = line.last_verified.bytes, line.verified_before.bytes if line.verified_before else 0
    return formatted(size) + (f" ({(size - before) / before:+.0%})" if before else "")


@schedule.command("run")
@click.option(
    "--due", is_flag=True, help="Everything that has no verified backup in its period and whose window is open."
)
@click.option("--dataset", "only", multiple=True, metavar="ID", help="These datasets of the schedule, due or not.")
@click.option("--check", is_flag=True, help="Change nothing; say what would change.")
@acting
@with_json
@settings
def run_(config: Settings, due: bool, only: tuple[str, ...], check: bool, person: str | None, key: str | None) -> int:
    """Run the schedule: back up, prove, name, secure, fill the form. Exit 31 when all went well but something is overdue."""
    if due == bool(only):
        raise click.UsageError("Give --due, or --dataset ID.")
    done = standing.run_schedule(
        config.session, person, key, only=list(only), check=check, progress=Progress(config.output, check=check)
    )
    lines = standing.schedule_status(config.session)
    overdue = int(ExitCode.OVERDUE if any(line.overdue for line in lines) else ExitCode.OK)
    if done is not None:
        code = show_run(config, done)
        return code if code or check else overdue
    proven = [line for line in lines if line.done]
    waiting = [line for line in lines if line.due]
    value = {
        "changed": 0,
        "done": {line.entry.dataset: line.done.record for line in proven if line.done},
        "waiting": {line.entry.dataset: line.startable for line in waiting},
        "overdue": [line.entry.dataset for line in lines if line.overdue],
    }

    def render(output: Output) -> None:
        words = "Nothing can start now" if waiting else "Nothing is due"
        output.line(f"{words} (changed=0).", "bold yellow" if overdue else "bold green")
        for line in proven:
            if line.done:
                output.line(
                    f"  {line.entry.dataset}: {line.period.name} verified, {line.done.name} (record {line.done.record})"
                )
        for line in waiting:
            output.line(f"  {line.entry.dataset}: {line.period.name} {_state(line, config.session.site.tz)}")

    config.output.result(value, render)
    return overdue


@schedule.command()
@click.argument("kind", type=click.Choice(list(timetable.KINDS)))
@click.option("--as", "identity", metavar="IDENTITY", help="Who executes (default: the trust's only service identity).")
@click.option("--key", metavar="FILE", help="Its private key, where it is none of those that sopctl finds by itself.")
@click.option("--user", metavar="USER", help="User of this machine it runs as (systemd, cron; default: you).")
@click.option("--to", "folder", metavar="FOLDER", type=click.Path(path_type=Path), help="Write the files there.")
@with_json
@settings
def export(
    config: Settings, kind: str, identity: str | None, key: str | None, user: str | None, folder: Path | None
) -> None:
    """Print files with which another scheduler starts what is due."""
    site = config.session.site
    command = timetable.Command(
        program=_program(),
        site=str(site.root.absolute()),
        identity=standing.executes_schedule(config.session, identity),
        user=user or pwd.getpwuid(os.getuid()).pw_name,
        key=str(Path(key).absolute()) if key else None,
        root=None if os.path.lexists(ROOT_PIN) else str(Path(os.environ[ROOT_ENV]).absolute()),
    )
    made = timetable.export(kind, site.schedule(), site.tz, command, datetime.now().astimezone())
    if folder:
        if not folder.is_dir():
            raise UsageError("there is no such folder", where=str(folder), hint="Make it, or leave --to away.")
        for name, text in made.items():
            fsio.write_atomic(folder.absolute() / name, text.encode(), 0o644)

    def render(output: Output) -> None:
        for name, text in made.items():
            if folder:
                output.line(f"written: {folder / name}")
            else:
                output.page(text if len(made) == 1 else f"# {name}\n{text}")

    config.output.result({"files": made, "written": bool(folder)}, render)


def _program() -> str:
    """Where sopctl lies: as it was called, else beside the Python that runs it."""
    called = Path(sys.argv[0]).absolute()
    found = called if os.access(called, os.X_OK) else Path(sys.executable).parent / "sopctl"
    if not os.access(found, os.X_OK):
        raise UsageError(
            "no program sopctl is there that could be started", where=str(found), hint="Install it by pip."
        )
    return str(found)
