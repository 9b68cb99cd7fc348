# SPDX-License-Identifier: Apache-2.0
"""The fault matrix: whatever breaks at whichever moment, the service comes up on wholly old or wholly new data.

`make test` runs a fast subset; `make test-faults` all of it, `make test-faults PART=mariadb` a part by its name.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.faults import matrix, outcomes
from tests.e2e.faults.benches import Benches
from tests.e2e.faults.matrix import Cell
from tests.lab.hosts import Lab

pytestmark = [pytest.mark.lab, pytest.mark.faults]


@pytest.fixture(scope="module", autouse=True)
def beside(lab: Lab) -> Iterator[None]:
    """The hosts are the matrix's alone; several processes of it may share them, as each cell holds what it touches."""
    with lab.held("hosts", shared=True):
        yield


@pytest.mark.cell
@pytest.mark.parametrize("cell", matrix.runnable(), ids=lambda cell: cell.name)
def test_cell(lab: Lab, benches: Benches, cell: Cell) -> None:
    if cell.fault == "disk_full" and not lab.facts["disks"]:
        pytest.skip("this machine has no loop devices, so a disk that is filled would be its own")
    with benches.held(cell.engine) as bench:
        outcome = bench.run(cell)
    outcomes.add(outcome)
    assert not outcome.failed, outcome
