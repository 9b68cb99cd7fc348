# SPDX-License-Identifier: Apache-2.0
"""A test site over the lab's hosts: register, people with real keys, the REST vault, a signed schedule.

Everything is registered as an agency would: hosts reached over SSH as an ordinary user with sudo, host keys from the
register, each host with a user of its own in the vault.
"""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.hosts import Lab
from tests.support.site_builder import SiteBuilder

WEB_SERVICE = {
    "name": "simpeg-web",
    "server": "web01",
    "manager": "systemd",
    "unit": "simpeg-web.service",
    "health": {"url": "http://127.0.0.1/health", "timeout": 60},
}
LICENCE_SERVICE = {
    "name": "perizinan-web",
    "server": "web01",
    "manager": "systemd",
    "unit": "perizinan-web.service",
    "health": {"url": "http://127.0.0.1:8080/health", "timeout": 60},
}
QUEUE_SERVICE = {
    "name": "antrean",
    "server": "file01",
    "manager": "systemd",
    "unit": "antrean.service",
    "health": {"url": "http://127.0.0.1:8090/health", "timeout": 60},
}
FILING_SERVICE = {
    "name": "berkas-web",
    "server": "file01",
    "manager": "systemd",
    "unit": "berkas-web.service",
    "health": {"url": "http://127.0.0.1:8091/health", "timeout": 60},
}


def lab_site(
    folder: Path,
    lab: Lab,
    datasets: tuple[str, ...] = ("simpeg", "berkas", "antrean"),
    *,
    small: bool = False,
    profile: str = "trenggalek",
    more: Mapping[str, Any] | None = None,
) -> SiteBuilder:
    """A site over ``datasets``, which its schedule holds where the SOP has one. Each call has repositories of its own on
    the vault host, so that tests do not meet each other's backups; ``small`` takes the vault that fills up. Kaltim's SOP
    plans by capacity, so there sop.yml says where the vault lies. ``more`` are further keys of each dataset's file, such as
    max_downtime; ``health_timeout`` among them is that of its services, in seconds."""
    vault = lab.facts["vault"]
    template = str(vault["small_url" if small else "url"])
    url = re.sub(r"^rest:https://[^@]*@([^/]+)/.*$", rf"rest:https://\1/{{server}}/{folder.name}/", template)
    site = SiteBuilder(folder, vault=url, profile=profile)
    (site.root / "trust/vault-ca.pem").write_bytes(lab.ca.read_bytes())
    for host, entry in vault["users"].items():
        target = site.root / "secrets" / host
        shutil.copyfile(entry["password_file"], target)
        target.chmod(0o600)
    options = '  user: "{server}"\n  user_password: {file: "secrets/{server}"}\n  ca_file: trust/vault-ca.pem\n'
    plans = profile == "kaltim"
    if plans:
        options += f"  server: {vault['host']}\n  path: {vault['small_root' if small else 'root']}\n"
    site.edit(
        "sop.yml",
        "  password: {file: secrets/vault-password}\n",
        f"  password: {{file: secrets/vault-password}}\n{options}",
    )
    site.sign_trust()  # the trust is signed over where the vault is
    for name, host in lab.hosts.items():
        if plans or name != vault["host"]:
            site.server(
                name, inventory=host_variables(lab, name), machine_id=host.machine_id, ssh_host_key=host.ssh_host_key
            )
    for dataset in datasets:
        site.dataset(dataset, **described(dataset, dict(more or {})))
    if profile == "trenggalek":
        site.schedule(*datasets)
    return site


def described(dataset: str, more: dict[str, Any]) -> dict[str, Any]:
    """The keys of one dataset's file."""
    entry = copy.deepcopy(DATASETS[dataset])
    timeout = more.pop("health_timeout", None)
    if timeout is not None:
        for service in entry.get("services", []):
            service["health"]["timeout"] = timeout
    return {**entry, **more}


def host_variables(lab: Lab, name: str) -> dict[str, Any]:
    """Inventory variables of one host; host keys are the register's business, not the inventory's."""
    return {
        "ansible_host": lab.hosts[name].ip,
        "ansible_user": lab.facts["ssh"]["user"],
        "ansible_become": True,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(lab.private_key),
    }


DATASETS: dict[str, dict[str, Any]] = {
    "simpeg": {
        "engine": "postgresql",
        "server": "db01",
        "database": "simpeg",
        "connection": {"os_user": "postgres", "user": "postgres"},
        "services": [WEB_SERVICE],
    },
    "perizinan": {
        "engine": "mariadb",
        "server": "db02",
        "database": "perizinan",
        "services": [LICENCE_SERVICE],
    },
    "arsip": {
        "engine": "postgresql",
        "server": "db03",
        "database": "arsip",
        "connection": {"os_user": "postgres", "user": "postgres"},
    },
    "berkas": {"engine": "files", "server": "file01", "path": "/srv/berkas", "services": [FILING_SERVICE]},
    "antrean": {"engine": "sqlite", "server": "file01", "path": "/srv/antrean/antrean.db", "services": [QUEUE_SERVICE]},
}
