# SPDX-License-Identifier: Apache-2.0
"""The vault's door, this machine's side: servers get into the vault while a run holds a lease, and not after.

What a server logs in with is derived from the master secret and a nonce, so that two runs at once on one server, also from
two machines, come to the same password without telling each other. The other side is ``module_utils/vault_door.py``.
"""

from __future__ import annotations

import atexit
import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from sopctl.errors import ConfigError, Interrupted, SopctlError, VaultFailed
from sopctl.models import Json, SecretRef
from sopctl.settings import DoorConfig, VaultConfig

#: seconds until the door must have answered, and until a line to it must be there
ANSWER, CONNECT = 30, 10
#: characters that the master secret has at least: `openssl rand -hex 32` makes 64
SECRET = 32
#: bytes of an answer; one that names hundreds of servers is shorter
LONGEST = 1 << 16
ALIAS = "sop-door"
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*", re.ASCII)
_USER = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
_HOST_KEY = re.compile(r"(?:ssh-ed25519|ecdsa-sha2-nistp\d+|ssh-rsa) [A-Za-z0-9+/]+={0,2}", re.ASCII)
_NONCE = re.compile(r"[0-9a-f]{32}", re.ASCII)
NOTHING = "Nothing was started."


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end this command as Ctrl-C does, so that what is open is closed; a run has its own way with them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise Interrupted(f"stopped by {signal.Signals(number).name}")

    before = [(number, signal.signal(number, end)) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


class Secrets(Protocol):
    """Where secrets are read: the site."""

    def secret(self, ref: SecretRef | None, where: str, values: Mapping[str, str] | None = None) -> str | None:
        """The secret that ``ref`` points to."""
        ...


def derived(master: str, server: str, nonce: str) -> str:
    """The password of ``server`` under that nonce, 64 hexadecimal digits."""
    return hmac.new(master.encode(), f"{server}\n{nonce}".encode(), hashlib.sha256).hexdigest()


def hash_of(password: str) -> str:
    """The hash as a file of users holds it. Of 256 random bits no fast hash tells anything, and it is asked thousands of times."""
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return "{SHA}" + base64.b64encode(digest).decode()


class Line:
    """The way to the door: one request by one SSH connection."""

    def __init__(self, config: DoorConfig, site: Secrets, where: str) -> None:
        self.config = config
        self.label = f"{config.user}@{config.host}"
        for name, pattern in (("host", _HOST), ("user", _USER), ("host_key", _HOST_KEY)):
            if not pattern.fullmatch(getattr(config, name)):
                hint = "It is TYPE BASE64, as `ssh-keyscan` prints them after the name." if name == "host_key" else ""
                raise ConfigError(f"{getattr(config, name)!r} is none", where=f"{where}.{name}", hint=hint)
        self._where = where
        self._key = site.secret(config.key, f"{where}.key") or ""
        self.master = site.secret(config.secret, f"{where}.secret") or ""
        if len(self.master) < SECRET:
            raise ConfigError(
                f"the secret has less than {SECRET} characters",
                where=f"{where}.secret",
                hint="Make one: openssl rand -hex 32.",
            )

    def ask(self, request: Json) -> Json:
        """What the door answers. VaultFailed when it does not, ConfigError when it or this machine is not as sop.yml says."""
        with ExitStack() as stack:
            key, known = (_in_memory(stack, f"{text}\n") for text in (self._key, f"{ALIAS} {self.config.host_key}"))
            try:
                done = subprocess.run(
                    self._command(key, known),
                    input=json.dumps(request).encode() + b"\n",
                    capture_output=True,
                    timeout=ANSWER,
                    check=False,
                    start_new_session=True,  # Ctrl-C is ours: the lease is to be closed
                    env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"},
                )
            except subprocess.TimeoutExpired:
                raise self._silent(f"no answer in {ANSWER} seconds") from None
            except OSError as error:
                raise ConfigError(f"ssh cannot start ({error.strerror})", where="ssh", hint=NOTHING) from None
        if done.returncode:
            raise self._failed(done.stderr.decode("utf-8", "replace"), done.returncode)
        return self._read(done.stdout)

    def _command(self, key: str, known: str) -> list[str]:
        """Nothing of this machine's ssh settings, agents or known hosts has a say."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": ALIAS,
            "HostKeyAlgorithms": _algorithms(self.config.host_key),
            "CheckHostIP": "no",
            "UpdateHostKeys": "no",
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
            "ConnectTimeout": str(CONNECT),
            "ServerAliveInterval": "5",
            "LogLevel": "ERROR",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        config = self.config
        return ["ssh", "-F", "none", "-T", "-i", key, "-p", str(config.port), "-l", config.user, *words, config.host]

    def _silent(self, why: str) -> VaultFailed:
        return VaultFailed(
            f"the door does not answer ({why}); no server was given a way into the vault",
            where=self.label,
            hint="See that the vault's host is up and that sopctl doctor reaches it, and run again.",
        )

    def _failed(self, said: str, code: int) -> SopctlError:
        """The cause in ssh's words, and what to do about it."""
        if "Host key verification failed" in said or "no matching host key type" in said:
            return ConfigError(
                f"the host key of {self.config.host} is not the one in sop.yml; nothing was sent",
                where=f"{self._where}.host_key",
                hint="Ask the vault's administrator for it on another way; if it was changed, write it there and sign the trust.",
            )
        if "invalid format" in said or "error in libcrypto" in said:
            return ConfigError("is no private key of OpenSSH without a pass phrase", where=f"{self._where}.key")
        if "Permission denied" in said:
            return ConfigError(
                f"the door refuses this key as {self.label}",
                where=f"{self._where}.key",
                hint="Have the vault's administrator add its public half to vault_server_door_keys.",
            )
        lines = said.strip().splitlines() or [f"ssh exited {code}"]
        return self._silent(lines[-1][:200])

    def _read(self, out: bytes) -> Json:
        answer = None
        with suppress(ValueError, RecursionError):
            answer = json.loads(out) if len(out) <= LONGEST else None
        if not isinstance(answer, dict) or not isinstance(answer.get("ok"), bool):
            raise self._silent("what came is no answer of a door")
        if not answer["ok"]:
            raise ConfigError(
                f"the door refuses: {str(answer.get('why'))[:200]}",
                where=self.label,
                hint=f"The vault's administrator decides whom it is for (vault_server_users). {NOTHING}",
            )
        return answer


def _algorithms(host_key: str) -> str:
    """With which the vault's host may prove the one key that is known of it."""
    kind = host_key.split(maxsplit=1)[0]
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind


def _in_memory(stack: ExitStack, text: str) -> str:
    """A path that ssh can read ``text`` at, and that ends with us. ssh closes what it inherits, so it is our descriptor's."""
    descriptor = os.memfd_create("sop-door")
    stack.callback(os.close, descriptor)
    os.fchmod(descriptor, 0o600)  # ssh takes no key that others may read
    os.write(descriptor, text.encode())
    return f"/proc/{os.getpid()}/fd/{descriptor}"


@dataclass
class Lease:
    """What we hold of one server: the password is good until it is closed or runs out."""

    id: str
    nonce: str
    password: str


class Doors:
    """The leases of one command. ``say`` takes what the person at the terminal must know and that ends nothing."""

    def __init__(self, line: Line, say: Callable[[str], None]) -> None:
        self._line = line
        self._say = say
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._renewing: threading.Thread | None = None
        self._told: set[str] = set()

    def password(self, server: str) -> str:
        """What ``server`` logs in with, for as long as the lease is held; the first question opens it."""
        with self._lock:
            if server not in self._leases:
                atexit.register(self.close)  # whatever ends the command, but for SIGKILL
                nonce = secrets.token_hex(16)
                # noted before it is asked for, so that Ctrl-C in the middle leaves it to be closed
                lease = self._leases[server] = Lease(secrets.token_hex(16), nonce, self._derived(server, nonce))
                try:
                    lease.nonce, lease.password = self._open(server, lease)
                except SopctlError:  # an answer that was lost on its way, or that we cannot use, has opened too
                    del self._leases[server]
                    self._close(server, lease, quietly=True)
                    raise
                self._begin()
            return self._leases[server].password

    def servers(self) -> set[str]:
        """The servers that the door is for. It is opened to none of them."""
        named = self._line.ask({"do": "look"}).get("servers")
        return {name for name in named if isinstance(name, str)} if isinstance(named, list) else set()

    def close(self) -> None:
        """End every lease; one that cannot be ended runs out by itself."""
        self._over.set()
        if self._renewing is not None:
            self._renewing.join()
        with self._lock:
            for server, lease in self._leases.items():
                self._close(server, lease)
            self._leases.clear()
            self._renewing = None
        atexit.unregister(self.close)

    def _derived(self, server: str, nonce: str) -> str:
        return derived(self._line.master, server, nonce)

    def _open(self, server: str, lease: Lease) -> tuple[str, str]:
        """Open or renew; returns nonce and password that are in force."""
        request = {
            "do": "open",
            "server": server,
            "lease": lease.id,
            "seconds": self._line.config.lease,
            "nonce": lease.nonce,
            "hash": hash_of(lease.password),
        }
        answer = self._line.ask(request)
        nonce = answer.get("nonce")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            raise VaultFailed("the door answered without a nonce", where=self._line.label, hint=NOTHING)
        password = self._derived(server, nonce)
        if answer.get("hash") != hash_of(password):
            raise ConfigError(
                f"another sopctl with another vault.door.secret is at work on {server}",
                where=self._line.label,
                hint=f"All that use one vault need the same secret. Run again when the other has ended. {NOTHING}",
            )
        return nonce, password

    def _close(self, server: str, lease: Lease, *, quietly: bool = False) -> None:
        try:
            self._line.ask({"do": "close", "server": server, "lease": lease.id})
        except SopctlError as error:
            if not quietly:
                self._say(f"{error} The lease of {server} could not be closed; it ends by itself in {self._most}.")

    @property
    def _most(self) -> str:
        return f"{self._line.config.lease} seconds"

    def _begin(self) -> None:
        """Renew from now on, until all is closed."""
        if self._renewing is None:
            self._over.clear()
            self._renewing = threading.Thread(target=self._renew, name="sop-door", daemon=True)
            self._renewing.start()

    def _renew(self) -> None:
        while not self._over.wait(self._line.config.lease / 3):
            with self._lock:
                held = list(self._leases.items())
            for server, lease in held:
                if self._over.is_set():
                    return
                self._renew_one(server, lease)

    def _renew_one(self, server: str, lease: Lease) -> None:
        """A lease that ran out meanwhile is opened with the same nonce, so that the password is the one that the run has."""
        try:
            nonce, _ = self._open(server, lease)
        except SopctlError as error:
            if server not in self._told:
                self._say(f"{error} The way of {server} into the vault ends in {self._most} at the latest.")
            self._told.add(server)
            return
        self._told.discard(server)
        if nonce != lease.nonce:  # its password is kept: the run's redactor knows no other
            self._say(
                f"{self._line.label}: {server} has another password now; what this run does there will be refused"
            )


def doors_of(vault: VaultConfig, site: Secrets, where: str, say: Callable[[str], None]) -> Doors:
    """The doors of a vault that has one. ConfigError when sop.yml says it in two ways, or so that it cannot be."""
    if vault.door is None:
        raise ConfigError("there is none", where=f"{where}.door")
    if vault.user_password:
        raise ConfigError(
            "'door' and 'user_password' exclude each other", where=f"{where}.door", hint="Remove user_password."
        )
    if vault.user != "{server}" or not vault.url.startswith(("rest:http://", "rest:https://")):
        raise ConfigError("a vault with 'door' has the user '{server}' and a rest:https:// url", where=f"{where}.door")
    return Doors(Line(vault.door, site, f"{where}.door"), say)
