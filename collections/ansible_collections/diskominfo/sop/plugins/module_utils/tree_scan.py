# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""What only a walk of the disk can say of a folder: contents, link targets, hard links, attributes, holes.

The vault's own listing shows none of these. So they are taken from the live folder after the vault has read it, of
everything that is still as the vault saw it: the same time of last change (ctime) means the same attributes and links. What
changed in between is named in the manifest and left out on both sides; its contents are the vault's all the same.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.inode_flags import flags, set_flags
from ansible_collections.diskominfo.sop.plugins.module_utils.tree import (
    SPECIAL,
    TABLES,
    Entry,
    Sum,
    content,
    content_of,
    listed_name,
    walk,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.tree_holes import dig_holes, file_digest, has_holes

#: things that a manifest names one by one: what changed meanwhile, chattr's attributes
MOST_NAMED = 10_000
#: files with holes that a manifest names; where there are more, holes are dug in all files
_MOST_SPARSE = 10_000
#: attributes that have a line of their own in the totals
_MOST_ATTRIBUTES = 50
#: labels that the host gives by its own policy
_HOST_LABELS = frozenset({"security.selinux", "security.ima", "security.evm"})
#: bytes on disk that a restored file with holes may take more than it did
_SPARE_ROOM = 1 << 20


class Structure:
    """Attributes, hard links, link targets and device numbers of the things below ``root``."""

    def __init__(self, root: str) -> None:
        self._start = len(os.fsencode(root)) + 1
        self._sums: dict[str, Sum] = {}
        self._attributes: dict[str, list[bytes]] = {}
        self._groups: dict[tuple[int, int], list[bytes]] = {}

    def inner(self, path: bytes) -> bytes:
        """``path`` below the root, as its bytes."""
        return path[self._start :]

    def add(self, path: bytes, entry: Entry, found: os.stat_result, its_attributes: list[tuple[str, bytes]]) -> None:
        """Count one thing."""
        inner = self.inner(path)
        for name, value in its_attributes:
            if name not in _HOST_LABELS:
                member = repr((inner, name, value)).encode("utf-8", "surrogateescape")
                self._attributes.setdefault(listed_name(os.fsencode(name)), []).append(member)
        if entry.kind == "file" and found.st_nlink > 1:
            self._groups.setdefault((found.st_dev, found.st_ino), []).append(inner)
        elif entry.kind == "symlink":
            self._add("link targets", (inner, os.readlink(path)))
        elif entry.kind in {"dev", "chardev"}:
            self._add("device numbers", (inner, found.st_rdev))

    def _add(self, table: str, member: object) -> None:
        self._sums.setdefault(table, Sum()).add(repr(member).encode())

    def tables(self) -> Json:
        """Totals, one line for each kind that there is at least one of."""
        for number, name in enumerate(sorted(self._attributes)):
            table = f"attribute {name}" if number < _MOST_ATTRIBUTES else "other attributes"
            for member in self._attributes[name]:
                self._sums.setdefault(table, Sum()).add(member)
        self._attributes = {}
        for group in self._groups.values():
            if len(group) > 1:  # the other names lie outside
                self._add("hard links", sorted(group))
        self._groups = {}
        return {name: {"rows": found.members, "checksum": found.hex()} for name, found in self._sums.items()}


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


def scan(
    root: str, checksums: bool, shown_root: str | None = None, without: frozenset[str] | None = frozenset()
) -> Json:
    """Content of the folder ``root`` on disk; SopError when a thing cannot be read.

    ``without``: paths of which the manifest to compare with has not measured what a listing cannot say; None when it
    has measured nothing of that (an earlier release).
    """
    shown = shown_root or root
    try:
        if not checksums:
            return content_of((entry for _path, entry, _stat in walk(root)), shown)
        return _full(root, shown, without)
    except OSError as error:
        raise _unreadable(error) from error


def _full(root: str, shown: str, without: frozenset[str] | None) -> Json:
    sums = {name: Sum() for name in (*TABLES.values(), SPECIAL)}
    metadata = Sum()
    structure = Structure(root)
    hard_links: dict[tuple[int, int], list[str]] = {}
    size = 0
    for path, entry, found in walk(root):
        size += entry.size
        if entry.path == ".":
            sums[entry.table].add(b"root")
            continue
        metadata.add(entry.digest_input())
        if entry.kind == "file" and found.st_nlink > 1:
            hard_links.setdefault((found.st_dev, found.st_ino), []).append(entry.path)
        its_attributes = attributes(path)
        sums[entry.table].add(_full_description(path, entry, found, its_attributes))
        if without is not None and entry.path not in without:
            structure.add(path, entry, found, its_attributes)
    rows = {name: total.members for name, total in sums.items()}
    for group in hard_links.values():
        if len(group) > 1:
            sums["files"].add(repr(("hard links", sorted(group))).encode())
    tables = {name: {"rows": rows[name], "checksum": total.hex()} for name, total in sums.items()}
    return content({**tables, **structure.tables()}, metadata, size, shown)


def _unreadable(error: OSError) -> SopError:
    where = os.fsdecode(error.filename or b"")
    return SopError(
        f"{where}: cannot be read ({error.strerror}); nothing was concluded, see that it is readable and not being "
        "removed, and run again"
    )


def _full_description(
    path: bytes, entry: Entry, found: os.stat_result, its_attributes: list[tuple[str, bytes]]
) -> bytes:
    parts: list[object] = [os.fsencode(entry.path), entry.kind, entry.size, entry.mode, entry.uid, entry.gid]
    parts += [entry.mtime, its_attributes]
    if entry.kind == "file":
        parts.append(file_digest(path))
    elif entry.kind == "symlink":
        parts.append(os.readlink(path))
    elif entry.kind in {"dev", "chardev"}:
        parts.append(found.st_rdev)
    return repr(parts).encode("utf-8", "surrogateescape")


class Stored:
    """The vault's listing on its way, noted so that the live folder can be compared with it."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        #: path -> ctime; None where two names look the same in the listing
        self.times: dict[str, int | None] = {}

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            if entry.path != ".":
                self.times[entry.path] = None if entry.path in self.times else entry.ctime
            yield entry


def measured(root: str, stored: Stored) -> Json:
    """{"tables", "globals"} of the live folder to add to the vault's listing, which has been read to its end."""
    structure = Structure(root)
    missed = stored.times
    sparse: dict[str, int] = {}
    marked: dict[str, str] = {}
    linked: dict[str, dict[str, str]] = {}
    try:
        for path, entry, found in walk(root, changing=True):
            if entry.path == "." or missed.get(entry.path) != entry.ctime:
                continue
            try:
                its_attributes, its_flags = attributes(path), _flags(path, entry)
                holes = entry.kind == "file" and has_holes(path, found)
                if os.lstat(path).st_ctime_ns != entry.ctime:
                    continue
            except FileNotFoundError:
                continue
            structure.add(path, entry, found, its_attributes)
            del missed[entry.path]
            inner = os.fsdecode(structure.inner(path))
            if holes:
                sparse[inner] = found.st_blocks * 512
            if its_flags:
                marked[inner] = its_flags
            if entry.kind == "symlink" and its_attributes:  # the vault stores none of links
                linked[inner] = {name: base64.b64encode(value).decode("ascii") for name, value in its_attributes}
    except OSError as error:
        raise _unreadable(error) from error
    for what, named in (
        ("changed while it was read", missed),
        ("have attributes i or a of chattr", marked),
        ("are links with attributes of their own", linked),
    ):
        if len(named) > MOST_NAMED:
            raise SopError(
                f"{root}: {len(named)} things {what}, more than {MOST_NAMED}; the dump does not count, stop what writes there "
                "or register smaller folders"
            )
    named_sparse = sparse if len(sparse) <= _MOST_SPARSE else None
    return {
        "tables": structure.tables(),
        "globals": {"unmeasured": sorted(missed), "sparse": named_sparse, "flags": marked, "links": linked},
    }


def _flags(path: bytes, entry: Entry) -> str:
    return flags(path) if entry.kind in {"file", "dir"} else ""


def unmeasured(manifest: Json) -> frozenset[str] | None:
    """What :func:`scan` has to leave out to be compared with ``manifest``."""
    found = manifest["content"]["globals"].get("unmeasured")
    return None if found is None else frozenset(found)


def require_attributes_kept(folder: str, manifest: Json) -> None:
    """SopError when ``folder`` lies on a file system that cannot keep the attributes that the backup has."""
    if not any(name.startswith("attribute user.") for name in manifest["content"]["tables"]):
        return
    try:
        os.setxattr(folder, "user.sop-probe", b"")
        os.removexattr(folder, "user.sop-probe")
    except OSError as error:
        raise SopError(
            f"{folder}: this file system keeps no user attributes ({error.strerror}), which the backup has; restore onto ext4, "
            "xfs or btrfs (for the proof of backups set state_dir)"
        ) from error


def mend(root: str, manifest: Json) -> None:
    """Give a restored tree what the vault does not: holes in files that had holes, attributes of links."""
    sparse = manifest["content"]["globals"].get("sparse")
    linked = manifest["content"]["globals"].get("links") or {}
    if sparse == {} and not linked:
        return
    start = len(os.fsencode(root)) + 1
    # the paths of a manifest are looked up, never opened: they come from the vault
    for path, entry, _found in walk(root):
        inner = os.fsdecode(path[start:])
        if entry.kind == "file" and (sparse is None or inner in sparse):
            dig_holes(path)
        elif entry.kind == "symlink" and inner in linked:
            for name, value in linked[inner].items():
                os.setxattr(path, name, base64.b64decode(value), follow_symlinks=False)


def finish_tree(root: str, manifest: Json) -> None:
    """The last of a restored tree: SopError when a file has lost its holes; chattr's attributes are set again."""
    sparse = manifest["content"]["globals"].get("sparse") or {}
    marked = manifest["content"]["globals"].get("flags") or {}
    if not sparse and not marked:
        return
    start = len(os.fsencode(root)) + 1
    todo: list[tuple[bytes, str]] = []
    for path, _entry, found in walk(root):
        inner = os.fsdecode(path[start:])
        if inner in sparse and found.st_blocks * 512 > sparse[inner] + _SPARE_ROOM:
            raise SopError(
                f"{os.fsdecode(path)}: takes {found.st_blocks >> 11} MiB on disk, {sparse[inner] >> 20} when it was backed up: "
                "its holes were lost; restore onto ext4, xfs or btrfs"
            )
        if inner in marked:
            todo.append((path, "".join(letter for letter in "ia" if letter in marked[inner])))
    for path, letters in reversed(todo):  # what is in a folder before the folder
        set_flags(path, letters)
