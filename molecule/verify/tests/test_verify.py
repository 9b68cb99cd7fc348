# SPDX-License-Identifier: Apache-2.0
"""After role verify: the drill host worked on each dataset and has nothing of it; the hosts it is of restored nothing."""

from __future__ import annotations

import pytest
from testinfra.host import Host as Remote

from tests.lab.hosts import Lab
from tests.lab.planned import planned, repository

LAB = Lab.load()
VAULT = LAB.facts["vault"]["host"]
PLAN = planned()
DRILLS = sorted({entry.item["drill"]["host"] for entry in PLAN})
HOSTS = sorted({entry.host for entry in PLAN})


def remote(name: str) -> Remote:
    """A host over SSH as the operator reaches it, by the lab's inventory."""
    return Remote.get_host(f"ansible://{name}", ansible_inventory=str(LAB.inventory))


def test_each_dataset_has_another_place_of_proof() -> None:
    assert all(entry.item["drill"]["host"] != entry.host for entry in PLAN)


@pytest.mark.parametrize("name", DRILLS)
def test_the_drill_host_worked_and_keeps_nothing(name: str) -> None:
    """The lock that it worked under is all there is: no copy, no program, no password, and no cache of the repository."""
    host = remote(name)
    state = host.check_output("ls /var/lib/sop").split()
    assert {f"lock-{entry.dataset['id']}" for entry in PLAN} <= set(state)
    assert [found for found in state if not found.startswith(("lock-", "restic-cache"))] == []
    assert host.check_output("find /var/tmp -mindepth 1 -name 'sop-*'") == ""
    assert [p.comm for p in host.process.filter() if p.comm in {"restic", "pg_restore", "initdb"}] == []
    roots = {repository(LAB.facts["vault"]["root"], entry.host) for entry in PLAN}
    configs = [remote(VAULT).check_output("ls %s/snapshots | head -1", root) for root in sorted(roots)]
    for found in configs:
        cached = host.check_output("find /var/lib/sop -name %s", found)
        assert cached == "", "a part of another server's repository is kept here"
    script = "grep -rlsF -f /dev/stdin /etc /home /root /tmp /var/lib/sop /var/log /var/tmp || true"
    for source in HOSTS:
        assert LAB.exec(name, script, stdin=LAB.vault_password(source).encode()) == ""


@pytest.mark.parametrize("name", HOSTS)
def test_two_snapshots_a_dataset_and_no_more(name: str) -> None:
    """Proving stores nothing and leaves no lock in the vault."""
    vault = remote(VAULT)
    root = repository(LAB.facts["vault"]["root"], name)
    datasets = [entry for entry in PLAN if entry.host == name]
    assert len(vault.check_output("find %s/snapshots -type f", root).splitlines()) == 2 * len(datasets)
    assert vault.check_output("find %s/locks -type f", root) == ""
