# SPDX-License-Identifier: Apache-2.0
"""Where the ledger itself was tampered with nothing can be decided, and nothing runs. Not counted in the attack table."""

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
    ("spoil", "problem"),
    [
        (rewrite("archive/ledger.jsonl", _line_removed), "says it is number"),
        (rewrite("archive/ledger.jsonl", _lines_swapped), "says it is number"),
        (rewrite("archive/ledger.jsonl", _last_twice), "says it is number"),
        (
            rewrite("archive/ledger.jsonl", swap('"kind":"document"', '"kind":"dokument"')),
            "does not follow the line",
        ),
        (rewrite("archive/ledger.jsonl", lambda one: one.replace(b"\n", b"\r\n")), "own form"),
        (rewrite("archive/ledger.jsonl", lambda one: b"\xff" + one), "is not a ledger line"),
        (link("archive/ledger.jsonl"), "cannot read the ledger"),
    ],
    ids=["line removed", "lines swapped", "last line twice", "line rewritten", "converted by git", "binary", "link"],
)
def test_tampered_ledger(
    spoil: Callable[[CaseSite], None], problem: str, site: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(site)
    before = sorted(site.root.rglob("*"))
    assert cli.run(["-C", str(site.root), "case", "execute", site.case, "--as", "pelaksana"]) == 10
    assert problem in capsys.readouterr().err
    assert sorted(site.root.rglob("*")) == before
