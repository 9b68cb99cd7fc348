# SPDX-License-Identifier: Apache-2.0
"""``sopctl asset export`` and ``sopctl asset import``: the register as a table."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sopctl import fsio
from sopctl.cli.assets import asset
from sopctl.cli.common import Settings, settings, with_json
from sopctl.errors import UsageError
from sopctl.output import Output


@asset.command()
@click.argument("kind", type=click.Choice(["csv", "ods", "json"]))
@click.option("--to", "target", metavar="FILE", help="Where to write it (default: standard output; ods needs a file).")
@with_json
@settings
def export(config: Settings, kind: str, target: str | None) -> None:
    """The register as a table with the columns of the Kartu Inventaris Barang B."""
    from sopctl import assets, kib

    config.session.reading = True
    if kind == "ods" and not target:
        raise UsageError("a spreadsheet needs a file", where="--to", hint="Give --to FILE.ods.")
    found = assets.everything(config.session)
    if kind == "ods":
        title = f"Kartu Inventaris Barang (KIB) B - {config.session.site.config.agency.nama}"
        data = kib.ods(found, title)
    elif kind == "csv":
        data = kib.csv_text(found).encode()
    else:
        data = fsio.canonical_json(kib.json_rows(found)) + b"\n"
    value = {"kind": kind, "servers": len(found), "file": None}
    if target is None:
        if config.as_json:
            config.output.result({**value, "text": data.decode()}, lambda _: None)
            return
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    path = Path(target).absolute()
    fsio.write_atomic(path, data)
    config.output.result({**value, "file": str(path)}, lambda output: output.line(f"{len(found)} servers: {path}"))


@asset.command("import")
@click.argument("table", metavar="FILE")
@click.option(
    "--map", "columns", metavar="FILE", required=True, help="Which column is which field: a file, or netbox or glpi."
)
@click.option("--check", is_flag=True, help="Say what would be written, and write nothing.")
@with_json
@settings
def import_table(config: Settings, table: str, columns: str, check: bool) -> None:
    """Register the servers of a CSV table: all rows or none, and nothing that is there is overwritten."""
    from sopctl import importing

    site = config.session.site
    try:
        found = importing.read_table(site, Path(table).absolute(), importing.read_map(columns))
    except importing.RowsWrong as error:
        for row in error.rows if len(error.rows) > 1 else []:
            config.output.remark(f"{table}: {row}", "red")
        raise
    if not check:
        importing.write(site, found)

    def render(output: Output) -> None:
        for server in found.new:
            output.line(f"{'would be new' if check else 'new'}      register/servers/{server}.yml")
        output.line(f"{len(found.new)} new, {len(found.same)} registered already with the same values", "green")
        if found.new and not check:
            output.line("have the keeper sign them: sopctl asset sign --as PERSON")

    config.output.result({"new": list(found.new), "same": found.same, "check": check}, render)
