# SPDX-License-Identifier: Apache-2.0
"""The fault matrix: engines × boundaries × faults. Each cell can be run, or says why it cannot occur.

A pure table: no lab, no clock. test_faults.py runs the cells, table.py prints what came of them.
"""

from __future__ import annotations

from dataclasses import dataclass

ENGINES = ("postgresql", "mariadb", "sqlite", "files")
#: in the order of a restore; ``reverting`` is the way back, which a service that is ill on the new data brings about
BOUNDARY_NAMES = (
    "staging", "staged", "armed", "stopped", "quiesced", "swapped", "committed", "started", "disarmed", "reverting",
)  # fmt: skip
FAULT_NAMES = (
    "sopctl_killed", "host_killed", "network_cut", "database_killed", "disk_full", "vault_unreachable",
    "will_not_stop", "will_not_start", "stays_red",
)  # fmt: skip
NO_SERVER = "cannot occur: {engine} has no server process; the service itself is the only user of the data"
VAULT_DONE = (
    "cannot occur: nothing is asked of the vault once the data is staged (cell staged runs the whole rest without it)"
)
IS_STOPPED = "cannot occur: the service has stopped already; its next stop is on the way back (row reverting)"
RUNS_ON = "cannot occur: a service that was started is not stopped again but on the way back (row reverting)"
HAS_STARTED = "cannot occur: the service has started already; its next start is on the way back (row reverting)"
WAS_HEALTHY = "cannot occur: the health check has been passed; the next one is on the way back (row reverting)"

_UNTIL_STOPPED = ("staging", "staged", "armed")
_STOPPED = ("stopped", "quiesced", "swapped", "committed")
_STARTED = ("started", "disarmed")


@dataclass(frozen=True)
class Cell:
    """One fault at one boundary of one engine's restore."""

    engine: str
    boundary: str
    fault: str

    @property
    def name(self) -> str:
        """As tests and the table call it."""
        return f"{self.engine}-{self.boundary}-{self.fault}"


def why_not(cell: Cell) -> str | None:
    """Why the cell cannot occur; None when it can be run."""
    if cell.fault == "database_killed" and cell.engine in {"sqlite", "files"}:
        return NO_SERVER.format(engine=cell.engine)
    if cell.fault == "vault_unreachable" and cell.boundary not in {"staging", "staged"}:
        return VAULT_DONE
    if cell.fault == "will_not_stop" and cell.boundary in _STOPPED:
        return IS_STOPPED
    if cell.boundary in _STARTED:
        return {"will_not_stop": RUNS_ON, "will_not_start": HAS_STARTED, "stays_red": WAS_HEALTHY}.get(cell.fault)
    return None


def cells() -> list[Cell]:
    """All of them, in the order of the table."""
    return [Cell(engine, boundary, fault) for engine in ENGINES for boundary in BOUNDARY_NAMES for fault in FAULT_NAMES]


def runnable() -> list[Cell]:
    """Those that can occur."""
    return [cell for cell in cells() if why_not(cell) is None]


#: what `make test` runs: each engine, each kind of fault that the switch is there for, the worst boundaries
FAST = (
    Cell("postgresql", "swapped", "sopctl_killed"),
    Cell("postgresql", "staging", "disk_full"),
    Cell("mariadb", "quiesced", "database_killed"),
    Cell("sqlite", "committed", "host_killed"),
    Cell("files", "stopped", "network_cut"),
)
