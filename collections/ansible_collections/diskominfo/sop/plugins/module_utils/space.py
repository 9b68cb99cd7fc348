# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Refuse work that would fill a disk."""

from __future__ import annotations

import os

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

#: bytes that must stay free for the live service
RESERVE = 64 << 20


def require_space(folder: str, wanted: int, purpose: str) -> None:
    """SopError unless ``wanted`` bytes (and five per cent) fit into ``folder`` with the reserve left."""
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    needed = wanted + wanted // 20 + RESERVE
    if free < needed:
        raise SopError(
            f"{folder}: {free >> 20} MiB free, {purpose} needs {(needed >> 20) + 1} MiB; free space there and run again"
        )
