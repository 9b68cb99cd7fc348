# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Carry the properties that belong to a path's name (owner, mode, access list, attributes) to what takes its place."""

from __future__ import annotations

import base64
import errno
import os
import stat

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError

#: on what an engine has restored beside the live data: says for which case, so it is not part of the data
PLACED = "user.sop.placed"
#: attributes that a manifest keeps; the others belong to the host
_KEPT = ("user.", "system.posix_acl_")


def described(path: str) -> Json:
    """Owner, mode and attributes, as a manifest keeps them for the day when the live path is gone."""
    found = os.stat(path)
    attributes = {
        name: base64.b64encode(value).decode("ascii")
        for name, value in _attributes(path).items()
        if name.startswith(_KEPT) and name != PLACED
    }
    return {"uid": found.st_uid, "gid": found.st_gid, "mode": stat.S_IMODE(found.st_mode), "attributes": attributes}


def apply(path: str, owner: Json) -> None:
    """Give ``path`` the owner, mode and attributes of :func:`described`."""
    if "attributes" in owner:
        attributes = {name: base64.b64decode(value) for name, value in owner["attributes"].items()}
    else:  # a manifest of an earlier release
        attributes = {name: value for name, value in _attributes(path).items() if name.startswith(_KEPT)}
    if strange := [name for name in attributes if not name.startswith(_KEPT)]:
        raise SopError(
            f"{path}: the manifest asks for attribute {strange[0]}, which no backup stores; choose another backup"
        )
    _give(path, int(owner["uid"]), int(owner["gid"]), int(owner["mode"]) & 0o7777, attributes, "the backup")


def copy(source: str, target: str) -> None:
    """Give ``target`` the owner, mode and extended attributes (access lists among them) of ``source``."""
    found = os.stat(source)
    _give(target, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), _attributes(source), source)


def _attributes(path: str) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(path, name) for name in sorted(os.listxattr(path))}
    except OSError as error:
        if error.errno in {errno.ENOTSUP, errno.ENOSYS}:  # a file system without them
            return {}
        raise


def _give(path: str, uid: int, gid: int, mode: int, attributes: dict[str, bytes], source: str) -> None:
    _chown(path, uid, gid)
    for name in _attributes(path):
        if name not in attributes and not name.startswith("security."):
            os.removexattr(path, name)
    for name, value in attributes.items():
        try:
            os.setxattr(path, name, value)
        except OSError as error:
            raise SopError(
                f"{path}: attribute {name} of {source} cannot be set ({error.strerror}); run as root, on a file system that keeps it"
            ) from error
    os.chmod(path, mode)  # last: an access list changes the group bits


def _chown(path: str, uid: int, gid: int) -> None:
    found = os.stat(path)
    if (found.st_uid, found.st_gid) == (uid, gid):
        return
    try:
        os.chown(path, uid, gid)
    except PermissionError as error:
        raise SopError(f"{path}: owner {uid}:{gid} cannot be given; run as root") from error
