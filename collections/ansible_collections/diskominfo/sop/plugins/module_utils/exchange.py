# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Exchange a live path with a staged one in one step, so that a crash leaves wholly old or wholly new data.

Three names lie side by side: the live path, ``<path>__shadow_<case>`` and ``<path>__before_<case>``. What happened is
read from them alone. The only doubtful moment, between the exchange and the renaming after it, is settled by a
marker link that names the inode which was to become live.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import tempfile

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

AT_FDCWD = -100
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _renameat2(source: str, target: str, flags: int) -> None:
    if _libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags) != 0:
        number = ctypes.get_errno()
        if number in {errno.EINVAL, errno.ENOSYS}:
            raise SopError(
                f"{os.path.dirname(source)}: this file system cannot exchange two names; move the data to ext4 or xfs"
            )
        if number in {errno.EXDEV, errno.EBUSY}:
            raise SopError(f"{target}: is a mount point or on another file system; register a folder below it instead")
        raise OSError(number, os.strerror(number), source, None, target)


def case_suffix(case: str) -> str:
    """``RST-2026-0001`` as it stands in names: ``rst20260001``."""
    return re.sub(r"[^a-z0-9]", "", case.lower())


def inode(path: str) -> int:
    """Inode of ``path`` itself, 0 when there is nothing."""
    try:
        return os.lstat(path).st_ino
    except FileNotFoundError:
        return 0


def sync_folder(path: str) -> None:
    """Make renames in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: str) -> None:
    """Write everything of the file system that holds ``path`` to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if _libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


class Exchange:
    """The three names of one path and case."""

    def __init__(self, live: str, case: str) -> None:
        suffix = case_suffix(case)
        self.live = live
        self.shadow = f"{live}__shadow_{suffix}"
        self.before = f"{live}__before_{suffix}"
        self.folder, base = os.path.split(live)
        self._markers = {verb: os.path.join(self.folder, f".{base}__{verb}_{suffix}") for verb in ("swap", "revert")}

    def probe(self) -> None:
        """SopError when this file system cannot exchange names; changes nothing."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".sop-probe-") as folder:
            first, second = (os.path.join(folder, name) for name in ("a", "b"))
            for name in (first, second):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
            _renameat2(first, second, RENAME_EXCHANGE)

    def _exchanged(self, verb: str) -> bool:
        """True when the exchange of ``verb`` happened but not the renaming after it."""
        try:
            wanted = os.readlink(self._markers[verb])
        except FileNotFoundError:
            return False
        return wanted == str(inode(self.live))

    def state(self) -> str:
        """absent | staged | swapped, whatever a crash left."""
        if inode(self.shadow):
            return "swapped" if self._exchanged("swap") else "staged"
        if inode(self.before):
            return "staged" if self._exchanged("revert") else "swapped"
        return "absent"

    def settle(self) -> None:
        """Finish the renaming that a crash left open and remove markers."""
        if not os.path.isdir(self.folder):
            raise SopError(f"{self.folder}: there is no such folder on this host; make it or correct the register")
        if inode(self.shadow) and self._exchanged("swap"):
            _renameat2(self.shadow, self.before, RENAME_NOREPLACE)
        elif not inode(self.shadow) and inode(self.before) and self._exchanged("revert"):
            _renameat2(self.before, self.shadow, RENAME_NOREPLACE)
        sync_folder(self.folder)
        for marker in self._markers.values():
            if os.path.lexists(marker):
                os.unlink(marker)

    def take_back(self, verb: str) -> None:
        """Undo :meth:`exchange` of ``verb`` (before :meth:`settle`)."""
        other = self.shadow if verb == "swap" else self.before
        _renameat2(other, self.live, RENAME_EXCHANGE)
        self.settle()

    def exchange(self, verb: str) -> None:
        """The atomic half: mark, then exchange. :meth:`settle` is the other half."""
        other, spare = (self.shadow, self.before) if verb == "swap" else (self.before, self.shadow)
        if inode(spare):
            raise SopError(f"{spare}: exists already; move it away, it was not made by this case's exchange")
        self.settle()
        if inode(other) == inode(self.live):
            raise SopError(
                f"{self.live}: has the same inode number as {other} (a subvolume?); register a folder below it"
            )
        os.symlink(str(inode(other)), self._markers[verb])
        sync_folder(self.folder)
        _renameat2(other, self.live, RENAME_EXCHANGE)
        sync_folder(self.folder)
