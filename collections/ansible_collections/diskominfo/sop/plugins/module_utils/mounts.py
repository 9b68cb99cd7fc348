# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Where a path lies in its file system, and which mounts would go on showing the old data after an exchange.

A mount holds on to the folder or file it was made of, whatever that is called later.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError


class Mount(NamedTuple):
    """One line of a process's mount table. ``root`` is the part of the file system that is shown at ``point``."""

    number: int
    device: bytes
    root: bytes
    point: bytes


def _plain(escaped: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), escaped)


def mounts_of(process: str = "self") -> list[Mount]:
    """The mounts that ``process`` sees; none when it has ended or is not ours to look at."""
    try:
        with open(f"/proc/{process}/mountinfo", "rb") as stream:
            lines = [line.split(b" ", 5) for line in stream]
    except OSError:
        return []
    return [Mount(int(line[0]), line[2], _plain(line[3]), _plain(line[4])) for line in lines]


def lies_in(path: bytes, folder: bytes) -> bool:
    """Whether ``path`` is ``folder`` or below it."""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


def within(mount: Mount, path: bytes) -> bytes | None:
    """Where ``path`` lies in the file system of ``mount``; None when the mount does not show it."""
    if not lies_in(path, mount.point):
        return None
    below = path[len(mount.point.rstrip(b"/")) :]
    return (mount.root.rstrip(b"/") + below) or b"/"


def holding(path: bytes, mounts: list[Mount]) -> Mount | None:
    """The mount that shows ``path``: the deepest, of those the last."""
    best = None
    for mount in mounts:
        if lies_in(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def place_of(path: str) -> tuple[bytes, bytes]:
    """(device, path within its file system) of ``path``, however it is mounted."""
    real = os.fsencode(os.path.realpath(path))
    mount = holding(real, mounts_of())
    inner = within(mount, real) if mount is not None else None
    if mount is None or inner is None:
        raise SopError(f"{path}: is on no mount that /proc/self/mountinfo shows; see that /proc is mounted")
    return mount.device, inner


def mounts_below(path: str) -> list[str]:
    """What is mounted below ``path``."""
    prefix = os.fsencode(path) + b"/"
    return sorted(os.fsdecode(mount.point) for mount in mounts_of() if mount.point.startswith(prefix))


def require_unmounted(path: str) -> None:
    """SopError when a mount of this host is at ``path``, below it, or shows it at another place too."""
    real = os.fsencode(os.path.realpath(path))
    here = mounts_of()
    if any(mount.point == real for mount in here):
        raise SopError(f"{path}: is a mount point, which cannot be exchanged; register a folder below it instead")
    if below := mounts_below(os.path.realpath(path)):
        raise SopError(f"{path}: {below[0]} below it is mounted; register it as a dataset of its own")
    device, inner = place_of(path)
    for mount in here:
        if mount.device == device and lies_in(mount.root, inner):
            raise SopError(
                f"{path}: is mounted at {os.fsdecode(mount.point)} too, which would go on showing the old data; unmount "
                "that, and after the restore mount it again"
            )


def shown_to_others(path: str) -> list[str]:
    """Running processes whose own mounts hold on to ``path`` or a part of it: they would go on using the old data."""
    own = _namespace("self")
    device, inner = place_of(path)
    seen: set[str] = set()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        namespace = _namespace(pid)
        if not namespace or namespace == own or namespace in seen:
            continue
        seen.add(namespace)
        if any(mount.device == device and lies_in(mount.root, inner) for mount in mounts_of(pid)):
            found.append(label(pid))
    return found


def _namespace(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def label(pid: str) -> str:
    """How messages name a process."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return f"{stream.read().strip()} (pid {pid})"
    except OSError:
        return f"pid {pid}"
