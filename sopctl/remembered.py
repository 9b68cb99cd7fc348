# SPDX-License-Identifier: Apache-2.0
"""What an audit found nothing against, so that an archive of years is not read again each time.

A thing is remembered by its *mark*: a digest over what it was judged by (trust, roots, code, the ledger's line about it, which
stands for all lines before) and over name, size, times and inode of each of its files and folders. Whatever changes makes
another mark, and it is looked at again. The file is bound by an HMAC whose key lies beside it, which stops accidents and other
accounts, not who runs sopctl: an audit that matters is made with ``--full``, which believes nothing of this.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path

from sopctl import fsio
from sopctl.errors import SopctlError
from sopctl.findings import Finding

NAME, KEY = "verified.json", "verified.key"
MAX_BYTES = 256 * 1024 * 1024
TICK_NS = 2_000_000_000
#: what is counted: the others are told of by nobody
RECORDS = "records/"

#: what was found good, how many records were looked at, and how many remembered
Taken = tuple[dict[str, str], int, int]


class Remembered:
    """Marks of one archive's things. ``basis``: what all of them are judged by."""

    def __init__(self, archive: Path, state: Path | None, basis: Sequence[str] = ()) -> None:
        """``state``: where it is kept; None: nothing is (an auditor's copy, or ``--full``)."""
        self.archive, self.state = archive, state
        self.basis = fsio.sha256_bytes("\n".join(basis).encode())
        self.known: dict[str, str] = {}
        self.seen: dict[str, str] = {}
        self.read = self.reused = 0
        self.remark = ""
        if state is not None:
            self._load(state)

    def once(self, name: str, by: str, places: Sequence[Path], look: Callable[[], list[Finding]]) -> list[Finding]:
        """What speaks against the thing ``name``, which lies at ``places`` (files, or folders with all in them) and is judged
        ``by`` that: nothing when nothing did and nothing changed, else what ``look`` finds."""
        mark = self._mark(by, places) if self.state else None
        if mark is not None and self.known.get(name) == mark:
            self.seen[name] = mark
            self.reused += name.startswith(RECORDS)
            return []
        found = look()
        self.read += name.startswith(RECORDS)
        if not found and mark is not None and mark == self._mark(by, places):
            self.seen[name] = mark
        return found

    def _mark(self, by: str, places: Sequence[Path]) -> str | None:
        """None when something is there that cannot be remembered: what is no file, or was just written (within a tick of the
        kernel's clock two writes have one time)."""
        taken = hashlib.sha256(f"{self.basis}\n{by}\n".encode())
        latest = time.time_ns() - TICK_NS
        waiting = [os.fspath(place) for place in places]
        try:
            while waiting:
                path = waiting.pop()
                status = os.lstat(path)
                seen = [("", status)]
                if stat.S_ISDIR(status.st_mode):
                    with os.scandir(path) as entries:
                        seen += [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
                if any(one.st_ctime_ns > latest or not _plain(one.st_mode) for _, one in seen):
                    return None
                seen.sort(key=itemgetter(0))
                waiting += [f"{path}/{name}" for name, one in seen if name and stat.S_ISDIR(one.st_mode)]
                rows = [path, *(f"{name} {_marks(one)}" for name, one in seen), ""]
                taken.update("\n".join(rows).encode("utf-8", "surrogateescape"))
        except OSError:
            return None
        return taken.hexdigest()

    def taken(self) -> Taken:
        """What was seen since this was last asked, to be added to it, or to the one of the process that began this one."""
        taken = self.seen, self.read, self.reused
        self.seen, self.read, self.reused = {}, 0, 0
        return taken

    def add(self, taken: Taken) -> None:
        """Have seen this too."""
        seen, read, reused = taken
        self.seen |= seen
        self.read += read
        self.reused += reused

    def save(self, *, whole: bool) -> None:
        """Keep what was seen, and (unless the ``whole`` archive was looked at) what was known. ConfigError when it cannot be
        written."""
        kept = self.seen if whole else self.known | self.seen
        if self.state is None or kept == self.known:
            return
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = self._key(self.state) or self._new_key(self.state)
        data = json.dumps(kept, sort_keys=True).encode()
        fsio.write_atomic(self.state / NAME, _seal(key, self.archive, data).encode() + b"\n" + data, 0o600)

    def _load(self, state: Path) -> None:
        key = self._key(state)
        try:
            seal, _, data = fsio.read_strict(state / NAME, MAX_BYTES).partition(b"\n")
        except SopctlError:
            return  # nothing was remembered
        if key is None or not hmac.compare_digest(seal, _seal(key, self.archive, data).encode()):
            self.remark = f"{state / NAME} is not as sopctl wrote it: every file is read again"
            return
        self.known = json.loads(data)

    @staticmethod
    def _key(state: Path) -> bytes | None:
        try:
            key = fsio.read_strict(state / KEY)
        except SopctlError:
            return None
        return key if len(key) == 32 else None

    @staticmethod
    def _new_key(state: Path) -> bytes:
        key = secrets.token_bytes(32)
        fsio.write_atomic(state / KEY, key, 0o600)
        return key


def _seal(key: bytes, archive: Path, data: bytes) -> str:
    """Bound to the archive's place as well: another archive's memory says nothing of this one."""
    return hmac.new(key, str(archive.resolve()).encode() + b"\0" + data, hashlib.sha256).hexdigest()


def _plain(mode: int) -> bool:
    """Whether it is a file or a folder: what a link leads to would change unseen."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _marks(status: os.stat_result) -> tuple[int, ...]:
    """Kind, size, times and inode; ctime is the kernel's, and changes with every write, rename and change of times."""
    return status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
