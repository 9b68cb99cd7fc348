"""The lab's keys and passwords: made once into .cache/lab, mode 0600, never on a command line."""

from __future__ import annotations

import hashlib
import os
import secrets as random
from dataclasses import dataclass
from pathlib import Path

from tests.lab.system import run

VAULT_USERS = ("db01", "web01", "file01", "db02", "db03")
# The applications' database accounts, and the hosts that are told their passwords.
ACCOUNTS = {"simpeg_app": ("db01", "web01"), "perizinan_app": ("db02", "web01")}


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner ever could read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(content)


@dataclass(frozen=True)
class Secrets:
    """Where the lab's secrets lie under its cache."""

    root: Path

    @property
    def operator_key(self) -> Path:
        """The SSH key that Ansible logs in with."""
        return self.root / "operator_ed25519"

    @property
    def ca(self) -> Path:
        """The certificate of the lab's own authority, which clients of the vault must trust."""
        return self.root / "tls" / "ca.pem"

    def password_file(self, name: str) -> Path:
        """The file that holds one password: `vault-<host>` or an account's name."""
        return self.root / "secrets" / name

    def ensure(self, vault_address: str) -> None:
        """Make what is missing."""
        for name in (*ACCOUNTS, *(f"vault-{user}" for user in VAULT_USERS)):
            if not self.password_file(name).exists():
                write_private(self.password_file(name), random.token_urlsafe(24))
        if not self.operator_key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sopop@lab", "-f", str(self.operator_key)])
        self._certificates(vault_address)

    def digest(self) -> str:
        """One hash over everything that the hosts were given: hosts with another one are strangers."""
        paths = [self.ca, self.root / "tls" / "server.pem", self.operator_key.with_suffix(".pub")]
        paths += sorted((self.root / "secrets").iterdir())
        return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()

    def files_of(self, host: str) -> dict[str, bytes]:
        """What a host gets of it: path in the host (without the leading slash) and content."""
        files = {"etc/soplab/operator.pub": self.operator_key.with_suffix(".pub").read_bytes()}
        for account, hosts in ACCOUNTS.items():
            if host in hosts:
                files[f"etc/soplab/{account}"] = self.password_file(account).read_bytes()
        if host == "vault01":
            files["etc/vault/htpasswd"] = "".join(self._htpasswd_line(user) for user in VAULT_USERS).encode()
            files["etc/vault/server.pem"] = (self.root / "tls" / "server.pem").read_bytes()
            files["etc/vault/server.key"] = (self.root / "tls" / "server.key").read_bytes()
        return files

    def _htpasswd_line(self, user: str) -> str:
        password = self.password_file(f"vault-{user}").read_bytes() + b"\n"
        done = run(["openssl", "passwd", "-apr1", "-stdin"], stdin=password)
        return f"{user}:{done.stdout.decode().strip()}\n"

    def _certificates(self, vault_address: str) -> None:
        """The authority, and the vault's certificate for its name and its address (a new one when that changed)."""
        folder = self.root / "tls"
        folder.mkdir(mode=0o700, exist_ok=True)
        authority = ["-CA", str(self.ca), "-CAkey", str(folder / "ca.key")]
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        if not self.ca.exists():
            extensions = ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
            files = ["-keyout", str(folder / "ca.key"), "-out", str(self.ca)]
            run([*new, "-days", "3650", "-subj", "/CN=soplab authority", *extensions, *files])
        names = f"subjectAltName=DNS:vault01,IP:{vault_address}"
        marker = folder / "names"
        if marker.exists() and marker.read_text(encoding="utf-8") == names:
            return
        extensions = ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"]
        files = ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.pem")]
        run([*new, *authority, "-days", "800", "-subj", "/CN=vault01", *extensions, *files])
        marker.write_text(names, encoding="utf-8")
