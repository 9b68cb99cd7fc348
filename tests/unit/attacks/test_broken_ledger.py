# SPDX-License-Identifier: Apache-2.0
"""Where the ledger itself was tampered with nothing is decided at all: exit 30, or a refusal where it is no file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sopctl import cli
from tests.support.case_site import CaseSite
from tests.unit.attacks.forging import link, rewrite, swap


def _line_removed(before: bytes) -> bytes:
    lines = before.splitlines(keepends=True)
    return b"".join(lines[:2] + lines[3:])


def _lines_swapped(before: bytes) -> bytes:
    lines = before.splitlines(keepends=True)
    return b"".join([*lines[:-2], lines[-1], lines[-2]])


def _last_twice(before: bytes) -> bytes:
    return before + before.splitlines(keepends=True)[-1]


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("spoil", "code", "problem"),
    [
        (rewrite("archive/ledger.jsonl", _line_removed), 30, "says it is number"),
        (rewrite("archive/ledger.jsonl", _lines_swapped), 30, "says it is number"),
        (rewrite("archive/ledger.jsonl", _last_twice), 30, "says it is number"),
        (
            rewrite("archive/ledger.jsonl", swap('"kind":"document"', '"kind":"dokument"')),
            30,
            "does not follow the line",
        ),
        (rewrite("archive/ledger.jsonl", lambda one: one.replace(b"\n", b"\r\n")), 30, "own form"),
        (rewrite("archive/ledger.jsonl", lambda one: b"\xff" + one), 30, "is not a ledger line"),
        (link("archive/ledger.jsonl"), 10, "cannot read the ledger"),
    ],
    ids=["line removed", "lines swapped", "last line twice", "line rewritten", "converted by git", "binary", "link"],
)
def test_tampered_ledger(
    spoil: Callable[[CaseSite], None], code: int, problem: str, site: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(site)
    before = sorted(site.root.rglob("*"))
    assert cli.run(["-C", str(site.root), "case", "execute", site.case, "--as", "pelaksana"]) == code
    assert problem in capsys.readouterr().err
    assert sorted(site.root.rglob("*")) == before
