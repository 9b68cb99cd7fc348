# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A folder of plain files: the vault reads it itself; a restore is a sibling that is exchanged with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.diskominfo.sop.plugins.module_utils import ownership
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.mounts import mounts_below
from ansible_collections.diskominfo.sop.plugins.module_utils.openers import visibility, writers_below
from ansible_collections.diskominfo.sop.plugins.module_utils.path_engine import PathEngine
from ansible_collections.diskominfo.sop.plugins.module_utils.removal import remove_tree, room_of
from ansible_collections.diskominfo.sop.plugins.module_utils.space import require_space
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import (
    Entry,
    TreeEngine,
    TreeSource,
    content_of,
    differences,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.tree_scan import (
    Stored,
    finish_tree,
    measured,
    mend,
    require_attributes_kept,
    scan,
    unmeasured,
)

_DEFAULT_ACCESS_LIST = "system.posix_acl_default"


class FilesEngine(PathEngine, TreeEngine):
    """One folder. ``dataset``: {"path": absolute}.

    The "tables" of its content are totals (files, directories, links, special, and of each kind of attribute): the entries
    themselves stay in the vault, whose listing names the first differences when a digest does not agree.
    """

    kind = "files"
    method = "tree"
    method_name = "restic backup"
    dump_name = ""
    noun = "folder"
    staged_mode = kept_mode = 0o700

    def _require_live(self) -> None:
        if not os.path.isdir(self.path):
            raise SopError(f"{self.path}: there is no such folder on this host; correct the register or restore it")
        if mounts := mounts_below(self.path):
            raise SopError(f"{self.path}: {mounts[0]} below it is mounted; register it as a dataset of its own")

    def describe(self) -> Json:
        """See :class:`Engine`."""
        if not os.path.isdir(self.path):
            return {"version": "files", "bytes": 0, "exists": False}
        return {"version": "files", "bytes": scan(self.path, checksums=False)["bytes"], "exists": True}

    def manifest(self, checksums: bool) -> Json:
        """See :class:`Engine`."""
        self._require_live()
        return self._with_owner(scan(self.path, checksums))

    def _with_owner(self, content: Json) -> Json:
        content["globals"]["owner"] = ownership.described(self.path)
        return content

    def tree_path(self) -> str:
        """See :class:`Engine`."""
        self._require_live()
        return self.path

    def content_of_entries(self, entries: Iterator[Entry]) -> Json:
        """See :class:`TreeEngine`."""
        stored = Stored(entries)
        content = content_of(iter(stored), self.path)
        more = measured(self.path, stored)
        content["tables"].update(more["tables"])
        content["globals"].update(more["globals"])
        return self._with_owner(content)

    @contextmanager
    def scratch(self, source: DumpSource, manifest: Json) -> Iterator[Json]:
        """See :class:`Engine`."""
        place = self.scratch_place(self.loaded_bytes(manifest))
        require_space(place, "proof by restoring")
        folder = tempfile.mkdtemp(prefix=f"scratch-{self.dataset['id']}.", dir=place.path)
        try:
            yield self._restored(folder, source, manifest)[1]
        finally:
            remove_tree(folder)

    def _restored(self, folder: str, source: DumpSource, manifest: Json) -> tuple[str, Json]:
        """Restore below ``folder``; return (path, content). SopError naming what differs from the manifest."""
        if not isinstance(source, TreeSource):
            raise SopError(f"{self.path}: the backup is not one of a folder; choose another backup")
        if _DEFAULT_ACCESS_LIST in os.listxattr(folder):  # everything made below would get entries of its own
            os.removexattr(folder, _DEFAULT_ACCESS_LIST)
        require_attributes_kept(folder, manifest)
        source.restore(folder)
        mend(source.path, manifest)
        content = scan(source.path, checksums=True, shown_root=self.path, without=unmeasured(manifest))
        if content["globals"]["metadata"] != manifest["content"]["globals"]["metadata"]:
            named = differences(source.entries(), source.path) or ["the vault's own listing differs from the manifest"]
            raise SopError(
                f"{self.path}: restored, but not as the manifest says: {'; '.join(named)}; choose another backup"
            )
        return source.path, content

    # -- what this kind of path is --------------------------------------------------------------------------------

    def _is_kind(self, path: str) -> bool:
        return os.path.isdir(path) and not os.path.islink(path)

    def _proof(self) -> Json:
        return {"writers": [], "seen": visibility()}

    def _busy(self) -> str:
        found = self._users(self.path)
        return f"written by {', '.join(found[:5])}" if found else ""

    def _users(self, path: str) -> list[str]:
        return writers_below(path) if os.path.isdir(path) else []

    def _fill(self, part: str, source: DumpSource, manifest: Json) -> tuple[str, Json]:
        os.mkdir(part, 0o700)
        whole, content = self._restored(part, source, manifest)
        finish_tree(whole, manifest)
        return whole, content

    def _make_empty(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def _is_empty(self, path: str) -> bool:
        return not os.listdir(path)

    def _remove(self, path: str) -> None:
        remove_tree(path)

    def _room(self, path: str) -> int:
        return room_of(path)
