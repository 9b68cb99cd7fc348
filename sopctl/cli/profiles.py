# SPDX-License-Identifier: Apache-2.0
"""``sopctl profile …``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sopctl import fsio, procedure, procedure_page, profile_schema
from sopctl.cli.common import Settings, settings, with_json
from sopctl.errors import UsageError
from sopctl.output import Output
from sopctl.procedure import MARK, Procedure, Row
from sopctl.profile import LoadedProfile, load_profile, shipped

SIGNS = {"does": "●", "decides": "◆", "told": "○"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PARTS = {"does": "melaksanakan", "decides": "memutuskan", "told": "diberi tahu"}
HEADINGS = ("No.", "Kegiatan", "Kelengkapan", "Waktu", "Output", "Ket.")
#: least widths of these columns: comfortable, and such that words stay whole
LEAST = (3, 26, 13, 8, 13, 10)
NARROW = (3, 16, 11, 6, 11, 10)
#: width of a column with an actor's heading, and what a column's rules take
HEADING, BORDER, TIGHT = 13, 3, 1


@click.group()
def profile() -> None:
    """The SOP as data: check it, look at it, and its schema."""


@profile.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@with_json
@settings
def check(config: Settings, file: Path) -> None:
    """Check a profile: strict reading, and everything that steps, roles and papers must be to each other."""
    checked = procedure.check(file)
    loaded = checked.loaded

    def render(output: Output) -> None:
        output.line(checked.summary, "green")
        for warning in checked.warnings:
            output.remark(f"  note: {warning}")

    value = {"profile": loaded.profile.id, "digest": loaded.digest, "file": str(file), "warnings": checked.warnings}
    config.output.result(value, render)


@profile.command()
@click.option("--profile", "name", metavar="ID_OR_FILE", help="A shipped profile or a file (default: the site's).")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the page with the flow chart.")
@with_json
@settings
def show(config: Settings, name: str | None, html: Path | None) -> None:
    """Print the SOP as its own procedure table; --html draws its flow chart (PermenPANRB 35/2012)."""
    loaded = _find(config, name)
    if html:
        fsio.write_atomic(html.absolute(), procedure_page.page(loaded).encode(), 0o644)

    def render(output: Output) -> None:
        if html:
            output.line(f"written: {html}")
        else:
            _print(output, loaded)

    value = procedure.as_data(loaded) | ({"html": str(html)} if html else {})
    config.output.result(value, render)


@profile.command()
@with_json
@settings
def schema(config: Settings) -> None:
    """Print the JSON Schema of profiles, for editors and other programs."""
    value = profile_schema.json_schema()
    config.output.result(value, lambda output: output.line(json.dumps(value, ensure_ascii=False, indent=2)))


def _find(config: Settings, name: str | None) -> LoadedProfile:
    """The profile asked for: the site's own, a shipped one, or a file."""
    if name is None:
        return config.session.site.profile
    known = shipped()
    if name in known:
        return load_profile(known[name])
    path = Path(name)
    if not path.exists():
        raise UsageError(
            f"there is neither a shipped profile nor a file {name!r}",
            where="--profile",
            hint=f"Shipped: {', '.join(sorted(known))}.",
        )
    return load_profile(path)


def _print(output: Output, loaded: LoadedProfile) -> None:
    for label, lines in procedure.identity(loaded.profile):
        for at, line in enumerate(lines or ["–"]):
            output.line(f"{label if at == 0 else '':<26}{': ' if at == 0 else '  '}{line}")
    for table in procedure.procedures(loaded.profile):
        output.line("")
        output.line(table.title, "bold")
        _print_table(output, table)
    rules = procedure.rules(loaded.profile)
    if rules:
        output.line("")
        output.line("Aturan yang berlaku bersama SOP ini dalam sopctl", "bold")
        for label, text in rules:
            output.line(f"{label:<26}: {text}")
    output.line("")
    output.line(f"{MARK}: bacaan kami, bukan bunyi SOP. Profil {loaded.reference}")


def _print_table(output: Output, table: Procedure) -> None:
    """Actors under their own headings where the terminal is wide enough, else under letters with a key above."""
    marked = f" {MARK}" if table.columns_inferred else ""
    count, space = len(table.columns), output.out.width - 1
    rows = [_cells(row, count) for row in table.rows]
    if space >= sum(LEAST) + HEADING * count + BORDER * (len(LEAST) + count):
        least, actors = list(LEAST), [(column, HEADING) for column in table.columns]
        output.line(f"Pelaksana{marked}", "dim")
    else:
        marks = [max(map(len, "\n".join(row[2 + at] for row in rows).split()), default=1) for at in range(count)]
        least, actors = list(NARROW), [(LETTERS[at % len(LETTERS)], marks[at]) for at in range(count)]
        key = "; ".join(f"{letter} {column}" for (letter, _), column in zip(actors, table.columns, strict=True))
        output.line(f"Pelaksana{marked}: {key}", "dim")
    output.line(", ".join(f"{sign} {PARTS[part]}" for part, sign in SIGNS.items()), "dim")
    space -= sum(width for _, width in actors)
    remarks = space >= sum(least) + BORDER * (len(least) + count)
    if not remarks:
        rows, least = [row[:-1] for row in rows], least[:-1]
    tight = space < sum(least) + BORDER * (len(least) + count)
    free = max(space - sum(least) - (TIGHT if tight else BORDER) * (len(least) + count), 0)
    more = {"Kegiatan": free - 2 * (free // 4), "Kelengkapan": free // 4, "Output": free // 4}
    number, activity, *others = [
        (heading, width + more.get(heading, 0)) for heading, width in zip(HEADINGS, least, strict=False)
    ]
    output.ruled([number, activity, *actors, *others], rows, tight=tight)
    for row in [] if remarks else table.rows:
        if row.keterangan:
            output.line(f"Ket. {row.nomor or row.step}: {'; '.join(row.keterangan)}")


def _cells(row: Row, count: int) -> list[str]:
    actors: list[list[str]] = [[] for _ in range(count)]
    for actor in row.pelaksana:
        actors[actor.column].append(f"{SIGNS[actor.part]} {actor.name}".strip())
    return [
        row.nomor,
        f"{MARK} {row.kegiatan}" if row.inferred else row.kegiatan,
        *("\n".join(lines) for lines in actors),
        "\n".join(row.kelengkapan) or "–",
        row.waktu,
        "\n".join(row.output) or "–",
        "\n".join(row.keterangan),
    ]
