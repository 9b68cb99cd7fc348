# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What the engines whose data is one path (a folder, a file) share: the exchange, the way back, and what is kept.

The order of each step is such that a crash after any of its lines leaves wholly old or wholly new data under the live name;
``exchange.py`` holds every renaming.
"""

from __future__ import annotations

import os
import tempfile
import time
from abc import abstractmethod

from ansible_collections.diskominfo.sop.plugins.module_utils import ownership
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Engine, Json, Place, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import Exchange, case_suffix, inode, publish
from ansible_collections.diskominfo.sop.plugins.module_utils.inode_flags import flags
from ansible_collections.diskominfo.sop.plugins.module_utils.mounts import (
    mounts_below,
    require_unmounted,
    shown_to_others,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.space import place_for, require_space

#: seconds between two looks at who uses the data
_LOOK_AGAIN = 0.2


class PathEngine(Engine):
    """One path. ``dataset``: {"path": absolute}."""

    #: quiesce proves and holds nothing
    fences = False
    #: what the path is, in messages
    noun = "path"
    #: modes that keep everybody else out of a staged copy, and of old data
    staged_mode = kept_mode = 0

    def __init__(self, dataset: Json, secrets: Json) -> None:
        super().__init__(dataset, secrets)
        path = dataset.get("path")
        if not isinstance(path, str) or not _is_plain(path):
            raise SopError(f"{dataset.get('id')}: path {path!r} is not a plain absolute path; correct the register")
        self.path = path
        if os.path.islink(path):
            raise SopError(f"{path}: is a link; register the {self.noun} it points to ({os.path.realpath(path)})")

    # -- what a kind of path has to say --------------------------------------------------------------------------

    @abstractmethod
    def _is_kind(self, path: str) -> bool:
        """Whether ``path`` is what this engine looks after."""

    @abstractmethod
    def _busy(self) -> str:
        """Why the live data is not quiet; "" when it is."""

    @abstractmethod
    def _users(self, path: str) -> list[str]:
        """Processes for which an exchange of ``path`` comes too early."""

    @abstractmethod
    def _fill(self, part: str, source: DumpSource, manifest: Json) -> tuple[str, Json]:
        """Restore at or below ``part``, which is not there; return where the whole is now, and its content."""

    @abstractmethod
    def _make_empty(self, path: str) -> None:
        """Make ``path`` with nothing in it."""

    @abstractmethod
    def _is_empty(self, path: str) -> bool:
        """Whether nothing is in ``path``."""

    @abstractmethod
    def _remove(self, path: str) -> None:
        """Remove ``path`` and what belongs to it; nothing there is fine."""

    @abstractmethod
    def _room(self, path: str) -> int:
        """Bytes on disk of ``path`` and what belongs to it; 0 when nothing is there."""

    def _require_more(self) -> None:
        """SopError naming what else would block the exchange of the live data."""

    def _require_free(self, target: str) -> None:
        """SopError when something at ``target``, or belonging to it, is there."""
        if os.path.lexists(target):
            raise SopError(
                f"{target}: exists already and is not this case's copy; move it away or choose another place"
            )

    def _before_exchange(self, names: Exchange, verb: str) -> None:
        """Move what belongs to the live data but has names of its own."""

    # -- looking -------------------------------------------------------------------------------------------------

    def staging_place(self, size: int) -> Place:
        """See :class:`Engine`."""
        return place_for(os.path.dirname(self.path), size)

    def scratch_place(self, size: int) -> Place:
        """See :class:`Engine`."""
        return place_for(self.dataset.get("state_dir") or tempfile.gettempdir(), size)

    def loaded_bytes(self, manifest: Json) -> int:
        """See :class:`Engine`."""
        return int(manifest["content"]["bytes"])

    def shadow_name(self, case: str) -> str:
        """See :class:`Engine`."""
        return Exchange(self.path, case).shadow

    def before_name(self, case: str) -> str:
        """See :class:`Engine`."""
        return Exchange(self.path, case).before

    def state(self, case: str) -> str:
        """See :class:`Engine`."""
        return Exchange(self.path, case).state()

    def settle(self, case: str) -> None:
        """Finish the renaming that a crash left open between the exchange and the end of a swap or revert."""
        Exchange(self.path, case).settle()

    def require_swappable(self) -> None:
        """See :class:`Engine`."""
        names = Exchange(self.path, "probe")
        if os.path.lexists(self.path):
            if not self._is_kind(self.path):
                raise SopError(f"{self.path}: is not a {self.noun}; correct the register or move it away")
            require_unmounted(self.path)
            if os.stat(self.path).st_dev != os.stat(names.folder).st_dev:
                raise SopError(
                    f"{self.path}: is a mount point or subvolume, which cannot be exchanged; register a folder below it instead"
                )
            if letters := flags(os.fsencode(self.path)):
                raise SopError(
                    f"{self.path}: has attribute {letters} of chattr, so it cannot be renamed; run chattr -{letters} on it, and "
                    "set it again after the restore"
                )
            self._require_more()
        names.probe()

    def quiesce(self, timeout: float) -> Json:
        """Prove that the live data is quiet; nothing is held afterwards, so :meth:`swap` proves it again."""
        deadline = time.monotonic() + timeout
        while problem := self._problem():
            if time.monotonic() >= deadline:
                raise SopError(
                    f"{self.path}: not quiet after {timeout:.0f} s ({problem}); stop what uses it, then run again"
                )
            time.sleep(_LOOK_AGAIN)
        return self._proof()

    @abstractmethod
    def _proof(self) -> Json:
        """What was proven by quiet data."""

    def _problem(self) -> str:
        if not os.path.lexists(self.path):
            return ""
        if found := shown_to_others(self.path):
            return f"mounted by {', '.join(found[:5])}"
        return self._busy()

    def is_quiesced(self) -> bool:
        """See :class:`Engine`."""
        return not self._problem()

    def release(self) -> None:
        """Nothing is held, so nothing is to be lifted."""

    # -- restoring -----------------------------------------------------------------------------------------------

    def stage(self, case: str, source: DumpSource, manifest: Json) -> Json:
        """See :class:`Engine`."""
        self.settle(case)
        self.require_swappable()
        names = Exchange(self.path, case)
        require_space(self.staging_place(int(manifest["content"]["bytes"])), "the staged copy")
        try:
            self._remove(names.part)
            whole, content = self._fill(names.part, source, manifest)
            if not os.path.lexists(self.path):
                ownership.apply(whole, manifest["content"]["globals"]["owner"])
            else:
                os.chmod(whole, self.staged_mode)
            publish(whole, names.shadow)
        finally:
            self._remove(names.part)
        return content

    def discard(self, case: str) -> None:
        """See :class:`Engine`."""
        self.settle(case)
        names = Exchange(self.path, case)
        self._remove(names.part)
        self._retire(names, names.shadow)

    def swap(self, case: str) -> Json:
        """See :class:`Engine`."""
        self.settle(case)
        names = Exchange(self.path, case)
        if names.state() == "staged":
            if not os.path.lexists(self.path):  # what is kept is empty then
                self._make_empty(self.path)
                ownership.copy(names.shadow, self.path)
            ownership.copy(self.path, names.shadow)
            self._exchange(names, "swap", names.shadow)
        self.settle(case)
        if names.state() != "swapped":
            raise SopError(f"{self.path}: nothing is staged for {case}; stage it first")
        os.chmod(names.before, self.kept_mode)
        return self._identity(names)

    def revert(self, case: str) -> Json:
        """See :class:`Engine`."""
        self.settle(case)
        names = Exchange(self.path, case)
        if names.state() == "swapped":
            ownership.copy(self.path, names.before)
            self._exchange(names, "revert", names.before)
        self.settle(case)
        if inode(names.shadow):
            os.chmod(names.shadow, self.staged_mode)
        return self._identity(names)

    def _exchange(self, names: Exchange, verb: str, other: str) -> None:
        self._require_quiet()
        self._before_exchange(names, verb)
        names.exchange(verb)
        # who opened something between proof and exchange would go on using the old data
        if late := self._users(other):
            names.take_back(verb)
            self._settle_sidecars(names)
            raise SopError(
                f"{self.path}: was opened meanwhile by {', '.join(late[:5])}; nothing was changed, stop it and run again"
            )

    def _settle_sidecars(self, names: Exchange) -> None:
        """Put what :meth:`_before_exchange` moved to where the data is that it belongs to."""

    def _require_quiet(self) -> None:
        if problem := self._problem():
            raise SopError(f"{self.path}: is not quiet ({problem}); quiesce it, then run again")
        if os.path.lexists(self.path):
            require_unmounted(self.path)

    def _identity(self, names: Exchange) -> Json:
        kept = names.before if inode(names.before) else names.shadow
        return {"old": {"path": kept, "inode": inode(kept)}, "new": {"path": self.path, "inode": inode(self.path)}}

    # -- what is kept --------------------------------------------------------------------------------------------

    def kept_bytes(self, case: str) -> int:
        """See :class:`Engine`; what a crash left of data that was being removed counts too."""
        names = Exchange(self.path, case)
        return self._room(names.before) + self._room(names.gone)

    def drop_kept(self, case: str) -> None:
        """See :class:`Engine`."""
        self.settle(case)
        names = Exchange(self.path, case)
        if inode(names.before) and not self._is_kind(self.path):
            raise SopError(
                f"{self.path}: there is no live {self.noun}, so {names.before} was not dropped; find out where the live data is"
            )
        self._retire(names, names.before)

    def _retire(self, names: Exchange, path: str) -> None:
        if below := mounts_below(path):
            raise SopError(f"{path}: cannot be removed, {below[0]} in it is mounted; unmount it and run again")
        names.retire(path, self._remove)

    # -- in place ------------------------------------------------------------------------------------------------

    def empty(self, case: str) -> None:
        """See :class:`Engine`. The live name has all of the old data or nothing at any moment."""
        self.settle(case)
        names = Exchange(self.path, case)
        self._remove(names.gone)  # an empty one not yet exchanged, or old data that was being removed
        if not os.path.lexists(self.path) or self._is_empty(self.path):
            return
        self.require_swappable()
        self._require_quiet()
        try:
            self._make_empty(names.gone)
            ownership.copy(self.path, names.gone)
            self._drop_sidecars()
            names.trade_gone()
            if late := self._users(names.gone):
                names.trade_gone()
                raise SopError(
                    f"{self.path}: was opened meanwhile by {', '.join(late[:5])}; its data is as it was, stop it and run again"
                )
        finally:
            self._remove(names.gone)

    def _drop_sidecars(self) -> None:
        """Remove what belongs to the live data, which is given up, but has names of its own."""

    # -- beside --------------------------------------------------------------------------------------------------

    def placed(self, target: str, case: str) -> bool:
        """See :class:`Engine`."""
        try:
            return os.getxattr(target, ownership.PLACED, follow_symlinks=False) == _mark(target, case)
        except OSError:
            return False

    def place(self, target: str, case: str, source: DumpSource, manifest: Json) -> Json:
        """See :class:`Engine`. That it is whole is said by an attribute on it, which comes with its name."""
        folder = self._place_folder(target)
        part = f"{Exchange(target, case).shadow}.placing"
        if self.placed(target, case):
            raise SopError(f"{target}: {case} has put its copy there already; nothing was done")
        self._require_free(target)
        require_space(place_for(folder, int(manifest["content"]["bytes"])), "the copy")
        try:
            self._remove(part)
            whole, content = self._fill(part, source, manifest)
            ownership.apply(whole, manifest["content"]["globals"]["owner"])
            self._set_mark(whole, target, case)
            self._require_free(target)
            publish(whole, target)
        finally:
            self._remove(part)
        return content

    def unplace(self, target: str, case: str) -> None:
        """See :class:`Engine`. The mark goes last, with what carries it, so that the next call goes on where a crash cut this
        one short; a copy that was never compared is believed by nobody meanwhile."""
        if self.placed(target, case):
            self._remove(target)

    def _place_folder(self, target: str) -> str:
        if not _is_plain(target):
            raise SopError(f"{target!r}: is not a plain absolute path; choose another place for the copy")
        folder = os.path.dirname(target)
        if not os.path.isdir(folder):
            raise SopError(
                f"{folder}: there is no such folder on this host; make it or choose another place for the copy"
            )
        if os.path.realpath(folder) != folder:
            raise SopError(f"{target}: goes through a link; name the real folder, {os.path.realpath(folder)}")
        if os.path.isdir(self.path) and (folder + "/").startswith(os.path.realpath(self.path) + "/"):
            raise SopError(f"{target}: lies within the live data {self.path}; choose a place outside it")
        return folder

    @staticmethod
    def _set_mark(whole: str, target: str, case: str) -> None:
        try:
            os.setxattr(whole, ownership.PLACED, _mark(target, case))
        except OSError as error:
            raise SopError(
                f"{target}: its file system keeps no user attributes ({error.strerror}); choose a place on ext4, xfs or btrfs"
            ) from error


def _is_plain(path: str) -> bool:
    return os.path.isabs(path) and os.path.normpath(path) == path and path != "/" and "\0" not in path


def _mark(target: str, case: str) -> bytes:
    return os.fsencode(f"{case_suffix(case)} {target}")
