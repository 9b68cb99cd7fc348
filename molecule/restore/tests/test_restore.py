# SPDX-License-Identifier: Apache-2.0
"""After role restore: the backup's data is live with all its properties, the data that was live is kept beside it."""

from __future__ import annotations

import pytest
from testinfra.host import Host as Remote

from tests.lab.hosts import Lab
from tests.lab.planned import Planned, named, planned
from tests.lab.probe import healthy, post

LAB = Lab.load()
PLAN = planned()
DATABASES = [entry for entry in PLAN if entry.dataset["engine"] == "postgresql"]
PATHS = [entry for entry in PLAN if entry.dataset["engine"] != "postgresql"]
PROPERTIES = """
SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype, daticulocale,
       datconnlimit, datallowconn, datacl, shobj_description(oid, 'pg_database'),
       (SELECT array_agg(setconfig::text ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = pg_database.oid)
FROM pg_database WHERE datname = '{name}'
"""
WANTED = (
    "simpeg_owner|UTF8|i|C.UTF-8|C.UTF-8|id-ID|40|t|{simpeg_owner=CTc/simpeg_owner,simpeg_app=c/simpeg_owner}|"
    "Sistem Informasi Kepegawaian (data uji)|"
)


def remote(name: str) -> Remote:
    """A host over SSH as the operator reaches it, by the lab's inventory."""
    return Remote.get_host(f"ansible://{name}", ansible_inventory=str(LAB.inventory))


@pytest.mark.parametrize("entry", DATABASES, ids=named)
def test_old_database_is_kept_and_no_shadow_is_left(entry: Planned) -> None:
    name = entry.dataset["database"]
    found = LAB.databases()
    assert name in found
    assert f"{name}__before_{entry.mark}" in found
    assert [other for other in found if "__shadow" in other or "__scratch" in other] == []


@pytest.mark.parametrize("entry", DATABASES, ids=named)
def test_properties_survive_the_swap(entry: Planned) -> None:
    live = LAB.psql(PROPERTIES.format(name=entry.dataset["database"]), "postgres")
    assert live.startswith(WANTED)
    for setting in ("TimeZone=Asia/Jakarta", "search_path=kepegawaian, public", "statement_timeout=30s"):
        assert setting in live


@pytest.mark.parametrize("entry", DATABASES, ids=named)
def test_contents_are_whole(entry: Planned) -> None:
    name = entry.dataset["database"]
    assert LAB.psql("SELECT extname, extowner::regrole FROM pg_extension ORDER BY 1", name).splitlines() == [
        "hstore|simpeg_owner",
        "pg_trgm|simpeg_owner",
        "plpgsql|postgres",
    ]
    invalid = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"
    assert LAB.psql(invalid, name) == "0"
    assert LAB.psql("SELECT count(*) FROM pg_index WHERE NOT indisvalid", name) == "0"
    assert LAB.psql("SELECT count(*) FROM pg_largeobject_metadata", name) == "40"
    orphans = "SELECT count(*) FROM riwayat r LEFT JOIN pegawai p ON p.id = r.pegawai_id WHERE p.id IS NULL"
    assert LAB.psql(orphans, name) == "0"
    assert LAB.psql("SELECT nextval('riwayat_id_seq') > max(id) FROM riwayat", name) == "t"
    assert int(LAB.psql("SELECT count(*) FROM rekap", name)) > 0


@pytest.mark.parametrize("entry", DATABASES, ids=named)
def test_application_writes_again(entry: Planned) -> None:
    number = post(f"{LAB.web_url}/transaksi", {"pegawai": 1, "jenis": "uji", "nilai": 1})["id"]
    query = "SELECT id FROM kepegawaian.transaksi WHERE jenis = 'uji'"
    assert str(number) in LAB.psql(query, entry.dataset["database"]).splitlines()


@pytest.mark.parametrize("entry", PATHS, ids=named)
def test_old_files_are_kept(entry: Planned) -> None:
    host = remote(entry.host)
    path = entry.dataset["path"]
    kept = host.check_output("find %s -maxdepth 1 -name %s", path.rpartition("/")[0], f"*__before_{entry.mark}*")
    assert kept
    assert host.file(path).exists
    if entry.dataset["engine"] == "sqlite":
        assert host.check_output("sqlite3 -readonly %s 'PRAGMA integrity_check'", path) == "ok"
        # The service's own user must own the file, or it could not write to it.
        assert host.file(path).user == "antrean"


def test_services_run() -> None:
    for found in PLAN:
        for entry in found.services:
            assert remote(entry["host"]).service(entry["service"]["unit"]).is_running
    assert healthy(f"{LAB.web_url}/health", 5)
    assert healthy(f"{LAB.queue_url}/health", 5)
