"""The test lab: six Debian hosts with systemd, as podman containers on a network of their own, reached over SSH.

    python3 tests/lab/lab.py up [--install]   make or start what is missing, write .cache/lab (safe to repeat)
    python3 tests/lab/lab.py status           say what runs; exit 1 unless all of it does
    python3 tests/lab/lab.py data --mb 1024   make db01's personnel database anew, about this large (--database perizinan)
    python3 tests/lab/lab.py down [--image]   remove this checkout's containers, network and files (and the image)

db01     PostgreSQL 15 with database simpeg (owner simpeg_owner, application role simpeg_app over the network), restic
db02     MariaDB 10.11 with database perizinan (application account perizinan_app over the network), restic
db03     a second PostgreSQL 15 with the small database arsip, restic; proofs by restore of other servers can be made here
web01    nginx before simpeg-web.service, which writes to db01: POST /transaksi, GET /health; on port 8080 before
         perizinan-web.service, which writes to db02 in the same words
vault01  restic repositories over TLS, append-only, a user a host; on a second port one of 24 MB that a test can fill
file01   plain files in /srv/berkas, where berkas-web.service (port 8091) files letters; antrean.service on SQLite in
         /srv/antrean/antrean.db (port 8090)

The data of db01, db02 and file01 lies on a disk of its own each, which a test can fill (tests/lab/disks.py).

Needs root (or sudo without a password) and the packages that the error message names; nothing but the standard library.
.cache/lab then holds inventory.yml, known_hosts, lab.json (read it through tests/lab/hosts.py), keys and passwords.
Names carry a hash of the checkout's path, so two clones have two labs; the image's tag is its recipe's hash: it is shared.
With SOPLAB=NAME all of this, tests included, is about another lab of the same checkout, in .cache/lab-NAME.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import containers, disks, image, system  # noqa: E402 - this file is run by its path, before any installation
from tests.lab.hosts import CACHE, NAME, Host, Lab  # noqa: E402
from tests.lab.keys import VAULT_USERS, Secrets  # noqa: E402
from tests.lab.probe import wait_healthy  # noqa: E402

PREFIX = f"soplab-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}{NAME and f'-{NAME}'}"
FIRST_MEGABYTES = 8


def say(line: str) -> None:
    """One line of progress, seen at once even through a pipe."""
    print(f"lab: {line}", flush=True)


def up(*, install: bool) -> None:
    """Bring the whole lab up and write its files; every step is skipped when its result is there."""
    started = time.monotonic()
    system.require(install=install)
    name = image.ensure_image(CACHE)
    network = containers.ensure_network(PREFIX)
    secrets = Secrets(CACHE)
    secrets.ensure(network.addresses["vault01"])
    done = containers.ensure_hosts(name, network, secrets)
    for host, what in done.items():
        say(f"{what:7} {host:8} {network.addresses[host]}")
    lab = write_files(network, secrets, name)
    if "simpeg" not in lab.databases():
        size = lab.generate(FIRST_MEGABYTES)
        say(f"made database simpeg on db01, {size / 1e6:.0f} MB")
    elif not wait_healthy(f"{lab.web_url}/health", 5):
        say("the application does not take its database: half made, or left by a broken test; making it anew")
        lab.generate(FIRST_MEGABYTES)
    if "perizinan" not in lab.mysql("SHOW DATABASES", "mysql").split() or not wait_healthy(
        f"{lab.licence_url}/health", 5
    ):
        size = lab.generate(FIRST_MEGABYTES, "perizinan")
        say(f"made database perizinan on db02, {size / 1e6:.0f} MB")
    for label, url in health_urls(lab):
        if not wait_healthy(url, 15):
            look = f"podman exec {PREFIX}-{label} journalctl -e"
            raise system.LabError(f"lab: {label}: {url} does not answer 200; look with `{look}`")
    probe_vault(lab)
    say(f"up after {time.monotonic() - started:.1f} s; inventory {lab.inventory.relative_to(ROOT)}")


def health_urls(lab: Lab) -> list[tuple[str, str]]:
    """Each application's health address, and the host it runs on."""
    applications = {"web01": (lab.web_url, lab.licence_url), "file01": (lab.queue_url, lab.filing_url)}
    return [(host, f"{url}/health") for host, urls in applications.items() for url in urls]


def probe_vault(lab: Lab) -> None:
    """The vault must answer over TLS, under its own authority, to its own users and to nobody else."""
    vault = lab.facts["vault"]
    wanted = "401"
    for key in ("url", "small_url"):
        base = str(vault[key]).split("@")[1].split("/")[0]
        argv = ["curl", "--silent", "--max-time", "2", "--retry", "20", "--retry-connrefused", "--retry-delay", "0"]
        argv += ["--cacert", "/dev/stdin", "--output", "/dev/null", "--write-out", "%{http_code}", f"https://{base}/"]
        answer = lab.exec("db01", argv, stdin=lab.ca.read_bytes(), check=False)
        if answer != wanted:
            raise system.LabError(
                f"lab: vault01: https://{base}/ answered {answer or 'nothing'} instead of {wanted}; "
                f"look with `podman exec {PREFIX}-vault01 journalctl -e`"
            )


def describe(host: str, address: str) -> Host:
    """Read a host's identity from inside, never over the network."""
    container = f"{PREFIX}-{host}"
    lines = system.podman("exec", container, "cat", "/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub").splitlines()
    return Host(host, address, lines[0].strip(), " ".join(lines[1].split()[:2]), container)


def write_files(network: containers.Network, secrets: Secrets, image_name: str) -> Lab:
    """Write lab.json, inventory.yml and known_hosts, and load them again as a test would."""
    hosts = [describe(host, address) for host, address in network.addresses.items()]
    inventory, known_hosts = CACHE / "inventory.yml", CACHE / "known_hosts"
    vault = f"rest:https://{{user}}:{{password}}@{network.addresses['vault01']}"
    facts = {
        "prefix": PREFIX,
        "image": image_name,
        "network": {"name": network.name, "subnet": network.subnet},
        "hosts": {
            host.name: {
                "ip": host.ip,
                "machine_id": host.machine_id,
                "ssh_host_key": host.ssh_host_key,
                "container": host.container,
            }
            for host in hosts
        },
        "inventory": str(inventory),
        "ssh": {"user": "sopop", "private_key": str(secrets.operator_key), "known_hosts": str(known_hosts)},
        "vault": {
            "host": "vault01",
            "url": f"{vault}:8000/{{user}}/",
            "small_url": f"{vault}:8001/{{user}}/",
            "root": "/srv/vault",
            "small_root": "/srv/small",
            "ca": str(secrets.ca),
            "users": {user: {"password_file": str(secrets.password_file(f"vault-{user}"))} for user in VAULT_USERS},
        },
        "postgresql": {
            "host": "db01",
            "database": "simpeg",
            "owner": "simpeg_owner",
            "app_role": "simpeg_app",
            "app_password_file": str(secrets.password_file("simpeg_app")),
            "os_user": "postgres",
        },
        "mariadb": {
            "host": "db02",
            "database": "perizinan",
            "app_account": "perizinan_app",
            "app_password_file": str(secrets.password_file("perizinan_app")),
        },
        "licences": {
            "host": "web01",
            "unit": "perizinan-web.service",
            "url": f"http://{network.addresses['web01']}:8080",
        },
        "disks": disks.PLACES if disks.limited() else {},
        "web": {"host": "web01", "unit": "simpeg-web.service", "url": f"http://{network.addresses['web01']}"},
        "queue": {
            "host": "file01",
            "unit": "antrean.service",
            "url": f"http://{network.addresses['file01']}:8090",
            "database": "/srv/antrean/antrean.db",
        },
        "files": {
            "host": "file01",
            "path": "/srv/berkas",
            "unit": "berkas-web.service",
            "url": f"http://{network.addresses['file01']}:8091",
        },
    }
    replace(known_hosts, "".join(f"{host.name} {host.ssh_host_key}\n" for host in hosts))
    replace(inventory, inventory_text(hosts, secrets, known_hosts))
    replace(CACHE / "lab.json", json.dumps(facts, indent=2) + "\n")
    return Lab.load()


def inventory_text(hosts: list[Host], secrets: Secrets, known_hosts: Path) -> str:
    """The Ansible inventory: JSON, which is YAML that no path can break. Host keys are known by the host's name."""
    common: dict[str, Any] = {
        "ansible_user": "sopop",
        "ansible_become": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(secrets.operator_key),
    }
    options = f"-o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"{known_hosts}\"'"
    # A path with a space in it needs ssh's own quotes inside the shell's: UserKnownHostsFile takes a list.
    members = {
        host.name: {"ansible_host": host.ip, "ansible_ssh_common_args": f"{options} -o HostKeyAlias={host.name}"}
        for host in hosts
    }
    return json.dumps({"all": {"children": {"lab": {"hosts": members, "vars": common}}}}, indent=2) + "\n"


def replace(path: Path, content: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_suffix(path.suffix + ".tmp")
    fresh.write_text(content, encoding="utf-8")
    fresh.replace(path)


def down(*, images: bool) -> None:
    """Remove what this checkout's lab consists of, and nothing else."""
    if "podman" in system.missing_programs():
        say("nothing to remove: podman is not installed")
        return
    system.require(install=False)
    for what in containers.remove(PREFIX):
        say(f"removed {what}")
    if images:
        image.forget_images()
    if CACHE.exists():
        shutil.rmtree(CACHE)
        say(f"removed {CACHE.relative_to(ROOT)}")
    say("down")


def status() -> None:
    """Print a line a host; LabError unless all of them run and both services answer."""
    system.require(install=False)
    lab = Lab.load()
    lost = []
    for host in lab.hosts.values():
        found = system.inspect("container", host.container)
        state = found["State"]["Status"] if found else "missing"
        if state != "running":
            lost.append(host.name)
        print(f"{host.name:8} {state:8} {host.ip:15} {host.container}")
    for host_name, url in health_urls(lab):
        answers = wait_healthy(url, 2)
        print(f"{host_name:8} {'healthy' if answers else 'down':8} {url}")
        if not answers:
            lost.append(url)
    if lost:
        raise system.LabError(f"lab: not up: {', '.join(lost)}; run `make lab`")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="lab.py", description="The test lab (see this file's head).")
    commands = parser.add_subparsers(dest="command", required=True)
    verb = commands.add_parser("up", help="make or start what is missing")
    verb.add_argument("--install", action="store_true", help="install missing Debian packages first")
    verb = commands.add_parser("down", help="remove this checkout's lab")
    verb.add_argument("--image", action="store_true", help="the image too")
    commands.add_parser("status", help="say what runs")
    verb = commands.add_parser("data", help="make a database anew")
    verb.add_argument("--database", choices=["simpeg", "perizinan"], default="simpeg", help="default simpeg, on db01")
    verb.add_argument("--mb", type=int, default=FIRST_MEGABYTES, help=f"megabytes, about (default {FIRST_MEGABYTES})")
    return parser.parse_args(arguments)


def main() -> int:
    """Run one command under this checkout's lock; errors are one line."""
    options = parse()
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (CACHE.parent / "lab.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if options.command == "up":
                CACHE.mkdir(mode=0o700, exist_ok=True)
                up(install=options.install)
            elif options.command == "down":
                down(images=options.image)
            elif options.command == "status":
                status()
            else:
                started = time.monotonic()
                size = Lab.load().generate(options.mb, options.database)
                say(f"database {options.database}: {size / 1e6:.0f} MB in {time.monotonic() - started:.0f} s")
    except system.LabError as error:
        print(error, file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("lab: interrupted; `make lab` goes on from here, `make lab-down` cleans up", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
