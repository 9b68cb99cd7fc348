# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Refuse work that would fill a disk. Plan and run reckon with the same places, so that they agree."""

from __future__ import annotations

import os

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, Place, SopError

#: bytes that must stay free for the live service
RESERVE = 64 << 20


def place_for(folder: str, size: int) -> Place:
    """The place of a copy of ``size`` bytes in ``folder``, with five per cent for what file systems add."""
    return Place(folder, size + size // 20, RESERVE)


def shortage(place: Place) -> Json | None:
    """{"path", "free", "needs", "reserve"} where the copy does not fit; None where it does, or nobody can tell."""
    try:
        found = os.statvfs(str(place.path))
    except OSError:
        return None  # who makes the copy says what is wrong
    free = found.f_bavail * found.f_frsize
    if free >= place.needs + place.reserve:
        return None
    return {"path": place.path, "free": free, "needs": place.needs, "reserve": place.reserve}


def require_space(place: Place, purpose: str) -> None:
    """SopError unless the copy fits with the reserve left."""
    found = os.statvfs(str(place.path))
    free = found.f_bavail * found.f_frsize
    needed = place.needs + place.reserve
    if free < needed:
        raise SopError(
            f"{place.path}: {free >> 20} MiB free, {purpose} needs {(needed >> 20) + 1} MiB; free space there and run again"
        )
