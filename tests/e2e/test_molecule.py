# SPDX-License-Identifier: Apache-2.0
"""Each role has a molecule scenario, and it passes in the lab: check mode, converge, idempotence, verify."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.lab.hosts import Lab
from tests.lab.molecule_run import run_scenario

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "collections/ansible_collections/diskominfo/sop/roles").iterdir())


def test_every_role_has_a_scenario() -> None:
    assert [role for role in ROLES if not (ROOT / "molecule" / role / "molecule.yml").is_file()] == []


@pytest.mark.lab
@pytest.mark.part(3)
@pytest.mark.parametrize("role", ROLES)
def test_scenario(role: str, lab: Lab, tmp_path: Path, alone: None) -> None:
    lab.generate(16)
    lab.forget_kept()  # cases have the same numbers on every site
    for host in lab.hosts:
        lab.exec(host, "touch /run/soplab-scenario")  # what is newer was left by the scenario
    folder = tmp_path / f"m-{role}-{secrets.token_hex(3)}".replace("_", "-")
    try:
        done = run_scenario(folder, role)
    finally:
        lab.exec("vault01", f"rm -rf /srv/vault/*/{folder.name}")
    shown = f"molecule test -s {role} exited {done.returncode}\n{done.stdout[-20000:]}\n{done.stderr[-4000:]}"
    assert done.returncode == 0, shown
