# SPDX-License-Identifier: Apache-2.0
"""After role asset_registry: it has left nothing on any host, and its databases go on as before."""

from __future__ import annotations

import json
import os

import pytest
from testinfra.host import Host as Remote

from tests.lab.hosts import Lab

LAB = Lab.load()


def targets() -> list[str]:
    """The hosts that the scenario looked at."""
    with open(f"{os.environ['SOP_MOLECULE_INVENTORY']}/sop.json", encoding="utf-8") as stream:  # noqa: PTH123
        return sorted(json.load(stream)["all"]["children"]["sop_targets"]["hosts"])


@pytest.mark.parametrize("name", targets())
def test_nothing_is_left_behind(name: str) -> None:
    host = Remote.get_host(f"ansible://{name}", ansible_inventory=str(LAB.inventory))
    made = "find /etc /root /usr /var/lib/sop /var/log/nginx /var/log/apache2 -xdev -newer /run/soplab-scenario -type f"
    assert host.run(f"{made} -not -path '/etc/resolv.conf' -not -path '/var/lib/sop/*.lock'").stdout == ""
    for client in ("psql", "mariadb", "nginx -v"):
        assert host.process.filter(comm=client.split()[0], user="root") == [] or client == "nginx -v"
