"""The PostgreSQL engine keeps old data, gives data up in place, and restores beside under another name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import pg_aside, pg_database
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

from tests.integration.pg_cluster import Cluster
from tests.integration.pg_helpers import CASE, Bytes, databases, engine, no_rests, schema_text, take

pytest_plugins = ["tests.integration.pg_fixtures"]

SYSTEM = ["postgres", "template0", "template1"]


def content(cluster: Cluster, database: str = "simpeg") -> dict[str, Any]:
    tables: dict[str, Any] = engine(cluster, database).manifest(checksums=True)["tables"]
    return tables


def properties(cluster: Cluster) -> str:
    """What belongs to the name simpeg, notes of ours aside."""
    return cluster.sql(
        "SELECT json_build_array(pg_get_userbyid(datdba), datconnlimit, datistemplate, dattablespace, datcollate, datctype, "
        "(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), shobj_description(d.oid, 'pg_database'), "
        "(SELECT json_agg(json_build_array(setrole::regrole, setconfig) ORDER BY setrole) FROM pg_db_role_setting "
        "WHERE setdatabase = d.oid AND NOT setconfig::text ~ 'sop[.]')) FROM pg_database d WHERE datname = 'simpeg'"
    )


def test_kept_data_is_shown_and_dropped(small: Cluster) -> None:
    database = engine(small)
    assert database.kept_bytes(CASE) == 0
    database.drop_kept(CASE)
    source, manifest = take(database)
    database.stage(CASE, source, manifest)
    assert database.kept_bytes(CASE) == 0  # a staged copy is not kept data
    database.quiesce(5)
    database.swap(CASE)
    before = database.before_name(CASE)
    size = int(small.sql(f"SELECT pg_database_size('{before}')"))
    assert database.kept_bytes(CASE) == size > 1_000_000
    small.sql("ALTER DATABASE simpeg RENAME TO lain")
    with pytest.raises(SopError, match=rf"no database simpeg; {before} is all there is"):
        database.drop_kept(CASE)
    small.sql("ALTER DATABASE lain RENAME TO simpeg")
    database.release()
    wanted = content(small)
    database.drop_kept(CASE)
    database.drop_kept(CASE)
    assert database.kept_bytes(CASE) == 0 and content(small) == wanted
    assert sorted(databases(small)) == sorted([*SYSTEM, "simpeg"])


def test_in_place(sample: Cluster) -> None:
    """Emptied, its space is free; what is staged and swapped then is whole, with the properties of the live database."""
    database = engine(sample)
    source, manifest = take(database)
    wanted, tables, owned = schema_text(sample), content(sample), properties(sample)
    oid = sample.sql("SELECT oid FROM pg_database WHERE datname = 'simpeg'")
    with pytest.raises(SopError, match="still open to sessions; quiesce it first"):
        database.empty(CASE)
    database.quiesce(5)
    database.empty(CASE)
    assert properties(sample) == owned and database.is_quiesced()
    assert database.describe()["bytes"] < manifest["content"]["bytes"]
    assert oid not in sample.sql("SELECT oid FROM pg_database").splitlines()
    assert sorted(databases(sample)) == sorted([*SYSTEM, "simpeg"])
    database.empty(CASE)
    assert properties(sample) == owned
    # postgres_fdw is not trusted and on no list: it may come back because the old data had it
    assert database.stage(CASE, source, manifest)["tables"] == tables
    database.discard(CASE)
    database.stage(CASE, source, manifest)
    database.swap(CASE)
    with pytest.raises(SopError, match="has swapped its data in already"):
        database.empty(CASE)
    database.release()
    assert schema_text(sample) == wanted and content(sample) == tables
    database.drop_kept(CASE)
    assert sorted(databases(sample)) == sorted([*SYSTEM, "simpeg"])


@pytest.mark.parametrize("moment", ["hollow made", "exchanged", "noted", "dropping"])
def test_emptying_goes_on_after_a_crash(sample: Cluster, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    database = engine(sample)
    source, manifest = take(database)
    owned, tables = properties(sample), content(sample)
    database.quiesce(5)

    class Killed(BaseException):
        """As kill -9: nothing cleans up."""

    def die(*_args: object) -> None:
        raise Killed

    if moment == "hollow made":
        monkeypatch.setattr(pg_aside.Emptying, "_exchange", die)
    elif moment == "exchanged":
        monkeypatch.setattr(pg_aside.Emptying, "_drop_doomed", die)
    else:
        monkeypatch.setattr(pg_aside, "known_of" if moment == "noted" else "drop_database", die)
        if moment == "dropping":  # the first drop is of a rest that is not there
            monkeypatch.setattr(
                pg_aside,
                "drop_database",
                lambda client, name: die() if "doomed" in name else pg_database.drop_database(client, name),
            )
    with pytest.raises(Killed):
        database.empty(CASE)
    monkeypatch.undo()
    assert "simpeg" in databases(sample) and database.is_quiesced()
    assert database.state(CASE) == "absent"
    database.empty(CASE)
    assert sorted(databases(sample)) == sorted([*SYSTEM, "simpeg"])
    assert properties(sample) == owned
    assert database.stage(CASE, source, manifest)["tables"] == tables


def test_stage_beside_a_closed_database_says_so(small: Cluster) -> None:
    database = engine(small)
    source, manifest = take(database)
    database.quiesce(5)
    with pytest.raises(SopError, match=r"closed to sessions.*lift its fence"):
        database.stage(CASE, source, manifest)
    database.release()
    database.stage(CASE, source, manifest)


def test_owner_cannot_forge_what_was_let_in(small: Cluster) -> None:
    """The note of what the old data held is a superuser's; settings of the database or of other roles are no such note."""
    database = engine(small)

    def needs(changed: dict[str, Any]) -> None:
        version = small.sql("SELECT default_version FROM pg_available_extensions WHERE name = 'pageinspect'")
        changed["globals"]["extensions"].append({"name": "pageinspect", "version": version, "schema": "public"})

    source, manifest = take(database, needs)
    note = json.dumps({"extensions": ["pageinspect"], "event_triggers": []})
    small.sql(
        f"""ALTER DATABASE simpeg SET "sop.known" = '{note}'; ALTER ROLE app IN DATABASE simpeg SET "sop.known" = '{note}'"""
    )
    database.quiesce(5)
    with pytest.raises(SopError, match="closed to sessions"):
        database.stage(CASE, source, manifest)
    database.empty(CASE)
    with pytest.raises(SopError, match="pageinspect, which is not trusted"):
        database.stage(CASE, source, manifest)


def test_beside_under_another_name(sample: Cluster) -> None:
    database = engine(sample)
    source, manifest = take(database)
    tables, text = content(sample), schema_text(sample)
    assert not database.placed("simpeg_lama", CASE)
    placed = database.place("simpeg_lama", CASE, source, manifest)
    assert placed["tables"] == tables
    assert database.placed("simpeg_lama", CASE) and not database.placed("simpeg_lama", "RST-2026-0002")
    # open for use at once, by those who may, and as the original was but for its name and our note
    assert sample.sql("SELECT count(*) FROM pegawai", "simpeg_lama", "dba") == "2000"
    renamed = schema_text(sample, "simpeg_lama").replace("simpeg_lama", "simpeg").splitlines()
    assert [line for line in renamed if '"sop"."placed"' not in line and "sop.placed" not in line] == text.splitlines()
    assert database.place("simpeg_lama", CASE, source, manifest)["tables"] == tables
    # the live data has not been touched, and can be swapped by the same case all the same
    assert content(sample) == tables and database.state(CASE) == "absent"
    with pytest.raises(SopError, match="simpeg_lama is there already and is kept"):
        database.place("simpeg_lama", "RST-2026-0002", source, manifest)
    database.unplace("simpeg_lama", "RST-2026-0002")
    assert database.placed("simpeg_lama", CASE)
    database.unplace("simpeg_lama", CASE)
    database.unplace("simpeg_lama", CASE)
    assert sorted(databases(sample)) == sorted([*SYSTEM, "simpeg"])


def test_placed_where_there_is_no_live_data(sample: Cluster) -> None:
    database = engine(sample)
    source, manifest = take(database)
    tables = content(sample)
    sample.sql("DROP DATABASE simpeg")
    with pytest.raises(SopError, match=r"postgres_fdw, which is not trusted"):
        database.place("simpeg", CASE, source, manifest)
    database = engine(sample, extensions=["postgres_fdw"])
    assert database.place("simpeg", CASE, source, manifest)["tables"] == tables
    assert content(sample) == tables and not database.is_quiesced()
    assert sample.sql("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'simpeg'") == "app"


def test_place_refuses_and_leaves_nothing(small: Cluster) -> None:
    database = engine(small)
    source, manifest = take(database)
    tables = content(small)
    for name in ("simpeg", "postgres", "template1"):
        with pytest.raises(SopError, match=f"database {name} is there already and is kept; choose another name"):
            database.place(name, CASE, source, manifest)
    for name in ("", "é" * 32):
        with pytest.raises(SopError, match="a database's name has 1 to 63; choose another"):
            database.place(name, CASE, source, manifest)
    with pytest.raises(SopError, match="pg_restore exited"):
        database.place("lain", CASE, Bytes(source.data[:-3000]), manifest)
    assert no_rests(small) and sorted(databases(small)) == sorted([*SYSTEM, "simpeg"])
    # the rest of a run that was killed is under another name, and is cleared away by the next one
    small.sql('CREATE DATABASE "lain__placing_rst20260001"')
    assert not database.placed("lain", CASE)
    assert database.place("lain", CASE, source, manifest)["tables"] == tables
    assert sorted(databases(small)) == sorted([*SYSTEM, "lain", "simpeg"])
    long = "é" * 31
    assert database.place(long, CASE, source, manifest)["tables"] == tables and database.placed(long, CASE)


def test_placed_copy_may_become_a_dataset(small: Cluster) -> None:
    """Our note stays with the copy: a restore of it does not carry it over."""
    database = engine(small)
    source, manifest = take(database)
    database.place("lain", CASE, source, manifest)
    copy = engine(small, "lain")
    source, manifest = take(copy)
    copy.stage(CASE, source, manifest)
    copy.quiesce(5)
    copy.swap(CASE)
    copy.release()
    assert not copy.placed("lain", CASE)
    assert content(small, "lain")["s.t"]["rows"] == 100
