# SPDX-License-Identifier: Apache-2.0
"""``sopctl case clean``: show what a case keeps, and drop it."""

from __future__ import annotations

import sys
from typing import Any

import click

from sopctl import cleaning
from sopctl.cleaning import Cleaned, Look
from sopctl.cli.cases import case
from sopctl.cli.common import Settings, acting, settings, with_json
from sopctl.errors import GateRefused
from sopctl.forms import RESULT_TEXT
from sopctl.output import Output, Progress, dropped_line, kept_line, size
from sopctl.remains import dropped_json, kept_json


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--yes", is_flag=True, help="Drop it without asking.")
@click.option("--check", is_flag=True, help="Ask the hosts what would be dropped; change nothing.")
@acting
@with_json
@settings
def clean(config: Settings, case_id: str, yes: bool, check: bool, person: str | None, key: str | None) -> int:
    """Drop what the restore set aside, once it is confirmed and the keep time is over."""
    look = cleaning.look(config.session, case_id, person)
    if not look.holding.kept:
        return _nothing(config, look)
    if not check:
        if look.reasons:
            _show(config.output, look)
            raise GateRefused(look.reasons, where=case_id, hint="Nothing was dropped and no connection opened.")
        if not yes and not _agreed(config, look):
            return 0
    progress = Progress(config.output, check=check)
    done = cleaning.clean(config.session, case_id, person, key, check=check, progress=progress)
    return _nothing(config, look) if done is None else _done(config, done)


def _total(look: Look) -> str:
    known = [one.size for one in look.holding.kept if one.size is not None]
    unknown = len(look.holding.kept) - len(known)
    more = f", and {unknown} of unknown size" if unknown else ""
    return f"{size(sum(known))}{more}" if known else f"{unknown} of unknown size"


def _show(output: Output, look: Look) -> None:
    """What would be dropped, to stderr where the result is a program's."""
    say = output.remark if output.as_json else output.line
    say(f"{look.case.id} keeps on its servers:")
    for one in look.holding.kept:
        say(f"  {kept_line(kept_json(one, look.case))}")
    say(f"  would free {_total(look)}; what is dropped cannot be brought back")


def _agreed(config: Settings, look: Look) -> bool:
    """Show what would be dropped and ask; without a person to ask the answer is no."""
    output = config.output
    if not output.as_json and sys.stdin.isatty():
        _show(output, look)
        return click.confirm(f"Drop what {look.case.id} keeps?")
    value = {"case": look.case.id, "kept": [kept_json(one, look.case) for one in look.holding.kept], "dropped": []}

    def render(out: Output) -> None:
        _show(out, look)
        out.line(f"Nothing was dropped. To drop it: sopctl case clean {look.case.id} --yes --as PERSON", "bold")

    output.result(value, render)
    return False


def _nothing(config: Settings, look: Look) -> int:
    gone = [dropped_json(one) for one in look.holding.dropped]

    def render(output: Output) -> None:
        output.line(f"{look.case.id} keeps nothing", "bold")
        for one in gone:
            output.line(f"  {dropped_line(one)}")

    config.output.result({"case": look.case.id, "kept": [], "dropped": gone, "exit": 0}, render)
    return 0


def _done(config: Settings, done: Cleaned) -> int:
    outcome = done.run.outcome
    copies: list[dict[str, Any]] = [
        {"dataset": entry["dataset"], "host": entry["host"], **copy}
        for entry in outcome.evidence
        if entry["kind"] == "clean" and not entry.get("failed")
        for copy in entry.get("dropped") or []
    ]
    freed = sum(copy["bytes"] or 0 for copy in copies)
    value = {
        "case": done.case.id,
        "run": done.run.id,
        "result": done.result,
        "check": done.run.check,
        "changed": outcome.changed,
        "dropped": [] if done.run.check else copies,
        "would_drop": copies if done.run.check else [],
        "bytes": freed,
        "record": str(done.record),
        "failures": outcome.failures,
        "problems": outcome.problems,
        "exit": done.code,
    }

    def render(output: Output) -> None:
        words = f"checked, nothing changed (would free {size(freed)})"
        said = words if done.run.check else f"{RESULT_TEXT[done.result]} (freed {size(freed)})"
        output.line(f"{done.run.id}: {said}", f"bold {'green' if done.code == 0 else 'red'}")
        for failure in outcome.failures:
            output.line(f"  {failure['host']}: {failure['msg']}", "red")
        for host, why in outcome.unreachable.items():
            output.line(f"  {host} does not answer: {why}", "red")
        for problem in outcome.problems:
            output.line(f"  evidence: {problem}", "red")
        output.line(f"  record: {done.record}")
        for path in sorted((done.record / "data").glob("form*.html")):
            output.line(f"  form: {path}")

    config.output.result(value, render)
    return done.code
