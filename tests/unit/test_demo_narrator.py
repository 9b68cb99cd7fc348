# SPDX-License-Identifier: Apache-2.0
"""``sopctl.demo.narrator``: the demo goes on only when a command ended as the story needs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sopctl.demo.narrator import Narrator, Unexpected, wrapped


def ending(code: int) -> list[str]:
    """A command that says its exit code and ends with it."""
    return [sys.executable, "-c", f"print('I end with {code}'); raise SystemExit({code})"]


@pytest.fixture
def narrator(tmp_path: Path) -> Narrator:
    return Narrator(tmp_path, {})


def test_shows_the_command_before_it_runs_it(narrator: Narrator, capsys: pytest.CaptureFixture[str]) -> None:
    said = narrator.run(["sopctl", "next"], ending(0))
    assert said == "I end with 0"
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == ["$ sopctl next", "I end with 0"]


def test_a_refusal_is_shown(narrator: Narrator, capsys: pytest.CaptureFixture[str]) -> None:
    narrator.run(["sopctl", "x"], ending(10), exits=10)
    assert "  exit 10\n" in capsys.readouterr().out
    assert narrator.exits[10] == 1


@pytest.mark.parametrize(("ended", "expected", "code"), [(20, 0, 20), (0, 10, 1), (2, 10, 2)])
def test_anything_unexpected_ends_the_demo(narrator: Narrator, ended: int, expected: int, code: int) -> None:
    with pytest.raises(Unexpected) as caught:
        narrator.run(["sopctl", "case", "execute", "RST-2026-0001", "--as", "a"], ending(ended), exits=expected)
    assert caught.value.code == code
    assert f"ended with exit {ended}" in str(caught.value)
    assert ("was not" in str(caught.value)) == (ended == 0)


def test_words_that_must_be_said(narrator: Narrator) -> None:
    with pytest.raises(Unexpected, match="changed=0"):
        narrator.run(["sopctl", "x"], ending(0), says=["changed=0"])


def test_long_commands_are_broken_before_options() -> None:
    words = ["sopctl", "case", "decide", "RST-2026-0001", "--reject", "--reason", "tidak perlu lagi", "--as", "kabid"]
    assert wrapped(words, 60) == [
        "$ sopctl case decide RST-2026-0001 --reject \\",
        "    --reason 'tidak perlu lagi' --as kabid",
    ]
