# SPDX-License-Identifier: Apache-2.0
"""The fault matrix as a table: no cell is empty, its words are those of the injectors, and the oracle tells lies apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.faults import boundaries, injectors, matrix, oracle, outcomes, subjects
from tests.e2e.faults.subjects import Kept
from tests.e2e.traffic import Answer, Writer


def test_every_cell_can_be_run_or_says_why_not() -> None:
    assert len(matrix.cells()) == 4 * 10 * 9
    reasons = [reason for cell in matrix.cells() if (reason := matrix.why_not(cell)) is not None]
    assert all(reason.startswith("cannot occur: ") for reason in reasons)
    assert len(matrix.runnable()) + len(reasons) == len(matrix.cells())


def test_every_engine_and_fault_and_boundary_is_run_somewhere() -> None:
    for names, key in ((matrix.ENGINES, "engine"), (matrix.BOUNDARY_NAMES, "boundary"), (matrix.FAULT_NAMES, "fault")):
        assert {getattr(cell, key) for cell in matrix.runnable()} == set(names)
    assert {cell.engine for cell in matrix.FAST} == set(matrix.ENGINES)
    assert set(matrix.FAST) <= set(matrix.runnable())


def test_the_tables_have_the_same_words() -> None:
    assert tuple(boundaries.BOUNDARIES) == matrix.BOUNDARY_NAMES
    assert tuple(injectors.FAULTS) == matrix.FAULT_NAMES
    assert set(subjects.SUBJECTS) == set(matrix.ENGINES)


def test_an_empty_cell_is_named() -> None:
    lines = outcomes.table({})
    assert sum(line.endswith("NOT RUN") for line in lines) == len(matrix.runnable())
    assert f"{len(matrix.runnable())} not run" in outcomes.summary({})


class Ours(subjects.Letters):
    """The files' hosts, without a lab behind them."""

    def __init__(self) -> None:
        """There is none."""


@pytest.mark.parametrize(
    ("boundary", "told", "passed"),
    [
        ("staging", {"task": "diskominfo.sop.restore : Stage each dataset beside the live data"}, True),
        ("swapped", {"host": "file01", "kind": "swap", "state": "swapped", "phase": "armed"}, True),
        ("swapped", {"host": "file01", "kind": "stage", "state": "staged"}, False),
        ("swapped", {"host": "db01", "kind": "swap", "state": "swapped"}, False),
        ("committed", {"host": "file01", "kind": "switch", "phase": "committed"}, True),
        ("reverting", {"host": "file01", "kind": "switch", "phase": "committed"}, False),
    ],
)
def test_boundaries_are_found_in_the_progress(boundary: str, told: dict[str, Any], passed: bool) -> None:
    line = json.dumps({"progress": {**told, "changed": True}}) + "\n"
    assert boundaries.BOUNDARIES[boundary].passed(line, Ours()) is passed
    assert not boundaries.BOUNDARIES[boundary].passed("Interrupted\n", Ours())


def writer(*answers: tuple[float, int, int]) -> Writer:
    """A writer that got these answers: (when, status, number)."""
    return Writer(
        "http://localhost/", answers=[Answer(at, at + 0.1, status, None, number) for at, status, number in answers]
    )


def test_the_oracle_tells_lost_torn_and_forbidden_writes() -> None:
    wrote = writer((1.0, 201, 1), (2.0, 201, 2), (3.0, 0, 3), (5.0, 201, 4))
    written = {"live": Kept(frozenset({4}), frozenset()), "x__before_a": Kept(frozenset({1, 3}), frozenset({3}))}
    assert oracle.lost(wrote, written) == {2}
    assert oracle.torn(written) == {"x__before_a": [3]}
    assert oracle.misplaced(wrote, written, 4.0, oracle.NEW) == {2}
    assert oracle.misplaced(wrote, written, 4.0, oracle.OLD) == {1, 2}
    assert oracle.accepted_while_stopped(wrote, [(4.0, 6.0)]) == {4}
    assert oracle.accepted_while_stopped(wrote, [(5.05, 6.0)]) == set()
