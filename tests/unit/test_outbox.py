# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.outbox: at least once, not for ever, and never two at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from sopctl import clock, outbox
from sopctl.errors import ConfigError
from sopctl.outbox import Key, Outbox

START = "2026-11-22T03:00:00Z"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the clock."""

    def set_to(moment: str) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    set_to(START)
    return set_to


def key(number: int = 1) -> Key:
    return Key("turn", f"RST-2026-0001/{number:02d}/r4", "pelaksana", "surel")


def test_a_failed_one_is_tried_at_once_then_with_patience_and_not_for_ever(
    tmp_path: Path, at: Callable[[str], None]
) -> None:
    box, wanted = Outbox(tmp_path), {key(): "RST-2026-0001"}
    moment = START
    for tries in range(1, outbox.MOST_TRIES + 1):
        at(moment)
        assert box.claim(wanted) == [key()]
        box.settle({key(): "tidak dijawab"})
        [entry] = box.undelivered("RST-2026-0001")
        assert (entry.tries, entry.cause) == (tries, "tidak dijawab")
        if tries >= 2:
            assert box.open(wanted) == []
        moment = clock.plus(moment, seconds=outbox.PATIENCE)
    at(clock.plus(moment, days=1))
    assert box.open(wanted) == []
    assert [entry.state for entry in box.undelivered()] == ["given-up"]
    assert box.undelivered("RST-2026-0002") == []


def test_the_claim_of_a_command_that_died_ends(tmp_path: Path, at: Callable[[str], None]) -> None:
    box, wanted = Outbox(tmp_path), {key(): "RST-2026-0001"}
    assert box.claim(wanted) == [key()]
    assert box.claim(wanted) == []
    assert box.undelivered() == []  # nothing went wrong yet
    at(clock.plus(START, seconds=outbox.CLAIM + 1))
    assert box.claim(wanted) == [key()]


def test_what_was_not_tried_is_let_go_as_it_was(tmp_path: Path, at: Callable[[str], None]) -> None:
    box, wanted = Outbox(tmp_path), {key(1): "RST-2026-0001", key(2): "RST-2026-0001"}
    box.claim({key(1): "RST-2026-0001"})
    box.settle({key(1): "tidak dijawab"})
    assert box.claim(wanted) == [key(2), key(1)]  # the one that failed comes last
    box.settle({}, [key(2), key(1)])
    assert [(entry.key, entry.tries) for entry in box.entries().values()] == [(key(1), 1)]


def test_what_was_sent_is_forgotten_in_time(tmp_path: Path, at: Callable[[str], None]) -> None:
    box = Outbox(tmp_path)
    box.claim({key(1): ""})
    box.settle({key(1): None})
    assert box.open([key(1)]) == []
    at(clock.plus(START, days=outbox.REMEMBERED + 1))
    box.claim({key(2): ""})
    box.settle({key(2): None})
    assert list(box.entries()) == [key(2)]
    assert (tmp_path / "notices/outbox.json").stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "notices").mkdir()
    (tmp_path / "notices/outbox.json").write_text('{"entries": [{}]}', encoding="utf-8")
    with pytest.raises(ConfigError, match="Remove it"):
        Outbox(tmp_path).entries()


def _take(folder: Path, ready: Callable[[], object], taken: multiprocessing.Queue[list[str]]) -> None:
    ready()
    taken.put([one.ref for one in Outbox(folder).claim({key(number): "" for number in range(40)})])


def test_of_many_commands_at_once_one_takes_each(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    taken, barrier = context.Queue(), context.Barrier(4)
    commands = [context.Process(target=_take, args=(tmp_path, barrier.wait, taken)) for _ in range(4)]
    for one in commands:
        one.start()
    found = [ref for _ in commands for ref in taken.get(timeout=60)]
    for one in commands:
        one.join()
    assert sorted(found) == sorted(key(number).ref for number in range(40))
