# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What every engine must offer; one engine is one file in ``engines/``.

An engine knows one kind of data (a PostgreSQL database, an SQLite file, a folder) and nothing of restic,
Ansible, cases or approvals. It runs on the managed host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

Json = dict[str, Any]


class SopError(Exception):
    """A cause a person can act on: one line saying what, where, why, and the next step."""


class Place(NamedTuple):
    """Where a copy would be made: ``needs`` bytes must fit into the file system of ``path`` with ``reserve`` bytes left.

    ``path`` is None when the copy lies on another machine, which this host cannot look at.
    """

    path: str | None
    needs: int
    reserve: int


class DumpStream(ABC):
    """A dump being produced. ``read`` gives its bytes; ``finish`` says whether they count."""

    @abstractmethod
    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes, ``b""`` at the end."""

    @abstractmethod
    def finish(self) -> Json:
        """Wait for the dump to end and return its content description (see :meth:`Engine.manifest`).

        Raises SopError when the dump exited non-zero, was killed, or its end is not right.
        """

    @abstractmethod
    def abort(self) -> None:
        """Kill whatever produces the dump; never raises."""


class DumpSource:
    """What a restore reads. A "stream" engine calls ``open`` (more than once), a "tree" engine reads ``path``."""

    #: absolute path of the tree that was restored beside the live data (method "tree")
    path: str = ""

    def open(self) -> IO[bytes]:
        """A fresh stream of the whole dump, from its first byte (method "stream").

        Its ``read`` raises SopError when the bytes end before the dump does; closing it early is quiet and ends
        whatever produces the bytes.
        """
        raise NotImplementedError


class Engine(ABC):
    """One dataset on this host.

    ``dataset`` is the plan's dataset record (id, engine, database or path, connection, …); ``secrets`` may hold
    ``db_password``. ``content`` dictionaries have the shape
    ``{"tables": {name: {"rows": int, "checksum": str | None}}, "globals": {...}, "bytes": int}``
    (for files the "tables" are the files, rows is their size in bytes).
    """

    kind: str
    #: "stream": dump() is piped to restic's stdin; "tree": restic reads tree_path() itself.
    method: str = "stream"
    #: constant file name inside the snapshot, so that grouping and parent detection work
    dump_name: str = "dump"
    #: how forms name the method of a backup
    method_name: str = ""
    #: whether quiesce() leaves the data closed (a fence), or only proves that nobody has it open
    fences: bool = True

    def __init__(self, dataset: Json, secrets: Json) -> None:
        self.dataset = dataset
        self.secrets = secrets

    @abstractmethod
    def describe(self) -> Json:
        """Preflight facts without changing anything: {"version", "bytes", "exists"}; SopError when unreachable."""

    @abstractmethod
    def staging_place(self, size: int) -> Place:
        """Where :meth:`stage` puts a copy of ``size`` bytes (those of the dump), and what it asks of the disk there."""

    @abstractmethod
    def scratch_place(self, size: int) -> Place:
        """The same for :meth:`scratch`."""

    def loaded_bytes(self, manifest: Json) -> int:
        """The size by which :meth:`scratch` reckons the room that it needs."""
        return int(manifest.get("bytes") or 0)

    def usage(self) -> Json:
        """Who uses the live data at this moment, as far as the engine can tell: {"sessions"?, "standbys"?: int}."""
        return {}

    @abstractmethod
    def manifest(self, checksums: bool) -> Json:
        """Content of the live data; with ``checksums`` also order-independent content checksums."""

    def dump(self) -> DumpStream:
        """Start a consistent dump (method "stream")."""
        raise NotImplementedError(self.kind)

    def settle(self, case: str) -> None:  # noqa: B027  # most engines exchange in one transaction and have nothing to settle
        """Finish what a crash in the middle of an exchange left half named; nothing to do is the usual case."""

    def tree_path(self) -> str:
        """Absolute path that restic backs up (method "tree")."""
        raise NotImplementedError(self.kind)

    @contextmanager
    @abstractmethod
    def scratch(self, source: DumpSource, manifest: Json) -> Iterator[Json]:
        """Restore ``source`` into a throw-away place and yield its content
        with checksums; leaves nothing behind, whatever happens. Checks that the dump says what ``manifest`` says are
        the caller's."""

    @abstractmethod
    def shadow_name(self, case: str) -> str:
        """Name (database) or path (files) of the staged copy of ``case``."""

    @abstractmethod
    def before_name(self, case: str) -> str:
        """Name or path under which the old data is kept: ``<name>__before_<case>``."""

    @abstractmethod
    def state(self, case: str) -> str:
        """What this host itself shows for ``case``: absent | staged | swapped. Derived from the data, no state file."""

    @abstractmethod
    def stage(self, case: str, source: DumpSource, manifest: Json) -> Json:
        """Load ``source`` beside the live data, closed to others, analysed; return its content with checksums.

        ``manifest`` is the document written beside the dump (its ``content`` as :meth:`DumpStream.finish` gave it, its
        ``bytes`` and ``sha256``). On any failure nothing is left.
        """

    @abstractmethod
    def discard(self, case: str) -> None:
        """Drop the staged copy of ``case`` if there is one (never the live or the kept data)."""

    @abstractmethod
    def quiesce(self, timeout: float) -> Json:
        """Fence writers out and prove that none is left; return the proof. Idempotent. SopError when not quiet."""

    def reserve(self, timeout: float) -> Json:
        """Close the live data to everybody but a dump of ours, for the safety backup of a restore in place; the proof.

        :meth:`quiesce` follows, :meth:`release` undoes it. Where a fence lets our dump through they are the same.
        """
        return self.quiesce(timeout)

    @abstractmethod
    def is_quiesced(self) -> bool:
        """True when the live data is fenced."""

    @abstractmethod
    def release(self) -> None:
        """Lift the fence. Idempotent."""

    @abstractmethod
    def swap(self, case: str) -> Json:
        """Exchange live and staged atomically (both fenced before); properties that belong to the live data's name
        (owner, ACL, settings, comment …) are carried over; the old data is kept closed under :meth:`before_name`. The
        new live data stays fenced until :meth:`release`: who decides that it counts is not the engine. Returns identity
        proof {"old": ..., "new": ...}. Idempotent."""

    @abstractmethod
    def revert(self, case: str) -> Json:
        """Undo :meth:`swap`: the kept data is live again (fenced until :meth:`release`); the new data becomes the staged
        copy again, whole and closed. Idempotent."""

    def require_swappable(self) -> None:  # noqa: B027  # most engines have nothing that could be in the way
        """SopError naming what would block the exchange later (slots, foreign keys from outside, read-only server …).

        Asked before anything is staged, while the service runs; changes nothing.
        """

    # -- the kept data -------------------------------------------------------------------------------------------

    def kept_bytes(self, case: str) -> int:
        """Bytes on disk of what is kept under :meth:`before_name`; 0 when nothing is kept."""
        raise NotImplementedError(self.kind)

    def drop_kept(self, case: str) -> None:
        """Drop what is kept under :meth:`before_name`, and nothing else; nothing kept is fine. SopError unless live
        data is there under its own name."""
        raise NotImplementedError(self.kind)

    # -- in place: where there is no room beside -----------------------------------------------------------------

    def empty(self, case: str) -> None:
        """Make the live data (fenced before) empty, keeping owner, privileges and settings: its space is free afterwards,
        and :meth:`stage` and :meth:`swap` work as ever. Destroys data: the caller has a verified safety backup in the
        vault. Idempotent, and safe to call again after a crash in its middle."""
        raise NotImplementedError(self.kind)

    # -- beside the live data, under a name of its own -----------------------------------------------------------

    def placed(self, target: str, case: str) -> bool:
        """Whether ``target`` is the finished copy that :meth:`place` made for ``case`` on this host."""
        raise NotImplementedError(self.kind)

    def place(self, target: str, case: str, source: DumpSource, manifest: Json) -> Json:
        """Restore ``source`` as ``target`` (a database name, or an absolute path) and leave it open for use; the live
        data is not touched and need not be there. SopError when ``target`` exists and is not :meth:`placed`; on any
        failure nothing is left. Owner and privileges are the manifest's. Returns its content with checksums."""
        raise NotImplementedError(self.kind)

    def unplace(self, target: str, case: str) -> None:
        """Drop ``target`` when it is :meth:`placed` by ``case``, and nothing else: a copy that was found to differ must
        not be taken for the data. Nothing there is fine."""
        raise SopError(
            f"{target}: is not the verified backup of {case} and must not be used; drop it by hand, then run again"
        )
