# SPDX-License-Identifier: Apache-2.0
"""Facts of servers: read strictly from hosts that may lie, merged, compared; and what is not registered."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_gathering import gather

from sopctl import facts, fsio, gaps
from sopctl.errors import ConfigError
from sopctl.facts import FactsFile
from sopctl.gaps import Remembered
from sopctl.models import Connection, Dataset, Server
from tests.support.recorded_host import RecordedHost

NOW, LATER = "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"
Json = dict[str, Any]


@pytest.fixture
def said() -> Json:
    """What a host of the RHEL family says."""
    host = RecordedHost("rocky-9")
    return {"facts": gather(host), "unread": host.unread}


def taken(evidence: Json, known: FactsFile | None = None, now: str = NOW) -> FactsFile:
    return facts.from_evidence(evidence, "db01", "AST-2026-0001", known, now)


def changed(before: FactsFile, evidence: Json) -> list[str]:
    """Lines of what differs."""
    after = taken(evidence, before, LATER)
    return [one.line() for one in facts.compare(before.facts, after.facts)]


def test_the_same_again_is_the_same_file(said: Json, tmp_path: Path) -> None:
    first = taken(said)
    assert taken(copy.deepcopy(said), first, LATER) is first
    path = facts.path_of(tmp_path, "db01")
    path.parent.mkdir(parents=True)
    path.write_bytes(facts.file_bytes(first))
    known = facts.load(tmp_path, "db01")
    assert known is not None and known.file == first
    assert known.digest == fsio.sha256_bytes(path.read_bytes())
    assert facts.load(tmp_path, "db02") is None


def test_an_upgraded_package_is_one_change(said: Json) -> None:
    before = taken(said)
    said["facts"]["databases"][1]["version"] = "16.5"
    after = taken(said, before, LATER)
    [one] = facts.compare(before.facts, after.facts)
    assert one.line() == "~ databases[postgresql 5433 /var/lib/pgsql/16/data].version: 16.4 → 16.5"
    assert one.notable
    assert after.since == LATER


def test_serial_and_address_are_shown(said: Json) -> None:
    before = taken(said)
    said["facts"]["machine"]["serial"] = "OTHER"
    said["facts"]["addresses"][0]["address"] = "198.51.100.22/24"
    lines = changed(before, said)
    assert "~ machine.serial: 7XK2Q03 → OTHER" in lines
    assert "+ addresses[eno1 198.51.100.22/24]" in lines
    assert "- addresses[eno1 198.51.100.21/24]" in lines


def test_a_database_more_and_one_less(said: Json) -> None:
    before = taken(said)
    said["facts"]["databases"][0]["databases"][0]["name"] = "baru"
    lines = changed(before, said)
    assert "+ databases[mariadb 3306 /var/lib/mysql].databases[baru]" in lines
    assert "- databases[mariadb 3306 /var/lib/mysql].databases[arsip]" in lines


@pytest.mark.parametrize(
    ("size", "differs"), [(52428800, False), (57671680, False), (57671681, True), (47185920, False), (0, True)]
)
def test_sizes_move_by_a_tenth_without_being_a_change(said: Json, size: int, differs: bool) -> None:
    before = taken(said)
    said["facts"]["databases"][0]["databases"][0]["bytes"] = size
    assert bool(changed(before, said)) is differs


def test_small_steps_add_up(said: Json) -> None:
    """Each step is compared with what is written, not with the step before it."""
    file = taken(said)
    for size in (55_000_000, 57_000_000, 60_000_000):
        said["facts"]["databases"][0]["databases"][0]["bytes"] = size
        file = taken(copy.deepcopy(said), file, LATER)
    assert file.facts.databases[0].databases is not None
    assert file.facts.databases[0].databases[0].bytes == 60_000_000


def test_what_cannot_be_read_this_time_is_not_forgotten(said: Json) -> None:
    before = taken(said)
    said["facts"]["machine"]["serial"] = None
    said["facts"]["services"] = None
    said["facts"]["databases"][1]["databases"] = None
    said["unread"] = [{"what": "serial number", "why": "root"}]
    assert changed(before, said) == []
    assert taken(said, before, LATER) is before  # what could not be read this time is no fact


@pytest.mark.parametrize(
    "spoil",
    [
        lambda said: said.pop("facts"),
        lambda said: said["facts"].pop("system"),
        lambda said: said["facts"].update(extra=1),
        lambda said: said["facts"]["machine"].update(serial=["a"]),
        lambda said: said["facts"]["machine"].update(serial="x" * 301),
        lambda said: said["facts"]["machine"].update(model="a\x1b[2J"),
        lambda said: said["facts"]["services"].append("a\u202eb"),
        lambda said: said.update(unread=[{"what": "a\nb", "why": ""}]),
        lambda said: said["facts"]["machine"].update(memory_mib=-1),
        lambda said: said["facts"]["machine"].update(memory_mib=2**63),
        lambda said: said["facts"]["databases"][0].update(port=99999),
        lambda said: said["facts"]["databases"][0].update(engine="oracle"),
        lambda said: said["facts"]["system"].update(support_until="soon"),
        lambda said: said.update(unread="nothing"),
    ],
)
def test_a_host_that_says_something_else_is_not_believed(said: Json, spoil: Any) -> None:
    spoil(said)
    with pytest.raises(ConfigError, match="not facts"):
        taken(said)


def test_a_file_of_another_server_is_refused(said: Json, tmp_path: Path) -> None:
    path = facts.path_of(tmp_path, "db02")
    path.parent.mkdir(parents=True)
    path.write_bytes(facts.file_bytes(taken(said)))
    with pytest.raises(ConfigError, match="differs from the file's name"):
        facts.load(tmp_path, "db02")


# gaps ----------------------------------------------------------------------------------------------------------------


def server(name: str = "db01") -> Server:
    return Server(schema="sop-server/v1", id=name, inventory_hostname=name)


def dataset(name: str, engine: str, database: str, port: int | None = None) -> Dataset:
    return Dataset(
        schema="sop-dataset/v1", id=name, name=name, engine=engine, server="db01", owner_unit="u", classification="terbatas",
        database=database, connection=Connection(port=port),
    )  # fmt: skip


def found(
    said: Json, *datasets: Dataset, scheduled: set[str] | None = None, met: Remembered | None = None
) -> list[str]:
    """Kind and subject of each gap of db01."""
    by_id = {one.id: one for one in datasets}
    names = scheduled if scheduled is not None else set(by_id)
    listed = gaps.find({"db01": server()}, by_id, names, {"db01": taken(said)}, met or Remembered())
    assert all(one.next for one in listed)
    return [f"{one.kind} {one.about}" for one in listed]


def test_database_servers_without_dataset(said: Json) -> None:
    assert found(said) == ["unregistered-database db01:3306", "unregistered-database db01:5433"]


def test_a_dataset_on_the_first_port_does_not_cover_the_second(said: Json) -> None:
    one = dataset("izin", "postgresql", "perizinan")
    assert "unregistered-database db01:5433" in found(said, one)
    assert "unregistered-database db01:5433" not in found(said, dataset("izin", "postgresql", "perizinan", 5433))


def test_a_database_beside_the_registered_one(said: Json) -> None:
    one = dataset("arsip", "mariadb", "arsip")
    assert "unregistered-database db01:3306" in found(said, one)
    both = [one, dataset("kosong", "mariadb", "kosong")]
    assert "unregistered-database db01:3306" not in found(said, *both)


def test_a_dataset_without_schedule(said: Json) -> None:
    one = dataset("izin", "postgresql", "perizinan", 5433)
    assert "unscheduled izin" in found(said, one, scheduled=set())
    assert "unscheduled izin" not in found(said, one)


def test_strangers_silent_and_homeless(said: Json) -> None:
    met = Remembered(silent={"db01": "timed out", "gone": "x"}, strangers=["web9.example"], homeless=["db01"])
    told = found(said, met=met)
    assert {"unregistered-host web9.example", "silent db01", "not-in-inventory db01"} <= set(told)
    assert "silent gone" not in told


def test_a_server_that_was_never_looked_at() -> None:
    [gap] = gaps.find({"db01": server()}, {}, set(), {}, Remembered())
    assert gap.kind == "never-scanned"


@pytest.mark.parametrize("data", [b"", b"{", b'{"silent": 1}', b"\xff", b"[" * 100_000])
def test_a_spoilt_cache_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / gaps.CACHE).write_bytes(data)
    assert gaps.remembered(tmp_path) == Remembered()


def test_what_is_remembered_is_written_once(tmp_path: Path) -> None:
    met = Remembered(silent={"db01": "timed out"})
    gaps.remember(tmp_path / "state", met)
    path = tmp_path / "state" / gaps.CACHE
    before = path.stat().st_mtime_ns
    gaps.remember(tmp_path / "state", met)
    assert (path.stat().st_mtime_ns, gaps.remembered(tmp_path / "state")) == (before, met)
