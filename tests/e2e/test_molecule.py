# SPDX-License-Identifier: Apache-2.0
"""Each role has a molecule scenario, and it passes in the lab: check mode, converge, idempotence, verify."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.hosts import Lab
from tests.lab.molecule_run import run_scenario

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "collections/ansible_collections/diskominfo/sop/roles").iterdir())


def test_every_role_has_a_scenario() -> None:
    assert [role for role in ROLES if not (ROOT / "molecule" / role / "molecule.yml").is_file()] == []


@pytest.mark.lab
@pytest.mark.parametrize("role", ROLES)
def test_scenario(role: str, tmp_path: Path, alone: None) -> None:
    Lab.load().generate(16)
    done = run_scenario(tmp_path / f"m-{role}".replace("_", "-"), role)
    shown = f"molecule test -s {role} exited {done.returncode}\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, shown
