# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What lies on a managed host and outlives a module: locks and journals; and signals put off while data is exchanged.

Nothing here, nor in what it imports, needs Ansible: sop-settle uses it when no controller is there any more.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from types import FrameType

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import sync_folder

#: seconds to wait for another run that holds the dataset on this host
LOCK_WAIT = 5.0
#: how moments are written
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class Terminated(BaseException):
    """A signal asked this module to end; everything on the way out undoes what is half done."""


class Signals:
    """Turns SIGTERM, SIGHUP and SIGINT into :class:`Terminated`, except inside :meth:`deferred`."""

    def __init__(self) -> None:
        self._hold = 0
        self._waiting: int | None = None

    def install(self) -> None:
        """Start to listen."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._hold:
            self._waiting = number
            return
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)  # a second one must not cut the cleaning short
        raise Terminated(signal.Signals(number).name)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """For the few steps of an exchange: a signal is obeyed after them."""
        self._hold += 1
        try:
            yield
        finally:
            self._hold -= 1
        if self._waiting is not None and not self._hold:
            self._receive(self._waiting, None)


SIGNALS = Signals()


def utc_now() -> str:
    """Now, as ``2026-11-22T03:00:00Z``."""
    return datetime.now(timezone.utc).strftime(TIME_FORMAT)


def iso(moment: float) -> str:
    """Seconds since 1970 as ``2026-11-22T03:00:00Z``."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime(TIME_FORMAT)


def default_state_dir() -> str:
    """Where locks, journals and scratch copies of this host lie."""
    if os.geteuid() == 0:
        return "/var/lib/sop"
    return os.path.join(os.path.expanduser("~"), ".local", "state", "sop")


def ensure_state_dir(path: str) -> str:
    """Make ``path`` (0700) and return it; SopError when it cannot be made or belongs to another user."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
    except OSError as error:
        raise SopError(
            f"{path}: cannot be made ({error.strerror}); run as root or set state_dir to a writable folder"
        ) from error
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise SopError(f"{path}: others may write to it (or own it); give it to this user with mode 0700")
    return path


class DatasetLock:
    """The one lock of a dataset on this host. The kernel lets go of it when the holder ends, however it ends."""

    def __init__(self, state_dir: str, name: str, holder: str, wait: float = LOCK_WAIT) -> None:
        self._path = os.path.join(state_dir, f"lock-{name}")
        self._name = name
        self._holder = holder
        self._wait = wait
        self._fd = -1

    def __enter__(self) -> DatasetLock:
        ensure_state_dir(os.path.dirname(self._path))
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        deadline = time.monotonic() + self._wait
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holder = os.pread(self._fd, 200, 0).decode("utf-8", "replace").strip()
                    os.close(self._fd)
                    raise SopError(
                        f"{self._name}: another run holds this dataset here ({holder or 'unknown'}); wait for it to end"
                    ) from None
                time.sleep(0.2)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{self._holder}, pid {os.getpid()}, since {utc_now()}\n".encode(), 0)
        return self

    def __exit__(self, *_exc: object) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


class Journal:
    """One small JSON file of this host, written whole or not at all."""

    def __init__(self, state_dir: str, name: str) -> None:
        self._path = os.path.join(state_dir, name + ".json")

    def read(self) -> Json | None:
        """What was written last; None when nothing was, or it cannot be read as JSON."""
        try:
            with open(self._path, encoding="utf-8") as stream:
                found = json.load(stream)
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, value: Json) -> None:
        """Replace the file, on disk when this returns."""
        folder = ensure_state_dir(os.path.dirname(self._path))
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".journal-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(value, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self._path)
        sync_folder(folder)

    def remove(self) -> None:
        """Remove the file if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._path)
