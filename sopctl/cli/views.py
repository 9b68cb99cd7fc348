# SPDX-License-Identifier: Apache-2.0
"""``sopctl case show|list|print|next`` and ``sopctl next``."""

from __future__ import annotations

from pathlib import Path

import click

from sopctl import case_forms, forms, fsio, indonesian, overview, paper, papers, today
from sopctl.cli.cases import case
from sopctl.cli.common import Settings, late, settings, verdict, with_json
from sopctl.errors import UsageError
from sopctl.models import Json
from sopctl.output import STATE_COLOUR, Output, dropped_line, duration, kept_line

SIGNED = {"valid": "signature valid"}


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
        _write_forms(config, case_id, html)
    zone = session.site.config.timezone
    config.output.result(value, lambda output: _show(output, value, zone))


def _show(output: Output, value: Json, zone: str) -> None:
    output.line(f"{value['case']}: {value['outcome']}", f"bold {STATE_COLOUR[value['outcome']]}")
    output.line(f"  SOP {value['sop']}")
    if value["emergency"]:
        words = {"ratified": "ratified by the decider", "censured": "CENSURED by the decider"}
        output.line(f"  EMERGENCY: {words.get(value['emergency'], 'not yet judged by the decider')}", "bold red")
    request = value["request"]
    if request:
        who = value["requester"]
        point = f" to {request['point']}" if value["operation"] == "restore" else ""
        output.line(f"  {value['operation']} of {', '.join(request['datasets'])}{point}: {request['reason']}")
        for dataset, to in (request.get("to") or {}).items():
            output.line(f"    {dataset}: beside the live data, as {to['place']} on {to['server']}")
        if request.get("in_place"):
            output.line("    in place: down while it loads; what is live goes to the vault first")
        output.line(
            f"  asked by {who['jabatan'] or who['id']} ({who['id']}), {request['unit']}; letter {request['letter']['number']}"
        )
        for item in request.get("specification") or []:
            output.line(
                f"    {item['dataset']}: {item['application']} on {item['server']}, {item['data']}, {item['size']}"
            )
    for row in value["documents"]:
        _document(output, row, zone)
    due = value["due"]
    if due:
        time = f" ({_time_left(due['left'])})" if due["left"] is not None else ""
        people = f" ({', '.join(due['people'])})" if due["people"] else " (nobody holds that role now)"
        output.line(f"  next: {due['act']} by {' or '.join(due['by'])}{people}{time}", "yellow")
        output.line(f"        {due['step']}. {due['text']}")
    for one in value["kept"]:
        output.line(f"  kept: {kept_line(one)}", "yellow" if one["cleanable"] else "")
    for gone in [*map(dropped_line, value["cleaned"]), *(f"erased: {name}" for name in value["erased"])]:
        output.line(f"  {gone}")
    for one in value["notices"]:
        again = "given up" if one["state"] == "given-up" else "the next command tries again"
        output.line(
            f"  not delivered: {one['event']} to {one['person']} over {one['channel']}: {one['cause']} ({again})",
            "yellow",
        )
    for what in value["missing"]:
        output.line(f"  missing: {what}", "yellow")
    for problem in value["problems"]:
        output.line(f"  cannot be believed: {problem}", "red")


def _document(output: Output, row: Json, zone: str) -> None:
    """One document: the SOP's own words, then who and when, how long against mutu baku, what it says."""
    number = f"{row['step']}. " if row["step"] else ""
    mark = " [tafsiran]" if row["inferred"] else ""
    output.line(f"  {number}{row['text']}{mark}" if row["text"] else f"  ({row['act']}, beside the steps)")
    official = row["official"]
    who = " ".join(part for part in (row["delegate"], official["jabatan"], official["name"]) if part) or row["person"]
    took = f"; took {duration(row['took'])}" if row["took"] is not None else ""
    limit = f" of {indonesian.format_iso_duration(row['limit'])} (working time)" if row["limit"] and took else ""
    late = " LATE" + (f" ({row['late_reason']})" if row["late_reason"] else "") if row["late"] else ""
    when = indonesian.format_time(row["received"], zone)
    output.line(
        f"     {row['act']} by {who} ({row['person']} as {row['role']}), {when}{took}{limit}{late}",
        "yellow" if row["late"] else "",
    )
    said = [str(row[name]) for name in ("decision", "result", "reason", "note", "record") if row[name]]
    valid = row["signature"] == "valid"
    signature = "signature valid" if valid else f"NOT VALID: {row['signature']}"
    output.line(f"     {'; '.join([*said, signature])}", "dim" if valid else "red")


def _time_left(seconds: int) -> str:
    return (
        f"{duration(seconds)} of working time left" if seconds >= 0 else f"late by {duration(-seconds)} of working time"
    )


@case.command("print")
@click.argument("case_id", metavar="CASE")
@click.option(
    "--to",
    "target",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: a page (.html) or a PDF (.pdf).",
)
@click.option(
    "--approve", is_flag=True, help="The paper of the step that is due, saying yes, for its official to sign."
)
@click.option("--reject", is_flag=True, help="The same, saying no.")
@click.option("--due", is_flag=True, help="The same, of a step where nothing is decided (dispose, inform, receive).")
@click.option("--reason", default="", help="Why, as it stands on the paper to be signed (with --due: a note).")
@click.option("--for", "official", metavar="PERSON", help="Who signs the paper (default: who alone holds the role).")
@late
@with_json
@settings
def print_(
    config: Settings,
    case_id: str,
    target: Path,
    approve: bool,
    reject: bool,
    due: bool,
    reason: str,
    official: str | None,
) -> None:
    """Write the case's request form as it stands, or the paper of the step that is due, for an official to sign as PDF."""
    if approve or reject or due:
        approval = None if due and not (approve or reject) else verdict(approve, reject)
        _print_paper(config, papers.print_paper(config.session, case_id, approval, reason, official), target)
        return
    if reason or official:
        raise UsageError("nothing is said that could be signed", where="--approve/--reject/--due", hint="Say which.")
    config.session.reading = True
    written = _write_forms(config, case_id, target)

    def render(output: Output) -> None:
        for path in written:
            output.line(f"written: {path}")

    config.output.result({"case": case_id, "forms": [str(path) for path in written]}, render)


def _print_paper(config: Settings, printed: papers.Printed, target: Path) -> None:
    fsio.write_atomic(target, printed.pdf)
    value = {
        "case": printed.case,
        "paper": str(target),
        "sha256": printed.digest,
        "document": printed.name,
        "person": printed.person,
        "until": printed.until,
    }

    def render(output: Output) -> None:
        output.line(f"written: {target}, {printed.name} for {printed.person} to sign", "bold")
        output.line(f"  sign it as PDF, add nothing else; good until {printed.until}")
        output.line(f"  then: sopctl case attach {printed.case} SIGNED.pdf")

    config.output.result(value, render)


def _write_forms(config: Settings, case_id: str, target: Path) -> list[Path]:
    session = config.session
    made = case_forms.request_forms(session, session.case(case_id))
    if not made:
        raise UsageError("this case has no request form", where=case_id, hint="See sopctl record list.")
    written = []
    for number, form in enumerate(made, 1):
        path = target if number == 1 else target.with_name(f"{target.stem}-{number:02d}{target.suffix}")
        html = forms.render_html(form, session.site.templates)
        data = html.encode()
        if target.suffix.lower() == ".pdf":
            data = paper.pdf(html, fsio.canonical_json(forms.form_json(form)), form.header.date)
        fsio.write_atomic(path, data)
        written.append(path)
    return written


@case.command("list")
@click.option("--late", "late", is_flag=True, help="Only cases whose due step, or a step done, came after its time.")
@click.option("--emergency", "emergencies", is_flag=True, help="Only emergencies that nobody has judged yet.")
@with_json
@settings
def list_(config: Settings, late: bool, emergencies: bool) -> None:
    """List all cases."""
    config.session.reading = True
    value = overview.listing(config.session)
    if late:
        value = [row for row in value if row["late_steps"] or (row["left"] is not None and row["left"] < 0)]
    if emergencies:
        value = [row for row in value if row["emergency"] in {"asked", "open"}]

    def render(output: Output) -> None:
        rows = [
            [row["case"], _outcome(row), row["due"] or "", _lateness(row), ", ".join(row["datasets"])] for row in value
        ]
        output.table(["case", "outcome", "due", "left", "datasets"], rows)
        for row in value:
            for why in row["broken"]:
                output.line(f"{row['case']} cannot be believed: {why}", "red")

    config.output.result(value, render)


def _outcome(row: Json) -> str:
    flag = {"asked": " EMERGENCY", "open": " EMERGENCY", "censured": " (censured)"}.get(row["emergency"], "")
    return f"{row['outcome']}{flag}"


def _lateness(row: Json) -> str:
    seconds = row["left"]
    words = [] if seconds is None else [duration(seconds) if seconds >= 0 else f"late by {duration(-seconds)}"]
    return ", ".join([*words, *(f"step {step} was late" for step in row["late_steps"])])


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
    config.session.reading = True
    value = overview.waiting(config.session)

    def render(output: Output) -> None:
        if not value:
            output.line("No case waits for anybody.")
        _show_waiting(output, value)

    config.output.result(value, render)


def _show_waiting(output: Output, rows: list[Json]) -> None:
    for row in rows:
        if row["act"] is None:
            output.line(f"{row['case']}: cannot be believed: {'; '.join(row['broken'])}", "red")
            continue
        left = _time_left(row["left"]) if row["left"] is not None else "no time limit"
        people = ", ".join(row["people"]) or "nobody holds that role now"
        flag = " EMERGENCY" if row["emergency"] in {"asked", "open"} else ""
        late = row["left"] is not None and row["left"] < 0
        output.line(
            f"{row['case']}{flag}: {row['act']} by {' or '.join(row['by'])} ({people}); {left}",
            "yellow" if late else "bold",
        )
        output.line(f"  {row['step']}. {row['text']}")
        for why in row["broken"]:
            output.line(f"  cannot be believed: {why}", "red")
        if row.get("command"):
            output.line(f"  {row['command']}", "cyan")


def show_today(config: Settings, person: str | None) -> None:
    """What `sopctl` alone shows."""
    config.session.reading = True
    value = today.today(config.session, person)

    def render(output: Output) -> None:
        mine, others = value["mine"], value["others"]
        if person is None:
            if others:
                output.line("Waiting (with SOPCTL_AS=PERSON what waits for you comes first):", "bold")
            _show_waiting(output, others)
        else:
            output.line(f"Waiting for you ({person}):" if mine else f"Nothing waits for you ({person}).", "bold")
            _show_waiting(output, mine)
            if others:
                many = "case waits" if len(others) == 1 else "cases wait"
                output.line(f"{len(others)} {many} for others: sopctl next")
        for one in value["attention"]:
            output.line(f"{one['state']}: {one['text']}", "red" if one["state"] == "critical" else "yellow")
        if not (mine or others or value["attention"]):
            output.line("All is done, and all is as it should be.", "green")

    config.output.result(value, render)
