# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Pipes that a whole dump passes through."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from typing import IO

#: what the kernel allows everybody unless it was told otherwise (fs.pipe-max-size)
ROOM = 1 << 20
_F_SETPIPE_SZ = 1031  # Python's fcntl knows it since 3.10


def widen(pipe: IO[bytes]) -> None:
    """Give ``pipe`` room for a megabyte instead of 64 kB, where the kernel allows it.

    Both ends work on while we look at what passes, and neither is woken 16 times for each piece that we take.
    """
    with suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, ROOM)
