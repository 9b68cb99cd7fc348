# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Addresses of a host, and which sockets its processes listen on."""

from __future__ import annotations

import json
import re

from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Json, Look

#: interfaces that come and go with containers and virtual machines
PASSING = re.compile(r"lo$|veth|docker|br-|cni|podman|virbr|vnet|tap|cali|flannel|lxcbr|lxdbr")
_LISTEN = "0A"
_ACCEPTS = 0x10000


def addresses(look: Look) -> list[Json] | None:
    """Lasting addresses, ``{interface, address, mac}`` with the prefix length, sorted; None where they cannot be told."""
    ran = look.run(["ip", "-json", "address", "show"])
    try:
        listed = json.loads(ran.out) if ran.code == 0 else None
        return _listed(listed)
    except (ValueError, TypeError, AttributeError, KeyError):
        look.could_not("addresses", "`ip -json address show` gave no list; install iproute2 (iproute)")
        return None


def _listed(listed: list[Json] | None) -> list[Json]:
    if listed is None:
        raise ValueError
    found = []
    for one in listed:
        name = str(one.get("ifname", ""))
        if PASSING.match(name):
            continue
        for entry in one.get("addr_info", []):
            if entry.get("scope") != "global" or entry.get("temporary"):
                continue
            address = f"{entry['local']}/{entry['prefixlen']}"
            found.append({"interface": name, "address": address, "mac": one.get("address")})
    return sorted(found, key=lambda one: (one["interface"], one["address"]))


def tcp_listeners(look: Look, pid: str = "self") -> dict[str, tuple[int, int]]:
    """Inode of each listening TCP socket → its port and its owner's uid, in the network of process ``pid`` (a container has
    its own)."""
    found = {}
    for name in ("tcp", "tcp6"):
        for line in (look.text(f"/proc/{pid}/net/{name}") or "").splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTEN:
                found[words[9]] = int(words[1].rpartition(":")[2], 16), int(words[7])
    return found


def unix_listeners(look: Look, pid: str = "self") -> dict[str, str]:
    """Inode of each listening Unix socket that has a path → that path."""
    found = {}
    for line in (look.text(f"/proc/{pid}/net/unix") or "").splitlines()[1:]:
        words = line.split(None, 7)
        if len(words) == 8 and int(words[3], 16) & _ACCEPTS and words[7].startswith("/"):
            found[words[6]] = words[7]
    return found


def sockets_of(look: Look, pid: int) -> list[str]:
    """Inodes of a process's sockets; none where they may not be read."""
    folder = f"/proc/{pid}/fd"
    links = [look.link(f"{folder}/{name}") or "" for name in look.names(folder)]
    return [link[8:-1] for link in links if link.startswith("socket:[")]
