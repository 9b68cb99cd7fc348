# SPDX-License-Identifier: Apache-2.0
"""``sopctl case …``: the acts of the SOP's own steps."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sopctl import (
    erasing,
    escalation,
    escalation_page,
    filing,
    forms,
    planning,
    requesting,
    run_forms,
    running,
    workflow,
)
from sopctl.case import Case, due_act
from sopctl.cli.common import Settings, acting, late, settings, verdict, with_json
from sopctl.errors import ExitCode
from sopctl.models import Act, Json
from sopctl.output import STATE_COLOUR, Output, Progress, size
from sopctl.requesting import Asked


@click.group()
def case() -> None:
    """Act on a case: one step of the SOP after the other."""


@case.command("request")
@click.argument("operation", type=click.Choice(["restore", "backup"]))
@click.option(
    "--dataset", "datasets", multiple=True, metavar="ID", help="Dataset of the register (repeat for several)."
)
@click.option("--unit", required=True, help="Unit that asks.")
@click.option(
    "--letter", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The request letter (scan)."
)
@click.option("--letter-number", required=True, help="Number of the letter.")
@click.option("--letter-date", help="Date of the letter, 2026-11-22.")
@click.option("--reason", required=True, help="Why.")
@click.option(
    "--point", default="latest", show_default=True, help="latest, a backup's name, or a time (2026-11-22T03:00:00Z)."
)
@click.option(
    "--specification",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The list of server, application, data and size of each dataset, where the SOP asks for one.",
)
@click.option(
    "--to",
    "to",
    multiple=True,
    metavar="TARGET",
    help="Restore beside the live data: [DATASET=][SERVER:]NAME, a database's name or an absolute path.",
)
@click.option("--in-place", is_flag=True, help="Replace the live data where it lies: there is no room beside it.")
@click.option("--requester", metavar="PERSON", help="For the desk: who asks, having no key.")
@click.option("--deadline", help="By when it is needed.")
@click.option("--contact", help="Whom to reach about it.")
@acting
@with_json
@settings
def request_(
    config: Settings,
    /,
    operation: str,
    datasets: tuple[str, ...],
    person: str | None,
    key: str | None,
    **given: Any,
) -> None:
    """Ask for a restore or backup, with the letter."""
    asked = Asked(operation=operation, datasets=list(datasets), **given)
    acted(config, requesting.request(config.session, asked, person, key), "request received")


def acted(config: Settings, made: Case, what: str) -> None:
    """Print what an act came to, and whose turn it is."""
    state = made.state
    due = state.due
    value = {
        "case": made.id,
        "outcome": state.outcome,
        "due": due_act(due) if due else None,
        "emergency": state.emergency,
    }

    def render(output: Output) -> None:
        output.line(f"{made.id}: {what}", "bold")
        if due:
            by = " or ".join(due.actors)
            output.line(f"  next: step {due.nomor or due.id}, {due_act(due)} by {by}: {due.text}")
        else:
            output.line(f"  closed: {state.outcome}", STATE_COLOUR[state.outcome])
        if state.flagged:
            output.line("  EMERGENCY: stays flagged until the decider ratifies or censures it", "bold red")

    config.output.result(value, render)


def _act(config: Settings, case_id: str, act: Act, person: str | None, key: str | None, body: workflow.Body) -> Case:
    return workflow.act(config.session, case_id, act, person, key, body)


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--to", "to", help="Role or person it is passed on to (default: who is due next).")
@click.option("--note", default="", help="A note for the next.")
@late
@acting
@with_json
@settings
def dispose(config: Settings, case_id: str, to: str | None, note: str, person: str | None, key: str | None) -> None:
    """Pass the request on (disposisi)."""
    acted(config, _act(config, case_id, "dispose", person, key, lambda *_: {"to": to or "", "note": note}), "disposed")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--approve", is_flag=True, help="Approve.")
@click.option("--reject", is_flag=True, help="Reject.")
@click.option("--reason", required=True, help="Why.")
@late
@acting
@with_json
@settings
def decide(
    config: Settings, case_id: str, approve: bool, reject: bool, reason: str, person: str | None, key: str | None
) -> None:
    """Approve or reject, with a reason."""
    yes = verdict(approve, reject)
    made = _act(config, case_id, "decide", person, key, workflow.decision(config.session, yes, reason))
    acted(config, made, "approved" if yes else "rejected")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--since", metavar="TIME", help="Window begins (default: now).")
@click.option("--until", metavar="TIME", help="Window ends (default: when the approval does).")
@click.option("--on-duty", multiple=True, metavar="PERSON", help="Who is on duty (repeat; default: who plans).")
@click.option("--risk", default="", help="What could go wrong, and what is done then.")
@click.option("--in-place", is_flag=True, help="Replace the live data where it lies: there is no room beside it.")
@late
@acting
@with_json
@settings
def plan(config: Settings, /, case_id: str, person: str | None, key: str | None, **given: Any) -> None:
    """Plan by the capacity there is: looks at the servers, changes nothing, refuses what does not fit."""
    wanted = planning.Wanted(given["since"], given["until"], list(given["on_duty"]), given["risk"], given["in_place"])
    made = planning.plan(config.session, case_id, wanted, person, key, Progress(config.output, check=True))
    for line in _plan_lines(made.body("plan")):
        config.output.remark(line)
    acted(config, made, "planned")


def _plan_lines(body: Json) -> list[str]:
    lines = [f"window {body['window']['since']} to {body['window']['until']}"]
    for row in body["capacity"]:
        free = row["vault_free"]
        vault = f"{size(free)} free in the vault" if free is not None else "room in the vault not known"
        lines.append(
            f"{row['dataset']}: {size(row['bytes'])}, needs {size(row['needs'])} at {row['stage_path']} "
            f"({size(row['stage_free'])} free), {vault}; about {row['predicted_s']} s ({row['basis']})"
        )
    return lines


@case.command()
@click.argument("case_id", metavar="CASE")
@click.argument("file", metavar="FILE")
@click.option("--reason", required=True, help="Why, and who asked for it.")
@acting
@with_json
@settings
def erase(config: Settings, case_id: str, file: str, reason: str, person: str | None, key: str | None) -> None:
    """Erase a letter or another paper of a closed case, which names people. Its digest stays, and the act is a record."""
    said = erasing.erase(config.session, case_id, file, reason, person, key)

    def render(output: Output) -> None:
        output.line(f"{said['case']}: {said['file']} erased", "bold green")
        if record := said.get("record"):
            output.line(f"  record {record}: {said['person']}, {said['reason']}")

    config.output.result(said, render)


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--approve", is_flag=True, help="The form is right.")
@click.option("--reject", is_flag=True, help="Send it back.")
@click.option("--reason", default="", help="Why (needed with --reject).")
@late
@acting
@with_json
@settings
def confirm(
    config: Settings, case_id: str, approve: bool, reject: bool, reason: str, person: str | None, key: str | None
) -> None:
    """Check the form of an execution."""
    yes = verdict(approve, reject)
    made = _act(config, case_id, "confirm", person, key, workflow.confirmation(yes, reason))
    acted(config, made, "form checked" if yes else "sent back")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--status", "text", default="", help="What the requester is told (default: the outcome so far).")
@late
@acting
@with_json
@settings
def inform(config: Settings, case_id: str, text: str, person: str | None, key: str | None) -> None:
    """Tell the requester how it went."""
    acted(config, _act(config, case_id, "inform", person, key, workflow.informing(text)), "requester informed")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--note", default="", help="A remark of the requester.")
@click.option(
    "--letter",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="For the desk: the requester's signed receipt (scan), as they have no key.",
)
@late
@acting
@with_json
@settings
def receive(
    config: Settings, case_id: str, note: str, letter: Path | None, person: str | None, key: str | None
) -> None:
    """Acknowledge the information (requester, or the desk with the signed letter of one without a key)."""
    acted(config, _act(config, case_id, "receive", person, key, workflow.receiving(note, letter)), "received")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--check", is_flag=True, help="Change nothing; say what would change.")
@late
@acting
@with_json
@settings
def execute(config: Settings, case_id: str, check: bool, person: str | None, key: str | None) -> int:
    """Do what was approved."""
    output = config.output
    done = running.execute_case(
        config.session, case_id, person, key, check=check, progress=Progress(output, check=check)
    )
    return show_run(config, done)


def show_run(config: Settings, done: running.Executed) -> int:
    """Print what a run came to; returns its exit code."""
    run, record = done.run, done.record
    paths = sorted(str(path) for path in (record / "data").glob("form*.html"))
    downtime = None
    if run.plan["operation"] == "restore":
        down, up = run_forms.downtime(run)
        downtime = filing.seconds(down, up)
    value = {
        "case": done.case.id,
        "run": run.id,
        "result": done.result,
        "changed": run.outcome.changed,
        "downtime_s": downtime,
        "record": str(record),
        "forms": paths,
        "failures": run.outcome.failures,
        "problems": run.outcome.problems,
        "due_again": done.due_again,
        "escalation": None,
        "exit": done.code,
    }
    page = None
    if done.code == ExitCode.FAILED_DOWN:
        page = escalation.escalate(run, done.by, run.finished)
        value["escalation"] = asdict(page)

    def render(out: Output) -> None:
        colour = "green" if done.code == 0 else "red"
        out.line(
            f"{run.id}: "
            + (
                f"checked, nothing changed (would change: {run.outcome.changed})"
                if run.check
                else f"{forms.RESULT_TEXT[done.result]} (changed={run.outcome.changed})"
            ),
            f"bold {colour}",
        )
        if downtime is not None:
            out.line(f"  downtime: {downtime} s")
        for failure in run.outcome.failures:
            out.line(f"  {failure['host']}: {failure['msg']}", "red")
        for host, why in run.outcome.unreachable.items():
            out.line(f"  {host} does not answer: {why}", "red")
        for problem in run.outcome.problems:
            out.line(f"  evidence: {problem}", "red")
        out.line(f"  record: {record}")
        for path in paths:
            out.line(f"  form: {path}")
        if page:
            out.page(escalation_page.text(page, config.session.site.tz))
        elif done.due_again:
            out.line(f"  the execution is not over; run it again: sopctl case execute {done.case.id}", "bold")

    config.output.result(value, render)
    return done.code
