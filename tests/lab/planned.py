"""What a molecule scenario was asked to do: each host's share of the plan, read from the inventory it ran with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "SOP_MOLECULE_INVENTORY"
REPOSITORY = "SOP_MOLECULE_REPOSITORY"


@dataclass(frozen=True)
class Planned:
    """One dataset of the plan, on the host that holds it."""

    host: str
    case: str
    item: dict[str, Any]

    @property
    def dataset(self) -> dict[str, Any]:
        """The dataset as modules get it."""
        found: dict[str, Any] = self.item["dataset"]
        return found

    @property
    def mark(self) -> str:
        """How names of kept data end for this case, as in `simpeg__before_rst20260001`."""
        return self.case.lower().replace("-", "")

    @property
    def services(self) -> list[dict[str, Any]]:
        """The services that write to the dataset: {host, service}."""
        found: list[dict[str, Any]] = self.item.get("services") or []
        return found


def planned(*engines: str) -> list[Planned]:
    """The planned datasets (of these engines); an empty plan is an error, as a test over nothing would pass."""
    program = Path(sys.executable).parent / "ansible-inventory"
    # The collection's code is not run here; ansible-inventory alone resolves groups and variables as a run does.
    done = subprocess.run(
        [str(program), "--inventory", os.environ[VARIABLE], "--list"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=60,
    )
    inventory = json.loads(done.stdout)
    variables = inventory["_meta"]["hostvars"]
    found = [
        Planned(host, variables[host]["sop_case"], item)
        for host in sorted(inventory["sop_targets"]["hosts"])
        for item in variables[host]["sop_plan"]
    ]
    chosen = [entry for entry in found if not engines or entry.dataset["engine"] in engines]
    if not chosen:
        raise LookupError(f"{os.environ[VARIABLE]}: the plan holds no dataset of {', '.join(engines) or 'any engine'}")
    return chosen


def repository(root: str, host: str) -> str:
    """Where the scenario's repository of a host lies on the vault host."""
    return f"{root}/{host}/{os.environ[REPOSITORY]}"


def named(entry: Planned) -> str:
    """A readable id for a parametrized test."""
    return f"{entry.host}/{entry.dataset['id']}"
