# SPDX-License-Identifier: Apache-2.0
"""Dates, durations, sizes and numbers as an Indonesian form prints them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sopctl.errors import ConfigError

MONTHS = (
    *("Januari", "Februari", "Maret", "April", "Mei", "Juni"),
    *("Juli", "Agustus", "September", "Oktober", "November", "Desember"),
)
NOTHING = "–"

# Indonesia's three zones are constant, so a machine without time zone data prints them right too.
_ZONES: dict[str, tuple[int, str]] = {
    "Asia/Jakarta": (7, "WIB"),
    "Asia/Pontianak": (7, "WIB"),
    "Asia/Makassar": (8, "WITA"),
    "Asia/Ujung_Pandang": (8, "WITA"),
    "Asia/Jayapura": (9, "WIT"),
}
_DURATION = re.compile(r"P(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_UNITS = ("bulan", "minggu", "hari", "jam", "menit", "detik")
_SECONDS = (30 * 86400, 7 * 86400, 86400, 3600, 60, 1)
_SIZES = ("byte", "kB", "MB", "GB", "TB", "PB")


def zone(name: str) -> tzinfo:
    """The time zone ``name`` (``Asia/Jakarta``); ConfigError when it does not exist."""
    if name in _ZONES:
        hours, label = _ZONES[name]
        return timezone(timedelta(hours=hours), label)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"there is no time zone {name!r}",
            where="sop.yml: timezone",
            hint="Use Asia/Jakarta, Asia/Makassar or Asia/Jayapura",
        ) from error


def parse_utc(text: str) -> datetime:
    """``2026-11-22T03:00:00Z`` as a time; ValueError when it is anything else."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def long_date(day: date) -> str:
    """``22 November 2026``."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def format_date(text: str | None) -> str:
    """``2026-11-22`` → ``22 November 2026``."""
    return long_date(date.fromisoformat(text)) if text else NOTHING


def format_time(text: str | None, timezone_name: str, *, seconds: bool = False) -> str:
    """``2026-11-21T20:00:00Z`` → ``22 November 2026 pukul 03.00 WIB`` (Asia/Jakarta)."""
    if not text:
        return NOTHING
    local = parse_utc(text).astimezone(zone(timezone_name))
    clock = local.strftime("%H.%M.%S" if seconds else "%H.%M")
    return f"{long_date(local)} pukul {clock} {local.tzname()}"


def format_duration(seconds: int | None) -> str:
    """``123`` → ``2 menit 3 detik``; the two largest units, so a day does not carry its seconds."""
    if seconds is None:
        return NOTHING
    if seconds <= 0:
        return "kurang dari 1 detik"
    rest, parts = seconds, []
    for unit, size in list(zip(_UNITS, _SECONDS, strict=True))[2:]:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{format_number(count)} {unit}")
    return " ".join(parts[:2])


def iso_duration_seconds(text: str) -> int:
    """``PT15M`` → 900. A month counts 30 days. ValueError when it is not such a duration."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"not a duration: {text!r}")
    return sum(int(count or 0) * size for count, size in zip(match.groups(), _SECONDS, strict=True))


def format_iso_duration(text: str | None) -> str:
    """A *mutu baku* time: ``P1D`` → ``1 hari``, ``PT15M`` → ``15 menit``."""
    if not text:
        return NOTHING
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise ValueError(f"not a duration: {text!r}")
    return " ".join(f"{int(count)} {unit}" for count, unit in zip(match.groups(), _UNITS, strict=True) if count)


def format_number(number: int | None) -> str:
    """``1234567`` → ``1.234.567``."""
    return NOTHING if number is None else f"{number:,}".replace(",", ".")


def format_size(octets: int | None) -> str:
    """``1234500000`` → ``1.234,5 MB``: decimal units, changing at 10,000 so that no digit worth reading is lost."""
    if octets is None:
        return NOTHING
    unit, tenths = 0, octets * 10
    while tenths >= 100_000 and unit < len(_SIZES) - 1:
        unit += 1
        tenths = (octets * 10 + 1000**unit // 2) // 1000**unit  # from the bytes each time: rounded once
    whole, tenth = divmod(tenths, 10)
    return f"{format_number(whole)} {_SIZES[0]}" if unit == 0 else f"{format_number(whole)},{tenth} {_SIZES[unit]}"
