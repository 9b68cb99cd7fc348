# SPDX-License-Identifier: Apache-2.0
"""The fault matrix in pytest: the fast subset, unless `-m faults` asks for all of it; the table at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.faults import matrix, outcomes
from tests.e2e.faults.benches import Benches
from tests.lab.hosts import Lab

RAN: list[str] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cells that are not of the fast subset."""
    if "faults" in str(config.option.markexpr):
        return
    fast = {cell.name for cell in matrix.FAST}
    slow = [item for item in items if item.get_closest_marker("cell") and item.callspec.id not in fast]  # type: ignore[attr-defined]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What came of the cells that ran; where all were asked for, the table."""
    found = outcomes.known()
    ran = [found[name] for name in RAN if name in found]
    if not ran:
        return
    terminalreporter.section("fault matrix")
    if "faults" in str(terminalreporter.config.option.markexpr):
        terminalreporter.write_line("\n".join([*outcomes.table(found), "", outcomes.summary(found)]))
    else:
        terminalreporter.write_line("\n".join(f"{each.cell}: {each.text} [{each.seconds:.0f} s]" for each in ran))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember which cells ran."""
    if report.when == "call" and "test_faults.py::test_cell[" in report.nodeid:
        RAN.append(report.nodeid.rpartition("[")[2].rstrip("]"))


@pytest.fixture(scope="session")
def benches(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    """A site with a backup over each engine's dataset, made when it is first asked for."""
    made = Benches(lab, tmp_path_factory.mktemp)
    yield made
    made.close()
