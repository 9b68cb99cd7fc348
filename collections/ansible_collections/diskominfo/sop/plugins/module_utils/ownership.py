# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Carry the properties that belong to a path's name (owner, mode, access list, attributes) to what takes its place."""

from __future__ import annotations

import os
import stat

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError


def described(path: str) -> Json:
    """Owner and mode, as a manifest keeps them for the day when the live path is gone."""
    found = os.stat(path)
    return {"uid": found.st_uid, "gid": found.st_gid, "mode": stat.S_IMODE(found.st_mode)}


def apply(path: str, owner: Json) -> None:
    """Give ``path`` the owner and mode of :func:`described`."""
    _chown(path, int(owner["uid"]), int(owner["gid"]))
    os.chmod(path, int(owner["mode"]) & 0o7777)


def copy(source: str, target: str) -> None:
    """Give ``target`` the owner, mode and extended attributes (access lists among them) of ``source``."""
    found = os.stat(source)
    _chown(target, found.st_uid, found.st_gid)
    wanted = set(os.listxattr(source))
    for name in os.listxattr(target):
        if name not in wanted and not name.startswith("security."):
            os.removexattr(target, name)
    for name in sorted(wanted):
        value = os.getxattr(source, name)
        try:
            os.setxattr(target, name, value)
        except OSError as error:
            raise SopError(
                f"{target}: attribute {name} of {source} cannot be set ({error.strerror}); run as root"
            ) from error
    os.chmod(target, stat.S_IMODE(found.st_mode))  # last: an access list changes the group bits


def _chown(path: str, uid: int, gid: int) -> None:
    found = os.stat(path)
    if (found.st_uid, found.st_gid) == (uid, gid):
        return
    try:
        os.chown(path, uid, gid)
    except PermissionError as error:
        raise SopError(f"{path}: owner {uid}:{gid} cannot be given; run as root") from error
