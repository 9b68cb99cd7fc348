# SPDX-License-Identifier: Apache-2.0
"""Run a molecule scenario under an open run: a real site, real keys, a real schedule or approval, and the gate's socket.

There is no other way: without an open run each changing task refuses, in molecule as anywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from sopctl import approval, clock, plan
from sopctl.execution import open_run
from sopctl.models import Json
from sopctl.scanning import scan_plan
from sopctl.session import Session
from sopctl.site import Site
from sopctl.targeting import case_plan
from tests.lab.hosts import Lab
from tests.lab.site import lab_site
from tests.support.site_builder import SiteBuilder

ROOT = Path(__file__).resolve().parents[2]
DATASETS = ("simpeg", "berkas", "antrean")
Decide = Callable[[Json], list[str]]
#: host on which the scenario of role verify proves
DRILL = "db03"
#: roles whose scenario needs an approved restore; the others run under the signed schedule
RESTORING = {"restore", "service_control"}
#: the role that only looks
LOOKING = "asset_registry"
#: roles that need no grant, because a server's administrator runs them: theirs is the lab's inventory, and no run is open
UNGATED = {"enrol", "vault_server"}


@contextmanager
def open_site_run(site: SiteBuilder, role: str) -> Iterator[tuple[Path, Path]]:
    """Hold a run open that allows what ``role`` does; yields (gate socket, generated inventory)."""
    names = ("SOPCTL_ROOT", "SOPCTL_KEYS")
    with patch.dict(os.environ, {name: site.env[name] for name in names}):
        session = Session(Site(site.root))
        made, decide = (
            _looking(session) if role == LOOKING else _restore(site, session) if role in RESTORING else _backup(session)
        )
        with open_run(session, made, decide, check=False, who="pelaksana", say=print) as (request, _stop, _run_id):
            assert request.gate is not None
            yield request.gate, request.folder / "sop_inventory.json"


def _looking(session: Session) -> tuple[Json, Decide]:
    """A look at all registered servers, which needs no approval."""

    def decide(current: Json) -> list[str]:
        return approval.registered(session.context(), current)

    return scan_plan(session, "AST-2026-0001", session.site.servers), decide


def _backup(session: Session) -> tuple[Json, Decide]:
    order = session.site.standing_order()

    def decide(current: Json) -> list[str]:
        return approval.gate_schedule(session.context(), *order, current, "pelaksana", "pelaksana")

    entries = order[0].entries
    return plan.backup_plan(session.site, "BKP-2026-0001", entries, clock.now(), session.policy.verify), decide


def _restore(site: SiteBuilder, session: Session) -> tuple[Json, Decide]:
    site.run("schedule", "run", "--due", as_="pelaksana")
    case_id = site.approved(*DATASETS)

    def decide(current: Json) -> list[str]:
        return approval.gate_case(session.context(), session.case(case_id), current, "pelaksana", "pelaksana")

    return case_plan(session, session.case(case_id)), decide


def run_scenario(folder: Path, role: str) -> subprocess.CompletedProcess[str]:
    """``molecule test`` of one role, under a site made in ``folder`` where the role asks the gate."""
    lab = Lab.load()
    inventory = folder / "inventory"
    if role in UNGATED:
        inventory.mkdir(parents=True)
        shutil.copyfile(lab.inventory, inventory / "hosts.yml")
        return molecule(role, environment(folder, None, inventory, lab))
    site = lab_site(folder, lab, DATASETS, more={"drill": DRILL} if role == "verify" else None)
    inventory.mkdir()
    with open_site_run(site, role) as (gate, generated):
        shutil.copyfile(lab.inventory, inventory / "hosts.yml")
        shutil.copyfile(generated, inventory / "sop.json")
        return molecule(role, environment(folder, gate, inventory, lab))


def molecule(role: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """``molecule test`` in an environment."""
    command = [str(Path(sys.executable).parent / "molecule"), "test", "--scenario-name", role]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def environment(folder: Path, gate: Path | None, inventory: Path, lab: Lab) -> Mapping[str, str]:
    """What .config/molecule/config.yml asks for; SOPCTL_GATE reaches Ansible by inheritance, where a run is open."""
    (folder / "molecule").mkdir()
    inherited = {name: value for name, value in os.environ.items() if name != "SOPCTL_GATE"}
    return {
        **inherited,
        **({"SOPCTL_GATE": str(gate)} if gate else {}),
        "SOP_MOLECULE_TLS": str(lab.ca.parent),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(folder / "molecule"),
        "SOP_MOLECULE_INVENTORY": str(inventory),
        "SOP_MOLECULE_REPOSITORY": folder.name,
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
