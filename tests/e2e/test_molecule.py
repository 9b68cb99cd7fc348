# SPDX-License-Identifier: Apache-2.0
"""Each role has a molecule scenario, and it passes in the lab: check mode, converge, idempotence, verify."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "collections/ansible_collections/diskominfo/sop/roles").iterdir())


def test_every_role_has_a_scenario() -> None:
    assert [role for role in ROLES if not (ROOT / "molecule" / role / "molecule.yml").is_file()] == []


@pytest.mark.lab
@pytest.mark.parametrize("role", ROLES)
def test_scenario(role: str, tmp_path: Path) -> None:
    molecule = Path(sys.executable).parent / "molecule"
    own = f"{molecule.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    # molecule's own folder is named after the checkout's base name alone, and stale state there is believed.
    env = {**os.environ, "PATH": own, "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path), "ANSIBLE_NOCOLOR": "1"}
    command = [str(molecule), "test", "--scenario-name", role]
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, (
        f"molecule test -s {role} exited {done.returncode}\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    )
