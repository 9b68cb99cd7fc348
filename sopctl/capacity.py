# SPDX-License-Identifier: Apache-2.0
"""Planning by available capacity: does it fit, how long will it take, and what does that rest on.

Everything but :func:`history` is pure. ``items`` are those of a plan whose operation is ``plan``: like a restore's or
a backup's, with ``operation``. ``evidence`` is what the play returned; only its kind ``capacity`` is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from sopctl import archive, clock, indonesian
from sopctl.errors import ConfigError
from sopctl.models import Json
from sopctl.site import Site

#: bytes a second, where no record tells
ASSUMED_RATE = 20_000_000
#: seconds a service is down for a swap, where no record tells
ASSUMED_DOWNTIME = 60
#: how many of the newest records a prediction looks at
SAMPLES = 5
#: below this many bytes a run's time is start-up and not throughput
SMALL = 64_000_000
#: what a further backup of a dataset that the vault already holds is taken to add: one part in so many
NEW_PART = 10


@dataclass(frozen=True)
class Prediction:
    """How long it will take. ``basis`` is for officials; ``samples`` is the number of records behind it."""

    seconds: int
    downtime_s: int | None
    basis: str
    samples: int


# -- how long ----------------------------------------------------------------------------------------------------------


def predict(
    dataset_id: str, operation: str, size: int, history: Iterable[Json], *, stops_service: bool = True
) -> Prediction:
    """Duration of ``operation`` on ``size`` bytes of ``dataset_id`` from its earlier executions (:func:`history`).

    ``size``: of the dump where it is known, else of the live data. A swap takes as long as it took, whatever the size:
    the longest of the records counts.
    """
    done = sorted((run for run in history if run["operation"] == operation), key=lambda run: str(run["at"]))[-SAMPLES:]
    down = operation == "restore" and stops_service
    if not done:
        assumed = f"belum ada catatan {_WORD[operation]} {dataset_id}; anggapan {_rate(ASSUMED_RATE)}"
        assumed += f", layanan mati {indonesian.format_duration(ASSUMED_DOWNTIME)}" if down else ""
        seconds = _up(size, ASSUMED_RATE) + (ASSUMED_DOWNTIME if down else 0)
        return Prediction(max(1, seconds), ASSUMED_DOWNTIME if down else None, f"{assumed} (bukan hasil pengukuran)", 0)
    total, taken = sum(run["bytes"] for run in done), max(1, sum(run["seconds"] for run in done))
    mean = total // len(done)
    basis = f"rata-rata {len(done)} catatan terakhir ({', '.join(str(run['record']) for run in done)})"
    if mean >= SMALL:
        seconds, basis = _up(size * taken, total), f"{basis}, {_rate(total // taken)}"
    else:
        seconds = _up(taken, len(done))
        basis += f", {indonesian.format_duration(seconds)} untuk {indonesian.format_size(mean)}"
        if size - mean >= ASSUMED_RATE:
            seconds += _up(size - mean, ASSUMED_RATE)
            basis += f"; tambahan {indonesian.format_size(size - mean)} dengan anggapan {_rate(ASSUMED_RATE)}"
    downs = [run["downtime_s"] for run in done if run["downtime_s"] is not None]
    return Prediction(max(1, seconds), max(downs, default=ASSUMED_DOWNTIME) if down else None, basis, len(done))


def predict_in_place(dataset_id: str, size: int, live: int, history: Collection[Json]) -> Prediction:
    """Duration of replacing ``live`` bytes of ``dataset_id`` in place by a backup of ``size``: all of it is downtime.

    The safety backup of the live data and the load both happen while the service is stopped.
    """
    saving = predict(dataset_id, "backup", live, history)
    loading = predict(dataset_id, "restore", size, history)
    seconds = saving.seconds + loading.seconds
    basis = f"di tempat, layanan mati selama back up pengaman ({saving.basis}) dan pemuatan ({loading.basis})"
    return Prediction(seconds, seconds, basis, min(saving.samples, loading.samples))


_WORD = {"backup": "back up", "restore": "restore"}


def _up(amount: int, by: int) -> int:
    return -(-amount // by)


def _rate(octets: int) -> str:
    tenths = octets // 100_000
    return f"{indonesian.format_number(tenths // 10)},{tenths % 10} MB/detik" if tenths else "kurang dari 0,1 MB/detik"


# -- does it fit -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where an item's copy goes: the staged copy of a restore, the proof of a backup. None is what is not known."""

    path: str | None
    free: int | None
    device: int | None
    needs: int
    reserve: int


def place(item: Json, seen: Json) -> Place:
    """The place that ``item``'s operation needs, from the evidence of its dataset."""
    word = "" if item["operation"] == "restore" else "scratch_"
    if item.get("drill"):  # nobody looked there
        return Place(None, None, None, seen[f"{word}needs"], seen[f"{word}reserve"])
    room = "stage" if item["operation"] == "restore" else "scratch"
    path, free, device = (seen.get(f"{room}_{key}") for key in ("path", "free", "device"))
    return Place(path, free, device, seen[f"{word}needs"], seen[f"{word}reserve"])


def answer(item: Json, evidence: Iterable[Json]) -> Json | None:
    """What the host said of ``item``'s dataset, None when it gave no answer."""
    found = [
        entry
        for entry in evidence
        if entry.get("kind") == "capacity"
        and entry.get("dataset") == item["dataset"]["id"]
        and entry.get("operation") == item["operation"]
        and not entry.get("failed")
    ]
    return found[-1] if found else None


def assess(
    items: Collection[Json],
    evidence: Collection[Json],
    vault_evidence: Json | None,
    stored: Collection[str] = (),
) -> list[str]:
    """Why the plan does not fit, one sentence each; empty when it does. What is not known is in :func:`unknown`.

    All copies of a restore lie beside each other until the swap, so those on one file system must fit together. A backup
    without room for a proof by restoring is proven by reading, so that is a risk and no reason. ``stored``: datasets whose backups the vault already holds.
    """
    reasons, disks, freed = [], dict[tuple[str, int], list[tuple[str, Place]]](), dict[str, int]()
    for item in items:
        dataset, seen = item["dataset"]["id"], answer(item, evidence)
        if seen is None:
            reasons.append(f"{dataset}: {item['host']} gave no sizes; see why it did not answer, then plan again")
        elif not seen["exists"] and item["operation"] == "backup":
            reasons.append(f"{dataset}: there is nothing to back up on {item['host']}; correct the register")
        elif not seen["exists"] and seen["needs_from"] == "live":
            reasons.append(f"{dataset}: the live data is gone and the size of the backup is not known; plan again")
        elif item["operation"] == "restore":
            wanted = place(item, seen)
            if wanted.free is not None and wanted.device is not None:
                disks.setdefault((item["host"], wanted.device), []).append((dataset, wanted))
                freed[dataset] = seen["bytes"] if item.get("in_place") else 0
    beside = any(item.get("to") for item in items)  # all of a case's datasets, or none
    for copies in disks.values():
        gained = sum(freed[dataset] for dataset, _ in copies)
        way_out = _ELSEWHERE if beside else "make room there" if gained else _FALL_BACK
        reasons += _short(copies, "the copy" if beside else "staging", way_out, gained)
    return reasons + _vault_reasons(items, evidence, vault_evidence, stored)


_FALL_BACK = "make room there, or choose to replace the live data in place (--in-place: down while it loads)"
_ELSEWHERE = "make room there, or ask for another place"


def occupied(items: Iterable[Json], evidence: Collection[Json]) -> list[str]:
    """Why what is to be restored beside the live data cannot be: something has that name already."""
    found = []
    for item in items:
        seen = answer(item, evidence)
        if item.get("to") and seen and seen["exists"]:
            where = f"{item['to']['place']} on {item['to']['server']}"
            found.append(f"{item['dataset']['id']}: {where} exists already; ask for another place, or move it away")
    return found


def _short(copies: list[tuple[str, Place]], what: str, way_out: str, gained: int = 0) -> list[str]:
    """A reason when ``copies`` do not fit together on their one file system, where ``gained`` bytes come free first."""
    free, first = copies[0][1].free, copies[0][1]
    needs, reserve = sum(each.needs for _, each in copies), max(each.reserve for _, each in copies)
    if free is None or free + gained >= needs + reserve:
        return []
    names, together = ", ".join(dataset for dataset, _ in copies), " together" if len(copies) > 1 else ""
    later = f" and {readable(gained)} will be, once the live data is emptied" if gained else ""
    return [
        f"{names}: {what}{together} needs {readable(needs)} at {first.path}, "
        f"{readable(free)} is free{later} (reserve {readable(reserve)}); {way_out}"
    ]


def _vault_reasons(
    items: Collection[Json], evidence: Collection[Json], vault_evidence: Json | None, stored: Collection[str]
) -> list[str]:
    saved = [item for item in items if item["operation"] == "backup" or item.get("in_place")]
    backups = {item["dataset"]["id"]: answer(item, evidence) for item in saved}
    if vault_evidence is None or not backups:
        return []
    needs = sum(
        seen["bytes"] // NEW_PART if dataset in stored else seen["bytes"] for dataset, seen in backups.items() if seen
    )
    free = vault_evidence["free"]
    if free >= needs:
        return []
    path = vault_evidence["path"]
    return [
        f"{', '.join(backups)}: the vault needs {readable(needs)} at {path}, {readable(free)} is free; make room there"
    ]


def unknown(items: Collection[Json], evidence: Collection[Json], vault_evidence: Json | None) -> list[str]:
    """What could not be looked at, one sentence each; no reason against the plan, but the plan says it."""
    found = []
    for item in items:
        seen = answer(item, evidence)
        if seen is not None and place(item, seen).free is None:
            where = place(item, seen).path or "another server"
            found.append(f"{item['dataset']['id']}: the free space at {where} is not known")
    if vault_evidence is None:
        found.append("vault: the free space is not known; write vault.server and vault.path into sop.yml")
    return found


def readable(octets: int) -> str:
    """``1200000000`` → ``1.20 GB``; decimal units."""
    for limit, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if octets >= limit:
            return f"{octets // limit}.{octets % limit * 100 // limit:02d} {unit}"
    return f"{octets // 1000}.{octets % 1000 // 10:02d} kB"


# -- what stands in the plan -------------------------------------------------------------------------------------------


def row(item: Json, evidence: Collection[Json], prediction: Prediction, vault_evidence: Json | None = None) -> Json:
    """One line of the plan document's body; ConfigError when the host gave no answer (see :func:`assess`)."""
    seen = answer(item, evidence)
    if seen is None:
        raise ConfigError("gave no sizes", where=f"{item['host']}/{item['dataset']['id']}", hint="Plan again.")
    where = place(item, seen)
    return {
        "dataset": item["dataset"]["id"],
        "bytes": seen["bytes"],
        "stage_path": where.path,
        "stage_free": where.free,
        "needs": where.needs,
        "reserve": where.reserve,
        "vault_free": vault_evidence["free"] if vault_evidence else None,
        "predicted_s": prediction.seconds,
        "predicted_downtime_s": prediction.downtime_s,
        "basis": prediction.basis,
    }


def _too_small(where: Place) -> bool:
    return where.free is not None and where.free < where.needs + where.reserve


def risks(
    items: Collection[Json],
    evidence: Collection[Json],
    vault_evidence: Json | None,
    predictions: Mapping[str, Prediction],
) -> list[str]:
    """The form's *risiko*, in Indonesian; ``predictions`` by dataset id."""
    found = []
    for item in items:
        dataset, seen = item["dataset"]["id"], answer(item, evidence)
        if seen is None:
            continue
        where, expected = place(item, seen), predictions.get(dataset)
        if not seen["exists"] and not item.get("to"):
            found.append(f"{dataset}: data yang berjalan tidak ada di {item['host']}, isi hanya dari backup")
        if item.get("in_place"):
            found.append(f"{dataset}: dipulihkan di tempat; selama layanan mati data lama hanya ada di vault")
        if item["operation"] == "backup" and item.get("verify") != "read" and _too_small(where):
            found.append(
                f"{dataset}: ruang di {where.path} kurang untuk memulihkan; backup hanya akan dibuktikan dengan dibaca"
            )
        elif where.free is None:
            found.append(f"{dataset}: sisa ruang untuk salinan tidak dapat diperiksa")
        elif not item.get("in_place") and where.free - where.needs < 2 * where.reserve:
            left = indonesian.format_size(max(0, where.free - where.needs))
            found.append(f"{dataset}: setelah salinan dibuat, ruang yang tersisa di {where.path} hanya {left}")
        if item["operation"] == "restore" and seen.get("sessions"):
            found.append(f"{dataset}: {seen['sessions']} sesi sedang memakai basis data dan akan diputus")
        if item["operation"] == "restore" and seen.get("standbys"):
            found.append(f"{dataset}: {seen['standbys']} server siaga (standby) ikut menerima perubahan")
        if expected and not expected.samples:
            found.append(f"{dataset}: perkiraan lama adalah anggapan, belum ada catatan")
        limit = item.get("max_downtime")
        if expected and expected.downtime_s is not None and limit is not None and expected.downtime_s > limit:
            words = [indonesian.format_duration(seconds) for seconds in (expected.downtime_s, limit)]
            found.append(f"{dataset}: perkiraan layanan mati {words[0]} melampaui batas {words[1]}")
    if vault_evidence is None:
        found.append("sisa ruang vault tidak diketahui")
    return found


# -- what the records tell ---------------------------------------------------------------------------------------------


def history(site: Site) -> dict[str, list[Json]]:
    """Successful executions by dataset, oldest first, from the archive's records:
    ``{"operation", "bytes", "seconds", "downtime_s", "at", "record"}`` (``downtime_s`` None where no service stopped).

    ConfigError when a record cannot be read.
    """
    runs, sizes = [], dict[str, int]()
    for record in archive.list_records(site.archive):
        with _named(record.name):
            try:
                evidence = json.loads((record / "data" / "evidence.json").read_bytes())
                result = json.loads((record / "data" / "run" / "result.json").read_bytes())
            except FileNotFoundError:
                continue  # a case's record, or a supplement
            sizes |= {entry["snapshot"]: entry["bytes"] for entry in evidence if _is_backup(entry)}
            if not result.get("check"):
                runs.append((record.name, evidence, result))
    found: dict[str, list[Json]] = {}
    for name, evidence, result in runs:
        with _named(name):
            done = executions(evidence, sizes, result["started"], result["finished"])
        for dataset, facts in done.items():
            found.setdefault(dataset, []).append({**facts, "record": name})
    return {dataset: sorted(entries, key=lambda entry: str(entry["at"])) for dataset, entries in found.items()}


def executions(evidence: list[Json], sizes: Mapping[str, int], started: str, finished: str) -> dict[str, Json]:
    """What one run brought to its end, by dataset: :func:`history`'s entry without the record's name.

    ``sizes``: bytes of the restored backups by snapshot; ``started`` and ``finished`` are the run's.
    """
    done = finished_datasets(evidence, sizes)
    total, span = sum(own for own, _ in done.values()), clock.seconds_between(started, finished)
    # what is neither this dataset's nor another's own (connecting, preparing) is counted to each
    return {dataset: {**facts, "seconds": max(1, own, span - (total - own))} for dataset, (own, facts) in done.items()}


@contextmanager
def _named(record: str) -> Iterator[None]:
    """A record that is not as runs write it is an error that names it."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"cannot be read for a prediction ({type(error).__name__})"
        raise ConfigError(reason, where=record, hint="Run: sopctl audit verify.") from error


def _is_backup(entry: Json) -> bool:
    return entry.get("kind") == "backup" and bool(entry.get("snapshot")) and not entry.get("failed")


def finished_datasets(evidence: list[Json], sizes: Mapping[str, int]) -> dict[str, tuple[int, Json]]:
    """What a run brought to its end: dataset → (seconds that its own steps took, facts)."""
    by_dataset: dict[str, dict[str, Json]] = {}
    for entry in evidence:
        if entry.get("dataset") and not entry.get("failed"):
            by_dataset.setdefault(entry["dataset"], {})[entry["kind"]] = entry
    found = {}
    for dataset, steps in by_dataset.items():
        backup = "backup" in steps and not {"empty", "swap"} & set(steps)  # a restore in place makes a backup first
        done = _backup_run(steps) if backup else _restore_run(steps, evidence, sizes)
        if done:
            found[dataset] = done
    return found


def _backup_run(steps: Mapping[str, Json]) -> tuple[int, Json] | None:
    stored, proof = steps["backup"], steps.get("verify")
    if stored.get("reused") or not stored.get("snapshot") or not proof or not proof.get("ok"):
        return None
    own = sum(clock.seconds_between(step["started"], step["finished"]) for step in (stored, proof))
    return own, {"operation": "backup", "bytes": stored["bytes"], "downtime_s": None, "at": stored["started"]}


def _restore_run(steps: Mapping[str, Json], evidence: list[Json], sizes: Mapping[str, int]) -> tuple[int, Json] | None:
    if "revert" in steps or not ("place" in steps or {"stage", "swap", "finalise"} <= set(steps)):
        return None
    stage = steps.get("stage") or steps["place"]
    if not stage.get("changed") or stage.get("snapshot") not in sizes:
        return None  # a resumed run did not stage anew
    down = _downtime(evidence)
    in_place = "backup" in steps  # all of it is downtime, which says nothing of a swap's
    own = (down or 0) + (0 if in_place else sum(step.get("duration_ms", 0) for step in steps.values()) // 1000)
    size, operation = sizes[stage["snapshot"]], "in-place" if in_place else "restore"
    return own, {"operation": operation, "bytes": size, "downtime_s": down, "at": stage["started"]}


def _downtime(evidence: list[Json]) -> int | None:
    services = [entry for entry in evidence if entry.get("kind") == "service" and not entry.get("failed")]
    stopped = [str(entry["at"]) for entry in services if entry.get("state") == "stopped" and entry.get("at")]
    started = [
        str(entry.get("healthy_at") or entry["at"])
        for entry in services
        if entry.get("state") == "started" and (entry.get("healthy_at") or entry.get("at"))
    ]
    return clock.seconds_between(min(stopped), max(started)) if stopped and started else None
