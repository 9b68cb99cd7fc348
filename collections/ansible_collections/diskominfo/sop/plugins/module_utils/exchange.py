# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Exchange a live path with a staged one in one step, so that a crash leaves wholly old or wholly new data.

Three names lie side by side: the live path, ``<path>__shadow_<case>`` and ``<path>__before_<case>``. What happened is
read from them alone. The only doubtful moment, between the exchange and the renaming after it, is settled by a
marker link that names the inode which was to become live. What is to be removed gets the name ``__gone_`` first, so
that nothing half removed ever has a name that counts.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress

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
        if number in {errno.EPERM, errno.EACCES, errno.EROFS}:
            raise SopError(
                f"{target}: may not be renamed ({os.strerror(number)}); see that the file system is writable, that neither it "
                "nor its folder is immutable (lsattr -d), and run as root"
            )
        raise OSError(number, os.strerror(number), source, None, target)


#: bytes that names made of a live name may add to it, with the endings that engines add to them
_ROOM = 64
_LONGEST_NAME = 255


def _stem(base: str) -> str:
    """``base``, or when names made of it would be too long for a file system, its start and a digest of it."""
    raw = os.fsencode(base)
    if len(raw) <= _LONGEST_NAME - _ROOM:
        return base
    start = raw[: _LONGEST_NAME - _ROOM - 9].decode("utf-8", "ignore")
    return f"{start}~{hashlib.sha256(raw).hexdigest()[:8]}"


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


def write_file(path: str, content: str, mode: int = 0o644, group: int | None = None) -> bool:
    """Write a file whole, in a folder that is ours alone; whether its content was another before. On disk when this returns.

    ``group``: the group to give it; it is root's then.
    """
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
        found = os.fstat(stream.fileno())
        same = group is None or (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, group, mode)
        if same and stream.read() == content:
            return False
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    fresh = path + ".sop-new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        if group is not None:
            os.fchown(stream.fileno(), 0, group)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(fresh, mode)
    os.replace(fresh, path)
    sync_folder(os.path.dirname(path))
    return True


def publish(made: str, name: str) -> None:
    """Give what was made whole elsewhere its name, on disk when this returns; SopError when the name is taken."""
    sync_file_system(made)
    try:
        _renameat2(made, name, RENAME_NOREPLACE)
    except FileExistsError as error:
        raise SopError(f"{name}: exists already; move it away or choose another place") from error
    sync_folder(os.path.dirname(name))


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
    """The names of one path and case."""

    def __init__(self, live: str, case: str) -> None:
        suffix = case_suffix(case)
        self.live = live
        self.folder, base = os.path.split(live)
        stem = os.path.join(self.folder, _stem(base))
        self.shadow = f"{stem}__shadow_{suffix}"
        self.before = f"{stem}__before_{suffix}"
        #: what is being loaded
        self.part = f"{self.shadow}.part"
        #: what is being removed
        self.gone = f"{stem}__gone_{suffix}"
        hidden = os.path.join(self.folder, "." + _stem(base))
        self._probe = hidden + "__probe_"
        self._markers = {verb: f"{hidden}__{verb}_{suffix}" for verb in ("swap", "revert")}

    def probe(self) -> None:
        """SopError when nothing can be made, or no names be exchanged, where the data lies; leaves nothing."""
        try:
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=os.path.basename(self._probe)) as folder:
                first, second = (os.path.join(folder, name) for name in ("a", "b"))
                for name in (first, second):
                    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
                _renameat2(first, second, RENAME_EXCHANGE)
        except FileNotFoundError:
            raise SopError(
                f"{self.folder}: there is no such folder on this host; make it or correct the register"
            ) from None
        except OSError as error:
            raise SopError(
                f"{self.folder}: nothing can be made or renamed there ({error.strerror}); see that its file system is writable "
                "and has space, that it is not immutable (lsattr -d), and run as root"
            ) from error

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
        for name in os.listdir(self.folder):
            if name.startswith(os.path.basename(self._probe)):  # a probe that was killed
                shutil.rmtree(os.path.join(self.folder, name), ignore_errors=True)

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

    # -- removing -----------------------------------------------------------------------------------------------

    def retire(self, path: str, remove: Callable[[str], None]) -> None:
        """Remove ``path``, one of the names above, by ``remove``; a crash leaves it whole or at most something gone."""
        remove(self.gone)
        if inode(path):
            _renameat2(path, self.gone, RENAME_NOREPLACE)
            sync_folder(self.folder)
            remove(self.gone)
        remove(path)  # nothing but what belonged to it under names of its own
        sync_folder(self.folder)

    def trade_gone(self) -> None:
        """Exchange the live path with the one that is named ``gone``."""
        _renameat2(self.gone, self.live, RENAME_EXCHANGE)
        sync_folder(self.folder)
