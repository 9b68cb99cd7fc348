# SPDX-License-Identifier: Apache-2.0
"""Papers beside a case's documents: which there must be, whether they are those that were signed, and which were erased."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from sopctl import letters
from sopctl.case import Case
from sopctl.errors import SopctlError
from sopctl.ledger import LedgerLine

#: of a file that may be attached
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"


def bound(case: Case) -> dict[str, str]:
    """The papers that the case's documents name: file → its digest."""
    found: dict[str, str] = {}
    for filed in case.filed:
        body = filed.document.body
        paper = body if filed.document.act == "attach" else body.get("letter")
        if filed.document.act in {"request", "receive", "attach"} and isinstance(paper, dict):
            found[str(paper.get("file"))] = str(paper.get("sha256"))
    return found


def wrong(case: Case, lines: Iterable[LedgerLine]) -> list[str]:
    """Papers of the case that are gone, or not those whose digest was signed; by the ledger's ``lines`` some were erased."""
    gone = erased(case.id, lines)
    found = []
    for name, digest in bound(case).items():
        path = case.folder / letters.FOLDER / name
        if not re.fullmatch(NAME, name):
            found.append(f"attachment {name!r} has no plain name")
        elif gone.get(name) == digest:
            if path.exists() or path.with_name(f"{name}{letters.SALT}").exists():
                found.append(
                    f"attachment {name} was to be erased and is still there: sopctl case erase {case.id} {name}"
                )
        elif case.folder.joinpath(letters.FOLDER).is_symlink() or not path.is_file() or path.is_symlink():
            found.append(f"attachment {name} is not there")
        elif not _is(path, digest):
            found.append(f"attachment {name} is not the one that was signed")
    return found


def _is(path: Path, digest: str) -> bool:
    try:
        return letters.digest(path) == digest
    except SopctlError:
        return False


#: the ledger's word for a paper that was erased; its ref is CASE/FILE
ERASURE = "erasure"


def erased(case_id: str, lines: Iterable[LedgerLine]) -> dict[str, str]:
    """The papers of a case that were erased, by the ledger: file → the digest that bound it."""
    return {
        line.ref.partition("/")[2]: line.digests.get("attachment", "")
        for line in lines
        if line.kind == ERASURE and line.ref.startswith(f"{case_id}/")
    }
