# SPDX-License-Identifier: Apache-2.0
"""One restore, measured: how long nobody could use the application, and what memory it took where."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.subjects import Subject
from tests.lab.hosts import Lab
from tests.lab.probe import Probe
from tests.support.site_builder import SiteBuilder

#: prints "NAME KILOBYTES" of the largest interpreter and the largest restic of a host
PEAKS = r"""
for folder in /proc/[0-9]*; do
  awk '/^Name:/ {name = $2} /^VmHWM:/ {print name, $2}' $folder/status 2>/dev/null || true
done | awk '/^(python3|restic)/ {kind = substr($1, 1, 6); if ($2 > most[kind]) most[kind] = $2} END {for (k in most) print k, most[k]}'
"""


@dataclass
class Measured:
    """One run. Seconds and megabytes; ``outage`` as a user saw it, ``form`` as the record says it (whole seconds)."""

    outage: float
    took: float
    form: int | None = None
    controller_mb: float | None = None
    module_mb: float | None = None
    restic_mb: float | None = None
    progress: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def peaks(lab: Lab, host: str) -> Iterator[dict[str, float]]:
    """The high-water marks of a host's processes meanwhile, in megabytes: ``python`` and ``restic``."""
    most: dict[str, float] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            for line in lab.exec(host, PEAKS, check=False).splitlines():
                name, _, kilobytes = line.partition(" ")
                most[name] = max(most.get(name, 0.0), int(kilobytes) / 1000)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def restore(site: SiteBuilder, lab: Lab, subject: Subject) -> Measured:
    """Restore by an approved case while a user watches; AssertionError unless it is a success."""
    case = site.approved(subject.dataset)
    command = [*site.sopctl, "-C", str(site.root), "case", "execute", case, "--json", "--as", "pelaksana"]
    out, err = site.folder / "out", site.folder / "err"
    begin = time.monotonic()
    with peaks(lab, subject.host) as most, Probe(subject.url(lab)) as probe:
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command, env=site.env, cwd=site.folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )
            _pid, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        took = time.monotonic() - begin
        time.sleep(0.5)
    assert process.returncode == 0, f"{out.read_text()}\n{err.read_text()}"
    executed = json.loads(out.read_text())
    assert executed["result"] == "berhasil", executed
    return Measured(
        outage=probe.longest,
        took=took,
        form=executed["downtime_s"],
        controller_mb=usage.ru_maxrss / 1000,  # the largest of sopctl and all it started
        module_mb=most.get("python"),
        restic_mb=most.get("restic"),
        progress=progress_of(err),
    )


def progress_of(stderr: Path) -> list[dict[str, Any]]:
    """The progress lines of a ``--json`` run."""
    lines = [json.loads(line) for line in stderr.read_text().splitlines()]
    return [line for line in lines if line.get("event") == "progress"]


def stopped_meanwhile(lab: Lab, subject: Subject, work: Callable[[], object]) -> Measured:
    """The way of others: the application is stopped, ``work`` loads the data, the application is started again."""
    begin = time.monotonic()
    with Probe(subject.url(lab)) as probe:
        subject.service(lab, "stop")
        try:
            work()
        finally:
            subject.service(lab, "start")
        time.sleep(0.5)
    return Measured(outage=probe.longest, took=time.monotonic() - begin)
