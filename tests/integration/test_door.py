# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl's side of the door through a real sshd, and a real rclone that reads its users while they change."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sopctl.door import Doors, derived, doors_of, hash_of
from sopctl.errors import ConfigError, ExitCode, SopctlError, VaultFailed
from sopctl.models import SecretRef
from sopctl.settings import VaultConfig
from tests.e2e.checks import wait_until
from tests.integration.door_host import LASTING, MASTER, Host, door_host, free_port

#: seconds; each renewal is an ssh, which on a busy machine takes more than one
LEASE = 12
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd wants to be root")


@pytest.fixture(scope="module")
def shared() -> Iterator[Host]:
    with door_host() as made:
        yield made


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    yield shared
    (shared.door.state / "leases.json").unlink(missing_ok=True)
    shared.door.keep()


def doors(host: Host, said: list[str] | None = None, **changes: Any) -> Doors:
    """What one command holds."""
    return Doors(host.line(**changes), (said if said is not None else []).append)


def test_password_is_good_until_the_end(host: Host) -> None:
    held = doors(host)
    password = held.password("db01")
    assert host.door.users == {"file01": LASTING, "db01": hash_of(password)}
    assert held.password("db01") == password
    other = held.password("web01")
    assert other != password
    held.close()
    assert host.door.users == {"file01": LASTING}
    held.close()
    assert held.password("db01") != password, "the next run of one command has another"
    held.close()
    assert host.door.users == {"file01": LASTING}


def test_two_machines_on_one_server(host: Host) -> None:
    """They come to one password by the nonce that the door answers; it lives as long as either."""
    first, second = doors(host), doors(host)
    assert first.password("db01") == second.password("db01")
    first.close()
    assert host.door.users["db01"] == hash_of(second.password("db01"))
    second.close()
    assert host.door.users == {"file01": LASTING}


def test_secrets_are_nowhere_to_be_seen(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither key nor master nor password stands in arguments, environment or input of ssh; only the hash goes."""
    real = shutil.which("ssh")
    script = f'#!/bin/sh\nenv >>{tmp_path}/seen\nprintf "%s\\n" "$@" >>{tmp_path}/seen\ntee -a {tmp_path}/seen | {real} "$@"\n'
    (tmp_path / "ssh").write_text(script)
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    held = doors(host)
    password = held.password("db01")
    held.close()
    seen = (tmp_path / "seen").read_text()
    key = (host.keys.folder / "client").read_text().splitlines()[1]
    assert hash_of(password) in seen
    for secret in (password, MASTER, key):
        assert secret not in seen
    for path in [*host.door.state.iterdir(), host.door.config]:
        assert password not in path.read_text()


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"key": SecretRef(file="stranger")}, ConfigError, "refuses this key"),
        ({"host_key": "ssh-ed25519 " + "A" * 68}, ConfigError, "the host key of 127.0.0.1 is not the one in sop.yml"),
        ({"port": 1}, VaultFailed, "the door does not answer (ssh: connect to host"),
        ({"key": SecretRef(file="master")}, ConfigError, "no private key of OpenSSH"),
    ],
)
def test_door_that_stays_shut(host: Host, changes: dict[str, Any], kind: type[SopctlError], told: str) -> None:
    """One line with cause and next step; nobody is let in, and nothing is left running."""
    if "host_key" in changes:
        changes = {"host_key": host.keys.make(f"other-{time.time_ns()}")}
    held = doors(host, **changes)
    with pytest.raises(kind) as raised:
        held.password("db01")
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == (ExitCode.FAILED_RESTORED if kind is VaultFailed else ExitCode.USAGE)
    held.close()
    assert host.door.users == {"file01": LASTING}


def test_server_that_the_door_is_not_for(host: Host) -> None:
    held = doors(host)
    assert held.servers() == {"db01", "web01"}
    for name, told in (("db09", "db09 is not one"), ("file01", "it has a lasting password")):
        with pytest.raises(ConfigError, match=told) as raised:
            held.password(name)
        assert raised.value.hint
    assert host.door.users == {"file01": LASTING}


def test_another_master_is_told_and_takes_nothing_away(host: Host) -> None:
    (host.keys.folder / "other").write_text("f" * 64)
    first, second = doors(host), doors(host, secret=SecretRef(file="other"))
    password = first.password("db01")
    with pytest.raises(ConfigError, match=r"another vault\.door\.secret is at work on db01"):
        second.password("db01")
    second.close()
    assert host.door.users["db01"] == hash_of(password)
    first.close()
    assert host.door.users == {"file01": LASTING}


def test_renewal_outlives_the_lease_and_a_door_that_was_away(host: Host) -> None:
    """The password stays the one that the run has, also when the lease had run out meanwhile."""
    said: list[str] = []
    held = doors(host, said, lease=LEASE)
    try:
        password = held.password("db01")
        time.sleep(LEASE + 2)
        host.door.keep()
        assert host.door.users["db01"] == hash_of(password)

        def run_out() -> bool:  # unless a renewal came in between
            (host.door.state / "leases.json").unlink(missing_ok=True)
            host.door.keep()
            return "db01" not in host.door.users

        assert wait_until(run_out, 20)
        assert wait_until(lambda: host.door.users.get("db01") == hash_of(password), 40)
        host.door.config.rename(host.door.folder / "away")
        try:
            assert wait_until(lambda: bool(said), 40)
            time.sleep(LEASE / 3 + 1)
        finally:
            (host.door.folder / "away").rename(host.door.config)
        assert len(said) == 1, "told once"
        assert f"db01 into the vault ends in {LEASE} seconds at the latest" in said[0]
    finally:
        held.close()
    assert host.door.users == {"file01": LASTING}


RUN = """
import sys, time
from pathlib import Path
from sopctl.door import Doors, Line, ending_in_order
from sopctl.models import SecretRef
from sopctl.settings import DoorConfig
class Keys:
    def __init__(self, folder): self.folder = folder
    def secret(self, ref, *_): return (self.folder / ref.file).read_text().strip()
folder, port, host_key, lease = sys.argv[1:]
config = DoorConfig(host="127.0.0.1", user="root", key=SecretRef(file="client"), host_key=host_key,
                    secret=SecretRef(file="master"), port=int(port), lease=int(lease))
held = Doors(Line(config, Keys(Path(folder)), "x"), print)
with ending_in_order():
    try:
        held.password("db01")
        print("open", flush=True)
        time.sleep(60)
    finally:
        held.close()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_command_that_is_ended(host: Host, number: signal.Signals) -> None:
    """It closes what it holds; one that is killed cannot, and its lease ends by itself."""
    words = [str(host.keys.folder), str(host.config.port), host.config.host_key, str(LEASE)]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUN), *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"open\n"
        assert "db01" in host.door.users
        run.send_signal(number)
        run.wait(20)
    if number == signal.SIGKILL:
        host.door.keep()
        assert "db01" in host.door.users
        time.sleep(LEASE + 0.2)
        host.door.keep()
    assert host.door.users == {"file01": LASTING}


# what rclone makes of it ---------------------------------------------------------------------------------------------


@pytest.fixture
def rclone(host: Host, tmp_path: Path) -> Iterator[str]:
    """rclone as the unit runs it, with the door's file of users; its address."""
    port, program = free_port(), shutil.which("rclone")
    if program is None:
        pytest.skip("there is no rclone; make deps installs it")
    for name in ("db01", "file01"):
        (tmp_path / name).mkdir()
    command = [program, "serve", "restic", "--config", "/dev/null", "--append-only", "--private-repos"]
    command += ["--htpasswd", str(host.door.state / "users"), "--addr", f"127.0.0.1:{port}", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def status(address: str, user: str, password: str) -> int:
    """What a repository's config says to these credentials: 404 where they are good, since nothing lies there."""
    known = base64.b64encode(f"{user}:{password}".encode()).decode()
    line = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    try:
        line.request("GET", f"/{user}/config", headers={"Authorization": f"Basic {known}"})
        return line.getresponse().status
    finally:
        line.close()


def test_rclone_lets_in_whom_the_door_lets_in(host: Host, rclone: str) -> None:
    """At once, both ways, twenty times over, while the one with a lasting password comes and goes."""
    held = doors(host)
    for _ in range(20):
        password = held.password("db01")
        assert [status(rclone, "db01", password), status(rclone, "file01", "password")] == [404, 404]
        held.close()
        assert [status(rclone, "db01", password), status(rclone, "file01", "password")] == [401, 404]
    assert status(rclone, "db01", "") == 401


def test_restic_through_a_lease(host: Host, rclone: str) -> None:
    held = doors(host)
    password = held.password("db01")
    env = {"PATH": os.environ["PATH"], "RESTIC_PASSWORD": "x", "HOME": str(host.keys.folder)}
    env["RESTIC_REPOSITORY"] = f"rest:{rclone}/db01/".replace("//127", f"//db01:{password}@127")

    def restic(*words: str) -> int:
        command = ["timeout", "20", "restic", "--no-cache", *words]
        return subprocess.run(command, env=env, capture_output=True, check=False).returncode

    assert restic("init") == 0
    assert restic("backup", "-q", "/etc/hostname") == 0
    held.close()
    assert restic("snapshots") != 0


# what sop.yml says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vault", "door", "told"),
    [
        ({"user_password": SecretRef(file="master")}, {}, "exclude each other"),
        ({"user": "sop"}, {}, "has the user '{server}'"),
        ({"user": None}, {}, "has the user '{server}'"),
        ({"url": "/srv/vault/{server}"}, {}, "rest:https:// url"),
        ({}, {"host": "-oProxyCommand=x"}, "'-oProxyCommand=x' is none"),
        ({}, {"user": "a b"}, "'a b' is none"),
        ({}, {"host_key": "ssh-ed25519 A\n* ssh-ed25519 B"}, "is none"),
        ({}, {"secret": SecretRef(file="short")}, "less than 32 characters"),
    ],
)
def test_settings_that_cannot_be(host: Host, vault: dict[str, Any], door: dict[str, Any], told: str) -> None:
    (host.keys.folder / "short").write_text("x" * 31)
    values = {name: getattr(host.config, name) for name in host.config.__struct_fields__}
    given = {"url": "rest:https://vault01:8000/{server}/", "user": "{server}", "password": SecretRef(file="master")}
    config = VaultConfig(**{**given, **vault, "door": type(host.config)(**{**values, **door})})
    with pytest.raises(ConfigError) as raised:
        doors_of(config, host.keys, "sop.yml:vault", print)
    assert told in str(raised.value)
    assert raised.value.where.startswith("sop.yml:vault.door")


def test_passwords_are_apart() -> None:
    made = {derived(MASTER, server, nonce * 32) for server in ("db01", "db0") for nonce in "12"}
    assert len(made) == 4
    assert {len(password) for password in made} == {64}
    assert hash_of("password") == LASTING
