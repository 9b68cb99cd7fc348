#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Restore one dataset: staged, swapped, finalised, reverted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_dataset
short_description: Restore a dataset beside the live data and exchange the two
version_added: 0.1.0
description:
  - Staging happens while the service runs. The staged copy is compared with its manifest and with the checksums of the
    verified backup; a copy that differs is dropped.
  - The exchange happens while the service is stopped and takes no longer for more data. The old data is kept.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.dataset
  - diskominfo.sop.sop.vault
  - diskominfo.sop.sop.secrets
  - diskominfo.sop.sop.snapshot
  - diskominfo.sop.sop.changes
options:
  expected:
    description:
      - Content with checksums from the proof of this backup, C({"tables":{name:{"rows":n,"checksum":c}}}).
      - Without it only the manifest's row counts are compared.
    type: dict
  state:
    description:
      - V(staged), loaded beside the live data and compared.
      - V(swapped), the staged copy is live and the old data is kept. Refused unless the live data is quiet.
      - V(finalised), checked to be the swapped data; nothing is dropped.
      - V(reverted), the kept data is live again.
    type: str
    choices: [staged, swapped, finalised, reverted]
    required: true
"""

EXAMPLES = r"""
- name: Load the backup beside the live data
  diskominfo.sop.restore_dataset:
    case: RST-2026-0001
    dataset: {id: antrean, engine: sqlite, path: /srv/antrean.db}
    snapshot: "{{ plan.snapshot }}"
    manifest_snapshot: "{{ plan.manifest_snapshot }}"
    expected: "{{ plan.expected }}"
    state: staged
"""

RETURN = r"""
sop_evidence:
  description: What was done, under which names the data lies now.
  returned: success
  type: dict
  sample:
    kind: swap
    dataset: antrean
    state: swapped
    before: /srv/antrean.db__before_rst20260001
    shadow: /srv/antrean.db__shadow_rst20260001
"""

import time
from collections.abc import Callable

from ansible_collections.diskominfo.sop.plugins.module_utils.compare import mismatches
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    DATASET_OPTIONS,
    GATE_OPTIONS,
    SECRET_OPTIONS,
    SIGNALS,
    SNAPSHOT_OPTIONS,
    VAULT_OPTIONS,
    Failed,
    Job,
    evidence,
    run_module,
    utc_now,
)

KINDS = {"staged": "stage", "swapped": "swap", "finalised": "finalise", "reverted": "revert"}


class Restore:
    """One call: where this host is for the case, and the step to the wanted state."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.journal = job.journal("staged")
        if not job.check_mode:
            job.settle()
        self.found = job.engine.state(job.case)
        self.started = utc_now()
        self.begin = time.monotonic()

    def compared(self) -> bool:
        """True when the staged copy is one of this snapshot that was loaded to its end and compared."""
        return bool((self.journal.read() or {}).get("snapshot") == self.job.params["snapshot"])

    def require_not_reverted(self) -> None:
        """SopError when the staged copy was live once: it holds what was written then, and is nobody's to drop."""
        if self.found == "staged" and (self.journal.read() or {}).get("reverted"):
            shadow = self.job.engine.shadow_name(self.job.case)
            raise SopError(
                f"{self.job.name}: {self.job.case} was reverted; {shadow} holds what was live then, open a new case"
            )

    def result(self, changed: bool, state: str, **fields: object) -> Json:
        """The module's result."""
        engine, job = self.job.engine, self.job
        proof = evidence(
            KINDS[job.params["state"]],
            dataset=job.dataset["id"],
            snapshot=job.params["snapshot"],
            state=state,
            before=engine.before_name(job.case),
            shadow=engine.shadow_name(job.case),
            started=self.started,
            finished=utc_now(),
            duration_ms=int((time.monotonic() - self.begin) * 1000),
            **fields,
        )
        diff = {"before": f"state: {self.found}\n", "after": f"state: {state}\n"}
        return {"changed": changed, "diff": diff, "sop_evidence": proof}

    def staged(self) -> Json:
        """Load beside the live data and compare."""
        self.require_not_reverted()
        if self.found == "swapped" or (self.found == "staged" and self.compared()):
            if not self.compared():
                raise SopError(f"{self.job.name}: {self.job.case} has swapped another snapshot in; revert it first")
            return self.result(False, self.found, tables=(self.journal.read() or {}).get("tables", {}))
        manifest = self.job.planned_manifest()
        if self.job.check_mode:
            return self.result(True, "staged", tables={})
        tables = self.load(manifest)
        self.journal.write({"snapshot": self.job.params["snapshot"], "tables": tables, "at": utc_now()})
        return self.result(True, "staged", tables=tables, data_of=manifest["started"])

    def load(self, manifest: Json) -> Json:
        """Stage and compare; on any failure nothing is left."""
        engine, case = self.job.engine, self.job.case
        engine.discard(case)  # what a killed run left was never compared
        self.journal.remove()
        try:
            content = engine.stage(case, self.job.source(manifest), manifest)
            named = mismatches(manifest["content"], content)
            named += mismatches(self.job.params["expected"] or content, content)
            if named:
                proof = evidence("stage", dataset=self.job.dataset["id"], state="absent", mismatches=named)
                why = "; ".join(dict.fromkeys(named))
                raise Failed(
                    f"{self.job.name}: the staged copy differs from the verified backup ({why}); it was dropped", proof
                )
        except BaseException:
            engine.discard(case)
            raise
        tables: Json = content["tables"]
        return tables

    def require_quiet(self) -> None:
        """SopError unless the live data is fenced."""
        if not self.job.check_mode and not self.job.engine.is_quiesced():
            raise SopError(f"{self.job.name}: is in use; stop its services and quiesce it before it is exchanged")

    def swapped(self) -> Json:
        """Exchange live and staged."""
        self.require_not_reverted()
        if self.found == "absent":
            if self.job.check_mode:
                return self.result(True, "swapped")
            raise SopError(f"{self.job.name}: nothing is staged for {self.job.case}; stage it first")
        if not self.compared():
            raise SopError(
                f"{self.job.name}: what is staged is not a compared copy of the planned backup; stage it again"
            )
        if self.found == "swapped":
            return self.result(False, "swapped")
        self.require_quiet()
        return self.exchanged("swapped", self.job.engine.swap)

    def reverted(self) -> Json:
        """Make the kept data live again."""
        if self.found == "swapped":
            self.require_quiet()
            return self.exchanged("reverted", self.revert)
        unused = self.found == "staged" and not (self.journal.read() or {}).get("reverted")
        if unused and not self.job.check_mode:  # never live, so nothing but space is lost
            self.job.engine.discard(self.job.case)
            self.journal.remove()
        return self.result(unused, "reverted")

    def revert(self, case: str) -> Json:
        """Revert, noted before it happens."""
        self.journal.write({**(self.journal.read() or {}), "reverted": utc_now()})
        return self.job.engine.revert(case)

    def exchanged(self, state: str, exchange: Callable[[str], Json]) -> Json:
        """Run ``exchange`` with signals put off until it is over."""
        if self.job.check_mode:
            return self.result(True, state)
        with SIGNALS.deferred():
            identity = exchange(self.job.case)
            return self.result(True, state, identity=identity)

    def finalised(self) -> Json:
        """Check that the case's data is live."""
        if self.found != "swapped" and not self.job.check_mode:
            raise SopError(
                f"{self.job.name}: the restored data of {self.job.case} is not live ({self.found}); swap it first"
            )
        return self.result(False, "finalised")


def work(job: Job) -> Json:
    """Bring the dataset to the wanted state."""
    restore = Restore(job)
    steps = {"staged": restore.staged, "swapped": restore.swapped, "finalised": restore.finalised}
    return steps.get(job.params["state"], restore.reverted)()


def operation(params: Json) -> str:
    """What the grant must allow."""
    return f"restore.{params['state']}"


def main() -> None:
    """Entry point."""
    options = {
        **CASE_OPTIONS,
        **DATASET_OPTIONS,
        **GATE_OPTIONS,
        **VAULT_OPTIONS,
        **SECRET_OPTIONS,
        **SNAPSHOT_OPTIONS,
        "expected": {"type": "dict"},
        "state": {"type": "str", "choices": list(KINDS), "required": True},
    }
    run_module(options, work, operation)


if __name__ == "__main__":
    main()
