# SPDX-License-Identifier: Apache-2.0
"""sopctl.indonesian: times, durations, limits and sizes as an Indonesian official reads them."""

from __future__ import annotations

import pytest

from sopctl import indonesian
from sopctl.errors import ConfigError


def test_times_in_the_three_zones_and_elsewhere() -> None:
    at = "2026-12-31T17:30:05Z"
    assert indonesian.format_time(at, "Asia/Jakarta") == "1 Januari 2027 pukul 00.30 WIB"
    assert indonesian.format_time(at, "Asia/Makassar") == "1 Januari 2027 pukul 01.30 WITA"
    assert indonesian.format_time(at, "Asia/Jayapura", seconds=True) == "1 Januari 2027 pukul 02.30.05 WIT"
    assert indonesian.format_time(at, "UTC") == "31 Desember 2026 pukul 17.30 UTC"
    assert indonesian.format_time(None, "UTC") == "–"
    for name in ("Asia/Nowhere", "../etc/passwd", "/etc/passwd", ""):
        with pytest.raises(ConfigError, match="time zone"):
            indonesian.format_time(at, name)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "kurang dari 1 detik"), (1, "1 detik"), (123, "2 menit 3 detik"), (3600, "1 jam"),
     (3661, "1 jam 1 menit"), (90_061, "1 hari 1 jam"), (86_400 * 1500, "1.500 hari")],
)  # fmt: skip
def test_durations(seconds: int | None, text: str) -> None:
    assert indonesian.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds", "printed"),
    [("P1D", 86_400, "1 hari"), ("PT15M", 900, "15 menit"), ("PT1H30M", 5400, "1 jam 30 menit"), ("P1M", 2_592_000, "1 bulan"),
     ("P1W", 604_800, "1 minggu")],
)  # fmt: skip
def test_time_limits(text: str, seconds: int, printed: str) -> None:
    assert indonesian.iso_duration_seconds(text) == seconds
    assert indonesian.format_iso_duration(text) == printed


@pytest.mark.parametrize("text", ["", "P", "PT", "1D", "P1Y", "P1.5D", "P-1D"])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        indonesian.iso_duration_seconds(text)


@pytest.mark.parametrize(
    ("octets", "text"),
    [(None, "–"), (0, "0 byte"), (9999, "9.999 byte"), (10_000, "10,0 kB"), (1_234_500_000, "1.234,5 MB"),
     (9_999_949_999, "9.999,9 MB"), (9_999_950_000, "10,0 GB"), (10**13, "10,0 TB")],
)  # fmt: skip
def test_sizes(octets: int | None, text: str) -> None:
    assert indonesian.format_size(octets) == text
