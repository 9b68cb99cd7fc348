# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on hosts and in the vault: one line with the host and the next step, the right exit code, nothing lost.

Each test spoils one thing, sees the run fail for that reason, mends it, and finds what was there before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import Done, all_verified, one_line_error, record_json, run_error, snapshots
from tests.e2e.faults.subjects import Personnel
from tests.lab.hosts import Lab
from tests.lab.probe import wait_healthy
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab

SERVER, DATASET, PASSWORD = "register/servers/file01.yml", "register/datasets/simpeg.yml", "secrets/vault-password"


@pytest.fixture(scope="module")
def site(make_site: Callable[..., SiteBuilder], filed: None, personnel: Callable[[], None]) -> SiteBuilder:
    """A site that has one good backup of the queue."""
    made = make_site("simpeg", "berkas", "antrean", quick=True)
    made.run("schedule", "run", "--dataset", "antrean", as_="pelaksana")
    return made


@pytest.fixture(autouse=True)
def nothing_lost(lab: Lab, site: SiteBuilder) -> Iterator[None]:
    """Every snapshot and record that was there is there afterwards; every record holds; each run left one."""
    stored, records = snapshots(lab, site), site.records
    yield
    assert set(stored) <= set(snapshots(lab, site))
    assert records == site.records[: len(records)]
    all_verified(site)


def backup(site: SiteBuilder, dataset: str) -> Done:
    """Back up one dataset, whatever comes of it."""
    return site.run("schedule", "run", "--dataset", dataset, as_="pelaksana", check=False)


@contextmanager
def replaced(path: Path, text: str) -> Iterator[None]:
    """A file with other content for a while."""
    kept = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(kept, encoding="utf-8")


@contextmanager
def with_values(site: SiteBuilder, name: str, **values: Any) -> Iterator[None]:
    """A register file with other values for a while, which its keeper has signed."""
    path = site.root / name
    try:
        with replaced(path, json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values})):
            site.sign_register()
            yield
    finally:
        site.sign_register()


@contextmanager
def on_host(lab: Lab, host: str, spoil: str, mend: str) -> Iterator[None]:
    """A host in another state for a while."""
    lab.exec(host, spoil)
    try:
        yield
    finally:
        lab.exec(host, mend)


def failed_form(site: SiteBuilder) -> dict[str, Any]:
    """The newest record's form; it says that the run failed."""
    form: dict[str, Any] = record_json(site.records[-1], "form.json")
    assert form["header"]["result"] == "gagal"
    return form


# --- hosts -----------------------------------------------------------------------------------------------------


def test_wrong_host_key(lab: Lab, site: SiteBuilder) -> None:
    with with_values(site, SERVER, ssh_host_key=lab.hosts["web01"].ssh_host_key):
        done = backup(site, "berkas")
    run_error(done, 20, "file01", "Host key verification failed", "ssh_host_key in register/servers")
    failed_form(site)


@pytest.mark.long
def test_wrong_machine(lab: Lab, site: SiteBuilder) -> None:
    """The name and the key are right; the machine is another than the registered one."""
    before = snapshots(lab, site)
    with with_values(site, SERVER, machine_id=lab.hosts["db01"].machine_id):
        done = backup(site, "berkas")
    run_error(done, 20, "file01", "refused", lab.hosts["db01"].machine_id, lab.hosts["file01"].machine_id, "machine_id")
    assert snapshots(lab, site) == before


def test_machine_without_identity(site: SiteBuilder) -> None:
    with with_values(site, SERVER, machine_id=None):
        one_line_error(backup(site, "berkas"), 2, f"{SERVER}:", ":machine_id", "/etc/machine-id")


def test_sudo_asks_for_a_password_that_is_missing(lab: Lab, site: SiteBuilder) -> None:
    spoil = "mv /etc/sudoers.d/sopop /root/sopop.sudoers; echo 'sopop ALL=(ALL:ALL) ALL' >/etc/sudoers.d/sopop"
    with on_host(lab, "file01", spoil, "mv /root/sopop.sudoers /etc/sudoers.d/sopop"):
        done = backup(site, "berkas")
    run_error(done, 20, "file01", "sudo", "ansible_become_password")


@pytest.mark.long
def test_sudo_refuses(lab: Lab, site: SiteBuilder) -> None:
    with on_host(
        lab, "file01", "mv /etc/sudoers.d/sopop /root/sopop.sudoers", "mv /root/sopop.sudoers /etc/sudoers.d/sopop"
    ):
        done = backup(site, "berkas")
    run_error(done, 20, "file01", "sudo refuses", "sudoers")


@pytest.mark.long
def test_wrong_user(site: SiteBuilder) -> None:
    path = site.root / "inventory/hosts.yml"
    inventory = json.loads(path.read_text(encoding="utf-8"))
    inventory["all"]["hosts"]["file01"]["ansible_user"] = "bukan"
    with replaced(path, json.dumps(inventory)):
        done = backup(site, "berkas")
    run_error(done, 20, "file01", "Permission denied", "ansible_user")


@pytest.mark.long
def test_inventory_that_cannot_be_read(site: SiteBuilder) -> None:
    path = site.root / "inventory/hosts.yml"
    with replaced(path, "all: [hosts"):
        one_line_error(backup(site, "berkas"), 2, str(path))


# --- the vault -------------------------------------------------------------------------------------------------


def test_restic_password_wrong(site: SiteBuilder) -> None:
    with replaced(site.root / PASSWORD, "bukan-sandinya\n"):
        done = backup(site, "antrean")
    run_error(done, 20, "file01", "wrong vault password", "compare it")
    assert "bukan-sandinya" not in done.stdout + done.stderr
    assert backup(site, "antrean").returncode == 0


@pytest.mark.long
def test_rest_password_wrong(site: SiteBuilder) -> None:
    with replaced(site.root / "secrets/file01", "bukan-sandinya\n"):
        done = backup(site, "antrean")
    run_error(done, 20, "file01", "user name or password", "renew")


def test_vault_does_not_answer(lab: Lab, site: SiteBuilder) -> None:
    with on_host(lab, "vault01", "systemctl stop vault@vault.service", "systemctl start vault@vault.service"):
        done = backup(site, "antrean")
    run_error(done, 20, "file01", "vault", "does not answer", "check its server")


@pytest.mark.long
def test_vault_of_another_authority(lab: Lab, site: SiteBuilder) -> None:
    other = lab.exec(
        "vault01", "openssl req -x509 -newkey rsa:2048 -noenc -keyout /dev/null -subj /CN=lain 2>/dev/null"
    )
    with replaced(site.root / "trust/vault-ca.pem", other):
        done = backup(site, "antrean")
    run_error(done, 20, "file01", "certificate")


@pytest.mark.long
def test_vault_not_writable(lab: Lab, make_site: Callable[..., SiteBuilder]) -> None:
    """The folder of one server's repositories belongs to somebody else."""
    fresh = make_site("berkas", quick=True)
    folder = "/srv/vault/file01"
    owner = f"install -d -m 0700 -o vault -g vault {folder}"
    with on_host(
        lab, "vault01", f"{owner}; chown root: {folder}; chmod 0555 {folder}", f"{owner}; chmod 0700 {folder}"
    ):
        done = backup(fresh, "berkas")
    run_error(done, 20, "file01", "vault", "permissions")
    assert snapshots(lab, fresh) == []
    assert backup(fresh, "berkas").returncode == 0


def test_vault_disk_full(lab: Lab, make_site: Callable[..., SiteBuilder]) -> None:
    """A vault of 24 MB that something else has filled: nothing counts; with room again the next run is good."""
    fresh = make_site("berkas", small=True, quick=True)
    fill = "dd if=/dev/zero of=/srv/small/penuh bs=1M count=16 status=none"
    with on_host(lab, "vault01", fill, "rm -f /srv/small/penuh"):
        done = backup(fresh, "berkas")
    run_error(done, 20, "file01", "vault", "space")
    assert snapshots(lab, fresh, small=True) == []
    [row] = fresh.run_json("schedule", "status", check=False)
    assert row["due"]
    done = backup(fresh, "berkas")
    assert done.returncode == 0, done.stdout
    assert len(snapshots(lab, fresh, small=True)) == 2
    all_verified(fresh)


# --- the data --------------------------------------------------------------------------------------------------


def test_database_gone(lab: Lab, site: SiteBuilder) -> None:
    with with_values(site, DATASET, database="sudah_tiada"):
        done = backup(site, "simpeg")
    line = run_error(done, 20, "db01", "sudah_tiada")
    assert "does not exist" in line or "no database" in line
    failed_form(site)


@pytest.mark.long
def test_database_server_stopped(lab: Lab, site: SiteBuilder) -> None:
    with on_host(lab, "db01", "systemctl stop postgresql@15-main", "systemctl start postgresql@15-main"):
        done = backup(site, "simpeg")
    run_error(done, 20, "db01", "simpeg")


@pytest.mark.parametrize(("dataset", "path"), [("berkas", "/srv/tidak-ada"), ("antrean", "/srv/antrean/tidak-ada.db")])
def test_data_gone(site: SiteBuilder, dataset: str, path: str) -> None:
    """The period's backup is not taken for this path's: a dataset that moved is another plan."""
    name = f"register/datasets/{dataset}.yml"
    if dataset == "antrean":
        site.write_yaml("register/datasets/antrean-lain.yml", {})  # a second one, without a backup yet
        entry = json.loads((site.root / name).read_text(encoding="utf-8"))
        site.write_yaml("register/datasets/antrean-lain.yml", {**entry, "id": "antrean-lain", "path": path})
        site.sign_register()
        site.schedule("simpeg", "berkas", "antrean", "antrean-lain")
        done = backup(site, "antrean-lain")
    else:
        with with_values(site, name, path=path):
            done = backup(site, dataset)
    run_error(done, 20, "file01", path)


@pytest.mark.long
def test_restore_of_a_database_that_is_gone(lab: Lab, site: SiteBuilder, personnel: Callable[[], None]) -> None:
    """Dropping the database is an accident too: it comes back with owner, locale, rights and settings from the manifest."""
    lab.psql("REFRESH MATERIALIZED VIEW kepegawaian.rekap")
    assert backup(site, "simpeg").returncode == 0
    source = Personnel(lab).facts()
    case = site.approved("simpeg")
    lab.exec("db01", ["dropdb", "--force", "simpeg"], user="postgres")
    done = site.run("case", "execute", case, as_="pelaksana", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert wait_healthy(f"{lab.web_url}/health", 10)
    restored = Personnel(lab).facts()
    personnel()
    for what, value in source.items():
        assert restored[what] == value, what
