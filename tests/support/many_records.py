# SPDX-License-Identifier: Apache-2.0
"""Years of records in minutes: one scheduled backup really runs, and what Ansible did then is sealed again and again.

All but Ansible is the real code each time: gate, plan and its signature, locks, the ledger's lines, forms (no PDF), bags, the
inspector's confirmation, the closed case's bag, checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import Any
from unittest.mock import patch

from sopctl import execution, standing, workflow
from sopctl import plan as plans
from sopctl.runner import RunOutcome, RunRequest
from sopctl.session import Session
from sopctl.site import Site
from tests.support.site_builder import SiteBuilder

DATASET = "arsip"


class Years:
    """A site whose scheduled backup of ``arsip`` is made to have happened many times."""

    def __init__(self, site: SiteBuilder) -> None:
        self.site = Site(site.root)
        self.outcome = RunOutcome()
        self.artifacts: dict[str, bytes] = {}
        self.hosts: dict[str, Any] = {}
        self.case = ""

    def _session(self) -> Session:
        return Session(self.site)

    def _backup(self) -> str:
        done = standing.run_schedule(
            self._session(), "pelaksana", None, only=[DATASET], check=False, progress=lambda _: None
        )
        assert done and done.result == "berhasil", done
        return done.case.id

    def first(self) -> None:
        """One that really runs; it is what the others are like."""
        real, hosts = execution.run, plans.inventory_hosts

        def kept(request: RunRequest, *args: Any) -> RunOutcome:
            self.outcome = real(request, *args)
            self.artifacts = {path.name: path.read_bytes() for path in request.keep.iterdir()}
            return self.outcome

        def listed(*args: Any) -> dict[str, Any]:
            self.hosts = hosts(*args)
            return self.hosts

        with patch.object(execution, "run", kept), patch.object(plans, "inventory_hosts", listed):
            self.case = self._backup()
        self._confirm(self.case)

    def more(self, cases: int) -> None:
        """So many cases, each with a record of its run and one of its end."""
        with (
            patch.object(execution, "run", self._again),
            patch.object(plans, "inventory_hosts", lambda *_: self.hosts),
        ):
            for _ in range(cases):
                self._confirm(self._backup())

    def _again(self, request: RunRequest, *_args: Any) -> RunOutcome:
        """What Ansible did, with snapshots of its own."""
        for name, data in self.artifacts.items():
            (request.keep / name).write_bytes(data)
        text = json.dumps(self.outcome.evidence)
        found = {
            entry[key]
            for entry in self.outcome.evidence
            for key in ("snapshot", "manifest_snapshot")
            if entry.get(key)
        }
        for snapshot in found:
            text = text.replace(snapshot, secrets.token_hex(32))
        return dataclasses.replace(self.outcome, evidence=json.loads(text.replace(self.case, request.keep.name[:13])))

    def _confirm(self, case: str) -> None:
        workflow.act(self._session(), case, "confirm", "kabid", None, workflow.confirmation(True, ""))
