# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.capacity: predictions say what they rest on, a plan that does not fit is told with its numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from sopctl import archive, capacity, fsio
from sopctl.capacity import (
    Prediction,
    assess,
    history,
    occupied,
    place,
    predict,
    predict_in_place,
    risks,
    row,
    unknown,
)
from sopctl.errors import ConfigError
from sopctl.models import Json
from sopctl.site import Site

GB = 1_000_000_000
VAULT: Json = {"kind": "vault-capacity", "host": "vault01", "path": "/srv/vault", "free": 500 * GB, "total": 900 * GB}


def item(dataset: str = "simpeg", operation: str = "restore", **more: object) -> Json:
    return {"dataset": {"id": dataset}, "host": "db01", "operation": operation, **more}


def seen(dataset: str = "simpeg", operation: str = "restore", **more: object) -> Json:
    return {
        "kind": "capacity", "host": "db01", "dataset": dataset, "operation": operation, "exists": True,
        "bytes": 5 * GB, "needs_from": "dump", "failed": False,
        "stage_path": "/var/lib/postgresql", "stage_free": 40 * GB, "stage_device": 1, "needs": 11 * GB,
        "reserve": 256 << 20, "scratch_path": "/var/tmp", "scratch_free": 30 * GB, "scratch_device": 2,
        "scratch_needs": 11 * GB, "scratch_reserve": 256 << 20, **more,
    }  # fmt: skip


def run(operation: str = "restore", size: int = GB, seconds: int = 50, **more: object) -> Json:
    return {"operation": operation, "bytes": size, "seconds": seconds, "downtime_s": 3, "at": "2026-11-01T00:00:00Z",
            "record": "RST-2026-0001-01", **more}  # fmt: skip


# -- predictions -------------------------------------------------------------------------------------------------------


def test_without_records_the_assumption_is_said() -> None:
    found = predict("simpeg", "restore", 2 * GB, [])
    assert (found.seconds, found.downtime_s, found.samples) == (100 + 60, 60, 0)
    assert found.basis == (
        "belum ada catatan restore simpeg; anggapan 20,0 MB/detik, layanan mati 1 menit (bukan hasil pengukuran)"
    )
    backup = predict("simpeg", "backup", 2 * GB, [run()])  # a restore tells nothing of a backup
    assert (backup.seconds, backup.downtime_s, backup.samples) == (100, None, 0)
    assert "belum ada catatan back up simpeg" in backup.basis
    assert predict("simpeg", "restore", 0, [], stops_service=False) == Prediction(
        1, None, "belum ada catatan restore simpeg; anggapan 20,0 MB/detik (bukan hasil pengukuran)", 0
    )


def test_large_data_takes_time_by_its_size_and_the_swap_does_not() -> None:
    runs = [
        run(size=GB, seconds=50, downtime_s=3),
        run(size=3 * GB, seconds=150, downtime_s=7, at="2026-11-02T00:00:00Z", record="RST-2026-0002-01"),
        run("backup", size=9 * GB, seconds=9),
    ]
    found = predict("simpeg", "restore", 10 * GB, runs)
    assert (found.seconds, found.downtime_s, found.samples) == (500, 7, 2)
    assert found.basis == "rata-rata 2 catatan terakhir (RST-2026-0001-01, RST-2026-0002-01), 20,0 MB/detik"
    assert predict("simpeg", "restore", 10 * GB, runs, stops_service=False).downtime_s is None


def test_small_data_takes_what_starting_takes() -> None:
    runs = [run(size=8192, seconds=6), run(size=8192, seconds=7)]
    same = predict("antrean", "restore", 8192, runs)
    assert same.seconds == 7
    assert same.basis.endswith("(RST-2026-0001-01, RST-2026-0001-01), 7 detik untuk 8.192 byte")
    grown = predict("antrean", "restore", 2 * GB, runs)  # 8 kB in 7 seconds says nothing of a throughput
    assert grown.seconds == 7 + 100
    assert "tambahan 1.999,9 MB" in grown.basis or "tambahan 2.000,0 MB" in grown.basis
    assert "anggapan 20,0 MB/detik" in grown.basis


def test_the_newest_records_count() -> None:
    old = [run(seconds=5000, at=f"2025-01-{day:02d}T00:00:00Z") for day in range(1, 20)]
    new = [run(seconds=50, at=f"2026-11-{day:02d}T00:00:00Z", record=f"N{day}") for day in range(1, 6)]
    found = predict("simpeg", "restore", GB, new + old)
    assert (found.seconds, found.samples) == (50, 5)
    assert "N1, N2, N3, N4, N5" in found.basis
    slow = predict("simpeg", "restore", GB, [run(seconds=1_000_000)])
    assert "kurang dari 0,1 MB/detik" in slow.basis


def test_records_without_a_stop_leave_the_assumed_downtime() -> None:
    assert predict("simpeg", "restore", GB, [run(downtime_s=None)]).downtime_s == capacity.ASSUMED_DOWNTIME


# -- does it fit -------------------------------------------------------------------------------------------------------


def test_what_fits_gives_no_reason() -> None:
    assert assess([item()], [seen()], VAULT) == []
    assert assess([item(operation="backup")], [seen(operation="backup")], VAULT) == []
    assert assess([item()], [seen()], None) == []
    exact = seen(stage_free=11 * GB + (256 << 20))
    assert assess([item()], [exact], VAULT) == []
    assert assess([item()], [{**exact, "stage_free": exact["stage_free"] - 1}], VAULT) != []


def test_a_full_disk_is_told_with_the_numbers() -> None:
    found = assess([item()], [seen(stage_free=400_000_000, needs=1_200_000_000)], VAULT)
    assert found == [
        "simpeg: staging needs 1.20 GB at /var/lib/postgresql, 400.00 MB is free (reserve 268.43 MB); make room there, "
        "or choose to replace the live data in place (--in-place: down while it loads)"
    ]


def test_copies_on_one_disk_must_fit_together() -> None:
    items, both = [item(), item("arsip")], [seen(stage_free=20 * GB), seen("arsip", stage_free=20 * GB)]
    assert assess(items, both, VAULT) == [
        "simpeg, arsip: staging together needs 22.00 GB at /var/lib/postgresql, 20.00 GB is free "
        "(reserve 268.43 MB); make room there, or choose to replace the live data in place (--in-place: down while it loads)"
    ]
    apart = [both[0], {**both[1], "stage_device": 9}]
    assert assess(items, apart, VAULT) == []
    elsewhere = [items[0], {**items[1], "host": "db02"}]
    assert assess(elsewhere, both, VAULT) == []


def test_a_backup_is_proven_in_scratch_one_after_the_other() -> None:
    items = [item(operation="backup"), item("arsip", "backup")]
    both = [seen(operation="backup", stage_free=0), seen("arsip", "backup", stage_free=0)]
    enough = [{**entry, "scratch_free": 12 * GB} for entry in both]
    assert assess(items, enough, VAULT) == []
    short = [both[0], {**both[1], "scratch_free": 10 * GB}]
    assert assess(items, short, VAULT) == []  # it is proven by reading then, and the plan says so
    [said] = [risk for risk in risks(items, short, VAULT, {}) if risk.startswith("arsip")]
    assert said == "arsip: ruang di /var/tmp kurang untuk memulihkan; backup hanya akan dibuktikan dengan dibaca"
    assert not [risk for risk in risks(items, enough, VAULT, {}) if "hanya akan dibuktikan" in risk]
    read = [items[0], {**items[1], "verify": "read"}]
    assert not [risk for risk in risks(read, short, VAULT, {}) if "hanya akan dibuktikan" in risk]


def test_the_room_of_a_drill_host_is_not_known() -> None:
    items = [{**item(operation="backup"), "drill": {"server": "db03", "host": "db03"}}]
    full = [seen(operation="backup", scratch_free=0)]
    assert assess(items, full, VAULT) == []
    assert unknown(items, full, VAULT) == ["simpeg: the free space at another server is not known"]


def test_the_vault_must_take_the_backups() -> None:
    items = [item(operation="backup"), item("arsip", "backup")]
    both, small = [seen(operation="backup"), seen("arsip", "backup")], {**VAULT, "free": 6 * GB}
    assert assess(items, both, small) == [
        "simpeg, arsip: the vault needs 10.00 GB at /srv/vault, 6.00 GB is free; make room there"
    ]
    assert assess(items, both, small, stored={"arsip"}) == []  # 5 GB, and a tenth of 5 GB that is new
    assert assess([item()], [seen()], {**VAULT, "free": 0}) == []  # a restore puts nothing there


def test_what_was_not_answered_blocks() -> None:
    silent = "simpeg: db01 gave no sizes; see why it did not answer, then plan again"
    assert assess([item()], [], VAULT) == [silent]
    for other in (seen("arsip"), seen(operation="backup"), seen(failed=True), seen(kind="stage")):
        assert assess([item()], [other], VAULT) == [silent]


def test_in_place_counts_with_the_room_of_what_it_replaces() -> None:
    tight = seen(bytes=9 * GB, needs=11 * GB, stage_free=3 * GB)
    assert "--in-place" in assess([item()], [tight], VAULT)[0]
    assert assess([item(in_place=True)], [tight], VAULT) == []
    assert assess([item(in_place=True)], [{**tight, "stage_free": 2 * GB}], VAULT) == [
        "simpeg: staging needs 11.00 GB at /var/lib/postgresql, 2.00 GB is free and 9.00 GB will be, once the live data is "
        "emptied (reserve 268.43 MB); make room there"
    ]
    full = {**VAULT, "free": GB}
    assert assess([item(in_place=True)], [tight], full) == [
        "simpeg: the vault needs 9.00 GB at /srv/vault, 1.00 GB is free; make room there"
    ]
    assert assess([item()], [seen()], full) == []
    assert "dipulihkan di tempat; selama layanan mati data lama hanya ada di vault" in " ".join(
        risks([item(in_place=True)], [tight], VAULT, {})
    )


def test_a_restore_in_place_is_down_while_it_saves_and_loads() -> None:
    runs = [run(size=GB, seconds=50), run("backup", size=GB, seconds=20, record="BKP-2026-0001-01")]
    found = predict_in_place("simpeg", 2 * GB, 3 * GB, runs)
    assert (found.seconds, found.downtime_s) == (60 + 100, 60 + 100)
    assert found.basis.startswith("di tempat, layanan mati selama back up pengaman (")
    assert "BKP-2026-0001-01" in found.basis and "RST-2026-0001-01" in found.basis
    limit = risks([item(in_place=True, max_downtime=120)], [seen()], VAULT, {"simpeg": found})
    assert any("melampaui batas" in risk for risk in limit)


def test_elsewhere_must_be_free_and_have_room() -> None:
    beside = item(to={"place": "/srv/salinan", "server": "srv02"})
    empty = seen(exists=False, bytes=0, stage_path="/srv")
    assert assess([beside], [empty], VAULT) == occupied([beside], [empty]) == []
    assert risks([beside], [empty], VAULT, {}) == []
    assert "the copy needs 11.00 GB at /srv" in assess([beside], [{**empty, "stage_free": 1}], VAULT)[0]
    assert assess([beside], [{**empty, "stage_free": 1}], VAULT)[0].endswith("or ask for another place")
    assert occupied([beside, item("arsip")], [seen(), seen("arsip")]) == [
        "simpeg: /srv/salinan on srv02 exists already; ask for another place, or move it away"
    ]


def test_data_that_is_gone() -> None:
    gone = seen(exists=False, bytes=0)
    assert assess([item()], [gone], VAULT) == []  # restoring it is what the request is about
    assert "size of the backup is not known" in assess([item()], [{**gone, "needs_from": "live"}], VAULT)[0]
    backup = seen(operation="backup", exists=False, bytes=0)
    assert "nothing to back up on db01" in assess([item(operation="backup")], [backup], VAULT)[0]


def test_what_is_not_known_is_said_and_is_no_reason() -> None:
    elsewhere = seen(stage_path=None, stage_free=None, stage_device=None)
    assert assess([item()], [elsewhere], None) == []
    assert unknown([item()], [elsewhere], None) == [
        "simpeg: the free space at another server is not known",
        "vault: the free space is not known; write vault.server and vault.path into sop.yml",
    ]
    assert unknown([item()], [seen()], VAULT) == []


# -- the plan's rows and risks -----------------------------------------------------------------------------------------


def test_a_row_is_canonical_and_speaks_of_the_operations_own_place() -> None:
    expected = predict("simpeg", "restore", 5 * GB, [run()])
    found = row(item(), [seen()], expected, VAULT)
    assert found == {
        "dataset": "simpeg", "bytes": 5 * GB, "stage_path": "/var/lib/postgresql", "stage_free": 40 * GB,
        "needs": 11 * GB, "reserve": 256 << 20, "vault_free": 500 * GB, "predicted_s": 250, "predicted_downtime_s": 3,
        "basis": expected.basis,
    }  # fmt: skip
    assert fsio.parse_json_strict(fsio.canonical_json(found), "row") == found
    backup = row(item(operation="backup"), [seen(operation="backup")], predict("simpeg", "backup", GB, []))
    assert (backup["stage_path"], backup["vault_free"], backup["predicted_downtime_s"]) == ("/var/tmp", None, None)
    with pytest.raises(ConfigError, match="db01/simpeg: gave no sizes"):
        row(item(), [], expected)


def test_risks_are_named_in_indonesian() -> None:
    tight = seen(stage_free=11 * GB + (300 << 20), sessions=3, standbys=1)
    found = risks([item(max_downtime=30)], [tight], None, {"simpeg": predict("simpeg", "restore", GB, [])})
    assert found == [
        "simpeg: setelah salinan dibuat, ruang yang tersisa di /var/lib/postgresql hanya 314,6 MB",
        "simpeg: 3 sesi sedang memakai basis data dan akan diputus",
        "simpeg: 1 server siaga (standby) ikut menerima perubahan",
        "simpeg: perkiraan lama adalah anggapan, belum ada catatan",
        "simpeg: perkiraan layanan mati 1 menit melampaui batas 30 detik",
        "sisa ruang vault tidak diketahui",
    ]
    assert risks([item(max_downtime=30)], [seen()], VAULT, {"simpeg": predict("simpeg", "restore", GB, [run()])}) == []
    lost = seen(exists=False, stage_free=None)
    told = risks([item()], [lost], VAULT, {})
    assert len(told) == 2
    assert not [line for line in told + found if "; " in line]  # the plan document keeps them in one line


@pytest.mark.parametrize(
    ("octets", "text"),
    [(0, "0.00 kB"), (999_999, "999.99 kB"), (1_200_000_000, "1.20 GB"), (2_500_000, "2.50 MB"), (10**13, "10.00 TB")],
)
def test_sizes(octets: int, text: str) -> None:
    assert capacity.readable(octets) == text


# -- what the records tell ---------------------------------------------------------------------------------------------


def seal(root: Path, name: str, evidence: object, *, check: bool = False, span: tuple[str, str] | None = None) -> None:
    """A record of a run as sealing writes it."""
    started, finished = span or ("2026-11-01T00:00:00Z", "2026-11-01T00:01:40Z")
    result = {"check": check, "started": started, "finished": finished}
    files: dict[str, bytes | Path] = {
        "evidence.json": evidence if isinstance(evidence, bytes) else json.dumps(evidence).encode(),
        "run/result.json": json.dumps(result).encode(),
    }
    at = datetime(2026, 11, 1, tzinfo=UTC)
    archive.seal_record(root, name, "run", files, {}, sign=lambda _: b"no part of this", at=at)


def backup_of(dataset: str, snapshot: str, **more: object) -> list[Json]:
    stored = {
        "kind": "backup", "dataset": dataset, "snapshot": snapshot, "bytes": GB, "reused": False, "failed": False,
        "started": "2026-11-01T00:00:10Z", "finished": "2026-11-01T00:00:40Z", **more,
    }  # fmt: skip
    proof = {
        "kind": "verify", "dataset": dataset, "snapshot": snapshot, "ok": True, "failed": False, "duration_s": 20.5,
        "started": "2026-11-01T00:00:40Z", "finished": "2026-11-01T00:01:00Z",
    }  # fmt: skip
    return [stored, proof]


def restore_of(dataset: str, snapshot: str, **stage: object) -> list[Json]:
    step = {"dataset": dataset, "snapshot": snapshot, "failed": False, "changed": True, "duration_ms": 10_000,
            "started": "2026-11-02T00:00:00Z"}  # fmt: skip
    return [{**step, "kind": "stage", **stage}, {**step, "kind": "swap"}, {**step, "kind": "finalise"}]


STOPPED = [
    {"kind": "service", "service": "web", "state": "stopped", "at": "2026-11-02T00:00:20Z", "healthy_at": None},
    {"kind": "service", "service": "web", "state": "started", "at": "2026-11-02T00:00:22Z",
     "healthy_at": "2026-11-02T00:00:27Z"},
]  # fmt: skip


def told(root: Path) -> dict[str, list[Json]]:
    return history(cast("Site", SimpleNamespace(archive=root)))


def test_history_of_backup_and_restore(tmp_path: Path) -> None:
    seal(tmp_path, "BKP-2026-0001-01", backup_of("simpeg", "a" * 64))
    span = ("2026-11-02T00:00:00Z", "2026-11-02T00:02:00Z")
    seal(tmp_path, "RST-2026-0001-01", restore_of("simpeg", "a" * 64) + STOPPED, span=span)
    assert told(tmp_path) == {
        "simpeg": [
            {"operation": "backup", "bytes": GB, "seconds": 100, "downtime_s": None, "at": "2026-11-01T00:00:10Z",
             "record": "BKP-2026-0001-01"},
            {"operation": "restore", "bytes": GB, "seconds": 120, "downtime_s": 7, "at": "2026-11-02T00:00:00Z",
             "record": "RST-2026-0001-01"},
        ]
    }  # fmt: skip


def test_time_of_other_datasets_is_not_this_ones(tmp_path: Path) -> None:
    seal(tmp_path, "BKP-2026-0001-01", backup_of("simpeg", "a" * 64) + backup_of("arsip", "b" * 64))
    found = told(tmp_path)
    assert found["simpeg"][0]["seconds"] == found["arsip"][0]["seconds"] == 50  # 100 in all, 50 of them the other's


def test_what_is_no_whole_execution_tells_nothing(tmp_path: Path) -> None:
    assert told(tmp_path / "none-yet") == {}
    seal(tmp_path, "A1", backup_of("simpeg", "a" * 64, reused=True))
    seal(tmp_path, "A2", backup_of("simpeg", "b" * 64)[:1])  # never proven
    seal(tmp_path, "A3", backup_of("simpeg", "c" * 64, failed=True))
    seal(tmp_path, "A4", backup_of("simpeg", "d" * 64), check=True)
    seal(tmp_path, "A5", restore_of("simpeg", "a" * 64, changed=False))  # resumed
    seal(tmp_path, "A6", restore_of("simpeg", "a" * 64)[:2])  # not finished
    seal(tmp_path, "A7", [*restore_of("simpeg", "a" * 64), {**restore_of("simpeg", "a" * 64)[0], "kind": "revert"}])
    seal(tmp_path, "A8", restore_of("simpeg", "f" * 64))  # of a backup that no record knows
    archive.seal_record(tmp_path, "A9", "case", {"case.json": b"{}"}, {}, sign=lambda _: b"x")
    assert told(tmp_path) == {}
    seal(tmp_path, "B1", restore_of("simpeg", "a" * 64))
    assert [entry["record"] for entry in told(tmp_path)["simpeg"]] == ["B1"]


WHOLE = b'{"kind":"backup","dataset":"d","snapshot":"x","bytes":1},{"kind":"verify","dataset":"d","ok":true}'


@pytest.mark.parametrize("broken", [b"{", b"[1]", b'[{"kind":"backup","snapshot":"x"}]', b"\xff", b"[" + WHOLE + b"]"])
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, broken: bytes) -> None:
    seal(tmp_path, "BKP-2026-0001-01", broken)
    with pytest.raises(ConfigError, match=r"BKP-2026-0001-01: cannot be read .* sopctl audit verify"):
        told(tmp_path)


def test_history_feeds_predictions(tmp_path: Path) -> None:
    seal(tmp_path, "BKP-2026-0001-01", backup_of("simpeg", "a" * 64))
    found = predict("simpeg", "backup", 2 * GB, told(tmp_path)["simpeg"])
    assert (found.seconds, found.samples) == (200, 1)
    assert found.basis == "rata-rata 1 catatan terakhir (BKP-2026-0001-01), 10,0 MB/detik"


def test_the_place_of_each_operation() -> None:
    assert place(item(), seen()).path == "/var/lib/postgresql"
    assert place(item(operation="backup"), seen()).path == "/var/tmp"
