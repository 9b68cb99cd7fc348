# SPDX-License-Identifier: Apache-2.0
"""``sopctl metrics`` and ``sopctl check``."""

from __future__ import annotations

from pathlib import Path

import click

from sopctl import fsio, monitoring
from sopctl.cli.common import Settings, settings, with_json
from sopctl.errors import UsageError


@click.command()
@click.option(
    "--to",
    "target",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write there (whole or not at all), e.g. /var/lib/prometheus/node-exporter/sopctl.prom.",
)
@with_json
@settings
def metrics(config: Settings, target: Path | None) -> None:
    """Print what is verified, overdue and unconfirmed in Prometheus' text format."""
    watched = monitoring.watch(config.session)
    if target is None:
        config.output.result(monitoring.measures(watched), lambda output: output.page(monitoring.prometheus(watched)))
        return
    if not target.absolute().parent.is_dir():
        raise UsageError("there is no such folder", where=str(target.parent), hint="Make it, or name another FILE.")
    fsio.write_atomic(target.absolute(), monitoring.prometheus(watched).encode(), 0o644)
    config.output.result({"written": str(target)}, lambda _: None)


@click.command()
@with_json
@settings
def check(config: Settings) -> int:
    """Print one line for Nagios. Exit 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN, as Nagios has it."""
    try:
        watched = monitoring.watch(config.session)
        found = monitoring.judge(watched)
        state, line = monitoring.nagios(watched)
    except Exception as error:  # whatever it is: exit 1 would be a WARNING, and a traceback no line
        found = [(state := monitoring.State.UNKNOWN, str(error))]
        line = f"SOPCTL UNKNOWN - {' '.join(str(error).replace('|', '/').split())}"
    value = {
        "state": state.name,
        "line": line,
        "findings": [{"state": each.name, "text": text} for each, text in found],
    }
    config.output.result(value, lambda output: output.page(line + "\n"))
    return int(state)
