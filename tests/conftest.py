# SPDX-License-Identifier: Apache-2.0
"""For all tests: no compiled code beside the collection, and one environment for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support import thin

# sopctl refuses a collection with a __pycache__ in it, so neither this process nor its children may leave one.
sys.dont_write_bytecode = True
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"

settings.register_profile("sopctl", derandomize=True, deadline=None)
settings.load_profile("sopctl")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`make test` runs a part of the long matrices."""
    thin.leave_out(config, items)


@pytest.fixture(autouse=True)
def _environment_stays() -> Iterator[None]:
    """A test that loses ``PYTHONDONTWRITEBYTECODE`` makes another one fail, an hour later and in another process."""
    before = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    yield
    after = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    os.environ.update(before)
    for name in after.keys() - before:
        del os.environ[name]
    changed = sorted(name for name in before.keys() | after if before.get(name) != after.get(name))
    assert not changed, f"the test left the environment changed: {', '.join(changed)}"
