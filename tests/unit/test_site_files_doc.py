# SPDX-License-Identifier: Apache-2.0
"""docs/reference/site-files.md names every key that the records of models.py and profile.py have."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from sopctl import models, profile

TEXT = Path(__file__).parents[2].joinpath("docs/reference/site-files.md").read_text(encoding="utf-8")
KINDS = [
    kind
    for module in (models, profile)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, models.Record) and kind.__module__ == module.__name__
]
#: not site files: what sopctl itself writes; headings and papers are the SOP's own
ELSEWHERE = {"Record", "Document", "Actor", "Heading", "Approver", "Paper", "Role", "Separation"}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.__name__ not in ELSEWHERE], ids=lambda kind: kind.__name__
)
def test_every_key_is_documented(kind: type[models.Record]) -> None:
    missing = [
        field.encode_name for field in msgspec.structs.fields(kind) if not re.search(rf"\b{field.encode_name}\b", TEXT)
    ]
    assert not missing
