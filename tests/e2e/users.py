# SPDX-License-Identifier: Apache-2.0
"""The people who go on working while a restore runs: every lab test that executes a case has them, and what they may rely on.

Nothing acknowledged is lost, taken while the service was stopped, or there in part; and what was acknowledged before the
first stop lies together with the old data, wherever that is now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.e2e.faults import oracle
from tests.e2e.faults.injectors import pauses
from tests.e2e.faults.subjects import SUBJECTS, Subject
from tests.e2e.traffic import Writer
from tests.lab.hosts import Lab
from tests.lab.probe import healthy
from tests.support.site_builder import SiteBuilder

#: datasets that somebody writes to already: a test of what is killed half-way looks when all is over, not in between
_BUSY: set[str] = set()


@contextmanager
def users(lab: Lab, *datasets: str) -> Iterator[None]:
    """Somebody writes through the application of each dataset until the block ends; then what they were told is checked."""
    subjects = [kind(lab) for kind in SUBJECTS.values() if kind.dataset in set(datasets) - _BUSY]
    began = time.time()
    number = int(began * 10) % 1_000_000 * 1000  # rows of other writers lie in the same data
    with ExitStack() as stack:
        working = [
            (subject, healthy(subject.health), stack.enter_context(_writer(subject, number))) for subject in subjects
        ]
        _BUSY.update(subject.dataset for subject in subjects)
        stack.callback(_BUSY.difference_update, {subject.dataset for subject in subjects})
        yield
    for subject, well, writer in working:
        assert writer.kept or not well, f"the writer of {subject.dataset} wrote nothing, so nothing was shown"
        if not writer.kept:  # the test had its data dropped or its service ended before
            continue
        assert broken(subject, writer, began) == []


def _writer(subject: Subject, number: int) -> Writer:
    return Writer(subject.rows, pause=0.1, body=subject.row, first=number)


def broken(subject: Subject, writer: Writer, since: float) -> list[str]:
    """What of the above does not hold for the writer's rows, in words."""
    written, stopped = subject.written(), pauses(subject, since)
    before = {answer.number for answer in writer.kept if not stopped or answer.answered < stopped[0][0]}
    kept = [rows.numbers for place, rows in written.items() if "__before_" in place]
    together = any(before <= numbers for numbers in (written["live"].numbers, *kept))
    found = {
        "lie nowhere": oracle.lost(writer, written),
        "are there in part": {number for numbers in oracle.torn(written).values() for number in numbers},
        "were taken while the service was stopped": oracle.accepted_while_stopped(writer, stopped),
        "of before the stop do not lie together": set() if together else before - written["live"].numbers,
    }
    return [f"{subject.dataset}: {len(rows)} writes {what}: {sorted(rows)[:5]}" for what, rows in found.items() if rows]


def at_work(lab: Lab, site: SiteBuilder) -> Callable[[Sequence[str | Path]], AbstractContextManager[None]]:
    """For ``SiteBuilder.around``: people work while ``case execute`` runs."""

    @contextmanager
    def around(arguments: Sequence[str | Path]) -> Iterator[None]:
        if tuple(map(str, arguments[:2])) != ("case", "execute") or "--check" in arguments:
            yield
            return
        with users(lab, *site.datasets):
            yield

    return around
