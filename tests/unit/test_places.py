# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.places and sopctl.effects: where a restore may put the data, and what approving one means, in words."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.exchange import Exchange
from ansible_collections.diskominfo.sop.plugins.module_utils.pg_database import case_name

from sopctl import effects, places
from sopctl.errors import UsageError
from sopctl.models import Connection, Dataset, Json, Server

CASE, NOW = "RST-2026-0001", "2026-11-22T07:00:00Z"


def dataset(name: str, engine: str, server: str = "db01", **more: Any) -> Dataset:
    return Dataset("sop-dataset/v1", name, name, engine, server, "BKD", "terbatas", **more)


SIMPEG = dataset("simpeg", "postgresql", database="simpeg", connection=Connection(maintenance_db="induk"))
FAR = dataset("jauh", "postgresql", database="jauh", connection=Connection(host="198.51.100.7"))
ANTREAN = dataset("antrean", "sqlite", path="/srv/antrean/antrean.db")
BERKAS = dataset("berkas", "files", path="/srv/berkas")
DATASETS = {each.id: each for each in (SIMPEG, FAR, ANTREAN, BERKAS)}
SERVERS = {name: Server("sop-server/v1", name, name) for name in ("db01", "db02")}


@pytest.mark.parametrize(
    ("texts", "asked", "found"),
    [
        (["simpeg_salinan"], [SIMPEG], {"simpeg": {"server": "db01", "place": "simpeg_salinan"}}),
        (["db02:simpeg_salinan"], [SIMPEG], {"simpeg": {"server": "db02", "place": "simpeg_salinan"}}),
        (["simpeg=db02:s"], [SIMPEG], {"simpeg": {"server": "db02", "place": "s"}}),
        (
            ["berkas=/srv/b", "simpeg=s"],
            [SIMPEG, BERKAS],
            {"berkas": {"server": "db01", "place": "/srv/b"}, "simpeg": {"server": "db01", "place": "s"}},
        ),
        ([], [SIMPEG], {}),
    ],
)
def test_parse(texts: list[str], asked: list[Dataset], found: Json) -> None:
    assert places.parse(texts, asked) == found


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["s"], "does not say whose"),
        (["simpeg=s"], "berkas would replace the live data, the others not"),
        (["simpeg=s", "simpeg=t", "berkas=/srv/b"], "simpeg has two targets"),
        (["arsip=s"], "'arsip' is not asked for"),
        (["simpeg=", "berkas=/srv/b"], "names no target"),
        (["simpeg=Simpeg", "berkas=/srv/b"], "is not a plain name"),
        (['simpeg=s";DROP', "berkas=/srv/b"], "is not a plain name"),
        (["simpeg=" + "s" * 64, "berkas=/srv/b"], "is not a plain name"),
        (["simpeg=s", "berkas=srv/b"], "is not a plain name"),
        (["simpeg=s", "berkas=/srv/../etc"], "is not a plain absolute path"),
        (["simpeg=s", "berkas=/srv/b/"], "is not a plain absolute path"),
        (["simpeg=s", "berkas=/"], "is not a plain absolute path"),
        (["simpeg=s", "berkas=/srv/b c"], "is not a plain absolute path"),
        (["simpeg=s", "berkas=/srv/b\n"], "is not a plain absolute path"),
        (["simpeg=s", "berkas=/srv/.b"], "is not a plain absolute path"),
        (["simpeg=s", "berkas=/srv/" + "b/" * 600 + "c"], "is not a plain absolute path"),
        (["simpeg=s", "berkas=:/srv/b"], "names no server before ':'"),
        (["simpeg=s", "berkas=db02:/srv/b:c"], "is not a plain"),
    ],
)
def test_parse_refuses(texts: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        places.parse(texts, [SIMPEG, BERKAS])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "server", "place", "reason"),
    [
        (SIMPEG, "db01", "simpeg_salinan", None),
        (SIMPEG, "db02", "simpeg", None),  # another server: its name is free there
        (BERKAS, "db01", "/srv/berkas-salinan", None),
        (ANTREAN, "db01", "/srv/antrean/antrean_salinan.db", None),
        (FAR, "db01", "jauh_salinan", None),
        (SIMPEG, "db09", "s", "is not in the asset register (db01, db02); register it"),
        (SIMPEG, "db01", "/srv/s", "is restored to a database name; give one"),
        (BERKAS, "db01", "s", "is restored to an absolute path; give one"),
        (SIMPEG, "db01", "simpeg", "is where dataset simpeg lives"),
        (SIMPEG, "db01", "jauh", "is where dataset jauh lives"),
        (SIMPEG, "db01", "postgres", "the database server itself uses that name"),
        (SIMPEG, "db01", "induk", "the database server itself uses that name"),
        (SIMPEG, "db01", "simpeg__before_rst20260001", "are those that restores give; choose another"),
        (SIMPEG, "db01", "x;y", "is not a plain name"),
        (BERKAS, "db01", "/srv/berkas/dalam", "is where dataset berkas lives"),
        (BERKAS, "db01", "/srv", "is where dataset antrean lives"),
        (BERKAS, "db01", "/srv/antrean/antrean.db", "is where dataset antrean lives"),
        (BERKAS, "db01", "/usr/local/x", "is a folder of the operating system"),
        (BERKAS, "db01", "/var/lib/sop/x", "is a folder of the operating system"),
        (FAR, "db02", "jauh", "the register reaches this database at 198.51.100.7"),
    ],
)
def test_problems(asked: Dataset, server: str, place: str, reason: str | None) -> None:
    found = places.problems(asked, server, place, DATASETS, SERVERS)
    assert (found == []) if reason is None else any(reason in each for each in found), found


def test_two_targets_that_meet() -> None:
    assert places.clashes([("a", "db01", "/srv/x"), ("b", "db02", "/srv/x"), ("c", "db01", "/srv/xy")]) == []
    assert "a and b would be restored to one place" in places.clashes([("a", "db01", "x"), ("b", "db01", "x")])[0]
    assert places.clashes([("a", "db01", "/srv/x/y"), ("b", "db01", "/srv/x")])


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, None),
        ({"to": {"simpeg": {"server": "db01", "place": "s"}}}, None),
        ({"in_place": True}, None),
        ({"in_place": False}, "in another way than true"),
        ({"in_place": 1}, "in another way than true"),
        ({"to": {"simpeg": {"server": "db01", "place": "s"}}, "in_place": True}, "does not go with the rest"),
        ({"to": {"simpeg": {"server": "db01", "place": "s"}}, "operation": "backup"}, "does not go with the rest"),
        ({"in_place": True, "operation": "backup"}, "does not go with the rest"),
        ({"to": {}}, "does not say for each dataset where to"),
        ({"to": "s"}, "does not say for each dataset where to"),
        ({"to": {"lain": {"server": "db01", "place": "s"}}}, "does not say for each dataset where to"),
        ({"to": {"simpeg": "s"}}, "does not say for each dataset where to"),
        ({"to": {"simpeg": {"server": "db01"}}}, "does not say for each dataset where to"),
        ({"to": {"simpeg": {"server": 1, "place": "s"}}}, "does not say for each dataset where to"),
        ({"to": {"simpeg": {"server": "db01", "place": "s", "x": 1}}}, "does not say for each dataset where to"),
        ({"to": {"simpeg": {"server": "db01", "place": ["s"]}}}, "names no target"),
        ({"to": {"simpeg": {"server": "db01", "place": "/srv/../etc"}}}, "is not a plain absolute path"),
    ],
)
def test_a_request_made_by_hand(body: Json, reason: str | None) -> None:
    found = places.unfit({"operation": "restore", "datasets": ["simpeg"], **body})
    assert (found is None) if reason is None else reason in (found or "")


def test_suggestions_are_accepted() -> None:
    for each in (SIMPEG, ANTREAN, BERKAS, dataset("aneh", "files", path="/srv/nama dengan spasi")):
        place = places.suggestion(each)
        assert places.problems(each, "db01", place, DATASETS, SERVERS) == [], place


# -- effects ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backup_time", "words"),
    [
        ("2026-11-19T03:00:00Z", "3 days 4 hours"),
        ("2026-11-21T07:00:05Z", "23 hours 59 minutes"),
        ("2026-11-21T06:59:30Z", "1 day"),
        ("2026-11-22T06:58:59Z", "1 minute 1 second"),
        ("2026-11-22T07:00:00Z", "less than a second"),
        ("2026-11-22T07:00:01Z", "less than a second"),
    ],
)
def test_age(backup_time: str, words: str) -> None:
    assert effects.age(backup_time, NOW) == words


@pytest.mark.parametrize("name", ["simpeg", "s" * 42, "s" * 43, "s" * 63, "é" * 30, "s" * 191, "s" * 192, "é" * 120])
def test_kept_names_are_those_that_engines_give(name: str) -> None:
    assert effects.kept_name({"database": name}, CASE) == case_name(name, "before", CASE)
    assert effects.kept_name({"path": f"/srv/{name}"}, CASE) == Exchange(f"/srv/{name}", CASE).before


def item(**more: Any) -> Json:
    return {
        "dataset": {"id": "simpeg", "database": "simpeg"}, "server": "db01", "backup_name": "cadangan",
        "backup_time": "2026-11-19T03:00:00Z", **more,
    }  # fmt: skip


def test_what_approving_means() -> None:
    assert effects.said(item(), CASE, NOW, 7) == (
        "simpeg: data since 2026-11-19T03:00:00Z will be set aside (backup cadangan, 3 days 4 hours old): it is not "
        "deleted, all of the old data stays on db01 as simpeg__before_rst20260001 for at least 7 days after the restore "
        "(not before 2026-11-29 is it dropped, and by a signed command only)"
    )
    beside = effects.said(item(to={"server": "db02", "place": "s", "source": "db01"}), CASE, NOW, 7)
    assert beside.startswith(
        "simpeg: nothing is set aside: the data as of 2026-11-19T03:00:00Z (backup cadangan, 3 days"
    )
    assert "restored as s on db02; the live data and its services are not touched" in beside
    in_place = effects.said(item(in_place=True, safety_period="rst-2026-0001-safety"), CASE, NOW, 7)
    assert "in place: the old data does not stay on db01" in in_place
    assert "safety backup of period rst-2026-0001-safety" in in_place
