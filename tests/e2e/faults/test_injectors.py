# SPDX-License-Identifier: Apache-2.0
"""Each fault does what the matrix says it does, and is gone when it is undone."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.e2e.checks import wait_until
from tests.e2e.faults.injectors import FAULTS, pauses, undo_all
from tests.e2e.faults.subjects import SUBJECTS, Subject
from tests.lab.hosts import Lab
from tests.lab.probe import healthy, post, wait_healthy

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("alone")]


@pytest.fixture(params=["postgresql", "mariadb", "files"])
def subject(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Subject]:
    """A dataset whose service is well before and after."""
    made = SUBJECTS[request.param](lab)
    undo_all(made)
    lab.exec(made.service_host, f"systemctl start {made.unit}")
    assert wait_healthy(made.health, 20)
    yield made
    undo_all(made)
    lab.exec(made.service_host, f"systemctl start {made.unit}")
    assert wait_healthy(made.health, 20)


def on(*engines: str) -> pytest.MarkDecorator:
    """Run for these engines alone, where the others add nothing."""
    return pytest.mark.parametrize("subject", engines, indirect=True)


def state(subject: Subject) -> str:
    """What systemd says of the service."""
    command = ["systemctl", "show", "--property", "ActiveState", "--value", subject.unit]
    return subject.lab.exec(subject.service_host, command).strip()


def test_host_killed(subject: Subject) -> None:
    """Nothing of /run is left, the data is the same, every service is back under its old address."""
    lab = subject.lab
    lab.exec(subject.host, "mkdir -p /run/sop; touch /run/sop/soplab")
    subject.change()  # and have it written down: a server that crashes skips the numbers it had logged ahead
    before = subject.facts()
    FAULTS["host_killed"].inject(subject, None)
    assert wait_healthy(subject.health, 60)
    assert lab.exit_code(subject.host, "test -e /run/sop/soplab") == 1
    assert subject.facts() == before


@on("postgresql", "files")
def test_network_cut(subject: Subject) -> None:
    """Nobody reaches the host, and it knows no more than that its cable is out; nothing on it was restarted."""
    address = (subject.lab.hosts[subject.host].ip, 22)
    FAULTS["network_cut"].inject(subject, None)
    with pytest.raises(OSError):  # refused, unreachable or timed out: which one is the kernel's affair
        socket.create_connection(address, timeout=1)
    assert not healthy(subject.health, 3)
    FAULTS["network_cut"].undo(subject)
    assert wait_healthy(subject.health, 20)
    socket.create_connection(address, timeout=3).close()


@on("postgresql", "mariadb")
def test_database_killed(subject: Subject) -> None:
    subject.change()
    before = subject.facts()
    FAULTS["database_killed"].inject(subject, None)
    assert wait_until(lambda: not healthy(subject.health, 3), 5)
    FAULTS["database_killed"].undo(subject)
    assert wait_healthy(subject.health, 20)
    assert subject.facts() == before


def test_disk_full(subject: Subject) -> None:
    """Not one file more where the data lies; the disk of this machine and the host's own are not touched."""
    lab = subject.lab
    if not lab.facts["disks"]:
        pytest.skip("this machine has no loop devices")
    place = lab.facts["disks"][subject.host]
    FAULTS["disk_full"].inject(subject, None)
    try:
        assert lab.exec(subject.host, f"df --output=avail -B1M {place} | tail -n 1").strip() == "0"
        assert lab.exit_code(subject.host, f"dd if=/dev/zero of={place}/more bs=1M count=1 status=none") != 0
        assert lab.exit_code(subject.host, "dd if=/dev/zero of=/var/lib/more bs=1M count=1 status=none") == 0
    finally:
        lab.exec(subject.host, f"rm -f {place}/more /var/lib/more")
        FAULTS["disk_full"].undo(subject)
    assert int(lab.exec(subject.host, f"df --output=avail -B1M {place} | tail -n 1")) > 1000


@on("files")
def test_vault_unreachable(subject: Subject) -> None:
    """Its host has no way to the vault, this machine still has one."""
    lab = subject.lab
    vault = (lab.hosts["vault01"].ip, 8000)
    knock = f"timeout 3 bash -c '</dev/tcp/{vault[0]}/{vault[1]}'"
    FAULTS["vault_unreachable"].inject(subject, None)
    assert lab.exit_code(subject.host, knock) != 0
    socket.create_connection(vault, timeout=2).close()
    FAULTS["vault_unreachable"].undo(subject)
    assert lab.exit_code(subject.host, knock) == 0


@on("postgresql", "files")
def test_will_not_stop(subject: Subject) -> None:
    """It is told to stop, and answers on; undone, it can be stopped and started."""
    lab = subject.lab
    FAULTS["will_not_stop"].inject(subject, None)
    lab.exec(subject.service_host, f"systemctl stop --no-block {subject.unit}")
    assert not wait_until(lambda: state(subject) != "deactivating", 3)
    assert healthy(subject.health)
    FAULTS["will_not_stop"].undo(subject)
    assert wait_until(lambda: state(subject) in {"inactive", "failed"}, 10), state(subject)
    lab.exec(subject.service_host, f"systemctl start {subject.unit}")
    assert wait_healthy(subject.health, 10)


@on("postgresql", "files")
def test_will_not_start(subject: Subject) -> None:
    lab = subject.lab
    FAULTS["will_not_start"].inject(subject, None)
    assert healthy(subject.health), "what runs runs on"
    lab.exec(subject.service_host, f"systemctl stop {subject.unit}")
    assert lab.exit_code(subject.service_host, f"systemctl start {subject.unit}") != 0
    assert not healthy(subject.health)
    FAULTS["will_not_start"].undo(subject)
    lab.exec(subject.service_host, f"systemctl start {subject.unit}")
    assert wait_healthy(subject.health, 10)


def test_stays_red(subject: Subject) -> None:
    """The health address says 503 while the service takes writes."""
    many = subject.written()["live"].numbers
    FAULTS["stays_red"].inject(subject, None)
    assert not healthy(subject.health)
    post(subject.rows, subject.row(max(many, default=0) + 1))
    assert len(subject.written()["live"].numbers) == len(many) + 1
    FAULTS["stays_red"].undo(subject)
    assert healthy(subject.health)


@on("postgresql", "files")
def test_pauses(subject: Subject) -> None:
    """Each stop and start of the service is known, also across a killed host."""
    began = time.time()
    for _ in range(2):
        subject.lab.exec(
            subject.service_host, f"systemctl stop {subject.unit}; sleep 1; systemctl start {subject.unit}"
        )
    found = pauses(subject, began)
    assert len(found) == 2
    assert all(0.9 < ended - started < 5 for started, ended in found), found
