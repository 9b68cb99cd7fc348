# SPDX-License-Identifier: Apache-2.0
"""Datasets of one case on several servers: swapped together or not at all, and never decided differently."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.checks import all_verified, evidence
from tests.e2e.conftest import restore_file01
from tests.e2e.running import Running
from tests.e2e.users import users
from tests.lab.hosts import Lab
from tests.lab.probe import wait_healthy
from tests.support.site_builder import SiteBuilder

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("alone")]

DATABASE = "/srv/antrean/antrean.db"
OLD = "UPDATE kepegawaian.pegawai SET nama = 'sesudah backup' WHERE id = 1"
SHORT = "PT90S"  # on a busy machine a step takes ten seconds


@pytest.fixture(scope="module")
def site(make_site: Callable[..., SiteBuilder], personnel: Callable[[], None], lab: Lab) -> SiteBuilder:
    """Personnel (db01, its service on web01) and queue (file01) have a backup; both changed afterwards."""
    restore_file01(lab)
    made = make_site("simpeg", "antrean", quick=True, max_downtime=SHORT)
    made.run("schedule", "run", "--due", as_="pelaksana")
    return made


@pytest.fixture
def case(lab: Lab, site: SiteBuilder) -> Iterator[str]:
    """An approved restore of both; people work on both until the test is over."""
    lab.forget_kept()
    lab.psql(OLD)
    lab.exec("file01", f"sqlite3 {DATABASE} 'PRAGMA user_version = 77'")
    with users(lab, "simpeg", "antrean"):
        yield site.approved("simpeg", "antrean")


def sides(lab: Lab) -> tuple[bool, bool]:
    """Whether the data of db01 and of file01 is the new one."""
    name = lab.psql("SELECT nama FROM kepegawaian.pegawai WHERE id = 1")
    version = lab.exec("file01", f"sqlite3 -readonly {DATABASE} 'PRAGMA user_version'").strip()
    return name != "sesudah backup", version != "77"


def up(lab: Lab, seconds: float = 15) -> bool:
    """Whether both services answer."""
    return all(wait_healthy(f"{url}/health", seconds) for url in (lab.web_url, lab.queue_url))


def test_both_are_new(lab: Lab, site: SiteBuilder, case: str) -> None:
    done = json.loads(site.run("case", "execute", case, "--json", as_="pelaksana").stdout)
    assert done["result"] == "berhasil"
    assert sides(lab) == (True, True)
    assert up(lab)
    phases = [entry["phase"] for entry in evidence(site.records[-1], "switch")]
    assert phases == [phase for phase in ("armed", "ready", "committed", "disarmed") for _ in range(3)]


@pytest.mark.long
def test_one_that_cannot_be_swapped_keeps_the_other_old(lab: Lab, site: SiteBuilder, case: str) -> None:
    """Somebody has the queue's database open: nobody's data is exchanged, and the form says so for both."""
    lab.exec("file01", f"systemd-run --quiet --unit pembaca sh -c 'exec 9<>{DATABASE}; sleep 300'")
    try:
        done = site.run("case", "execute", case, "--json", as_="pelaksana", check=False)
    finally:
        lab.exec("file01", "systemctl stop pembaca")
    result = json.loads(done.stdout)
    assert (done.returncode, result["result"]) == (20, "gagal_dikembalikan"), done.stdout
    assert sides(lab) == (False, False)
    assert up(lab)
    assert "not quiet" in done.stdout
    all_verified(site)


@pytest.mark.long
def test_in_doubt_waits_for_a_person_and_goes_on_forward(lab: Lab, site: SiteBuilder, case: str) -> None:
    """The controller dies when all hosts have swapped and none was told: no host decides alone, however long it takes."""
    running = Running(site.start("case", "execute", case, "--json", as_="pelaksana"))
    for _ in range(3):
        running.until('"kind": "switch"', '"phase": "ready"')
    running.kill()
    time.sleep(95)  # longer than the max downtime: every switch has fired
    assert not wait_healthy(f"{lab.web_url}/health", 1), "the service must not run on data that nobody decided about"
    settle = f"$(ls -t /var/lib/sop/switch/{case}-*/sop-settle | head -n 1)"
    shown = {host: lab.exec(host, f"set -- {settle}; $1 --status {case}") for host in ("db01", "file01", "web01")}
    phases = {text.splitlines()[0].rpartition(": ")[2] for text in shown.values()}
    assert phases <= {"ready", "committed"} and "ready" in phases, shown
    assert any("held since" in text and "look at the others" in text for text in shown.values()), shown
    site.run("case", "take-over", case, "--reason", "sopctl dimatikan kernel", as_="pelaksana")
    done = json.loads(site.run("case", "execute", case, "--json", as_="pelaksana").stdout)
    assert done["result"] == "berhasil"
    assert sides(lab) == (True, True)
    assert up(lab)
    all_verified(site)
