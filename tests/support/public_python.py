# SPDX-License-Identifier: Apache-2.0
"""A Python with sopctl that every account may run, for tests that act as another user than root.

A checkout or a virtual environment below /root is closed to everybody else. Then sopctl is installed once, as its users
install it, into an environment below /var/tmp made with the system's own Python.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sopctl import content
from sopctl.demo.place import reachable

ROOT = Path(__file__).resolve().parents[2]
PLACES = Path("/var/tmp")
SYSTEM = Path("/usr/bin/python3")


def public_python(uid: int) -> Path:
    """The interpreter to run ``-m sopctl`` with as ``uid``; the test is skipped where none can be had."""
    own = Path(sys.executable)
    if all(reachable(path, uid) for path in (own.parent, own.resolve().parent, ROOT / "sopctl")):
        return own
    folder = PLACES / f"sop-test-venv-{content.code_digest()[-16:]}"
    with (PLACES / "sop-test-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            for old in PLACES.glob("sop-test-venv-*"):
                shutil.rmtree(old, ignore_errors=True)
            _make(folder)
    return folder / "bin/python"


def _make(folder: Path) -> None:
    made = subprocess.run([str(SYSTEM), "-m", "venv", str(folder)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this checkout is closed to other users and {SYSTEM} makes no venv: install python3-venv")
    install = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", f"{ROOT}[demo]"]
    done = subprocess.run(install, capture_output=True, text=True, check=False, cwd=PLACES)
    assert done.returncode == 0, done.stderr
    (folder / "installed").touch()
