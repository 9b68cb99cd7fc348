# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.escalation and sopctl.escalation_page: what an engineer reads at 3 a.m., from evidence of several situations."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sopctl.escalation import Page, escalate
from sopctl.escalation_data import FIRES
from sopctl.escalation_page import WIDTH, text
from sopctl.execution import Run
from sopctl.models import Json
from sopctl.outcomes import exit_code
from sopctl.runner import RunOutcome

NOW, SOON, PAST = "2026-11-22T03:05:00Z", "2026-11-22T03:10:00Z", "2026-11-22T03:04:00Z"
ZONE = ZoneInfo("Asia/Jakarta")
CASE = "RST-2026-0001"
SUFFIX = "rst20260001"
WEB = {"name": "simpeg-web", "manager": "systemd", "unit": "simpeg-web.service", "health": {"url": "http://web01/health", "timeout": 60}}  # fmt: skip


def item(dataset: str, host: str, **record: Any) -> Json:
    return {
        "dataset": {"id": dataset, **record},
        "server": host, "host": host, "snapshot": "a" * 64, "bytes": 1, "max_downtime": 600,
        "services": [{"server": "web01", "host": "web01", "service": WEB}],
    }  # fmt: skip


SIMPEG = item(
    "simpeg", "db01", engine="postgresql", database="simpeg", connection={"port": 5433, "os_user": "postgres"}
)
IZIN = item("perizinan", "db02", engine="mariadb", database="perizinan")
BERKAS = item("berkas", "file01", engine="files", path="/srv/berkas arsip")


def stopped(state: str = "stopped", **more: Any) -> Json:
    return {"kind": "service", "host": "web01", "service": "simpeg-web", "state": state, "at": "2026-11-22T03:02:11Z", "failed": False, **more}  # fmt: skip


def data(kind: str, state: str, of: Json = SIMPEG, **more: Any) -> Json:
    record = of["dataset"]
    place = record.get("database") or record["path"]
    return {
        "kind": kind, "host": of["host"], "dataset": record["id"], "state": state, "failed": False,
        "before": f"{place}__before_{SUFFIX}", "shadow": f"{place}__shadow_{SUFFIX}", **more,
    }  # fmt: skip


def switch(phase: str, host: str = "db01", deadline: str | None = SOON, **more: Any) -> Json:
    return {"kind": "switch", "host": host, "phase": phase, "deadline": deadline, "datasets": {}, "services": [], "failed": False, **more}  # fmt: skip


def run(
    evidence: list[Json], *items: Json, failures: list[Json] | None = None, unreachable: dict[str, str] | None = None
) -> Run:
    planned = copy.deepcopy(list(items or (SIMPEG,)))
    hosts = dict.fromkeys([one["host"] for one in planned] + ["web01"])
    plan = {"case": CASE, "site": "d9dc33dd-33d3-4382-bdb7-2fe1c171377c", "operation": "restore", "items": planned,
            "hosts": {host: {"server": host} for host in hosts}}  # fmt: skip
    outcome = RunOutcome(rc=2, evidence=evidence, failures=failures or [], unreachable=unreachable or {})
    return Run(
        f"{CASE}-01", plan, None, outcome, Path("x"), NOW, NOW, False, b"", "", frozenset({("web01", "simpeg-web")})
    )


def page(*args: Any, **given: Any) -> Page:
    made = run(*args, **given)
    assert exit_code(made) == 21
    return escalate(made, "pelaksana", NOW)


def failure(host: str, msg: str) -> Json:
    return {"host": host, "msg": msg, "task": "x", "dataset": None}


STAGED, SWAPPED = data("stage", "staged"), data("swap", "swapped")
GONE = failure("db01", "db01/simpeg: does not answer: ssh: connect to host db01 port 22: No route to host")
START = failure("web01", "service-simpeg-web: simpeg-web.service did not start (exit 1); look at journalctl")


@pytest.mark.parametrize(
    ("evidence", "failures", "state", "live_is", "kept", "advice"),
    [
        ([switch("armed"), STAGED, stopped()], [START], "staged", "OLD data", f"simpeg__shadow_{SUFFIX}", "old"),
        ([STAGED, switch("armed"), stopped(), SWAPPED], [GONE], "swapped", "NEW data, not committed yet",
         f"simpeg__before_{SUFFIX}", "old"),
        ([STAGED, stopped(), SWAPPED, switch("committed", datasets={"simpeg": {"state": "swapped"}})], [START], "committed",
         "NEW data", f"simpeg__before_{SUFFIX}", "new"),
        ([STAGED, stopped(), SWAPPED, data("revert", "reverted", identity={"old": 1}), switch("aborted")], [START],
         "reverted", "OLD data", f"simpeg__shadow_{SUFFIX}", "old"),
        ([STAGED, stopped(), data("revert", "reverted", changed=True)], [START], "untouched", "OLD data", "", "old"),
        ([stopped()], [START], "untouched", "OLD data", "", "old"),
    ],
    ids=["staged", "swapped", "committed", "reverted", "copy dropped", "nothing done"],
)  # fmt: skip
def test_what_is_live_and_what_is_kept(
    evidence: list[Json], failures: list[Json], state: str, live_is: str, kept: str, advice: str
) -> None:
    made = page(evidence, failures=failures)
    [one] = made.hosts[0].datasets
    assert (one.state, one.live, one.live_is, one.kept) == (state, "simpeg", live_is, kept)
    assert made.advice == advice
    shown = text(made, ZONE)
    assert state.upper() in shown
    assert failures[0]["msg"].split(";")[0].split()[-1] in shown
    if kept:
        assert kept in shown


IN_PLACE = {**SIMPEG, "in_place": True, "safety_name": "pengaman_simpeg"}
SAFETY = {"kind": "backup", "host": "db01", "dataset": "simpeg", "name": "pengaman_simpeg_2", "failed": False}


@pytest.mark.parametrize(
    ("evidence", "state", "live_is", "kept", "advice"),
    [
        ([switch("armed"), stopped()], "untouched", "OLD data", "", "old"),
        ([switch("armed"), stopped(), SAFETY, switch("in_place")], "emptied", "EMPTY, or in part", "pengaman_simpeg_2", "vault"),
        ([switch("in_place"), stopped(), data("empty", "emptied")], "emptied", "EMPTY, or in part", "pengaman_simpeg", "vault"),
        ([switch("in_place"), stopped(), data("empty", "emptied"), STAGED], "emptied", "EMPTY, or in part", "pengaman_simpeg", "vault"),
        ([switch("in_place"), stopped(), STAGED, SWAPPED], "swapped", "NEW data", "pengaman_simpeg", "vault"),
        ([switch("in_place"), SWAPPED, stopped(), switch("committed", datasets={"simpeg": {"state": "swapped"}})], "committed",
         "NEW data", "pengaman_simpeg", "only-new"),
    ],
    ids=["not begun", "may have begun", "emptied", "loaded", "swapped", "committed"],
)  # fmt: skip
def test_in_place_the_old_data_is_in_the_vault(
    evidence: list[Json], state: str, live_is: str, kept: str, advice: str
) -> None:
    """What lies under the name of the old data is empty then, and nobody is told to go back to it."""
    made = page(evidence, IN_PLACE, failures=[START])
    [one] = made.hosts[0].datasets
    assert (one.state, one.live_is.startswith(live_is), made.advice) == (state, True, advice)
    assert one.kept == (f"in the vault, {kept}" if kept else "")
    assert one.kept_is == ("OLD data" if kept else "")
    commands = [command for step in made.steps for command in step.commands]
    assert any("--old" in command for command in commands) == (advice == "old")
    assert any("--new" in command for command in commands) == (advice != "vault")
    assert ("Nothing was destroyed" in text(made, ZONE)) == (not kept)


@pytest.mark.parametrize("phase", FIRES)
def test_when_the_switch_fires_and_what_it_does(phase: str) -> None:
    made = page([STAGED, switch(phase), stopped()], failures=[START])
    one = made.hosts[0].switch
    assert one is not None
    assert (one.phase, one.deadline, one.fired, one.does) == (phase, SOON, False, FIRES[phase])
    shown = " ".join(text(made, ZONE).split())
    assert f"{phase}; fires at 2026-11-22 10:10:00 WIB and then {FIRES[phase]}" in shown
    assert "S=/var/lib/sop/switch/RST-2026-0001-d9dc33dd/sop-settle" in shown


def test_a_deadline_that_has_passed_and_a_switch_that_has_fired() -> None:
    made = page([STAGED, switch("armed", deadline=PAST), stopped()], failures=[GONE])
    one = made.hosts[0].switch
    assert one is not None
    assert one.fired
    assert "was to fire at 2026-11-22 10:04:00 WIB" in " ".join(text(made, ZONE).split())
    settled = switch("settled", deadline=None, outcome={"data": "old", "at": PAST})
    made = page([STAGED, settled, stopped()], failures=[START])
    assert "settled; it has fired: settled on the OLD data" in " ".join(text(made, ZONE).split())


def test_a_host_that_does_not_answer_is_told_with_its_last_word() -> None:
    made = page([STAGED, switch("armed"), stopped(), SWAPPED], failures=[GONE])
    host = made.hosts[0]
    assert (host.answers, host.why) == (False, "ssh: connect to host db01 port 22: No route to host")
    assert "the host does not answer since and its switch may have fired" in host.datasets[0].doubt
    shown = text(made, ZONE)
    assert "HOST db01: DOES NOT ANSWER (ssh: connect to host db01 port 22: No route to" in shown
    assert "last known" in shown


def test_an_unreachable_play_host_that_said_nothing() -> None:
    made = page([stopped()], unreachable={"db01": "connection refused"}, failures=[])
    assert made.hosts[0].datasets[0].doubt.startswith("last known")
    assert "db01 does not answer: connection refused" in made.failures
    assert "none is known to be armed" in text(made, ZONE)


def test_a_failed_step_is_not_believed() -> None:
    made = page([STAGED, stopped(), SWAPPED, data("revert", "reverted", failed=True)], failures=[START])
    [one] = made.hosts[0].datasets
    assert (one.state, one.doubt) == ("swapped", "last known; the step after it (revert) failed")


def test_services_stopped_held_and_unknown() -> None:
    armed_web = switch("armed", host="web01")
    states = {
        "held": [STAGED, armed_web, stopped()],
        "stopped": [STAGED, stopped()],
        "unknown": [STAGED, armed_web],
    }
    for state, evidence in states.items():
        made = page(evidence, failures=[START])
        [one] = made.hosts[1].services
        assert one.state == state
        assert "sudo rm -f /run/sop/hold-simpeg-web.service && sudo systemctl start simpeg-web.service" in " ".join(
            one.commands
        )
    made = page([STAGED, stopped(), stopped("started", failed=True)], failures=[START])
    assert made.hosts[1].services[0].state == "unknown"
    shown = text(page(states["held"], failures=[START]), ZONE)
    assert "STOPPED AND HELD DOWN by" in shown
    assert "since 2026-11-22 10:02:11 WIB" in " ".join(shown.split())


def test_hosts_that_may_have_been_told_different_things() -> None:
    """Two hosts hold data: both said ready, then one was lost. Nobody decides before it was looked at."""
    evidence = [
        data("swap", "swapped"), data("swap", "swapped", IZIN), stopped(),
        switch("ready"), switch("ready", host="db02"),
    ]  # fmt: skip
    lost = failure("db02", "db02/?: does not answer: timed out")
    made = page(evidence, SIMPEG, IZIN, failures=[lost])
    assert made.advice == "wait"
    both = next(step for step in made.steps if "ONE side" in step.text)
    assert [command.split()[-1] for command in both.commands] == ["--old", "--new"]
    assert "First reach the host that does not answer" in both.text
    told = [*evidence, switch("committed", datasets={"simpeg": {"state": "swapped"}})]
    made = page(told, SIMPEG, IZIN, failures=[lost])
    assert made.advice == "new"
    decide = next(step for step in made.steps if "ONE side" in step.text)
    assert decide.commands == [f"sudo $S {CASE} --new", f"sudo $S {CASE} --old    # the other side"]


def test_each_engine_is_looked_at_with_its_own_tools() -> None:
    made = page([stopped()], SIMPEG, IZIN, BERKAS, failures=[START])
    looks = {one.dataset: one.look for host in made.hosts for one in host.datasets}
    assert looks == {
        "simpeg": ["sudo -u postgres psql -p 5433 -l"],
        "perizinan": ["sudo mariadb -e 'SHOW DATABASES'"],
        "berkas": ["sudo ls -la /srv | grep -F 'berkas arsip'"],
    }


def test_a_service_that_is_started_by_commands() -> None:
    command = copy.deepcopy(SIMPEG)
    command["services"][0]["service"] = {"name": "simpeg-web", "manager": "command", "start": ["/srv/app/start", "--all now"], "status": ["/srv/app/status"]}  # fmt: skip
    made = page([stopped()], command, failures=[START])
    assert made.hosts[1].services[0].commands == ["/srv/app/status", "/srv/app/start '--all now'"]


def test_the_page_fits_80_columns_and_its_commands_can_be_copied() -> None:
    long = failure("db01", "db01/simpeg: " + "kegagalan yang panjang sekali " * 12 + "\x1b[31m")
    made = page(
        [STAGED, switch("armed"), stopped(), SWAPPED, data("swap", "swapped", IZIN), switch("ready", host="db02")],
        SIMPEG, IZIN, BERKAS, failures=[long, GONE],
    )  # fmt: skip
    shown = text(made, ZONE)
    commands = [command for step in made.steps for command in step.commands]
    lines = [line for line in shown.splitlines() if line.strip() not in commands and "look  " not in line]
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in shown
    assert f"       sopctl case execute {CASE} --as pelaksana" in shown.splitlines()
    order = [
        shown.index(word) for word in ("THE SERVICE IS DOWN", "WHAT FAILED", "HOST db01", "HOST db02", "WHAT TO DO")
    ]
    assert order == sorted(order)


def test_the_page_of_an_open_case_reads_like_this() -> None:
    """One page in full, as it is printed: what is changed here is changed for whoever is on duty."""
    evidence = [STAGED, switch("armed"), switch("armed", host="web01"), stopped(), SWAPPED]
    assert text(page(evidence, failures=[GONE]), ZONE) == (Path(__file__).parent / "escalation.txt").read_text()
