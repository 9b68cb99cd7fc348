# SPDX-License-Identifier: Apache-2.0
"""``sopctl asset …``."""

from __future__ import annotations

import click

from sopctl import keeping
from sopctl.cli.common import Settings, acting, settings, with_json
from sopctl.output import Output


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
