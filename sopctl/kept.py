# SPDX-License-Identifier: Apache-2.0
"""What restores have set aside on servers and nobody has dropped yet: a fold over the evidence in sealed records.

No connection is opened. Two kinds of data are kept: *before*, what was live before the restore, and *shadow*, a staged copy
that was taken back (it may hold what was written while it was live).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sopctl import archive, clock, fsio
from sopctl.errors import EvidenceError
from sopctl.ledger import LedgerLine
from sopctl.models import Json
from sopctl.site import Site
from sopctl.vault import EVIDENCE, sealed_file

Copy = Literal["", "before", "shadow"]
#: how evidence of a step names the copy that the dataset is left with
_LEFT: dict[str, Copy] = {
    "absent": "",
    "emptied": "",
    "staged": "shadow",
    "reverted": "shadow",
    "swapped": "before",
    "finalised": "before",
}


@dataclass(frozen=True)
class Left:
    """What is kept of one dataset after a piece of evidence; ``size`` in bytes, None when nothing tells it."""

    copy: Copy = ""
    name: str = ""
    size: int | None = None


@dataclass(frozen=True)
class Kept:
    """One kept copy. ``until``: it was promised to be kept until then. ``place`` is the dataset as it was restored.
    ``emptied``: nothing is in it, its data went into the vault before a restore in place.
    """

    case: str
    dataset: str
    server: str
    host: str
    copy: Copy
    name: str
    size: int | None
    since: str
    until: str
    record: str
    snapshot: str
    manifest_snapshot: str
    place: Json
    emptied: bool = False


@dataclass(frozen=True)
class Dropped:
    """One copy that was dropped."""

    case: str
    dataset: str
    host: str
    name: str
    size: int | None
    at: str
    by: str
    record: str


@dataclass(frozen=True)
class Holding:
    """What one case keeps, and what of it was dropped."""

    kept: list[Kept]
    dropped: list[Dropped]


def fold(evidence: Iterable[Json], left: Mapping[str, Left] | None = None) -> dict[str, Left]:
    """Dataset → what is kept of it after ``evidence``, oldest first; what a failed step says of itself is not believed."""
    found = dict(left or {})
    for entry in evidence:
        if entry.get("failed"):
            continue
        if entry.get("kind") == "switch":
            for dataset, state in _mapping(entry.get("datasets")).items():
                _step(found, dataset, str(_mapping(state).get("state")), {})
        elif entry.get("kind") in {"stage", "swap", "finalise", "revert", "empty", "clean"} and entry.get("dataset"):
            _step(found, str(entry["dataset"]), _state(entry), entry)
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _state(entry: Json) -> str:
    """What the evidence says of the dataset; taking a staged copy back that was never live drops it."""
    if entry["kind"] != "revert" or entry.get("identity") or _mapping(entry.get("kept")).get("name"):
        return str(entry.get("state"))
    return "absent" if entry.get("changed") else "unchanged"


def _step(found: dict[str, Left], dataset: str, state: str, entry: Json) -> None:
    if state not in _LEFT:
        return
    copy, old = _LEFT[state], found.get(dataset, Left())
    told = _mapping(entry.get("kept"))
    name = told.get("name") or entry.get(copy) if copy else ""
    same = old.copy == copy
    size = told.get("bytes")
    found[dataset] = Left(
        copy,
        str(name or (old.name if same else "")),
        size if isinstance(size, int) else (old.size if same else None),
    )


# -- over the records -----------------------------------------------------------------------------------------------


def of_case(site: Site, lines: list[LedgerLine], case_id: str, days: int) -> Holding:
    """What the case keeps, for at least ``days``. EvidenceError when one of its records is not what was sealed."""
    return _holding(_records(site), lines, case_id, days)


def everything(site: Site, lines: list[LedgerLine], days: int) -> dict[str, Holding]:
    """Case → what it keeps, for every case that ran a restore."""
    records = _records(site)
    cases = dict.fromkeys(line.ref.split("/")[0] for line in lines if line.kind == "run-started")
    return {case: _holding(records, lines, case, days) for case in cases if case.startswith("RST-")}


def _records(site: Site) -> dict[str, Path]:
    return {path.name: path for path in archive.list_records(site.archive)}


def _holding(records: Mapping[str, Path], lines: list[LedgerLine], case_id: str, days: int) -> Holding:
    sealed = {line.ref: line.digests.get("tagmanifest") for line in lines if line.kind == "record"}
    left: dict[str, Left] = {}
    kept: dict[str, Kept] = {}
    dropped: list[Dropped] = []
    for run in _runs(lines, case_id):
        if run not in sealed:
            continue  # killed before it was sealed: the run that went on from there has found what it left
        if run not in records:
            raise EvidenceError(
                "the ledger names this record, but it is gone", where=run, hint="Put it back from a copy."
            )
        record = records[run]
        if not (record / EVIDENCE).is_file():
            continue
        evidence = json.loads(sealed_file(record, sealed))
        plan = json.loads(sealed_file(record, sealed, "data/plan.json"))
        result = json.loads(sealed_file(record, sealed, "data/run/result.json"))
        dropped += _dropped(plan, record, evidence, result)
        left = fold(evidence, left)
        for item in plan["items"] if plan["operation"] == "restore" else []:
            one = left.get(item["dataset"]["id"], Left())
            kept[item["dataset"]["id"]] = _kept(case_id, record, sealed, item, one, result, days)
    now = [replace(one, **_now(left[one.dataset])) for one in kept.values() if left.get(one.dataset, Left()).copy]
    return Holding(now, dropped)


def _now(left: Left) -> Json:
    return {"copy": left.copy, "name": left.name, "size": left.size}


def _runs(lines: list[LedgerLine], case_id: str) -> list[str]:
    """Ids of the case's runs that changed something, oldest first."""
    kinds = {"run-started", "destruction"}
    return [line.ref.split("/")[1] for line in lines if line.kind in kinds and line.ref.startswith(f"{case_id}/")]


def _kept(
    case_id: str, record: Path, sealed: Mapping[str, str | None], item: Json, left: Left, result: Json, days: int
) -> Kept:
    dataset = item["dataset"]["id"]
    until = clock.plus(result["finished"], days=days)
    return Kept(
        case=case_id,
        dataset=dataset,
        server=item["server"],
        host=item["host"],
        copy=left.copy,
        name=left.name,
        size=left.size,
        since=result["finished"],
        until=max(until, _promised(record, sealed, dataset)),
        record=record.name,
        snapshot=str(item.get("snapshot")),
        manifest_snapshot=str(item.get("manifest_snapshot")),
        place={"dataset": item["dataset"], "machine_id": item["machine_id"]},
        emptied=bool(item.get("in_place")) and left.copy == "before",
    )


def _promised(record: Path, sealed: Mapping[str, str | None], dataset: str) -> str:
    """Until when the sealed form says that the copy is kept; a policy that was shortened since does not take that back."""
    for path in sorted((record / "data").glob("form*.json")):
        form = fsio.parse_json_strict(sealed_file(record, sealed, f"data/{path.name}"), str(path))
        if isinstance(form, dict) and form.get("dataset") == dataset:
            return str(form.get("safety_copy_until") or "")
    return ""


def _dropped(plan: Json, record: Path, evidence: list[Json], result: Json) -> list[Dropped]:
    return [
        Dropped(
            case=plan["case"],
            dataset=str(entry.get("dataset")),
            host=str(entry.get("host")),
            name=str(copy.get("name")),
            size=copy.get("bytes"),
            at=str(entry.get("finished") or result["finished"]),
            by=str(plan.get("by", "")),
            record=record.name,
        )
        for entry in evidence
        if entry.get("kind") == "clean" and not entry.get("failed")
        for copy in entry.get("dropped") or []
    ]
