# SPDX-License-Identifier: Apache-2.0
"""After role vault_client: each host's repository lies in the vault, and nothing that opens it lies on the host."""

from __future__ import annotations

import pytest
from testinfra.host import Host as Remote

from tests.lab.hosts import Lab
from tests.lab.planned import planned, repository

LAB = Lab.load()
HOSTS = sorted({entry.host for entry in planned()})


def remote(name: str) -> Remote:
    """A host over SSH as the operator reaches it, by the lab's inventory."""
    return Remote.get_host(f"ansible://{name}", ansible_inventory=str(LAB.inventory))


@pytest.mark.parametrize("name", HOSTS)
def test_repository_is_in_the_vault(name: str) -> None:
    vault = remote(LAB.facts["vault"]["host"])
    root = repository(LAB.facts["vault"]["root"], name)
    assert vault.file(f"{root}/config").user == "vault"
    assert vault.file(f"{root}/config").mode == 0o600
    assert vault.check_output("ls %s", f"{root}/keys"), f"{root}: a repository without a key"


@pytest.mark.parametrize("name", HOSTS)
def test_restic_is_there_and_idle(name: str) -> None:
    host = remote(name)
    assert host.package("restic").is_installed
    assert host.process.filter(comm="restic") == []


@pytest.mark.parametrize("name", HOSTS)
def test_vault_password_is_nowhere_on_the_host(name: str) -> None:
    places = "/etc /home /root /srv /tmp /var/lib/sop /var/log /var/tmp"
    # The password comes by standard input: on a command line, grep would find itself.
    script = f"grep -rlsF -f /dev/stdin {places} || true"
    assert LAB.exec(name, script, stdin=LAB.vault_password(name).encode()) == ""
