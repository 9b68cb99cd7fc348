# SPDX-License-Identifier: Apache-2.0
"""``sopctl case …`` and ``sopctl next``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sopctl import filing, forms, fsio, overview, workflow
from sopctl.case import Case
from sopctl.cli.common import Settings, acting, settings, with_json
from sopctl.errors import UsageError
from sopctl.models import Json
from sopctl.output import STATE_COLOUR, Output, Progress, duration


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
    made = workflow.request(config.session, operation, datasets=list(datasets), person=person, key=key, **given)
    _acted(config, made, "request received")


def _acted(config: Settings, made: Case, what: str) -> None:
    state = made.state
    value = {"case": made.id, "outcome": state.outcome, "due": state.due.act if state.due else None}

    def render(output: Output) -> None:
        output.line(f"{made.id}: {what}", "bold")
        if state.due:
            by = " or ".join([state.due.gate.decide] if state.due.gate else state.due.by)
            output.line(f"  next: step {state.due.nomor}, {state.due.act} by {by}: {state.due.text}")
        else:
            output.line(f"  closed: {state.outcome}", STATE_COLOUR[state.outcome])

    config.output.result(value, render)


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--to", "to", help="Role or person it is passed on to (default: who is due next).")
@click.option("--note", default="", help="A note for the next.")
@acting
@with_json
@settings
def dispose(config: Settings, case_id: str, to: str | None, note: str, person: str | None, key: str | None) -> None:
    """Pass the request on (disposisi)."""
    made = workflow.act(config.session, case_id, "dispose", person, key, lambda *_: {"to": to or "", "note": note})
    _acted(config, made, "disposed")


def _verdict(approve: bool, reject: bool) -> bool:
    if approve == reject:
        raise UsageError("say which", where="--approve/--reject", hint="Give exactly one of the two.")
    return approve


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--approve", is_flag=True, help="Approve.")
@click.option("--reject", is_flag=True, help="Reject.")
@click.option("--reason", required=True, help="Why.")
@acting
@with_json
@settings
def decide(
    config: Settings, case_id: str, approve: bool, reject: bool, reason: str, person: str | None, key: str | None
) -> None:
    """Approve or reject, with a reason."""
    verdict = _verdict(approve, reject)
    made = workflow.act(
        config.session, case_id, "decide", person, key, workflow.decision(config.session, verdict, reason)
    )
    _acted(config, made, "approved" if verdict else "rejected")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--approve", is_flag=True, help="The form is right.")
@click.option("--reject", is_flag=True, help="Send it back.")
@click.option("--reason", default="", help="Why (needed with --reject).")
@acting
@with_json
@settings
def confirm(
    config: Settings, case_id: str, approve: bool, reject: bool, reason: str, person: str | None, key: str | None
) -> None:
    """Check the form of an execution."""
    verdict = _verdict(approve, reject)
    made = workflow.act(config.session, case_id, "confirm", person, key, workflow.confirmation(verdict, reason))
    _acted(config, made, "form checked" if verdict else "sent back")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--status", "text", default="", help="What the requester is told (default: the outcome so far).")
@acting
@with_json
@settings
def inform(config: Settings, case_id: str, text: str, person: str | None, key: str | None) -> None:
    """Tell the requester how it went."""

    def body(current: Case, _step: object) -> Json:
        decision = current.body("decide")
        result = current.body("execute").get("result")
        status = "ditolak" if decision.get("decision") == "reject" else result
        return {"status": status, "text": text or decision.get("reason") or "", "to": current.request.get("requester")}

    made = workflow.act(config.session, case_id, "inform", person, key, body)
    _acted(config, made, "requester informed")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--note", default="", help="A remark of the requester.")
@acting
@with_json
@settings
def receive(config: Settings, case_id: str, note: str, person: str | None, key: str | None) -> None:
    """Acknowledge the information (requester)."""
    made = workflow.act(config.session, case_id, "receive", person, key, lambda *_: {"note": note})
    _acted(config, made, "received")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--check", is_flag=True, help="Change nothing; say what would change.")
@acting
@with_json
@settings
def execute(config: Settings, case_id: str, check: bool, person: str | None, key: str | None) -> int:
    """Do what was approved."""
    output = config.output
    done = workflow.execute_case(
        config.session, case_id, person, key, check=check, progress=Progress(output, check=check)
    )
    return show_run(config, done)


def show_run(config: Settings, done: workflow.Executed) -> int:
    """Print what a run came to; returns its exit code."""
    run, record = done.run, done.record
    paths = sorted(str(path) for path in (record / "data").glob("form*.html"))
    downtime = None
    if run.plan["operation"] == "restore":
        down, up = filing.downtime(run)
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
        "exit": done.code,
    }

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
        if done.code == 21:
            out.line(
                "  The service is still DOWN. Data is where the lines above say; run the execution again, or see docs/how-to/escalate.md.",
                "bold red",
            )
        out.line(f"  record: {record}")
        for path in paths:
            out.line(f"  form: {path}")

    config.output.result(value, render)
    return done.code


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option(
    "--html", "html", metavar="FILE", type=click.Path(path_type=Path), help="Write the request form as it stands."
)
@with_json
@settings
def show(config: Settings, case_id: str, html: Path | None) -> None:
    """Show a case like its paper file."""
    session = config.session
    session.reading = True
    found = session.case(case_id)
    value = overview.summary(session, found)
    if html:
        made = filing.request_forms(session, found)
        if not made:
            raise UsageError("this case has no request form", where=case_id)
        fsio.write_atomic(html, forms.render_html(made[0], session.site.templates).encode())

    def render(output: Output) -> None:
        output.line(f"{value['case']}: {value['outcome']}", f"bold {STATE_COLOUR[value['outcome']]}")
        if value["request"]:
            request = value["request"]
            output.line(
                f"  {request['operation']} of {', '.join(request['datasets'])} to {request['point']}, asked by {request['unit']}: {request['reason']}"
            )
        for row in value["documents"]:
            for text, style in _document_lines(row):
                output.line(text, style)
        if value["due"]:
            output.line(
                f"  next: step {value['due']['step']}, {value['due']['act']} by {' or '.join(value['due']['by'])}: {value['due']['text']}"
            )
        for problem in value["problems"]:
            output.line(f"  cannot be believed: {problem}", "red")

    config.output.result(value, render)


def _document_lines(row: Json) -> list[tuple[str, str]]:
    """One document of a case: who and when, how long against mutu baku, what it says, whether it can be believed."""
    took = f", {duration(row['took'])} after the step before" if row["took"] is not None else ""
    limit = f" (limit {duration(row['limit'])})" if row["limit"] else ""
    late = row["took"] is not None and row["limit"] is not None and row["took"] > row["limit"]
    signature = "signature valid" if row["signature"] == "valid" else f"NOT VALID: {row['signature']}"
    lines = [
        (
            f"  {row['seq']:>2}. step {row['step']} {row['act']}: {row['person']} as {row['role']}, {row['at']}{took}{limit}",
            "yellow" if late else "",
        )
    ]
    what = [str(row[name]) for name in ("decision", "result", "reason", "record") if row[name]]
    lines.append((f"      {'; '.join([*what, signature])}", "dim" if row["signature"] == "valid" else "red"))
    return lines


@case.command("list")
@with_json
@settings
def list_(config: Settings) -> None:
    """List all cases."""
    value: list[Json] = []
    for found in config.session.all_cases():
        state = found.state
        value.append(
            {
                "case": found.id,
                "flow": found.flow_name,
                "outcome": state.outcome,
                "due": state.due.act if state.due else None,
                "datasets": found.request.get("datasets") or list(found.body("execute").get("datasets") or {}),
            }
        )

    def render(output: Output) -> None:
        output.table(
            ["case", "flow", "outcome", "due", "datasets"],
            [[row["case"], row["flow"], row["outcome"], row["due"] or "", ", ".join(row["datasets"])] for row in value],
        )

    config.output.result(value, render)


@case.command("next")
@with_json
@settings
def case_next(config: Settings) -> None:
    """Show whose turn it is in every open case."""
    _waiting(config)


@click.command("next")
@with_json
@settings
def next_turn(config: Settings) -> None:
    """Show whose turn it is, what is due, and how long is left."""
    _waiting(config)


def _waiting(config: Settings) -> None:
    value = overview.waiting(config.session)

    def render(output: Output) -> None:
        if not value:
            output.line("No case waits for anybody.")
            return
        rows = []
        for row in value:
            left = (
                ""
                if row["left"] is None
                else (f"{duration(row['left'])} left" if row["left"] >= 0 else f"late by {duration(-row['left'])}")
            )
            rows.append([row["case"], f"{row['step'] or ''} {row['act']}", " or ".join(row["by"]), left, row["text"]])
        output.table(["case", "step", "by", "time", "what"], rows)

    config.output.result(value, render)
