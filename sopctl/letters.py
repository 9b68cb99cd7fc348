# SPDX-License-Identifier: Apache-2.0
"""Scanned letters and other papers of a case: bound by a salted digest in the document that names them.

A paper names people, and may have to be erased. So what is signed is the digest of the salt and the paper together, and both
lie beside the record: when they are gone nobody can try out what the paper may have said.
"""

from __future__ import annotations

import re
import secrets
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


#: a paper's salt lies beside it, under its name with this ending
SALT = ".salt"
FOLDER = "attachments"


def keep(case_folder: Path, name: str, data: bytes) -> Json:
    """Put a paper into the case's attachments; returns what a document says of it. The same paper there already stays."""
    folder = case_folder / FOLDER
    folder.mkdir(exist_ok=True)
    path, beside = folder / name, folder / f"{name}{SALT}"
    if not (path.is_file() and fsio.read_strict(path, MAX_LETTER) == data):
        fsio.write_atomic(beside, f"{secrets.token_hex(32)}\n".encode(), 0o640)
        fsio.write_atomic(path, data, 0o640)
    return {"file": name, "sha256": digest(path), "salted": beside.is_file()}


def digest(path: Path) -> str:
    """The digest that binds the paper at ``path``: of its salt and itself, where it has a salt. ConfigError when one of them
    cannot be read."""
    salt = path.with_name(f"{path.name}{SALT}")
    before = fsio.read_strict(salt, 1024) if salt.exists() else b""
    return fsio.sha256_bytes(before + fsio.read_strict(path, MAX_LETTER))


def names(case_folder: Path) -> list[str]:
    """The papers of a case, without their salts."""
    folder = case_folder / FOLDER
    return sorted(path.name for path in folder.glob("*") if path.suffix != SALT) if folder.is_dir() else []
