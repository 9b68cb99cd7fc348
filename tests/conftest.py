# SPDX-License-Identifier: Apache-2.0
"""For all tests: no compiled code beside the collection, and one worker for everything that shares the lab."""

from __future__ import annotations

import os
import sys

import pytest

# sopctl refuses a collection with a __pycache__ in it, so neither this process nor its children may leave one.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``lab`` use the same hosts: under xdist's ``--dist loadgroup`` they run on one worker, in order."""
    for item in items:
        if item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.xdist_group("lab"))
