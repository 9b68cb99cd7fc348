# SPDX-License-Identifier: Apache-2.0
"""Scanned letters, which become papers of a case: bound by their digest in the document that names them."""

from __future__ import annotations

import re
from pathlib import Path

from sopctl import fsio
from sopctl.errors import UsageError
from sopctl.models import Json

MAX_LETTER = 20 * 1024 * 1024


def read(path: Path) -> bytes:
    """The bytes of a scanned letter. UsageError when there is none, or nothing in it, or its name does not tell its kind."""
    if not path.exists():
        raise UsageError(
            "the letter file does not exist", where=f"--letter {path}", hint="Give the scanned, signed letter."
        )
    data = fsio.read_strict(path, MAX_LETTER)
    if not data:
        raise UsageError("the letter file is empty", where=f"--letter {path}")
    if not re.fullmatch(r"\.[a-z0-9]{1,5}", path.suffix.lower()):
        raise UsageError(
            "the letter needs an ending that tells its kind", where=f"--letter {path}", hint="For example .pdf or .txt."
        )
    return data


def keep(case_folder: Path, stem: str, path: Path, data: bytes) -> Json:
    """Put a letter into the case's attachments as ``stem`` with its own ending; returns what a document says of it."""
    folder = case_folder / "attachments"
    folder.mkdir(exist_ok=True)
    name = f"{stem}{path.suffix.lower()}"
    fsio.write_atomic(folder / name, data, 0o640)
    return {"file": name, "sha256": fsio.sha256_bytes(data)}
