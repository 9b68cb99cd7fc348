# SPDX-License-Identifier: Apache-2.0
"""Locks on cases and datasets: held by the kernel while we live, with the holder written inside."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sopctl import clock
from sopctl.errors import LockedError


@contextmanager
def held(state: Path, names: list[str], who: str) -> Iterator[None]:
    """Hold the locks ``names`` (in sorted order, so that two commands never wait for each other).

    LockedError names holder, host, pid and since when.
    """
    folder = state / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name in sorted(set(names)):
            stack.enter_context(_one(folder / name, who))
        yield


@contextmanager
def _one(path: Path, who: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip() or "unknown holder"
            raise LockedError(f"{path.name} is held by {holder}", where=str(path), hint="Wait for it to end.") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{who} on {socket.gethostname()}, pid {os.getpid()}, since {clock.now()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
