# SPDX-License-Identifier: Apache-2.0
"""After role backup: snapshots lie in the vault; live data, services and the host are as they were, with nothing left."""

from __future__ import annotations

import pytest
from testinfra.host import Host as Remote

from tests.lab.hosts import Lab
from tests.lab.planned import Planned, named, planned, repository
from tests.lab.probe import healthy

LAB = Lab.load()
VAULT = LAB.facts["vault"]["host"]
PLAN = planned()
HOSTS = sorted({entry.host for entry in PLAN})


def remote(name: str) -> Remote:
    """A host over SSH as the operator reaches it, by the lab's inventory."""
    return Remote.get_host(f"ansible://{name}", ansible_inventory=str(LAB.inventory))


@pytest.mark.parametrize("name", HOSTS)
def test_two_snapshots_a_dataset_and_no_more(name: str) -> None:
    """A dump and its manifest each; the second converge of this scenario must have added none."""
    vault = remote(VAULT)
    root = repository(LAB.facts["vault"]["root"], name)
    datasets = [entry for entry in PLAN if entry.host == name]
    assert len(vault.check_output("find %s/snapshots -type f", root).splitlines()) == 2 * len(datasets)
    assert int(vault.check_output("du -s --block-size=1 %s/data | cut -f 1", root)) > 0
    assert vault.check_output("find %s/locks -type f", root) == ""


@pytest.mark.parametrize("name", HOSTS)
def test_nothing_is_left_on_the_host(name: str) -> None:
    host = remote(name)
    places = "/tmp /var/tmp /dev/shm $(ls -d /var/lib/sop 2>/dev/null)"
    # PostgreSQL keeps its own shared memory there, and it is not small.
    assert host.check_output(f"find {places} -type f -size +256k -not -path '/dev/shm/PostgreSQL.*'") == ""
    assert [p.comm for p in host.process.filter() if p.comm in {"restic", "pg_dump", "pg_restore"}] == []
    script = "grep -rlsF -f /dev/stdin /etc /home /root /tmp /var/lib/sop /var/log /var/tmp || true"
    assert LAB.exec(name, script, stdin=LAB.vault_password(name).encode()) == ""


@pytest.mark.parametrize("entry", [e for e in PLAN if e.dataset["engine"] == "postgresql"], ids=named)
def test_database_is_as_it_was(entry: Planned) -> None:
    name = entry.dataset["database"]
    # The scratch copy that proved the backup is gone, and the live database is open to its application.
    assert [found for found in LAB.databases() if "__scratch" in found or "__shadow" in found] == []
    assert name in LAB.psql("SELECT datname FROM pg_database WHERE datallowconn", "postgres").splitlines()
    assert LAB.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg_dump%'", "postgres") == "0"
    assert int(LAB.psql("SELECT count(*) FROM kepegawaian.pegawai", name)) >= 2000


@pytest.mark.parametrize("entry", [e for e in PLAN if e.dataset["engine"] != "postgresql"], ids=named)
def test_nothing_lies_beside_the_live_data(entry: Planned) -> None:
    path = entry.dataset["path"]
    host = remote(entry.host)
    assert host.file(path).exists
    assert host.check_output("find %s -maxdepth 1 -name '*__s*'", path.rpartition("/")[0]) == ""


def test_services_never_stopped() -> None:
    """The units' processes are older than the backup's snapshots."""
    for found in PLAN:
        for entry in found.services:
            assert remote(entry["host"]).service(entry["service"]["unit"]).is_running
    assert healthy(f"{LAB.web_url}/health", 5)
    assert healthy(f"{LAB.queue_url}/health", 5)
