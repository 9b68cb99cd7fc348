"""The lab's hosts as podman containers: made, filled with their files, set up, started again, removed."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import resource
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.lab import disks
from tests.lab.keys import Secrets
from tests.lab.system import LabError, inspect, podman, run

HERE = Path(__file__).resolve().parent
READY = "/etc/soplab/ready"
LABEL = "soplab.fingerprint"
# Name of each host and the last number of its address in the lab's network.
ADDRESSES = {"db01": 11, "web01": 12, "vault01": 13, "file01": 14, "db02": 15, "db03": 16}
# What each host serves with.
UNITS = {
    "db01": ("ssh.service", "postgresql@15-main.service"),
    "db02": ("ssh.service", "mariadb.service"),
    "db03": ("ssh.service", "postgresql@15-main.service"),
    "web01": ("ssh.service", "simpeg-web.service", "perizinan-web.service", "nginx.service"),
    "vault01": ("ssh.service", "vault@vault.service", "vault@small.service"),
    "file01": ("ssh.service", "antrean.service", "berkas-web.service"),
}
# A vault that a test can fill up: systemd sees it as an ordinary mount.
EXTRA = {"vault01": ["--tmpfs", "/srv/small:rw,size=24m,mode=0755"], "db01": ["--shm-size", "512m"]}
# What units did outlives a killed host; podman would put memory there.
JOURNAL = ["--volume", "/var/log/journal"]


@dataclass(frozen=True)
class Network:
    """The lab's own network, and the address of each host in it."""

    name: str
    subnet: str
    addresses: dict[str, str]


def ensure_network(prefix: str) -> Network:
    """Make the network unless it is there; podman picks a free subnet."""
    found = inspect("network", prefix)
    if found is None:
        podman("network", "create", "--disable-dns", prefix)
        found = inspect("network", prefix)
    if found is None:
        raise LabError(f"lab: podman made network {prefix} and does not know it; run `podman network ls`")
    subnet = ipaddress.ip_network(found["subnets"][0]["subnet"])
    return Network(prefix, str(subnet), {host: str(subnet[number]) for host, number in ADDRESSES.items()})


def fingerprint(image: str, network: Network, secrets: Secrets) -> str:
    """The hash of everything that goes into the hosts: another one means they must be made anew."""
    digest = hashlib.sha256(
        f"{image}\n{network}\n{secrets.digest()}\n{EXTRA}\n{disks.PLACES}{disks.SIZE}{JOURNAL}\n".encode()
    )
    for path in sorted([*(HERE / "files").rglob("*"), *(HERE / "setup").glob("*.sh")]):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(HERE)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def limits() -> list[str]:
    """Limits that systemd lives with and the caller may give: runc refuses more than the caller's hard limit."""
    limits = []
    for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(kind)[1]
        value = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
        limits += ["--ulimit", f"{name}={value}:{value}"]
    return limits


def _archive(host: str, secrets: Secrets) -> bytes:
    """The host's files (common and its own, then its secrets) as a tar to lay over its root."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:

        def add(name: str, content: bytes, mode: int) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, int(time.time())
            tar.addfile(entry, io.BytesIO(content))

        for root in (HERE / "files" / "common", HERE / "files" / host):
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    add(str(path.relative_to(root)), path.read_bytes(), 0o644)
        for name, content in secrets.files_of(host).items():
            add(name, content, 0o600)
    return stream.getvalue()


def _create(host: str, image: str, network: Network, secrets: Secrets, mark: str) -> None:
    name = f"{network.name}-{host}"
    podman("rm", "--force", "--ignore", "--volumes", "--time", "0", name)
    disk = disks.fresh(network.name, host, secrets.root / "disks")
    names = [f"--add-host={other}:{address}" for other, address in network.addresses.items() if other != host]
    podman(
        *("run", "--detach", "--name", name, "--hostname", host, "--systemd=always", "--label", f"{LABEL}={mark}"),
        *(
            "--network",
            network.name,
            "--ip",
            network.addresses[host],
            *names,
            *limits(),
            *EXTRA.get(host, []),
            *disk,
            *JOURNAL,
        ),
        *(image, "/sbin/init"),
        timeout=120,
    )
    podman("exec", "-i", name, "tar", "-x", "-C", "/", "--no-same-owner", stdin=_archive(host, secrets))
    wait_for_systemd(name)
    script = f"set -eu\nSOPLAB_SUBNET={network.subnet}\n"
    script += "".join((HERE / "setup" / f"{part}.sh").read_text(encoding="utf-8") for part in ("common", host))
    podman("exec", "-i", name, "sh", "-s", stdin=f"{script}\n: >{READY}\n".encode(), timeout=120)


def wait_for_systemd(name: str) -> None:
    """Wait until systemd in the container has started what it starts; LabError naming what failed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done = run(["podman", "exec", name, "systemctl", "is-system-running", "--wait"], root=True, check=False)
        state = done.stdout.decode().strip()
        if state == "running":
            return
        if state == "degraded":
            failed = podman("exec", name, "systemctl", "--failed", "--plain", "--no-legend", check=False)
            units = " ".join(line.split()[0] for line in failed.splitlines())
            raise LabError(f"lab: {name}: units failed: {units}; look with `podman exec {name} journalctl -e`")
        time.sleep(0.2)
    raise LabError(f"lab: {name}: systemd did not start within 30 s; run `podman logs {name}`")


def ensure_host(host: str, image: str, network: Network, secrets: Secrets, mark: str) -> str:
    """Bring one host up; says what it did: kept, started (it lay stopped), made."""
    name = f"{network.name}-{host}"
    found = inspect("container", name)
    if found is not None and found["Config"]["Labels"].get(LABEL) == mark:
        running = bool(found["State"]["Running"])
        if not running:
            podman("start", name, timeout=60)
            wait_for_systemd(name)
        if run(["podman", "exec", name, "test", "-e", READY], root=True, check=False).returncode == 0:
            # A broken test may have left one stopped.
            podman("exec", name, "systemctl", "start", *UNITS[host], timeout=60)
            return "kept" if running else "started"
    _create(host, image, network, secrets, mark)
    return "made"


def ensure_hosts(image: str, network: Network, secrets: Secrets) -> dict[str, str]:
    """Bring every host up, side by side; returns what was done with each."""
    mark = fingerprint(image, network, secrets)
    with ThreadPoolExecutor(max_workers=len(ADDRESSES)) as pool:
        waiting = {host: pool.submit(ensure_host, host, image, network, secrets, mark) for host in ADDRESSES}
        return {host: done.result() for host, done in waiting.items()}


def remove(prefix: str) -> list[str]:
    """Remove the lab's own containers and network, by name; returns what was removed."""
    removed = []
    for host in ADDRESSES:
        name = f"{prefix}-{host}"
        if inspect("container", name) is not None:
            podman("rm", "--force", "--volumes", "--time", "0", name)
            removed.append(name)
        if disks.forget(prefix, host):
            removed.append(f"disk of {host}")
    if inspect("network", prefix) is not None:
        podman("network", "rm", prefix)
        removed.append(f"network {prefix}")
    return removed
