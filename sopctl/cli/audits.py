# SPDX-License-Identifier: Apache-2.0
"""``sopctl audit …``."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import click

from sopctl import audit as auditing
from sopctl import checkpoints, fsio, signing, stamping, tokens, witnesses, witnessing
from sopctl.cli.common import Settings, acting, settings, with_json
from sopctl.errors import ExitCode, SopctlError, UsageError
from sopctl.models import Json
from sopctl.output import Output

#: seconds between two words about how far it is
EVERY = 2.0


def told(config: Settings) -> Callable[[int, int], None]:
    """Says how far the verification is, now and then."""
    began = last = time.monotonic()

    def progress(number: int, total: int) -> None:
        nonlocal last
        if number < total and (now := time.monotonic()) - last >= EVERY:
            last = now
            left = (now - began) / number * (total - number)
            config.output.remark(f"{number} of {total} records read, {left:.0f} s left")

    return progress


@click.group()
def audit() -> None:
    """Check the archive as a whole, and hand it to auditors: records, ledger, checkpoints, time stamps, witnesses."""


@audit.command()
@click.option(
    "--since", default="", metavar="DATE|RECORD", help="Only records received from then on; the ledger whole."
)
@click.option(
    "--witness",
    "copies",
    multiple=True,
    metavar="COPY",
    type=click.Path(path_type=Path),
    help="What a witness kept: its folder, a clone of its repository, or its mails in a file. Repeatable.",
)
@click.option(
    "--archive",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Another archive than the site's (a copy).",
)
@click.option("--full", is_flag=True, help="Read every file again, also those that did not change since the last time.")
@with_json
@settings
def verify(config: Settings, since: str, copies: tuple[Path, ...], folder: Path | None, full: bool) -> int:
    """Check everything that the archive says of itself. Exit 30 when anything is broken."""
    session = config.session
    session.reading = True
    archive = folder or session.site.archive
    done = auditing.verify_all(session, archive, copies=copies, since=since, full=full, progress=told(config))
    broken = [finding for finding in done.findings if finding.severity == "broken"]
    value = {
        "ok": not broken,
        "records": done.records,
        "lines": done.lines,
        "covered": done.covered,
        "witnessed": done.witnessed,
        "stamped": done.stamped,
        "records_read": done.read,
        "records_remembered": done.reused,
        "findings": [finding.as_json() for finding in done.findings],
    }

    def render(output: Output) -> None:
        for found in done.findings:
            word, colour = ("BROKEN", "red") if found.severity == "broken" else ("could not check", "yellow")
            output.line(f"{word}: {found.record} {found.file}: {found.meaning} [{found.rule}]", colour)
        said = (
            f"{done.records} records, {done.lines} lines, {done.covered} under a checkpoint, {done.witnessed} witnessed"
        )
        if done.stamped:
            said += f", {done.stamped} time stamps"
        if done.reused:
            output.line(
                f"{done.reused} of {done.read + done.reused} records did not change and were not read again (--full reads all)"
            )
        open_ends = len(done.findings) - len(broken)
        if broken:
            output.line(f"{said}: {len(broken)} broken, {open_ends} could not be checked", "bold red")
        else:
            rest = f"; {open_ends} could not be checked" if open_ends else ""
            output.line(f"{said}: nothing contradicts{rest}", "bold green")

    config.output.result(value, render)
    return int(ExitCode.EVIDENCE_BROKEN if broken else ExitCode.OK)


@audit.command()
@acting
@with_json
@settings
def checkpoint(config: Settings, person: str | None, key: str | None) -> int:
    """Sign how far the ledger has come, have it stamped, and tell the witnesses. Exit 22 when one of them could not be told."""
    session = config.session
    signer = session.signer(person, key)
    made = witnessing.checkpoint(session, signer)
    failures = [*stamping.catch_up(session, patient=False), *witnessing.catch_up(session, patient=False)]
    size = (checkpoints.sizes(session.site.archive) or [0])[-1]
    value = {"made": made is not None, "size": size, "not_told": [error.where for error in failures]}

    def render(output: Output) -> None:
        output.line(f"checkpoint over {size} lines" + ("" if made else ": there already, nothing came since"))

    config.output.result(value, render)
    broken = [error for error in failures if isinstance(error, witnesses.Contradicted)]
    return int(ExitCode.EVIDENCE_BROKEN if broken else ExitCode.PARTIAL if failures else ExitCode.OK)


@audit.command()
@click.argument("name", required=False)
@with_json
@settings
def witness(config: Settings, name: str | None) -> int:
    """Say what each witness has seen; a NAME is asked now. Exit 22 when that one could not be told."""
    session = config.session
    entries = session.site.config.witnesses
    witnesses.check(entries, f"{session.site.root / 'sop.yml'}:witnesses")
    if name is not None:
        chosen = next((one for one in entries if one.name == name), None)
        if chosen is None:
            known = ", ".join(one.name for one in entries) or "none"
            raise UsageError(f"witness {name!r} is not in sop.yml", hint=f"Named there: {known}.")
        witnesses.forget_probe(chosen, session.site.state / "witnesses")
        witnessing.tell(session, chosen)
    value = [
        {
            "witness": one.name,
            "kind": one.kind,
            "seen": (checkpoints.sizes(session.site.archive, one.name) or [0])[-1],
            "behind": witnessing.behind(session, one),
            "keys": [signing.fingerprint(key) for key in one.keys],
        }
        for one in entries
    ]

    def render(output: Output) -> None:
        output.table(
            ["witness", "kind", "lines seen", "behind"],
            [[str(row[key]) for key in ("witness", "kind", "seen", "behind")] for row in value],
        )

    config.output.result(value, render)
    return int(ExitCode.OK)


@audit.command()
@click.argument("name", required=False)
@with_json
@settings
def timestamp(config: Settings, name: str | None) -> int:
    """Say what each time stamp authority has not stamped yet; a NAME is asked now. Exit 22 when that one gave none."""
    session = config.session
    entries = session.site.config.timestamps
    failures: list[SopctlError] = []
    if name is None:
        session.reading = True
    else:
        if name not in {one.name for one in entries}:
            known = ", ".join(one.name for one in entries) or "none"
            raise UsageError(f"authority {name!r} is not in sop.yml", hint=f"Named there: {known}.")
        failures = stamping.catch_up(session, patient=False, only=name)
    waiting = stamping.waiting(session)
    value: list[Json] = [
        {
            "authority": one.name,
            "url": one.url,
            "certificates": tokens.fingerprints(one, one.name),
            "waiting": [f"{subject.kind} {subject.name}" for subject in waiting[one.name]],
        }
        for one in entries
    ]

    def render(output: Output) -> None:
        output.table(
            ["authority", "address", "waiting", "certificates"],
            [[row["authority"], row["url"], str(len(row["waiting"])), " ".join(row["certificates"])] for row in value],
        )

    config.output.result(value, render)
    return int(ExitCode.PARTIAL if failures else ExitCode.OK)


@audit.command("witness-program")
@click.option("--to", "target", metavar="FILE", type=click.Path(path_type=Path), help="Write it there.")
@with_json
@settings
def witness_program(config: Settings, target: Path | None) -> None:
    """Print the program that a witness runs: one file of plain Python."""
    text = resources.files("sopctl").joinpath("sop_witness.py").read_text(encoding="utf-8")
    if target is None:
        config.output.result({"program": text}, lambda output: output.page(text))
        return
    if not target.absolute().parent.is_dir():
        raise UsageError("there is no such folder", where=str(target.parent), hint="Make it, or name another FILE.")
    fsio.write_atomic(target.absolute(), text.encode(), 0o755)
    config.output.result({"written": str(target)}, lambda _: None)
