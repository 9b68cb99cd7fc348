# SPDX-License-Identifier: Apache-2.0
"""systemd and cron really start what is due, in the lab: both at the same minute, so that two runs begin at once.

The month's run of two PostgreSQL servers, MariaDB, SQLite and files over SSH, by the service identity, from the units and the crontab
that ``sopctl schedule export`` made.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.lab.controller import COMMAND, SITE, Controller, timekeeper
from tests.lab.hosts import Lab
from tests.lab.site import lab_site
from tests.support.public_python import public_python

pytestmark = [pytest.mark.lab, pytest.mark.long]  # six minutes, for they make hosts of their own
DATASETS = ("simpeg", "perizinan", "arsip", "berkas", "antrean")
KEY = "/root/.ssh/id_ed25519"
SIGNER = "/root/.ssh/jadwal"
OUTPUT = "/var/log/sopctl-cron.log"


@dataclass(frozen=True)
class Night:
    """What is there after the minute at which both started."""

    keeper: Controller
    timer: dict[str, str]
    cron: str

    def sopctl(self, *words: str) -> Any:
        """What sopctl tells on the controller."""
        return json.loads(self.keeper.root(f"{COMMAND} -C {SITE} {' '.join(words)} --json"))


def shown(keeper: Controller, unit: str, *keys: str) -> dict[str, str]:
    """Properties of a unit."""
    lines = keeper.root(f"systemctl show {unit} {' '.join(f'-p {key}' for key in keys)}").splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def night(lab: Lab, alone: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("timekeepers") / f"e2e-timer-{os.getpid()}"
    folder.mkdir()
    python = public_python(65534)
    if not python.is_relative_to("/var/tmp"):
        pytest.skip("sopctl is not installed with the system's Python here")
    with timekeeper(lab, python.parents[1]) as keeper:
        site = lab_site(folder, lab, DATASETS)
        site.person("jadwal", ["pelaksana"], "Backup terjadwal", options=["--service"])
        at = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
        local = at.astimezone(ZoneInfo("Asia/Jakarta"))
        order = json.loads((site.root / "schedule.yml").read_text(encoding="utf-8"))
        for entry in order["entries"]:
            entry["every"] = (
                f"{local.minute} {local.hour} {local.day} * *" if local.day < 29 else f"{local:%-M %-H} * * *"
            )
        site.write_yaml("schedule.yml", order)
        site.run("schedule", "sign", as_="kabid")
        inventory = site.root / "inventory/hosts.yml"
        inventory.write_text(inventory.read_text().replace(str(lab.private_key), KEY))
        keeper.put(site.root, SITE)
        keeper.root("install -d -m 0700 /root/.ssh")
        keeper.put(lab.private_key, KEY)
        for suffix in ("", ".pub"):
            keeper.put(Path(f"{site.keys / 'jadwal'}{suffix}"), f"{SIGNER}{suffix}")
        keeper.root(f"chmod 600 {KEY} {SIGNER}; chmod 0700 {SITE}/secrets; chmod 0600 {SITE}/secrets/*")
        keeper.put(Path(f"{site.root_key}.allowed"), "/etc/sopctl/root")
        keeper.root(f"{COMMAND} -C {SITE} schedule export systemd --key {SIGNER} --to /etc/systemd/system")
        keeper.root("systemctl daemon-reload; systemctl start sopctl-schedule.timer")
        text = keeper.root(f"{COMMAND} -C {SITE} schedule export cron --key {SIGNER}")
        assert text.splitlines()[-1].endswith(f"--as jadwal --key {SIGNER}")
        keeper.root("cat >/etc/cron.d/sopctl-schedule", text.replace(SIGNER, f"{SIGNER} >{OUTPUT} 2>&1").encode())
        try:
            yield after(keeper, at)
        finally:
            lab.exec("vault01", f"rm -rf /srv/vault/*/{folder.name}")


def after(keeper: Controller, at: datetime) -> Night:
    """Wait until both have started and ended."""
    deadline = at.timestamp() + 300
    while time.time() < deadline:
        time.sleep(3)
        state = shown(
            keeper, "sopctl-schedule.service", "ActiveState", "ExecMainStartTimestampMonotonic", "ExecMainStatus"
        )
        started = (
            state["ExecMainStartTimestampMonotonic"] != "0" and keeper.run("root", f"test -e {OUTPUT}").returncode == 0
        )
        busy = keeper.run("root", ["pgrep", "-f", "[s]chedule run --due"]).returncode == 0
        if started and not busy and state["ActiveState"] not in {"active", "activating"}:
            return Night(keeper, state, keeper.root(f"cat {OUTPUT}"))
    raise AssertionError(keeper.root("journalctl --no-pager -n 60; systemctl list-timers --all"))


def test_both_started_and_one_did_it(night: Night) -> None:
    """The other one was told who is at work, or found nothing left to do."""
    journal = night.keeper.root("journalctl --no-pager -u sopctl-schedule.service")
    by_timer, by_cron = (bool(re.search(r"\(changed=[1-9]", said)) for said in (journal, night.cron))
    assert by_timer is not by_cron, f"{journal}\n{night.cron}"
    other = night.cron if by_timer else journal
    assert "is held by" in other or "Nothing is due" in other, other
    assert night.timer["ExecMainStatus"] in ({"0"} if by_timer else {"0", "11"})


def test_all_is_verified_and_the_form_is_filled(night: Night) -> None:
    backups = night.sopctl("vault", "list")
    assert sorted(backup["dataset"] for backup in backups) == sorted(DATASETS)
    assert {(backup["verified"], backup["depth"]) for backup in backups} == {(True, "restore")}
    [record] = night.keeper.root(f"ls -d {SITE}/archive/records/*/*/*").split()
    form = json.loads(night.keeper.root(f"cat {record}/data/form.json"))
    assert sorted(row["dataset"] for row in form["rows"]) == sorted(DATASETS)
    assert {row["result"] for row in form["rows"]} == {"berhasil"}
    assert not [row["dataset"] for row in night.sopctl("schedule", "status") if row["due"] or row["overdue"]]


def test_the_kabid_is_waited_for(night: Night) -> None:
    """The service identity executed; what is due now is a person's confirmation, and monitoring counts it."""
    [case] = night.sopctl("case", "list")
    assert (case["act"], case["by"]) == ("confirm", ["kabid"])
    assert "sopctl_forms_unconfirmed 1.0" in night.keeper.root(f"{COMMAND} -C {SITE} metrics").splitlines()
    said = night.keeper.run("root", [COMMAND, "-C", SITE, "check"])
    assert "unconfirmed=1" in said.stdout
    assert "overdue=0;;0" in said.stdout


def test_cron_took_its_file(night: Night) -> None:
    """cron says in its log what it does not understand."""
    said = night.keeper.root("journalctl --no-pager -u cron")
    assert "CMD (" in said
    assert "error" not in said.lower(), said
