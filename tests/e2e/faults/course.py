# SPDX-License-Identifier: Apache-2.0
"""One cell of the fault matrix, run: a restore with a writer, the fault at its boundary, the way to the end, the proof."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.checks import Done, record_json, wait_until
from tests.e2e.faults import oracle
from tests.e2e.faults.boundaries import BOUNDARIES, Boundary
from tests.e2e.faults.injectors import FAULTS, Fault, pauses, turn_green, turn_red, undo_all
from tests.e2e.faults.matrix import Cell
from tests.e2e.faults.outcomes import Outcome
from tests.e2e.faults.subjects import Subject
from tests.e2e.running import Running, execute
from tests.e2e.traffic import Writer
from tests.lab.probe import wait_healthy
from tests.lab.system import LabError
from tests.support.site_builder import SiteBuilder

#: short, so that a cell in which only the dead man's switch helps does not take long; seconds. A machine that is busy with
#: other things needs more, or the switch fires in the middle of an ordinary run
MAX_DOWNTIME = int(os.environ.get("FAULTS_MAX_DOWNTIME", "90"))
#: how long a service may take to be healthy; twice this and the steps around must fit into the max downtime
HEALTH_TIMEOUT = 5
#: seconds after the deadline in which a switch that has fired has the service up again
SETTLING = 40
#: seconds until a service is up again on a host that was killed, however the run ended: its database looks through its files
BOOTING = 60
RUN_LIMIT = 240
SAYS = {"berhasil": oracle.NEW, "gagal": oracle.OLD, "gagal_dikembalikan": oracle.OLD}


@dataclass
class Bench:
    """A site with a backup of one subject, over which cells are run one after the other."""

    subject: Subject
    site: SiteBuilder
    new: dict[str, Any]
    first: int = 0
    trouble: list[str] = field(default_factory=list)

    def reset(self) -> oracle.Oracle:
        """The service runs on data that is not the backup's, nothing is kept beside it, and no fault is left."""
        subject = self.subject
        undo_all(subject)
        if self.trouble:
            self.heal()
        subject.forget()
        subject.lab.exec(subject.service_host, f"systemctl start {subject.unit}")
        assert wait_healthy(subject.health, 20), f"{subject.health} does not answer before the cell begins"
        subject.change()
        return oracle.Oracle(subject, subject.facts(), self.new)

    def heal(self) -> None:
        """After a cell that failed: no switch, no hold, no lock of a dead command, the data anew."""
        subject = self.subject
        shutil.rmtree(self.site.root / ".state/locks", ignore_errors=True)
        subject.lab.forget_switches(*{subject.host, subject.service_host})
        subject.anew()
        self.trouble = []

    def run(self, cell: Cell) -> Outcome:
        """Run one cell; whatever is not as it must be stands in the outcome's ``failed``."""
        began = time.monotonic()
        self.first = max(self.first + 100_000, int(time.time()) % 10_000 * 100_000)
        try:
            course = Course(self, cell, self.reset())
            course.run()
        except (AssertionError, LabError) as error:
            self.trouble = [" ".join(str(error).split())[:1500]]
            return Outcome(cell.name, "", "", "", time.monotonic() - began, self.trouble[0])
        self.trouble = course.wrong
        return Outcome(
            cell.name,
            course.first,
            course.then,
            course.record,
            time.monotonic() - began,
            "; ".join(course.wrong)[:1500],
        )


class Course:
    """The course of one cell."""

    def __init__(self, bench: Bench, cell: Cell, words: oracle.Oracle) -> None:
        self.bench, self.subject, self.site, self.oracle = bench, bench.subject, bench.site, words
        self.boundary: Boundary = BOUNDARIES[cell.boundary]
        self.fault: Fault = FAULTS[cell.fault]
        self.case = self.site.approved(self.subject.dataset)
        self.wrong: list[str] = []
        self.first = self.then = self.record = ""
        self.result: dict[str, Any] = {}

    def must(self, true: bool, otherwise: str) -> None:
        """Note what is not as it must be, and go on: the rest tells more."""
        if not true:
            self.wrong.append(otherwise)

    def run(self) -> None:
        """The whole of it."""
        since = time.time()
        with Writer(self.subject.rows, body=self.subject.row, first=self.bench.first, pause=0.05) as writer:
            code = self.hit()
            took = time.time() - since
            self.fault.undo(self.subject)
            due = self.due()
            answers = wait_healthy(self.subject.health, MAX_DOWNTIME + SETTLING if due else BOOTING)
            # only a run that has said so may leave the service down
            self.must(answers or code == 21, f"the service does not answer after the run (exit {code})")
            word = self.oracle.verdict()
            self.must(not word.startswith(oracle.TORN), f"after the run the data is {word}")
            self.first = f"exit {code} after {took:.0f} s, {word}, {'up' if answers else 'down and held'}"
            self.again(code, due)
            self.must(wait_healthy(self.subject.health, 20), "the service does not answer after execute once more")
            word = self.oracle.verdict()
            self.must(not word.startswith(oracle.TORN), f"after execute once more the data is {word}")
            self.then += f", {word}"
            self.agree(word, once_more=due)
            more = len(writer.kept)
            self.must(wait_until(lambda: len(writer.kept) > more, 15), "the service takes no writes at the end")
        self.guarantees(writer, word, pauses(self.subject, since))

    def hit(self) -> int:
        """Execute, and have the fault happen at its boundary; the exit code (-9: it was killed)."""
        way_back = self.boundary.name == "reverting"
        if way_back:
            turn_red(self.subject, None)
        running = execute(self.site, self.case)
        guard = threading.Timer(RUN_LIMIT, running.process.kill)
        guard.start()
        try:
            self.watch(running)
            if way_back:
                turn_green(self.subject)
            self.fault.inject(self.subject, running)
            code = running.end()
        finally:
            guard.cancel()
        self.must(
            (guard.finished.is_set() and code != -9) or self.fault.name == "sopctl_killed", f"hung for {RUN_LIMIT} s"
        )
        self.keep(code, running.text)
        return code

    def watch(self, running: Running) -> None:
        """Read until the boundary is passed."""
        assert running.process.stdout is not None
        for line in running.process.stdout:
            running.lines.append(line)
            if self.boundary.passed(line, self.subject):
                time.sleep(self.boundary.wait)
                return
        raise AssertionError(f"the run ended before {self.boundary.name}: {running.text[-600:]}")

    def keep(self, code: int, text: str) -> None:
        """Remember a run's result, if it came to one."""
        begin = re.search(r"^\{$", text, re.MULTILINE)
        if code in {0, 20, 21, 22, 30} and begin:
            self.result = json.JSONDecoder().raw_decode(text[begin.start() :])[0]

    def due(self) -> bool:
        """Whether the execution is to be run again; over it is when its document is filed."""
        step = self.site.run_json("case", "show", self.case)["due"]
        return bool(step) and step["act"] == "execute"

    def again(self, code: int, due: bool) -> None:
        """Execute once more, as the operator would: after taking over what a dead command held."""
        if code == -9:
            self.site.run("case", "take-over", self.case, "--reason", "sopctl dimatikan", as_="pelaksana")
        done = self.once_more()
        if not due:
            self.must(code in {0, 20}, f"an execution that came to {code} is over")
            self.must(done.returncode == 10, f"an execution that ended ({code}) was run again: exit {done.returncode}")
            self.then = "refused again"
            return
        for _ in range(2):  # a run that had to leave the service down may be run until it does not
            self.keep(done.returncode, done.stdout)
            if not self.due():
                break
            done = self.once_more()
        self.must(done.returncode in {0, 20}, f"execute once more: exit {done.returncode}: {tail(done)}")
        self.then = f"exit {done.returncode}"

    def once_more(self) -> Done:
        """One execution; what another step or a lock keeps waiting is tried again for a while."""
        deadline = time.monotonic() + 60
        while True:
            done = self.site.run("case", "execute", self.case, "--json", as_="pelaksana", check=False)
            said = done.stdout + done.stderr
            busy = "another run holds" in said or "another step of this case" in said or done.returncode == 11
            if not busy or time.monotonic() > deadline:
                return done
            time.sleep(1)

    def agree(self, word: str, *, once_more: bool) -> None:
        """The record, of the run or of the execution ``once_more``, says which data is live."""
        if not self.result:
            self.must(False, "no run of the case came to a result")
            return
        form = record_json(Path(str(self.result["record"])), "form.json")
        said = str(form["header"]["result"])
        self.must(SAYS.get(said) == word, f"the record says {said}, the live data is {word}")
        # what was never swapped must come to its end once nothing is in its way
        self.must(said != "gagal" or not once_more, f"execute once more did not restore: {self.result['failures']}")
        self.record = said

    def guarantees(self, writer: Writer, word: str, stopped: list[tuple[float, float]]) -> None:
        """What a user may rely on: nothing acknowledged is lost, taken while stopped, or there in part."""
        written = self.subject.written()
        lost = oracle.lost(writer, written)
        self.must(not lost, f"{len(lost)} acknowledged writes lie nowhere: {sorted(lost)[:5]}")
        torn = oracle.torn(written)
        self.must(not torn, f"torn writes: {torn}")
        early = oracle.misplaced(writer, written, stopped[0][0] if stopped else None, word.split(maxsplit=1)[0])
        self.must(not early, f"{len(early)} writes of before the stop are not with the old data: {sorted(early)[:5]}")
        taken = oracle.accepted_while_stopped(writer, stopped)
        self.must(not taken, f"{len(taken)} writes were taken while the service was stopped")
        self.must(len(writer.kept) > 5, "the writer wrote next to nothing, so nothing was shown")


def tail(done: Done) -> str:
    """The end of what a command said, on one line."""
    return " ".join((done.stderr + done.stdout)[-500:].split())
