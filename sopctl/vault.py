# SPDX-License-Identifier: Apache-2.0
"""The catalogue: a fold over the archive's records. What restic holds besides them does not count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl import archive, fsio
from sopctl.errors import ConfigError, EvidenceError, UsageError
from sopctl.ledger import Ledger
from sopctl.models import Json
from sopctl.site import Site

EVIDENCE = "data/evidence.json"
MAX_EVIDENCE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Backup:
    """One backup that a record speaks of. ``verified`` means: restored somewhere and found equal."""

    dataset: str
    name: str
    period: str
    snapshot: str
    manifest_snapshot: str
    bytes: int
    sha256: str
    started: str
    finished: str
    record: str
    verified: bool
    verified_at: str | None
    depth: str | None
    content: Json | None


def catalogue(site: Site) -> list[Backup]:
    """Every backup that the records hold, oldest first; verification may stand in a later record.

    EvidenceError when a record's evidence is not what the ledger says was sealed: what it claims is not believed.
    """
    sealed = {
        line.ref: line.digests.get("tagmanifest")
        for line in Ledger(site.archive / "ledger.jsonl").lines()
        if line.kind == "record"
    }
    stored: dict[str, dict[str, Any]] = {}
    verified: dict[str, Json] = {}
    for record in archive.list_records(site.archive):
        if not (record / EVIDENCE).is_file():
            continue
        evidence = json.loads(_sealed_evidence(record, sealed))
        for item in evidence:
            if item.get("kind") == "backup" and item.get("snapshot"):
                stored.setdefault(item["snapshot"], {**item, "record": record.name})
            elif item.get("kind") == "verify" and item.get("ok"):
                verified[item["snapshot"]] = item
    found = []
    for snapshot, item in stored.items():
        proof = verified.get(snapshot)
        found.append(
            Backup(
                dataset=item["dataset"],
                name=item["name"],
                period=item["period"],
                snapshot=snapshot,
                manifest_snapshot=item["manifest_snapshot"],
                bytes=item["bytes"],
                sha256=item["sha256"],
                started=item["started"],
                finished=item["finished"],
                record=item["record"],
                verified=proof is not None,
                verified_at=proof["finished"] if proof else None,
                depth=proof.get("depth") if proof else None,
                content={"tables": proof["tables"]} if proof and proof.get("tables") else None,
            )
        )
    return sorted(found, key=lambda backup: (backup.started, backup.snapshot))


def _sealed_evidence(record: Path, sealed: Mapping[str, str | None]) -> bytes:
    """The evidence's bytes, followed from the ledger's digest of the tag manifest down to them."""
    hint = "Run: sopctl record verify. Put the record back from a copy."
    if record.name not in sealed:
        raise EvidenceError("the ledger does not know this record", where=str(record), hint=hint)
    data = fsio.read_strict(record / EVIDENCE, MAX_EVIDENCE)
    manifest = fsio.read_strict(record / archive.MANIFEST, archive.MAX_MANIFEST)
    tags = fsio.read_strict(record / archive.TAGMANIFEST, archive.MAX_MANIFEST)
    chain = (
        (fsio.sha256_bytes(tags) == sealed[record.name], archive.TAGMANIFEST),
        (_names(tags, archive.MANIFEST, manifest), archive.MANIFEST),
        (_names(manifest, EVIDENCE, data), EVIDENCE),
    )
    for holds, name in chain:
        if not holds:
            raise EvidenceError("is not what was sealed", where=str(record / name), hint=hint)
    return data


def _names(manifest: bytes, name: str, data: bytes) -> bool:
    line = f"{fsio.sha256_bytes(data).removeprefix('sha256:')}  {name}"
    return line.encode() in manifest.split(b"\n")


def choose(backups: list[Backup], dataset: str, point: str) -> tuple[Backup, list[str]]:
    """The newest verified backup of ``dataset`` at or before ``point`` (``latest``, a time, or a backup's name), and
    remarks on newer ones that were passed over. UsageError when there is none."""
    own = [backup for backup in backups if backup.dataset == dataset]
    by_name = [backup for backup in own if backup.name == point]
    if by_name:
        if not by_name[0].verified:
            raise UsageError(
                f"backup {point} of {dataset} is stored, but not verified",
                hint="Ask for another point, or have it verified.",
            )
        return by_name[0], []
    limit = point
    if point != "latest":
        from sopctl import clock

        try:
            clock.parse(point)
        except ConfigError:
            raise UsageError(
                f"restore point {point!r} is neither 'latest', a time (2026-11-22T03:00:00Z) nor a backup of {dataset}",
                hint="Backups: " + (", ".join(backup.name for backup in own) or "none yet") + ".",
            ) from None
    fitting = [backup for backup in own if point == "latest" or backup.started <= limit]
    remarks: list[str] = []
    for backup in reversed(fitting):
        if backup.verified:
            return backup, remarks
        remarks.append(f"{backup.name} is newer but not verified; passed over")
    raise UsageError(
        f"no verified backup of {dataset} at or before {point}",
        where=str(len(own)) + " stored",
        hint="Run: sopctl schedule run --due.",
    )
