# SPDX-License-Identifier: Apache-2.0
"""``sopctl demo``."""

from __future__ import annotations

from pathlib import Path

import click

from sopctl.cli.common import Settings, settings


@click.command()
@click.argument("folder", metavar="[FOLDER]", default="demo-site", type=click.Path(path_type=Path))
@click.option("--keep-running", is_flag=True, help="Leave database and web service running at the end.")
@click.option("--stop", is_flag=True, help="Stop what an earlier demo left running, and do nothing else.")
@click.option(
    "--engine", type=click.Choice(["postgresql", "sqlite"]), help="Database (default: PostgreSQL where it has a build)."
)
@settings
def demo(config: Settings, folder: Path, keep_running: bool, stop: bool, engine: str | None) -> int:
    """Run the whole SOP on this machine, in FOLDER (default: demo-site), with a real database and web service.

    Takes about a minute and needs no root. Run again, it starts afresh.
    """
    from sopctl.demo import machine, story

    place = folder.absolute()
    if stop:
        stopped = machine.stop(place)
        config.output.result(
            {"stopped": stopped},
            lambda output: output.line(f"stopped: {', '.join(stopped) or 'nothing; nothing of it was running'}"),
        )
        return 0
    return story.run(place, engine, keep_running)
