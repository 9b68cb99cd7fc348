# SPDX-License-Identifier: Apache-2.0
"""What a witness kept, given to an auditor: its folder (ssh), a clone of its repository (git), or its mails as a file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sopctl import checkpoints, fsio
from sopctl.checkpoints import Checkpoint
from sopctl.errors import SopctlError, UsageError
from sopctl.findings import Finding
from sopctl.ledger import LedgerLine

MAX_COPY = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Copy:
    """``lines`` are None where only checkpoints were kept; ``refused``: (when, reason) of what it did not accept."""

    place: Path
    lines: Sequence[bytes] | None
    points: Sequence[Checkpoint]
    refused: Sequence[tuple[str, str]] = field(default=())


def read_copy(path: Path, site: str) -> Copy:
    """A witness's copy of the ledger of ``site``. UsageError when ``path`` holds none."""
    if path.is_dir() and ((path / ".git").exists() or (path / "objects").is_dir()):
        return _git(path, site)
    if path.is_dir() and (path / "ledger.jsonl").is_file():
        data = fsio.read_strict(path / "ledger.jsonl", MAX_COPY)
        points = [_point(found) for found in sorted((path / "checkpoints").glob("*.txt"))]
        refused = [_refused(found) for found in sorted((path / "refused").glob("*.json"))]
        return Copy(path, data.split(b"\n")[:-1], points, refused)
    if path.is_file():
        text = fsio.read_strict(path, MAX_COPY).decode("utf-8", "replace")
        plain = re.sub(r"^[> ]+", "", text.replace("\r\n", "\n"), flags=re.M)
        points = [checkpoints.parse(match[0].encode()) for match in checkpoints.NOTE.finditer(plain)]
        if points := [point for point in points if point.site == site]:
            return Copy(path, None, points)
        raise UsageError(
            f"holds no checkpoint of site {site}", where=str(path), hint="Give the witness's mails as text."
        )
    raise UsageError(
        "is no witness's copy",
        where=f"--witness {path}",
        hint="Give its folder (ssh), a clone of its repository (git), or its mails in a file (mail).",
    )


def _point(path: Path) -> Checkpoint:
    try:
        return checkpoints.parse(fsio.read_strict(path))
    except ValueError as error:
        raise UsageError(f"the witness's copy does not hold: {error}", where=str(path)) from None


def _refused(path: Path) -> tuple[str, str]:
    value = fsio.parse_json_strict(fsio.read_strict(path), str(path))
    return str(value.get("at")), str(value.get("reason"))


def _git(path: Path, site: str) -> Copy:
    for branch in (f"refs/heads/ledger-{site}", f"refs/remotes/origin/ledger-{site}"):
        data, text = (_blob(path, f"{branch}:{name}") for name in ("ledger.jsonl", "checkpoint.txt"))
        if data is not None and text is not None:
            try:
                return Copy(path, data.split(b"\n")[:-1], [checkpoints.parse(text)])
            except ValueError as error:
                raise UsageError(f"checkpoint.txt {error}", where=str(path)) from None
    raise UsageError(f"the repository has no branch ledger-{site}", where=str(path), hint="Clone or fetch it first.")


def _blob(path: Path, name: str) -> bytes | None:
    command = ["git", "-c", f"safe.directory={path.resolve()}", "-C", str(path), "cat-file", "blob", name]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


# --- comparing -------------------------------------------------------------------------------------------------


def compare(copy: Copy, lines: Sequence[LedgerLine]) -> tuple[list[Finding], int]:
    """Where the ledger is not what the witness saw, and how many lines from the first its copy covers."""
    found = list(_findings(copy, lines))
    if any(finding.severity == "broken" for finding in found):
        return found, 0
    return found, max([len(copy.lines or []), *(point.size for point in copy.points)])


def _findings(copy: Copy, lines: Sequence[LedgerLine]) -> Iterator[Finding]:
    name = copy.place.name
    for number, raw in enumerate(copy.lines or [], 1):
        if number > len(lines):
            gone = len(copy.lines or []) - len(lines)
            meaning = f"witness {name} holds {gone} more lines ({_what(raw)} first): the ledger's end was cut off"
            yield Finding("broken", "ledger", f"ledger.jsonl:{number}", "ledger-cut", meaning)
            break
        if lines[number - 1].raw() != raw:
            here = lines[number - 1]
            meaning = (
                f"witness {name} holds {_what(raw)}, here stands {here.kind} {here.ref} received {here.at}: rewritten"
            )
            yield Finding("broken", "ledger", f"ledger.jsonl:{number}", "ledger-rewritten", meaning)
            break
    else:
        yield from _points(copy, lines, name)
    known = {line.ref for line in lines if line.kind == "record"}
    for raw in copy.lines or []:
        ref = _record(raw)
        if ref and ref not in known:
            yield Finding(
                "broken",
                ref,
                "",
                "record-missing",
                f"witness {name} saw this record's line; ledger and archive have none",
            )
    for at, reason in copy.refused:
        meaning = f"witness {name} was shown another ledger at {at} and refused it: {reason}"
        yield Finding("broken", "ledger", "ledger.jsonl", "witness-refused", meaning)


def _points(copy: Copy, lines: Sequence[LedgerLine], name: str) -> Iterator[Finding]:
    for point in copy.points:
        place = f"ledger.jsonl:{point.size}"
        if point.size > len(lines):
            meaning = (
                f"witness {name} was told of {point.size} lines at {point.at}, the ledger has {len(lines)}: cut off"
            )
            yield Finding("broken", "ledger", place, "ledger-cut", meaning)
        elif lines[point.size - 1].digest != point.head:
            meaning = f"witness {name} was told of another line {point.size} at {point.at}: rewritten at or before it"
            yield Finding("broken", "ledger", place, "ledger-rewritten", meaning)


def _line(raw: bytes) -> dict[str, object]:
    try:
        value = fsio.parse_json_strict(raw, "a witness's line")
    except SopctlError:
        return {}
    return value if isinstance(value, dict) else {}


def _what(raw: bytes) -> str:
    line = _line(raw)
    return f"{line.get('kind')} {line.get('ref')} received {line.get('at')}" if line else "a line that cannot be read"


def _record(raw: bytes) -> str:
    line = _line(raw) if b'"kind":"record"' in raw else {}
    return str(line.get("ref", "")) if line.get("kind") == "record" else ""
