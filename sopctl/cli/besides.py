# SPDX-License-Identifier: Apache-2.0
"""``sopctl case …``: acts beside the SOP's steps."""

from __future__ import annotations

from pathlib import Path

import click

from sopctl import beside, papers
from sopctl.cli.cases import acted, case
from sopctl.cli.common import Settings, acting, settings, verdict, with_json


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--dataset", required=True, metavar="ID", help="Your unit's dataset that another unit asks for.")
@click.option("--approve", is_flag=True, help="Let them.")
@click.option("--reject", is_flag=True, help="Do not.")
@click.option("--reason", default="", help="Why.")
@acting
@with_json
@settings
def consent(
    config: Settings,
    case_id: str,
    dataset: str,
    approve: bool,
    reject: bool,
    reason: str,
    person: str | None,
    key: str | None,
) -> None:
    """Let another unit's request have your unit's data, or not (owner of the data)."""
    yes = verdict(approve, reject)
    made = beside.consent(config.session, case_id, dataset, yes, reason, person, key)
    acted(config, made, f"owner {'consents' if yes else 'does not consent'} for {dataset}")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--note", default="", help="What it is.")
@acting
@with_json
@settings
def attach(config: Settings, case_id: str, file: Path, note: str, person: str | None, key: str | None) -> None:
    """Put a paper into the case, bound by its digest; or the PDF of `case print` that its official signed, as their act."""
    if signed := papers.accept(config.session, case_id, file, person, key):
        acted(config, signed, f"{file.name}: {signed.filed[-1].document.act} received, signed on paper")
        return
    acted(config, beside.attach(config.session, case_id, file, note, person, key), f"{file.name} attached")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--reason", required=True, help="Why.")
@acting
@with_json
@settings
def withdraw(config: Settings, case_id: str, reason: str, person: str | None, key: str | None) -> None:
    """Take the request back (requester or desk), before anything was executed."""
    acted(config, beside.withdraw(config.session, case_id, reason, person, key), "withdrawn")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--reason", required=True, help="Why it cannot wait.")
@acting
@with_json
@settings
def emergency(config: Settings, case_id: str, reason: str, person: str | None, key: str | None) -> None:
    """Break the glass: two operators sign, and execution goes before approval."""
    made = beside.emergency(config.session, case_id, reason, person, key)
    said = "a second operator must sign" if made.state.emergency == "asked" else "execution is due at once"
    acted(config, made, f"emergency signed; {said}")


@case.command()
@click.argument("case_id", metavar="CASE")
@click.option("--approve", is_flag=True, help="It was right.")
@click.option("--reject", is_flag=True, help="Censure it.")
@click.option("--reason", required=True, help="Why.")
@acting
@with_json
@settings
def ratify(
    config: Settings, case_id: str, approve: bool, reject: bool, reason: str, person: str | None, key: str | None
) -> None:
    """Judge an emergency afterwards (decider)."""
    yes = verdict(approve, reject)
    made = beside.ratify(config.session, case_id, yes, reason, person, key)
    acted(config, made, "emergency ratified" if yes else "emergency censured")


@case.command()
@click.argument("case_id", metavar="CASE")
@acting
@with_json
@settings
def seal(config: Settings, case_id: str, person: str | None, key: str | None) -> None:
    """Seal a closed case whose record is missing (doctor names them)."""
    acted(config, beside.seal(config.session, case_id, person, key), "sealed")


@case.command("take-over")
@click.argument("case_id", metavar="CASE")
@click.option("--reason", required=True, help="What became of the command that held the locks.")
@acting
@with_json
@settings
def take_over(config: Settings, case_id: str, reason: str, person: str | None, key: str | None) -> None:
    """Take over the locks of a command that died over this case."""
    acted(config, beside.take_over(config.session, case_id, reason, person, key), "locks taken over")
