# SPDX-License-Identifier: Apache-2.0
"""Tables as values: the page and the CSV beside it are made from the same one. What people wrote is shown harmlessly."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Tone = Literal["", "good", "fair", "bad", "mute"]

_WORD = 28
#: what needs no second look: ASCII, the Latin letters, dashes, an ellipsis
_PLAIN = re.compile("[ -~\u00a0-\u00ac\u00ae-\u024f–—…]*")
#: characters of one text that a page shows at most; the CSV has all of them
LONGEST = 400
#: a spreadsheet takes a cell that begins so for a formula; the full-width ones too, in some input methods
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


@dataclass(frozen=True)
class Link:
    """A text that leads somewhere inside the report."""

    text: str
    href: str


@dataclass(frozen=True)
class Cell:
    """One cell. ``sub``: a second, smaller line; ``sort``: what its column is sorted by, where that is not its text;
    ``links`` stand behind the text, as papers do."""

    text: str = ""
    tone: Tone = ""
    sub: str = ""
    href: str = ""
    sort: str = ""
    mono: bool = False
    keep: bool = False  # an id that is not broken into two lines
    links: tuple[Link, ...] = ()

    @property
    def long(self) -> bool:
        """Whether a word of it is so long that it must be broken anywhere."""
        return max(map(len, f"{self.text} {self.sub}".split()), default=0) > _WORD


@dataclass(frozen=True)
class Column:
    """A column's heading. ``choices``: the page offers its texts to filter by; ``number``: right-aligned, sorted by value.
    ``raw``: the unit in which the CSV has what the column is sorted by, in the place of its text (seconds, bytes, UTC)."""

    title: str
    choices: bool = False
    raw: str = ""
    number: bool = False


@dataclass(frozen=True)
class Row:
    """``anchor``: what a link to this row is called; empty when nothing leads to it."""

    cells: tuple[Cell, ...]
    anchor: str = ""

    def drawn(self, columns: Sequence[Column]) -> list[tuple[str, str, str, str, str, str, list[tuple[str, str]]]]:
        """What a template prints of each cell, as plain tuples: looking up attributes in the sandbox costs more than all else.

        Classes of the cell, what it is sorted by, where it leads, classes of its text, text, line below, links.
        """
        return [
            (
                " ".join(
                    word
                    for word, on in (("n", column.number), ("keep", cell.keep and not cell.long), ("any", cell.long))
                    if on
                ),
                cell.sort,
                cell.href,
                f"{cell.tone} mono".strip() if cell.mono else cell.tone,
                clipped(cell.text),
                clipped(cell.sub),
                [(link.text, link.href) for link in cell.links],
            )
            for column, cell in zip(columns, self.cells, strict=True)
        ]


@dataclass(frozen=True)
class Table:
    """``name`` is the CSV's file name and the element's id: letters and ``-``."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    empty: str = ""
    wide: bool = False  # printed across

    def choices(self, at: int) -> list[str]:
        """The texts of a column, each once, in their order."""
        return sorted({clipped(row.cells[at].text) for row in self.rows if row.cells[at].text})


def visible(text: str) -> str:
    """``text`` with everything that shows nothing, or turns the text about it round, written out: ``⟨U+202E⟩``.

    A line end inside is a space; combining characters are kept up to two on a letter.
    """
    if _PLAIN.fullmatch(text):
        return text
    shown: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if char == "\n":
            shown.append(" ")
        elif marks > 2 or not (char.isprintable() or char == "\u00a0"):
            shown.append(f"⟨U+{ord(char):04X}⟩")
        else:
            shown.append(char)
    return "".join(shown)


def clipped(text: str) -> str:
    """``text`` made visible, and not longer than a page bears."""
    short = visible(text[: LONGEST + 1])
    return short if len(text) <= LONGEST else f"{visible(text[:LONGEST])}… (+{len(text) - LONGEST})"


def harmless(text: str) -> str:
    """``text`` as a CSV's cell: visible, and no spreadsheet takes it for a formula."""
    risky = text.lstrip(" ").startswith(_FORMULA)
    shown = visible(text).replace("\u00a0", " ")
    return f"'{shown}" if risky else shown


def csv_bytes(table: Table) -> bytes:
    """The table as CSV: UTF-8 with a byte order mark (spreadsheets read it right then), RFC 4180, all cells quoted."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([harmless(f"{one.title} ({one.raw})" if one.raw else one.title) for one in table.columns])
    for row in table.rows:
        cells = zip(table.columns, row.cells, strict=True)
        writer.writerow([harmless(_plain(cell, raw=bool(column.raw))) for column, cell in cells])
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8")


def _plain(cell: Cell, *, raw: bool) -> str:
    parts: Sequence[str] = (
        cell.sort if raw else cell.text,
        cell.sub,
        ", ".join(link.href.partition("#")[2] or link.href for link in cell.links),
    )
    return " | ".join(part for part in parts if part)
