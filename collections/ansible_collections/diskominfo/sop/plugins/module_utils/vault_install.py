# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Bring a host to serve a vault: user, folders, files, units. All is looked at before anything is touched."""

from __future__ import annotations

import grp
import importlib.util
import json
import os
import pwd
import re
import shutil
import ssl
import stat
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType

from ansible_collections.diskominfo.sop.plugins.module_utils import vault_door, vault_keeper, vault_units
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import write_file
from ansible_collections.diskominfo.sop.plugins.module_utils.host import evidence, one_line
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import PROGRAM_PATH
from ansible_collections.diskominfo.sop.plugins.module_utils.secretfile import SecretFile

UNITS = "/etc/systemd/system"
NAME = r"[a-z][a-z0-9-]{1,30}"
ASSET = r"[a-z0-9-]{2,32}"
HASH = r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}|\$apr1\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}"
#: a public key as an administrator gives it; options before it would be this account's rights
KEY = r"(?:ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]{40,2000}={0,2}(?: [ -~]{0,200})?"
LISTEN = r"(?:[0-9A-Za-z.-]*|\[[0-9A-Fa-f:]+\]):[1-9][0-9]{0,4}"
UNIT_OF = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
CAP_SYS_ADMIN = 21
#: seconds until a server that was started must have stayed up
STARTED = 3.0
ENV = {"PATH": PROGRAM_PATH, "LC_ALL": "C.UTF-8"}


@dataclass
class Wanted:
    """A file as it must be; ``restart``: the server reads it only when it starts; ``secret``: never shown in a diff."""

    path: str
    text: str
    mode: int
    group: int
    restart: bool = False
    secret: bool = False


def quota_bytes(user: str, text: str) -> int:
    """``500G`` as bytes; SopError naming the user when it is anything else."""
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)", text)
    if found is None:
        raise SopError(f"users: quota {text!r} of {user} is not a whole number with K, M, G or T, such as 500G")
    return int(found[1]) << UNIT_OF[found[2]]


def systemctl(*words: str) -> str:
    """What ``systemctl`` prints, whatever its exit code."""
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False, env=ENV)
    return done.stdout.strip()


def must(command: list[str], what: str) -> None:
    """Run a program; SopError with its last line when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENV)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise SopError(f"{what}: {command[0]} failed ({one_line(lines[-1])[:200]})")


def private_users_work() -> bool:
    """Whether systemd here may make user namespaces: in a container without CAP_SYS_ADMIN the unit would not start."""
    with open("/proc/1/status", encoding="ascii", errors="replace") as stream:
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", stream.read(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> CAP_SYS_ADMIN & 1)


class Installation:
    """One vault on this host."""

    def __init__(self, params: Json, check_mode: bool) -> None:
        self.params = params
        self.check_mode = check_mode
        self.changed: list[str] = []
        self.before = ""
        self.after = ""
        self.restart = False
        self.door_gid = -1

    def bring(self) -> Json:
        """Look, then bring the host there; returns the module's result."""
        self.look()
        gid = self.account(self.it.user, self.it.root)
        if self.it.door:
            self.door_gid = self.account(self.it.door_user, self.it.door_home, login="/bin/sh")
        self.folders(gid)
        fresh = [item for item in self.files(gid) if self.lay_down(item)]
        self.units(fresh)
        kept = self.check_mode or self.keep()
        it = self.it
        names = sorted(user["name"] for user in self.params["users"])
        proof = evidence("vault_server", unit=f"{it.name}.service", root=it.root, users=names, sealed_once=kept)
        result: Json = {"changed": bool(self.changed), "sop_evidence": proof}
        result["diff"] = {"before": self.before, "after": self.after}
        if not kept:
            unit = f"{it.name}-keeper.service"
            result["warnings"] = [f"{unit}: something strange lies in the vault; look with journalctl -u {unit}"]
        return result

    # before anything is touched --------------------------------------------------------------------------------

    def look(self) -> None:
        """SopError unless all that is needed is here and all that is given fits."""
        params = self.params
        if os.geteuid() != 0:
            raise SopError("refused: only root can set up a vault; set ansible_become for it")
        if not re.fullmatch(NAME, params["name"]):
            raise SopError(f"name: {params['name']!r} is not 2 to 31 lower-case letters, digits and hyphens")
        if not re.fullmatch(LISTEN, params["listen"]):
            raise SopError(f"listen: {params['listen']!r} is not ADDRESS:PORT or :PORT")
        for key in params["door_keys"]:
            if not re.fullmatch(KEY, key):
                raise SopError(f"door_keys: {key[:40]!r} is not one public key of SSH (TYPE BASE64 COMMENT)")
        self.quotas = self.checked_users()
        self.check_root(params["root"])
        self.check_certificate()
        rclone = shutil.which("rclone", path=PROGRAM_PATH)
        if rclone is None:
            raise SopError("rclone: no such program on this host; install the package rclone (1.60 or later)")
        if not os.path.isdir("/run/systemd/system"):
            raise SopError("systemd does not run on this host; a vault is served by a systemd unit")
        self.it = vault_units.Instance(
            params["name"],
            params["name"],
            params["root"],
            params["listen"],
            rclone,
            private_users_work(),
            door=bool(params["door_keys"]),
        )
        for path in self.unit_texts():
            self.check_unit(path)

    def checked_users(self) -> dict[str, int]:
        """The quota of each user in bytes; SopError naming what does not fit."""
        quotas: dict[str, int] = {}
        for user in self.params["users"]:
            name = user["name"]
            if not re.fullmatch(ASSET, name):
                raise SopError(f"users: {name!r} is not an asset id (2 to 32 lower-case letters, digits, hyphens)")
            if name in quotas:
                raise SopError(f"users: {name} stands there twice; name each server once")
            if user["password_hash"] is None:
                if not self.params["door_keys"]:
                    raise SopError(
                        f"users: {name} has no password_hash, and nobody could let it in: there are no door_keys"
                    )
            elif not re.fullmatch(HASH, user["password_hash"]):
                raise SopError(
                    f"users: password_hash of {name} is neither APR1 nor bcrypt; make it with `openssl passwd -apr1 -stdin`"
                )
            quotas[name] = quota_bytes(name, user["quota"])
        if not quotas:
            raise SopError("users: nobody is named; name at least one server")
        return quotas

    def check_root(self, root: str) -> None:
        """SopError unless the folder lies where nobody but root can exchange it."""
        if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", root) or os.path.normpath(root) != root:
            raise SopError(f"root: {root!r} is not an absolute path of letters, digits and . _ -")
        above = os.path.dirname(root)
        while True:
            found = os.stat(above, follow_symlinks=False) if os.path.lexists(above) else None
            if found is not None and (not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022):
                raise SopError(f"root: {above} is not a folder that only root may write to; choose another place")
            if above == "/":
                break
            above = os.path.dirname(above)
        if os.path.lexists(root) and not stat.S_ISDIR(os.lstat(root).st_mode):
            raise SopError(f"root: {root} is not a folder; remove it or choose another place")

    def check_certificate(self) -> None:
        """SopError unless the certificate and the key belong together."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pems = (self.params["certificate"].encode(), self.params["key"].encode())
        with SecretFile(pems[0]) as certificate, SecretFile(pems[1]) as key:
            try:
                context.load_cert_chain(certificate.path, key.path, password=lambda: "")
            except (ssl.SSLError, ValueError) as error:
                raise SopError(
                    f"certificate, key: not a PEM certificate and its key without a pass phrase ({one_line(error)[:120]})"
                ) from error

    def check_unit(self, path: str) -> None:
        """SopError when somebody else's unit has the name."""
        if not os.path.lexists(path):
            return
        with open(path, encoding="utf-8", errors="replace") as stream:
            if os.path.islink(path) or not stream.read().startswith(vault_units.MARK):
                raise SopError(f"{path} was not written by this module; choose another name, or remove it by hand")

    # what lies there -------------------------------------------------------------------------------------------

    def note(self, what: str, before: str = "", after: str = "") -> None:
        """Something is to be changed."""
        self.changed.append(what)
        self.before += before
        self.after += after or f"{what}\n"

    def account(self, user: str, home: str, login: str = "/usr/sbin/nologin") -> int:
        """A system user with a group of its own; returns its group's id, -1 while it does not exist in check mode."""
        try:
            found = pwd.getpwnam(user)
        except KeyError:
            self.note(f"system user {user}")
            if self.check_mode:
                return -1
            # the password is none that matches, and not a locked one: sshd may refuse a locked account its keys too
            words = ["--system", "--user-group", "--no-create-home", "--home-dir", home, "--shell", login]
            must(["useradd", *words, "--password", "*", user], f"user {user}")
            found = pwd.getpwnam(user)
        nobody = ("nologin", "false")
        fits = found.pw_shell.endswith(nobody) if login.endswith(nobody) else found.pw_shell == login
        if found.pw_uid == 0 or not fits:
            raise SopError(
                f"user {user}: is there already with the shell {found.pw_shell}; choose another name for the vault"
            )
        if grp.getgrgid(found.pw_gid).gr_name != user:
            raise SopError(f"user {user}: is there already with another group than its own; choose another name")
        return found.pw_gid

    def folders(self, gid: int) -> None:
        """The folders, each server's too. What the keeper has closed or sealed in them stays so."""
        it = self.it
        places = [(it.etc, 0, gid, 0o750, True), (os.path.dirname(it.keeper), 0, 0, 0o755, True)]
        places += [(it.root, 0, gid, 0o750, True)]
        places += [(os.path.join(it.root, name), 0, gid, 0o1770, False) for name in self.quotas]
        if it.door:
            places += [(path, 0, 0, 0o755, True) for path in (it.door_home, f"{it.door_home}/.ssh")]
            owner = pwd.getpwnam(it.door_user).pw_uid if self.door_gid >= 0 else -1
            places += [(it.door_state, owner, gid, 0o2750, True)]  # what lies in it has the server's group
        for path, owner, group, mode, exact in places:
            found = os.lstat(path) if os.path.lexists(path) else None
            if found is not None and not stat.S_ISDIR(found.st_mode):
                raise SopError(f"{path}: is not a folder; look who made it, then remove it by hand")
            ours = found is not None and (found.st_uid, found.st_gid) == (owner, group)
            if ours and found is not None and (not exact or stat.S_IMODE(found.st_mode) == mode):
                continue
            self.note(f"folder {path}")
            if not self.check_mode:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                with suppress(FileExistsError):
                    os.mkdir(path, 0o700)
                os.chown(path, owner, group, follow_symlinks=False)
                os.chmod(path, mode)

    def unit_texts(self) -> dict[str, str]:
        """Path and text of each unit."""
        it = self.it
        made = {"": vault_units.server_unit(it), "-keeper": vault_units.keeper_unit(it)}
        timers = {"-keeper": vault_units.keeper_timer(it)}
        if it.door:
            made["-door"], timers["-door"] = vault_units.door_unit(it), vault_units.door_timer(it)
        units = {f"{UNITS}/{it.name}{kind}.service": text for kind, text in made.items()}
        return {**units, **{f"{UNITS}/{it.name}{kind}.timer": text for kind, text in timers.items()}}

    def files(self, gid: int) -> list[Wanted]:
        """Every file."""
        it, params = self.it, self.params
        users = sorted(params["users"], key=lambda user: str(user["name"]))
        htpasswd = "".join(f"{user['name']}:{user['password_hash']}\n" for user in users if user["password_hash"])
        keeper = {"root": it.root, "user": it.user, "quotas": dict(sorted(self.quotas.items()))}
        pems = [params[name].strip() + "\n" for name in ("certificate", "key")]
        units = self.unit_texts()
        return [
            Wanted(f"{it.etc}/htpasswd", htpasswd, 0o640, gid, secret=True),
            Wanted(f"{it.etc}/server.pem", pems[0], 0o640, gid, restart=True),
            Wanted(f"{it.etc}/server.key", pems[1], 0o640, gid, restart=True, secret=True),
            Wanted(f"{it.etc}/rclone.conf", "", 0o640, gid, restart=True),
            Wanted(f"{it.etc}/keeper.json", json.dumps(keeper, indent=2) + "\n", 0o644, 0),
            Wanted(it.keeper, source_of(vault_keeper), 0o644, 0),
            *self.door_files(),
            *(
                Wanted(path, text, 0o644, 0, restart=path.endswith(f"/{it.name}.service"))
                for path, text in units.items()
            ),
        ]

    def door_files(self) -> list[Wanted]:
        """What the door needs; where it is no longer wanted, nobody gets in by it."""
        it, keys = self.it, f"{self.it.door_home}/.ssh/authorized_keys"
        if not it.door:
            return [Wanted(keys, "", 0o644, 0)] if os.path.lexists(keys) else []
        given = {user["name"]: user["password_hash"] for user in self.params["users"]}
        door = {
            "users": {name: text for name, text in sorted(given.items()) if text},
            "servers": sorted(name for name, text in given.items() if not text),
            "state": it.door_state,
        }
        lines = "".join(f'restrict,command="{it.door_command}" {key}\n' for key in self.params["door_keys"])
        return [
            Wanted(f"/usr/local/lib/{it.name}/vault_door.py", source_of(vault_door), 0o644, 0),
            Wanted(f"{it.door_home}/door.json", json.dumps(door, indent=2) + "\n", 0o640, self.door_gid, secret=True),
            Wanted(keys, lines, 0o644, 0),
        ]

    def lay_down(self, item: Wanted) -> bool:
        """Write a file whole, where it differs; whether it did."""
        found = os.lstat(item.path) if os.path.lexists(item.path) else None
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise SopError(f"{item.path}: is not a regular file; look who made it, then remove it by hand")
        old = None
        if found is not None:
            with open(item.path, encoding="utf-8", errors="replace") as stream:
                old = stream.read()
            if old == item.text and (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (
                0,
                item.group,
                item.mode,
            ):
                return False
        self.restart = self.restart or (item.restart and old != item.text)
        shown = (
            ("", f"{item.path} (not shown)\n") if item.secret else (old or "", item.text or f"{item.path} (empty)\n")
        )
        self.note(item.path, *shown)
        if not self.check_mode:
            write_file(item.path, item.text, item.mode, item.group)
        return True

    # running ---------------------------------------------------------------------------------------------------

    def units(self, fresh: list[Wanted]) -> None:
        """Server and timer are enabled and run with what lies there."""
        server, timers = f"{self.it.name}.service", [f"{self.it.name}-keeper.timer"]
        door = f"{self.it.name}-door"
        if any(item.path.startswith(UNITS) for item in fresh) and not self.check_mode:
            must(["systemctl", "daemon-reload"], "units")
        if self.it.door:
            timers.append(f"{door}.timer")
            if not self.check_mode:  # the file of users is there before the server asks for it
                must(["systemctl", "start", f"{door}.service"], f"{door}.service")
        elif systemctl("is-enabled", f"{door}.timer") == "enabled":
            self.note(f"{door}.timer disabled")
            if not self.check_mode:
                must(["systemctl", "--quiet", "disable", "--now", f"{door}.timer"], door)
        for unit in (server, *timers):
            if systemctl("is-enabled", unit) != "enabled":
                self.note(f"{unit} enabled")
                if not self.check_mode:
                    must(["systemctl", "--quiet", "enable", unit], unit)
            again = self.restart if unit == server else any(item.path.endswith(f"/{unit}") for item in fresh)
            if again or systemctl("is-active", unit) != "active":
                self.note(f"{unit} started")
                if not self.check_mode:
                    must(["systemctl", "restart", unit], unit)
        if f"{server} started" in self.changed and not self.check_mode:
            self.stays_up(server)

    def stays_up(self, unit: str) -> None:
        """SopError with its last words unless the server stays up."""
        time.sleep(STARTED)
        if systemctl("is-active", unit) == "active" and systemctl("show", "-P", "NRestarts", unit) == "0":
            return
        said = subprocess.run(
            ["journalctl", "-u", unit, "-n", "3", "-o", "cat", "_COMM=rclone"],
            capture_output=True, text=True, check=False, env=ENV,
        )  # fmt: skip
        raise SopError(f"{unit} does not stay up ({one_line(said.stdout)[-300:]}); look with journalctl -u {unit}")

    def keep(self) -> bool:
        """Run the keeper once; False when it found something strange."""
        done = subprocess.run(
            ["systemctl", "start", f"{self.it.name}-keeper.service"], capture_output=True, check=False, env=ENV
        )
        return done.returncode == 0


def source_of(module: ModuleType) -> str:
    """A module's own file, also when this one runs out of Ansible's archive."""
    spec = importlib.util.find_spec(module.__name__)
    source = spec.loader.get_source(spec.name) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]  # both loaders that can be here have it
    if source is None:
        raise SopError(f"the source of {module.__name__} cannot be read, so it cannot be laid down; report this")
    return str(source)
