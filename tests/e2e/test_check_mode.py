# SPDX-License-Identifier: Apache-2.0
"""``--check`` on both playbooks changes nothing: on the hosts, in the vault, in the databases, in the case."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e import pg_facts
from tests.e2e.checks import vault_files
from tests.lab.hosts import Lab
from tests.support.site_builder import SiteBuilder

pytestmark = [pytest.mark.long, pytest.mark.lab]

HOSTS = ("db01", "web01", "file01")
PLACES = "/srv /var/lib/sop /run/sop /etc /usr/local /root /home /opt"
# The database server's own files change by themselves; what Ansible, sudo and SSH note of a visit is no change either.
LISTING = rf"""find {PLACES} -xdev -type f ! -path '/root/.ansible/*' ! -path '/home/*/.ansible/*' ! -name '*.db-shm' \
  -print0 2>/dev/null | LC_ALL=C sort -z | xargs -0 sha256sum
find {PLACES} -xdev ! -type f ! -path '*/.ansible*' -printf '%p %y %m %U:%G %l\n' 2>/dev/null | LC_ALL=C sort
find /tmp /var/tmp -mindepth 1 ! -path '*systemd-private*'
systemctl list-units --type=service --state=active,failed --plain --no-legend | grep -v -E 'user|session|systemd-' | awk '{{print $1, $3}}'
"""


def everything(lab: Lab, site: SiteBuilder) -> dict[str, Any]:
    """The state of all hosts, the vault, the database server and the site's cases."""
    with ThreadPoolExecutor() as pool:
        listings = list(pool.map(lambda name: lab.exec(name, LISTING).splitlines(), HOSTS))
    state: dict[str, Any] = dict(zip(HOSTS, listings, strict=True))
    state["vault"] = vault_files(lab, site)
    state["databases"] = lab.databases()
    state["roles"] = lab.psql("SELECT rolname FROM pg_roles ORDER BY 1", "postgres")
    state["simpeg"] = pg_facts.facts(lab, "simpeg")
    state["cases"] = cases(site)
    return state


def cases(site: SiteBuilder) -> list[str]:
    """Every file of every case."""
    return sorted(str(path) for path in (site.root / "cases").rglob("*"))


def comparable(state: dict[str, Any]) -> dict[str, Any]:
    """The state without the site's cases: a run that is no check leaves one."""
    return {name: value for name, value in state.items() if name != "cases"}


def test_check_changes_nothing(
    lab: Lab, personnel: Callable[[], None], filed: None, make_site: Callable[..., SiteBuilder]
) -> None:
    """Before the first backup, after it, and on an approved restore; the real runs still follow."""
    site = make_site("simpeg", "berkas", "antrean", quick=True)
    fresh = everything(lab, site)
    first = site.run("schedule", "run", "--due", "--check", as_="pelaksana")
    assert "checked, nothing changed" in first.stdout
    assert everything(lab, site) == fresh

    site.run("schedule", "run", "--due", as_="pelaksana")
    stored = everything(lab, site)
    assert stored["vault"] != fresh["vault"]
    again = site.run("schedule", "run", "--dataset", "simpeg", "--dataset", "berkas", "--check", as_="pelaksana")
    assert "would change: 0" in again.stdout
    assert everything(lab, site) == stored

    forced = site.run_json("schedule", "run", "--dataset", "antrean", "--dataset", "berkas", as_="pelaksana")
    assert forced["changed"] == 0, "a run that is asked for by name reuses the period's backup"
    assert comparable(everything(lab, site)) == comparable(stored)

    case = site.approved("simpeg", "antrean")
    stored["cases"] = cases(site)
    checked = site.run("case", "execute", case, "--check", as_="pelaksana")
    assert "checked, nothing changed" in checked.stdout
    assert "would change: 0" not in checked.stdout
    assert everything(lab, site) == stored
    shown = site.run_json("case", "show", case)
    assert shown["due"]["act"] == "execute"
