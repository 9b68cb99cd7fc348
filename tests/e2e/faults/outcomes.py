# SPDX-License-Identifier: Apache-2.0
"""What came of each cell of the fault matrix: one JSON line each, and the table of all of them.

python -m tests.e2e.faults.outcomes [--whole]     print the table; --whole: exit 1 when a cell is empty or failed
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.e2e.faults import matrix

ROOT = Path(__file__).resolve().parents[3]


def results() -> Path:
    """The file that outcomes are added to; $FAULTS_RESULTS names another."""
    return Path(os.environ.get("FAULTS_RESULTS") or ROOT / ".cache" / "faults.jsonl")


@dataclass(frozen=True)
class Outcome:
    """One cell that was run. ``first`` and ``then``: exit code and the oracle's word, after the run and after ``execute``
    once more; ``record`` is what the sealed record says; ``failed`` why the cell is not as it must be."""

    cell: str
    first: str
    then: str
    record: str
    seconds: float
    failed: str = ""

    @property
    def text(self) -> str:
        """For the table."""
        if self.failed:
            return f"FAILED: {self.failed}"
        return f"{self.first}; {self.then}; record: {self.record}"


def add(outcome: Outcome) -> None:
    """Keep an outcome; several processes may."""
    path = results()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write(json.dumps(asdict(outcome)) + "\n")


def known() -> dict[str, Outcome]:
    """The newest outcome of each cell."""
    try:
        lines = results().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {entry["cell"]: Outcome(**entry) for entry in map(json.loads, lines)}


def table(found: dict[str, Outcome]) -> list[str]:
    """One line a cell, grouped by engine and boundary; reasons that hold for a whole row of cells are told once each."""
    lines: list[str] = []
    group = ("", "")
    for cell in matrix.cells():
        if (cell.engine, cell.boundary) != group:
            group = (cell.engine, cell.boundary)
            lines.append(f"{cell.engine} · {cell.boundary}")
        reason = matrix.why_not(cell)
        outcome = found.get(cell.name)
        text = reason or (outcome.text if outcome else "NOT RUN")
        took = f" [{outcome.seconds:.0f} s]" if outcome and reason is None else ""
        lines.append(f"  {cell.fault:18} {text}{took}")
    return lines


def summary(found: dict[str, Outcome]) -> str:
    """One line over all cells."""
    run = [found[cell.name] for cell in matrix.runnable() if cell.name in found]
    failed = [outcome.cell for outcome in run if outcome.failed]
    missing = len(matrix.runnable()) - len(run)
    impossible = len(matrix.cells()) - len(matrix.runnable())
    return (
        f"fault matrix: {len(matrix.cells())} cells: {len(run) - len(failed)} as they must be, {len(failed)} failed, "
        f"{missing} not run, {impossible} cannot occur; {sum(outcome.seconds for outcome in run) / 60:.0f} min of work"
    )


def main(arguments: list[str]) -> int:
    """The command."""
    found = known()
    print("\n".join([*table(found), "", summary(found)]))
    whole = all(cell.name in found and not found[cell.name].failed for cell in matrix.runnable())
    return 0 if whole or "--whole" not in arguments else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
