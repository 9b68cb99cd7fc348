"""dead_mans_switch and sop-settle on real data: every phase, its own program, and the lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import settle, switch, switch_units

from tests.e2e.checks import wait_until
from tests.integration.switch_host import CASE, Host, forget

pytestmark = [
    pytest.mark.part(2),
    pytest.mark.skipif(
        os.geteuid() != 0, reason="the switch of an ordinary user lies in the home; run as root, as on a server"
    ),
]


@pytest.fixture(params=["sqlite", "files"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path, request.param)
    yield made
    forget(made.switch.folder)


# --- the straight way, and what each phase comes to -------------------------------------------------------------------


def test_the_whole_way(host: Host) -> None:
    assert host.to("armed", check=True)["changed"]
    assert host.switch.phase == ""
    host.swap()
    done = host.to("committed")
    assert done["sop_evidence"]["phase"] == "committed"
    assert done["sop_evidence"]["identity"]["antrean"]["new"]
    assert not host.to("committed")["changed"]
    assert not host.step("service_state", "service.started").get("failed")
    assert host.to("disarmed")["changed"]
    assert not host.to("disarmed")["changed"]
    assert not Path(switch_units.settle_path(host.switch)).exists()
    assert (host.live, host.runs) == ("baru", True)


@pytest.mark.parametrize(
    ("phases", "data", "code"),
    [
        ([], "lama", 0),
        (["committed"], "baru", 0),
        (["ready"], "baru", 21),
        (["ready", "committed"], "baru", 0),
        (["aborted"], "lama", 0),
        (["committed", "ready"], "baru", 21),
        (["committed", "ready", "aborted"], "lama", 0),
        (["committed", "aborted"], "lama", 0),
    ],
)
def test_what_a_phase_comes_to(host: Host, phases: list[str], data: str, code: int) -> None:
    """After the swap nobody comes back: sop-settle decides by the journal, or leaves the service down and says so."""
    host.swap()
    for phase in phases:
        done = host.to(phase, together=True)
        assert not done.get("failed"), done
    done_settling = host.settle()
    assert done_settling.returncode == code, done_settling
    assert (host.live, host.runs) == (data, code == 0), done_settling
    status = host.settle("--status").stdout if code else ""
    if code:
        assert "decides nothing, the services stay held" in status
        assert host.switch.phase == "ready"
        assert host.settle("--new").returncode == 0, "a person decides what the journal does not"
        assert (host.live, host.runs) == ("baru", True)
    else:
        outcome = host.switch.read()["outcome"]
        assert (outcome["data"], outcome["by"]) == ({"lama": "old", "baru": "new"}[data], "boot")
    for module, step in (("quiesce", "quiesce.quiesced"), ("restore_dataset", "restore.swapped")):
        refused = host.step(module, step)
        if step == "restore.swapped" and data == "baru":
            continue  # it is swapped: nothing is done again
        assert "fired at" in refused["msg"], refused


def test_taken_back_before_it_counted_may_be_swapped_again(host: Host) -> None:
    host.swap()
    assert host.settle().returncode == 0
    assert host.step("restore_dataset", "restore.staged")["sop_evidence"]["state"] == "staged"
    host.swap()
    assert host.to("committed")["changed"]
    assert host.settle().returncode == 0
    assert (host.live, host.runs) == ("baru", True)


def test_what_was_live_is_never_used_again(host: Host) -> None:
    host.swap()
    assert host.to("committed")["changed"]
    assert host.to("aborted")["changed"]
    assert host.settle().returncode == 0
    assert host.live == "lama"
    assert host.step("restore_dataset", "restore.staged")["sop_evidence"]["state"] == "reverted"
    assert "was reverted" in host.step("restore_dataset", "restore.swapped")["msg"] or host.switch.phase == "settled"


def test_health_that_stays_red_goes_back_where_the_host_is_alone(host: Host) -> None:
    """Nobody is there to see it, so the old data is the better half: the service answered on it."""
    host.service["health"] = {"url": "http://127.0.0.1:9/", "timeout": 1}
    host.swap()
    assert host.to("committed")["changed"]
    done = host.settle("--new")
    assert done.returncode == 21, done  # the old data does not make this address answer either
    assert (host.live, host.runs) == ("lama", True)
    assert "does not come up" in done.stdout or "do not come up" in done.stdout
    assert "was not healthy" in done.stdout


def test_nothing_is_armed_twice_or_disarmed_undecided(host: Host) -> None:
    host.swap()
    assert host.to("armed")["sop_evidence"]["was"] == "armed"
    assert "is swapped and not committed" in host.to("disarmed")["msg"]
    assert host.to("committed")["changed"]
    assert host.to("armed")["sop_evidence"]["phase"] == "committed", "what was decided stays decided"
    assert host.to("disarmed")["changed"]
    again = host.to("armed")["sop_evidence"]
    assert again["phase"] == "committed", "data that is live is never taken back by a switch that is armed later"


@pytest.mark.parametrize("state", ["ready", "committed"])
def test_nothing_counts_before_it_is_swapped(host: Host, state: str) -> None:
    assert "not armed" in host.to(state)["msg"]
    assert host.to("armed")["changed"]
    assert "not everything is swapped here (antrean is staged)" in host.to(state)["msg"]


def test_a_service_that_runs_keeps_the_swap_away(host: Host) -> None:
    assert host.to("armed")["changed"]
    assert "service antrean runs" in host.step("restore_dataset", "restore.swapped")["msg"]
    assert host.live == "lama"


def test_too_little_time_left_for_a_swap(host: Host) -> None:
    assert host.to("armed", seconds=10)["changed"]
    assert not host.step("service_state", "service.stopped").get("failed")
    time.sleep(max(0.0, switch.time_left(host.switch.read()) - switch.LEAST_LEFT + 0.1))
    refused = host.step("restore_dataset", "restore.swapped")
    assert "too little time is left" in refused["msg"] or "fired at" in refused["msg"]
    assert wait_until(lambda: host.runs and host.switch.phase == "settled", 20), (
        "the process that waits brings the service back"
    )
    assert host.live == "lama"


def test_the_process_that_waits_fires_by_itself(host: Host) -> None:
    host.to("armed", seconds=4)
    host.step("service_state", "service.stopped")
    host.step("restore_dataset", "restore.swapped")
    assert wait_until(lambda: host.switch.phase == "settled", 20)
    assert (host.live, host.runs) == ("lama", True)


def test_a_broken_journal_settles_nothing(host: Host) -> None:
    host.swap()
    Path(host.switch.folder, "journal.json").write_text("{")
    done = host.settle()
    assert done.returncode == 1
    assert "cannot be read" in done.stderr
    assert (host.live, host.runs) == ("baru", False)


def test_sop_settle_is_the_code_that_ran_and_needs_nothing_else(host: Host) -> None:
    host.to("armed")
    listed = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", switch_units.settle_path(host.switch)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "ansible_collections/diskominfo/sop/plugins/module_utils/settle.py" in listed
    assert "ansible/module_utils" not in listed
    assert Path(switch_units.settle_path(host.switch)).stat().st_mode & 0o777 == 0o700
    assert host.settle("--status").stdout.startswith(f"{CASE} on this host: armed")


def test_a_holder_that_does_not_let_go_is_ended(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.swap()
    code = (
        "import fcntl, os, sys, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "f = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, host.switch.lock_path], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    monkeypatch.setattr(settle, "PATIENCE", 0.5)
    began = time.monotonic()
    assert settle.Settlement(host.switch, "boot").run() == 0
    assert holder.wait(5) == -signal.SIGKILL
    assert time.monotonic() - began < 30
    assert host.live == "lama"


def test_what_the_switch_took_back_may_be_called_reverted(host: Host) -> None:
    """Whoever runs the execution again learns that the old data is live, by the word for it."""
    host.swap()
    assert host.settle().returncode == 0
    assert (host.live, host.switch.phase) == ("lama", "settled")
    done = host.step("restore_dataset", "restore.reverted")
    assert done["sop_evidence"]["state"] == "reverted", done
    assert host.live == "lama"


def test_what_the_switch_handed_over_is_not_reverted(host: Host) -> None:
    host.swap()
    host.to("committed")
    assert host.settle().returncode == 0
    assert (host.live, host.switch.phase) == ("baru", "settled")
    assert "settled on the new data" in host.step("restore_dataset", "restore.reverted")["msg"]
    assert host.live == "baru"
