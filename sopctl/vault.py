# SPDX-License-Identifier: Apache-2.0
"""The catalogue: a fold over the archive's records. What restic holds besides them does not count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sopctl import archive
from sopctl.errors import ConfigError, UsageError
from sopctl.models import Json
from sopctl.site import Site


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
    """Every backup that the records hold, oldest first; verification may stand in a later record."""
    stored: dict[str, dict[str, Any]] = {}
    verified: dict[str, Json] = {}
    for record in archive.list_records(site.archive):
        evidence_path = record / "data" / "evidence.json"
        if not evidence_path.is_file():
            continue
        evidence = json.loads(evidence_path.read_bytes())
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
