# SPDX-License-Identifier: Apache-2.0
"""Locks on cases and datasets: held by the kernel while we live, with the holder written inside.

A lock is let go by emptying its file. When the kernel gives us a lock whose file still names a holder, that process was
ended from outside in the middle of its work: the lock is *stale*. Nobody gets past it but by an act that says so, because
somebody must look at what was left behind; only what a scheduled backup left is cleared by the next one. Files are never removed: two processes would then hold two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sopctl import clock, fsio
from sopctl.errors import ConfigError, LockedError
from sopctl.models import Record

#: a holder's line is shorter; what is longer was not written by us
_MOST = 4096
#: who looks at a lock holds it for a moment too; a command waits that long before it says that a lock is held
_PATIENCE = 0.3
#: begin of the numbers under which maintenance of the vault holds its locks; no case has such a number
MAINTENANCE = "VLT-"


class Holder(Record, frozen=True):
    """What is written inside: who holds the lock, in which process, since when (UTC), for which case (may be empty)."""

    holder: str
    host: str
    pid: int
    since: str
    case: Annotated[str, msgspec.Meta(pattern=r"\A([A-Z]{3}-[0-9]{4}-[0-9]{4})?\Z")]


@dataclass(frozen=True)
class Lock:
    """A lock that is not free.

    ``state``: ``held`` by a living process of this host; ``stale``: its process ended without letting go; ``elsewhere``:
    held by a process of another host, which cannot be seen from here. ``text`` is what the file holds, ``read`` the same
    understood, or None when it cannot be.
    """

    name: str
    state: Literal["held", "stale", "elsewhere"]
    text: str
    read: Holder | None

    @property
    def case(self) -> str:
        """The case that it is held for; empty when that is unknown."""
        return self.read.case if self.read else ""

    @property
    def holder(self) -> str:
        """The holder in words: who, on which host, in which process, since when."""
        if self.read:
            return f"{self.read.holder} on {self.read.host} (pid {self.read.pid}, since {self.read.since})"
        return f"an unknown holder (its file reads {self.text[:60]!r})"

    def __str__(self) -> str:
        """One sentence without its full stop, as errors and ``doctor`` print it."""
        by = f"by {self.holder} for {self.case or 'an unknown case'}"
        if self.state == "stale":
            return f"{self.name} was held {by}, which ended without letting go"
        return f"{self.name} is held {by}{', which cannot be seen from here' if self.state == 'elsewhere' else ''}"


@contextmanager
def held(state: Path, names: list[str], who: str, case: str = "") -> Iterator[None]:
    """Hold the locks ``names`` (in sorted order, so that two commands never wait for each other) for ``case``.

    They are let go at the end, also by an exception. LockedError names holder, host, pid and since when, and for a stale
    lock the way to take it over.
    """
    folder = state / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from None
    holder = Holder(holder=who, host=socket.gethostname(), pid=os.getpid(), since=clock.now(), case=case)
    with ExitStack() as stack:
        for name in sorted(set(names)):
            descriptor = stack.enter_context(_open(folder / name))
            _seize(descriptor, folder / name)
            text = _read(descriptor)
            if text:
                raise _refusal(_lock(name, text), folder / name)
            stack.callback(os.ftruncate, descriptor, 0)
            # on the disk before the work begins: after a power failure too it must be seen that it did not end
            os.pwrite(descriptor, msgspec.json.encode(holder) + b"\n", 0)
            os.fsync(descriptor)
        fsio.fsync_dir(folder)
        yield


def peek(state: Path) -> list[Lock]:
    """All locks that are not free, by name, as they are at this moment; nothing is changed."""
    folder = state / "locks"
    found: list[Lock] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        with _open(path, os.O_RDONLY) as descriptor:
            # a free lock is not touched, so that nobody who wants it now is turned away by our look
            if not _read(descriptor):
                continue
            free = _try(descriptor, path, fcntl.LOCK_SH)
            text = _read(descriptor)  # again: the holder may have ended in between
        if text:
            found.append(_lock(path.name, text) if free else Lock(path.name, "held", text, _holder(text)))
    return found


def stale(state: Path, case: str, cases: Collection[str] | None = None) -> list[Lock]:
    """The locks that a take-over for ``case`` may clear: what that case left behind, here or on another host.

    Also those of an unknown case, which any case may clear, so that nobody is stuck for ever. ``cases``, when given, are
    the cases in which a take-over can still be filed: a lock of any other one counts as of an unknown case.
    """
    return [
        lock
        for lock in peek(state)
        if lock.state != "held" and (lock.case in {case, ""} or (cases is not None and lock.case not in cases))
    ]


def take_over(state: Path, locks: list[Lock]) -> None:
    """Clear ``locks`` as :func:`stale` gave them: all or, with LockedError, none.

    LockedError when one is held after all, or was taken over and used by somebody since; one that is free now is done.
    """
    folder = state / "locks"
    with ExitStack() as stack:
        descriptors = []
        for lock in sorted(locks, key=lambda lock: lock.name):
            path = folder / lock.name
            descriptor = stack.enter_context(_open(path))
            _seize(descriptor, path)
            if _read(descriptor) not in {lock.text, ""}:
                why = f"{lock.name} has another holder than the one that was to be taken over"
                raise LockedError(why, where=str(path), hint="Look again: sopctl doctor.")
            descriptors.append(descriptor)
        for descriptor in descriptors:
            os.ftruncate(descriptor, 0)
            os.fsync(descriptor)


def let_go_of_maintenance(state: Path) -> list[str]:
    """Clear what maintenance of the vault that died on this machine left: restic's own locks keep what it was at from harm.

    Returns the numbers it had.
    """
    dead = [lock for lock in peek(state) if lock.state == "stale" and lock.case.startswith(MAINTENANCE)]
    if dead:
        take_over(state, dead)
    return sorted({lock.case for lock in dead})


@contextmanager
def _open(path: Path, mode: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """The lock's file, which is closed (and with that unlocked) at the end."""
    try:
        descriptor = os.open(path, mode | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError("is not a file", where=str(path), hint="Remove it: locks are plain files.")
        yield descriptor
    finally:
        os.close(descriptor)


def _try(descriptor: int, path: Path, kind: int) -> bool:
    """Whether the kernel gives us the lock now."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _unusable(path, error) from None
    return True


def _seize(descriptor: int, path: Path) -> None:
    """Get the kernel's lock, or LockedError with the holder that is written inside."""
    end = time.monotonic() + _PATIENCE
    while not _try(descriptor, path, fcntl.LOCK_EX):
        if time.monotonic() > end:
            text = _read(descriptor)
            raise _refusal(Lock(path.name, "held", text, _holder(text)), path)
        time.sleep(_PATIENCE / 15)


def _read(descriptor: int) -> str:
    return os.pread(descriptor, _MOST + 1, 0).decode("utf-8", "backslashreplace")


def _holder(text: str) -> Holder | None:
    with suppress(msgspec.DecodeError, RecursionError):
        holder = msgspec.json.decode(text, type=Holder)
        if clock.is_time(holder.since):
            return holder
    return None


def _lock(name: str, text: str) -> Lock:
    """A lock that the kernel does not know to be held, although ``text`` says so."""
    read = _holder(text)
    elsewhere = read is not None and read.host != socket.gethostname()
    return Lock(name, "elsewhere" if elsewhere else "stale", text, read)


def _refusal(lock: Lock, path: Path) -> LockedError:
    case = lock.case
    command = f"sopctl case take-over {case or 'CASE'} --reason … --as PERSON."
    if lock.state == "held":
        hint = "Wait for it to end."
    elif lock.state == "elsewhere":
        hint = f"Wait for it to end. When you have made sure on {lock.read.host if lock.read else ''} that it is dead, take it over: {command}"
    elif case.startswith(MAINTENANCE):
        hint = "It was maintenance of the vault; run it again: sopctl vault check --as PERSON."
    elif case:
        hint = f"See what came of it (sopctl case show {case}), then take it over: {command}"
    else:
        hint = f"Find out what came of it, then take it over with any open case: {command}"
    return LockedError(str(lock), where=str(path), hint=hint)


def _unusable(path: Path, error: OSError) -> ConfigError:
    why = f"cannot be used for locks ({error.strerror})"
    return ConfigError(why, where=str(path), hint="The site's .state must be yours, on a file system with locks.")
