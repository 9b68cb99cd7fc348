# SPDX-License-Identifier: Apache-2.0
"""Time stamps in the archive: over which signatures, where they lie, and what tells that they were there.

``<archive>/timestamps/records/ID.NAME.tsr`` is the answer of the authority NAME over the signature of the record ID,
``…/checkpoints/00000042.NAME.tsr`` over that of a checkpoint: so over everything that the signature covers. Each has a line
in the ledger (kind ``timestamp``), a checkpoint's before the next checkpoint is made. ``…/authorities/HEX.json`` is what the
trust was signed over (``settings.timestamps`` is its SHA-256): who the authorities were, and their certificates. Nothing here
is ever repaired.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec

from sopctl import archive as archives
from sopctl import checkpoints, fsio, register, tokens
from sopctl.errors import AlreadyExistsError, ConfigError, SopctlError
from sopctl.ledger import LedgerLine
from sopctl.models import to_json
from sopctl.settings import SiteConfig, TimestampAuthority
from sopctl.tokens import Anchors

FOLDER = "timestamps"
AUTHORITIES = "authorities"
LEDGER_KIND = "timestamp"
#: of a record, or of a checkpoint
NAME = r"[A-Za-z0-9][A-Za-z0-9.-]{1,79}"


@dataclass(frozen=True)
class Subject:
    """A signature that is stamped: of a record, or of a checkpoint.

    ``at``: when it says it was made (a record: received). ``seq``: the ledger's line up to which it is asked which trust was
    in force.
    """

    kind: Literal["record", "checkpoint"]
    name: str
    seq: int
    at: str
    signature: Path

    def ref(self, authority: str) -> str:
        """How the ledger names its time stamp."""
        return f"{self.kind}/{self.name}@{authority}"

    def path(self, archive: Path, authority: str) -> Path:
        """Where its time stamp lies."""
        return archive / FOLDER / f"{self.kind}s" / f"{self.name}.{authority}.tsr"


def subjects(archive: Path, lines: Sequence[LedgerLine]) -> list[Subject]:
    """What could have time stamps, oldest first: records that the ledger knows, and checkpoints.

    What is damaged in them is other checks' business; a checkpoint that cannot be read is left out.
    """
    received = {line.ref: line for line in lines if line.kind == "record"}
    found = [_record(path, received[path.name]) for path in archives.list_records(archive) if path.name in received]
    for size in checkpoints.sizes(archive):
        try:
            point = checkpoints.parse(fsio.read_strict(checkpoints.path_of(archive, size)))
        except (SopctlError, ValueError):
            continue
        found.append(_checkpoint(archive, size, min(size, len(lines)), point.at))
    return sorted(found, key=lambda one: (one.seq, one.kind != "record"))


def _record(path: Path, line: LedgerLine) -> Subject:
    return Subject("record", path.name, line.seq, line.at, path / archives.SIGNATURE)


def _checkpoint(archive: Path, size: int, seq: int, at: str) -> Subject:
    path = checkpoints.path_of(archive, size)
    return Subject("checkpoint", path.stem, seq, at, path.with_name(f"{path.name}.sig"))


@dataclass(frozen=True)
class Open:
    """Authority → what it should have stamped and did not, newest first; and stamps that lie there without a line."""

    missing: Mapping[str, Sequence[Subject]]
    unlisted: Sequence[tuple[Subject, str]]


def open_ends(pins: Pins, names: Sequence[str]) -> Open:
    """What the authorities ``names`` did not do yet, by what lies there. Nothing is checked, and little is read: every
    command asks."""
    missing: dict[str, list[Subject]] = {name: [] for name in names}
    unlisted: list[tuple[Subject, str]] = []
    known = received(pins.lines)
    for seq, kind, name, line in _newest_first(pins):
        bare = [one for one in names if f"{kind}/{name}@{one}" not in known]
        if not bare or (subject := _found(pins.archive, name, seq, line)) is None:
            continue
        try:
            digest = pins.digest(seq)
            owed = pins.named(digest) if digest else {}
        except (LookupError, ConfigError):
            owed = {}  # `audit verify` names it
        for one in bare:
            if subject.path(pins.archive, one).exists():
                unlisted.append((subject, one))
            elif one in owed:
                missing[one].append(subject)
    return Open(missing, unlisted)


def _newest_first(pins: Pins) -> list[tuple[int, str, str, LedgerLine | None]]:
    """Lines covered, kind, name and line of all that was received since the trust first named an authority."""
    first = next((line.seq for line in pins.trusts if pins.settings.get(line.digests.get("trust", ""))), None)
    if first is None:
        return []
    found: list[tuple[int, str, str, LedgerLine | None]] = [
        (line.seq, "record", line.ref, line)
        for line in pins.lines[first - 1 :]
        if line.kind == "record" and re.fullmatch(NAME, line.ref)
    ]
    for size in checkpoints.sizes(pins.archive):
        if first <= size <= len(pins.lines):
            found.append((size, "checkpoint", checkpoints.path_of(pins.archive, size).stem, None))
    return sorted(found, key=lambda one: (one[0], one[1] == "checkpoint"), reverse=True)


def _found(archive: Path, name: str, seq: int, line: LedgerLine | None) -> Subject | None:
    if line is None:
        return _checkpoint(archive, seq, seq, "")
    sealed = archive / "records" / line.at[:4] / line.at[5:7] / name  # but for one sealed as the month ended
    paths = [sealed] if sealed.is_dir() else list((archive / "records").glob(f"*/*/{name}"))
    return _record(paths[0], line) if paths else None


def keep(archive: Path, subject: Subject, authority: str, answer: bytes) -> bool:
    """Write an answer that is believed; False when there is one already. ConfigError when it cannot."""
    path = subject.path(archive, authority)
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    try:
        fsio.write_atomic(path, answer, exclusive=True)
    except AlreadyExistsError:
        return False
    return True


def received(lines: Iterable[LedgerLine]) -> dict[str, LedgerLine]:
    """The lines about time stamps, by what they are about: the first of each, since there is never another."""
    found: dict[str, LedgerLine] = {}
    for line in lines:
        if line.kind == LEDGER_KIND:
            found.setdefault(line.ref, line)
    return found


# --- whom the trust named --------------------------------------------------------------------------------------------


def authorities_bytes(config: SiteConfig) -> bytes:
    """The bytes whose digest the trust is signed over."""
    return fsio.canonical_json(to_json(config)[register.TIMESTAMPS])


def keep_authorities(archive: Path, config: SiteConfig) -> str:
    """Keep them beside the time stamps, and return their digest: what stands in sop.yml may be something else tomorrow."""
    data = authorities_bytes(config)
    digest = fsio.sha256_bytes(data)
    path = archive / FOLDER / AUTHORITIES / f"{digest.removeprefix('sha256:')}.json"
    if not path.exists():
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        fsio.write_atomic(path, data)
    return digest


@dataclass(frozen=True)
class Pins:
    """Which authorities the trust named when. ``settings``: digest of a trust → what it was signed over of ``timestamps``
    (None: nothing). ``now``: what sop.yml names, where the trust in force is signed over that."""

    archive: Path
    lines: Sequence[LedgerLine]
    settings: Mapping[str, str | None]
    now: tuple[str, Sequence[TimestampAuthority]] | None = None
    _read: dict[str, dict[str, TimestampAuthority]] = field(default_factory=dict)
    _roots: dict[tuple[str, str], Anchors] = field(default_factory=dict)

    @cached_property
    def trusts(self) -> list[LedgerLine]:
        """The ledger's lines about trusts."""
        return [line for line in self.lines if line.kind == "trust"]

    def digest(self, seq: int) -> str | None:
        """What the trust was signed over when the ledger had ``seq`` lines; None when it named no authority.
        LookupError when that trust is not at hand."""
        at = bisect_right([line.seq for line in self.trusts], seq)
        return self._signed(self.trusts[at - 1]) if at else None

    def between(self, first: int, last: int) -> list[str]:
        """All that trusts in force between ``first`` and ``last`` lines were signed over. LookupError as above."""
        found = [self.digest(first), *(self._signed(line) for line in self.trusts if first < line.seq <= last)]
        return list(dict.fromkeys(digest for digest in found if digest))

    def _signed(self, line: LedgerLine) -> str | None:
        trust = line.digests.get("trust", "")
        if trust not in self.settings:
            raise LookupError(f"trust {line.serial}, in force then, is neither in trust/history nor in a record")
        return self.settings[trust]

    def named(self, digest: str) -> dict[str, TimestampAuthority]:
        """Name → authority. LookupError when what the trust was signed over is gone, ConfigError when it was altered."""
        if digest not in self._read:
            path = self.archive / FOLDER / AUTHORITIES / f"{digest.removeprefix('sha256:')}.json"
            if os.path.lexists(path):
                data = fsio.read_strict(path)
                if fsio.sha256_bytes(data) != digest:
                    raise ConfigError("is not what the trust was signed over", where=str(path))
                try:
                    entries = msgspec.json.decode(data, type=list[TimestampAuthority])
                except msgspec.MsgspecError as error:
                    raise ConfigError(f"cannot be read ({error})", where=str(path)) from None
            elif self.now is not None and self.now[0] == digest:
                entries = list(self.now[1])
            else:
                raise LookupError(f"{FOLDER}/{AUTHORITIES}/{path.name}, which the trust was signed over, is gone")
            self._read[digest] = {one.name: one for one in entries}
        return self._read[digest]

    def roots(self, digest: str, authority: TimestampAuthority) -> Anchors:
        """Its certificates, parsed once. ConfigError when they are none."""
        known = self._roots.get((digest, authority.name))
        if known is None:
            known = self._roots[digest, authority.name] = tokens.anchors(authority, authority.name)
        return known
