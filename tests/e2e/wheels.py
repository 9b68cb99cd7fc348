# SPDX-License-Identifier: Apache-2.0
"""The wheel of this checkout, for tests that use it far from here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def program(*command: str | Path, cwd: Path) -> str:
    """Run a program; AssertionError with its output when it fails."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def outside_path() -> str:
    """PATH without this checkout's virtual environment."""
    own = Path(sys.prefix)
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(part for part in parts if not Path(part).is_relative_to(own))


def built(folder: Path) -> Path:
    """Build the wheel into ``folder``."""
    program(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ".", cwd=ROOT)
    [wheel] = folder.glob("*.whl")
    return wheel
