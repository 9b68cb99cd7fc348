# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""How much there is and how much room, read without changing anything.

What a run will refuse for want of room is asked of the same :class:`Place` here, so that a plan that fits runs.
"""

from __future__ import annotations

import os

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Engine, Json, Place, SopError


def room_at(path: str, nearest: bool = False) -> Json | None:
    """{"free", "total": bytes, "device": int} of the file system that holds ``path``; None where we may not look.

    With ``nearest``, a folder that is only made later counts as its nearest parent that is there. SopError when there
    is no such folder.
    """
    while True:
        try:
            found = os.statvfs(path)
            device = os.stat(path).st_dev
        except (FileNotFoundError, NotADirectoryError):
            if not nearest or path == os.path.dirname(path):
                raise SopError(
                    f"{path}: there is no such folder on this host; make it or correct the register"
                ) from None
            path = os.path.dirname(path)
            continue
        except PermissionError:
            return None
        except OSError as error:
            raise SopError(f"{path}: cannot be looked at ({error.strerror}); see that it is mounted") from error
        return {"free": found.f_bavail * found.f_frsize, "total": found.f_blocks * found.f_frsize, "device": device}


def dataset_facts(engine: Engine, operation: str, dump_bytes: int | None) -> Json:
    """Size, room and use of one dataset.

    ``dump_bytes`` is the size of the dump that will be loaded, where it is known; without it the live data's size
    stands for it (``needs_from`` says which).
    """
    live = engine.describe()
    size = int(live["bytes"]) if dump_bytes is None else dump_bytes
    stage, scratch = engine.staging_place(size), engine.scratch_place(size)
    return {
        "engine_version": str(live["version"]),
        "exists": bool(live["exists"]),
        "bytes": int(live["bytes"]),
        "needs_from": "live" if dump_bytes is None else "dump",
        **_room_of("stage", stage, nearest=operation != "restore"),
        "needs": stage.needs,
        "reserve": stage.reserve,
        **_room_of("scratch", scratch, nearest=True),
        "scratch_needs": scratch.needs,
        "scratch_reserve": scratch.reserve,
        **(engine.usage() if live["exists"] else {}),
    }


def _room_of(word: str, place: Place, nearest: bool) -> Json:
    room = room_at(place.path, nearest) if place.path else None
    found = room or {"free": None, "total": None, "device": None}
    return {f"{word}_path": place.path, **{f"{word}_{key}": value for key, value in found.items()}}


def vault_facts(path: str) -> Json:
    """Room in the folder of the vault's repositories."""
    if not os.path.isabs(path) or os.path.normpath(path) != path:
        raise SopError(f"vault_path: {path!r} is not a plain absolute path; correct vault.path in sop.yml")
    room = room_at(path)
    if room is None:
        raise SopError(f"{path}: this user may not look into the vault's folder; give vault.path one that it may enter")
    return {"path": path, "free": room["free"], "total": room["total"]}
