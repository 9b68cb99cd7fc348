# SPDX-License-Identifier: Apache-2.0
"""A vault that is restarted while a dump streams into it. One that is full, down or read-only: test_bad_input.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.checks import all_verified, snapshots
from tests.e2e.running import Running
from tests.e2e.strikes import Strike, striking
from tests.lab.hosts import Lab
from tests.support.site_builder import SiteBuilder

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("alone")]

MB = 40


def test_vault_restarted_in_the_middle_of_an_upload(lab: Lab, make_site: Callable[..., SiteBuilder]) -> None:
    """The run goes on by itself and ends well; one backup counts, and nothing of the broken upload does."""
    lab.generate(MB)
    site = make_site("simpeg", quick=True)
    with striking(lab, Strike("db01", "sopctl", "middle")) as [moment]:
        running = Running(site.start("schedule", "run", "--due", "--json", as_="pelaksana"))
        moment.result()
        lab.exec("vault01", "systemctl restart vault@vault.service")
        code = running.end()
    assert code == 0, running.text
    [backup] = site.run_json("vault", "list")
    assert backup["verified"]
    assert len(snapshots(lab, site)) == 2, "a dump and its manifest"
    all_verified(site)
