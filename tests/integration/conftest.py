"""What deduplication saves, engine by engine, at the end of a run that measured it (workers of xdist print nothing)."""

from __future__ import annotations

import pytest

#: fixtures whose parameters are fewer in `make test` (pg_fixtures.VERSIONS)
THINNED = {"cluster"}
SAVED: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test-long` finds by the marker what it has more of."""
    for item in items:
        if THINNED & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.part(1))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember the lines that tests have recorded."""
    if report.when == "call":
        SAVED.update((report.nodeid, str(value)) for name, value in report.user_properties if name == "deduplication")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table."""
    if SAVED:
        terminalreporter.section("deduplication")
        terminalreporter.write_line(
            "what a month with 2 % of the rows changed adds to the vault, of the first month's bytes"
        )
        terminalreporter.write_line("\n".join(SAVED.values()))
