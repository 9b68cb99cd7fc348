# SPDX-License-Identifier: Apache-2.0
"""One real site for all unit tests, built once; each test gets a copy that it may spoil."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sopctl import execution
from sopctl import plan as plans
from tests.support.case_site import CaseSite, at_home, build


@pytest.fixture(scope="session")
def base_site(tmp_path_factory: pytest.TempPathFactory) -> CaseSite:
    """The site that tests copy; nobody writes to it."""
    return build(tmp_path_factory.mktemp("base"))


@pytest.fixture
def site(base_site: CaseSite, tmp_path: Path) -> Iterator[CaseSite]:
    """A copy of the base site, with this process at home in it."""
    with at_home(base_site.builder):
        yield base_site.copy(tmp_path / "site")


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a run would open is out of reach: reaching for it fails the test."""

    def opened(*_: object, **__: object) -> None:
        raise AssertionError("a refused run opened something")

    monkeypatch.setattr(execution, "run", opened)
    monkeypatch.setattr(plans, "inventory_hosts", opened)
    monkeypatch.setattr(execution, "GateServer", opened)
