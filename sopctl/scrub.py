# SPDX-License-Identifier: Apache-2.0
"""A restic repository looked at as files, without its key: a file's name is the SHA-256 of its content.

What does not fit is named, and on demand moved aside; nothing is ever deleted.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sopctl import fsio
from sopctl.errors import ConfigError

#: what a repository holds, besides the file ``config``; locks come and go, and are not read
HASHED = ("data", "index", "snapshots", "keys")
#: a file that the vault's keeper lays beside them while a server is over its quota
NOTICE = "vault-full"
_NAME = re.compile(r"[0-9a-f]{64}")
_SHARD = re.compile(r"[0-9a-f]{2}")


@dataclass(frozen=True)
class Misfit:
    """A file or folder that does not belong; ``path`` is relative to the repository. ``damaged``: it is one of restic's own
    by its name, with other content."""

    path: str
    why: str
    damaged: bool = False

    @property
    def pack(self) -> str | None:
        """The id of the damaged pack that it is."""
        return Path(self.path).name if self.damaged and self.path.startswith("data/") else None


def scrub(repository: Path) -> tuple[list[Misfit], int]:
    """What does not fit, and how many files were read. ConfigError when the folder cannot be read."""
    found: list[Misfit] = []
    count = 0
    try:
        for path in sorted(repository.iterdir()):
            if path.name in {*HASHED, "locks"}:
                if not stat.S_ISDIR(path.lstat().st_mode):
                    found.append(Misfit(path.name, "is no folder"))
            elif path.name != "config" and not (path.name == NOTICE and stat.S_ISREG(path.lstat().st_mode)):
                found.append(Misfit(path.name, "is nothing of a repository"))
        config = repository / "config"
        if not os.path.lexists(config):
            found.append(Misfit("config", "is missing", damaged=True))
        elif not stat.S_ISREG(config.lstat().st_mode):
            found.append(Misfit("config", "is no regular file"))
        for name in HASHED:
            if name in {misfit.path for misfit in found} or not (repository / name).is_dir():
                continue
            for path in _files(repository, repository / name, found):
                count += 1
                found += _file(repository, path, name)
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=str(error.filename or repository)) from None
    return found, count


def _files(repository: Path, folder: Path, found: list[Misfit]) -> Iterator[Path]:
    """The entries of ``folder`` where files belong; what is a strange folder goes into ``found``."""
    for path in sorted(folder.iterdir()):
        if folder.name == "data" and folder.parent == repository:
            if _SHARD.fullmatch(path.name) and stat.S_ISDIR(path.lstat().st_mode):
                yield from sorted(path.iterdir())
            else:
                found.append(Misfit(str(path.relative_to(repository)), "is no folder of packs"))
        else:
            yield path


def _file(repository: Path, path: Path, kind: str) -> list[Misfit]:
    name = str(path.relative_to(repository))
    if not stat.S_ISREG(path.lstat().st_mode):
        return [Misfit(name, "is no regular file")]
    if not _NAME.fullmatch(path.name) or (kind == "data" and path.name[:2] != path.parent.name):
        return [Misfit(name, "has no name that restic gives there")]
    if fsio.sha256_file(path) != f"sha256:{path.name}":
        return [Misfit(name, "its content is not what its name says", damaged=True)]
    return []


def quarantine(repository: Path, misfits: list[Misfit], stamp: str) -> Path | None:
    """Move ``misfits`` to ``<repository>.quarantine/<stamp>/``, on the same file system; None when there was nothing to move."""
    target = repository.with_name(repository.name + ".quarantine") / stamp
    moved = False
    for misfit in misfits:
        source, place = repository / misfit.path, target / misfit.path
        if not os.path.lexists(source):
            continue
        try:
            place.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            source.rename(place)
            fsio.fsync_dir(place.parent)
            fsio.fsync_dir(source.parent)
        except OSError as error:
            raise ConfigError(
                f"cannot be moved into quarantine ({error.strerror})", where=str(source), hint=f"Move it to {target}."
            ) from None
        moved = True
    return target if moved else None
