# SPDX-License-Identifier: Apache-2.0
"""The controller burns down; docs/how-to/recover-from-nothing.md, command by command, brings the site back.

What is left: the vault, the recovery key (made by the commands of vault-keys.md), the root's line and key, people's own keys,
and the wheel. The new controller has another machine-id: it runs in a mount namespace that shows it one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.checks import run_error
from tests.e2e.wheels import built, outside_path
from tests.integration.pg_cluster import Cluster, bin_dirs, running
from tests.support.page_shell import PageShell
from tests.support.site_builder import LOCAL, SiteBuilder

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="another machine-id needs a mount namespace, so root"),
]

STEPS = ("links", "first backup", "machine", "password", "find", "restore", "secrets", "identity", "look", "by hand")
ROWS = 200


def rows(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT count(*) FROM antrean").fetchone()[0]
    connection.close()
    return int(found)


def as_machine(identity: Path) -> list[str]:
    """The argv before a command that makes it see another machine-id."""
    bind = f"mount --bind {identity} /etc/machine-id"
    return ["unshare", "--mount", "sh", "-c", f'{bind} && exec "$@"', "machine"]


class Fire:
    """A site with its own backup in the vault, before and after its controller is lost."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.cluster = cluster
        cluster.sql("CREATE DATABASE simpeg")
        cluster.sql("CREATE TABLE pegawai AS SELECT n AS id FROM generate_series(1, 200) n", "simpeg")  # ROWS
        self.database = folder / "data/antrean.db"
        self.medium = folder / "medium"
        self.medium.mkdir()
        self.identities = [folder / "machine-1", folder / "machine-2"]
        for file in self.identities:
            file.write_text(f"{secrets.token_hex(16)}\n", encoding="ascii")
        built(self.medium)
        self.database.parent.mkdir()
        with sqlite3.connect(self.database) as connection:
            connection.execute("CREATE TABLE antrean (nomor INTEGER PRIMARY KEY, loket TEXT)")
            connection.executemany("INSERT INTO antrean (loket) VALUES (?)", [(f"loket {n % 4}",) for n in range(ROWS)])
        connection.close()
        self.site = SiteBuilder(folder)
        self.site.sopctl = [*as_machine(self.identities[0]), *self.site.sopctl]
        self.recovery = ""
        self.words = {
            "/srv/sop/site": str(self.site.root),
            "VAULT=/srv/vault": f"VAULT={self.site.vault}",
            "/opt/sopctl": str(folder / "opt"),
            "/media/usb": str(self.medium),
            "/etc/sopctl/root": str(folder / "etc/root"),
            "/srv/recovered": str(folder / "recovered"),
            "admin01 db01": "admin01 srv01",
            "/db01": "/srv01",
            "servers/admin01.yml": "servers/admin01.yml register/servers/srv01.yml",
        }

    def shell(self, page: str, steps: tuple[str, ...], machine: int, env: dict[str, str], keep: str) -> PageShell:
        inside = as_machine(self.identities[machine])
        return PageShell(page, steps, self.folder, env, self.words, keep=keep, inside=inside)

    def live(self) -> None:
        """Everything up to the fire: the site is a dataset, its recovery key is on paper, and one case comes after its backup."""
        site = self.site
        old = self.identities[0].read_text(encoding="ascii").strip()
        checkout = {**site.env, "PATH": f"{Path(site.sopctl[-1]).parent}:{site.env['PATH']}"}
        shell = self.shell("how-to/recover-from-nothing.md", STEPS, 0, checkout, "SITE")
        shell.run("links")
        for server in ("admin01", "srv01"):
            site.server(server, inventory=LOCAL, machine_id=old)
        site.dataset("antrean", engine="sqlite", server="srv01", path=str(self.database))
        site.dataset(
            "simpeg", engine="postgresql", server="srv01", database="simpeg", connection=self.cluster.connection
        )
        site.dataset("situs", engine="files", server="admin01", path=str(site.root))
        site.schedule(sign_as=None)
        site.sign_register()
        site.run("schedule", "sign", as_="kabid")
        site.run("schedule", "run", "--dataset", "antrean", "--dataset", "simpeg", as_="pelaksana")
        shell.run("first backup")
        keys = ("settings", "recovery", *map(str, range(8)))
        self.words |= {"VAULT=/srv/vault ": f"VAULT={site.vault} ", '"db01 file01"': '"admin01 srv01"'}
        paper = self.shell("how-to/vault-keys.md", keys, 0, checkout, "PAPER VAULT SERVERS")
        paper.run("settings")
        self.recovery = paper.run("recovery").splitlines()[-1]
        shutil.rmtree(paper.variable("PAPER"))
        case = site.approved("antrean")
        site.run("case", "execute", case, as_="pelaksana")  # the backup of the tree does not know it
        shutil.copyfile(site.root_key, self.medium / "root")
        (self.medium / "root").chmod(0o600)
        shutil.copyfile(f"{site.root_key}.allowed", self.medium / "root.allowed")
        self.break_off()

    def break_off(self) -> None:
        """A newer dump of the tree without its manifest: what a killed run leaves."""
        tags = ["--tag", "sop-dataset=situs", "--tag", "sop-kind=dump", "--tag", "sop-period=2099-01"]
        secret = self.site.root / "secrets/vault-password"
        command = ["restic", "-r", str(self.site.vault / "admin01"), "--no-cache", "--password-file", str(secret)]
        subprocess.run([*command, "backup", *tags, str(self.medium / "root.allowed")], check=True, capture_output=True)

    def burn(self) -> None:
        """Nothing of the controller is left; neither are most rows of the database."""
        for name in ("site", "site-secrets", "site-state", "home"):
            shutil.rmtree(self.folder / name)
        self.site.home.mkdir()
        with sqlite3.connect(self.database) as connection:
            connection.execute("DELETE FROM antrean WHERE nomor > 6")
        connection.close()
        self.cluster.sql("DELETE FROM pegawai WHERE id > 6", "simpeg")

    def employees(self, database: str = "simpeg") -> int:
        return int(self.cluster.sql("SELECT count(*) FROM pegawai", database))


@pytest.fixture(scope="module")
def fire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fire]:
    found = bin_dirs()
    with running(found[sorted(found)[0]], 41000 + os.getpid() % 4000) as cluster:
        made = Fire(tmp_path_factory.mktemp("fire"), cluster)
        made.live()
        made.burn()
        yield made


def test_the_page(fire: Fire) -> None:
    site = fire.site
    env = {**site.env, "PATH": outside_path(), "SOPCTL_ROOT": str(fire.folder / "etc/root")}
    shell = fire.shell("how-to/recover-from-nothing.md", STEPS, 1, env, "VAULT WORK DUMP SITE")
    shell.run("machine")
    shell.run("password", typed=f"{fire.recovery}\n")
    found = shell.run("find")
    assert found.splitlines()[-1] == "true"
    assert str(site.root) in found
    shell.run("restore")
    assert not (site.root / "secrets").exists()
    assert not list(site.root.rglob("run-key"))
    shell.run("secrets")
    shell.run("identity")
    said = shell.run("look")
    assert "BROKEN" not in said
    assert "could not be checked" not in said
    assert "Berhasil" in said

    # from here on it is a site like any other
    site.sopctl = [*as_machine(fire.identities[1]), str(fire.folder / "opt/bin/sopctl")]
    site.env = env
    doctor = site.run_json("doctor")
    assert not [item for item in doctor if item["state"] == "bad"], doctor
    assert site.run_json("record", "verify")["findings"] == []
    listed = site.run_json("vault", "list")
    assert {(item["dataset"], item["verified"]) for item in listed} == {
        ("antrean", True),
        ("simpeg", True),
        ("situs", True),
    }

    # the number of the case that was lost: the server knows another one by it
    again = site.approved("antrean")
    assert again == "RST-2026-0001"
    refused = site.run("case", "execute", again, as_="pelaksana", check=False)
    run_error(refused, 20, "in a run that the site's ledger does not name", "request it anew")
    assert rows(fire.database) == 6
    case = site.approved("antrean", "simpeg")
    assert site.run_json("case", "execute", case, as_="pelaksana")["result"] == "berhasil"
    assert (rows(fire.database), fire.employees()) == (ROWS, ROWS)
    assert site.run_json("record", "verify")["findings"] == []

    shell.run("by hand")
    work = Path(shell.variable("WORK"))
    cluster = fire.cluster
    cluster.sql("CREATE DATABASE byhand")
    asked = [
        f"{cluster.bin_dir}/pg_restore",
        "-h",
        str(cluster.path),
        "-p",
        str(cluster.port),
        "-U",
        "dba",
        "-d",
        "byhand",
    ]
    with (work / "simpeg.pgdump").open("rb") as dump:
        subprocess.run(asked, stdin=dump, check=True, user=cluster.os_user, cwd="/", env={"PATH": "/usr/bin:/bin"})
    assert fire.employees("byhand") == ROWS
    shutil.rmtree(work)
