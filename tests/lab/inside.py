# SPDX-License-Identifier: Apache-2.0
"""The way into a lab's host past SSH: its namespaces are entered, as `podman exec` does at forty times the cost."""

from __future__ import annotations

from pathlib import Path

from tests.lab.system import LabError, podman

ENVIRONMENT = ["container=podman", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]
#: container → its first process, and when that began: after a start it is another one
_FIRST: dict[str, tuple[int, str]] = {}


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = text.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def _first_process(container: str) -> int:
    """The host's process 1, by its number on this machine; LabError when the host does not run."""
    pid, began = _FIRST.get(container, (0, ""))
    if not began or _began(pid) != began:
        pid = int(podman("inspect", "--format", "{{.State.Pid}}", container, check=False).strip() or 0)
        began = _began(pid) if pid else ""
        if not began:
            raise LabError(f"lab: {container} does not run; look with `podman ps -a`, start it with `make lab`")
        _FIRST[container] = pid, began
    return pid


def inside(container: str, argv: list[str], user: str = "root") -> list[str]:
    """The command that runs ``argv`` in ``container``, in / with an environment of its own."""
    spaces = ["--mount", "--uts", "--ipc", "--net", "--pid"]
    enter = ["nsenter", "--target", str(_first_process(container)), *spaces, "--"]
    if user == "root":
        return [*enter, "env", "-i", *ENVIRONMENT, "HOME=/root", *argv]
    return [*enter, "env", "-i", *ENVIRONMENT, "HOME=/", "runuser", "-u", user, "--", *argv]
