# SPDX-License-Identifier: Apache-2.0
"""The reference pages name every key that the records have: site-files.md those of models.py and settings.py, profile.md of profile.py."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from sopctl import models, profile, settings

REFERENCE = Path(__file__).parents[2] / "docs/reference"
PAGES = {models.__name__: "site-files.md", settings.__name__: "site-files.md", profile.__name__: "profile.md"}
KINDS = [
    kind
    for module in (models, settings, profile)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, models.Record) and kind.__module__ == module.__name__
]
#: not site files: what sopctl itself writes
ELSEWHERE = {"Record", "Document", "Actor"}


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.__name__ not in ELSEWHERE], ids=lambda kind: kind.__name__
)
def test_every_key_is_documented(kind: type[models.Record]) -> None:
    text = (REFERENCE / PAGES[kind.__module__]).read_text(encoding="utf-8")
    missing = [
        field.encode_name for field in msgspec.structs.fields(kind) if not re.search(rf"\b{field.encode_name}\b", text)
    ]
    assert not missing
