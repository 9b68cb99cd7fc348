# SPDX-License-Identifier: Apache-2.0
"""Control mode: the site, its SSH key and its secrets belong to one account, and people reach them through sopctl only.

``/etc/sopctl/control.yml`` (root's) names that account. Anybody else's ``sopctl`` is a *front* (``front.py``): it
starts the real one as that account through sudo and keeps a *signer* for it. Here is what the real one does, and which mode
a site is in.
"""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import signal
import socket
import stat
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from sopctl import loading, signing
from sopctl.errors import ConfigError, GateRefused, SopctlError, UsageError
from sopctl.models import Json, Record
from sopctl.signing import Namespace
from sopctl.site import Site

CONTROL = Path("/etc/sopctl/control.yml")
ROOT_PIN = Path("/etc/sopctl/root")
OPTION = "--signer"
MAX_MESSAGE = 64 * 1024 * 1024


class Control(Record, frozen=True):
    """``/etc/sopctl/control.yml``: whose sopctl runs, on which site, and the command that sudo allows."""

    schema: Literal["sop-control/v1"]
    user: str
    site: str
    command: str

    @property
    def uid(self) -> int:
        """The account's number. ConfigError when there is no such account."""
        try:
            return pwd.getpwnam(self.user).pw_uid
        except KeyError:
            raise ConfigError(
                f"there is no account {self.user!r}",
                where=f"{CONTROL}:user",
                hint="Make it: docs/how-to/control-mode.md.",
            ) from None


def configured() -> Control | None:
    """The machine's control mode; None where there is none. ConfigError when others than root could have written it."""
    if not os.path.lexists(CONTROL):
        return None
    for path, kind in ((CONTROL.parent, stat.S_ISDIR), (CONTROL, stat.S_ISREG)):
        found = path.lstat()
        if not kind(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
            raise ConfigError(
                "must be root's, no link, and not writable by others",
                where=str(path),
                hint=f"chown root: {path}; chmod go-w {path}",
            )
    control = loading.load_yaml(Control, CONTROL)
    for name in ("site", "command"):
        value = getattr(control, name)
        if not value.startswith("/") or os.path.normpath(value) != value:
            raise ConfigError(f"{value!r} is not a plain absolute path", where=f"{CONTROL}:{name}")
    return control


def site_option(option: str | None) -> str | None:
    """``-C`` as it counts: in control mode the site is fixed, and the caller's environment counts for nothing."""
    control = configured()
    if control is None or os.geteuid() != control.uid:
        return option
    for name in [name for name in os.environ if name.startswith(("SOPCTL_", "ANSIBLE_", "PYTHON"))]:
        if name != "SOPCTL_TRACEBACK":
            del os.environ[name]
    if option is not None and Path(option).absolute() != Path(control.site):
        raise UsageError(f"this machine's site is {control.site}", where=f"-C {option}", hint="Leave -C away.")
    return control.site


# what the sop side does ------------------------------------------------------------------------------------------


class RemoteSigner:
    """The person's signer at the other end of ``path``. GateRefused with its reason when it does not sign."""

    def __init__(self, path: Path) -> None:
        control = configured()
        if control is None or os.geteuid() != control.uid:
            raise UsageError(
                f"only the account of {CONTROL} takes a signer", where=OPTION, hint="Run sopctl without it."
            )
        self._path = path

    def public_keys(self) -> list[str]:
        """``type base64`` of every key that the signer offers."""
        return [
            signing.public_line(signing.key_blob(str(key), "signer"))
            for key in self._ask({"keys": True}).get("keys", [])
        ]

    def sign(self, data: bytes, namespace: Namespace, keys: Collection[str] = ()) -> bytes:
        """An armoured signature, by one of ``keys`` where the signer has several."""
        question = {"sign": base64.b64encode(data).decode(), "namespace": namespace, "with": sorted(keys)}
        signature: str = self._ask(question)["signature"]
        return signature.encode("ascii", "replace")

    def follow(self) -> None:
        """Take the signals over that the front is sent; when the front is gone, its terminal is."""
        threading.Thread(target=self._follow, name="sop-signals", daemon=True).start()

    def _follow(self) -> None:
        with suppress(OSError, ValueError), self._connected() as connection:
            connection.sendall(b'{"signals": true}\n')
            while line := connection.recv(16):
                for number in line.split():
                    os.kill(os.getpid(), int(number))
        os.kill(os.getpid(), signal.SIGHUP)

    def _ask(self, question: Json) -> Json:
        try:
            with self._connected() as connection:
                connection.sendall(json.dumps(question).encode() + b"\n")
                answer = read_message(connection)
        except (OSError, ValueError) as error:
            raise SopctlError(
                f"the signer does not answer ({error})", where=str(self._path), hint="Run the command again."
            ) from None
        if "refused" in answer:
            raise GateRefused(f"your signer refuses: {answer['refused']}", where=OPTION)
        return answer

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(self._path))
            yield connection


def read_message(connection: socket.socket) -> Json:
    data = bytearray()
    while not data.endswith(b"\n"):
        piece = connection.recv(1 << 16)
        if not piece or len(data) > MAX_MESSAGE:
            raise ValueError("the message is cut short or too long")
        data += piece
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("the message is no object")
    return value


# which mode a site runs in ---------------------------------------------------------------------------------------


def mode(site: Site) -> Literal["guard rail", "control"]:
    """In which mode this command runs; ``control`` only when nothing on this machine is missing for it.

    Whether a host checked the grants stands in each task's evidence (``enrolled``).
    """
    return "guard rail" if missing(site) else "control"


def missing(site: Site) -> list[str]:
    """What this machine lacks for control mode, each with where it is missing."""
    try:
        control = configured()
        if control is None:
            return [f"{CONTROL} is not there"]
        uid = control.uid
    except SopctlError as error:
        return [str(error)]
    found = []
    if os.geteuid() != uid:
        found.append(f"this command does not run as {control.user}")
    if site.root.absolute() != Path(control.site):
        found.append(f"{CONTROL} fixes another site ({control.site})")
    if not os.path.lexists(ROOT_PIN):
        found.append(f"{ROOT_PIN} is not there: the root key is pinned by the environment")
    elif (pin := ROOT_PIN.lstat()).st_uid != 0 or pin.st_mode & 0o022 or not stat.S_ISREG(pin.st_mode):
        found.append(f"{ROOT_PIN} is not root's alone to write")
    if os.access(control.command, os.F_OK):
        found += [
            f"{path} could be changed by others than root" for path in _loose(Path(control.command).resolve(), {0})
        ]
    else:
        found.append(f"{control.command} is not there")
    return found + _open_places(site, uid, control.user)


def _loose(path: Path, owners: set[int]) -> list[Path]:
    """``path`` and what lies above it that others than ``owners`` and root may change."""
    found = []
    for place in (path, *path.parents):
        entry = place.lstat()
        sticky = stat.S_ISDIR(entry.st_mode) and entry.st_mode & stat.S_ISVTX
        if entry.st_uid not in owners | {0} or (entry.st_mode & 0o022 and not sticky):
            found.append(place)
    return found


def _open_places(site: Site, uid: int, user: str) -> list[str]:
    """What in the site others may write to, and which of its secrets others may read."""
    found = [f"{path} is not {user}'s alone to write" for path in _loose(site.root.absolute(), {uid})]
    secret = [*(site.root / "secrets").rglob("*"), *_ssh_keys(site, user)]
    for path in sorted(site.root.iterdir()):
        inner = path.rglob("*") if path.name in {"trust", "register", "profiles", "inventory", "secrets"} else []
        for place in (path, *inner):
            entry = place.lstat()
            if entry.st_uid not in {uid, 0} or (entry.st_mode & 0o022 and not stat.S_ISLNK(entry.st_mode)):
                found.append(f"{place} is not {user}'s alone to write")
    for path in secret:
        with suppress(OSError):
            if path.is_file() and path.stat().st_mode & 0o077:
                found.append(f"{path} can be read by others")
    return found


def _ssh_keys(site: Site, user: str) -> list[Path]:
    """The SSH keys that a run would log in with: the account's own, and those that the inventory names."""
    home = Path(pwd.getpwnam(user).pw_dir)
    found = [path.with_suffix("") for path in home.glob(".ssh/id_*.pub")]
    inventory = site.root / site.config.inventory
    for path in [inventory] if inventory.is_file() else sorted(inventory.rglob("*")):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            names = re.findall(r"ansible_(?:ssh_)?private_key_file[\"']?\s*[:=]\s*[\"']?([^\s\"',}]+)", text)
            found += [home / name.removeprefix("~/") for name in names]
    return found


def not_enrolled(site: Site) -> list[str]:
    """Registered hosts whose newest evidence does not say that they checked the site's signature."""
    told: dict[str, bool] = {}
    for path in sorted(
        (site.archive / "records").glob("*/*/*/data/evidence.json"), key=lambda path: path.stat().st_mtime
    ):
        with suppress(ValueError, OSError):
            for entry in json.loads(path.read_bytes()):
                if isinstance(entry, dict) and "enrolled" in entry:
                    told[str(entry.get("host"))] = entry["enrolled"] is True
    return [server.inventory_hostname for server in site.servers.values() if not told.get(server.inventory_hostname)]
