# SPDX-License-Identifier: Apache-2.0
"""The vault's door in the lab: what root of a server captures during a run is worth nothing after it."""

from __future__ import annotations

import dataclasses
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e import vault_role
from tests.e2e.checks import all_verified, one_line_error
from tests.e2e.conftest import proven_by_reading, restore_file01
from tests.lab.hosts import Lab
from tests.lab.site import lab_site
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab
VAULT, PORT = "sop-run", 8144
HOME = f"/var/lib/{VAULT}-door"
FORGET = f"""
systemctl -q disable --now {VAULT}-door.timer {VAULT}-keeper.timer {VAULT}-keeper.service {VAULT}.service 2>/dev/null || true
rm -rf /etc/systemd/system/{VAULT}* /etc/{VAULT} /usr/local/lib/{VAULT} /srv/{VAULT} {HOME}
systemctl daemon-reload
rm -f /etc/ssh/sshd_config.d/{VAULT}.conf
systemctl reload ssh
for user in {VAULT} {VAULT}-door; do id $user >/dev/null 2>&1 && userdel $user || true; done
"""
LEASE = 60
#: what root can do while restic runs there: read the memory file in which its address with the password is
CAPTURE = """
import glob, os, sys, time
end = time.time() + 60
while time.time() < end:
    for place in glob.glob("/proc/[0-9]*"):
        try:
            if open(place + "/comm").read().strip() != "restic":
                continue
            pairs = open(place + "/environ").read().split(chr(0))
            where = dict(pair.split("=", 1) for pair in pairs if "=" in pair)["RESTIC_REPOSITORY_FILE"]
            text = open(place + "/fd/" + where.rsplit("/", 1)[1]).read().strip()
            if ":%d/" % PORT in text:
                print(text)
                sys.exit()
        except (OSError, KeyError):
            pass
    time.sleep(0.005)
sys.exit("restic was not seen")
""".replace("PORT", str(PORT))


@dataclasses.dataclass
class Controller:
    """One who may open the door, with a site over the role's vault."""

    site: SiteBuilder

    def backup(self) -> subprocess.Popen[str]:
        """Start what cron starts."""
        return self.site.start("schedule", "run", "--due", "--json", as_="pelaksana")


@pytest.fixture(scope="module")
def door(lab: Lab, alone: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The vault's administrator has run the role twice; a folder with the door's key and the master secret."""
    lab.generate(8)
    restore_file01(lab)
    lab.exec("vault01", FORGET)
    folder = tmp_path_factory.mktemp("door")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "sopctl", "-f", str(folder / "door")]
    subprocess.run(command, check=True)
    (folder / "master").write_text(secrets.token_hex(32))
    (folder / "master").chmod(0o600)
    # the lab's sshd names who may log in, as many do
    lab.exec("vault01", f"echo AllowUsers {VAULT}-door >/etc/ssh/sshd_config.d/{VAULT}.conf; systemctl reload ssh")
    try:
        assert "changed=1" in serve(lab, folder)
        assert "changed=0" in serve(lab, folder)
        yield folder
    finally:
        lab.exec("vault01", FORGET)


def serve(lab: Lab, folder: Path) -> str:
    """Run the role."""
    public = (folder / "door.pub").read_text().strip()
    users = [{"name": "db01"}, {"name": "file01"}]
    return vault_role.serve(lab, folder, VAULT, PORT, vault_server_users=users, vault_server_door_keys=[public])


def controller(lab: Lab, door: Path, folder: Path, *datasets: str) -> Controller:
    """A site whose servers get into the vault by the door."""
    place = folder / f"e2e-{secrets.token_hex(4)}"
    place.mkdir()
    vault: dict[str, Any] = dict(lab.facts["vault"])
    vault["url"] = vault["url"].replace(":8000/", f":{PORT}/")
    site = lab_site(place, dataclasses.replace(lab, facts={**lab.facts, "vault": vault}), datasets)
    for name in ("door", "master"):
        (site.root / "secrets" / name).write_bytes((door / name).read_bytes())
        (site.root / "secrets" / name).chmod(0o600)
    host = lab.hosts["vault01"]
    settings = {
        "host": host.ip,
        "user": f"{VAULT}-door",
        "key": {"file": "secrets/door"},
        "host_key": " ".join(host.ssh_host_key.split()[:2]),
        "secret": {"file": "secrets/master"},
        "lease": LEASE,
    }
    site.edit("sop.yml", '  user_password: {file: "secrets/{server}"}\n', f"  door: {json.dumps(settings)}\n")
    site.sign_trust()
    return Controller(proven_by_reading(site, True))


def let_in(lab: Lab) -> list[str]:
    """Who may log in now."""
    return [line.partition(":")[0] for line in lab.exec("vault01", f"cat {HOME}/state/users").splitlines()]


@contextmanager
def captured(lab: Lab, host: str) -> Iterator[Future[str]]:
    """Root of that host waits for credentials until the end of the block."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lab.exec, host, ["python3", "-c", CAPTURE])


def status(lab: Lab, host: str, address: str) -> str:
    """What the vault says to captured credentials: 200, or 401 when they are worth nothing."""
    where = urlsplit(address.strip().removeprefix("rest:"))
    command = ["curl", "--silent", "--cacert", "/dev/stdin", "--output", "/dev/null", "--write-out", "%{http_code}"]
    command += ["--user", f"{where.username}:{where.password}"]
    command += [f"https://{where.hostname}:{where.port}{where.path}config"]
    return lab.exec(host, command, stdin=lab.ca.read_bytes()).strip()


def test_what_is_captured_ends_with_the_run(lab: Lab, door: Path, tmp_path: Path) -> None:
    """With a controller that is killed, with a run that ends meanwhile, and with two controllers at once on one server."""
    killed = controller(lab, door, tmp_path, "simpeg")
    with captured(lab, "db01") as seen:
        run = killed.backup()
        known = seen.result(60)
        run.kill()
        ended = time.monotonic()
        run.wait()
    assert let_in(lab) == ["db01"]
    assert status(lab, "db01", known) != "401"

    first = controller(lab, door, tmp_path, "berkas")
    with captured(lab, "file01") as seen:
        done = first.site.run("schedule", "run", "--due", "--json", as_="pelaksana")
        shared = seen.result(60)
    password = str(urlsplit(shared.strip().removeprefix("rest:")).password)
    assert len(password) == 64
    assert "file01" not in let_in(lab)
    assert status(lab, "file01", shared) == "401"
    all_verified(first.site)
    assert password not in done.stdout + done.stderr
    for path in first.site.root.rglob("*"):
        assert not path.is_file() or password.encode() not in path.read_bytes(), path
    assert "the door answers, for 1 servers" in first.site.run("doctor", check=False).stdout

    # maintenance from the controller, which has no other way in here
    first.site.run("vault", "check", "--server", "file01", as_="pelaksana")
    assert "file01" not in let_in(lab)

    together = [controller(lab, door, tmp_path, dataset) for dataset in ("berkas", "antrean")]
    with captured(lab, "file01") as seen:
        runs = [one.backup() for one in together]
        shared = seen.result(60)
        ends = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ends
    assert status(lab, "file01", shared) == "401"
    assert "file01" not in let_in(lab)

    time.sleep(max(0.0, ended + LEASE + 1 - time.monotonic()))
    lab.exec("vault01", f"systemctl start {VAULT}-door.service")  # what the timer does each half minute
    assert let_in(lab) == [], "its lease ends by itself"
    assert status(lab, "db01", known) == "401"


def test_account_of_the_door_can_do_nothing_else(lab: Lab, door: Path, tmp_path: Path) -> None:
    """With the key one can ask the door, and get no shell, no file and no way on."""
    host = lab.hosts["vault01"]
    (tmp_path / "known").write_text(f"{host.ip} {host.ssh_host_key}\n")
    base = ["-i", str(door / "door"), "-o", f"UserKnownHostsFile={tmp_path / 'known'}", "-o", "BatchMode=yes"]
    there = f"{VAULT}-door@{host.ip}"
    words = ["ssh", "-F", "none", *base, there, "cat /etc/passwd"]
    done = subprocess.run(words, input=b"id\n", capture_output=True, check=False, timeout=60)
    assert json.loads(done.stdout) == {"ok": False, "why": "a request is one object of JSON, in ASCII"}
    away = ["ssh", "-F", "none", *base, "-W", "127.0.0.1:22", there]
    assert b"SSH-2.0" not in subprocess.run(away, input=b"", capture_output=True, check=False, timeout=60).stdout
    for tried in (
        f"echo x >>{HOME}/.ssh/authorized_keys",
        f"echo x >>{HOME}/door.json",
        f"echo x >>/usr/local/lib/{VAULT}/vault_door.py",
        f"cat /etc/{VAULT}/server.key",
        f"ls /srv/{VAULT}",
        f"mv {HOME}/state {HOME}/other",
    ):
        assert lab.exit_code("vault01", tried, user=f"{VAULT}-door") != 0, tried
    assert lab.exit_code("vault01", f"cat {HOME}/state/leases.json", user=VAULT) != 0
    assert lab.exit_code("vault01", f"echo x >{HOME}/state/x", user=VAULT) != 0


def test_door_that_is_gone_is_told_before_anything_starts(lab: Lab, door: Path, tmp_path: Path) -> None:
    own = controller(lab, door, tmp_path, "simpeg")
    lab.exec("vault01", f"mv {HOME}/.ssh {HOME}/.away")
    try:
        done = own.site.run("schedule", "run", "--due", as_="pelaksana", check=False)
        one_line_error(done, 2, "refuses this key", "vault_server_door_keys")
        assert let_in(lab) == []
    finally:
        lab.exec("vault01", f"mv {HOME}/.away {HOME}/.ssh")
