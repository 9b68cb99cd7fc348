# SPDX-License-Identifier: Apache-2.0
"""``sopctl audit report`` and ``sopctl audit export``: what an auditor is handed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from sopctl.cli.audits import audit, told
from sopctl.cli.common import F, Settings, settings, with_json
from sopctl.errors import ExitCode
from sopctl.output import Output

if TYPE_CHECKING:  # named late, so that other commands start fast
    from sopctl.report.facts import Facts


def _looking(function: F) -> F:
    """What both commands take."""
    for option in (
        click.option("--full", is_flag=True, help="Verify every file anew, also those that did not change."),
        click.option(
            "--witness",
            "copies",
            multiple=True,
            metavar="COPY",
            type=click.Path(path_type=Path),
            help="What a witness kept, to verify with. Repeatable.",
        ),
        click.option("--no-verify", is_flag=True, help="Verify nothing; each page says so."),
        click.option(
            "--lang", type=click.Choice(["id", "en"]), default="id", show_default=True, help="Indonesian or English."
        ),
    ):
        function = option(function)
    return function


def _collected(
    config: Settings, out: Path, period: str, check: bool, copies: tuple[Path, ...], full: bool, *, replace: bool
) -> tuple[Path, Facts]:
    """Where it goes, once nothing of somebody else's is there, and what it says."""
    from sopctl.report import facts, folder

    session, target = config.session, out.absolute()
    facts.check_period(period)
    folder.check_target(target, session.site, replace=replace)
    return target, facts.collect(session, period=period, check=check, copies=copies, full=full, progress=told(config))


@audit.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--period", default="", metavar="PERIOD", help="A year or a month: 2026, 2026-11 (default: everything).")
@_looking
@with_json
@settings
def report(
    config: Settings,
    out: Path,
    period: str,
    lang: Literal["id", "en"],
    no_verify: bool,
    copies: tuple[Path, ...],
    full: bool,
) -> int:
    """Write a site of pages for auditors to the folder OUT. Exit 30 when anything is broken; the report is written then too."""
    from sopctl.report import folder, pages

    target, found = _collected(config, out, period, not no_verify, copies, full, replace=True)
    files = pages.pages(found, lang)
    with folder.building(target) as place:
        folder.fill(place, files)
    return _said(config, found, {"report": str(target), "page": str(target / "index.html"), "files": len(files)})


@audit.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--period", required=True, metavar="PERIOD", help="A year or a month: 2026, 2026-11.")
@click.option("--attachments", is_flag=True, help="The cases' letters and other attachments too: they name people.")
@_looking
@with_json
@settings
def export(
    config: Settings,
    out: Path,
    period: str,
    attachments: bool,
    lang: Literal["id", "en"],
    no_verify: bool,
    copies: tuple[Path, ...],
    full: bool,
) -> int:
    """Pack a period's evidence and its report into one bag, the folder OUT, for an outside auditor. Exit 30 as `report`."""
    from sopctl.report import bundle, folder, pages

    target, found = _collected(config, out, period, not no_verify, copies, full, replace=False)
    files = bundle.gather(found, pages.pages(found, lang), attachments=attachments)
    with folder.building(target) as place:
        made = bundle.pack(found, files, place)
    value: dict[str, object] = {
        "bundle": str(target),
        "tagmanifest": made.tagmanifest,
        "files": made.files,
        "cases": made.cases,
        "left_out": made.left_out,
    }
    return _said(config, found, value)


def _said(config: Settings, found: Facts, value: dict[str, object]) -> int:
    broken = sum(1 for one in found.findings if one.severity == "broken")
    unsure = len(found.findings) - broken
    value |= {"records": len(found.records), "verified": found.audit is not None, "broken": broken, "unchecked": unsure}

    def render(output: Output) -> None:
        for key in ("page", "bundle", "tagmanifest"):
            if key in value:
                output.line(f"{key}: {value[key]}")
        words = f"{len(found.records)} records"
        if found.audit is None:
            output.line(f"{words}, not checked (--no-verify)", "yellow")
        elif broken:
            output.line(f"{words}: {broken} broken, {unsure} could not be checked", "bold red")
        else:
            output.line(f"{words}: nothing contradicts; {unsure} could not be checked", "bold green")

    config.output.result(value, render)
    return int(ExitCode.EVIDENCE_BROKEN if broken else ExitCode.OK)
