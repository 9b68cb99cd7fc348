# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""How far a dump has come, in a small file on this host that the action plugin looks at.

It is for a person who waits, so nothing depends on it: it is never flushed to disk, and a file that cannot be written
is not written.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import utc_now

#: seconds between two states of the file
INTERVAL = 1.0


def file_name(dataset: str, case: str) -> str:
    """Name of the file in the host's state folder."""
    return f"progress-{dataset}-{case}.json"


class Meter:
    """Counts the bytes that have passed, from any thread, and writes them down once a second in one of its own.

    A dump that stands still is seen to stand still that way, and counting costs nothing.
    """

    def __init__(self, state_dir: str, name: str, what: str, total: int | None, estimate: bool) -> None:
        self._path = os.path.join(state_dir, name)
        self._what = what
        self._total = total or None
        self._estimate = estimate
        self._done = self._passed = 0
        self._sample: Callable[[], int | None] | None = None
        self._started = utc_now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sop-progress", daemon=True)
        self._thread.start()

    def add(self, count: int) -> None:
        """``count`` more bytes have passed."""
        self._passed += count
        self._done = max(self._done, self._passed)

    def again(self) -> None:
        """A stream begins at its first byte. An archive's head is read several times, so what was counted stays."""
        self._passed = 0

    def reached(self, done: int, total: int | None = None) -> None:
        """So many bytes have passed in all, as the program that moves them says (and of how many)."""
        self._done = max(self._done, done)
        self._total = total or self._total

    @contextmanager
    def sampled(self, sample: Callable[[], int | None]) -> Iterator[None]:
        """Ask ``sample`` for the bytes, where nothing tells them by itself."""
        self._sample = sample
        try:
            yield
        finally:
            self._sample = None

    def _run(self) -> None:
        while True:
            sample = self._sample
            found = sample() if sample else None
            if found is not None:
                self.reached(found)
            with suppress(OSError):
                self._write()
            if self._ended.wait(INTERVAL):
                return

    def _write(self) -> None:
        state = {
            "what": self._what,
            "done": self._done,
            "total": self._total,
            "estimate": self._estimate,
            "started": self._started,
            "at": utc_now(),
        }
        part = self._path + ".part"
        # the folder is this user's alone and the caller holds the dataset's lock, so a fixed name is nobody else's
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(part, flags, 0o600), "w", encoding="ascii") as stream:
            json.dump(state, stream)
        os.replace(part, self._path)

    def end(self) -> None:
        """Remove the file; whatever is counted afterwards is not shown."""
        self._ended.set()
        self._thread.join()
        remove(self._path)


def remove(path: str) -> None:
    """Remove a progress file, a killed run's too."""
    for each in (path, path + ".part"):
        with suppress(OSError):
            os.unlink(each)


def bytes_written(pid: int) -> int | None:
    """Bytes that a process has handed to ``write``, by the kernel's account; None where it keeps none, or has ended."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as stream:
            return next(int(line.split()[1]) for line in stream if line.startswith("wchar:"))
    except (OSError, ValueError, StopIteration):
        return None
