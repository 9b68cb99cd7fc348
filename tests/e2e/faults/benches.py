# SPDX-License-Identifier: Apache-2.0
"""The benches of one process, and what each of them holds while several processes share the lab."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.e2e.conftest import proven_by_reading
from tests.e2e.faults.course import HEALTH_TIMEOUT, MAX_DOWNTIME, Bench
from tests.e2e.faults.injectors import undo_all
from tests.e2e.faults.subjects import SUBJECTS
from tests.lab.hosts import Lab
from tests.lab.probe import wait_healthy
from tests.lab.site import lab_site


class Benches:
    """One bench an engine, made when it is first asked for."""

    def __init__(self, lab: Lab, folder: Callable[[str], Path]) -> None:
        self.lab, self.folder = lab, folder
        self.made: dict[str, Bench] = {}

    @contextmanager
    def held(self, engine: str) -> Iterator[Bench]:
        """The engine's bench, whose hosts are this process's alone meanwhile."""
        kind = SUBJECTS[engine]
        with ExitStack() as locks:
            for host in sorted({kind.host, kind.service_host}):  # in one order, so that nobody waits in a ring
                locks.enter_context(self.lab.held(f"faults-{host}"))
            yield self._get(engine)

    def _get(self, engine: str) -> Bench:
        if engine not in self.made:
            subject = SUBJECTS[engine](self.lab)
            undo_all(subject)
            folder = self.folder(engine) / f"e2e-{secrets.token_hex(4)}"
            folder.mkdir()
            times = {"max_downtime": f"PT{MAX_DOWNTIME}S", "health_timeout": HEALTH_TIMEOUT}
            site = proven_by_reading(lab_site(folder, self.lab, (subject.dataset,), more=times), True)
            bench = Bench(subject, site, {})
            bench.heal()
            self.lab.exec(subject.service_host, f"systemctl start {subject.unit}")
            assert wait_healthy(subject.health, 20), f"{subject.health} does not answer on new data"
            bench.new = subject.facts()
            site.run("schedule", "run", "--due", as_="pelaksana")
            self.made[engine] = bench
        return self.made[engine]

    def close(self) -> None:
        """Leave the lab as it was found."""
        for engine in self.made:
            with self.held(engine) as bench:
                undo_all(bench.subject)
                bench.heal()
                self.lab.exec(bench.subject.service_host, f"systemctl start {bench.subject.unit}")
                self.lab.exec("vault01", f"rm -rf /srv/vault/*/{bench.site.folder.name}")
