# SPDX-License-Identifier: Apache-2.0
"""Years of records in minutes: one scheduled backup really runs, and what Ansible did then is sealed again and again.

What comes after Ansible is the real code each time: the plan's signature, the ledger's lines, forms (no PDF), bags, the
inspector's confirmation, the closed case's bag, checkpoints.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import Any
from unittest.mock import patch

from sopctl import clock, execution, fsio, signing, standing, workflow
from sopctl.case import Case, create_folder
from sopctl.context import key_digest
from sopctl.execution import Run
from sopctl.running import finish
from sopctl.session import Session
from sopctl.site import Site
from tests.support.site_builder import SiteBuilder

DATASET = "arsip"


class Years:
    """A site whose scheduled backup of ``arsip`` is made to have happened many times."""

    def __init__(self, site: SiteBuilder) -> None:
        self.builder, self.site = site, Site(site.root)
        self.ran: Run | None = None
        self.artifacts: dict[str, bytes] = {}
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

        def kept(*args: Any, **more: Any) -> Run:
            self.ran = execution.execute(*args, **more)
            self.artifacts = {path.name: path.read_bytes() for path in self.ran.folder.iterdir()}
            return self.ran

        with patch.object(standing, "execute", kept):
            self.case = self._backup()
        self._confirm(self.case)

    def more(self, cases: int) -> None:
        """So many cases, each with a record of its run and one of its end."""
        for _ in range(cases):
            self._confirm(self._again())

    def _again(self) -> str:
        """What Ansible did then, in a case of its own: as :func:`standing.run_schedule` goes on after the gate."""
        assert self.ran
        session = self._session()
        profile = session.site.profile.profile
        flow = profile.flow(profile.schedule_flow() or "")
        signer = session.signer("pelaksana", None)
        folder = create_folder(session.site.cases, "backup", "2026", session.known_cases())
        case = Case(folder.name, folder, profile.schedule_flow() or "", flow, [], profile.break_glass)
        run_id = f"{case.id}-01"
        plan, evidence = self._renamed([self.ran.plan, self.ran.outcome.evidence], case.id)
        keep = session.site.state / "runs" / f"{run_id}-again"
        keep.mkdir(parents=True)
        for name, data in self.artifacts.items():
            (keep / name).write_bytes(data)
        data = fsio.canonical_json(plan)
        signature = session.sign(data, "sop-document", signer)
        key = key_digest(signing.verify(data, signature, "sop-document"))
        digests = {"plan": fsio.sha256_bytes(data), "operator": key}
        session.ledger.append("run-started", f"{case.id}/{run_id}", digests, unique=True)
        run = dataclasses.replace(
            self.ran,
            id=run_id,
            plan=plan,
            plan_signature=signature,
            outcome=dataclasses.replace(self.ran.outcome, evidence=evidence),
            folder=keep,
            started=clock.now(),
            finished=clock.now(),
        )
        with session.holding(case.id, signer.person.id):
            finish(session, case, flow.steps[0], signer, session.role(signer.person, flow.steps[0].by, "it"), run)
        return case.id

    def _renamed(self, value: list[Any], case: str) -> list[Any]:
        """The same of another case, with snapshots of its own."""
        text = json.dumps(value).replace(self.case, case).replace(self.case.lower(), case.lower())
        keys = ("snapshot", "manifest_snapshot")
        for snapshot in {entry[key] for entry in value[1] for key in keys if entry.get(key)}:
            text = text.replace(snapshot, secrets.token_hex(32))
        return list(json.loads(text))

    def _confirm(self, case: str) -> None:
        workflow.act(self._session(), case, "confirm", "kabid", None, workflow.confirmation(True, ""))
