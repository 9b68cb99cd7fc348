# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Services that start with a host, how its clock is kept, and what it backs itself up with."""

from __future__ import annotations

import re

from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Json, Look, clean, said

#: states of a unit's file by which it starts with the host
STARTING = {"enabled", "enabled-runtime", "generated", "linked", "linked-runtime"}
#: process → the name by which people know it
TIMEKEEPERS = {
    "chronyd": "chrony",
    "ntpd": "ntp",
    "ntpsec": "ntpsec",
    "systemd-timesyn": "systemd-timesyncd",
    "openntpd": "openntpd",
}
#: the dead man's switch of a restore that is going on: there for minutes, and no fact of the server
SWITCH = "sop-settle-"
#: program → arguments that make it print its version, where it is known to do nothing else
CLIENTS: dict[str, list[str]] = {
    "restic": ["version"], "borg": ["--version"], "borgmatic": [], "pgbackrest": ["version"], "barman": [], "rclone": [],
    "duplicity": [], "bareos-fd": [], "bacula-fd": [], "rsnapshot": [], "veeamconfig": [],
}  # fmt: skip
FOLDERS = ("/usr/bin", "/usr/local/bin", "/usr/sbin", "/usr/local/sbin", "/opt/bareos/bin", "/opt/bacula/bin")
_VERSION = re.compile(r"\d+(?:\.\d+)+")


def services(look: Look) -> list[str] | None:
    """Services that start with the host, without ``.service``; None where systemd does not tell."""
    command = ["systemctl", "list-unit-files", "--type=service", "--no-legend", "--no-pager", "--plain", "--full"]
    ran = look.run(command)
    if ran.code != 0:
        look.could_not("services", said(ran))
        return None
    rows = [line.split() for line in ran.out.splitlines()]
    found = {row[0].removesuffix(".service") for row in rows if len(row) > 1 and row[1] in STARTING}
    return sorted(name for name in found if not name.startswith(SWITCH))


def time_facts(look: Look) -> Json:
    """Who keeps the clock, whether it is right by what the kernel says, and the time zone."""
    ran = look.run(["timedatectl", "show", "--property=NTPSynchronized", "--property=Timezone"])
    values = dict(line.partition("=")[::2] for line in ran.out.splitlines()) if ran.code == 0 else {}
    if not values:
        look.could_not("whether the clock is right", said(ran))
    zone = values.get("Timezone") or (look.link("/etc/localtime") or "").partition("zoneinfo/")[2]
    running = {(look.text(f"/proc/{name}/comm") or "").strip() for name in look.names("/proc") if name.isdigit()}
    return {
        "client": next((TIMEKEEPERS[name] for name in sorted(running) if name in TIMEKEEPERS), None),
        "synchronized": {"yes": True, "no": False}.get(values.get("NTPSynchronized", "")),
        "timezone": clean(zone),
    }


def backup_clients(look: Look) -> list[Json]:
    """Backup programs that are installed, with version where asking for it is harmless. Programs that not only root can
    write to are not asked."""
    found = []
    for name, question in CLIENTS.items():
        path = next((f"{folder}/{name}" for folder in FOLDERS if name in look.names(folder)), None)
        if path is None:
            continue
        ran = look.run([path, *question]) if question and path.startswith("/usr/") else None
        version = _VERSION.search(ran.out) if ran and ran.code == 0 else None
        found.append({"name": name, "version": version.group() if version else None})
    return found
