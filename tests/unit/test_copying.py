# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.copying: what in another vault is a copy of ours. The copying itself: tests/integration/test_vault_copies.py."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sopctl.copying import _find
from sopctl.restic import Restic

WANTED = [("dump", "tree of the dump"), ("manifest", "tree of the manifest")]


class Listing:
    """What restic lists. That a snapshot says any original can be had from who holds the other vault's password alone."""

    def __init__(self, *there: tuple[str, str | None, str]) -> None:
        self.there = [{"id": name, "original": original, "tree": tree} for name, original, tree in there]

    def json(self, *_: str) -> Any:
        return self.there


GOOD = [("a1", "dump", "tree of the dump"), ("a2", "manifest", "tree of the manifest")]


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (GOOD, ("a1", "a2")),
        ([("p1", "dump", "another tree"), *GOOD], ("a1", "a2")),
        ([("dump", None, "tree of the dump"), GOOD[1]], ("dump", "a2")),
        ([("p1", "dump", "another tree"), GOOD[1]], None),
        ([GOOD[0]], None),
        ([("a1", "else", "tree of the dump"), GOOD[1]], None),
        ([], None),
    ],
    ids=["both", "planted beside", "itself", "planted instead", "no manifest", "of another", "nothing"],
)
def test_original_and_tree_make_a_copy(there: list[Any], found: tuple[str, str] | None) -> None:
    assert _find(cast("Restic", Listing(*there)), WANTED) == found
