# SPDX-License-Identifier: Apache-2.0
"""The report's two languages: every text stands in both, side by side; dates, numbers and sizes as each writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from sopctl import clock, indonesian
from sopctl.errors import ConfigError

Lang = Literal["id", "en"]
Pair = tuple[str, str]

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
NOTHING = "–"


@dataclass(frozen=True)
class Tongue:
    """The language of a report (``id`` or ``en``) and the agency's time zone, by name."""

    lang: Lang
    zone: str

    def __call__(self, indonesian_text: str, english_text: str) -> str:
        """One of the two."""
        return english_text if self.lang == "en" else indonesian_text

    def pick(self, pair: Pair) -> str:
        """The same for a pair."""
        return self(*pair)

    def month(self, number: int, *, short: bool = False) -> str:
        """Name of month 1 to 12, or its first three letters."""
        name = (_MONTHS if self.lang == "en" else indonesian.MONTHS)[number - 1]
        return name[:3] if short else name

    def day(self, text: str | None) -> str:
        """``2026-11-22`` → ``22 November 2026``; what is no date stays as it is."""
        if not text:
            return NOTHING
        try:
            found = date.fromisoformat(text[:10])
        except ValueError:
            return text
        return f"{found.day} {self.month(found.month)} {found.year}"

    def time(self, text: str | None) -> str:
        """A moment (UTC) by the agency's clock, to the minute; what is no time stays as it is."""
        if not text:
            return NOTHING
        try:
            local = clock.parse(text).astimezone(indonesian.zone(self.zone))
        except (ConfigError, OverflowError):
            return text
        shown = f"{local.day:02d}\u00a0{self.month(local.month, short=True)}\u00a0{local.year} "
        return shown + f"{local:%H:%M}\u00a0{local.tzname()}".replace(":", ":" if self.lang == "en" else ".")

    def duration(self, seconds: int | None) -> str:
        """The two largest units of so many seconds."""
        if seconds is None:
            return NOTHING
        if self.lang != "en":
            return indonesian.format_duration(seconds)
        rest, parts = max(seconds, 0), []
        for unit, size in _UNITS:
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count} {unit}")
        return " ".join(parts[:2]) or "under 1 s"

    def short(self, seconds: int) -> str:
        """A duration on a chart's axis: one unit, cut short."""
        for (_, size), unit in zip(_UNITS, self("hr j mnt dtk", "d h min s").split(), strict=True):
            if seconds >= size and seconds % size == 0:
                return f"{seconds // size} {unit}"
        return "0"

    def limit(self, text: str | None) -> str:
        """A *mutu baku* time (ISO 8601); what is none stays as it is."""
        if not text:
            return NOTHING
        try:
            return self.duration(indonesian.iso_duration_seconds(text))
        except ValueError:
            return text

    def number(self, count: int) -> str:
        """``1234567`` with the language's separators."""
        return f"{count:,}" if self.lang == "en" else indonesian.format_number(count)

    def counted(self, count: int, indonesian_noun: str, one: str, many: str) -> str:
        """A number with its noun: Indonesian has one form, English two."""
        return f"{self.number(count)} {self(indonesian_noun, one if count == 1 else many)}"

    def size(self, octets: int | None) -> str:
        """Bytes in decimal units."""
        text = indonesian.format_size(octets)
        return text.translate(str.maketrans(".,", ",.")) if self.lang == "en" else text
