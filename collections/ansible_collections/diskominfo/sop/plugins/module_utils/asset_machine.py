# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The machine itself: maker, model, serial, virtual or physical, CPU, memory, disks; and its operating system."""

from __future__ import annotations

import re
import shlex

from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Json, Look, clean
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_support import support_until

DMI = "/sys/class/dmi/id"
#: makers that only virtual machines have
VIRTUAL_MAKERS = ("qemu", "vmware", "innotek", "xen", "openstack", "red hat", "amazon ec2", "google", "nutanix")
CONTAINERS = {
    "lxc",
    "lxc-libvirt",
    "systemd-nspawn",
    "docker",
    "podman",
    "rkt",
    "wsl",
    "proot",
    "pouch",
    "container-other",
}
#: block devices that are no disks
NO_DISKS = re.compile(r"(loop|ram|zram|sr|fd|dm-|md|nbd|drbd)\d")
_PAIR = re.compile(r"([A-Z_0-9]+)=(.*)")


def machine_facts(look: Look) -> Json:
    """Maker to disks. What is not known is null."""
    maker = clean(look.text(f"{DMI}/sys_vendor"))
    kind, platform = _virtual(look, maker)
    return {
        "machine_id": clean(look.text("/etc/machine-id")),
        "maker": maker,
        "model": clean(look.text(f"{DMI}/product_name")),
        "serial": clean(look.text(f"{DMI}/product_serial", "serial number")),
        "kind": kind,
        "platform": platform,
        "cpu": cpu_facts(look.text("/proc/cpuinfo") or ""),
        "memory_mib": memory_mib(look.text("/proc/meminfo") or ""),
        "disks": _disks(look),
    }


def _virtual(look: Look, maker: str | None) -> tuple[str | None, str | None]:
    """(physical, virtual or container; the platform's name)."""
    ran = look.run(["systemd-detect-virt"])
    word = ran.out.strip()
    if ran.code is not None and word == "none":
        return "physical", None
    if ran.code == 0 and re.fullmatch(r"[a-z0-9-]{2,32}", word):
        return ("container" if word in CONTAINERS else "virtual"), word
    if maker and maker.lower().startswith(VIRTUAL_MAKERS):
        return "virtual", None
    if re.search(r"^flags\s*:.*\bhypervisor\b", look.text("/proc/cpuinfo") or "", re.M):
        return "virtual", None
    look.could_not("virtual or physical", "systemd-detect-virt gave no answer")
    return None, None


def cpu_facts(text: str) -> Json:
    """``/proc/cpuinfo``: model, and numbers of sockets, cores (over all sockets) and threads."""
    blocks = [dict(_fields(block)) for block in text.strip().split("\n\n")]
    cpus = [block for block in blocks if "processor" in block]
    first = cpus[0] if cpus else {}
    sockets = {block["physical id"] for block in cpus if "physical id" in block}
    cores = {(block["physical id"], block["core id"]) for block in cpus if {"physical id", "core id"} <= block.keys()}
    model = first.get("model name") or first.get("Model") or first.get("CPU implementer")
    return {
        "model": clean(model),
        "sockets": len(sockets) or None,
        "cores": len(cores) or None,
        "threads": len(cpus) or None,
    }


def _fields(block: str) -> list[tuple[str, str]]:
    pairs = [line.partition(":") for line in block.splitlines() if ":" in line]
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def memory_mib(text: str) -> int | None:
    """``/proc/meminfo``: memory in MiB."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.M)
    return int(found.group(1)) // 1024 if found else None


def _disks(look: Look) -> list[Json]:
    """Disks as the kernel names them, with size in bytes."""
    found = []
    for name in look.names("/sys/block"):
        place = f"/sys/block/{name}"
        sectors = (look.text(f"{place}/size") or "").strip()
        if NO_DISKS.match(name) or not sectors.isdigit() or sectors == "0":
            continue
        serial = clean(look.text(f"{place}/serial")) or clean(look.text(f"{place}/device/serial"))
        turning = (look.text(f"{place}/queue/rotational") or "").strip()
        found.append(
            {
                "name": name,
                "bytes": int(sectors) * 512,
                "model": clean(look.text(f"{place}/device/model")),
                "serial": serial,
                "rotational": {"0": False, "1": True}.get(turning),
            }
        )
    return found


def system_facts(look: Look) -> Json:
    """The operating system and until when it gets security updates."""
    text = look.text("/etc/os-release") or look.text("/usr/lib/os-release") or ""
    values = os_release(text)
    system, version = values.get("ID", ""), values.get("VERSION_ID", "")
    if not system:
        look.could_not("operating system", "there is no /etc/os-release")
    exact = version
    if system == "debian":  # its os-release does not say the point release
        exact = clean(look.text("/etc/debian_version")) or version
    return {
        "id": clean(system),
        "version": clean(exact),
        "name": clean(values.get("PRETTY_NAME")),
        "kernel": clean(look.run(["uname", "-r"]).out),
        "hostname": clean(look.run(["uname", "-n"]).out),
        "support_until": support_until(system, version, values.get("NAME", "")),
    }


def os_release(text: str) -> dict[str, str]:
    """``os-release`` as its specification has it: shell assignments, quoted or not."""
    values = {}
    for line in text.splitlines():
        found = _PAIR.fullmatch(line.strip())
        if not found:
            continue
        try:
            words = shlex.split(found.group(2))
        except ValueError:
            continue
        values[found.group(1)] = words[0] if words else ""
    return values
