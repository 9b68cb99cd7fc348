# SPDX-License-Identifier: Apache-2.0
"""Downtime does not grow with the data: the same restore of little and of much, beside how it is usually done.

    make bench                                    0.1, 1 and 4 GB; half an hour for each engine on two cores
    BENCH_SIZES=100,1000 BENCH_REPEATS=1 make bench PYTEST="-k postgresql"

The smallest and the largest are restored BENCH_REPEATS times in turn and their medians compared: machines are noisy.
What lies between is restored once, and so are the rivals.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import rivals, table
from tests.bench.measuring import Measured, restore
from tests.bench.subjects import SUBJECTS, Subject
from tests.e2e.conftest import SMALL_MB
from tests.lab.hosts import Lab
from tests.lab.site import lab_site
from tests.lab.system import LabError
from tests.support.site_builder import SiteBuilder

SIZES = sorted(int(word) for word in os.environ.get("BENCH_SIZES", "100,1000,4000").split(","))
REPEATS = int(os.environ.get("BENCH_REPEATS", "3"))
MAX_DOWNTIME = 5.0  # seconds
MAX_RATIO = 1.3
#: a restore that takes longer than this is seen to come on
SEEN = 1000  # megabytes


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The lab, this module's alone; small data stays in it."""
    found = Lab.load()
    with found.held("hosts"):
        yield found


@pytest.fixture
def subject(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Subject]:
    """The application; its data is small again afterwards, and nothing is left of the rivals."""
    found = SUBJECTS[request.param]
    try:
        yield found
    finally:
        rivals.clean(lab, found)
        found.generate(lab, SMALL_MB)


def backed_up(folder: Path, lab: Lab, subject: Subject) -> SiteBuilder:
    """A site with a backup of the application's data as it is now."""
    place = folder / f"bench-{secrets.token_hex(4)}"
    place.mkdir()
    site = lab_site(place, lab, (subject.dataset,))
    site.edit("sop.yml", "  verify: restore", "  verify: read")  # how a backup is proven is not the matter here
    site.run("schedule", "run", "--due", as_="pelaksana")
    return site


def rival(work: object, lab: Lab, subject: Subject) -> Measured | str:
    """What a rival needed, or why it failed, in one line."""
    assert callable(work)
    try:
        found = work(lab, subject)
    except LabError as error:
        return f"failed: {' '.join(str(error).split())[-300:]}"
    assert isinstance(found, Measured)
    return found


@pytest.mark.lab
@pytest.mark.parametrize("subject", list(SUBJECTS), indirect=True)
def test_downtime_does_not_grow(subject: Subject, lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes: list[table.Size] = []

    def say(*words: str) -> None:
        with capsys.disabled():
            print("\n".join(words), flush=True)

    say("")
    for megabytes in SIZES:
        size = table.Size(megabytes, subject.generate(lab, megabytes))
        sizes.append(size)
        site = backed_up(tmp_path, lab, subject)
        try:
            for _ in range(REPEATS if megabytes in (SIZES[0], SIZES[-1]) else 1):
                size.ours.append(restore(site, lab, subject))
                subject.forget(lab)
                say(
                    f"{subject.engine} {megabytes} MB: out of use for {size.ours[-1].outage:.2f} s of {size.ours[-1].took:.1f}"
                )
        finally:
            lab.exec("vault01", f"rm -rf /srv/vault/*/{site.folder.name}")
        rivals.prepare(lab, subject)
        size.borgmatic = rival(rivals.by_borgmatic, lab, subject)
        size.plain = rival(rivals.by_plain_tools, lab, subject)
        rivals.clean(lab, subject)
        table.keep(subject.engine, sizes)
    say("", *table.lines(subject.engine, sizes), "")
    assert problems(sizes) == []


def problems(sizes: list[table.Size]) -> list[str]:
    """What was promised and not kept."""
    found: list[str] = []
    for size in sizes:
        forms = [run.form for run in size.ours]
        if not 0 < size.outage < MAX_DOWNTIME or any(form is None or form > MAX_DOWNTIME for form in forms):
            found.append(
                f"{size.megabytes} MB: {size.outage:.2f} s out of use, {forms} on the forms, {MAX_DOWNTIME} allowed"
            )
        for run in size.ours:
            done = [line["done"] for line in run.progress if line["what"] == "stage"]
            if done != sorted(done) or (size.megabytes >= SEEN and len(set(done)) < 2):
                found.append(f"{size.megabytes} MB: who waited for a restore of {run.took:.0f} s saw {done} of it")
    if table.ratio(sizes) > MAX_RATIO:
        found.append(f"largest / smallest: {table.ratio(sizes):.2f}, {MAX_RATIO} allowed")
    return found
