# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Which other processes have files open, by /proc. Complete only for root; others see their own processes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress

from ansible_collections.diskominfo.sop.plugins.module_utils.mounts import (
    Mount,
    holding,
    label,
    lies_in,
    mounts_of,
    place_of,
    within,
)

#: inode number of the process namespace that the kernel starts with
_FIRST_PROCESS_NAMESPACE = "pid:[4026531836]"

_SHARED_WRITABLE = re.compile(rb"^\S+ .w.s .*$", re.MULTILINE)

Key = tuple[int, int]


def visibility() -> str:
    """How much of the host the answers cover."""
    if os.geteuid() != 0:
        return "own processes"
    if os.readlink("/proc/self/ns/pid") != _FIRST_PROCESS_NAMESPACE:
        return "all processes of this container"
    return "all processes"


def _others() -> Iterator[str]:
    own = str(os.getpid())
    return (name for name in os.listdir("/proc") if name.isdigit() and name != own)


def _descriptors(pid: str) -> Iterator[tuple[str, os.stat_result]]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:  # ended, or not ours
        return
    for name in names:
        try:
            yield name, os.stat(f"{folder}/{name}")
        except OSError:
            continue


def _mappings(pid: str, wanted: re.Pattern[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    """(path, stat) of the files that are mapped by lines that match ``wanted``; a mapping outlives its descriptor."""
    try:
        with open(f"/proc/{pid}/maps", "rb") as stream:
            lines = wanted.findall(stream.read())  # few of the many lines are looked at: this runs while services stand
    except OSError:
        return
    for line in lines:
        parts = line.split(None, 5)
        if len(parts) != 6 or parts[4] == b"0":
            continue
        # by the kernel's own link: the table's device number is not stat's on every file system; others than root have none
        for name in (os.fsencode(f"/proc/{pid}/map_files/") + _bare(parts[0]), parts[5]):
            with suppress(OSError):
                yield parts[5], os.stat(name)
                break


def _bare(area: bytes) -> bytes:
    return b"-".join(part.lstrip(b"0") or b"0" for part in area.split(b"-"))


def _fdinfo(pid: str, descriptor: str) -> dict[str, str]:
    with suppress(OSError), open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii", errors="replace") as stream:
        return {key: value.strip() for key, _colon, value in (line.partition(":") for line in stream)}
    return {}


def _may_write(info: dict[str, str]) -> bool:
    flags = int(info.get("flags", "0"), 8)
    return flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_PATH


def openers(paths: list[str]) -> list[str]:
    """Other processes that have one of the files open or mapped, by inode, so that renamed names do not hide them."""
    wanted = set()
    for path in paths:
        with suppress(FileNotFoundError):
            wanted.add(_key(os.stat(path)))
    if not wanted:
        return []
    numbers = b"|".join(b"%d" % inode for _device, inode in sorted(wanted))
    lines = re.compile(rb"^\S+ \S+ \S+ \S+ (?:" + numbers + rb") .*$", re.MULTILINE)
    return [label(pid) for pid in _others() if _uses(pid, wanted, lines)] + _kernel_users(wanted)


def _uses(pid: str, wanted: set[Key], lines: re.Pattern[bytes]) -> bool:
    if any(_key(found) in wanted for _name, found in _descriptors(pid)):
        return True
    return any(_key(found) in wanted for _path, found in _mappings(pid, lines))


def _key(found: os.stat_result) -> Key:
    return found.st_dev, found.st_ino


def _kernel_users(wanted: set[Key]) -> list[str]:
    """Loop devices and swap: no process holds their files open."""
    return [name for name, _path, found in _kernel_files() if _key(found) in wanted]


def _kernel_files() -> Iterator[tuple[str, bytes, os.stat_result]]:
    held = []
    with suppress(OSError):
        for device in os.listdir("/sys/block"):
            with suppress(OSError), open(f"/sys/block/{device}/loop/backing_file", encoding="utf-8") as stream:
                held.append((f"loop device {device}", stream.read().rstrip("\n")))
    with suppress(OSError), open("/proc/swaps", encoding="utf-8") as stream:
        held += [("swap", line.split()[0]) for line in stream.readlines()[1:]]
    for name, path in held:
        with suppress(OSError):
            yield name, os.fsencode(os.path.realpath(path)), os.stat(path)


def writers_below(root: str) -> list[str]:
    """Other processes that hold a file below the folder ``root`` open for writing or mapped writable and shared.

    A file is known by its place in its file system, so that neither a second mount nor another mount namespace hides it.
    """
    device = os.stat(root).st_dev
    tree = _Tree(root)
    own = mounts_of()
    found: list[str] = []
    suspects: dict[Key, str] = {}
    for name, path, status in _kernel_files():
        if status.st_dev == device and (tree.holds(path, None, own) or status.st_nlink > 1):
            suspects[_key(status)] = name
    for pid in _others():
        mounts: list[Mount] = []
        for path, status, number in _written(pid, device):
            mounts = mounts or mounts_of(pid)  # only for the few processes that may write on this file system
            verdict = tree.holds(path, number, mounts)
            if verdict:
                found.append(label(pid))
                break
            if verdict is None or status.st_nlink > 1:
                suspects[_key(status)] = label(pid)
    if suspects:  # asks for a walk of the whole folder: only for files with another name, or whose place cannot be told
        found += sorted({suspects[key] for key in suspects.keys() & _inodes(root)})
    return list(dict.fromkeys(found))


def _written(pid: str, device: int) -> Iterator[tuple[bytes, os.stat_result, int | None]]:
    """(path as /proc shows it, stat, number of its mount) of what ``pid`` may write on ``device``."""
    for name, status in _descriptors(pid):
        if status.st_dev != device or not stat.S_ISREG(status.st_mode):
            continue
        info = _fdinfo(pid, name)
        if _may_write(info):
            number = info.get("mnt_id", "")
            yield _link(f"/proc/{pid}/fd/{name}"), status, int(number) if number.isdigit() else None
    for path, status in _mappings(pid, _SHARED_WRITABLE):
        if status.st_dev == device:
            yield path, status, None


class _Tree:
    """A folder, by its place in its file system."""

    def __init__(self, root: str) -> None:
        self._device, self._inner = place_of(root)
        self._path = os.fsencode(os.path.realpath(root))

    def holds(self, path: bytes, number: int | None, mounts: list[Mount]) -> bool | None:
        """Whether ``path`` of a process with ``mounts`` lies in the folder; None when that cannot be told."""
        if lies_in(path, self._path):
            return True
        if number is None:
            mount = holding(path, mounts)
        else:
            mount = next((each for each in mounts if each.number == number), None)
        inner = within(mount, path) if mount is not None else None
        if mount is None or inner is None:
            return None
        return mount.device == self._device and lies_in(inner, self._inner)


def _link(path: str) -> bytes:
    try:
        return os.readlink(os.fsencode(path))
    except OSError:
        return b""


def _inodes(root: str) -> set[Key]:
    found = set()
    for folder, _folders, files in os.walk(root):
        for name in files:
            with suppress(FileNotFoundError):
                found.add(_key(os.lstat(os.path.join(folder, name))))
    return found
