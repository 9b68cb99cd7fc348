# SPDX-License-Identifier: Apache-2.0
"""Long matrices: `make test` takes a part of their cases, `make test-long` all of them.

A test says so by a marker, ``long`` (none in `make test`) or ``part(n)`` (every n-th of its cases there), or asks
:func:`stride` how far to step inside of one test. What a command line names by ``::`` is always run.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

WHOLE = "SOPTEST_WHOLE"


def whole() -> bool:
    """Whether all of every matrix is asked for."""
    return bool(os.environ.get(WHOLE))


def stride(usual: int) -> int:
    """How far it is from one case to the next: ``usual``, or 1 where the whole matrix is asked for."""
    return 1 if whole() else usual


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out of ``items`` what belongs to `make test-long` alone."""
    named = [arg for arg in config.args if "::" in arg]
    if whole() or named:
        return
    seen: Counter[str] = Counter()
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        part = item.get_closest_marker("part")
        function = item.nodeid.split("[")[0]
        turn = seen[function] % part.args[0] == 0 if part else True
        seen[function] += 1
        (kept if turn and not item.get_closest_marker("long") else left).append(item)
    if left:
        items[:] = kept
        config.hook.pytest_deselected(items=left)
