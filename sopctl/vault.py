# SPDX-License-Identifier: Apache-2.0
"""The catalogue: a fold over the archive's records. What restic holds besides them does not count."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sopctl import archive, fsio, locks
from sopctl.errors import ConfigError, EvidenceError, UsageError
from sopctl.ledger import Ledger
from sopctl.models import Json
from sopctl.site import Site

EVIDENCE = "data/evidence.json"
MAX_EVIDENCE = 64 * 1024 * 1024
#: end of the period of a backup that a restore in place made of what it replaced
SAFETY = "-safety"
#: kind of the evidence that a check of the vault leaves
CHECK = "vault-check"
#: kind of the evidence of what was forgotten by retention
FORGET = "vault-forget"
#: kind of the evidence of what was copied to another vault, or brought back from it
COPY = "vault-copy"
_PUT_BACK = "Run: sopctl record verify. Put the record back from a copy."


@dataclass(frozen=True)
class Copied:
    """A backup as it lies in another vault: under ids of its own, since restic names a snapshot by its encrypted bytes.

    ``verified``: it was read back whole from there. ``flaw`` and ``forgotten`` as in Backup.
    """

    snapshot: str
    manifest_snapshot: str
    at: str
    verified: bool
    flaw: str = ""
    forgotten: bool = False

    @property
    def good(self) -> bool:
        """Whether it can be brought back, as far as is known."""
        return self.verified and not self.flaw and not self.forgotten


@dataclass(frozen=True)
class Backup:
    """One backup that a record speaks of.

    ``verified``: restored somewhere and found equal, and not found damaged or gone since. ``refuted``: found not to be what it
    should, by a proof and never verified, or by a check of the vault. ``server``: whose repository it lies in. ``flaw``: what
    the check of the vault found, empty when nothing. ``forgotten``: deleted from the vault by retention. ``snapshot`` names it
    for good; ``lies`` is where dump and manifest lie in the vault now, other ids than these once it was brought back from a
    copy. ``copies``: name of another vault → what lies there.
    """

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
    refuted: bool = False
    server: str = ""
    flaw: str = ""
    forgotten: bool = False
    #: host that proved it, and what was missing there to restore it, where it was only read for that reason
    proven_on: str | None = None
    short: Json | None = None
    lies: tuple[str, str] = ("", "")
    copies: Mapping[str, Copied] = field(default_factory=dict)

    @property
    def safety(self) -> bool:
        """Whether it holds what a restore replaced: wanted back by its name only, never as the newest."""
        return self.period.endswith(SAFETY)

    @property
    def proven(self) -> bool:
        """Whether a good one lies somewhere: in the vault, or where it was copied to."""
        return self.verified or any(there is not None and there.verified for there in map(self.within, self.copies))

    @property
    def aliases(self) -> dict[str, str]:
        """Ids by which records name it → those under which the vault holds it, where they differ."""
        names = (self.snapshot, self.manifest_snapshot)
        return {name: place for name, place in zip(names, self.lies, strict=True) if name != place}

    def within(self, copy: str) -> Backup | None:
        """The backup as seen from another vault: verified if it was restored once and read back from there. None: not there."""
        there = self.copies.get(copy)
        if there is None:
            return None
        return replace(
            self,
            lies=(there.snapshot, there.manifest_snapshot),
            verified=self.verified_at is not None and there.good,
            flaw=there.flaw,
            forgotten=there.forgotten,
        )


def catalogue(site: Site) -> list[Backup]:
    """Every backup that the records hold, oldest first; verification may stand in a later record.

    EvidenceError when a record's evidence is not what the ledger says was sealed: what it claims is not believed. A run's
    evidence is what its hosts said, so it speaks of its own dataset only, and never of the vault.
    """
    sealed = {
        line.ref: line.digests.get("tagmanifest")
        for line in Ledger(site.archive / "ledger.jsonl").lines()
        if line.kind == "record"
    }
    return backups(
        site,
        {
            record.name: _evidence(record, sealed)
            for record in archive.list_records(site.archive)
            if os.path.isfile(f"{record}/{EVIDENCE}")  # noqa: PTH113  (a Path for each of thousands takes ten times as long)
        },
    )


#: evidence that this process has followed to the ledger, by record and the digest there
_FOLLOWED: dict[tuple[Path, str], list[Json]] = {}


def _evidence(record: Path, sealed: Mapping[str, str | None]) -> list[Json]:
    """A record's evidence; a command asks for it several times, and what was sealed does not change."""
    key = record, sealed.get(record.name) or ""
    if key not in _FOLLOWED:
        _FOLLOWED[key] = json.loads(sealed_file(record, sealed))
    return _FOLLOWED[key]


def backups(site: Site, evidence: Mapping[str, list[Json]]) -> list[Backup]:
    """The catalogue that this evidence (record → its entries, in the records' order) makes."""
    stored: dict[str, dict[str, Any]] = {}
    verified: dict[tuple[str, str], Json] = {}
    refuted: set[tuple[str, str]] = set()
    checks: list[Json] = []
    forgotten: set[str] = set()
    copied: list[Json] = []
    for record, entries in evidence.items():
        for item in entries:
            kind = item.get("kind")
            if record.startswith(locks.MAINTENANCE):
                if kind == CHECK:
                    checks.append(item)
                elif kind == FORGET:
                    forgotten |= {one["snapshot"] for one in item["forgotten"]}
                elif kind == COPY:
                    copied.append(item)
            elif kind == "backup" and item.get("snapshot"):
                stored.setdefault(item["snapshot"], {**item, "record": record})
            elif kind == "verify" and item.get("ok"):
                verified[item["dataset"], item["snapshot"]] = item
            elif kind == "verify" and item.get("ok") is False:
                refuted.add((item["dataset"], item["snapshot"]))
    flaws = _flaws(checks)
    back, copies = _copied(copied, flaws, forgotten)
    servers = {server.inventory_hostname: server.id for server in site.servers.values()}
    found = []
    for snapshot, item in stored.items():
        about = (item["dataset"], snapshot)
        proof = verified.get(about)
        lies = back.get(snapshot, (snapshot, item["manifest_snapshot"]))
        flaw = flaws.get(lies[0], "")
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
                verified=proof is not None and not flaw,
                verified_at=proof["finished"] if proof else None,
                depth=proof.get("depth") if proof else None,
                content={"tables": proof["tables"]} if proof and proof.get("tables") else None,
                refuted=bool(flaw) or (proof is None and about in refuted),
                server=servers.get(str(item.get("host"))) or _server(site, item["dataset"]),
                flaw=flaw,
                forgotten=lies[0] in forgotten,
                proven_on=proof.get("host") if proof else None,
                short=proof.get("short") if proof else None,
                lies=lies,
                copies=copies.get(snapshot, {}),
            )
        )
    return sorted(found, key=lambda backup: (backup.started, backup.snapshot))


def _flaws(checks: list[Json]) -> dict[str, str]:
    """Snapshot → what checks of the vault found. Damage stays: a later check may have read another share. What is missing is
    told by the newest check of the repository, as it may have looked at the wrong one before."""
    found: dict[str, str] = {}
    in_time = sorted(checks, key=lambda check: str(check["finished"]))
    newest = {(check["server"], check.get("copy")): check for check in in_time}
    for check in newest.values():
        found |= {one["snapshot"]: "missing" for one in check["missing"]}
    for check in checks:
        found |= {one["snapshot"]: "damaged" for one in check["damaged"]}
    return found


def _copied(
    found: list[Json], flaws: Mapping[str, str], forgotten: Collection[str]
) -> tuple[dict[str, tuple[str, str]], dict[str, dict[str, Copied]]]:
    """Snapshot → the ids under which it was brought back; snapshot → what lies in which other vault. The newest counts."""
    back: dict[str, tuple[str, str]] = {}
    copies: dict[str, dict[str, Copied]] = {}
    for item in sorted(found, key=lambda each: str(each["finished"])):
        for one in item["copied"]:
            ids = (str(one["copy"]), str(one["copy_manifest"]))
            if item["back"]:
                back[one["snapshot"]] = ids
                continue
            copies.setdefault(one["snapshot"], {})[item["copy"]] = Copied(
                *ids,
                at=str(item["finished"]),
                verified=bool(one["verified"]),
                flaw=flaws.get(ids[0], "") or ("" if one["verified"] is not False else "damaged"),
                forgotten=ids[0] in forgotten,
            )
    return back, copies


def _server(site: Site, dataset: str) -> str:
    """The dataset's server, for a backup whose own server is registered no more."""
    return site.datasets[dataset].server if dataset in site.datasets else ""


def sealed_file(record: Path, sealed: Mapping[str, str | None], name: str = EVIDENCE) -> bytes:
    """A payload file's bytes, followed from the ledger's digest of the tag manifest (``sealed``) down to them."""
    data = fsio.read_strict(f"{record}/{name}", MAX_EVIDENCE)
    manifest = fsio.read_strict(f"{record}/{archive.MANIFEST}", archive.MAX_MANIFEST)
    tags = sealed_tags(record, sealed)
    if not _names(tags, archive.MANIFEST, manifest):
        raise EvidenceError("is not what was sealed", where=str(record / archive.MANIFEST), hint=_PUT_BACK)
    if not _names(manifest, name, data):
        raise EvidenceError("is not what was sealed", where=str(record / name), hint=_PUT_BACK)
    return data


def sealed_tag(record: Path, sealed: Mapping[str, str | None], name: str) -> bytes:
    """The same for a tag file that the tag manifest names (``bag-info.txt``)."""
    data = fsio.read_strict(record / name)
    if not _names(sealed_tags(record, sealed), name, data):
        raise EvidenceError("is not what was sealed", where=str(record / name), hint=_PUT_BACK)
    return data


def sealed_tags(record: Path, sealed: Mapping[str, str | None]) -> bytes:
    """The tag manifest's bytes, if they are those that the ledger received."""
    if record.name not in sealed:
        raise EvidenceError("the ledger does not know this record", where=str(record), hint=_PUT_BACK)
    tags = fsio.read_strict(f"{record}/{archive.TAGMANIFEST}", archive.MAX_MANIFEST)
    if fsio.sha256_bytes(tags) != sealed[record.name]:
        raise EvidenceError("is not what was sealed", where=str(record / archive.TAGMANIFEST), hint=_PUT_BACK)
    return tags


def _names(manifest: bytes, name: str, data: bytes) -> bool:
    line = f"{fsio.sha256_bytes(data).removeprefix('sha256:')}  {name}"
    return line.encode() in manifest.split(b"\n")


def choose(backups: list[Backup], dataset: str, point: str) -> tuple[Backup, list[str]]:
    """The newest verified backup of ``dataset`` at or before ``point`` (``latest``, a time, or a backup's name), and
    remarks on newer ones that were passed over. UsageError when there is none."""
    own = [backup for backup in backups if backup.dataset == dataset]
    by_name = [backup for backup in own if backup.name == point]
    if by_name:
        if by_name[0].forgotten:
            raise UsageError(
                f"backup {point} of {dataset} was forgotten: the vault does not hold it any more",
                hint="Ask for another point: sopctl vault list.",
            )
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
                hint=f"Backups: {', '.join(backup.name for backup in own if not backup.forgotten) or 'none yet'}.",
            ) from None
    fitting = [backup for backup in own if point == "latest" or backup.started <= limit]
    remarks: list[str] = []
    gone: list[Backup] = []
    for backup in reversed(fitting):
        if backup.forgotten:
            gone.append(backup)
        elif backup.verified and not backup.safety:
            return backup, [*_gone(gone), *remarks]
        else:
            why = (
                "what a restore replaced; passed over, ask for it by its name"
                if backup.safety
                else "not verified; passed over"
            )
            remarks.append(f"{backup.name} is newer but {why}")
    raise UsageError(
        f"no verified backup of {dataset} at or before {point}",
        where=f"{sum(not backup.forgotten for backup in own)} stored",
        hint=" ".join([*_gone(gone), "Run: sopctl schedule run --due."]),
    )


def _gone(gone: list[Backup]) -> list[str]:
    """That what was asked for would have been another one. Retention thins out years of backups, so it is one remark."""
    good = [backup for backup in gone if backup.verified and not backup.safety]
    if not good:
        return []
    others = f" and {len(good) - 1} before it" if good[1:] else ""
    return [f"{good[0].name}{others} came nearer but retention has forgotten it; passed over"]
