# SPDX-License-Identifier: Apache-2.0
"""A backup killed at any moment leaves nothing that counts, and the next run needs nobody who cleans up before it.

Three engines are killed side by side, each on its host, one moment a run; no run but the last comes to its end, so each
one also shows that what the one before it left does not hinder.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Counted, Vault

from tests.e2e.checks import Done, all_verified, record_json, wait_until
from tests.e2e.strikes import Strike, striking
from tests.lab.hosts import Lab
from tests.support.site_builder import SiteBuilder

pytestmark = [pytest.mark.long, pytest.mark.lab, pytest.mark.usefixtures("alone")]

MB = 40
HOSTS = {"simpeg": "db01", "perizinan": "db02", "berkas": "file01"}
PROGRAMS = {"db01": "pg_dump", "db02": "mariadb-dump"}


@pytest.fixture(scope="module")
def large(lab: Lab, alone: None, filed: None) -> None:
    """Data that takes long enough to be met in the middle."""
    lab.generate(MB)
    lab.generate(MB, "perizinan")
    new_file(lab)


def new_file(lab: Lab) -> None:
    """A large file as no run has seen it: restic does not read again what its last snapshot has, nor send it."""
    lab.exec("file01", f"head -c {MB}M /dev/urandom >/srv/berkas/besar.bin")


@pytest.fixture(scope="module")
def site(large: None, make_site: Callable[..., SiteBuilder]) -> SiteBuilder:
    """A site with one dataset of each of three engines."""
    return make_site(*HOSTS)


def vault_of(lab: Lab, site: SiteBuilder, host: str, folder: Path) -> Vault:
    """A host's repository, seen from here."""
    password = (site.root / "secrets/vault-password").read_text(encoding="utf-8").strip()
    repository = lab.vault_url(host, f"{site.folder.name}/")
    return Vault({"repository": repository, "password": password, "ca_pem": lab.ca.read_text()}, str(folder))


def counted(lab: Lab, site: SiteBuilder, dataset: str) -> list[Counted]:
    """What counts as a backup of the dataset by the vault itself."""
    vault = vault_of(lab, site, HOSTS[dataset], site.folder / "look")
    return vault.counted(dataset)


def proven(site: SiteBuilder) -> list[str]:
    """The datasets of which the records prove a backup."""
    return sorted(row["dataset"] for row in site.run_json("vault", "list") if row["verified"])


def told(done: Done, host: str, dataset: str) -> str:
    """The one line in which a run says why ``dataset`` failed."""
    failures = json.loads(done.stdout)["failures"]
    lines = [each["msg"] for each in failures if (each["host"], each["dataset"]) == (host, dataset)]
    assert len(lines) == 1, done.stdout
    assert "\n" not in lines[0] and "Traceback" not in done.stdout, done.stdout
    return str(lines[0])


def run_due(site: SiteBuilder) -> Done:
    """What cron starts."""
    return site.run("schedule", "run", "--due", "--json", as_="pelaksana", check=False)


@pytest.mark.parametrize("moment", ["beginning", "middle", "manifest"])
@pytest.mark.parametrize("victim", ["dump", "restic", "module"])
def test_killed_before_its_manifest(lab: Lab, site: SiteBuilder, victim: str, moment: str) -> None:
    """Nothing counts, neither by the vault nor by the records; the run says so of each dataset."""
    if (victim, moment) == ("dump", "manifest"):
        pytest.skip("the dump has ended before")
    new_file(lab)
    with striking(lab, *(strike(host, victim, moment) for host in HOSTS.values())):
        done = run_due(site)
    for dataset, host in HOSTS.items():
        line = told(done, host, dataset)
        print(line)
        assert counted(lab, site, dataset) == []
    assert done.returncode == 20, done.stdout + done.stderr
    assert proven(site) == []
    rows = record_json(Path(json.loads(done.stdout)["record"]), "form.json")["rows"]
    assert {row["result"] for row in rows} == {"gagal"}
    assert len(rows) == len(HOSTS)


def strike(host: str, victim: str, moment: str) -> Strike:
    """Files have no dump program: restic reads them itself."""
    return (
        Strike(host, victim, moment, PROGRAMS[host])
        if host in PROGRAMS
        else Strike(host, victim.replace("dump", "restic"), moment)
    )


def test_killed_while_it_is_proven_and_the_next_run(lab: Lab, site: SiteBuilder) -> None:
    """What is stored whole is not proven yet; the next run, which nobody cleaned up for, proves that one and makes no other."""
    with striking(lab, *(Strike(host, "module", "verifying") for host in HOSTS.values())):
        done = run_due(site)
    assert done.returncode == 20, done.stdout + done.stderr
    assert proven(site) == []
    stored = {dataset: counted(lab, site, dataset) for dataset in HOSTS}
    assert [len(found) for found in stored.values()] == [1, 1, 1]
    locks = lab.exec("vault01", f"find /srv/vault/*/{site.folder.name}/locks -type f")
    assert locks, "a killed restic leaves its shared lock, which hinders no backup"
    done = run_due(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert proven(site) == sorted(HOSTS)
    assert {dataset: counted(lab, site, dataset) for dataset in HOSTS} == stored
    all_verified(site)


def test_connections_killed_in_the_middle(lab: Lab, large: None, make_site: Callable[..., SiteBuilder]) -> None:
    """The hosts' sshd: Ansible connects once more and the module goes on, or the run says which dataset it lost; the vault
    keeps one backup of each, whatever the module that lost its connection still did."""
    cut = make_site(*HOSTS, quick=True)
    new_file(lab)
    with striking(lab, *(Strike(host, "ssh", "middle") for host in HOSTS.values())):
        done = run_due(cut)
    lost = [dataset for dataset in HOSTS if dataset not in proven(cut)]
    assert done.returncode == (0 if not lost else 20 if len(lost) == len(HOSTS) else 22), done.stdout + done.stderr
    for dataset in lost:
        print(told(done, HOSTS[dataset], dataset))
    completes(lab, cut)


def test_the_controller_with_all_its_processes_killed(
    lab: Lab, large: None, make_site: Callable[..., SiteBuilder]
) -> None:
    """Nobody is left to seal anything; the next run goes on with the case by itself."""
    left = make_site(*HOSTS, quick=True)
    new_file(lab)
    with striking(lab, *(Strike(host, "sopctl", "middle") for host in HOSTS.values())):
        run = left.start("schedule", "run", "--due", "--json", as_="pelaksana")
    for pid in [run.pid, *descendants(run.pid)]:
        os.kill(pid, signal.SIGKILL)
    run.communicate()
    assert proven(left) == []
    completes(lab, left)


def descendants(pid: int) -> list[int]:
    """Every process below ``pid``, whatever session it is in."""
    said = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [(int(one), int(parent)) for one, parent in (line.split() for line in said.splitlines())]
    found = [pid]
    for each in found:
        found += [one for one, parent in pairs if parent == each]
    return found[1:]


def completes(lab: Lab, site: SiteBuilder) -> None:
    """Once what still runs on the hosts has let go, what cron starts next needs nobody, and keeps one backup a dataset."""
    said: list[str] = []

    def again() -> bool:
        done = run_due(site)
        said.append(done.stdout + done.stderr)
        return done.returncode == 0

    assert wait_until(again, 120), said[-1]
    assert proven(site) == sorted(HOSTS)
    assert [len(counted(lab, site, dataset)) for dataset in HOSTS] == [1, 1, 1]
    all_verified(site)
