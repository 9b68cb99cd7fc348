# SPDX-License-Identifier: Apache-2.0
"""A second base site, under Kaltim's SOP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.case_site import CaseSite, at_home, build_kaltim


@pytest.fixture(scope="session")
def base_kaltim(tmp_path_factory: pytest.TempPathFactory) -> CaseSite:
    """The Kaltim site that tests copy; nobody writes to it."""
    return build_kaltim(tmp_path_factory.mktemp("kaltim"))


@pytest.fixture
def kaltim(base_kaltim: CaseSite, tmp_path: Path) -> Iterator[CaseSite]:
    """A copy of it, with this process at home in it."""
    with at_home(base_kaltim.builder):
        yield base_kaltim.copy(tmp_path / "kaltim")
