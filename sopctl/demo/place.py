# SPDX-License-Identifier: Apache-2.0
"""The demo's folder: what lies where, how an old one is recognised, and how it is cleared away."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from sopctl.errors import UsageError

MARKER = ".sopctl-demo.json"
SCHEMA = "sopctl-demo/v1"
#: where a database server under another account lives when that account cannot reach the demo's folder
ASIDE = Path("/var/tmp")  # noqa: S108  # the folder in it is made with mode 0700
SOCKETS = Path("/tmp")  # noqa: S108  # mkdtemp; the path of a socket must be short


@dataclass(frozen=True)
class Place:
    """A demo's folder. ``home`` holds the database server; ``sockets`` its socket; ``port`` is the web service's."""

    schema: str
    folder: str
    engine: str
    home: str
    sockets: str
    port: int

    @property
    def root(self) -> Path:
        """The demo's folder."""
        return Path(self.folder)

    @property
    def site(self) -> Path:
        """The SOP site: what an agency keeps."""
        return self.root / "site"

    @property
    def keys(self) -> Path:
        """Everybody's keys; in an agency each person keeps their own."""
        return self.root / "keys"

    @property
    def letters(self) -> Path:
        """The requester's letters."""
        return self.root / "letters"

    @property
    def server(self) -> Path:
        """What belongs to the server: application, database, files."""
        return self.root / "server"

    @property
    def app(self) -> Path:
        """The web service's folder."""
        return self.server / "app"

    @property
    def files(self) -> Path:
        """The folder of files that is a dataset."""
        return self.server / "berkas"

    @property
    def state(self) -> Path:
        """Locks and journals of the server's datasets."""
        return self.server / "state"

    @property
    def sqlite(self) -> Path:
        """The database where PostgreSQL has no build."""
        return self.server / "pelayanan.db"

    def environment(self) -> dict[str, str]:
        """What tells sopctl of this site."""
        return {
            "SOPCTL_SITE": str(self.site),
            "SOPCTL_ROOT": str(self.keys / "root.allowed"),
            "SOPCTL_KEYS": str(self.keys),
        }

    def write_env(self) -> Path:
        """A file to be sourced by a shell: the same commands as in the demo work there."""
        path = self.root / "env"
        own = shlex.quote(str(Path(sys.executable).parent))
        lines = [f"export {name}={shlex.quote(value)}" for name, value in self.environment().items()]
        path.write_text("\n".join(["# . ./env", *lines, f'export PATH={own}:"$PATH"', ""]))
        return path


def load(folder: Path) -> Place | None:
    """The demo in ``folder``; None when there is none there."""
    try:
        found = json.loads((folder / MARKER).read_text())
        place = Place(**found)
    except (OSError, ValueError, TypeError):
        return None
    return place if place.schema == SCHEMA and place.folder == str(folder) else None


def make(folder: Path, engine: str, account_uid: int | None) -> Place:
    """A new demo's folder; ``account_uid`` is the database server's account when it is not ours.

    UsageError when something that is no demo lies there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "exists and was not made by the demo; it is left alone", where=str(folder), hint="Name another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / "server" / "postgresql"
    if account_uid is not None and not reachable(folder, account_uid):
        home = _aside(folder)
    sockets = tempfile.mkdtemp(prefix="sop-demo-", dir=SOCKETS)
    place = Place(SCHEMA, str(folder), engine, str(home), sockets, _free_port())
    (folder / MARKER).write_text(json.dumps(asdict(place), indent=2) + "\n")
    for path in (place.keys, place.letters, place.server, place.app, place.files, place.state):
        path.mkdir(mode=0o755)
    place.keys.chmod(0o700)
    place.state.chmod(0o700)
    return place


def clear(place: Place) -> None:
    """Remove what an earlier demo left (its servers are stopped already). UsageError when it belongs to another."""
    for path in (Path(place.home), Path(place.sockets)):
        if path == _aside(place.root) or (path.parent == SOCKETS and path.name.startswith("sop-demo-")):
            _remove(path)
    _remove(place.root)


def _remove(path: Path) -> None:
    if not path.exists() or path.is_symlink():
        return
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise UsageError(
            f"an earlier demo cannot be removed ({error.strerror})",
            where=str(error.filename or path),
            hint="Remove it as the user who ran it, or name another folder.",
        ) from None


def _aside(folder: Path) -> Path:
    return ASIDE / f"sopctl-demo-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def reachable(path: Path, uid: int) -> bool:
    """Whether an account without further groups can enter ``path`` and everything above it."""
    for folder in (path, *path.parents):
        found = folder.stat()
        if not found.st_mode & (0o100 if found.st_uid == uid else 0o001):
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machine_id() -> tuple[str, str]:
    """This machine's identity for the register, and where it comes from."""
    path = Path("/etc/machine-id")
    try:
        return path.read_text().strip(), str(path)
    except OSError:
        made = uuid.uuid5(uuid.NAMESPACE_DNS, os.uname().nodename).hex
        return made, f"made from the host's name, because {path} is missing; write one there on a real server"
