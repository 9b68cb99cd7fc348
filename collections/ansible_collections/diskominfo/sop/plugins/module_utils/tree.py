# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What a folder holds: entries, their totals and digests that do not depend on the order of reading.

An entry is described by what both a walk of the disk and the vault's own listing can say (path, type, size, mode,
owner, modification time); only a walk adds contents, link targets, hard links and extended attributes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpSource, Engine, Json, SopError

#: how many differing entries an error names
NAMED_DIFFERENCES = 3
_CHUNK = 1 << 20
_HOLE_BLOCK = 1 << 16
_FALLOC_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_TABLES = {"file": "files", "dir": "directories", "symlink": "links"}

_libc = ctypes.CDLL(None, use_errno=True)


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
    """One thing in a tree. ``path`` is relative to the tree's root ("." is the root); ``mtime`` is in nanoseconds."""

    path: str
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int

    @property
    def table(self) -> str:
        """The line of the totals that counts this entry."""
        return _TABLES.get(self.kind, "special")

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
        """Content of what the vault has just stored, by the vault's own listing."""


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


def walk(root: str) -> Iterator[tuple[bytes, Entry, os.stat_result]]:
    """Each thing below ``root`` (root first) as (absolute path, entry, stat); links are not followed.

    Sockets are left out, as the vault leaves them out.
    """
    base = os.fsencode(root)
    pending = [base]
    while pending:
        path = pending.pop()
        found = os.lstat(path)
        kind = kind_of(found.st_mode)
        if kind == "socket":
            continue
        relative = listed_name(os.path.relpath(path, base)) if path != base else "."
        size = found.st_size if kind == "file" else 0
        mode = stat.S_IMODE(found.st_mode)
        yield path, Entry(relative, kind, size, mode, found.st_uid, found.st_gid, found.st_mtime_ns), found
        if kind == "dir":
            pending.extend(os.path.join(path, name) for name in os.listdir(path))


def content_of(entries: Iterator[Entry], root: str) -> Json:
    """Totals and metadata digest of ``entries``, without checksums of contents."""
    totals = dict.fromkeys((*_TABLES.values(), "special"), 0)
    metadata = Sum()
    size = 0
    for entry in entries:
        totals[entry.table] += 1
        size += entry.size
        if entry.path != ".":  # the root's own properties belong to the live name, not to the data
            metadata.add(entry.digest_input())
    return _content({name: {"rows": rows, "checksum": None} for name, rows in totals.items()}, metadata, size, root)


def _content(tables: Json, metadata: Sum, size: int, root: str) -> Json:
    return {"tables": tables, "globals": {"metadata": metadata.hex(), "root": root}, "bytes": size}


def scan(root: str, checksums: bool, shown_root: str | None = None) -> Json:
    """Content of the folder ``root`` on disk; SopError when a thing cannot be read."""
    shown = shown_root or root
    if not checksums:
        try:
            return content_of((entry for _path, entry, _stat in walk(root)), shown)
        except OSError as error:
            raise _unreadable(error) from error
    sums = {name: Sum() for name in (*_TABLES.values(), "special")}
    metadata = Sum()
    hard_links: dict[tuple[int, int], list[str]] = {}
    size = 0
    try:
        for path, entry, found in walk(root):
            if entry.path != ".":
                metadata.add(entry.digest_input())
            size += entry.size
            if entry.kind == "file" and found.st_nlink > 1:
                hard_links.setdefault((found.st_dev, found.st_ino), []).append(entry.path)
            sums[entry.table].add(_full_description(path, entry, found))
    except OSError as error:
        raise _unreadable(error) from error
    rows = {name: total.members for name, total in sums.items()}
    for group in hard_links.values():
        if len(group) > 1:
            sums["files"].add(repr(("hard links", sorted(group))).encode())
    tables = {name: {"rows": rows[name], "checksum": total.hex()} for name, total in sums.items()}
    return _content(tables, metadata, size, shown)


def _unreadable(error: OSError) -> SopError:
    return SopError(f"{os.fsdecode(error.filename or '')}: cannot be read ({error.strerror}); nothing was concluded")


def _full_description(path: bytes, entry: Entry, found: os.stat_result) -> bytes:
    if entry.path == ".":
        return b"root"
    parts: list[object] = [os.fsencode(entry.path), entry.kind, entry.size, entry.mode, entry.uid, entry.gid]
    parts += [entry.mtime, attributes(path)]
    if entry.kind == "file":
        parts.append(file_digest(path))
    elif entry.kind == "symlink":
        parts.append(os.readlink(path))
    elif entry.kind in {"dev", "chardev"}:
        parts.append(found.st_rdev)
    return repr(parts).encode()


def attributes(path: bytes) -> list[tuple[str, bytes]]:
    """Extended attributes (access lists are among them), sorted."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []
    found = []
    for name in sorted(names):
        try:
            found.append((name, os.getxattr(path, name, follow_symlinks=False)))
        except OSError:  # an attribute only its owner may read
            found.append((name, b"?"))
    return found


def file_digest(path: bytes) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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


def dig_holes(root: str) -> None:
    """Give back the blocks of zeros in large files: older restic restores sparse files at their full size."""
    for path, entry, found in walk(root):
        if entry.kind == "file" and entry.size >= _HOLE_BLOCK and found.st_blocks * 512 >= entry.size:
            _dig_file(path, found)


def _dig_file(path: bytes, found: os.stat_result) -> None:
    zeros = bytes(_HOLE_BLOCK)
    dug = False
    with open(path, "r+b", buffering=0) as stream:
        offset = 0
        while chunk := stream.read(_HOLE_BLOCK):
            if chunk == zeros:
                length = ctypes.c_int64(_HOLE_BLOCK)
                if (
                    _libc.fallocate64(stream.fileno(), _FALLOC_KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(offset), length)
                    != 0
                ):
                    break  # the file system has no holes
                dug = True
            offset += len(chunk)
    if dug:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
