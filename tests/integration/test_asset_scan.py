# SPDX-License-Identifier: Apache-2.0
"""``asset scan`` of this machine, under a real site: what is kept, what is refused, what is said of the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.site_builder import KEEPER, SiteBuilder

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJIWyfOSA3sROIKmFvVvy3QQdHAXdNQLr/hIyJ4HqnHX"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """srv01 is this machine, srv02 refuses the connection, srv03 is not in the inventory, srv04 is another machine's entry."""
    builder = SiteBuilder(tmp_path_factory.mktemp("assets"))
    builder.server("srv01")
    builder.server(
        "srv02", inventory={"ansible_host": "127.0.0.1", "ansible_port": 9}, machine_id="2" * 32, ssh_host_key=HOST_KEY
    )
    builder.server("srv04", machine_id="4" * 32)
    entry = json.loads((builder.root / "register/servers/srv01.yml").read_text(encoding="utf-8"))
    builder.write_yaml("register/servers/srv03.yml", {**entry, "id": "srv03", "inventory_hostname": "srv03"})
    builder._hosts["asing"] = {"ansible_connection": "local"}
    builder.write_inventory()
    return builder


def scan(site: SiteBuilder, *words: str, as_: str = "pelaksana", code: int = 0) -> Any:
    """The result of a scan as JSON."""
    done = site.run("asset", "scan", *words, "--json", as_=as_, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if done.stdout else done.stderr


def tree(site: SiteBuilder) -> dict[str, tuple[int, bytes]]:
    """Every file of register and archive with its time and content."""
    paths = [
        path for name in ("register", "archive/records") for path in (site.root / name).rglob("*") if path.is_file()
    ]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def lasting(scanned: Any) -> list[Any]:
    """What changed, without the database servers that other tests start and stop on this machine."""
    found = scanned["changes"].get("srv01", [])
    return [one for one in found if not one["name"].startswith(("databases[", "services["))]


def test_scan_from_nothing_to_nothing_new(site: SiteBuilder) -> None:
    site.sign_register()
    before = tree(site)
    shown = scan(site, "srv01", "--check")
    assert shown["changes"]["srv01"] and shown["record"] is None
    assert tree(site) == before

    first = scan(site, code=22)
    assert set(first["changes"]) == {"srv01"}
    assert first["silent"].keys() == {"srv02", "srv03", "srv04"}
    assert "not in the inventory" in first["silent"]["srv03"]
    assert "another machine answers" in first["silent"]["srv04"]
    kinds = {(gap["kind"], gap["about"]) for gap in first["gaps"]}
    assert {
        ("unregistered-host", "asing"),
        ("not-in-inventory", "srv03"),
        ("silent", "srv02"),
        ("silent", "srv04"),
    } <= kinds
    kept = json.loads((site.root / "register/facts/srv01.json").read_text(encoding="utf-8"))
    assert kept["facts"]["system"]["id"] and kept["scan"] == first["scan"]
    record = Path(first["record"])
    assert (record / "data/facts/srv01.json").read_bytes() == (site.root / "register/facts/srv01.json").read_bytes()
    assert site.run("asset", "status").stdout.count("changed") == 0  # facts spoil nobody's signature

    settled = tree(site)
    again = scan(site, "srv01", as_=KEEPER)
    assert lasting(again) == []
    assert (again["record"] is None) is (again["changes"] == {}) is (tree(site) == settled)

    path = site.root / "register/facts/srv01.json"
    kept["facts"]["system"]["version"] = "0.1"
    path.write_text(json.dumps(kept), encoding="utf-8")
    [change] = lasting(scan(site, "srv01"))
    assert (change["name"], change["before"]) == ("system.version", "0.1")
    assert site.run("audit", "verify", check=False).returncode == 0


def test_who_may_scan(site: SiteBuilder) -> None:
    done = site.run("asset", "scan", "srv01", as_="pemohon", check=False)
    assert done.returncode == 10
    assert "scanning servers is for pengurus-aset" in done.stderr


def test_an_unregistered_name_is_refused(site: SiteBuilder) -> None:
    done = site.run("asset", "scan", "asing", as_="pelaksana", check=False)
    assert done.returncode == 2
    assert "server 'asing' is not in the asset register" in done.stderr


def test_only_what_the_keeper_signed_is_reached(site: SiteBuilder) -> None:
    """Whoever changes an entry could lead the scan, and its SSH key's agent, to a machine of theirs."""
    site.edit("register/servers/srv01.yml", '"reviewed"', '"location": "lain", "reviewed"')
    runs = (site.root / "archive/ledger.jsonl").read_bytes()
    done = site.run("asset", "scan", "srv01", as_="pelaksana", check=False)
    site.edit("register/servers/srv01.yml", '"location": "lain", "reviewed"', '"reviewed"')
    assert done.returncode == 10, done.stdout + done.stderr
    assert "register/servers/srv01.yml is not as its keeper signed it" in done.stderr
    assert (site.root / "archive/ledger.jsonl").read_bytes() == runs


def test_a_facts_file_that_cannot_be_read_is_named(site: SiteBuilder) -> None:
    path = site.root / "register/facts/srv01.json"
    before = path.read_bytes()
    path.write_text('{"schema": "sop-facts/v1", "id": "srv01"}', encoding="utf-8")
    done = site.run("asset", "scan", "srv01", as_="pelaksana", check=False)
    path.write_bytes(before)
    assert done.returncode == 2
    assert "register/facts/srv01.json" in done.stderr and "Traceback" not in done.stderr
