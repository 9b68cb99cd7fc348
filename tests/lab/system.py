"""Programs on this machine as the lab starts them: as root, or through sudo that asks no password."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "podman",
    "runc",
    "netavark",
    "iptables",
    "mmdebstrap",
    "openssl",
    "openssh-client",
    "iproute2",
    "e2fsprogs",
)
PROGRAMS = ("podman", "runc", "mmdebstrap", "iptables", "openssl", "ssh-keygen", "ip", "mkfs.ext4")
NETAVARK = (Path("/usr/lib/podman/netavark"), Path("/usr/libexec/podman/netavark"))
APT_LINE = f"apt-get update && apt-get -y -q install --no-install-recommends {' '.join(PACKAGES)}"
# An ordinary user's PATH has no sbin, where runc and iptables lie.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class LabError(Exception):
    """What went wrong, in one line with the next step; `code` is the exit code to use."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def elevate() -> list[str]:
    """The words before a command that needs root; LabError (3) where root cannot be had."""
    if os.geteuid() == 0:
        return []
    probe = ["sudo", "-n", "true"]
    if shutil.which("sudo") and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return ["sudo", "-n", "--"]
    raise LabError(
        "lab: needs root, and sudo without a password is not there; run `sudo make lab`, "
        f"after (once, as root): {APT_LINE}",
        code=3,
    )


def run(
    argv: list[str],
    *,
    root: bool = False,
    stdin: bytes | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program without a shell; a failure is a LabError naming the program and its last lines."""
    full = [*(elevate() if root else []), *argv]
    env = {**os.environ, "PATH": SEARCH_PATH}
    # Without input the child must still not read the caller's terminal; psql opens it by name to ask for a password. An
    # ordinary user's sudo may ask there.
    apart = os.geteuid() == 0
    source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    try:
        done = subprocess.run(
            full, capture_output=True, check=False, env=env, timeout=timeout, start_new_session=apart, **source
        )
    except FileNotFoundError as error:
        raise LabError(f"lab: {argv[0]} is missing; as root: {APT_LINE}", code=3) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"lab: {' '.join(argv[:4])} … did not end within {timeout:g} s") from error
    if check and done.returncode != 0:
        tail = " | ".join((done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-3:])
        raise LabError(
            f"lab: {' '.join(argv[:6])} … {' '.join(argv[-1:])[:80]!r} exited {done.returncode}: {tail or 'it said nothing'}"
        )
    return done


def podman(*arguments: str, stdin: bytes | None = None, check: bool = True, timeout: float | None = None) -> str:
    """Run podman as root with the one runtime that starts systemd here; returns its standard output."""
    done = run(["podman", "--runtime", "runc", *arguments], root=True, stdin=stdin, check=check, timeout=timeout)
    return done.stdout.decode(errors="replace")


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """`podman KIND inspect NAME` parsed, or None when there is no such thing."""
    done = run(["podman", kind, "inspect", name], root=True, check=False)
    if done.returncode != 0:
        return None
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found[0]


def missing_programs() -> list[str]:
    """The programs that `lab up` needs and this machine has not."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]
    if not any(path.exists() for path in NETAVARK):
        missing.append("netavark")
    return missing


def require(*, install: bool) -> None:
    """Fail with one line (3) unless root and every program are there; install them first when asked to."""
    elevate()
    missing = missing_programs()
    if missing and install:
        print(f"lab: installing {', '.join(PACKAGES)}", flush=True)
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q"]
        run([*apt, "update"], root=True)
        run([*apt, "install", "--no-install-recommends", *PACKAGES], root=True)
        missing = missing_programs()
    if missing:
        raise LabError(f"lab: missing here: {', '.join(missing)}; as root: {APT_LINE}", code=3)
