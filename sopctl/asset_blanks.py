# SPDX-License-Identifier: Apache-2.0
"""The blank form of the register's yearly review: the *Berita Acara*, as frozen values like those in ``blanks``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sopctl.blanks import FormHeader, Letterhead, Official


@dataclass(frozen=True, kw_only=True)
class ReviewRow:
    """One server of the register as it was reviewed. ``entry`` and ``facts`` are digests of what was looked at."""

    server: str
    name: str
    hostname: str
    kode_barang: str
    machine: str  # maker and model
    serial: str
    system: str
    location: str
    holder: str
    result: Literal["sesuai", "tidak-sesuai"]
    entry: str
    facts: str | None
    remark: str = ""
    previous: str = ""  # date of the review before, YYYY-MM-DD
    changed: tuple[str, ...] = ()  # what differs from that review: "entry", "facts"


@dataclass(frozen=True, kw_only=True)
class ReviewForm:
    """Berita acara peninjauan register aset: what was found of which entries, by whom, and until when it holds."""

    letterhead: Letterhead
    header: FormHeader
    rows: tuple[ReviewRow, ...]
    registered: int  # servers in the register
    reviewer: Official
    keeper: Official
    until: str  # last day on which it holds, YYYY-MM-DD
    document: str  # file name and digest of the signed review
