# SPDX-License-Identifier: Apache-2.0
"""A vault's host on this machine: a real sshd that knows nothing but the door, and the door's folders as the role makes them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import vault_door

from sopctl.door import Line
from sopctl.models import SecretRef
from sopctl.settings import DoorConfig

Json = dict[str, Any]
LASTING = "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="  # of "password"
MASTER = "0123456789abcdef" * 4


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass
class Door:
    """Folder and configuration of a door; each request is a process of its own, as sshd starts it."""

    folder: Path

    def __post_init__(self) -> None:
        self.state, self.config = self.folder / "state", self.folder / "door.json"
        self.state.mkdir()
        door = {"users": {"file01": LASTING}, "servers": ["db01", "web01"], "state": str(self.state)}
        self.config.write_text(json.dumps(door))
        assert self.keep().returncode == 0

    @property
    def command(self) -> list[str]:
        """As authorized_keys has it."""
        return [sys.executable, "-I", str(vault_door.__file__), str(self.config)]

    @property
    def users(self) -> dict[str, str]:
        """The file of users as the server reads it."""
        lines = (self.state / "users").read_text().splitlines()
        return dict(line.split(":", 1) for line in lines)

    def raw(self, data: bytes) -> subprocess.CompletedProcess[bytes]:
        """One call."""
        return subprocess.run(self.command, input=data, capture_output=True, check=False, timeout=60)

    def ask(self, **request: object) -> Json:
        """A request and its answer."""
        done = self.raw(json.dumps(request).encode() + b"\n")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.count(b"\n") == 1
        return dict(json.loads(done.stdout))

    def keep(self) -> subprocess.CompletedProcess[bytes]:
        """The timer's minute has come."""
        return subprocess.run([*self.command, "keep"], capture_output=True, check=False, timeout=60)


@dataclass
class Keys:
    """This machine as one who may open doors; a secret's ``file`` is a name in its folder."""

    folder: Path

    def make(self, name: str) -> str:
        """A key pair; its public half."""
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name)]
        subprocess.run(command, check=True)
        return " ".join((self.folder / f"{name}.pub").read_text().split()[:2])

    def secret(self, ref: SecretRef | None, _where: str, _values: object = None) -> str | None:
        """As Site.secret."""
        return None if ref is None or ref.file is None else (self.folder / ref.file).read_text().strip()


@dataclass
class Host:
    """A door behind sshd."""

    door: Door
    keys: Keys
    config: DoorConfig

    def line(self, **changes: Any) -> Line:
        """A way to it; ``changes`` to what sop.yml says."""
        values = {name: getattr(self.config, name) for name in self.config.__struct_fields__}
        return Line(DoorConfig(**{**values, **changes}), self.keys, "sop.yml:vault.door")


@contextmanager
def door_host(lease: int = 60) -> Iterator[Host]:
    """sshd and door until the end of the block; root's, because sshd wants to be."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if sshd is None:  # make deps does not install it: the package opens this machine to the network
        pytest.skip("there is no sshd on this machine (openssh-server)")
    folder = Path(tempfile.mkdtemp(prefix="sop-door-"))
    keys = Keys(folder)
    host_key, client = keys.make("host"), keys.make("client")
    keys.make("stranger")
    (folder / "master").write_text(MASTER)
    (folder / "door").mkdir()
    door = Door(folder / "door")
    allowed = folder / "authorized_keys"
    allowed.write_text(f'restrict,command="{" ".join(door.command)}" {client}\n')
    port = free_port()
    settings = [f"Port {port}", "ListenAddress 127.0.0.1", f"HostKey {folder / 'host'}", "PidFile none", "UsePAM no"]
    settings += [f"AuthorizedKeysFile {allowed}", "StrictModes no", "PermitRootLogin yes", "PasswordAuthentication no"]
    (folder / "sshd_config").write_text("\n".join(settings) + "\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        config = DoorConfig(
            host="127.0.0.1",
            user="root",
            key=SecretRef(file="client"),
            host_key=host_key,
            secret=SecretRef(file="master"),
            port=port,
            lease=lease,
        )
        yield Host(door, keys, config)
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder)
