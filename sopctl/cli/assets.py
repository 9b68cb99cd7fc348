# SPDX-License-Identifier: Apache-2.0
"""``sopctl asset …``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sopctl import clock, keeping
from sopctl.cli.common import Settings, acting, settings, with_json
from sopctl.errors import ExitCode
from sopctl.models import Json
from sopctl.output import Output

if TYPE_CHECKING:
    from sopctl.assets import Asset
    from sopctl.gaps import Gap
    from sopctl.scanning import Scanned


@click.group()
def asset() -> None:
    """The asset register: servers and datasets, signed by its keeper."""


@asset.command()
@acting
@with_json
@settings
def sign(config: Settings, person: str | None, key: str | None) -> None:
    """Sign the register as it lies: one signature for all entries."""
    kept = keeping.sign_index(config.session, person, key)

    def render(output: Output) -> None:
        for line in kept.changes.lines():
            output.line(line)
        if kept.path is None:
            output.line(f"nothing to sign: the register is as serial {kept.serial} says", "green")
        else:
            output.line(f"register serial {kept.serial} signed: {kept.path}")

    value = {
        "serial": kept.serial,
        "signature": str(kept.path) if kept.path else None,
        **keeping.changes_json(kept.changes),
    }
    config.output.result(value, render)


@asset.command()
@with_json
@settings
def status(config: Settings) -> None:
    """Show what of the register is not signed."""
    config.session.reading = True
    found = keeping.register_status(config.session)

    def render(output: Output) -> None:
        for line in found.changes.lines():
            output.line(line)
        for reason in found.reasons:
            output.line(reason, "yellow")
        if found.reasons:
            output.line("have its keeper sign it: sopctl asset sign --as PERSON")
        else:
            output.line(f"register serial {found.serial} of {found.issued}: {found.entries} entries signed", "green")

    value = {
        "serial": found.serial,
        "issued": found.issued,
        "entries": found.entries,
        "reasons": found.reasons,
        **keeping.changes_json(found.changes),
    }
    config.output.result(value, render)


@asset.command()
@click.argument("servers", metavar="[SERVER]…", nargs=-1)
@click.option("--check", is_flag=True, help="Show what is new, and keep nothing.")
@acting
@with_json
@settings
def scan(config: Settings, servers: tuple[str, ...], check: bool, person: str | None, key: str | None) -> int:
    """Look at servers without changing them, and keep what is new of them in register/facts."""
    from sopctl import scanning
    from sopctl.output import Progress

    found = scanning.scan(
        config.session, servers, person, key, check=check, progress=Progress(config.output, check=check)
    )

    def render(output: Output) -> None:
        for server, changes in found.changes.items():
            if server in found.first:
                output.line(f"{server}: first look, {len(changes)} facts: sopctl asset show {server}", "bold")
                continue
            output.line(f"{server}:", "bold")
            for change in changes:
                output.line(f"  {change.line()}", "yellow" if change.notable and change.before is not None else "")
        for server, entries in found.unread.items():
            for entry in entries:
                output.line(f"{server}: could not read {entry['what']}: {entry['why']}", "dim")
        for server, why in found.silent.items():
            output.line(f"{server}: not looked at: {why}", "red")
        for gap in found.gaps:
            if gap.kind != "never-scanned":
                output.line(gap.line(), "yellow")
        looked = len(found.servers) - len(found.silent)
        changed = f"{len(found.changes)} with something new" if found.changes else "nothing new"
        kept = "nothing was kept (--check)" if check else f"record {found.record.name}" if found.record else "no record"
        output.line(f"{found.number}: {looked} of {len(found.servers)} servers looked at, {changed}; {kept}", "green")

    config.output.result(scanned_json(found), render)
    return int(found.code)


def scanned_json(found: Scanned) -> Json:
    """Plain JSON value of a scan."""
    from sopctl import facts

    return {
        "scan": found.number,
        "servers": found.servers,
        "check": found.check,
        "changes": {server: facts.changes_json(changes) for server, changes in found.changes.items()},
        "unread": found.unread,
        "silent": found.silent,
        "gaps": [gap_json(gap) for gap in found.gaps],
        "record": str(found.record) if found.record else None,
    }


def gap_json(gap: Gap) -> Json:
    """Plain JSON value of a gap."""
    return {"kind": gap.kind, "about": gap.about, "detail": gap.detail, "next": gap.next}


@asset.command()
@click.argument("servers", metavar="[SERVER]…", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All servers of the register.")
@click.option(
    "--result",
    type=click.Choice(["sesuai", "tidak-sesuai"]),
    default="sesuai",
    show_default=True,
    help="What was found.",
)
@click.option("--remarks", default="", metavar="TEXT", help="What is wrong, or what else to say; stands on the form.")
@acting
@with_json
@settings
def review(
    config: Settings,
    servers: tuple[str, ...],
    everything: bool,
    result: str,
    remarks: str,
    person: str | None,
    key: str | None,
) -> None:
    """Sign the yearly review of servers, as their entries and facts lie now."""
    from sopctl import reviewing

    signed = reviewing.review(
        config.session, servers, person, key, everything=everything, result=result, remarks=remarks
    )

    def render(output: Output) -> None:
        count = len(signed.document.servers)
        output.line(
            f"{signed.document.id}: {count} {'server' if count == 1 else 'servers'} reviewed, {result}; record {signed.record.name}",
            "green",
        )

    config.output.result(reviewing.signed_json(signed), render)


@asset.command("list")
@with_json
@settings
def list_assets(config: Settings) -> None:
    """The servers of the register, what they are, and until when their review holds."""
    from sopctl import assets

    config.session.reading = True
    found = assets.everything(config.session)

    def render(output: Output) -> None:
        output.long_table(
            ["server", "name", "machine", "system", "reviewed", "holds until"], [_row(one) for one in found]
        )
        output.line(
            f"{len(found)} {'server' if len(found) == 1 else 'servers'}, {sum(one.overdue for one in found)} with an overdue review"
        )

    config.output.result(lambda: [assets.asset_json(one) for one in found], render)


def _row(one: Asset) -> list[str]:
    machine = one.facts.facts.machine if one.facts else None
    model = (
        " ".join(filter(None, (machine.maker, machine.model))) or (machine.kind or "") if machine else "never scanned"
    )
    system = (one.facts.facts.system.name or one.facts.facts.system.id or "") if one.facts else ""
    until = f"{one.holds or 'never reviewed'}{' OVERDUE' if one.overdue else ''}{' (changed)' if one.changed else ''}"
    return [one.server.id, one.server.name, model, system, one.reviewed[0], until]


@asset.command()
@click.argument("server")
@with_json
@settings
def show(config: Settings, server: str) -> None:
    """One server: its entry, what it is, its review, and what changed since."""
    from sopctl import assets, facts

    config.session.reading = True
    one = assets.one(config.session, server)

    def render(output: Output) -> None:
        entry = one.server
        output.line(f"{entry.id}: {entry.name or entry.inventory_hostname}", "bold")
        for word, value in (
            ("host", entry.inventory_hostname),
            ("address", entry.address),
            ("owner", entry.owner_unit),
            ("holder", entry.holder),
            ("location", entry.location),
            *((f"KIB-B {key}", value) for key, value in entry.kib_b.items()),
        ):
            if value not in {"", None}:
                output.line(f"  {word}: {value}")
        at, by, result = one.reviewed
        output.line(
            f"  reviewed: {f'{at} by {by}: {result}' if at else 'never'}"
            + (f", holds until {one.holds}" if one.holds else "")
        )
        for word in assets.soon(one, clock.now()[:10]):
            output.line(f"  {word}", "yellow")
        if one.facts is None:
            output.line(f"  never looked at: sopctl asset scan {entry.id} --as PERSON", "yellow")
            return
        output.line(f"  as found by {one.facts.scan} at {one.facts.since}:")
        for change in facts.compare(None, one.facts.facts):
            output.line(f"    {change.name}{f': {change.after}' if change.after else ''}")
        for unread in one.facts.unread:
            output.line(f"    could not read {unread.what}: {unread.why}", "dim")

    config.output.result(assets.asset_json(one), render)


@asset.command()
@with_json
@settings
def due(config: Settings) -> int:
    """What is due of the register: reviews, ends of support, changes since the review, and what is not registered."""
    from sopctl import assets

    config.session.reading = True
    found = assets.everything(config.session)
    today = clock.now()[:10]
    words = {one.server.id: said for one in found if (said := assets.soon(one, today))}
    missing = assets.missing(config.session, found)
    problems = list(config.session.context().reviews.problems)

    def render(output: Output) -> None:
        output.lines([f"{server}: {'; '.join(said)}" for server, said in words.items()], "yellow")
        output.lines([gap.line() for gap in missing if gap.kind != "never-scanned"], "yellow")
        if new := sum(gap.kind == "never-scanned" for gap in missing):
            output.line(f"{new} servers were never looked at: sopctl asset scan --as PERSON", "yellow")
        for problem in problems:
            output.line(problem, "red")
        if not (words or missing or problems):
            output.line("nothing is due", "green")

    value = {
        "due": words,
        "overdue": [one.server.id for one in found if one.overdue],
        "gaps": [gap_json(gap) for gap in missing],
        "problems": problems,
    }
    config.output.result(value, render)
    if problems:
        return int(ExitCode.EVIDENCE_BROKEN)
    return int(ExitCode.OVERDUE if value["overdue"] else ExitCode.OK)
