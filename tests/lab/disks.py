"""A file system of its own for the data of each server, so that a test can fill it and harms nobody.

It is ext4 in a sparse file, which podman mounts through a loop device whenever the host starts: what is on it outlives a
killed host, as a real disk does, and `fallocate` fills it in milliseconds without taking a byte of this machine's disk.
Where there are no loop devices (a container as the test machine) the data lies in an ordinary volume without a limit.
"""

from __future__ import annotations

from pathlib import Path

from tests.lab.system import inspect, podman, run

# Where each host's data lies. The image's content of that folder is copied there once.
PLACES = {"db01": "/var/lib/postgresql", "db02": "/var/lib/mysql", "file01": "/srv"}
SIZE = "24G"  # room for 4 GB of data, its copy beside, and a kept one
CONTROL = Path("/dev/loop-control")
# No initialisation in the background (it would fill the sparse file with zeros); freed space is given back.
MOUNT = "loop,discard,noinit_itable"


def limited() -> bool:
    """Whether the data has a file system of its own here."""
    return CONTROL.exists()


def volume(prefix: str, host: str) -> str:
    """The podman volume of a host's data."""
    return f"{prefix}-{host}-data"


def fresh(prefix: str, host: str, folder: Path) -> list[str]:
    """Make an empty disk for a host that is about to be made; returns the words for `podman run`."""
    if host not in PLACES:
        return []
    name = volume(prefix, host)
    forget(prefix, host)
    options: list[str] = []
    if limited():
        image = folder / f"{host}.img"
        folder.mkdir(mode=0o700, exist_ok=True)
        image.unlink(missing_ok=True)
        run(["truncate", "--size", SIZE, str(image)])
        made = ["-q", "-m", "0", "-J", "size=32", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1"]
        run(["mkfs.ext4", *made, str(image)])
        # podman copies the image's content only into an empty volume.
        run(["debugfs", "-w", "-R", "rmdir lost+found", str(image)])
        options = ["--opt", "type=ext4", "--opt", f"device={image}", "--opt", f"o={MOUNT}"]
    podman("volume", "create", *options, name)
    return ["--volume", f"{name}:{PLACES[host]}"]


def forget(prefix: str, host: str) -> bool:
    """Remove a host's disk, which no container uses any more; says whether there was one."""
    name = volume(prefix, host)
    if host not in PLACES or inspect("volume", name) is None:
        return False
    podman("volume", "rm", "--force", name)
    return True
