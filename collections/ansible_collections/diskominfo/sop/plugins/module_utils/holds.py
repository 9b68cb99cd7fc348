# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Holding systemd units down: a stopped unit comes back through its socket, a timer, a path or a restart of the host.

A drop-in gives the unit a condition, and a file in /run makes it false. Masking would do nothing for units in /etc.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import write_file
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import PROGRAM_PATH

UNITS = "/etc/systemd/system"
#: memory: gone after a restart, when the boot unit lays it down again as long as nothing is settled
HOLDS = "/run/sop"
DROP_IN = "sop-hold.conf"


def has_systemd() -> bool:
    """Whether systemd runs here and is ours to command."""
    return os.path.isdir("/run/systemd/system") and os.geteuid() == 0


def systemctl(*words: str, check: bool = True) -> str:
    """Run systemctl; its output. SopError when it fails and ``check`` is set."""
    try:
        done = subprocess.run(
            ["systemctl", *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={"PATH": PROGRAM_PATH, "LC_ALL": "C"},
        )
    except OSError as error:
        raise SopError(f"systemctl cannot be run ({error.strerror}); this host has no systemd") from error
    if check and done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise SopError(
            f"systemctl {' '.join(words[:3])} exited {done.returncode} ({said[0][:200]}); look at journalctl -xe"
        )
    return done.stdout


def hold_file(unit: str) -> str:
    """The file whose being there keeps ``unit`` down."""
    return os.path.join(HOLDS, f"hold-{unit}")


def _drop_in(unit: str) -> str:
    return os.path.join(UNITS, f"{unit}.d", DROP_IN)


def can_hold(unit: str) -> bool:
    """Whether the drop-in for ``unit`` is laid down."""
    return os.path.exists(_drop_in(unit))


def lay_down(units: list[str]) -> bool:
    """Give each unit its condition; whether something was new (then systemd must read its files again)."""
    new = False
    for unit in units:
        new = write_file(_drop_in(unit), f"[Unit]\nConditionPathExists=!{hold_file(unit)}\n") or new
    return new


def take_up(units: list[str]) -> bool:
    """Take the conditions and the holds away; whether there was a condition."""
    release(units)
    found = False
    for unit in units:
        path = _drop_in(unit)
        with suppress(FileNotFoundError):
            os.unlink(path)
            found = True
        with suppress(OSError):
            os.rmdir(os.path.dirname(path))
    return found


def hold(units: list[str]) -> None:
    """Keep the units down, as far as they have their condition."""
    os.makedirs(HOLDS, mode=0o755, exist_ok=True)
    for unit in units:
        if can_hold(unit):
            os.close(os.open(hold_file(unit), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644))


def release(units: list[str]) -> None:
    """Let the units start again."""
    for unit in units:
        with suppress(FileNotFoundError):
            os.unlink(hold_file(unit))


def held(units: list[str]) -> list[str]:
    """Those of the units that are kept down."""
    return [unit for unit in units if os.path.exists(hold_file(unit)) and can_hold(unit)]
