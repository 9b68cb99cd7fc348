# SPDX-License-Identifier: Apache-2.0
"""No secret anywhere: canaries are planted where secrets live, a backup and a restore are run, and everything is searched.

Searched are the whole site (but for ``secrets/``, where its owner keeps them), the arguments and environments of all
processes of the controller and the hosts while the runs go on, and every file on the hosts, the vault's included.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import pytest
import zstandard

from tests.e2e.checks import all_verified
from tests.lab.hosts import Lab
from tests.lab.site import LICENCE_SERVICE, WEB_SERVICE
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab

ROLE = "sop_cadangan"
HOSTS = ("db01", "db02", "web01", "vault01", "file01")
#: what gets a secret: the two engines' programs, and restic
MEET = {"restic", "ssh", "pg_dump", "pg_restore", "psql", "mariadb", "mariadb-dump"}


def spellings(secret: str) -> set[bytes]:
    """The secret as it is and in Base64 at each of the three alignments (without the characters that neighbours change)."""
    found = {secret.encode()}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + secret.encode())
        found.add(text[-(-shift * 8 // 6) : len(text) - 4])
    return found


@dataclass
class Watch:
    """Looks at every process of this machine and of the containers on it, all the time, for secrets.

    ``owner`` stands in the arguments of the sopctl that was started and of nobody else: its environment is the caller's,
    canary included, and
    nobody can take it out of there; so is a child's in the moment between fork and exec, when it is still a copy of it.
    Whatever it starts has other arguments and is looked at.
    """

    needles: dict[str, set[bytes]]
    found: set[str] = field(default_factory=set)
    looks: int = 0
    samples: int = 0
    seconds: float = 0.0
    seen: set[str] = field(default_factory=set)
    processes: set[tuple[str, bytes]] = field(default_factory=set)
    owner: bytes = b""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __str__(self) -> str:
        return (
            f"{self.looks} looks in {self.seconds:.0f} s, {self.samples} samples of {len(self.processes)} processes, "
            f"{len(self.seen)} programs"
        )

    def _work(self) -> None:
        started = time.monotonic() - self.seconds
        while not self._stop.is_set():
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    self._look(process)
            self.looks += 1
            self.seconds = time.monotonic() - started

    def _look(self, process: Path) -> None:
        try:
            command = (process / "cmdline").read_bytes()
            environment = (process / "environ").read_bytes()
            began = (process / "stat").read_bytes().rpartition(b")")[2].split()[19]  # numbers come again
        except OSError:
            return  # it has ended
        self.samples += 1
        self.processes.add((process.name, began))
        own = self.owner and self.owner in command
        name = command.replace(b"\0", b" ").decode(errors="replace")[:150]
        self.seen.add(name.partition(" ")[0].rpartition("/")[2])
        for label, needles in self.needles.items():
            if any(needle in command for needle in needles):
                self.found.add(f"{label} in the arguments of {name}")
            if not own and any(needle in environment for needle in needles):
                self.found.add(f"{label} in the environment of {name}")


@dataclass
class Story:
    """The site after both runs, the canaries, and what was seen while they ran."""

    site: SiteBuilder
    canaries: dict[str, str]
    watch: Watch
    output: str


def watched(site: SiteBuilder, watch: Watch, *words: str) -> str:
    """Run a command of the operator and let the watch know which process it is."""
    watch.owner = f"\0-C\0{site.root}\0".encode()
    process = site.start(*words, as_="pelaksana")
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return said


def plant(lab: Lab, site: SiteBuilder) -> dict[str, str]:
    """Put a secret into each place where one lives; returns them by name."""
    names = (
        "caller's environment",
        "vaulted variable",
        "ansible-vault password",
        "restic password",
        "PostgreSQL password",
        "MariaDB password",
    )
    canaries = {name: f"kenari{number}{secrets.token_hex(12)}" for number, name in enumerate(names)}
    site.env |= {"LAYANAN_TOKEN": canaries["caller's environment"], "RESTIC_PASSWORD": canaries["caller's environment"]}
    private = site.root / "secrets"
    for name, value in (
        ("vault-password", canaries["restic password"]),
        ("ansible-vault", canaries["ansible-vault password"]),
        ("database", canaries["PostgreSQL password"]),
        ("licences", canaries["MariaDB password"]),
    ):
        (private / name).write_text(f"{value}\n", encoding="utf-8")
        (private / name).chmod(0o600)
    variables = site.root / "inventory/group_vars/all/rahasia.yml"
    variables.parent.mkdir(parents=True)
    variables.write_text(json.dumps({"ansible_become_password": canaries["vaulted variable"]}), encoding="utf-8")
    vault = Path(sys.executable).parent / "ansible-vault"
    command = [str(vault), "encrypt", "--vault-password-file", str(private / "ansible-vault"), str(variables)]
    subprocess.run(command, check=True, capture_output=True)
    site.edit("sop.yml", "policy:", "ansible: {vault_password_file: secrets/ansible-vault}\npolicy:")
    lab.psql(f"DROP ROLE IF EXISTS {ROLE}; CREATE ROLE {ROLE} SUPERUSER LOGIN", "postgres")
    # psql hashes it here: the server, and its log, never see the password itself.
    script = f"\\password {ROLE}\n"
    typed = f"{canaries['PostgreSQL password']}\n{canaries['PostgreSQL password']}\n"
    lab.exec("db01", ["psql", "-X", "-d", "postgres", "-c", script.strip()], user="postgres", stdin=typed.encode())
    site.dataset(
        "simpeg",
        engine="postgresql",
        server="db01",
        database="simpeg",
        connection={"host": "127.0.0.1", "user": ROLE, "password": {"file": "secrets/database"}},
        services=[WEB_SERVICE],
    )
    # the server gets what it would keep itself, MariaDB's own hash
    hashed = hashlib.sha1(hashlib.sha1(canaries["MariaDB password"].encode()).digest()).hexdigest().upper()  # noqa: S324  # MariaDB's choice
    account = f"'{ROLE}'@'127.0.0.1'"
    statement = (
        f"DROP USER IF EXISTS {account}; CREATE USER {account} IDENTIFIED BY PASSWORD '*{hashed}'; "
        f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION"
    )
    lab.exec("db02", ["mariadb", "-e", statement])
    site.dataset(
        "perizinan",
        engine="mariadb",
        server="db02",
        database="perizinan",
        connection={"host": "127.0.0.1", "user": ROLE, "password": {"file": "secrets/licences"}},
        services=[LICENCE_SERVICE],
    )
    key = (private / "run-key").read_text(encoding="utf-8").splitlines()
    return canaries | {
        "db01's REST password": lab.vault_password("db01"),
        "db02's REST password": lab.vault_password("db02"),
        **{f"run key, line {number}": line for number, line in enumerate(key[2:-1])},  # the first line is every key's
    }


@pytest.fixture(scope="module")
def story(
    lab: Lab,
    make_site: Callable[..., SiteBuilder],
    personnel: Callable[[], None],
    licences: Callable[[], None],
) -> Story:
    """Back up, verify and restore both databases with canaries everywhere, under watch."""
    site = make_site("simpeg", "perizinan")
    canaries = plant(lab, site)
    watch = Watch({name: spellings(value) for name, value in canaries.items()})
    with watch:
        output = watched(site, watch, "schedule", "run", "--due", "--json")
        watch.owner = b""
    again = Watch(watch.needles, watch.found, watch.looks, watch.samples, watch.seconds, watch.seen, watch.processes)
    case = site.approved("simpeg", "perizinan")
    with again:
        output += watched(site, again, "case", "execute", case, "--json")
    site.run("case", "inform", case, as_="pelaksana")
    site.run("case", "receive", case, as_="pemohon")
    return Story(site, canaries, again, output)


def test_the_watch_sees(story: Story) -> None:
    """It looked often enough to have met each program that gets a secret, several times a second."""
    print(f"watch: {story.watch}")
    assert story.watch.looks > 50, story.watch
    assert story.watch.looks / story.watch.seconds > 2, story.watch
    assert len(story.watch.processes) > 200, story.watch
    assert story.watch.seen >= MEET, f"{story.watch}; not met: {MEET - story.watch.seen}"


def test_the_watch_finds(lab: Lab) -> None:
    """A secret in the arguments of a host's process, or in the environment of one of this machine, does not escape it."""
    shown = f"kenari{secrets.token_hex(12)}"
    with Watch({"canary": spellings(shown)}) as watch:
        lab.exec("db01", ["sh", "-c", "sleep 2; :", shown])
        subprocess.run(["sleep", "2"], check=True, env={"SECRET": shown})
    assert any(found.startswith("canary in the arguments of sh -c sleep 2") for found in watch.found), watch.found
    assert "canary in the environment of sleep 2 " in watch.found, watch.found


def test_no_secret_in_any_process(story: Story) -> None:
    assert not story.watch.found, "\n".join(sorted(story.watch.found))


def test_no_secret_in_what_was_printed(story: Story) -> None:
    for name, canary in story.canaries.items():
        for needle in spellings(canary):
            assert needle.decode() not in story.output, name


def test_no_secret_in_the_site(story: Story) -> None:
    """Archive (its compressed streams unpacked), cases, register, .state; ``secrets/`` is the owner's own place."""
    found = []
    looked = 0
    for path in story.site.root.rglob("*"):
        if not path.is_file() or path.is_relative_to(story.site.root / "secrets"):
            continue
        looked += 1
        data = path.read_bytes()
        if path.suffix == ".zst":
            data = zstandard.ZstdDecompressor().stream_reader(data).read()
            assert b"runner_on_ok" in data
        for name, canary in story.canaries.items():
            if any(needle in data for needle in spellings(canary)):
                found.append(f"{name} in {path.relative_to(story.site.root)}")
    assert looked > 50
    assert not found, "\n".join(found)


def _files(story: Story) -> Iterator[Path]:
    """The operator's home, and what runs leave in /tmp; other commands' folders there come and go while we look."""
    for top in [story.site.home, *Path("/tmp").glob("sop-*")]:
        for folder, _, names in os.walk(top):
            yield from (Path(folder, name) for name in names)


def test_no_secret_below_the_operator_s_home(story: Story) -> None:
    """Ansible's and restic's own folders, caches and temporary files on the controller."""
    for path in _files(story):
        with suppress(FileNotFoundError):
            data = path.read_bytes() if path.is_file() else b""
            for name, canary in story.canaries.items():
                assert not any(needle in data for needle in spellings(canary)), f"{name} in {path}"


@pytest.mark.parametrize("host", HOSTS)
def test_no_secret_on_the_hosts(lab: Lab, story: Story, host: str) -> None:
    """Every file of each host that was made or changed since the host itself was made, on all its file systems."""
    needles = {needle for canary in story.canaries.values() for needle in spellings(canary)}
    command = (
        "find / /tmp /run /dev/shm /var/log/journal $(ls -d /srv/small 2>/dev/null) -xdev -type f ! -path /run/soplab-needles "
        "-cnewer /etc/soplab/ready -print0 | LC_ALL=C xargs -0 -r grep -laF -f /run/soplab-needles || true"
    )
    lab.exec(host, "mkdir -p /run && (umask 077; cat >/run/soplab-needles)", stdin=b"\n".join(sorted(needles)) + b"\n")
    try:
        found = lab.exec(host, command).splitlines()
    finally:
        lab.exec(host, "rm -f /run/soplab-needles")
    assert not found, "\n".join(found)


def test_the_records_hold(story: Story) -> None:
    all_verified(story.site)
