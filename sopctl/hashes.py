# SPDX-License-Identifier: Apache-2.0
"""What files hashed to when they were last read: so that an archive that did not change need not be read again.

Names and digests are remembered, never verdicts: a digest from here is compared with the manifest like one that was just
taken. The file is bound by an HMAC whose key lies beside it, which stops accidents and other accounts, not who runs sopctl:
an audit that matters is made with ``--full``, which believes nothing of this.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from pathlib import Path

from sopctl import fsio
from sopctl.errors import SopctlError

NAME, KEY = "verified.json", "verified.key"
MAX_BYTES = 1024 * 1024 * 1024
TICK_NS = 2_000_000_000
CTIME = 2  # its place among the marks


#: what was seen of files, how many were read, and how many were remembered
Taken = tuple[dict[str, list[object]], int, int]


class Hashes:
    """Digests of an archive's files."""

    def __init__(self, archive: Path, state: Path | None) -> None:
        """``state``: where it is remembered; None: nothing is (an auditor's copy, or ``--full``)."""
        self.archive, self.state = archive, state
        self._within = len(os.fspath(archive)) + 1
        self.known: dict[str, list[object]] = {}
        self.seen: dict[str, list[object]] = {}
        self.read = self.reused = 0
        self.remark = ""
        if state is not None:
            self._load(state)

    def digest(self, path: str) -> str:
        """``sha256:<hex>`` of a file of the archive (``path`` begins with its place), from memory when nothing about the file
        changed. ConfigError when it cannot be read."""
        if self.state is None:
            self.read += 1
            return fsio.sha256_file(path)
        name = path[self._within :]
        before = _marks(path)
        known = self.known.get(name)
        if known is not None and before is not None and known[:-1] == before:
            self.seen[name] = known
            self.reused += 1
            return str(known[-1])
        found = fsio.sha256_file(path)
        self.read += 1
        # Not while it was written to, nor just before: within a tick of the kernel's clock two writes have one time.
        settled = before is not None and before[CTIME] < time.time_ns() - TICK_NS
        if before is not None and settled and before == _marks(path):
            self.seen[name] = [*before, found]
        return found

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

    def save(self) -> None:
        """Remember what was seen. ConfigError when it cannot be written."""
        if self.state is None:
            return
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = self._key(self.state) or self._new_key(self.state)
        data = json.dumps(self.known | self.seen, sort_keys=True).encode()
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


def _marks(path: str) -> list[int] | None:
    """Size, times and inode; ctime is the kernel's, and changes with every write, rename and change of times."""
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
