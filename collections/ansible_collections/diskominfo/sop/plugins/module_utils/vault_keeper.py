# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The vault's keeper: seals repositories and closes what is over its quota. Root runs it each minute on the vault's host.

Module vault_server lays this very file down, so it needs nothing but Python. Everything below a server's folder may have
been made by an enemy: each step is taken from an open folder, no link is followed, and what is neither a folder nor a
regular file of one name is left alone and told.
"""

from __future__ import annotations

import json
import os
import pwd
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
NOTICE = "vault-full"
#: levels below a server's folder that anything honest can have: SITE/data/ab/FILE is four
DEPTH = 8
#: seconds that config and keys must have lain still: a file that is still being written is not sealed
SETTLED = 5.0
#: the least that a file or folder counts, so that a million empty ones count too
LEAST = 4096
#: lines of what is strange that one server can fill the journal with, each minute
TOLD = 20
#: bytes of locks that are borne in a repository that is over its quota; reading takes a lock too
LOCKS_ROOM = 16 << 20


class Strange(Exception):
    """Something lies there that neither restic nor the server makes."""


@dataclass
class Folder:
    """A folder as it was found; ``path`` is relative to the server's folder, ``kind``: top, repository, keys, locks, other."""

    path: str
    kind: str
    size: int = 0


@dataclass
class Vault:
    """What the keeper's configuration says."""

    root: str
    uid: int
    gid: int
    quotas: dict[str, int]


@dataclass
class Server:
    """One server's folder while it is looked at."""

    vault: Vault
    name: str
    descriptor: int
    size: int = 0
    folders: list[Folder] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)

    def tell(self, path: str, what: str) -> None:
        """Remember what the administrator must look at; a name may hold anything, a line feed too."""
        self.strange.append(f"{ascii(os.path.join(self.vault.root, self.name, path))[1:-1]}: {what}")


@contextmanager
def opened(name: str, flags: int, within: int | None = None) -> Iterator[int]:
    """A descriptor, closed at the end."""
    descriptor = os.open(name, flags, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def folder_at(server: Server, path: str) -> Iterator[int]:
    """The folder at ``path``, reached name by name without following a link."""
    descriptor = os.dup(server.descriptor)
    try:
        for name in [part for part in path.split("/") if part]:
            below = os.open(name, FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def give(descriptor: int, uid: int, gid: int, mode: int) -> bool:
    """Set owner and mode of what is open; whether that changed anything."""
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, mode):
        return False
    os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)
    return True


def is_plain(found: os.stat_result) -> bool:
    """A regular file with one name: another name of it could lie anywhere."""
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def look(name: str, within: int) -> os.stat_result | None:
    """What lies there, links not followed; None when nothing does."""
    try:
        return os.stat(name, dir_fd=within, follow_symlinks=False)
    except FileNotFoundError:
        return None


def seal_file(name: str, within: int, gid: int) -> None:
    """Make a file root's, readable by the server's group."""
    with opened(name, PLAIN, within) as descriptor:
        if not is_plain(os.fstat(descriptor)):
            raise Strange(f"{name} is not a regular file of one name")
        give(descriptor, 0, gid, 0o440)


def sealable(folder: int, now: float) -> bool:
    """Whether a folder is a repository with a config and a key that nobody is writing any more. Strange when it pretends."""
    config, keys = look("config", folder), look("keys", folder)
    if config is None or keys is None:
        return False
    if not is_plain(config) or not stat.S_ISDIR(keys.st_mode):
        raise Strange("config is not a regular file of one name, or keys is not a folder")
    newest, count = config.st_ctime, 0
    with opened("keys", FOLDER, folder) as descriptor:
        for name in os.listdir(descriptor):
            found = look(name, descriptor)
            if found is None:
                continue
            if not is_plain(found):
                raise Strange(f"keys/{name} is not a regular file of one name")
            newest, count = max(newest, found.st_ctime), count + 1
    return count > 0 and (keys.st_uid == 0 or abs(now - newest) >= SETTLED)


def seal(folder: int, gid: int) -> None:
    """Take ``config`` and ``keys`` away from the server; from the outside in, so that nothing is exchanged meanwhile."""
    found = os.fstat(folder)
    if found.st_uid != 0:  # sticky: in root's folder the server can rename and remove only what is its own
        give(folder, 0, gid, 0o1770)
    with opened("keys", FOLDER, folder) as keys:
        give(keys, 0, gid, 0o550)
        for name in os.listdir(keys):
            seal_file(name, keys, gid)
    seal_file("config", folder, gid)


def survey(server: Server, folder: int, path: str, kind: str, depth: int, now: float) -> int:
    """Look at a folder and all below it, seal what is a repository; returns its size."""
    gid = server.vault.gid
    here = Folder(path, kind, LEAST)
    if kind in {"top", "other"}:
        try:
            if sealable(folder, now):
                seal(folder, gid)
                here.kind = "repository" if path else "top"
                kind = "repository"
        except (Strange, OSError) as error:
            server.tell(path, f"{error}; not sealed")
    server.folders.append(here)
    for name in os.listdir(folder):
        below = os.path.join(path, name)
        found = look(name, folder)
        if found is None:
            continue
        if stat.S_ISDIR(found.st_mode):
            here.size += enter(server, folder, name, below, kind, depth + 1, now)
        elif not is_plain(found):
            server.tell(below, "is not a regular file of one name; left alone, look who made it")
        else:
            here.size += max(found.st_size, found.st_blocks * 512, LEAST)
            if found.st_uid == 0 and kind in {"other", "inside", "locks"}:
                hand_over(server, folder, name)
    return here.size


def enter(server: Server, folder: int, name: str, path: str, kind: str, depth: int, now: float) -> int:
    """Survey the folder ``name`` in ``folder``."""
    try:
        with opened(name, FOLDER, folder) as descriptor:
            if depth > DEPTH:  # nothing honest lies so deep: shut, and no way to hide from the quota
                if give(descriptor, 0, 0, 0o700):
                    server.tell(path, "lies deeper than a repository can; shut, look and remove it")
                return LEAST
            below = "inside" if kind in {"repository", "inside", "keys", "locks"} else "other"
            if kind == "repository" and name in {"keys", "locks"}:
                below = name
            return survey(server, descriptor, path, below, depth, now)
    except (NotADirectoryError, FileNotFoundError):
        return 0  # exchanged or gone since it was listed: the next minute sees what it is
    except OSError as error:
        server.tell(path, f"{error.strerror}; left alone")
        return 0


def hand_over(server: Server, folder: int, name: str) -> None:
    """Give the server what root's own maintenance wrote, such as ``restic prune`` by the local path: it must read it."""
    with suppress(OSError), opened(name, PLAIN, folder) as descriptor:
        found = os.fstat(descriptor)
        if is_plain(found) and found.st_uid == 0:
            give(descriptor, server.vault.uid, server.vault.gid, 0o600)


def wanted(here: Folder, server: Server, full: bool) -> tuple[int, int, int]:
    """(owner, group, mode) that a folder must have."""
    vault = server.vault
    closed = (0, vault.gid, 0o750)
    if here.kind in {"top", "repository"}:
        return closed if full else (0, vault.gid, 0o1770)
    if here.kind == "keys":
        return 0, vault.gid, 0o550
    if here.kind == "locks" and here.size <= LOCKS_ROOM:
        return vault.uid, vault.gid, 0o700
    return closed if full else (vault.uid, vault.gid, 0o700)


def set_access(server: Server, full: bool) -> None:
    """Take write access away where the server is over its quota, or give it back."""
    for here in server.folders:
        try:
            with folder_at(server, here.path) as descriptor:
                if full or os.fstat(descriptor).st_uid == 0:
                    give(descriptor, *wanted(here, server, full))
        except OSError as error:  # exchanged or gone since it was listed
            server.tell(here.path, f"{error.strerror}; its access was not set")


def notice(folder: int, server: Server, full: bool) -> None:
    """The file by which a client learns why it may not write: bytes used, and the quota."""
    found = look(NOTICE, folder)
    if found is not None and stat.S_ISDIR(found.st_mode):
        return  # the server's own doing: it tells itself nothing
    if not full:
        if found is not None:
            os.unlink(NOTICE, dir_fd=folder)
        return
    text = f"{server.size} {server.vault.quotas[server.name]}\n".encode()
    if found is not None and is_plain(found) and found.st_uid == 0:
        with opened(NOTICE, PLAIN, folder) as descriptor:
            if os.read(descriptor, 100) == text:
                return
    fresh = f".{NOTICE}-{os.urandom(8).hex()}"  # a name that nobody can have taken before us
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(fresh, flags, 0o600, dir_fd=folder)
    try:
        os.write(descriptor, text)
        give(descriptor, 0, server.vault.gid, 0o440)
    finally:
        os.close(descriptor)
    os.rename(fresh, NOTICE, src_dir_fd=folder, dst_dir_fd=folder)


def keep(vault: Vault, name: str, now: float) -> list[str]:
    """One server's folder; returns what is strange there."""
    with opened(vault.root, FOLDER) as root, opened(name, FOLDER, root) as descriptor:
        server = Server(vault, name, descriptor)
        server.size = survey(server, descriptor, "", "top", 0, now)
        full = 0 < vault.quotas[name] < server.size
        before = stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o750
        set_access(server, full)
        notice(descriptor, server, full)
    if full != before:
        said = "is over its quota, closed for writing" if full else "is open for writing"
        print(f"{name} {said}: {server.size} bytes of {vault.quotas[name] or 'any number'}")
    return server.strange[:TOLD]


def load(path: str) -> Vault:
    """The configuration that module vault_server wrote."""
    with open(path, encoding="utf-8") as stream:
        given: dict[str, Any] = json.load(stream)
    owner = pwd.getpwnam(given["user"])
    return Vault(given["root"], owner.pw_uid, owner.pw_gid, given["quotas"])


def main(arguments: list[str]) -> int:
    """Keep every server's folder; 1 when something strange lies in one, and the others are kept all the same."""
    vault = load(arguments[0])
    told: list[str] = []
    for name in sorted(vault.quotas):
        try:
            told += keep(vault, name, time.time())
        except OSError as error:
            told.append(f"{os.path.join(vault.root, name)}: {error.strerror}; not kept")
    for line in told:
        print(line, file=sys.stderr)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
