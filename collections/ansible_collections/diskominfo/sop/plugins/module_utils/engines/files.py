# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A folder of plain files: the vault reads it itself; a restore is a sibling that is exchanged with it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.diskominfo.sop.plugins.module_utils import ownership
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Json, Place, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import (
    Exchange,
    inode,
    sync_file_system,
    sync_folder,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.openers import visibility, writers_below
from ansible_collections.diskominfo.sop.plugins.module_utils.space import place_for, require_space
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import (
    Entry,
    TreeEngine,
    TreeSource,
    content_of,
    differences,
    dig_holes,
    scan,
)


class FilesEngine(TreeEngine):
    """One folder. ``dataset``: {"path": absolute}.

    The "tables" of its content are totals (files, directories, links, special): the entries themselves stay in the
    vault, whose listing names the first differences when a digest does not agree.
    """

    kind = "files"
    method_name = "restic backup"
    dump_name = ""
    #: quiesce proves and holds nothing
    fences = False

    def __init__(self, dataset: Json, secrets: Json) -> None:
        super().__init__(dataset, secrets)
        path = dataset.get("path")
        if not isinstance(path, str) or not os.path.isabs(path) or os.path.normpath(path) != path or path == "/":
            raise SopError(f"{dataset.get('id')}: path {path!r} is not a plain absolute path; correct the register")
        self.path = path
        if os.path.islink(path):
            raise SopError(f"{path}: is a link; register the folder it points to ({os.path.realpath(path)})")

    def _require_live(self) -> None:
        if not os.path.isdir(self.path):
            raise SopError(f"{self.path}: there is no such folder on this host; correct the register or restore it")
        if mounts := _mounts_below(self.path):
            raise SopError(f"{self.path}: {mounts[0]} below it is mounted; register it as a dataset of its own")

    def describe(self) -> Json:
        if not os.path.isdir(self.path):
            return {"version": "files", "bytes": 0, "exists": False}
        return {"version": "files", "bytes": scan(self.path, checksums=False)["bytes"], "exists": True}

    def staging_place(self, size: int) -> Place:
        return place_for(os.path.dirname(self.path), size)

    def scratch_place(self, size: int) -> Place:
        return place_for(self.dataset.get("state_dir") or tempfile.gettempdir(), size)

    def manifest(self, checksums: bool) -> Json:
        self._require_live()
        return self._with_owner(scan(self.path, checksums))

    def _with_owner(self, content: Json) -> Json:
        content["globals"]["owner"] = ownership.described(self.path)
        return content

    def tree_path(self) -> str:
        self._require_live()
        return self.path

    def content_of_entries(self, entries: Iterator[Entry]) -> Json:
        """Content of what the vault has just stored, by its own listing."""
        return self._with_owner(content_of(entries, self.path))

    @contextmanager
    def scratch(self, source: DumpSource, manifest: Json) -> Iterator[Json]:
        place = self.scratch_place(int(manifest["content"]["bytes"]))
        require_space(place, "proof by restoring")
        folder = tempfile.mkdtemp(prefix=f"scratch-{self.dataset['id']}.", dir=place.path)
        try:
            yield self._restored(folder, source, manifest)
        finally:
            _remove_tree(folder)

    def _restored(self, folder: str, source: DumpSource, manifest: Json) -> Json:
        """Restore below ``folder`` and return the content; SopError naming what differs from the manifest."""
        if not isinstance(source, TreeSource):
            raise SopError(f"{self.path}: the backup is not one of a folder; choose another backup")
        source.restore(folder)
        dig_holes(source.path)
        content = scan(source.path, checksums=True, shown_root=self.path)
        if content["globals"]["metadata"] != manifest["content"]["globals"]["metadata"]:
            named = differences(source.entries(), source.path) or ["the vault's own listing differs from the manifest"]
            raise SopError(
                f"{self.path}: restored, but not as the manifest says: {'; '.join(named)}; choose another backup"
            )
        return content

    def shadow_name(self, case: str) -> str:
        return Exchange(self.path, case).shadow

    def before_name(self, case: str) -> str:
        return Exchange(self.path, case).before

    def state(self, case: str) -> str:
        return Exchange(self.path, case).state()

    def _part(self, case: str) -> str:
        return Exchange(self.path, case).shadow + ".part"

    def stage(self, case: str, source: DumpSource, manifest: Json) -> Json:
        names = Exchange(self.path, case)
        names.settle()
        self._require_exchangeable(names)
        require_space(self.staging_place(int(manifest["content"]["bytes"])), "the staged copy")
        part = self._part(case)
        try:
            _remove_tree(part)
            os.mkdir(part, 0o700)
            content = self._restored(part, source, manifest)
            sync_file_system(part)
            if not os.path.exists(self.path):
                ownership.apply(source.path, manifest["content"]["globals"]["owner"])
            else:
                os.chmod(source.path, 0o700)
            os.rename(source.path, names.shadow)
            sync_folder(names.folder)
        finally:
            _remove_tree(part)
        return content

    def _require_exchangeable(self, names: Exchange) -> None:
        if os.path.exists(self.path) and os.stat(self.path).st_dev != os.stat(names.folder).st_dev:
            raise SopError(
                f"{self.path}: is a mount point, which cannot be exchanged; register a folder below it instead"
            )
        names.probe()

    def discard(self, case: str) -> None:
        names = Exchange(self.path, case)
        names.settle()
        _remove_tree(self._part(case))
        if names.state() == "staged":
            _remove_tree(names.shadow)
            sync_folder(names.folder)

    def quiesce(self, timeout: float) -> Json:
        """Prove that no process can write to a file below the folder; nothing is held afterwards, so :meth:`swap`
        proves it again."""
        deadline = time.monotonic() + timeout
        while found := self._writers():
            if time.monotonic() >= deadline:
                writers = ", ".join(found[:5])
                raise SopError(
                    f"{self.path}: not quiet after {timeout:.0f} s (written by {writers}); stop what uses it, then run again"
                )
            time.sleep(0.2)
        return {"writers": [], "seen": visibility()}

    def _writers(self) -> list[str]:
        return writers_below(self.path) if os.path.isdir(self.path) else []

    def is_quiesced(self) -> bool:
        return not self._writers()

    def release(self) -> None:
        """Nothing is held, so nothing is to be lifted."""

    def settle(self, case: str) -> None:
        """Finish the renaming that a crash left open between the exchange and the end of a swap or revert."""
        Exchange(self.path, case).settle()

    def swap(self, case: str) -> Json:
        names = Exchange(self.path, case)
        if names.state() == "staged":
            if not os.path.exists(self.path):
                os.mkdir(self.path, 0o700)  # what is kept: an empty folder
                ownership.copy(names.shadow, self.path)
            ownership.copy(self.path, names.shadow)
            self._exchange(names, "swap", names.shadow)
        names.settle()
        if names.state() != "swapped":
            raise SopError(f"{self.path}: nothing is staged for {case}; stage it first")
        os.chmod(names.before, 0o700)
        return self._identity(names)

    def _exchange(self, names: Exchange, verb: str, other: str) -> None:
        if found := self._writers():
            raise SopError(f"{self.path}: is not quiet (written by {', '.join(found[:5])}); quiesce it, then run again")
        names.exchange(verb)
        # who opened a file between proof and exchange would go on writing into the old data
        late = writers_below(other)
        if late:
            names.take_back(verb)
            raise SopError(
                f"{self.path}: was opened meanwhile by {', '.join(late[:5])}; nothing was changed, stop it and run again"
            )

    def revert(self, case: str) -> Json:
        names = Exchange(self.path, case)
        if names.state() == "swapped":
            names.settle()
            ownership.copy(self.path, names.before)
            self._exchange(names, "revert", names.before)
        names.settle()
        if inode(names.shadow):
            os.chmod(names.shadow, 0o700)
        return self._identity(names)

    def _identity(self, names: Exchange) -> Json:
        kept = names.before if inode(names.before) else names.shadow
        return {"old": {"path": kept, "inode": inode(kept)}, "new": {"path": self.path, "inode": inode(self.path)}}


def _remove_tree(path: str) -> None:
    if not os.path.lexists(path):
        return
    for folder, _folders, _files in os.walk(path):
        os.chmod(folder, 0o700)  # a folder that even its owner may not write to
    shutil.rmtree(path)


def _mounts_below(path: str) -> list[str]:
    with open("/proc/self/mountinfo", "rb") as stream:
        escaped = [line.split()[4] for line in stream]
    points = (re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), point) for point in escaped)
    return sorted(os.fsdecode(point) for point in points if point.startswith(os.fsencode(path) + b"/"))
