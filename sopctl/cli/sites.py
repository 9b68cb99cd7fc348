# SPDX-License-Identifier: Apache-2.0
"""``sopctl init``, ``doctor`` and ``paths``."""

from __future__ import annotations

from pathlib import Path

import click

from sopctl import bootstrap, checkup, content
from sopctl.cli.common import Settings, settings, with_json
from sopctl.errors import ExitCode
from sopctl.output import Output
from sopctl.site import find_site


@click.command()
@click.argument("folder", metavar="SITE", type=click.Path(path_type=Path))
@click.option("--profile", required=True, help="The SOP: trenggalek, kaltim, or the file of your own.")
@click.option("--agency", help="Name of the agency (default: the SOP's own).")
@click.option("--vault", default="/srv/sop-vault/{server}", show_default=True, help="restic repository of a server.")
@with_json
@settings
def init(config: Settings, folder: Path, profile: str, agency: str | None, vault: str) -> None:
    """Make a new site."""
    site = bootstrap.init_site(folder.absolute(), profile, agency, vault)

    def render(output: Output) -> None:
        output.line(f"site made: {site.root}", "bold green")
        output.line(
            "  next: sopctl trust init --root-key FILE, trust add, trust sign; register servers and datasets; see README."
        )

    config.output.result({"folder": str(site.root), "site": site.config.site, "profile": site.config.profile}, render)


@click.command()
@with_json
@settings
def doctor(config: Settings) -> int:
    """Look at this machine and the site: what works, what is missing, and what to do."""
    found = checkup.examine(config.site_option)
    bad = [item for item in found if item.state == "bad"]

    def render(output: Output) -> None:
        for item in found:
            mark, style = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "bad": ("BAD", "bold red")}[item.state]
            output.line(f"{mark:>5}  {item.what}: {item.detail}", style if item.state != "ok" else "")

    config.output.result([{"what": item.what, "state": item.state, "detail": item.detail} for item in found], render)
    return int(ExitCode.USAGE if bad else ExitCode.OK)


@click.command()
@with_json
@settings
def paths(config: Settings) -> None:
    """Print the places in use."""
    site = find_site(config.site_option)
    session = config.session
    value = {
        "site": str(site),
        "cases": str(session.site.cases),
        "archive": str(session.site.archive),
        "ledger": str(session.ledger.path),
        "state": str(session.site.state),
        "inventory": str(session.site.root / session.site.config.inventory),
        "collections": str(content.collections_root()),
    }

    def render(output: Output) -> None:
        for name, place in value.items():
            output.line(f"{name:<12} {place}")

    config.output.result(value, render)
