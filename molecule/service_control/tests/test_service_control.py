# SPDX-License-Identifier: Apache-2.0
"""After role service_control (state: started): every planned service runs under systemd and answers."""

from __future__ import annotations

import pytest
from testinfra.host import Host as Remote

from tests.lab.hosts import Lab
from tests.lab.planned import planned

LAB = Lab.load()
SERVICES = sorted({(entry["host"], entry["service"]["unit"]) for found in planned() for entry in found.services})
HEALTH = sorted({(entry["host"], entry["service"]["health"]["url"]) for found in planned() for entry in found.services})


def remote(name: str) -> Remote:
    """A host over SSH as the operator reaches it, by the lab's inventory."""
    return Remote.get_host(f"ansible://{name}", ansible_inventory=str(LAB.inventory))


def test_plan_has_services() -> None:
    assert SERVICES


@pytest.mark.parametrize(("name", "unit"), SERVICES)
def test_unit_is_active(name: str, unit: str) -> None:
    service = remote(name).service(unit)
    assert service.is_running
    assert service.is_enabled, "stopping for a restore must not keep a service from starting at boot"


@pytest.mark.parametrize(("name", "url"), HEALTH)
def test_service_answers(name: str, url: str) -> None:
    assert remote(name).check_output("curl -s -o /dev/null -w '%%{http_code}' --max-time 5 %s", url) == "200"
