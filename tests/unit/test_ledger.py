# SPDX-License-Identifier: Apache-2.0
"""sopctl.ledger: the chain, the clock, crashes in the middle of a line, two writers."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sopctl.errors import ConfigError, EvidenceError, GateRefused
from sopctl.ledger import NO_LINE, TORN, Ledger

D = "sha256:" + "ab" * 32
START = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


class Clock:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def filled(path: Path, clock: Callable[[], datetime] | None = None) -> Ledger:
    ledger = Ledger(path / "ledger.jsonl", clock=clock or Clock())
    ledger.append("trust", "trust/7", {"file": D}, serial=7)
    ledger.append("document", "RST-2026-0001/01-request", {"file": D, "signature": D})
    ledger.append("run-started", "RST-2026-0001", {"plan": D})
    return ledger


def rules(ledger: Ledger) -> list[str]:
    return [finding.rule for finding in ledger.verify()]


def test_an_empty_ledger_has_a_head_and_is_not_called_checked(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert (ledger.head().seq, ledger.head().digest) == (0, NO_LINE)
    assert ledger.highest_trust_serial() == 0
    assert [(f.severity, f.rule) for f in ledger.verify()] == [("unchecked", "ledger-missing")]


def test_lines_chain_by_the_bytes_of_the_line_before(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    assert ledger.verify() == []
    for entry in ledger.lines():
        value = json.loads(entry.raw())
        assert json.dumps(value, sort_keys=True, separators=(",", ":")).encode() == entry.raw()
    raw = ledger.path.read_bytes().split(b"\n")
    assert raw[-1] == b""
    prev = NO_LINE
    for number, line in enumerate(raw[:-1], start=1):
        value = json.loads(line)
        assert (value["seq"], value["prev"]) == (number, prev)
        assert value["at"] == "2026-11-22T03:00:00Z"
        prev = "sha256:" + hashlib.sha256(line).hexdigest()
    assert str(ledger.head()) == f"3@{prev}"
    assert ledger.highest_trust_serial() == 7
    assert [line.seq for line in ledger.find("document", "RST-2026-0001/01-request")] == [2]
    assert ledger.find("document", "RST-2026-0001") == []


def test_an_older_head_is_recognised_and_a_foreign_one_is_not(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    head = ledger.head()
    ledger.append("record", "RUN-1", {"tagmanifest": D})
    assert ledger.extends(head.seq, head.digest)
    assert ledger.extends(0, NO_LINE)
    assert not ledger.extends(head.seq, D)
    assert not ledger.extends(9, head.digest)


@pytest.mark.parametrize("position", range(0, 900, 37))
def test_one_changed_byte_anywhere_is_found(tmp_path: Path, position: int) -> None:
    ledger = filled(tmp_path)
    data = bytearray(ledger.path.read_bytes())
    data[position % len(data)] ^= 0x01
    ledger.path.write_bytes(data)
    # The last line's own content is held only by the next line, a form or a witness; its shape is still checked.
    head_changed = not ledger.verify()
    assert not head_changed or position % len(data) > data[:-1].rfind(b"\n")
    if not head_changed:
        with pytest.raises(EvidenceError):
            ledger.lines()


def test_removed_swapped_and_doubled_lines_are_found(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    one, two, three = ledger.path.read_bytes().splitlines(keepends=True)
    for lines in ([one, three], [one, three, two], [one, two, two, three], [two, three], [one, b"\n", two]):
        ledger.path.write_bytes(b"".join(lines))
        assert any(finding.severity == "broken" for finding in ledger.verify())
        with pytest.raises(EvidenceError):
            ledger.lines()


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {**v, "name": "Budi"},
        lambda v: {**v, "seq": True},
        lambda v: {**v, "seq": 1.0},
        lambda v: {**v, "at": "2026-11-22 03:00"},
        lambda v: {**v, "at": "2026-13-22T03:00:00Z"},
        lambda v: {**v, "digests": {"file": "x"}},
        lambda v: {**v, "digests": None},
        lambda v: {**v, "ref": "has space"},
        lambda v: [v],
    ],
)
def test_a_line_of_another_shape_is_found(tmp_path: Path, change: Callable[[dict[str, object]], object]) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", clock=Clock())
    ledger.append("document", "a")
    value = change(json.loads(ledger.path.read_bytes()))
    ledger.path.write_text(json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")
    assert rules(ledger) == ["ledger-line"]


def test_nothing_is_added_after_a_broken_last_line(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    whole = ledger.path.read_bytes()
    for data in (whole + b"{}\n", whole + whole.splitlines(keepends=True)[1]):
        ledger.path.write_bytes(data)
        with pytest.raises(EvidenceError, match="Nothing is added to a broken ledger"):
            ledger.append("record", "RUN-1")
        assert ledger.path.read_bytes() == data


def test_the_same_value_written_differently_is_found(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", clock=Clock())
    ledger.append("document", "a")
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b'"seq":1', b'"seq":1,"seq":1'))
    assert rules(ledger) == ["ledger-line"]


def test_personal_data_and_nonsense_cannot_be_appended(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    for kind, ref, digests in [
        ("Bad Kind", "a", {}),
        ("record", "Budi Santoso", {}),
        ("record", "a", {"file": "Budi"}),
    ]:
        with pytest.raises(ValueError, match="not a ledger line"):
            ledger.append(kind, ref, digests)
    assert ledger.verify() == []
    assert ledger.head().seq == 3


# -- the clock ---------------------------------------------------------------------------------------------------------


def test_a_clock_behind_the_ledger_refuses_and_a_small_step_back_does_not(tmp_path: Path) -> None:
    clock = Clock()
    ledger = filled(tmp_path, clock)
    clock.now = START - timedelta(minutes=2)
    assert ledger.append("record", "RUN-1").at == "2026-11-22T03:00:00Z"  # never earlier than the line before
    clock.now = START - timedelta(minutes=2, seconds=1)
    with pytest.raises(GateRefused, match="clock says 2026-11-22T02:57:59Z"):
        ledger.append("record", "RUN-2")
    assert ledger.verify() == []


# -- crashes -----------------------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_named_set_aside_and_explained_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = filled(tmp_path).path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for cut in range(start + 1, len(whole)):
        place = tmp_path / str(cut)
        place.mkdir()
        ledger = Ledger(place / "ledger.jsonl", clock=Clock())
        ledger.path.write_bytes(whole[:cut])
        assert [(f.severity, f.rule) for f in ledger.verify()] == [("unchecked", "ledger-torn")]
        assert ledger.head().seq == 2
        assert ledger.path.read_bytes() == whole[:cut]  # looking changes nothing
        line = ledger.append("record", "RUN-1", {"tagmanifest": D})
        assert line.seq == 4
        torn = ledger.lines()[2]
        assert torn.kind == TORN
        assert (place / torn.ref).read_bytes() == whole[start:cut]
        assert ledger.verify() == []


def test_a_crash_between_setting_aside_and_explaining_is_made_good(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    aside = ledger.path.with_name("ledger.jsonl.torn-4-0badc0de")
    aside.write_bytes(b'{"at"')
    assert rules(ledger) == ["fragment-unexplained"]
    ledger.append("record", "RUN-1")
    assert [line.ref for line in ledger.lines() if line.kind == TORN] == [aside.name]
    assert ledger.verify() == []
    aside.write_bytes(b"other")
    assert rules(ledger) == ["fragment-altered"]
    aside.unlink()
    assert rules(ledger) == ["fragment-missing"]


def test_a_full_disk_takes_the_line_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = filled(tmp_path)
    before = ledger.path.read_bytes()

    def full(_descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(ConfigError, match="No space left"):
        ledger.append("record", "RUN-1")
    monkeypatch.undo()
    assert ledger.path.read_bytes() == before


def test_a_link_in_the_ledgers_place_is_refused(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    other = Ledger(tmp_path / "other.jsonl")
    other.path.symlink_to(ledger.path)
    assert rules(other) == ["ledger-unreadable"]
    with pytest.raises(ConfigError):
        other.append("record", "RUN-1")


# -- two at once -------------------------------------------------------------------------------------------------------


def _append_many(path: Path, name: str, won: multiprocessing.Queue[str]) -> None:
    ledger = Ledger(path)
    for number in range(20):
        ledger.append("document", f"{name}/{number}")
    try:
        ledger.append("run-started", "RST-2026-0001", unique=True)
        won.put(name)
    except GateRefused:
        pass


def test_several_writers_keep_one_chain_and_only_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    context = multiprocessing.get_context("spawn")
    won: multiprocessing.Queue[str] = context.Queue()
    workers = [context.Process(target=_append_many, args=(path, name, won)) for name in ("a", "b", "c")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert Ledger(path).verify() == []
    assert Ledger(path).head().seq == 61
    assert won.get(timeout=5)
    assert won.empty()


def test_unique_is_by_kind_and_ref(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    with pytest.raises(GateRefused, match="RST-2026-0001 has its run-started entry already"):
        ledger.append("run-started", "RST-2026-0001", unique=True)
    ledger.append("run-started", "RST-2026-0002", unique=True)
