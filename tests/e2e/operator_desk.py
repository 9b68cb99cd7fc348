# SPDX-License-Identifier: Apache-2.0
"""An operator's desk in the lab: their SSH key, a true run's plan, and Ansible's own programs at a terminal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.checks import vault_files
from tests.e2e.test_check_mode import HOSTS, LISTING, cases
from tests.lab.hosts import Lab
from tests.support.site_builder import SiteBuilder

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@dataclass
class Desk:
    """What the operator has: the site, an executed case's inventory, an approved case, an own folder to work in."""

    lab: Lab
    site: SiteBuilder
    inventory: Json
    used: str
    approved: str
    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    def plan(self, case: str, change: Callable[[Json], None] = lambda _: None) -> Path:
        """An inventory as sopctl generates it, for that case; ``change`` gets its hosts in sop_targets."""
        made = json.loads(json.dumps(self.inventory).replace(self.used, case))
        change(made["all"]["children"]["sop_targets"]["hosts"])
        path = self.folder / "plan.json"
        path.write_text(json.dumps(made), encoding="utf-8")
        return path

    def share(self, dataset: str = "antrean") -> tuple[str, Json]:
        """Host and planned item of a dataset."""
        hosts = self.inventory["all"]["children"]["sop_targets"]["hosts"]
        return next(
            (host, item) for host in hosts for item in hosts[host]["sop_plan"] if item["dataset"]["id"] == dataset
        )

    def run(
        self, program: str, *words: str | Path, case: str | None = None, stdin: str = "", plan: Path | None = None
    ) -> str:
        """Run ``ansible`` or ``ansible-playbook`` with the operator's SSH key, at a terminal; returns what it said."""
        command = [
            str(BIN / program),
            "-i",
            str(self.lab.inventory),
            "-i",
            str(plan or self.plan(case or self.approved)),
        ]
        command += [str(word) for word in words]
        env = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.site.home),
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.env,
        }
        # script gives it a terminal: --step and the debugger ask nobody without one
        shell = ["script", "-qec", " ".join(map(quoted, command)), "/dev/null"]
        given = subprocess.Popen(
            shell, cwd=self.folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = given.communicate(stdin.encode(), timeout=300)
        return said.decode("utf-8", "replace").replace("\r", "")


def quoted(word: str) -> str:
    """For a shell."""
    return "'" + word.replace("'", "'\\''") + "'"


def quick_state(lab: Lab, site: SiteBuilder) -> Json:
    """Files with their digests, services, databases, the vault and the site's cases: what takes a second."""
    with ThreadPoolExecutor() as pool:
        listings = list(pool.map(lambda name: lab.exec(name, LISTING).splitlines(), HOSTS))
    state: Json = dict(zip(HOSTS, listings, strict=True))
    return {**state, "vault": vault_files(lab, site), "databases": lab.databases(), "cases": cases(site)}


def differences(before: Any, after: Any) -> Any:
    """What differs, told as short as it can be."""
    if isinstance(before, list) and isinstance(after, list):
        return sorted(set(map(str, before)) ^ set(map(str, after)))
    return (before, after)


def play(desk: Desk, *tasks: Json, **keys: Any) -> Path:
    """A play of the operator's own over the planned hosts."""
    path = desk.folder / "own.yml"
    path.write_text(
        json.dumps([{"hosts": "sop_targets", "gather_facts": False, "tasks": list(tasks), **keys}]), encoding="utf-8"
    )
    return path


def with_environment(desk: Desk, **env: str) -> Desk:
    """The same desk with these variables set."""
    desk.env = env
    return desk


def with_own_files(desk: Desk, env: dict[str, str]) -> Desk:
    """A local ansible.cfg, and a copy of the collection beside it."""
    shutil.copytree(ROOT / "collections", desk.folder / "collections", ignore=shutil.ignore_patterns("__pycache__"))
    lines = [
        "[defaults]",
        "collections_path = ./collections",
        "host_key_checking = False",
        "gathering = smart",
    ]
    (desk.folder / "ansible.cfg").write_text("\n".join([*lines, "[tags]", "skip = always", ""]), encoding="utf-8")
    desk.env = env
    return desk


def module_task(desk: Desk, module: str, state: str | None, **keys: Any) -> Json:
    """A task of one of our modules on web01."""
    return {f"diskominfo.sop.{module}": arguments(desk, module, state), "delegate_to": "web01", **keys}


def arguments(desk: Desk, module: str, state: str | None) -> Json:
    """What the approved case's own run would give the module."""
    _host, item = desk.share()
    args: Json = {"case": desk.approved, **({"state": state} if state else {})}
    if module == "service_state":
        return {**args, "service": item["services"][0]["service"]}
    args["dataset"] = item["dataset"]
    if module in {"restore_dataset", "verify_dataset"}:
        args |= {name: item[name] for name in ("snapshot", "manifest_snapshot")}
    return args | ({"period": "2026-11", "name": "tangan"} if module == "backup_dataset" else {})


def changed_nothing(said: str) -> None:
    """No task told of a change (the states are compared besides)."""
    assert "CHANGED" not in said, said
    assert not [line for line in said.splitlines() if "changed=" in line and "changed=0" not in line], said
    assert "changed: [" not in said, said
