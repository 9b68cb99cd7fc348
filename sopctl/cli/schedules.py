# SPDX-License-Identifier: Apache-2.0
"""``sopctl schedule …``."""

from __future__ import annotations

import click

from sopctl import clock, standing
from sopctl import schedule as schedules
from sopctl.cli.cases import show_run
from sopctl.cli.common import Settings, acting, settings, with_json
from sopctl.errors import ExitCode
from sopctl.output import Output, Progress


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
    """Show what is proven, due and missed. Exit 31 when a past period has no verified backup."""
    lines = standing.schedule_status(config.session)
    site = config.session.site
    value = [
        {
            "dataset": line.entry.dataset,
            "every": line.entry.every,
            "period": line.period,
            "due": line.due,
            "last_verified": line.last_verified.started if line.last_verified else None,
            "last_name": line.last_verified.name if line.last_verified else None,
            "next_due": None if line.due else schedules.next_due(line.entry.every, clock.now(), site.tz),
            "missed": line.missed,
        }
        for line in lines
    ]

    def render(output: Output) -> None:
        rows = []
        for row in value:
            state = "due now" if row["due"] else f"done, next {row['next_due']}"
            rows.append(
                [
                    str(row["dataset"]),
                    str(row["every"]),
                    str(row["period"]),
                    state,
                    str(row["last_verified"] or "never"),
                    ", ".join(row["missed"] if isinstance(row["missed"], list) else []),
                ]
            )
        output.table(["dataset", "every", "period", "state", "last verified", "missed"], rows)

    config.output.result(value, render)
    return int(ExitCode.OVERDUE if any(line.missed for line in lines) else ExitCode.OK)


@schedule.command("run")
@click.option("--due", is_flag=True, help="Everything that has no verified backup in its period.")
@click.option("--dataset", "only", multiple=True, metavar="ID", help="These datasets of the schedule, due or not.")
@click.option("--check", is_flag=True, help="Change nothing; say what would change.")
@acting
@with_json
@settings
def run_(config: Settings, due: bool, only: tuple[str, ...], check: bool, person: str | None, key: str | None) -> int:
    """Run the schedule: back up, prove, name, secure, fill the form."""
    if due == bool(only):
        raise click.UsageError("Give --due, or --dataset ID.")
    done = standing.run_schedule(
        config.session, person, key, only=list(only), check=check, progress=Progress(config.output, check=check)
    )
    if done is not None:
        return show_run(config, done)
    lines = standing.schedule_status(config.session)
    value = {"changed": 0, "done": {line.entry.dataset: line.done.record for line in lines if line.done}}

    def render(output: Output) -> None:
        output.line("Nothing is due (changed=0).", "bold green")
        for line in lines:
            if line.done:
                output.line(
                    f"  {line.entry.dataset}: {line.period} verified, {line.done.name} (record {line.done.record})"
                )

    config.output.result(value, render)
    return int(ExitCode.OK)
