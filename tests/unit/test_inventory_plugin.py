# SPDX-License-Identifier: Apache-2.0
"""The register as an Ansible inventory, asked by ``ansible-inventory`` as people ask it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleParserError
from ansible_collections.diskominfo.sop.plugins.inventory import asset_register

from sopctl import plan, runner

CONFIG = "plugin: diskominfo.sop.asset_register\n"
DB01 = """schema: sop-server/v1
id: db01
inventory_hostname: db01.dc
name: "Basis data: {{ lookup('pipe', 'touch /tmp/sop-oops') }}"
address: 10.1.2.11
owner_unit: Bidang Aptika
location: Ruang server 2
machine_id: null
"""
WEB01 = "schema: sop-server/v1\nid: web01\ninventory_hostname: web01\nowner_unit: Sekretariat\n"
SIMPEG = """schema: sop-dataset/v1
id: simpeg
name: Kepegawaian
engine: postgresql
server: db01
owner_unit: BKD
classification: rahasia
"""


@pytest.fixture
def register(tmp_path: Path) -> Path:
    """Two servers, one dataset, and an inventory folder with nothing but the plugin's file."""
    for name, text in {
        "register/servers/db01.yml": DB01,
        "register/servers/web01.yml": WEB01,
        "register/datasets/simpeg.yml": SIMPEG,
        "inventory/asset_register.yml": CONFIG,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def ask(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``ansible-inventory`` in the environment that sopctl gives it."""
    program = str(Path(sys.executable).parent / "ansible-inventory")
    env = runner.environment(root / "tmp") | {"ANSIBLE_DEPRECATION_WARNINGS": "False", "PATH": os.environ["PATH"]}
    command = [program, "-i", str(root / "inventory"), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=root)


def listed(root: Path) -> Any:
    """The inventory as JSON."""
    done = ask(root, "--list")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, object_hook=lambda value: value.get("__ansible_unsafe", value))


def test_servers_groups_and_variables(register: Path) -> None:
    found = listed(register)
    groups = {name: value["hosts"] for name, value in found.items() if value.get("hosts")}
    assert groups == {
        "location_ruang_server_2": ["db01.dc"],
        "unit_bidang_aptika": ["db01.dc"],
        "unit_sekretariat": ["web01"],
        "engine_postgresql": ["db01.dc"],
        "classification_rahasia": ["db01.dc"],
    }
    variables = found["_meta"]["hostvars"]
    assert variables["db01.dc"]["ansible_host"] == "10.1.2.11"
    assert variables["db01.dc"]["sop_asset"]["id"] == "db01"
    assert [one["engine"] for one in variables["db01.dc"]["sop_datasets"]] == ["postgresql"]
    assert "ansible_host" not in variables["web01"]


def test_the_register_s_text_is_never_a_template(register: Path) -> None:
    program = str(Path(sys.executable).parent / "ansible")
    words = ["db01.dc", "-i", str(register / "inventory"), "-m", "ansible.builtin.debug", "-a", "var=sop_asset.name"]
    env = runner.environment(register / "tmp")
    done = subprocess.run([program, *words], env=env, capture_output=True, text=True, check=False, cwd=register)
    assert "lookup('pipe', 'touch /tmp/sop-oops')" in done.stdout, done.stdout + done.stderr
    assert not Path("/tmp/sop-oops").exists()


def test_beside_another_inventory(register: Path) -> None:
    (register / "inventory/hosts.yml").write_text("all: {hosts: {db01.dc: {ansible_user: sop}, lain: {}}}\n")
    variables = listed(register)["_meta"]["hostvars"]
    assert variables["db01.dc"]["ansible_user"] == "sop" and variables["db01.dc"]["ansible_host"] == "10.1.2.11"


def test_sopctl_reads_what_a_plugin_said(register: Path) -> None:
    """ansible-inventory wraps text that is no template; as an address it would be no address."""
    config = SimpleNamespace(ansible=SimpleNamespace(vault_password_file=None))
    site: Any = SimpleNamespace(inventory=register / "inventory", root=register, config=config)
    hosts = plan.inventory_hosts(site, runner.environment(register / "tmp"))
    assert hosts["db01.dc"]["ansible_host"] == "10.1.2.11"


def test_constructed(register: Path) -> None:
    text = CONFIG + "group_by: [engine]\ngroups: {pusat: sop_asset.owner_unit == 'Sekretariat'}\n"
    (register / "inventory/asset_register.yml").write_text(text)
    found = listed(register)
    assert found["pusat"]["hosts"] == ["web01"]
    assert {name for name in found if "_" in name} == {"_meta", "engine_postgresql"}


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("servers/db01.yml", DB01 + "id: db02\n", "servers/db01.yml:9: the key 'id' stands twice"),
        ("servers/db01.yml", DB01.replace("db01\n", "db09\n", 1), "servers/db01.yml:2: id: 'db09' differs from"),
        ("servers/db01.yml", DB01.replace("10.1.2.11", "-oProxyCommand=x"), "servers/db01.yml:5: address: "),
        ("servers/db01.yml", DB01.replace("db01.dc", "web01"), "inventory_hostname: 'web01' stands in"),
        ("servers/db01.yml", "id: [\n", "servers/db01.yml:2: not YAML"),
        ("servers/db01.yml", "id: db01\n", "servers/db01.yml: inventory_hostname: is missing"),
        ("datasets/simpeg.yml", SIMPEG.replace("db01", "db07"), "simpeg.yml:5: server: 'db07' is not in the register"),
    ],
)
def test_errors_name_file_and_line(register: Path, file: str, text: str, error: str) -> None:
    (register / "register" / file).write_text(text)
    with pytest.raises(AnsibleParserError) as refused:
        read(register)
    assert error in str(refused.value)


def read(root: Path) -> Any:
    """What the plugin makes of the register, without starting Ansible."""
    folder = str(root / "register")
    return asset_register._register(folder, asset_register._state(folder))


def test_a_link_is_not_followed(register: Path) -> None:
    path = register / "register/servers/web01.yml"
    path.rename(register / "web01.yml")
    path.symlink_to(register / "web01.yml")
    done = ask(register, "--list")
    assert done.returncode != 0
    assert "servers/web01.yml: cannot be read" in done.stderr.replace("\n", " ") and "Traceback" not in done.stderr


def test_cache_holds_until_a_file_changes(register: Path) -> None:
    text = f"{CONFIG}cache: true\ncache_plugin: ansible.builtin.jsonfile\ncache_connection: {register}/kept\n"
    (register / "inventory/asset_register.yml").write_text(text)
    first = listed(register)
    [kept] = (register / "kept").iterdir()
    kept.write_text(kept.read_text().replace("10.1.2.11", "10.1.2.99"))  # seen only by who reads the cache
    assert listed(register)["_meta"]["hostvars"]["db01.dc"]["ansible_host"] == "10.1.2.99"
    (register / "register/servers/web01.yml").write_text(WEB01 + "name: lain\n")
    again = listed(register)
    assert again["_meta"]["hostvars"]["db01.dc"] == first["_meta"]["hostvars"]["db01.dc"]
    assert again["_meta"]["hostvars"]["web01"]["sop_asset"]["name"] == "lain"


def test_its_documentation(register: Path) -> None:
    program = str(Path(sys.executable).parent / "ansible-doc")
    done = subprocess.run(
        [program, "-t", "inventory", "diskominfo.sop.asset_register"],
        env=runner.environment(register / "tmp"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "register's folder" in done.stdout, done.stderr
