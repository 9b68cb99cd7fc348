# SPDX-License-Identifier: Apache-2.0
"""After role enrol: the key and the used-list lie there as root's alone, and the key is not replaced without its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host as Remote

from tests.lab.hosts import Lab

LAB = Lab.load()
NAME = "vault01"
KEY = Path(__file__).parents[1] / "files/run.pub"


@pytest.fixture(scope="module", autouse=True)
def not_enrolled_afterwards() -> Iterator[None]:
    """The scenario's first step finds the host as an administrator would."""
    yield
    LAB.exec(NAME, "rm -rf /etc/sop /var/lib/sop/used.jsonl")


@pytest.fixture
def host() -> Remote:
    """The host over SSH as the operator reaches it, by the lab's inventory."""
    return Remote.get_host(f"ansible://{NAME}", ansible_inventory=str(LAB.inventory))


def test_key_is_root_s_and_everybody_may_read_it(host: Remote) -> None:
    for path, mode in (("/etc/sop", 0o755), ("/etc/sop/grant-signers", 0o644)):
        assert (host.file(path).user, host.file(path).mode) == ("root", mode)
    line = " ".join(KEY.read_text(encoding="utf-8").split()[:2])
    assert host.file("/etc/sop/grant-signers").content_string == f'run namespaces="sop-grant" {line}\n'


def test_used_list_is_root_s_alone(host: Remote) -> None:
    with host.sudo():
        used, folder = host.file("/var/lib/sop/used.jsonl"), host.file("/var/lib/sop")
        assert (used.user, used.mode, used.size) == ("root", 0o600, 0)
        assert (folder.user, folder.mode) == ("root", 0o700)
