"""service_state: a real small service under the command manager, and systemd's rules against a stand-in systemctl."""

from __future__ import annotations

import socket
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import holds, services
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import Journal
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import PROGRAM_PATH
from ansible_collections.diskominfo.sop.plugins.module_utils.services import load_service

from tests.integration.module_process import run_module

Json = dict[str, Any]

CONTROL = """#!/bin/sh
cd {folder} || exit 9
case $1 in
start) {python} -m http.server --bind 127.0.0.1 {port} >log 2>&1 & echo $! >pid; echo started in the background;;
stop) kill "$(cat pid)"; rm pid;;
status) test -f pid && kill -0 "$(cat pid)";;
esac
"""

SYSTEMCTL = """#!/bin/sh
cd {folder} || exit 9
echo "$*" >>calls
verb=$1; shift
case $verb in
show) for last in "$@"; do :; done
  test -f "loaded-$last" && echo LoadState=loaded || echo LoadState=not-found
  test -f "active-$last" && echo ActiveState=active || echo ActiveState=inactive
  case $last in *.service) echo "TriggeredBy=app.socket app.timer";; *) echo TriggeredBy=;; esac;;
stop) for unit in "$@"; do rm -f "active-$unit"; done;;
start) for unit in "$@"; do touch "active-$unit"; done;;
esac
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def service(tmp_path: Path) -> Json:
    port = free_port()
    control = tmp_path / "control"
    control.write_text(CONTROL.format(folder=tmp_path, python=sys.executable, port=port))
    control.chmod(0o755)
    words = {key: [str(control), key] for key in ("start", "stop", "status")}
    health = {"url": f"http://127.0.0.1:{port}/", "timeout": 15}
    return {"name": "aplikasi", "manager": "command", **words, "health": health, "state_dir": str(tmp_path / "state")}


def call(service: Json, state: str, check: bool = False) -> Json:
    args = {"case": "RST-2026-0001", "service": service, "state": state, "timeout": 5}
    return run_module("service_state", args, None if check else f"service.{state}", check)


def test_command_service(service: Json) -> None:
    try:
        assert call(service, "started", check=True)["changed"]
        started = call(service, "started")
        assert started["changed"]
        assert started["sop_evidence"]["healthy_at"].endswith("Z")
        assert not call(service, "started")["changed"]
        assert not call(service, "started", check=True)["changed"]
        ill = {**service, "health": {"url": service["health"]["url"] + "none", "timeout": 0.3}}
        assert "was not healthy within 0 s (status 404)" in call(ill, "started")["msg"]
    finally:
        stopped = call(service, "stopped")
    assert stopped["changed"]
    assert stopped["sop_evidence"]["was"] == "started"
    assert not call(service, "stopped")["changed"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"manager": "runit"}, "manager 'runit' is unknown; one of command, systemd"),
        ({"status": "true"}, "status is not a list of words"),
        ({"status": ["/nonexistent"]}, "cannot be run (No such file or directory)"),
        ({"start": ["/bin/sh", "-c", "echo no licence; exit 4"]}, "exited 4 (no licence)"),
        ({"start": ["/bin/true"]}, "not started after 5 s"),
        ({"name": "../x"}, "not a plain name"),
        ({"manager": "systemd", "unit": "--now"}, "is not a unit name"),
    ],
)
def test_what_a_person_can_get_wrong(service: Json, change: Json, words: str) -> None:
    result = call({**service, **change}, "started")
    assert result.get("failed"), result
    assert words in result["msg"]
    assert "\n" not in result["msg"]


def test_systemd_stops_what_would_bring_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    program.write_text(SYSTEMCTL.format(folder=tmp_path))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{tmp_path}:{PROGRAM_PATH}"
    for module in (holds, services):
        monkeypatch.setattr(module, "PROGRAM_PATH", path)
    monkeypatch.setenv("PATH", path)
    for name in ("loaded-app.service", "active-app.service", "active-app.socket"):
        (tmp_path / name).touch()
    journal = Journal(str(tmp_path / "state"), "service-app")
    settings = {"name": "app", "manager": "systemd", "unit": "app"}

    def active() -> set[str]:
        return {each.name for each in tmp_path.glob("active-*")}

    service = load_service(settings, journal)
    assert service.is_running()
    assert service.may_return()
    service.stop()
    load_service(settings, journal).stop()  # again after a crash: what was active first is not forgotten
    assert active() == set()
    assert not service.may_return()
    load_service(settings, journal).start()
    assert active() == {"active-app.service", "active-app.socket"}
    assert journal.read() is None
    calls = (tmp_path / "calls").read_text()
    assert calls.index("stop app.socket") < calls.index("stop --no-block app.service")
    with pytest.raises(SopError, match=r"systemd has no unit none\.service \(not-found\)"):
        load_service({**settings, "unit": "none"}, journal)
