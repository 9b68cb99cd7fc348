# SPDX-License-Identifier: Apache-2.0
"""How long backups, their proofs, restores and downtimes took, by the evidence of the records."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from sopctl import capacity, clock
from sopctl.errors import SopctlError
from sopctl.models import Json
from sopctl.report.charts import Chart, Point, chart
from sopctl.report.facts import Facts, Record
from sopctl.report.tongue import Pair, Tongue

Kind = Literal["backup", "drill", "restore", "downtime"]
KINDS: dict[str, Pair] = {
    "backup": ("back up", "backup"),
    "drill": ("uji pulih", "proof by restore"),
    "restore": ("restore", "restore"),
    "downtime": ("layanan mati", "downtime"),
}
_MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, SopctlError)


@dataclass(frozen=True)
class Measure:
    """``seconds`` that something took which began ``at`` (UTC); ``limit``: the longest downtime, where there is one."""

    kind: Kind
    dataset: str
    at: str
    seconds: int
    bytes: int | None
    record: str
    limit: int | None = None

    @property
    def over(self) -> bool:
        """Whether it was longer than allowed."""
        return self.limit is not None and self.seconds > self.limit


@dataclass(frozen=True)
class Drawn:
    """A chart of one dataset and one kind; ``longest`` and ``median`` in seconds."""

    kind: Kind
    dataset: str
    chart: Chart
    count: int
    first: str
    last: str
    longest: int
    median: int
    limit: int | None


def measure(facts: Facts) -> list[Measure]:
    """All measures of the period, the oldest first; what cannot be read is left out."""
    sizes = {backup.snapshot: backup.bytes for backup in facts.backups}
    found: list[Measure] = []
    for record in facts.records:
        if record.operation not in ("backup", "restore"):
            continue
        try:
            found += _of_entries(record)
            found += _of_restores(facts, record, sizes)
        except _MISSHAPEN:
            facts.session.say(f"{record.id}: its durations cannot be read")
    return sorted(found, key=lambda one: (one.at, one.dataset, one.kind))


def _of_entries(record: Record) -> list[Measure]:
    found: list[Measure] = []
    bytes_of: dict[str, int] = {}
    for entry in record.evidence:
        kind: Kind | None = {"backup": "backup", "verify": "drill"}.get(str(entry.get("kind")))  # type: ignore[assignment]
        if kind is None or entry.get("failed") or entry.get("reused") or not entry.get("started"):
            continue
        if kind == "drill" and not entry.get("ok"):
            continue
        dataset = str(entry["dataset"])
        if kind == "backup":
            bytes_of[dataset] = int(entry["bytes"])
        seconds = max(0, clock.seconds_between(str(entry["started"]), str(entry["finished"])))
        found.append(Measure(kind, dataset, str(entry["started"]), seconds, bytes_of.get(dataset), record.id))
    return found


def _of_restores(facts: Facts, record: Record, sizes: dict[str, int]) -> list[Measure]:
    if record.operation != "restore" or not record.started or not record.finished:
        return []
    found: list[Measure] = []
    done: dict[str, Json] = capacity.executions(record.evidence, sizes, record.started, record.finished)
    for dataset, one in done.items():
        found.append(Measure("restore", dataset, record.started, one["seconds"], one["bytes"], record.id))
        if one["downtime_s"] is not None:
            known = facts.session.site.datasets.get(dataset)
            limit = clock.duration_seconds(known.max_downtime) if known else None
            found.append(Measure("downtime", dataset, record.started, one["downtime_s"], None, record.id, limit))
    return found


def drawn(found: list[Measure], tongue: Tongue) -> list[Drawn]:
    """A chart for each dataset and kind, by dataset."""
    groups: dict[tuple[str, Kind], list[Measure]] = defaultdict(list)
    for one in found:
        groups[one.dataset, one.kind].append(one)
    order = list(KINDS)
    made = []
    for (dataset, kind), group in sorted(groups.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        points = [
            Point(
                int(clock.parse(one.at).timestamp()),
                one.seconds,
                f"{tongue.time(one.at)}: {tongue.duration(one.seconds)}",
            )
            for one in group
        ]
        values = sorted(one.seconds for one in group)
        limit = group[-1].limit
        made.append(
            Drawn(
                kind,
                dataset,
                chart(points, limit),
                len(group),
                group[0].at,
                group[-1].at,
                values[-1],
                values[len(values) // 2],
                limit,
            )
        )
    return made
