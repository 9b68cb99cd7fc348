# SPDX-License-Identifier: Apache-2.0
"""An archive of 10,000 records is audited at no less than half the speed of sha256sum, and after one new record at once.

    make bench PYTEST="-s -k large_archive"                    BENCH_RECORDS=1000 for less

The records are of scheduled backups, each confirmed: one of its run, one of the case's end, sealed by the real code without
PDFs. Making them takes the most of it (a quarter of an hour). No lab is needed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.agencies import Story
from tests.support.case_site import at_home
from tests.support.many_records import DATASET, Years
from tests.support.site_builder import SiteBuilder

RECORDS = int(os.environ.get("BENCH_RECORDS", "10000"))
TIMES_SHA256SUM = 2.0
INCREMENTAL = 2.0  # seconds
MOST_MB = 300.0
#: with fewer it is mostly the start of Python
JUDGED = 5000
HASHED = "find records -type f -print0 | xargs -0 sha256sum > /dev/null"


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Years:
    folder = tmp_path_factory.mktemp("years")
    site = Story(folder, SiteBuilder(folder)).site
    site.schedule(DATASET)
    return Years(site)


def seconds(work: Callable[[], object]) -> float:
    """Of the faster one of two runs: the files are in memory then."""
    took = []
    for _ in range(2):
        began = time.monotonic()
        work()
        took.append(time.monotonic() - began)
    return min(took)


def audit(site: SiteBuilder, said: Path, *words: str) -> float:
    """Verify; the largest process's memory in MB."""
    with said.open("wb") as stream:
        command = [*site.sopctl, "-C", str(site.root), "audit", "verify", *words]
        process = subprocess.Popen(command, env=site.env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said.read_text()
    return usage.ru_maxrss / 1000


def test_large_archive(years: Years, tmp_path: Path) -> None:
    site = years.builder
    with at_home(site):
        years.first()
        years.more(RECORDS // 2 - 1)
        memory = audit(site, tmp_path / "said", "--full")
        hashed = seconds(lambda: subprocess.run(["sh", "-c", HASHED], cwd=site.root / "archive", check=True))
        full = seconds(lambda: audit(site, tmp_path / "said", "--full"))
        audit(site, tmp_path / "said")
        years.more(1)
        began = time.monotonic()
        audit(site, tmp_path / "said")
        since = time.monotonic() - began
    print(f"{RECORDS} records; sha256sum {hashed:.2f} s; audit verify --full {full:.2f} s, {full / hashed:.2f} of it;")
    print(f"after one new case {since:.2f} s; {memory:.0f} MB; {os.cpu_count()} processors")
    assert full <= TIMES_SHA256SUM * hashed or RECORDS < JUDGED
    assert memory < MOST_MB
    assert since < INCREMENTAL
