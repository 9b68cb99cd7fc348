# SPDX-License-Identifier: Apache-2.0
"""After role vault_server: it serves with next to no rights, to its users only, and a repository is sealed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import vault_units
from testinfra.host import Host as Remote

from tests.lab.hosts import Lab

LAB = Lab.load()
NAME, VAULT, ROOT, PORT = "vault01", "sop-molecule", "/srv/sop-molecule", 8111
DOOR = f"/var/lib/{VAULT}-door"
#: of 10. What is left is the network, which a server needs; 1.1 where systemd runs it with PrivateUsers
EXPOSURE = 1.2
FORGET = f"""
systemctl -q disable --now {VAULT}-door.timer {VAULT}-keeper.timer {VAULT}-keeper.service {VAULT}.service 2>/dev/null || true
rm -rf /etc/systemd/system/{VAULT}* /etc/{VAULT} /usr/local/lib/{VAULT} {ROOT} {DOOR}
systemctl daemon-reload
userdel {VAULT}
userdel {VAULT}-door
"""


@pytest.fixture(scope="module", autouse=True)
def gone_afterwards() -> Iterator[None]:
    """The scenario's first step finds the host as an administrator would."""
    yield
    LAB.exec(NAME, FORGET)


@pytest.fixture
def host() -> Remote:
    """The host over SSH as the operator reaches it, by the lab's inventory."""
    return Remote.get_host(f"ansible://{NAME}", ansible_inventory=str(LAB.inventory))


def exposure(host: Remote, *words: str) -> float:
    """What ``systemd-analyze security`` says of a unit, 0 to 10."""
    said = host.check_output(f"systemd-analyze security --no-pager {' '.join(words)}")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    return float(found[1])


def test_server_has_next_to_no_rights(host: Remote) -> None:
    unit = host.service(f"{VAULT}.service")
    assert unit.is_running
    assert unit.is_enabled
    assert exposure(host, f"{VAULT}.service") <= EXPOSURE
    assert exposure(host, f"{VAULT}-keeper.service") <= 1.5
    assert exposure(host, f"{VAULT}-door.service") <= 1.5
    pid = unit.systemd_properties["MainPID"]
    status = LAB.exec(NAME, f"cat /proc/{pid}/status")
    for said in (r"CapEff:\t0+\n", r"CapBnd:\t0+\n", r"NoNewPrivs:\t1\n", r"Seccomp:\t2\n"):
        assert re.search(said, status), said
    assert f"Uid:\t{host.user(VAULT).uid}\t" in status
    assert LAB.exec(NAME, f"tr '\\0' ' ' </proc/{pid}/cmdline").startswith("/usr/bin/rclone serve restic --config ")
    restarts = unit.systemd_properties["NRestarts"]
    assert restarts == "0"


def test_unit_of_an_ordinary_host(host: Remote) -> None:
    """The lab's systemd may not make user namespaces; the unit that other hosts get is looked at from its file."""
    text = vault_units.server_unit(vault_units.Instance(VAULT, VAULT, ROOT, ":8111", "/usr/bin/rclone"))
    assert "PrivateUsers=yes" in text
    path = f"/tmp/{VAULT}-ordinary.service"
    LAB.put(NAME, path, text.encode())
    try:
        assert exposure(host, "--offline=true", path) <= EXPOSURE
    finally:
        LAB.exec(NAME, ["rm", path])


def test_files_are_root_s(host: Remote) -> None:
    """The server can change none of what it runs with."""
    with host.sudo():
        for name in ("htpasswd", "server.key", "server.pem", "rclone.conf"):
            found = host.file(f"/etc/{VAULT}/{name}")
            assert (found.user, found.group, found.mode) == ("root", VAULT, 0o640), name
        assert (host.file(ROOT).user, host.file(ROOT).mode) == ("root", 0o750)
        folder = host.file(f"{ROOT}/db01")
        assert (folder.user, folder.group, folder.mode) == ("root", VAULT, 0o1770)
        assert not host.file(f"/etc/{VAULT}/rclone.conf").size
    assert host.user(VAULT).shell == "/usr/sbin/nologin"


def test_door_s_account_may_write_to_one_folder(host: Remote) -> None:
    """Its home, its keys and its program are root's; the server reads the users that it lets in, and writes none."""
    account = host.user(f"{VAULT}-door")
    assert (account.home, account.shell, account.password) == (DOOR, "/bin/sh", "*")
    assert account.groups == [f"{VAULT}-door"]
    wanted = {
        DOOR: ("root", "root", 0o755),
        f"{DOOR}/.ssh": ("root", "root", 0o755),
        f"{DOOR}/.ssh/authorized_keys": ("root", "root", 0o644),
        f"{DOOR}/door.json": ("root", f"{VAULT}-door", 0o640),
        f"{DOOR}/state": (f"{VAULT}-door", VAULT, 0o2750),
        f"{DOOR}/state/users": (f"{VAULT}-door", VAULT, 0o640),
        f"{DOOR}/state/leases.json": (f"{VAULT}-door", VAULT, 0o600),
        f"/usr/local/lib/{VAULT}/vault_door.py": ("root", "root", 0o644),
    }
    with host.sudo():
        for path, known in wanted.items():
            found = host.file(path)
            assert (found.user, found.group, found.mode) == known, path
        lines = host.file(f"{DOOR}/.ssh/authorized_keys").content_string.splitlines()
        users = host.file(f"{DOOR}/state/users").content_string
    assert [line.startswith('restrict,command="/usr/bin/python3 -I ') for line in lines] == [True]
    assert [line.partition(":")[0] for line in users.splitlines()] == ["db01", "file01"], "web01 has no lease"


def test_door_s_timer_takes_away_what_nobody_may(host: Remote) -> None:
    assert host.service(f"{VAULT}-door.timer").is_running
    assert host.service(f"{VAULT}-door.timer").is_enabled
    LAB.exec(NAME, f"echo root:x >>{DOOR}/state/users", user=f"{VAULT}-door")
    gone = f"for n in $(seq 45); do grep -q root {DOOR}/state/users || exit 0; sleep 1; done; exit 1"
    assert LAB.exit_code(NAME, gone) == 0


def test_nobody_gets_in_without_a_password() -> None:
    argv = ["curl", "--silent", "--cacert", "/dev/stdin", "--write-out", "%{http_code}", "--output", "/dev/null"]
    said = LAB.exec("db01", [*argv, f"https://vault01:{PORT}/db01/"], stdin=LAB.ca.read_bytes())
    assert said == "401"
    assert "rclone" in LAB.exec(NAME, f"ss -Htlnp 'sport = :{PORT}'")


def test_keeper_seals_by_its_timer(host: Remote) -> None:
    """Nobody starts it: the timer does, within a minute."""
    assert host.service(f"{VAULT}-keeper.timer").is_running
    assert host.service(f"{VAULT}-keeper.timer").is_enabled
    place = f"{ROOT}/db01/{secrets.token_hex(4)}"
    script = f"mkdir -p {place}/keys {place}/data; echo k >{place}/keys/k; echo c >{place}/config"
    LAB.exec(NAME, script, user=VAULT)
    sealed = f'for n in $(seq 90); do test "$(stat -c %U {place}/config)" = root && exit 0; sleep 1; done; exit 1'
    assert LAB.exit_code(NAME, sealed) == 0
    assert LAB.exit_code(NAME, f"echo xx >{place}/keys/junk", user=VAULT) != 0
