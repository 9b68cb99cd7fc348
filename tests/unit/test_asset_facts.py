# SPDX-License-Identifier: Apache-2.0
"""What module asset_facts makes of hosts: recordings of Debian 12 (the lab's), and a host of the RHEL family put together by
hand (``recorded: false``), since none was at hand."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_databases import PG_QUERY, database_facts
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_gathering import gather
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Look, clean
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_machine import cpu_facts, memory_mib, os_release
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_support import UNTIL, support_until
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_web import NGINX, apache_sites, nginx_sites

from sopctl.facts import Facts, from_evidence
from tests.support.recorded_host import FOLDER, RecordedHost

HOSTS = sorted(path.stem for path in FOLDER.glob("*.json"))


def databases(host: RecordedHost) -> dict[int, dict[str, Any]]:
    """The database servers by port."""
    return {one["port"]: one for one in database_facts(host)}


@pytest.mark.parametrize("name", HOSTS)
def test_what_is_gathered_is_what_sopctl_takes(name: str) -> None:
    host = RecordedHost(name)
    file = from_evidence(
        {"facts": gather(host), "unread": host.unread}, "srv01", "AST-2026-0001", None, "2026-01-01T00:00:00Z"
    )
    assert isinstance(file.facts, Facts)


@pytest.mark.parametrize("name", HOSTS)
def test_twice_is_the_same(name: str) -> None:
    host = RecordedHost(name)
    assert gather(host) == gather(host)


def test_postgresql_on_a_second_port_is_found() -> None:
    found = databases(RecordedHost("debian-12-postgresql"))
    assert set(found) == {5432, 5433}
    assert found[5433]["name"] == "15/kedua"
    assert found[5432]["version"].startswith("15.")
    assert {one["name"]: one["owner"] for one in found[5432]["databases"]}["arsip"] == "arsip_owner"
    assert all(one["bytes"] > 0 for one in found[5432]["databases"])


def test_without_root_it_says_what_it_could_not_read() -> None:
    host = RecordedHost("debian-12-unprivileged")
    found = databases(host)
    assert {port: one["databases"] for port, one in found.items()} == {5432: None, 5433: None}
    assert all(one["version"].startswith("15.") for one in found.values())
    assert [entry["what"] for entry in host.unread] == [
        f"databases of PostgreSQL on port {port}" for port in (5432, 5433)
    ]


def test_serial_needs_root() -> None:
    host = RecordedHost("rocky-9")
    host.said["root"] = False
    assert gather(host)["machine"]["serial"] is None
    assert {"what": "serial number", "why": "/sys/class/dmi/id/product_serial may only be read by root"} in host.unread


def test_mariadb_where_descriptors_may_not_be_read() -> None:
    [mariadb] = [one for one in database_facts(RecordedHost("debian-12-mariadb")) if one["engine"] == "mariadb"]
    assert (mariadb["port"], mariadb["data_dir"]) == (3306, "/var/lib/mysql")
    assert [one["name"] for one in mariadb["databases"]] == ["perizinan"]


def test_a_cluster_that_is_set_up_and_does_not_run() -> None:
    [postgresql] = [one for one in database_facts(RecordedHost("debian-12-mariadb")) if one["engine"] == "postgresql"]
    assert (postgresql["name"], postgresql["running"]) == ("15/main", False)


def test_the_rhel_family() -> None:
    host = RecordedHost("rocky-9")
    found = gather(host)
    assert host.unread == []
    assert (found["system"]["id"], found["system"]["version"], found["system"]["support_until"]) == (
        "rocky",
        "9.4",
        "2032-05-31",
    )
    machine = found["machine"]
    assert (machine["maker"], machine["model"], machine["serial"]) == ("Dell Inc.", "PowerEdge R740", "7XK2Q03")
    assert (machine["kind"], machine["memory_mib"], machine["cpu"]["sockets"], machine["cpu"]["threads"]) == (
        "physical",
        64000,
        2,
        8,
    )
    assert [disk["name"] for disk in machine["disks"]] == ["nvme0n1", "sda"]
    assert [one["address"] for one in found["addresses"]] == ["198.51.100.21/24"]
    assert "postgresql-16" in found["services"] and "cups" not in found["services"]
    ports = {one["port"]: one for one in found["databases"]}
    assert (ports[5433]["engine"], ports[5433]["version"], ports[5433]["data_dir"]) == (
        "postgresql",
        "16.4",
        "/var/lib/pgsql/16/data",
    )
    assert [one["name"] for one in ports[3306]["databases"]] == ["arsip", "kosong"]
    assert found["web"][0]["sites"][0]["names"] == ["izin.example.go.id", "perizinan.example.go.id"]
    assert found["time"] == {"client": "chrony", "synchronized": True, "timezone": "Asia/Makassar"}
    assert found["backup_clients"] == [{"name": "restic", "version": "0.16.4"}]


# attacks: whoever has an account on a server can start a process of any name -----------------------------------------


def test_nothing_that_a_process_names_is_run_as_root() -> None:
    host = RecordedHost("rocky-9")
    host.said["files"]["/proc/901/cmdline"] = "/tmp/evil/postgres\0-D\0/var/lib/pgsql/16/data\0"
    host.said["links"]["/proc/901/exe"] = "/tmp/evil/postgres"
    host.said["programs"] = {
        name: value for name, value in host.said["programs"].items() if not name.startswith("psql")
    }
    database_facts(host)
    evil = [uid for argv, uid in host.ran if argv[0].startswith("/tmp/evil")]
    assert evil == [26]
    assert {uid for argv, uid in host.ran if argv[0] == "psql"} == {26}


def test_a_false_mariadb_is_sent_no_file() -> None:
    host = RecordedHost("rocky-9")
    database_facts(host)
    asked = [argv for argv, _ in host.ran if argv[0] in {"mariadb", "mysql"}]
    assert asked and all("--local-infile=0" in argv and "--no-defaults" in argv for argv in asked)


def test_a_relative_program_is_not_run() -> None:
    host = RecordedHost("rocky-9")
    del host.said["links"]["/proc/901/exe"]
    host.said["files"]["/proc/901/cmdline"] = "postgres\0-D\0/x\0"
    host.said["programs"] = {}
    database_facts(host)
    assert ["postgres", "--version"] not in [argv for argv, _ in host.ran]


def test_a_process_in_a_container_is_named_and_not_asked() -> None:
    host = RecordedHost("rocky-9")
    host.said["links"]["/proc/901/ns/pid"] = "pid:[4026532999]"
    found = databases(host)
    assert found[5433]["container"] is True
    assert found[5433]["databases"] is None
    assert not [argv for argv, _ in host.ran if argv[0] in {"psql", "/usr/pgsql-16/bin/postgres"}]


def test_a_server_that_answers_nonsense_is_no_crash() -> None:
    for answer in ("", "null", "[]", '{"version": 1}', '{"version": "16", "databases": [{"name": "x"}]}', "\x00\xff"):
        host = RecordedHost("rocky-9")
        for name in host.said["programs"]:
            if name.startswith("psql") or "--socket" in name:
                host.said["programs"][name] = [0, answer, ""]
        found = databases(host)
        assert found[5433]["databases"] is None, answer
        assert found[5433]["version"] == "16.4"
        assert found[3306]["databases"] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as another account")
def test_a_planted_program_runs_with_its_owners_rights(tmp_path: Path) -> None:
    """A real process that calls itself postgres, whose program is exchanged while it runs; that writes down who ran it."""
    for parent in [tmp_path, *tmp_path.parents][:4]:
        parent.chmod(parent.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH | stat.S_IRGRP | stat.S_IROTH)
    told = tmp_path / "told"
    told.mkdir()
    told.chmod(0o777)
    program, planted = tmp_path / "postgres", tmp_path / "planted"
    shutil.copy("/bin/dash", program)
    planted.write_text(f"#!/bin/sh\nid -u >> {told}/uids\n", encoding="utf-8")
    planted.chmod(0o755)
    command = [str(program), "-c", "echo ready; read line"]
    with subprocess.Popen(
        command, user=65534, group=65534, extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            planted.replace(program)
            database_facts(Look())
        finally:
            process.kill()
    assert set((told / "uids").read_text(encoding="utf-8").split()) == {"65534"}


# parsers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "version", "name", "until"),
    [
        ("debian", "12", "", "2028-06-30"),
        ("ubuntu", "22.04", "", "2027-06-01"),
        ("ubuntu", "22", "", None),
        ("rhel", "8.10", "", "2029-05-31"),
        ("centos", "8", "CentOS Linux", "2021-12-31"),
        ("centos", "9", "CentOS Stream", "2027-05-31"),
        ("debian", "", "", None),
        ("slackware", "15.0", "", None),
    ],
)
def test_end_of_support(system: str, version: str, name: str, until: str | None) -> None:
    assert support_until(system, version, name) == until


def test_the_table_agrees_with_distro_info() -> None:
    """Debian's and Ubuntu's own table, where this machine has it."""
    for system, column in (("debian", "eol-lts"), ("ubuntu", "eol")):
        path = Path(f"/usr/share/distro-info/{system}.csv")
        if not path.is_file():
            pytest.skip("distro-info-data is not installed")
        lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines() if line]
        at = lines[0].index(column)
        told = {row[0].removesuffix(" LTS"): row[at] for row in lines[1:] if len(row) > at and row[at]}
        ours = {version: until for (name, version), until in UNTIL.items() if name == system}
        # an older distro-info-data may not know the newest releases, and dates of the past may have been moved by days
        differ = {v: (u, told[v]) for v, u in ours.items() if v in told and u[:7] != told[v][:7]}
        assert differ.keys() <= {"18.04", "16.04"}, differ


def test_os_release_quoting() -> None:
    text = 'ID=debian\n# comment\nNAME=\'a b\'\nPRETTY_NAME="x \\"y\\""\nBAD="unfinished\nVERSION_ID=\nlower=1\n'
    assert os_release(text) == {"ID": "debian", "NAME": "a b", "PRETTY_NAME": 'x "y"', "VERSION_ID": ""}


def test_cpu_and_memory_of_nothing() -> None:
    assert cpu_facts("") == {"model": None, "sockets": None, "cores": None, "threads": None}
    assert memory_mib("") is None


@pytest.mark.parametrize("text", ["To Be Filled By O.E.M.", "  ", "None", "Default string", None, "\x1b\x00"])
def test_what_a_factory_leaves_blank_is_nothing(text: str | None) -> None:
    assert clean(text) is None


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert clean("db\x1b[2J\u202e01\n x") == "db[2J01 x"


def nginx(*files: tuple[str, str]) -> RecordedHost:
    host = RecordedHost("rocky-9")
    host.said["files"] |= dict(files)
    return host


def test_nginx_includes_quotes_and_comments() -> None:
    main = """
    # server { server_name not.me; }
    events { }
    stream { server { listen 5433; } }
    http { include conf.d/*.conf;
      server { listen 80 default_server; server_name _ "a.example.id" b.example.id; # end }
        location / { return 200 "server { server_name fake; }"; } }
    }"""
    site = "server { listen [::]:443 ssl; server_name ~^(www\\.)?c\\.id$; }"
    found = nginx_sites(nginx((NGINX, main), ("/etc/nginx/conf.d/c.conf", site)))
    assert found == [
        {"names": ["~^(www\\.)?c\\.id$"], "listen": ["[::]:443"]},
        {"names": ["a.example.id", "b.example.id"], "listen": ["80"]},
    ]


def test_nginx_that_includes_itself_ends() -> None:
    host = nginx(
        (NGINX, "include /etc/nginx/nginx.conf; include /etc/nginx/*.conf; http { server { listen 1; } } } } {")
    )
    assert nginx_sites(host) == [{"names": [], "listen": ["1"]}]


def test_apache_without_end_is_no_site() -> None:
    assert apache_sites("<VirtualHost *:80>\nServerName a\n") == []
    assert apache_sites("ServerName all.example.id\n") == [{"names": ["all.example.id"], "listen": []}]


@pytest.fixture
def query() -> Iterator[str]:
    yield PG_QUERY


def test_the_query_reads_only(query: str) -> None:
    assert query.startswith("SELECT ")
    assert ";" not in query


def test_the_switch_of_a_restore_is_no_fact() -> None:
    """It is there for minutes; a scan meanwhile would tell of a change, and the next one of another."""
    host = RecordedHost("debian-12-postgresql")
    [command] = [name for name in host.said["programs"] if name.startswith("systemctl list-unit-files")]
    before = gather(host)["services"]
    code, out, err = host.said["programs"][command]
    host.said["programs"][command] = [
        code,
        f"{out}sop-settle-RST-2026-0004-d6bef439-boot.service enabled enabled\n",
        err,
    ]
    assert gather(host)["services"] == before
