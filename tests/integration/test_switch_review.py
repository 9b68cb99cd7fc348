"""What a switch must never do: start on emptied data, sleep through its deadline, undo what people already work on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import holds, services, settle, switch_units
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import Journal
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import PROGRAM_PATH
from ansible_collections.diskominfo.sop.plugins.module_utils.switch import Switch
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Vault
from ansible_collections.diskominfo.sop.plugins.modules import service_state

from tests.e2e.checks import wait_until
from tests.integration.module_process import finish, grant_for, start_module
from tests.integration.sop_fixtures import vault_at
from tests.integration.switch_host import CASE, MARK, Host, fast_host, remove, write
from tests.integration.test_service_state import SYSTEMCTL

Json = dict[str, Any]
host = fast_host
pytestmark = [
    pytest.mark.part(2),
    pytest.mark.skipif(os.geteuid() != 0, reason="the switch lies in /var/lib/sop; run as root, as on a server"),
]


# --- in place: there is no old data -----------------------------------------------------------------------------------


def emptied(host: Host) -> None:
    """A restore in place, up to where the live data made room; what was staged is loaded afterwards."""
    remove(Path(f"{host.path}__shadow_{MARK}"))
    for done in (
        host.to("armed"),
        host.step("service_state", "service.stopped"),
        host.step("quiesce", "quiesce.quiesced"),
        host.to("in_place"),
        host.step("restore_dataset", "restore.emptied"),
    ):
        assert not done.get("failed"), done


def loaded(host: Host) -> None:
    """What staging leaves."""
    write(Path(f"{host.path}__shadow_{MARK}"), host.engine, "baru")
    settle.restore_journal(host.dataset, CASE).write({"snapshot": "0" * 64, "tables": {}})


def test_nothing_starts_on_emptied_data(host: Host) -> None:
    emptied(host)
    for mode in ("--old", "--new"):
        done = host.settle(mode)
        assert done.returncode == 1, done
        assert not host.runs
    assert host.settle().returncode == 21
    assert (host.runs, host.switch.phase) == (False, "in_place")
    assert "no old data" in host.to("aborted")["msg"]
    assert "stays armed" in host.to("disarmed")["msg"]


def test_what_was_emptied_is_never_brought_back_as_the_old_data(host: Host) -> None:
    """Committed, and the service does not come up: the kept "old" data is the empty one."""
    host.service["health"] = {"url": "http://127.0.0.1:9/", "timeout": 1}
    emptied(host)
    loaded(host)
    assert not host.step("restore_dataset", "restore.swapped").get("failed")
    assert host.to("committed")["sop_evidence"]["emptied"]
    assert host.settle("--new").returncode == 21
    assert host.live == "baru"
    assert "no old data" in host.to("aborted")["msg"]
    assert "no old data" in host.step("restore_dataset", "restore.reverted")["msg"]
    assert host.live == "baru"


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_set_moves_no_deadline(host: Host, hours: int) -> None:
    """The wall clock is not ours to set here, so the deadline that was written by it is moved instead."""
    host.to("armed", seconds=6)
    host.step("service_state", "service.stopped")
    journal = host.switch.read()
    host.switch.write({**journal, "deadline": journal["deadline"] - 3600 * hours})
    early = settle.Settlement(host.switch, "fire")
    if time.monotonic() < journal["ends"] - 3:
        assert early.run() == 0
        assert host.switch.phase == "armed", "the clock was put forward: nothing fires early"
    assert wait_until(lambda: host.runs and host.switch.phase == "settled", 30)


# --- the safety backup of a restore in place --------------------------------------------------------------------------


def test_a_safety_backup_is_of_what_is_live_now(host: Host, tmp_path: Path) -> None:
    """The first one is followed by a day of work; the second execution must not empty that day on the strength of it."""
    vault = vault_at(tmp_path)
    Vault(vault, str(tmp_path / "state")).ensure_repository()
    args: Json = {"case": CASE, "dataset": host.dataset, "vault": vault, "secrets": {}, "period": "safety", "name": "n"}

    def secure() -> Json:
        grant = {**grant_for("backup", args), "site": host.site, "safety": True}
        proof: Json = finish(start_module("backup_dataset", {**args, "grant": grant}))["sop_evidence"]
        return proof

    def closed() -> None:
        host.to("armed")
        host.step("service_state", "service.stopped")
        assert not host.step("quiesce", "quiesce.reserved").get("failed")

    closed()
    first = secure()
    assert host.settle().returncode == 0
    assert host.runs
    remove(host.path)
    write(host.path, host.engine, "hari ini")
    closed()
    second = secure()
    assert not second["reused"]
    assert second["sha256"] != first["sha256"]
    assert host.to("in_place")["changed"]
    assert secure()["snapshot"] == second["snapshot"]


def test_in_place_the_deadline_stops_nobody(host: Host) -> None:
    """Loading takes as long as it takes; the switch decides nothing then, so there is no race to lose."""
    emptied(host)
    loaded(host)
    host.switch.write({**host.switch.read(), "deadline": 0, "ends": 0})
    assert host.settle("--fire").returncode == 21
    assert not host.step("restore_dataset", "restore.swapped").get("failed")
    assert host.to("committed")["changed"]
    assert host.live == "baru"


# --- systemd ----------------------------------------------------------------------------------------------------------


def test_boot_waits_for_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A boot unit before a socket is a loop: basic.target comes after sockets, and everything else after basic.target."""
    monkeypatch.setattr(holds, "UNITS", str(tmp_path))
    monkeypatch.setattr(switch_units, "WANTS", str(tmp_path / "wants"))
    monkeypatch.setattr(holds, "has_systemd", lambda: True)
    monkeypatch.setattr(holds, "systemctl", lambda *_words, **_more: "")
    switch = Switch(CASE, "review", root=str(tmp_path / "state"))
    switch.write({"phase": "armed"})
    switch_units.lay_down(switch, ["app.service", "app.socket", "app.timer", "app.path"], 60)
    (boot,) = tmp_path.glob("sop-settle-*-boot.service")
    assert [line for line in boot.read_text().splitlines() if line.startswith("Before=")] == ["Before=app.service"]
    if analyze := shutil.which("systemd-analyze"):
        (tmp_path / "app.service").write_text("[Service]\nExecStart=/bin/true\n")
        (tmp_path / "app.socket").write_text("[Socket]\nListenStream=/run/app.sock\n")
        for wants, unit in (("sockets.target.wants", "app.socket"), ("multi-user.target.wants", boot.name)):
            (tmp_path / wants).mkdir()
            (tmp_path / wants / unit).symlink_to(tmp_path / unit)
        environment = {"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": os.defpath}
        command = [analyze, "verify", "--man=no", "multi-user.target"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert "ordering cycle" not in done.stderr, done.stderr


# --- several cases ----------------------------------------------------------------------------------------------------


def test_one_switch_at_a_time_looks_after_a_dataset(host: Host) -> None:
    """The other case's switch would lift this one's fence and start its service in the middle of the exchange."""
    host.to("armed")
    other: Json = {"case": "RST-2026-0002"}
    refused = host.to("armed", **other)
    assert f"switch of {CASE} on this host still looks after antrean" in refused["msg"]
    assert "sop-settle" in refused["msg"]
    assert host.to("disarmed")["changed"]
    assert not host.to("armed", **other).get("failed")
    assert host.to("disarmed", **other)["changed"]
    shutil.rmtree(Switch(other["case"], host.site).folder)


# --- data that people work on -----------------------------------------------------------------------------------------


def test_a_red_health_address_takes_nothing_back_that_was_served(host: Host) -> None:
    """The controller died between start and disarm. Hours later the switch fires, and some other thing makes health red."""
    host.swap()
    assert host.to("committed")["changed"]
    assert not host.step("service_state", "service.started").get("failed")
    entry = host.switch.read()
    entry["services"][0]["service"]["health"] = {"url": "http://127.0.0.1:9/", "timeout": 1}
    host.switch.write({**entry, "deadline": 0, "ends": 0})
    done = host.settle("--fire")
    assert done.returncode == 21, done
    assert "was not healthy" in done.stdout
    assert (host.live, host.runs) == ("baru", True)


def test_what_the_switch_brought_up_is_not_taken_back(host: Host) -> None:
    """It fired while the controller waited for its lock; the controller took that for a failure of the new data."""
    host.swap()
    assert host.to("committed")["changed"]
    assert host.settle().returncode == 0
    assert "fired at" in host.to("aborted")["msg"]
    assert (host.live, host.runs, host.switch.phase) == ("baru", True, "settled")


def test_a_service_that_does_not_run_is_held_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.format(folder=tmp_path))
    program.chmod(0o755)
    path = f"{tmp_path}:{PROGRAM_PATH}"
    for module in (holds, services):
        monkeypatch.setattr(module, "PROGRAM_PATH", path)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(holds, "UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(holds, "HOLDS", str(tmp_path / "holds"))
    (tmp_path / "loaded-app.service").touch()
    settings = {"name": "app", "manager": "systemd", "unit": "app"}
    units = ["app.service", "app.socket", "app.timer"]
    holds.lay_down(units)
    journal = Journal(str(tmp_path / "state"), "service-app")
    job: Any = SimpleNamespace(
        service=settings, journal=lambda _: journal, params={"state": "stopped", "timeout": 5}, check_mode=False
    )
    assert not service_state.work(job)["changed"]
    assert holds.held(units) == units


# --- settling that does not go through at once ------------------------------------------------------------------------


def test_data_that_does_not_answer_is_asked_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer fires once: a database that is down for longer than one try would leave the service down for good."""
    host.swap()
    real, tries = settle.Settlement._bring, []

    def bring(self: settle.Settlement, engine: Any, data: str) -> None:
        tries.append(data)
        if len(tries) < 4:
            raise SopError("the server does not answer")
        real(self, engine, data)

    monkeypatch.setattr(settle.Settlement, "_bring", bring)
    monkeypatch.setattr(settle, "REACH", {"fire": 0.0, "boot": 0.0})
    monkeypatch.setattr(settle, "AGAIN", 0.05)
    assert settle.persist(host.switch, "boot") == 21
    assert settle.persist(host.switch, "fire") == 0
    assert (len(tries), host.live, host.runs) == (4, "lama", True)


def test_a_service_that_is_broken_keeps_no_other_down(host: Host) -> None:
    flag = host.folder / "lain"
    flag.touch()
    words = {"stop": ["/bin/rm", "-f", str(flag)], "status": ["/usr/bin/test", "-e", str(flag)]}
    broken = {"name": "rusak", "manager": "command", "start": ["/bin/false"], **words}
    host.to("armed", services=[broken, host.service])
    flag.unlink()
    host.step("service_state", "service.stopped")
    done = host.settle()
    assert done.returncode == 21
    assert "service rusak" in done.stdout
    assert host.runs


def test_a_full_disk_keeps_nobody_down(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.to("armed")
    host.step("service_state", "service.stopped")

    def full(*_words: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Journal, "write", full)
    assert settle.Settlement(host.switch, "boot").run() == 0
    assert (host.live, host.runs) == ("lama", True)


def test_a_unit_that_systemd_restarts_again_and_again_is_not_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {"LoadState": "loaded", "ActiveState": "activating", "TriggeredBy": ""}
    monkeypatch.setattr(services.SystemdService, "_show", lambda _self, _unit: shown)
    journal = Journal(str(tmp_path), "service-app")
    service = services.load_service({"name": "app", "manager": "systemd", "unit": "app"}, journal)
    with pytest.raises(SopError, match="not started after"):
        services.wait_running(service, True, 0.2)
    shown["ActiveState"] = "active"
    services.wait_running(service, True, 0.2)
