# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The asset register of a site as an Ansible inventory."""

from __future__ import annotations

DOCUMENTATION = r"""
name: asset_register
short_description: The asset register as the inventory
version_added: 0.1.0
description:
  - Every server of a site's asset register is a host, so that a fleet needs no second list.
  - Groups are made of where a server stands, whose it is, and the engines and classifications of its datasets.
  - It is one source among others. Give it beside an ordinary inventory, which adds what is no matter of the register, such as
    accounts and passwords.
  - What the register says is data, and never a template.
options:
  plugin:
    description: Says that this file is for this plugin.
    required: true
    type: str
    choices: [diskominfo.sop.asset_register]
  register:
    description: The register's folder, absolute or beside this file. C(servers) and C(datasets) lie in it.
    type: str
    default: ../register
  group_by:
    description:
      - What groups are made of. The name of each begins with its kind, such as C(engine_postgresql).
      - C(location) and C(unit) are of the server's entry; C(engine) and C(classification) of the datasets that lie on it.
    type: list
    elements: str
    choices: [location, unit, engine, classification]
    default: [location, unit, engine, classification]
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
"""

EXAMPLES = r"""
# inventory/asset_register.yml of a site: all servers of its register
plugin: diskominfo.sop.asset_register

---
# the same, kept between commands for as long as no entry changes; servers whose review said no in a group of their own
plugin: diskominfo.sop.asset_register
register: /srv/sop/register
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/ansible-register
groups:
  central: sop_asset.owner_unit == 'Diskominfo'
compose:
  ansible_user: "'sop'"
"""

import os
import re
from typing import Any

import yaml
from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

#: all scalars are text, as they are written: what a word means is not this plugin's matter
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:-]*")
_NULL = {"", "~", "null", "Null", "NULL"}
_SERVER = ("id", "name", "owner_unit", "holder", "location")
_DATASET = ("id", "name", "engine", "owner_unit", "classification")
_BIGGEST = 1 << 20
_CACHED = "sop-register-inventory/v1"


class Entry:
    """One entry: its texts by key, and where they stand."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.values: dict[str, str] = {}
        self.lines: dict[str, int] = {}

    def fail(self, why: str, key: str = "") -> AnsibleParserError:
        """The error of a key of this file."""
        line = self.lines.get(key)
        return AnsibleParserError(f"{self.path}{f':{line}' if line else ''}: {f'{key}: ' if key else ''}{why}")

    def need(self, key: str) -> str:
        """The text of a key that must be there."""
        if value := self.values.get(key, ""):
            return value
        raise self.fail("is missing", key)


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Reads ``asset_register.yml``."""

    NAME = "diskominfo.sop.asset_register"

    def verify_file(self, path: str) -> bool:
        """Whether the file's name says that it is for this plugin."""
        return bool(super().verify_file(path)) and path.endswith(("asset_register.yml", "asset_register.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the register's servers to ``inventory``. AnsibleParserError names file and line."""
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        folder = os.path.join(os.path.dirname(os.path.abspath(path)), self.get_option("register"))
        self._fill(self._hosts(os.path.normpath(folder), path, cache))

    def _hosts(self, folder: str, path: str, cache: bool) -> list[dict[str, Any]]:
        """The register's servers, from the cache where no file has changed since."""
        state = _state(folder)
        use = cache and self.get_option("cache")
        if self.get_option("cache"):
            self.load_cache_plugin()
        key = self.get_cache_key(path)
        if use:
            known = self._cache.get(key)
            if isinstance(known, dict) and known.get("schema") == _CACHED and known.get("state") == state:
                hosts: list[dict[str, Any]] = known["hosts"]
                return hosts
        hosts = _register(folder, state)
        if self.get_option("cache"):
            self._cache[key] = {"schema": _CACHED, "state": state, "hosts": hosts}
        return hosts

    def _fill(self, hosts: list[dict[str, Any]]) -> None:
        wanted = self.get_option("group_by")
        strict = self.get_option("strict")
        further = any(self.get_option(option) for option in ("compose", "groups", "keyed_groups"))
        for host in hosts:
            name = host["host"]
            self.inventory.add_host(name)
            for key, value in host["variables"].items():
                self.inventory.set_variable(name, key, value)
            for kind, values in host["groups"].items():
                for value in values if kind in wanted else ():
                    group = self.inventory.add_group(self._sanitize_group_name(f"{kind}_{value.lower()}"))
                    self.inventory.add_child(group, name)
            if further:
                variables = host["variables"]
                self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
                self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
                self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)


def _state(folder: str) -> dict[str, list[int]]:
    """Size and time of every entry's file: what must be the same for what was read of it to be still true."""
    found = {}
    for kind in ("servers", "datasets"):
        place = os.path.join(folder, kind)
        try:
            with os.scandir(place) as entries:
                for one in entries:
                    if one.name.endswith(".yml") and not one.name.startswith("."):
                        status = one.stat(follow_symlinks=False)
                        found[f"{kind}/{one.name}"] = [status.st_size, status.st_mtime_ns]
        except FileNotFoundError:
            if kind == "servers":
                raise AnsibleParserError(f"{place}: no such folder; 'register' names the register's folder") from None
        except OSError as error:
            raise AnsibleParserError(f"{place}: cannot be read ({error.strerror})") from error
    return dict(sorted(found.items()))


def _register(folder: str, state: dict[str, list[int]]) -> list[dict[str, Any]]:
    """Each server with its variables, and its groups by kind."""
    datasets: dict[str, list[Entry]] = {}
    servers = {}
    for name in state:
        entry = _entry(os.path.join(folder, name))
        stem = os.path.basename(name)[: -len(".yml")]
        if entry.need("id") != stem:
            raise entry.fail(f"{entry.values['id']!r} differs from the file's name", "id")
        if name.startswith("servers/"):
            servers[stem] = entry
        else:
            datasets.setdefault(entry.need("server"), []).append(entry)
    for server in datasets.keys() - servers:
        raise datasets[server][0].fail(f"{server!r} is not in the register", "server")
    taken: dict[str, Entry] = {}
    found = []
    for server, entry in servers.items():
        host = entry.need("inventory_hostname")
        if not _HOST.fullmatch(host):
            raise entry.fail(f"{host!r} is not the name of a host", "inventory_hostname")
        if host in taken:
            raise entry.fail(f"{host!r} stands in {taken[host].path} too", "inventory_hostname")
        taken[host] = entry
        found.append(_host(host, entry, datasets.get(server, [])))
    return found


def _host(name: str, entry: Entry, datasets: list[Entry]) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "sop_asset": {key: entry.values.get(key, "") for key in _SERVER},
        "sop_datasets": [{key: one.values.get(key, "") for key in _DATASET} for one in datasets],
    }
    if address := entry.values.get("address", ""):
        if not _ADDRESS.fullmatch(address):
            raise entry.fail(f"{address!r} is not an address", "address")
        variables["ansible_host"] = address
    groups = {
        "location": [entry.values.get("location", "")],
        "unit": [entry.values.get("owner_unit", "")],
        "engine": [one.values.get("engine", "") for one in datasets],
        "classification": [one.values.get("classification", "") for one in datasets],
    }
    return {
        "host": name,
        "variables": variables,
        "groups": {kind: sorted({value for value in values if value}) for kind, values in groups.items()},
    }


def _entry(path: str) -> Entry:
    """The texts at the top of an entry; what is nested is left to who needs it."""
    entry = Entry(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(os.fstat(descriptor).st_size + 1)
    except OSError as error:
        raise AnsibleParserError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > _BIGGEST:
        raise AnsibleParserError(f"{path}: is larger than {_BIGGEST} bytes")
    try:
        node = yaml.compose(data.decode("utf-8"), Loader=_Loader)
    except UnicodeDecodeError:
        raise AnsibleParserError(f"{path}: is not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise AnsibleParserError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise AnsibleParserError(f"{path}: not YAML: {error}") from None
    if not isinstance(node, yaml.MappingNode):
        raise AnsibleParserError(f"{path}:1: is not a list of keys and values")
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise AnsibleParserError(f"{path}:{line}: a key is not text")
        if key.value in entry.lines:
            raise AnsibleParserError(f"{path}:{line}: the key {key.value!r} stands twice")
        entry.lines[key.value] = line
        if isinstance(value, yaml.ScalarNode):
            entry.values[key.value] = "" if not value.style and value.value in _NULL else value.value
    return entry
