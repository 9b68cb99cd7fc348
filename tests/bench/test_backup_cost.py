# SPDX-License-Identifier: Apache-2.0
"""A scheduled backup costs little more than its dump piped into restic by hand, and its memory does not grow with the data.

    make bench PYTEST="-k backup_cost"                        0.1, 1 and 4 GB, each way three times in turn
    BENCH_SIZES=100,400 BENCH_REPEATS=1 make bench PYTEST="-k backup_cost"

Counted is the whole of ``sopctl schedule run --due``: starting, looking for the vault, the dump, signing, filing. The proof by
restoring is counted apart, by the events in the record, since by hand there is none. Both ways begin with an empty repository
of the same vault; borgmatic's lies on the database's host, neither encrypted nor compressed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import pytest

from tests.bench import rivals
from tests.bench.backing_up import Scheduled, by_bare_tools, by_borgmatic, by_schedule
from tests.bench.subjects import SUBJECTS, Subject
from tests.bench.table import RESULT
from tests.bench.test_downtime import REPEATS, SIZES, lab  # noqa: F401  (lab is a fixture)
from tests.e2e.conftest import SMALL_MB
from tests.lab.hosts import Lab

MAX_RATIO = 1.15
#: what is less is mostly Ansible's start and the form, so the ratio is shown and not judged
JUDGED = 2000  # megabytes
MAX_MODULE = 100.0  # megabytes


@dataclass
class Size:
    """All backups at one size, in seconds."""

    megabytes: int
    bytes: int
    ours: list[Scheduled] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    borgmatic: list[float] = field(default_factory=list)

    def of(self, part: str) -> float:
        """The median of a part of our runs."""
        return float(median(getattr(run, part) for run in self.ours))

    @property
    def ratio(self) -> float:
        return self.of("cost") / median(self.bare)

    @property
    def module_mb(self) -> float:
        return max(run.module_mb for run in self.ours)

    def line(self) -> str:
        proof = next((run.proof for run in self.ours if run.proven_by == "restore"), 0.0)
        parts = "".join(f"{self.of(part):>8.1f}" for part in ("cost", "stored", "around"))
        bare, borgmatic = median(self.bare), median(self.borgmatic)
        return (
            f"{self.bytes / 1e6:>5.0f} MB{len(self.ours):>5}{parts}{bare:>8.1f}{borgmatic:>10.1f}"
            f"{self.ratio:>8.2f}{self.of('stored') / bare:>8.2f}{self.of('cost') / borgmatic:>10.2f}"
            f"{proof:>8.1f}{self.module_mb:>8.0f}{max(run.restic_mb for run in self.ours):>8.0f}"
        )


HEADING = (
    "PostgreSQL: seconds of a scheduled backup, its proof apart, beside pg_dump | restic and borgmatic; medians\n"
    f"{'':<8}{'runs':>5}{'whole':>8}{'stored':>8}{'around':>8}{'bare':>8}{'borgmatic':>10}"
    f"{'/bare':>8}{'stored/':>8}{'/borgm.':>10}{'proof':>8}{'module':>8}{'restic':>8}"
)


@pytest.fixture
def subject(lab: Lab) -> Iterator[Subject]:  # noqa: F811  (the fixture)
    """The personnel application; its data is small again afterwards."""
    found = SUBJECTS["postgresql"]
    try:
        yield found
    finally:
        rivals.clean(lab, found)
        found.generate(lab, SMALL_MB)


@pytest.mark.lab
def test_backup_cost(subject: Subject, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    sizes: list[Size] = []
    for megabytes in SIZES:
        size = Size(megabytes, subject.generate(lab, megabytes))
        sizes.append(size)
        subject.run(lab, f"{subject.dump} >/dev/null")  # whoever reads new rows first has to mark them
        for number in range(REPEATS):
            size.ours.append(by_schedule(tmp_path, lab, subject, "read" if number else "restore"))
            size.bare.append(by_bare_tools(tmp_path, lab, subject))
            size.borgmatic.append(by_borgmatic(lab, subject))
        keep(sizes)
        with capsys.disabled():
            print("", HEADING, *(each.line() for each in sizes), sep="\n", flush=True)
    with capsys.disabled():
        print(f"this machine's load at the end: {os.getloadavg()[1]:.1f} on {os.cpu_count()} processors", flush=True)
    assert problems(sizes) == []


def keep(sizes: list[Size]) -> None:
    """Write what was measured so far beside the restores' figures."""
    found = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    RESULT.write_text(json.dumps({**found, "backup cost": [asdict(size) for size in sizes]}, indent=1) + "\n")


def problems(sizes: list[Size]) -> list[str]:
    """What was promised and not kept."""
    found = [
        f"{size.megabytes} MB: the module took {size.module_mb:.0f} MB, {MAX_MODULE:.0f} allowed"
        for size in sizes
        if size.module_mb >= MAX_MODULE
    ]
    if sizes[-1].megabytes >= JUDGED and sizes[-1].ratio > MAX_RATIO:
        found.append(f"{sizes[-1].megabytes} MB: {sizes[-1].ratio:.2f} times the bare tools, {MAX_RATIO} allowed")
    return found
