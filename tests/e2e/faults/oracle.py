# SPDX-License-Identifier: Apache-2.0
"""Says of live data whether it is wholly old or wholly new, from facts that the code under test had no part in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.e2e.faults.subjects import Kept, Subject
from tests.e2e.traffic import Writer

OLD, NEW, TORN = "old", "new", "TORN"


@dataclass(frozen=True)
class Oracle:
    """``old`` and ``new`` are facts of the data before the restore and of the data that was backed up."""

    subject: Subject
    old: dict[str, Any]
    new: dict[str, Any]

    def __post_init__(self) -> None:
        alike = [key for key in self.old if self.old[key] == self.new.get(key)]
        assert len(alike) < len(self.old), "the data was not changed after the backup, so nothing could be told apart"

    def verdict(self) -> str:
        """``old``, ``new``, or ``TORN`` with what is neither."""
        found = self.subject.facts()
        for word, facts in ((OLD, self.old), (NEW, self.new)):
            if found == facts:
                return word
        wrong = [f"{key}: {_differences(found.get(key), self.old.get(key), self.new.get(key))}" for key in self.old]
        return f"{TORN} ({'; '.join(wrong)})"


def _differences(found: Any, old: Any, new: Any) -> str:
    """What of a fact is neither old nor new, in a few words."""
    if found in (old, new):
        return "as old and new" if old == new else ("old" if found == old else "new")
    if isinstance(found, list) and isinstance(old, list) and isinstance(new, list):
        texts = [str(line) for line in found]
        against = {name: {str(line) for line in side} for name, side in (("old", old), ("new", new))}
        parts = []
        for name, side in against.items():
            more, less = [t for t in texts if t not in side], [t for t in side if t not in set(texts)]
            parts.append(f"against {name} +{len(more)} -{len(less)}: {(more + less)[:3]}")
        return " / ".join(parts)
    return f"neither: {str(found)[:200]}"


def lost(writer: Writer, written: dict[str, Kept]) -> set[int]:
    """Numbers of acknowledged rows that lie nowhere."""
    everywhere: set[int] = set()
    for kept in written.values():
        everywhere |= kept.numbers
    return {answer.number for answer in writer.kept} - everywhere


def torn(written: dict[str, Kept]) -> dict[str, list[int]]:
    """Rows that are there in part, by place."""
    return {place: sorted(kept.torn) for place, kept in written.items() if kept.torn}


def misplaced(writer: Writer, written: dict[str, Kept], stopped: float | None, live: str) -> set[int]:
    """Numbers of rows acknowledged before the first stop that do not lie where the old data is now.

    ``stopped`` is when the service had first stopped (None: never); ``live`` the oracle's word for the live data.
    """
    early = {answer.number for answer in writer.kept if stopped is None or answer.answered < stopped}
    if live == OLD:
        return early - written["live"].numbers
    kept = [rows.numbers for place, rows in written.items() if "__before_" in place]
    return early - frozenset().union(*kept)


def accepted_while_stopped(writer: Writer, pauses: list[tuple[float, float]]) -> set[int]:
    """Numbers of rows acknowledged although they were sent and answered while the service was stopped."""
    return {
        answer.number
        for answer in writer.kept
        for began, ended in pauses
        if answer.sent > began and answer.answered < ended
    }
