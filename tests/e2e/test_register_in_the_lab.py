# SPDX-License-Identifier: Apache-2.0
"""The register over real servers: looked at twice, a package upgraded, a database server that nobody registered, a review."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import LabSite
from tests.e2e.local import requested as asked
from tests.lab.hosts import Lab
from tests.support.site_builder import KEEPER, SiteBuilder

pytestmark = pytest.mark.lab
HOSTS = {"db01", "db02", "db03", "web01", "file01", "vault01"}


@pytest.fixture(scope="module")
def site(make_site: LabSite) -> SiteBuilder:
    """Kaltim's SOP, for it plans, and demands the yearly review; every host of the lab is registered."""
    made = make_site("simpeg", profile="kaltim")
    made.sign_register()
    return made


def scan(site: SiteBuilder, *words: str) -> Any:
    """The result of a scan as JSON."""
    done = site.run("asset", "scan", *words, "--json", as_="pengelola", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def install(lab: Lab, version: str) -> None:
    """A package of a backup program, of that version, built and installed on the host."""
    script = f"""set -e; d=$(mktemp -d); mkdir -p $d/DEBIAN $d/usr/bin
        printf 'Package: borgbackup-contoh\\nVersion: {version}\\nArchitecture: all\\nMaintainer: tests\\nDescription: test\\n' > $d/DEBIAN/control
        printf '#!/bin/sh\\necho borg {version}\\n' > $d/usr/bin/borg; chmod 755 $d $d/usr $d/usr/bin $d/usr/bin/borg
        dpkg-deb --root-owner-group -b $d /root/contoh.deb; dpkg -i /root/contoh.deb; rm -r $d /root/contoh.deb"""
    lab.exec("file01", script)


@pytest.fixture
def package(lab: Lab) -> Iterator[None]:
    """The package is there in its first version."""
    install(lab, "1.2.4")
    yield
    lab.exec("file01", "dpkg -P borgbackup-contoh")


def test_1_all_hosts_twice(site: SiteBuilder) -> None:
    first = scan(site)
    assert set(first["changes"]) == HOSTS
    assert first["silent"] == {} and first["record"]
    again = scan(site)
    assert (again["changes"], again["record"]) == ({}, None)
    servers = {row["server"]["id"]: row["facts"]["facts"] for row in site.run_json("asset", "list")}
    assert {name for name in HOSTS if servers[name]["system"]["name"].startswith("Debian")} == HOSTS
    engines = {name: {one["engine"] for one in row["databases"] if one["running"]} for name, row in servers.items()}
    assert (engines["db01"], engines["db02"], engines["vault01"]) == ({"postgresql"}, {"mariadb"}, set())


def test_2_an_upgraded_package_is_one_difference(lab: Lab, site: SiteBuilder, package: None) -> None:
    scan(site, "file01")
    install(lab, "1.4.0")
    [change] = scan(site, "file01")["changes"]["file01"]
    assert change["name"].startswith("backup_clients[borg")
    assert (change["before"], change["after"]) == ("1.2.4", "1.4.0")
    shown = site.run("asset", "show", "file01").stdout
    assert "1.4.0" in shown and "1.2.4" not in shown


def test_3_a_cluster_on_a_second_port_that_nobody_registered(lab: Lab, site: SiteBuilder) -> None:
    lab.exec("db01", "pg_createcluster 15 liar --port 5466 --start")
    try:
        found = scan(site, "db01")
        [gap] = [gap for gap in found["gaps"] if gap["about"] == "db01:5466"]
        assert gap["kind"] == "unregistered-database"
        assert "db01:5466" in site.run("asset", "due", check=False).stdout
    finally:
        lab.exec("db01", "pg_dropcluster --stop 15 liar")
    assert not [gap for gap in scan(site, "db01")["gaps"] if gap["about"] == "db01:5466"]


def test_4_a_review_blocks_a_plan_and_lets_it_go_on(site: SiteBuilder) -> None:
    case = asked(site, "backup", "simpeg")
    site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="administrator")
    site.run("case", "dispose", case, as_="pengawas")
    entry = json.loads((site.root / "register/servers/db01.yml").read_text(encoding="utf-8"))
    site.write_yaml("register/servers/db01.yml", {**entry, "reviewed": {"at": "2024-11-01", "by": "pengawas"}})
    site.sign_register()
    plan = ("case", "plan", case, "--on-duty", "pengelola", "--on-duty", "pemeriksa")
    refused = site.run(*plan, as_="pengelola", check=False)
    assert refused.returncode == 10 and "review of db01 is overdue" in refused.stderr, refused.stderr
    site.run("asset", "review", "db01", as_=KEEPER)
    site.run(*plan, as_="pengelola")
    assert site.run_json("case", "show", case)["due"]["act"] == "execute"
