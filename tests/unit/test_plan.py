# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.plan: from datasets to hosts, units and snapshots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sopctl import approval, fsio, targeting
from sopctl import plan as plans
from sopctl.errors import ConfigError
from sopctl.models import Json, ScheduleEntry
from sopctl.runner import environment
from sopctl.site import Site
from tests.support.case_site import MANIFEST, SNAPSHOT, CaseSite

NOW = "2026-10-31T18:00:00Z"
ENTRIES = [ScheduleEntry("antrean"), ScheduleEntry("berkas", "P1D", "harian")]


def test_backup(site: CaseSite) -> None:
    plan = plans.backup_plan(Site(site.root), "BKP-2026-0001", ENTRIES, NOW, "restore")
    assert plan["operation"] == "backup"
    assert plan["hosts"] == {
        "srv01": {"server": "srv01", "machine_id": "1" * 32, "ssh_host_key": plan["items"][0]["ssh_host_key"]}
    }
    antrean, berkas = plan["items"]
    assert (antrean["period"], berkas["period"]) == ("2026-11", "2026-11-01")  # Jakarta is seven hours ahead
    assert antrean["name"] == "diskominfo_srv01_antrean_bulanan_20261031T180000Z_bkp-2026-0001"
    assert antrean["services"] == []  # a backup stops nothing
    fsio.canonical_json(plan)  # nothing in it that could be written two ways


def test_the_drill_host_of_each_backup(site: CaseSite) -> None:
    """The dataset's own word goes before sop.yml's; its own server there means: at home."""

    def made() -> Json:
        return plans.backup_plan(Site(site.root), "BKP-2026-0001", ENTRIES, NOW, "restore")

    def drills() -> list[Any]:
        return [item.get("drill") for item in made()["items"]]

    site.change_yaml("register/datasets/berkas.yml", drill="srv02")
    assert drills() == [None, {"server": "srv02", "host": "srv02"}]
    assert made()["hosts"]["srv02"]["machine_id"] == "2" * 32
    site.edit("sop.yml", "  verify: restore", "  verify: restore\n  drill: srv02")
    site.change_yaml("register/datasets/berkas.yml", drill="srv01")
    assert drills() == [{"server": "srv02", "host": "srv02"}, None]
    asked = plans.requested_backup_plan(Site(site.root), "BKP-2026-0002", "backup", ["antrean"], NOW, "restore")
    assert asked["items"][0]["drill"]["server"] == "srv02"
    assert [approval.approval_target(item)["drill"] for item in made()["items"]] == ["srv02", None]
    site.change_yaml("register/servers/srv02.yml", machine_id=None)
    with pytest.raises(ConfigError, match="machine_id"):
        made()


def test_restore(site: CaseSite) -> None:
    session = site.session
    plan = targeting.case_plan(session, session.case(site.case))
    (item,) = plan["items"]
    assert (item["snapshot"], item["manifest_snapshot"], item["max_downtime"]) == (SNAPSHOT, MANIFEST, 1800)
    assert item["services"][0]["host"] == "srv01"
    assert item["services"][0]["service"]["start"] == ["/srv/app/start"]


def test_dataset_reaches_modules_without_secrets(site: CaseSite) -> None:
    values: Json = {
        "engine": "postgresql",
        "path": None,
        "database": "antrean",
        "connection": {"port": 5433, "password": {"file": "secrets/vault-password"}},
    }
    site.change_yaml("register/datasets/antrean.yml", **values)
    record = plans.dataset_record(Site(site.root).dataset("antrean"))
    assert record["connection"] == {"port": 5433}
    assert "secrets" not in json.dumps(record)


# --- the user's inventory --------------------------------------------------------------------------------------------


def inventory(site: CaseSite, value: Any, tmp_path: Path) -> dict[str, Json]:
    (site.root / "inventory/hosts.yml").write_text(value if isinstance(value, str) else json.dumps(value))
    return plans.inventory_hosts(Site(site.root), environment(tmp_path))


def test_inventory(site: CaseSite, tmp_path: Path) -> None:
    value = {
        "all": {
            "hosts": {"srv01": {"ansible_host": "192.0.2.1"}},
            "children": {"db": {"hosts": {"srv02": None}, "vars": {"ansible_port": 2222}}},
        }
    }
    hosts = inventory(site, value, tmp_path)
    assert hosts == {"srv01": {"ansible_host": "192.0.2.1"}, "srv02": {"ansible_port": 2222}}


@pytest.mark.parametrize("text", ["all: [", "all:\n  hosts:\n   srv01:\n  - x\n", "[srv01"])
def test_inventory_that_cannot_be_read(text: str, site: CaseSite, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the inventory cannot be read") as caught:
        inventory(site, text, tmp_path)
    assert "\n" not in str(caught.value)


def test_planned_hosts_are_in_the_inventory_with_their_key(site: CaseSite) -> None:
    plan = plans.backup_plan(Site(site.root), "BKP-2026-0001", ENTRIES, NOW, "restore")
    plans.check_reachable(Site(site.root), plan, {"srv01": {}})
    with pytest.raises(ConfigError, match="host 'srv01' of server srv01 is not in the inventory"):
        plans.check_reachable(Site(site.root), plan, {"srv09": {}})
    plan["hosts"]["srv01"]["ssh_host_key"] = None
    plans.check_reachable(Site(site.root), plan, {"srv01": {"ansible_connection": "local"}})
    with pytest.raises(ConfigError, match="has no ssh_host_key"):
        plans.check_reachable(Site(site.root), plan, {"srv01": {}})


def test_known_hosts_are_the_register(site: CaseSite) -> None:
    plan = plans.backup_plan(Site(site.root), "BKP-2026-0001", ENTRIES, NOW, "restore")
    key = plan["hosts"]["srv01"]["ssh_host_key"]
    assert plans.known_hosts(plan, {"srv01": {"ansible_host": "192.0.2.1"}}) == f"192.0.2.1,srv01 {key}\n"
    assert plans.known_hosts(plan, {"srv01": {"ansible_port": 2222}}) == f"[srv01]:2222 {key}\n"
    plan["hosts"]["srv01"]["ssh_host_key"] = f"{key} comment\n* {key}"
    assert plans.known_hosts(plan, {"srv01": {}}) == f"srv01 {key}\n"


def test_each_host_gets_its_own_share(site: CaseSite) -> None:
    site.change_yaml("register/datasets/berkas.yml", server="srv02")
    plan = plans.backup_plan(Site(site.root), "BKP-2026-0001", ENTRIES, NOW, "restore")
    hosts = {"srv01": {"ansible_connection": "local"}, "srv02": {}}
    made = plans.generated_inventory(plan, hosts)["all"]["children"]
    shares = {
        host: [item["dataset"]["id"] for item in value["sop_plan"]]
        for host, value in made["sop_targets"]["hosts"].items()
    }
    assert shares == {"srv01": ["antrean"], "srv02": ["berkas"]}
    assert made["sop_hosts"]["hosts"] == {
        "srv01": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
        "srv02": {},
    }
