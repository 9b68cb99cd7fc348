# SPDX-License-Identifier: Apache-2.0
"""Scenario 10: two operators at once, and locks of a command that died, taken over by a recorded act, or cleared by
the next scheduled run where they are a scheduled run's."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from tests.e2e.checks import all_verified, one_line_error, wait_until
from tests.e2e.conftest import make_local_site
from tests.e2e.local import copied, data, ledger, planned, refused, sql
from tests.support.site_builder import SiteBuilder

WHEN = r"since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """A site with a backup and a second operator."""
    site = make_local_site(tmp_path_factory.mktemp("locks"))
    site.person("pelaksana-2", ["pelaksana"], "Pranata Komputer Ahli Muda")
    site.run("schedule", "run", "--due", as_="pelaksana")
    return site


@pytest.fixture
def site(base: SiteBuilder, tmp_path: Path) -> SiteBuilder:
    """A copy of it."""
    return copied(base, tmp_path)


def runs(site: SiteBuilder, case: str) -> int:
    """How many runs of the case the ledger knows."""
    return sum(line["kind"] == "run-started" and line["ref"].startswith(f"{case}/") for line in ledger(site))


def started(site: SiteBuilder, case: str, who: str) -> int:
    """Start an execution and end its sopctl with -9 as soon as its run has entered the ledger; its pid."""
    before = runs(site, case)
    process = site.start("case", "execute", case, as_=who)
    assert wait_until(lambda: runs(site, case) > before, 60), process.communicate()[0]
    process.kill()
    process.communicate()
    os.killpg(process.pid, signal.SIGKILL) if group_lives(process.pid) else None
    return process.pid


def group_lives(group: int) -> bool:
    """Whether a process of that group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_scenario_10_two_operators_at_once(site: SiteBuilder) -> None:
    """One works; the other leaves with 11 and is told who, where, in which process and since when."""
    case = site.approved("antrean")
    people = ("pelaksana", "pelaksana-2")
    processes = {who: site.start("case", "execute", case, as_=who) for who in people}
    said = {who: (process.communicate()[0], process.returncode) for who, process in processes.items()}
    codes = {who: code for who, (_, code) in said.items()}
    assert sorted(codes.values()) == [0, 11], said
    loser = next(who for who, code in codes.items() if code == 11)
    winner = next(who for who in people if who != loser)
    [line] = said[loser][0].strip().splitlines()
    assert f"held by {winner} on {socket.gethostname()} (pid {processes[winner].pid}, " in line
    assert re.search(WHEN, line), line
    assert case in line
    assert runs(site, case) == 1
    documents = site.run_json("case", "show", case)["documents"]
    assert [(row["act"], row["person"]) for row in documents][-1] == ("execute", winner)
    all_verified(site)


def test_scenario_10_stale_lock(site: SiteBuilder) -> None:
    """Nobody gets past a dead command's lock but by the signed act; that says whose it was; then the work goes on."""
    case = site.approved("antrean")
    sql(data(site), "DELETE FROM antrean WHERE id > 100")
    pid = started(site, case, "pelaksana")
    execute = ("case", "execute", case)
    for who in ("pelaksana", "pelaksana-2"):
        done = site.run(*execute, as_=who, check=False)
        line = one_line_error(done, 11, f"held by pelaksana on {socket.gethostname()} (pid {pid}, ", "take-over")
        assert re.search(WHEN, line)
    assert runs(site, case) == 1, "a refusal begins nothing"
    shown = site.run("case", "show", case)
    assert shown.returncode == 0, "looking is free"
    assert "stale" in (doctor := site.run("doctor", check=False).stdout) or "ended without letting go" in doctor
    take = ("case", "take-over", case, "--reason", "proses mati")
    refused(site.run(*take, as_="kabid", check=False), "pelaksana", "kabid")
    refused(site.run(*take, as_="pemohon", check=False), "pelaksana", "pemohon")
    one_line_error(site.run("case", "take-over", case, "--reason", " ", as_="pelaksana-2", check=False), 2, "reason")
    one_line_error(site.run(*execute, as_="pelaksana", check=False), 11)
    site.run(*take, as_="pelaksana-2")
    [path] = (site.root / "cases").rglob(f"{case}/*-takeover.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["actor"] == {"person": "pelaksana-2", "role": "pelaksana"}
    assert document["body"]["reason"] == "proses mati"
    assert all(f"pid {pid}" in lock["holder"] and "pelaksana" in lock["holder"] for lock in document["body"]["locks"])
    # and what the dead run had told is sealed
    assert [line["ref"] for line in ledger(site)][-2:] == [f"{case}/{document['seq']:02d}", f"{case}-01R"]
    assert wait_until(lambda: site.run(*execute, as_="pelaksana-2", check=False).returncode == 0, 60)
    shown_value = site.run_json("case", "show", case)
    assert [row["act"] for row in shown_value["documents"]][-2:] == ["takeover", "execute"]
    assert shown_value["problems"] == []
    assert sql(data(site), "SELECT count(*) FROM antrean") == [(200,)]
    all_verified(site)


def test_scenario_10_a_held_lock_is_not_taken(site: SiteBuilder) -> None:
    """Taking over is for the dead: while the other lives it is refused, and their work is not disturbed."""
    case = site.approved("antrean")
    process = site.start("case", "execute", case, as_="pelaksana")
    assert wait_until(lambda: runs(site, case) == 1, 60)
    take = ("case", "take-over", case, "--reason", "tidak sabar")
    one_line_error(site.run(*take, as_="pelaksana-2", check=False), 2, f"no lock of {case} is stale")
    assert process.wait(120) == 0, process.communicate()[0]
    process.communicate()
    assert not list((site.root / "cases").rglob(f"{case}/*-takeover.json"))


def test_scenario_10_a_killed_scheduled_run(local_site: SiteBuilder) -> None:
    """The schedule's own cases need nobody at night: the next run clears the dead one's locks, which is recorded, and goes on."""
    site = local_site
    process = site.start("schedule", "run", "--due", as_="pelaksana")
    assert wait_until(lambda: runs(site, "BKP-2026-0001") == 1 or runs(site, "BKP-2027-0001") == 1, 60)
    process.kill()
    process.communicate()
    run = ("schedule", "run", "--due")
    assert wait_until(lambda: site.run(*run, as_="pelaksana", check=False).returncode == 0, 60)
    assert site.run("schedule", "status", check=False).returncode == 0
    [row] = site.run_json("case", "list")
    assert (row["due"], row["broken"]) == ("confirm", []), "no case waits for what nobody can do"
    assert [each["act"] for each in site.run_json("case", "show", row["case"])["documents"]] == ["execute"]
    assert [line["ref"] for line in ledger(site) if line["kind"] == "locks-cleared"] == [row["case"]]
    all_verified(site)


def test_scenario_10_two_due_runs_at_once(local_site: SiteBuilder) -> None:
    """Two timers at the same second: one backs up, the other leaves with 11, or with 0 where it came after; one backup counts."""
    site = local_site
    processes = [site.start("schedule", "run", "--due", as_="pelaksana") for _ in range(2)]
    said = [(process.communicate()[0], process.returncode) for process in processes]
    [other] = [text for text, _ in said if "Nothing is due" in text or "is held by pelaksana" in text]
    codes = sorted(code for _, code in said)
    assert codes == ([0, 11] if "is held by" in other else [0, 0]), said
    assert "Traceback" not in other
    [backup] = site.run_json("vault", "list")
    assert backup["verified"]
    assert sum(line["kind"] == "run-started" for line in ledger(site)) == 1
    [case] = (site.root / "cases").glob("*/BKP-*")
    assert list(case.glob("*-execute.json")), "no empty case is left"
    all_verified(site)


def test_scenario_10_two_operators_in_kaltim(tmp_path: Path) -> None:
    """Nor do two run one plan."""
    site = make_local_site(tmp_path, "kaltim")
    site.person("pengelola-2", ["pengelola"], "Pengelola TIK")
    case = planned(site, "backup", "antrean")
    processes = [site.start("case", "execute", case, as_=who) for who in ("pengelola", "pengelola-2")]
    said = [(process.communicate()[0], process.returncode) for process in processes]
    assert sorted(code for _, code in said) == [0, 11], said
    assert runs(site, case) == 1
