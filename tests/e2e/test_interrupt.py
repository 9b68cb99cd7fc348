# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C and kill at the worst moments: the running step ends, a stopped service comes up again, and the case converges."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.checks import all_verified, events, one_line_error, snapshots, wait_until
from tests.e2e.running import Running, execute
from tests.e2e.users import users
from tests.lab.hosts import Lab
from tests.lab.probe import wait_healthy
from tests.support.site_builder import SiteBuilder

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("alone")]

OLD = "UPDATE kepegawaian.pegawai SET nama = 'sesudah backup' WHERE id = 1"
STATE = "SELECT count(*), min(nama) FILTER (WHERE id = 1) FROM kepegawaian.pegawai"


@pytest.fixture(scope="module")
def site(make_site: Callable[..., SiteBuilder], personnel: Callable[[], None]) -> SiteBuilder:
    """A site with a backup of the personnel database, which has changed since."""
    made = make_site("simpeg", quick=True)
    made.run("schedule", "run", "--due", as_="pelaksana")
    return made


@pytest.fixture
def case(lab: Lab, site: SiteBuilder) -> Iterator[str]:
    """An approved restore; the live data differs from the backup, and people work on it until the test is over."""
    lab.psql(OLD)
    with users(lab, "simpeg"):
        yield site.approved("simpeg")


@pytest.fixture
def slow_start(lab: Lab) -> Iterator[None]:
    """The web service takes its time to start, so that a busy machine too can do something while it is down."""
    folder = "/etc/systemd/system/simpeg-web.service.d"
    lab.exec("web01", f"mkdir -p {folder}")
    lab.put("web01", f"{folder}/slow.conf", b"[Service]\nExecStartPre=/bin/sleep 10\n")
    lab.exec("web01", "systemctl daemon-reload")
    yield
    lab.exec("web01", f"rm {folder}/slow.conf; rmdir --ignore-fail-on-non-empty {folder}; systemctl daemon-reload")


def converge(lab: Lab, site: SiteBuilder, case: str) -> dict[str, Any]:
    """Execute the case again as its operator would, once what still runs on the host has let go; it succeeds."""
    deadline = time.monotonic() + 60
    while True:
        done = site.run("case", "execute", case, "--json", as_="pelaksana", check=False)
        if done.returncode == 0:
            break
        assert "another run holds" in done.stdout + done.stderr or "locked" in done.stderr, done.stdout + done.stderr
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(1)
    result: dict[str, Any] = json.loads(done.stdout)
    whole(lab, new=True)
    kept = f"simpeg__before_{case.lower().replace('-', '')}"
    assert kept in lab.databases()
    assert f"simpeg__shadow_{case.lower().replace('-', '')}" not in lab.databases()
    assert site.run_json("case", "show", case)["due"]["act"] != "execute"
    all_verified(site)
    return result


def whole(lab: Lab, *, new: bool) -> None:
    """The service is up, and the data wholly that of the backup (``new``) or wholly that from before."""
    assert wait_healthy(f"{lab.web_url}/health", 10), "the service is down"
    count, name = lab.psql(STATE).split("|")
    assert count == "2000"
    assert (name != "sesudah backup") is new


# --- Ctrl-C ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_first_interrupt_lets_the_running_step_end(lab: Lab, make_site: Callable[..., SiteBuilder]) -> None:
    """During a backup: the step that runs ends, nothing more begins, the record is sealed, the next run completes it."""
    fresh = make_site("simpeg", "berkas", quick=True)
    running = Running(fresh.start("schedule", "run", "--due", "--json", as_="pelaksana"))
    running.until('"kind": "backup"', '"host": "file01"')
    running.interrupt()
    code = running.end()
    assert code == 130, running.text
    assert "Interrupted" in running.text
    [record] = fresh.records
    assert [event for event in events(record) if event["event"] == "playbook_on_stats"], "Ansible came to its own end"
    all_verified(fresh)
    assert fresh.run("schedule", "run", "--due", as_="pelaksana").returncode == 0
    assert all(not row["due"] for row in fresh.run_json("schedule", "status"))
    all_verified(fresh)
    assert len(snapshots(lab, fresh)) == 4, "each dataset has one dump and one manifest; none was stored twice"


@pytest.mark.long
def test_second_interrupt_stops_at_once(lab: Lab, make_site: Callable[..., SiteBuilder]) -> None:
    fresh = make_site("simpeg", quick=True)
    running = Running(fresh.start("schedule", "run", "--due", "--json", as_="pelaksana"))
    running.until("Stream the dump")
    time.sleep(0.5)
    running.interrupt()
    time.sleep(0.3)
    began = time.monotonic()
    running.interrupt()
    assert running.end() == 130, running.text
    assert time.monotonic() - began < 20
    all_verified(fresh)
    assert wait_until(lambda: fresh.run("schedule", "run", "--due", as_="pelaksana", check=False).returncode == 0, 60)
    assert all(not row["due"] for row in fresh.run_json("schedule", "status"))


@pytest.mark.long
def test_interrupt_while_staging_leaves_the_old_data(lab: Lab, site: SiteBuilder, case: str) -> None:
    running = execute(site, case)
    running.until("Stage each dataset")
    time.sleep(1)
    running.interrupt()
    assert running.end() == 130, running.text
    whole(lab, new=False)
    all_verified(site)
    converge(lab, site, case)


@pytest.mark.usefixtures("slow_start")
def test_interrupts_while_the_service_is_stopped_wait(lab: Lab, site: SiteBuilder, case: str) -> None:
    """Between stop and swap nobody gets the service left down, however often they press the keys."""
    running = execute(site, case)
    running.until('"kind": "service"', '"host": "web01"')
    for _ in range(3):
        running.interrupt()
        time.sleep(0.1)
    assert running.end() == 0, running.text
    assert "finishing until it is up again" in running.text
    whole(lab, new=True)
    all_verified(site)
    assert site.run_json("case", "show", case)["due"]["act"] != "execute"


# --- kill -9 ---------------------------------------------------------------------------------------------------


def taken_over(site: SiteBuilder, case: str, running: Running) -> None:
    """The dead command's locks stop everybody, by name, until somebody looks and signs for taking them over."""
    execution = ("case", "execute", case)
    said = [
        f"held by pelaksana on {socket.gethostname()} (pid {running.process.pid}, since ",
        f"for {case}",
        "take-over",
    ]
    for _ in range(2):  # asking again does not wear the refusal out
        one_line_error(site.run(*execution, as_="pelaksana", check=False), 11, "ended without letting go", *said)
    before = len(site.run_json("case", "show", case)["documents"])
    site.run("case", "take-over", case, "--reason", "sopctl dimatikan kernel", as_="pelaksana")
    shown = site.run_json("case", "show", case)
    assert len(shown["documents"]) == before + 1
    act = shown["documents"][-1]
    assert (act["act"], act["person"], act["reason"]) == ("takeover", "pelaksana", "sopctl dimatikan kernel")
    assert act["signature"] == "valid"
    [path] = (site.root / "cases").rglob(f"{case}/*-takeover.json")
    locks = json.loads(path.read_text(encoding="utf-8"))["body"]["locks"]
    assert [lock["name"] for lock in locks] == [case, "dataset-simpeg"]
    assert all(f"pid {running.process.pid}" in lock["holder"] for lock in locks), locks
    assert shown["due"]["act"] == "execute", "taking over completes no step"
    again = site.run("case", "take-over", case, "--reason", "sekali lagi", as_="pelaksana", check=False)
    one_line_error(again, 2, f"no lock of {case} is stale")


@pytest.mark.long
def test_scenario_12_kill_while_staging(lab: Lab, site: SiteBuilder, case: str) -> None:
    running = execute(site, case)
    running.until("Stage each dataset")
    time.sleep(1.5)
    running.kill()
    whole(lab, new=False)
    taken_over(site, case, running)
    converge(lab, site, case)


@pytest.mark.usefixtures("slow_start")
def test_scenario_12_kill_between_stop_and_swap(lab: Lab, site: SiteBuilder, case: str) -> None:
    """The service stays down (nobody is there to start it); executing the case again brings all to its end."""
    running = execute(site, case)
    running.until('"kind": "service"', '"host": "web01"')
    running.kill()
    taken_over(site, case, running)
    converge(lab, site, case)


@pytest.mark.usefixtures("slow_start")
def test_scenario_12_kill_between_swap_and_start(lab: Lab, site: SiteBuilder, case: str) -> None:
    running = execute(site, case)
    running.until('"kind": "swap"')
    running.kill()
    taken_over(site, case, running)
    converge(lab, site, case)


def test_what_killed_runs_left_is_sealed(site: SiteBuilder) -> None:
    """The executions after them have found their artifacts in .state, and made records of them."""
    left = [record for record in site.records if record.name.endswith("R")]
    assert len(left) >= 2
    assert all((record / "data/run/events.jsonl.zst").stat().st_size for record in left)
    assert "broke off before its record was sealed" not in site.run("doctor", check=False).stdout


@pytest.mark.long
def test_killed_scheduled_run_needs_nobody(lab: Lab, make_site: Callable[..., SiteBuilder]) -> None:
    """A backup that is killed while it dumps: nothing of it counts, and the next run goes on with its case by itself."""
    fresh = make_site("simpeg", quick=True)
    running = Running(fresh.start("schedule", "run", "--due", "--json", as_="pelaksana"))
    running.until("Stream the dump")
    time.sleep(0.5)
    running.kill()
    assert not [backup for backup in fresh.run_json("vault", "list") if backup["verified"]]
    # what the controller left at work on the host ends by itself
    assert wait_until(lambda: fresh.run("schedule", "run", "--due", as_="pelaksana", check=False).returncode == 0, 90)
    assert [backup["verified"] for backup in fresh.run_json("vault", "list")] == [True]
    assert len(list((fresh.root / "cases").glob("*/BKP-*"))) == 1
    all_verified(fresh)
