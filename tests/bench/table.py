# SPDX-License-Identifier: Apache-2.0
"""What was measured, as a table for people and as JSON beside the lab's files."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from tests.bench.measuring import Measured
from tests.lab.hosts import CACHE

RESULT = CACHE.parent / "bench.json"


@dataclass
class Size:
    """All runs at one size of one application's data; a rival that failed is its last words."""

    megabytes: int
    bytes: int
    ours: list[Measured] = field(default_factory=list)
    borgmatic: Measured | str = "not run"
    plain: Measured | str = "not run"

    @property
    def outage(self) -> float:
        """The median of the outages that users of our restore saw."""
        return median(run.outage for run in self.ours)


def ratio(sizes: list[Size]) -> float:
    """The outage of the largest as a multiple of that of the smallest."""
    return sizes[-1].outage / sizes[0].outage


def lines(engine: str, sizes: list[Size]) -> list[str]:
    """The table of one engine."""
    heading = f"{'data':>8} {'runs':>4} {'outage':>8} {'on form':>8} {'in all':>8} {'borgmatic':>10} {'plain':>10}"
    found = [f"{engine}: seconds in which nobody could use the application", heading + "   memory in MB"]
    for size in sizes:
        peak = [
            max(getattr(run, name) or 0 for run in size.ours) for name in ("controller_mb", "module_mb", "restic_mb")
        ]
        form = max(run.form or 0 for run in size.ours)
        took = median(run.took for run in size.ours)
        found.append(
            f"{size.bytes / 1e6:>5.0f} MB {len(size.ours):>4} {size.outage:>8.2f} {form:>8} {took:>8.1f} "
            f"{_outage(size.borgmatic):>10} {_outage(size.plain):>10}   "
            f"controller {peak[0]:.0f}, module {peak[1]:.0f}, restic {peak[2]:.0f}"
        )
        found += [
            f"         {name}: {rival}"
            for name, rival in (("borgmatic", size.borgmatic), ("plain", size.plain))
            if isinstance(rival, str)
        ]
    if len(sizes) > 1:
        first, last = sizes[0], sizes[-1]
        words = [f"outage {ratio(sizes):.2f}", f"data {last.bytes / first.bytes:.0f}"]
        for name in ("borgmatic", "plain"):
            small, large = getattr(first, name), getattr(last, name)
            if isinstance(small, Measured) and isinstance(large, Measured):
                words.append(f"{name} {large.outage / small.outage:.2f}")
        found.append(f"largest / smallest: {', '.join(words)}")
    found.append(f"this machine's load at the end: {os.getloadavg()[1]:.1f} on {os.cpu_count()} processors")
    return found


def _outage(rival: Measured | str) -> str:
    return f"{rival.outage:.1f}" if isinstance(rival, Measured) else "failed"


def keep(engine: str, sizes: list[Size], path: Path = RESULT) -> None:
    """Write what was measured so far; the other engines' results stay."""
    found = json.loads(path.read_text()) if path.is_file() else {}
    rows = [asdict(size) for size in sizes]
    for row in rows:
        for run in row["ours"]:
            run["progress"] = len(run["progress"])
    path.write_text(json.dumps({**found, engine: rows}, indent=1) + "\n")
