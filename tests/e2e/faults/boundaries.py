# SPDX-License-Identifier: Apache-2.0
"""The boundaries of a restore's stages, as ``case execute --json`` tells them while it runs.

One line a boundary: what kind of evidence, in which state, from which host says that it has been passed. A boundary is
reached with the last line that says it, as several hosts may.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.e2e.faults.subjects import Subject


@dataclass(frozen=True)
class Boundary:
    """``on``: whose evidence counts: ``data`` (the dataset's host) or ``service`` (its service's, which comes last)."""

    name: str
    kind: str = ""
    state: str = ""
    on: str = "data"
    task: str = ""
    wait: float = 0.0  # seconds after the line, to be in the middle of what it began

    def passed(self, line: str, subject: Subject) -> bool:
        """Whether a line of progress says that the boundary has been passed."""
        try:
            told = json.loads(line).get("progress")
        except (ValueError, AttributeError):
            return False
        if not isinstance(told, dict):
            return False
        if self.task:
            return self.task in str(told.get("task", ""))
        host = subject.host if self.on == "data" else subject.service_host
        # a switch tells its phase, everything else its state
        state = told.get("phase") if self.kind == "switch" else told.get("state")
        return (told.get("kind"), state, told.get("host")) == (self.kind, self.state, host)


BOUNDARIES = {
    boundary.name: boundary
    for boundary in (
        Boundary("staging", task="Stage each dataset beside the live data", wait=0.9),
        Boundary("staged", "stage", "staged"),
        Boundary("armed", "switch", "armed", on="service"),
        Boundary("stopped", "service", "stopped", on="service"),
        Boundary("quiesced", "quiesce", "quiesced"),
        Boundary("swapped", "swap", "swapped"),
        Boundary("committed", "switch", "committed"),
        Boundary("started", "service", "started", on="service"),
        Boundary("disarmed", "switch", "disarmed", on="service"),
        Boundary("reverting", "switch", "aborted"),
    )
}
