# SPDX-License-Identifier: Apache-2.0
"""From datasets to hosts, units and snapshots: what exactly a run would do, as a signed document."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from sopctl import clock, naming, periods, places
from sopctl.errors import ConfigError, GateRefused
from sopctl.kept import Kept
from sopctl.models import Dataset, Json, ScheduleEntry, Server
from sopctl.site import Site
from sopctl.vault import SAFETY, Backup, catalogue

SCHEMA = "sop/plan/v1"
#: operation of a restore beside the live data or on another server, and name of its playbook
PLACE = "place"
#: operation of a look at servers for the asset register, and name of its playbook; such a plan has hosts and no items
SCAN = "scan"


def host_of(site: Site, server_id: str) -> Server:
    """The register entry a plan may target. ConfigError when it lacks what identifies a machine."""
    server = site.servers[server_id]
    if not server.machine_id:
        raise ConfigError(
            "the register entry has no machine_id, so nothing tells this machine from another",
            where=f"register/servers/{server_id}.yml:machine_id",
            hint="Write what `cat /etc/machine-id` prints there.",
        )
    return server


def dataset_record(dataset: Dataset) -> Json:
    """The dataset as modules get it: no nulls, no secrets."""
    record: Json = {"id": dataset.id, "engine": dataset.engine}
    for key in ("database", "path", "state_dir", "scratch_dir", "reserve_bytes", "extensions", "definers"):
        if getattr(dataset, key):
            record[key] = getattr(dataset, key)
    if dataset.checks:
        record["checks"] = [{"name": one.name, "query": one.query, "expect": one.expect} for one in dataset.checks]
    connection = dataset.connection
    values = {
        key: getattr(connection, key)
        for key in ("socket", "host", "port", "user", "os_user", "bin_dir", "maintenance_db")
        if getattr(connection, key) is not None
    }
    if connection.standbys:
        keys = ("host", "socket", "port")
        values["standbys"] = [
            {key: getattr(each, key) for key in keys if getattr(each, key) is not None} for each in connection.standbys
        ]
    if values:
        record["connection"] = values
    return record


def _services(site: Site, dataset: Dataset) -> list[Json]:
    found = []
    for service in dataset.services:
        record: Json = {"name": service.name, "manager": service.manager}
        for key in ("unit", "start", "stop", "status"):
            if getattr(service, key):
                record[key] = getattr(service, key)
        if service.health:
            record["health"] = {"url": service.health.url, "timeout": service.health.timeout}
        found.append(
            {"server": service.server, "host": site.servers[service.server].inventory_hostname, "service": record}
        )
    return found


def _item(site: Site, dataset: Dataset, on: str | None = None) -> Json:
    """``on``: server where it is done, when not the dataset's own."""
    server = host_of(site, on or dataset.server)
    return {
        "dataset": dataset_record(dataset),
        "server": server.id,
        "host": server.inventory_hostname,
        "machine_id": server.machine_id,
        "ssh_host_key": server.ssh_host_key,
        "owner_unit": dataset.owner_unit,
        "classification": dataset.classification,
        "services": _services(site, dataset),
    }


def _backup_item(site: Site, dataset: Dataset) -> Json:
    """An item whose backup is proven on the drill host, where there is one."""
    item = {**_item(site, dataset), "services": []}
    if drill := site.drill(dataset):
        item["drill"] = {"server": drill, "host": host_of(site, drill).inventory_hostname}
    return item


def proven_on(item: Json) -> str:
    """Host on which a planned backup is proven: the drill host, or its own."""
    return str((item.get("drill") or item)["host"])


def _identity(server: Server) -> Json:
    return {"server": server.id, "machine_id": server.machine_id, "ssh_host_key": server.ssh_host_key}


def _plan(site: Site, case_id: str, flow: str, operation: str, items: list[Json], now: str) -> Json:
    servers = {item["server"] for item in items} | {service["server"] for item in items for service in item["services"]}
    servers |= {item["drill"]["server"] for item in items if item.get("drill")}
    hosts: Json = {}
    for server_id in sorted(servers):
        server = host_of(site, server_id)
        hosts[server.inventory_hostname] = _identity(server)
    return {
        "schema": SCHEMA,
        "site": site.config.site,
        "case": case_id,
        "flow": flow,
        "operation": operation,
        "at": now,
        "hosts": hosts,
        "items": items,
    }


def backup_plan(site: Site, case_id: str, entries: list[ScheduleEntry], now: str, verify: str) -> Json:
    """Plan of a scheduled run over ``entries``; ``verify`` is how deep each backup is proven (restore, read)."""
    flow = site.profile.profile.schedule_flow() or "backup"
    order = site.schedule()
    backups = catalogue(site)
    items = []
    for entry in entries:
        item = _backup_item(site, site.dataset(entry.dataset))
        period = periods.of(now, entry.every, site.tz, order.window_of(entry))
        item |= {"period": period.name, "every": entry.every, "jenis": entry.jenis, "verify": verify}
        # what was refuted stays so, however often it is restored: another one is made for the period
        item["passed_over"] = [
            backup.snapshot
            for backup in backups
            if backup.refuted and (backup.dataset, backup.period) == (entry.dataset, period.name)
        ]
        item["name"] = backup_name(site, item, case_id, now)
        items.append(item)
    return _plan(site, case_id, flow, "backup", items, now)


def requested_backup_plan(site: Site, case_id: str, flow: str, datasets: list[str], now: str, verify: str) -> Json:
    """Plan of a requested backup: a period of its own, so that it is made whatever the schedule has made before."""
    items = []
    for dataset_id in datasets:
        item = _backup_item(site, site.dataset(dataset_id))
        item |= {"period": case_id.lower(), "every": None, "jenis": "permohonan", "verify": verify, "passed_over": []}
        item["name"] = backup_name(site, item, case_id, now)
        items.append(item)
    return _plan(site, case_id, flow, "backup", items, now)


def look_plan(site: Site, wanted: Json) -> Json:
    """Plan of looking at size and room for what ``wanted`` would do; also at the vault, where the site says where it is."""
    items = [_looked_at(item, wanted["operation"]) for item in wanted["items"]]
    plan = _plan(site, wanted["case"], wanted["flow"], "plan", items, wanted["at"])
    vault = site.config.vault
    if vault.server and vault.path:
        if vault.server not in site.servers:
            raise ConfigError(
                f"server {vault.server!r} is not in the asset register", where=f"{site.root / 'sop.yml'}:vault.server"
            )
        server = host_of(site, vault.server)
        plan["hosts"][server.inventory_hostname] = _identity(server)
        plan["vault"] = {"server": server.id, "host": server.inventory_hostname, "path": vault.path}
    return plan


def _looked_at(item: Json, operation: str) -> Json:
    """What is looked at for ``item``: elsewhere, that is the place where it will lie, not the live data."""
    if operation != PLACE:
        return {**item, "operation": operation}
    key = "path" if "path" in item["dataset"] else "database"
    return {**item, "operation": "restore", "dataset": {**item["dataset"], key: item["to"]["place"]}}


def targeted(plan: Json) -> list[str]:
    """The hosts that must answer: those with planned items, or all where only looking is planned."""
    if plan["operation"] == SCAN:
        return sorted(plan["hosts"])
    return sorted({item["host"] for item in plan["items"]})


def backup_name(site: Site, item: Json, case_id: str, now: str) -> str:
    """Name of a backup by the site's rule (``naming`` in sop.yml). ConfigError names an unknown word."""
    words = {
        "agency": site.config.agency.kode,
        "server": item["server"],
        "dataset": item["dataset"]["id"],
        "jenis": item["jenis"],
        "period": item["period"],
        "time": now.replace("-", "").replace(":", ""),
        "run": case_id.lower(),
    }
    return naming.name(site.config.naming, words, f"{site.root / 'sop.yml'}:naming")


def restore_plan(
    site: Site,
    case_id: str,
    flow: str,
    datasets: list[str],
    backups: dict[str, Backup],
    now: str,
    *,
    to: Json | None = None,
    in_place: bool = False,
) -> Json:
    """Plan of a restore of ``datasets`` from ``backups`` (by dataset id).

    ``to`` (dataset → server and place) restores beside the live data or on another server, which is operation ``place``
    and touches no service. ``in_place`` replaces the live data where it lies, after a safety backup. GateRefused when a
    place is none that may be restored to.
    """
    items = []
    for dataset_id in datasets:
        dataset = site.dataset(dataset_id)
        backup = backups[dataset_id]
        wanted = (to or {}).get(dataset_id)
        item = _elsewhere(site, case_id, dataset, wanted) if wanted else _item(site, dataset)
        item |= {
            "snapshot": backup.snapshot,
            "manifest_snapshot": backup.manifest_snapshot,
            "sha256": backup.sha256,
            "bytes": backup.bytes,
            "backup_name": backup.name,
            "backup_time": backup.started,
            "expected": backup.content,
            "max_downtime": clock.duration_seconds(dataset.max_downtime),
        }
        if backup.aliases:
            item["aliases"] = backup.aliases
        if in_place:
            named = {**item, "jenis": "pengaman", "period": safety_period(case_id)}
            item |= {
                "in_place": True,
                "safety_period": safety_period(case_id),
                "safety_name": backup_name(site, named, case_id, now),
                "safety_verify": "read",
            }
        items.append(item)
    if to and (reasons := places.clashes([(name, one["server"], one["place"]) for name, one in to.items()])):
        raise GateRefused(reasons, where=case_id)
    return _plan(site, case_id, flow, PLACE if to else "restore", items, now)


def safety_period(case_id: str) -> str:
    """Period of the backup that a restore in place makes of what it replaces: one a case."""
    return f"{case_id.lower()}{SAFETY}"


def _elsewhere(site: Site, case_id: str, dataset: Dataset, wanted: Json) -> Json:
    """The item of a dataset that is restored to another place: that server's identity, and no services."""
    server, place = wanted["server"], wanted["place"]
    if reasons := places.problems(dataset, server, place, site.datasets, site.servers):
        raise GateRefused(reasons, where=case_id)
    item = _item(site, dataset, server)
    return {**item, "services": [], "to": {"server": server, "place": place, "source": dataset.server}}


def clean_plan(site: Site, case_id: str, flow: str, kept: list[Kept], by: str, order: str | None, now: str) -> Json:
    """Plan of dropping what ``kept`` names, and nothing else; ``order`` is the digest of the document that orders it."""
    items = []
    for one in kept:
        item = _item(site, site.dataset(one.dataset))
        item |= {
            "services": [],
            "kept": [{"copy": one.copy, "name": one.name}],
            "bytes": one.size,
            "until": one.until,
            "restored": {"place": one.place, "record": one.record},
            "snapshot": one.snapshot,
            "manifest_snapshot": one.manifest_snapshot,
        }
        items.append(item)
    return {**_plan(site, case_id, flow, "clean", items, now), "by": by, "order": order}


#: when a host's switch fires, in hundredths of the max downtime: data is settled before applications come back
FIRES = {"data": 70, "services": 80}


def switches(plan: Json) -> list[Json]:
    """What each host's dead man's switch is told: its datasets and services, and after how many seconds it fires.

    Hosts with datasets come first. ``together``: several hosts hold datasets, so none may decide alone; ``alone``: this host
    holds everything.
    """
    shares: dict[str, Json] = {}
    for item in plan["items"]:
        shares.setdefault(item["host"], {"datasets": [], "services": []})["datasets"].append(item["dataset"])
    together = len(shares) > 1
    for service in run_services(plan):
        shares.setdefault(service["host"], {"datasets": [], "services": []})["services"].append(service["service"])
    longest = min((item["max_downtime"] for item in plan["items"]), default=0)
    return [
        {
            "host": host,
            **share,
            "seconds": max(1, longest * FIRES["data" if share["datasets"] else "services"] // 100),
            "together": together,
            "alone": len(shares) == 1,
        }
        for host, share in shares.items()
    ]


def run_services(plan: Json) -> list[Json]:
    """The services of all datasets, each once, in the order of the plan."""
    found: list[Json] = []
    for item in plan["items"]:
        found += [service for service in item["services"] if service not in found]
    return found


def run_variables(plan: Json) -> Json:
    """``sop_run``: what the host that leads a restore needs to know of all hosts."""
    return {
        "leader": plan["items"][0]["host"],
        "entries": plan["items"],
        "services": run_services(plan),
        "switches": switches(plan),
        "together": len({item["host"] for item in plan["items"]}) > 1,
        "in_place": any(item.get("in_place") for item in plan["items"]),
    }


def inventory_hosts(site: Site, config_env: dict[str, str]) -> dict[str, Json]:
    """Variables of every host of the user's inventory (``ansible-inventory --list``; opens no connection).

    ConfigError when the inventory cannot be read.
    """
    command = ["ansible-inventory", "--list", "-i", str(site.inventory)]
    if site.config.ansible.vault_password_file:
        command += ["--vault-password-file", str(site.root / site.config.ansible.vault_password_file)]
    done = subprocess.run(
        command, env=config_env, capture_output=True, text=True, check=False, cwd=site.root, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = (
            [line for line in done.stderr.splitlines() if "ERROR" in line or "rror" in line]
            or done.stderr.splitlines()[-1:]
            or ["no reason given"]
        )
        raise ConfigError(
            f"the inventory cannot be read ({lines[0].removeprefix('[ERROR]: ').strip()})", where=str(site.inventory)
        )
    listed: Any = json.loads(done.stdout, object_hook=_plain)
    hosts: dict[str, Json] = {}
    for group, value in listed.items():
        for host in value.get("hosts", []) if group != "_meta" else []:
            hosts.setdefault(host, listed.get("_meta", {}).get("hostvars", {}).get(host, {}))
    return hosts


def _plain(value: Json) -> Any:
    """Text that is no template, as plugins give it, is wrapped by ansible-inventory."""
    return value["__ansible_unsafe"] if value.keys() == {"__ansible_unsafe"} else value


def check_reachable(site: Site, plan: Json, hosts: dict[str, Json]) -> None:
    """Every planned host is in the inventory, and carries the host key that SSH will insist on. ConfigError."""
    for host, planned in plan["hosts"].items():
        if host not in hosts:
            raise ConfigError(
                f"host {host!r} of server {planned['server']} is not in the inventory",
                where=str(site.inventory),
                hint=f"Add it there, or correct register/servers/{planned['server']}.yml:inventory_hostname.",
            )
        if hosts[host].get("ansible_connection") != "local" and not planned["ssh_host_key"]:
            raise ConfigError(
                "the register entry has no ssh_host_key",
                where=f"register/servers/{planned['server']}.yml:ssh_host_key",
                hint="Write the server's own line from /etc/ssh/ssh_host_ed25519_key.pub there.",
            )


def known_hosts(plan: Json, hosts: dict[str, Json]) -> str:
    """A known_hosts file of exactly the planned hosts, from the register."""
    lines = []
    for host, planned in plan["hosts"].items():
        if not planned["ssh_host_key"]:
            continue
        address = str(hosts[host].get("ansible_host", host))
        port = hosts[host].get("ansible_port", 22)
        names = {address, host} if str(port) == "22" else {f"[{address}]:{port}", f"[{host}]:{port}"}
        lines.append(f"{','.join(sorted(names))} {' '.join(planned['ssh_host_key'].split()[:2])}\n")
    return "".join(lines)


def generated_inventory(plan: Json, hosts: dict[str, Json]) -> Json:
    """Group ``sop_targets`` (hosts with datasets) and ``sop_hosts`` (all planned), with each host's share of the plan.

    Local hosts without an interpreter of their own get Ansible's: discovery finds version managers' shims.
    """
    shares: dict[str, list[Json]] = {host: [] for host in targeted(plan)}
    for item in plan["items"]:
        shares[item["host"]].append(item)
    everyone: dict[str, Json] = {}
    for host in plan["hosts"]:
        local = hosts[host].get("ansible_connection") == "local" and "ansible_python_interpreter" not in hosts[host]
        everyone[host] = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"} if local else {}
    whole = {"sop_run": run_variables(plan)} if plan["operation"] == "restore" and plan["items"] else {}
    targets = {host: {"sop_case": plan["case"], "sop_plan": share, **whole} for host, share in shares.items()}
    groups: Json = {"sop_targets": {"hosts": targets}, "sop_hosts": {"hosts": everyone}}
    if vault := plan.get("vault"):
        groups["sop_vault"] = {"hosts": {vault["host"]: {"sop_vault_path": vault["path"]}}}
    return {"all": {"children": groups}}
