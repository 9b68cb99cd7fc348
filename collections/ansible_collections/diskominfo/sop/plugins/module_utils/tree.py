# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What a folder holds: entries, their totals and digests that do not depend on the order of reading.

An entry is described by what both a walk of the disk and the vault's own listing can say (path, type, size, mode,
owner, modification time). What only a walk can say is in ``tree_scan.py``.
"""

from __future__ import annotations

import hashlib
import os
import stat
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Engine, Json

#: how many differing entries an error names
NAMED_DIFFERENCES = 3
TABLES = {"file": "files", "dir": "directories", "symlink": "links"}
SPECIAL = "special"


class Sum:
    """A digest of a set: SHA-256 of each member, added modulo 2^128, so that order does not matter."""

    def __init__(self) -> None:
        self._value = 0
        self.members = 0

    def add(self, member: bytes) -> None:
        """Add one member."""
        self._value = (self._value + int.from_bytes(hashlib.sha256(member).digest()[:16], "big")) % (1 << 128)
        self.members += 1

    def hex(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._value:032x}"


@dataclass(frozen=True)
class Entry:
    """One thing in a tree. ``path`` is relative to the tree's root ("." is the root); times are in nanoseconds.

    ``ctime`` changes with every change of anything: who sees the same one sees the same thing. A restored copy has another.
    """

    path: str
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    ctime: int = field(default=0, compare=False)

    @property
    def table(self) -> str:
        """The line of the totals that counts this entry."""
        return TABLES.get(self.kind, SPECIAL)

    def digest_input(self) -> bytes:
        """Everything the vault's listing can also say."""
        return repr((self.path, self.kind, self.size, self.mode, self.uid, self.gid, self.mtime)).encode()


class TreeSource(DumpSource):
    """A folder in a vault."""

    def entries(self) -> Iterator[Entry]:
        """What the vault says the folder holds."""
        raise NotImplementedError

    def restore(self, target: str) -> None:
        """Restore below the empty folder ``target`` and set ``path`` to where the tree's root is now."""
        raise NotImplementedError


class TreeEngine(Engine):
    """An engine whose data the vault reads by itself."""

    method = "tree"

    @abstractmethod
    def content_of_entries(self, entries: Iterator[Entry]) -> Json:
        """Content of what the vault has just stored, by the vault's own listing and what the disk still shows of it."""


def listed_name(name: bytes) -> str:
    """A file name as the vault's listing prints it: bytes that are not UTF-8 become U+FFFD, one each."""
    text = name.decode("utf-8", "surrogateescape")
    return "".join("�" if "\udc80" <= char <= "\udcff" else char for char in text)


def kind_of(mode: int) -> str:
    """restic's word for a file type."""
    for test, word in (
        (stat.S_ISREG, "file"),
        (stat.S_ISDIR, "dir"),
        (stat.S_ISLNK, "symlink"),
        (stat.S_ISFIFO, "fifo"),
        (stat.S_ISSOCK, "socket"),
        (stat.S_ISBLK, "dev"),
        (stat.S_ISCHR, "chardev"),
    ):
        if test(mode):
            return word
    return "irregular"


def walk(root: str, changing: bool = False) -> Iterator[tuple[bytes, Entry, os.stat_result]]:
    """Each thing below ``root`` (root first) as (absolute path, entry, stat); links are not followed.

    Sockets are left out, as the vault leaves them out; with ``changing`` also what vanishes meanwhile.
    """
    base = os.fsencode(root)
    pending = [base]
    while pending:
        path = pending.pop()
        try:
            found = os.lstat(path)
            below = os.listdir(path) if stat.S_ISDIR(found.st_mode) else []
        except (FileNotFoundError, NotADirectoryError):
            if changing:
                continue
            raise
        kind = kind_of(found.st_mode)
        if kind == "socket":
            continue
        relative = listed_name(os.path.relpath(path, base)) if path != base else "."
        size = found.st_size if kind == "file" else 0
        mode = stat.S_IMODE(found.st_mode)
        times = (found.st_mtime_ns, found.st_ctime_ns)
        yield path, Entry(relative, kind, size, mode, found.st_uid, found.st_gid, *times), found
        pending.extend(os.path.join(path, name) for name in below)


def content_of(entries: Iterator[Entry], root: str) -> Json:
    """Totals and metadata digest of ``entries``, without checksums of contents."""
    totals = dict.fromkeys((*TABLES.values(), SPECIAL), 0)
    metadata = Sum()
    size = 0
    for entry in entries:
        totals[entry.table] += 1
        size += entry.size
        if entry.path != ".":  # the root's own properties belong to the live name, not to the data
            metadata.add(entry.digest_input())
    return content({name: {"rows": rows, "checksum": None} for name, rows in totals.items()}, metadata, size, root)


def content(tables: Json, metadata: Sum, size: int, root: str) -> Json:
    """A content dictionary as :class:`Engine` describes it."""
    return {"tables": tables, "globals": {"metadata": metadata.hex(), "root": root}, "bytes": size}


def differences(expected: Iterator[Entry], root: str) -> list[str]:
    """The first entries in which the folder ``root`` differs from ``expected``, each with what differs."""
    wanted = {entry.path: entry for entry in expected if entry.path != "."}
    named: list[str] = []
    for _path, entry, _stat in walk(root):
        if entry.path == ".":
            continue
        other = wanted.pop(entry.path, None)
        if other is None:
            named.append(f"{entry.path!r} is not in the backup")
        elif other != entry:
            fields = [
                key
                for key in ("kind", "size", "mode", "uid", "gid", "mtime")
                if getattr(other, key) != getattr(entry, key)
            ]
            named.append(f"{entry.path!r} differs in {', '.join(fields)}")
        if len(named) >= NAMED_DIFFERENCES:
            return named
    return named + [f"{path!r} is missing" for path in list(wanted)[: NAMED_DIFFERENCES - len(named)]]
