# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Remove a folder with everything in it, whatever its modes and attributes are."""

from __future__ import annotations

import os
import stat

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.inode_flags import flags, set_flags
from ansible_collections.diskominfo.sop.plugins.module_utils.mounts import mounts_below


def remove_tree(path: str) -> None:
    """Remove ``path`` if it is there; links are not followed, and nothing is removed through a mount."""
    if not os.path.lexists(path):
        return
    if below := mounts_below(path):
        raise SopError(f"{path}: cannot be removed, {below[0]} in it is mounted; unmount it and run again")
    top = os.fsencode(path)
    if not os.path.isdir(top) or os.path.islink(top):
        _unlink(top)
        return
    # no recursion: a tree may be deeper than Python's stack
    pending, folders = [top], []
    while pending:
        folder = pending.pop()
        folders.append(folder)
        _free(folder)
        os.chmod(folder, 0o700)  # a folder that even its owner may not write to
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    _unlink(entry.path)
    for folder in reversed(folders):
        os.rmdir(folder)


def _free(path: bytes) -> None:
    if flags(path):
        set_flags(path, "")


def _unlink(path: bytes) -> None:
    _free(path)
    os.unlink(path)


def room_of(path: str) -> int:
    """Bytes on disk of ``path`` with everything in it, each hard-linked file once; 0 when nothing is there."""
    if not os.path.lexists(path):
        return 0
    seen: set[tuple[int, int]] = set()
    total = 0
    pending = [os.fsencode(path)]
    while pending:
        each = pending.pop()
        found = os.lstat(each)
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
        total += found.st_blocks * 512
        if stat.S_ISDIR(found.st_mode):
            pending.extend(os.path.join(each, name) for name in os.listdir(each))
    return total
