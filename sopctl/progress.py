# SPDX-License-Identifier: Apache-2.0
"""How far a running backup, proof or staging has come, as a host says it, and how long it will take.

It is shown and forgotten: no record, no decision and no exit code depends on it. What a host says is taken for what it
is, so a message that is not exactly one of ours about this plan is dropped without a word.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

from sopctl import clock
from sopctl.models import Json

#: name of the event among the run's own
EVENT = "sop_progress"
WHAT = ("backup", "verify", "stage")
MOST = 1 << 62
#: seconds of the past that the pace is taken from
WINDOW = 30.0
#: an estimate that says more than this is not worth saying
LONGEST = 100 * 3600


@dataclass(frozen=True)
class Advance:
    """One state. ``total`` is None where nobody knows it, an ``estimate`` where it is about right; bytes."""

    host: str
    dataset: str
    what: str
    done: int
    total: int | None
    estimate: bool
    started: str
    at: str

    @property
    def percent(self) -> int | None:
        """Whole percent, rounded down."""
        return None if self.total is None else min(100, self.done * 100 // self.total)

    @property
    def moved(self) -> bool:
        """All bytes have passed; what follows is comparing."""
        return self.total is not None and not self.estimate and self.done >= self.total


def advance_of(message: Any, plan: Json) -> Advance | None:
    """The state that ``message`` tells of a dataset of ``plan`` on the host that is to do it; None for anything else."""
    if not isinstance(message, dict):
        return None
    host, dataset, what = (message.get(key) for key in ("host", "dataset", "what"))
    if what not in WHAT or not any((_place(i, what), i["dataset"]["id"]) == (host, dataset) for i in plan["items"]):
        return None
    done, total, estimate = message.get("done"), message.get("total"), message.get("estimate", False)
    if not _is_count(done) or not (total is None or (_is_count(total) and total > 0)) or not isinstance(estimate, bool):
        return None
    started, at = message.get("started"), message.get("at")
    if not all(isinstance(moment, str) and clock.is_time(moment) for moment in (started, at)):
        return None
    if total is not None and done > total:  # an estimate that was too low; a dump's own size cannot be
        total = None
    return Advance(str(host), str(dataset), str(what), done, total, estimate, str(started), str(at))


def _place(item: Json, what: str) -> Any:
    """Host of the item that ``what`` is done on: only a proof may be another's business."""
    return ((what == "verify" and item.get("drill")) or item)["host"]


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < MOST


def listener(plan: Json, progress: Callable[[Json], None]) -> Callable[[Any], None]:
    """What the gate's socket does with a message of this kind: the run's ``progress`` gets it as an event."""

    def hear(message: Any) -> None:
        advance = advance_of(message, plan)
        if advance is not None:
            progress({"event": EVENT, "event_data": asdict(advance)})

    return hear


class Pace:
    """Says from what it has seen how many seconds are left. ``now`` is our own clock; a host's may be wrong."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: dict[tuple[str, str, str, str], deque[tuple[float, int]]] = {}

    def seconds_left(self, advance: Advance) -> int | None:
        """Seconds until the last byte has passed; None while nothing can be said."""
        key = (advance.host, advance.dataset, advance.what, advance.started)
        seen = self._seen.setdefault(key, deque())
        now = self._now()
        if seen and advance.done < seen[-1][1]:
            seen.clear()  # begun anew
        seen.append((now, advance.done))
        while len(seen) > 2 and seen[1][0] <= now - WINDOW:
            seen.popleft()
        if advance.total is None:
            return None
        (first, before), (last, done) = seen[0], seen[-1]
        if len(seen) == 1:  # so far only the host knows how long it took
            first, before = now - clock.seconds_between(advance.started, advance.at), 0
        if last - first < 1 or done <= before:
            return None
        left = (advance.total - done) * (last - first) / (done - before)
        return round(left) if left <= LONGEST else None
