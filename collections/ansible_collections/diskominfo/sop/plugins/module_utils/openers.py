# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Which other processes have files open, by /proc. Complete only for root; others see their own processes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator


def visibility() -> str:
    """How much of the host the answers cover: "all processes" or "own processes"."""
    return "all processes" if os.geteuid() == 0 else "own processes"


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


def _label(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return f"{stream.read().strip()} (pid {pid})"
    except OSError:
        return f"pid {pid}"


def _may_write(pid: str, descriptor: str) -> bool:
    try:
        with open(f"/proc/{pid}/fdinfo/{descriptor}", encoding="ascii") as stream:
            flags = next(int(line.split()[1], 8) for line in stream if line.startswith("flags:"))
    except (OSError, StopIteration):
        return False
    return flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_PATH


def openers(paths: list[str]) -> list[str]:
    """Other processes that have one of the files open, by inode, so that renamed names do not hide them."""
    wanted = set()
    for path in paths:
        try:
            found = os.stat(path)
        except FileNotFoundError:
            continue
        wanted.add((found.st_dev, found.st_ino))
    if not wanted:
        return []
    return [
        _label(pid)
        for pid in _others()
        if any((found.st_dev, found.st_ino) in wanted for _name, found in _descriptors(pid))
    ]


def writers_below(root: str) -> list[str]:
    """Other processes that hold a file below the folder ``root`` open for writing or mapped writable and shared."""
    device = os.stat(root).st_dev
    prefix = root.rstrip("/") + "/"
    namespace = os.readlink("/proc/self/ns/mnt")
    suspects: dict[tuple[int, int], str] = {}
    found: list[str] = []
    for pid in _others():
        if _maps_writable(pid, prefix):
            found.append(_label(pid))
            continue
        for name, status in _descriptors(pid):
            if status.st_dev != device or not stat.S_ISREG(status.st_mode) or not _may_write(pid, name):
                continue
            if _link(f"/proc/{pid}/fd/{name}").startswith(prefix):
                found.append(_label(pid))
                break
            if _link(f"/proc/{pid}/ns/mnt") != namespace:  # a container may know the file by another path
                suspects[(status.st_dev, status.st_ino)] = _label(pid)
    if suspects:
        found += sorted({suspects[key] for key in suspects.keys() & _inodes(root)})
    return found


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _maps_writable(pid: str, prefix: str) -> bool:
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                parts = line.rstrip("\n").split(None, 5)
                if len(parts) == 6 and parts[1][1] == "w" and parts[1][3] == "s" and parts[5].startswith(prefix):
                    return True
    except OSError:
        pass
    return False


def _inodes(root: str) -> set[tuple[int, int]]:
    found = set()
    for folder, _folders, files in os.walk(root):
        for name in files:
            try:
                status = os.lstat(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            found.add((status.st_dev, status.st_ino))
    return found
