# SPDX-License-Identifier: Apache-2.0
"""The faults of the matrix: each is done to the lab for real, and undone again.

Tested on their own in test_injectors.py. ``inject`` returns when the fault is there, ``undo`` when it is gone; undoing
what was not done does no harm, so that a test can always clean up.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.e2e.checks import wait_until
from tests.e2e.faults.subjects import Subject
from tests.e2e.running import Running
from tests.lab import containers
from tests.lab.hosts import Lab
from tests.lab.system import podman, run

FILLER = "soplab-filler"
DROP_IN = "soplab-fault.conf"
#: blocks its unit's stop for ever, whatever it is sent but KILL
NO_STOP = """[Service]
ExecStop=
ExecStop=/bin/sh -c 'trap "" TERM INT HUP; while :; do sleep 1; done'
TimeoutStopSec=infinity
"""
NO_START = "[Service]\nExecStartPre=/bin/false\n"


@dataclass(frozen=True)
class Fault:
    """One kind of fault. ``lasting``: it stays until it is undone; else it is over at once."""

    name: str
    inject: Callable[[Subject, Running | None], None]
    undo: Callable[[Subject], None]
    lasting: bool


def _nothing(subject: Subject) -> None:
    """There is nothing to undo."""


def kill_sopctl(subject: Subject, running: Running | None) -> None:
    """SIGKILL to sopctl; its Ansible dies with it."""
    assert running is not None
    running.kill()


def kill_host(subject: Subject, running: Running | None) -> None:
    """Everything on the dataset's host ends at once, /run is gone; then it starts again."""
    name = subject.lab.hosts[subject.host].container
    podman("kill", name, timeout=60)
    podman("start", name, timeout=60)
    wait_for_host(subject.lab, subject.host)


def wait_for_host(lab: Lab, host: str) -> None:
    """Wait until sshd answers; the rest of the host may still be starting."""
    command = ["ssh-keyscan", "-T", "1", "-t", "ed25519", lab.hosts[host].ip]
    assert wait_until(lambda: b"ssh-ed25519" in run(command, check=False).stdout, 60), f"{host} does not come back"


def _link(subject: Subject, state: str) -> None:
    """Switch this machine's end of the host's cable; inside the host the link loses its carrier and nothing else."""
    shown = subject.lab.exec(subject.host, ["ip", "-json", "link", "show", "eth0"])
    index = int(json.loads(shown)[0]["link_index"])
    ends = json.loads(run(["ip", "-json", "link", "show"]).stdout)
    [end] = [entry["ifname"] for entry in ends if entry["ifindex"] == index]
    run(["ip", "link", "set", end, state], root=True)


def cut_network(subject: Subject, running: Running | None) -> None:
    """The dataset's host is cut off from everybody."""
    _link(subject, "down")


def join_network(subject: Subject) -> None:
    """Plug it in again."""
    _link(subject, "up")


#: the main process of each engine's server
SERVERS = {
    "postgresql": ("postgresql@15-main.service", "head -n 1 /var/lib/postgresql/15/main/postmaster.pid"),
    "mariadb": ("mariadb.service", "systemctl show --property MainPID --value mariadb.service"),
}


def kill_database(subject: Subject, running: Running | None) -> None:
    """SIGKILL to the server's main process. MariaDB's unit brings it back, PostgreSQL's (in Debian) does not."""
    subject.lab.exec(subject.host, f"kill -9 $({SERVERS[subject.engine][1]})")


def start_database(subject: Subject) -> None:
    """Have the server run and answer."""
    unit = SERVERS[subject.engine][0]
    answers = {"postgresql": "runuser -u postgres -- pg_isready -q", "mariadb": "mariadb-admin --silent ping"}
    # systemd in a container may miss that a killed server's last process is gone, and then waits an hour for it to stop;
    # begun anew it looks
    subject.lab.exec(
        subject.host,
        f"timeout 60 systemctl start {unit} || "
        f"{{ systemctl daemon-reexec; systemctl reset-failed {unit} || true; systemctl start {unit}; }}",
    )
    assert wait_until(lambda: subject.lab.exit_code(subject.host, answers[subject.engine]) == 0, 60)


def _disk(subject: Subject) -> str:
    return str(subject.lab.facts["disks"][subject.host])


def fill_disk(subject: Subject, running: Running | None) -> None:
    """Hardly a block is left on the file system that holds the data and where it is staged."""
    # the bulk is only promised, so it takes no time; the rest, which its own bookkeeping needs a part of, is written
    fill = f"""
    cd {_disk(subject)}
    rm -f {FILLER} {FILLER}.rest
    avail=$(df --output=avail -B4096 . | tail -n 1)
    fallocate -l $(((avail - 2048) * 4096)) {FILLER}
    dd if=/dev/zero of={FILLER}.rest bs=4096 count=4096 status=none 2>/dev/null || true
    """
    subject.lab.exec(subject.host, fill)


def free_disk(subject: Subject) -> None:
    """Give the space back, and start the server again where that has ended it: PostgreSQL does not go on without its log."""
    subject.lab.exec(subject.host, f"rm -f {_disk(subject)}/{FILLER} {_disk(subject)}/{FILLER}.rest")
    if subject.engine in SERVERS:
        start_database(subject)


def lose_vault(subject: Subject, running: Running | None) -> None:
    """The dataset's host finds no way to the vault any more; everybody else does."""
    subject.lab.exec(subject.host, ["ip", "route", "replace", "unreachable", subject.lab.hosts["vault01"].ip])


def find_vault(subject: Subject) -> None:
    """The way is there again."""
    vault = subject.lab.hosts["vault01"].ip
    if vault in subject.lab.exec(subject.host, ["ip", "route", "show", "type", "unreachable"]).split():
        subject.lab.exec(subject.host, ["ip", "route", "del", "unreachable", vault])


def _drop_in(subject: Subject, text: str) -> None:
    folder = f"/etc/systemd/system/{subject.unit}.d"
    subject.lab.exec(subject.service_host, f"mkdir -p {folder}")
    subject.lab.put(subject.service_host, f"{folder}/{DROP_IN}", text.encode())
    subject.lab.exec(subject.service_host, "systemctl daemon-reload")


def block_stop(subject: Subject, running: Running | None) -> None:
    """The service runs on when it is told to stop."""
    _drop_in(subject, NO_STOP)


def block_start(subject: Subject, running: Running | None) -> None:
    """The service fails whenever it is started."""
    _drop_in(subject, NO_START)


def let_go(subject: Subject) -> None:
    """The service's unit is as it was; a stop that hangs is ended. Nothing is started."""
    path = f"/etc/systemd/system/{subject.unit}.d/{DROP_IN}"
    script = f"""
    [ -e {path} ] || exit 0
    rm {path}; rmdir --ignore-fail-on-non-empty {path.rpartition("/")[0]}
    for i in $(seq 20); do  # before the unit is read again: systemd then forgets which stop command it waits for
        [ "$(systemctl show --property ActiveState --value {subject.unit})" = deactivating ] || break
        systemctl kill --kill-who=all --signal=KILL {subject.unit} || true
        sleep 0.5
    done
    systemctl daemon-reload
    systemctl reset-failed {subject.unit} || true
    """
    subject.lab.exec(subject.service_host, script)


def _flag(subject: Subject) -> str:
    return f"/var/lib/soplab/red-{subject.unit.removesuffix('.service')}"


def turn_red(subject: Subject, running: Running | None) -> None:
    """The service takes writes, and its health address answers 503."""
    subject.lab.exec(subject.service_host, f"touch {_flag(subject)}")


def turn_green(subject: Subject) -> None:
    """The health address tells the truth again."""
    subject.lab.exec(subject.service_host, f"rm -f {_flag(subject)}")


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("sopctl_killed", kill_sopctl, _nothing, lasting=False),
        Fault("host_killed", kill_host, _nothing, lasting=False),
        Fault("network_cut", cut_network, join_network, lasting=True),
        Fault("database_killed", kill_database, start_database, lasting=True),
        Fault("disk_full", fill_disk, free_disk, lasting=True),
        Fault("vault_unreachable", lose_vault, find_vault, lasting=True),
        Fault("will_not_stop", block_stop, let_go, lasting=True),
        Fault("will_not_start", block_start, let_go, lasting=True),
        Fault("stays_red", turn_red, turn_green, lasting=True),
    )
}


def undo_all(subject: Subject) -> None:
    """Whatever a broken test left, on the hosts of one subject."""
    lab = subject.lab
    for host in {subject.host, subject.service_host}:
        name = lab.hosts[host].container
        if "true" not in podman("inspect", "--format", "{{.State.Running}}", name):
            podman("start", name, timeout=60)
            containers.wait_for_systemd(name)
    join_network(subject)
    turn_green(subject)
    let_go(subject)
    if lab.facts["disks"]:
        free_disk(subject)
    find_vault(subject)
    if subject.engine in SERVERS:
        start_database(subject)


def journal_times(subject: Subject, since: float) -> list[tuple[float, str]]:
    """When systemd started and stopped the service since ``since`` (epoch), from its journal: (epoch, word)."""
    command = f"journalctl --sync; journalctl -q -o short-unix --since @{int(since)} -u {subject.unit} || true"
    found = [
        re.match(r"^(\d+\.\d+) \S+ systemd\[1\]: (Started|Stopped|Stopping) ", line)
        for line in subject.lab.exec(subject.service_host, command).splitlines()
    ]
    return [(float(match[1]), match[2]) for match in found if match and float(match[1]) >= since]


def pauses(subject: Subject, since: float) -> list[tuple[float, float]]:
    """When the service was stopped: from each ``Stopped`` to the next ``Started``, or to now."""
    spans: list[tuple[float, float]] = []
    began: float | None = None
    for at, word in journal_times(subject, since):
        if word == "Stopped":
            began = began or at
        elif word == "Started" and began is not None:
            spans.append((began, at))
            began = None
    return spans if began is None else [*spans, (began, time.time())]
