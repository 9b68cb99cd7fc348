#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Restore one dataset: staged, swapped, finalised, reverted; or placed elsewhere. In the end what was set aside is cleaned."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_dataset
short_description: Restore a dataset beside the live data and exchange the two
version_added: 0.1.0
description:
  - Staging happens while the service runs. The staged copy is compared with its manifest and with the checksums of the
    verified backup; a copy that differs is dropped.
  - The exchange happens while the service is stopped and takes no longer for more data. The old data is kept. The new data
    stays closed until M(diskominfo.sop.dead_mans_switch) commits it.
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
      - V(emptied), the live data is gone, for a restore in place; its safety backup is in the vault.
      - V(placed), restored under the name O(to) and compared; the live data is not touched and need not be there.
      - V(cleaned), what O(kept) names is dropped; refused where it is not what this case set aside.
    type: str
    choices: [staged, swapped, finalised, reverted, emptied, placed, cleaned]
    required: true
  to:
    description:
      - With O(state=placed), where the data goes, the name of a database or an absolute path. What is there already is
        never replaced.
    type: str
  kept:
    description: For V(cleaned), the copies that may be dropped, C({"copy":"before"|"shadow","name":name}).
    type: list
    elements: dict
    default: []
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

from ansible_collections.diskominfo.sop.plugins.module_utils.cleaning import Cleaning
from ansible_collections.diskominfo.sop.plugins.module_utils.compare import mismatches
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    DATASET_OPTIONS,
    GATE_OPTIONS,
    SECRET_OPTIONS,
    SNAPSHOT_OPTIONS,
    VAULT_OPTIONS,
    Failed,
    Job,
    evidence,
    run_module,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import SIGNALS, utc_now
from ansible_collections.diskominfo.sop.plugins.module_utils.placing import place
from ansible_collections.diskominfo.sop.plugins.module_utils.services import load_service
from ansible_collections.diskominfo.sop.plugins.module_utils.settle import mark_reverted, service_journal

KINDS = {
    "staged": "stage",
    "swapped": "swap",
    "finalised": "finalise",
    "reverted": "revert",
    "emptied": "empty",
    "placed": "place",
    "cleaned": "clean",
}


class Restore:
    """One call: where this host is for the case, and the step to the wanted state."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.journal = job.journal("staged")
        if job.engine.state(job.case) != "absent":  # a journal alone is of data that somebody has removed since
            self.require_same_case()
        if not job.check_mode:
            job.settle()
        self.found = job.engine.state(job.case)
        self.started = utc_now()
        self.begin = time.monotonic()

    def grant(self) -> Json:
        """What the site says of this call; read here for what it names, checked elsewhere."""
        return dict((self.job.params.get("grant") or {}).get("grant") or {})

    def require_same_case(self) -> None:
        """SopError when what lies here is of a run that the site has forgotten: another case had this number once, before the
        site was put back from an older copy, and its data must not pass for this one's."""
        staged, told = (self.journal.read() or {}).get("plan"), self.grant().get("runs")
        if staged and isinstance(told, list) and staged not in told:
            raise SopError(
                f"{self.job.name}: refused, {self.job.case} was worked for here in a run that the site's ledger does not name: "
                "the site was put back from an older copy; request it anew, a case of another number can go on"
            )

    def compared(self) -> bool:
        """True when the staged copy is one of this snapshot that was loaded to its end and compared."""
        return bool((self.journal.read() or {}).get("snapshot") == self.job.params["snapshot"])

    def was_reverted(self) -> bool:
        """True when the staged copy was live once: it holds what was written then, and is nobody's to drop or use again."""
        return self.found == "staged" and bool((self.journal.read() or {}).get("reverted"))

    def was_open(self) -> bool:
        """Whether anybody may have written into the swapped data: yes once it was committed, and where nothing tells."""
        journal = self.job.switch.read()
        past = [entry.get("phase") for entry in journal.get("past") or []]
        return not past or "committed" in past

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
            phase=job.switch.phase,
            started=self.started,
            finished=utc_now(),
            duration_ms=int((time.monotonic() - self.begin) * 1000),
            **fields,
        )
        diff = {"before": f"state: {self.found}\n", "after": f"state: {state}\n"}
        return {"changed": changed, "diff": diff, "sop_evidence": proof}

    def staged(self) -> Json:
        """Load beside the live data and compare."""
        if self.was_reverted():
            return self.result(False, "reverted", tables={})
        if self.found == "swapped" or (self.found == "staged" and self.compared()):
            if not self.compared():
                raise SopError(f"{self.job.name}: {self.job.case} has swapped another snapshot in; revert it first")
            return self.result(False, self.found, tables=(self.journal.read() or {}).get("tables", {}))
        manifest = self.job.planned_manifest()
        self.job.engine.require_swappable()  # what would be in the way later is told before anything is loaded
        if self.job.check_mode:
            return self.result(True, "staged", tables={})
        tables = self.load(manifest)
        entry = {"snapshot": self.job.params["snapshot"], "tables": tables, "at": utc_now()}
        self.journal.write({**entry, "plan": self.grant().get("plan")})
        return self.result(True, "staged", tables=tables, data_of=manifest["started"])

    def load(self, manifest: Json) -> Json:
        """Stage and compare; on any failure nothing is left."""
        engine, case = self.job.engine, self.job.case
        engine.discard(case)  # what a killed run left was never compared
        self.journal.remove()
        try:
            with self.job.metered("stage", int(manifest["bytes"])):
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
        if self.was_reverted():
            shadow = self.job.engine.shadow_name(self.job.case)
            raise SopError(
                f"{self.job.name}: {self.job.case} was reverted; {shadow} holds what was live then, open a new case"
            )
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
        self.require_stopped()
        return self.exchanged("swapped", self.job.engine.swap)

    def require_stopped(self) -> None:
        """SopError when a service of the case runs on this host."""
        for entry in self.job.switch.read().get("services") or []:
            settings = entry["service"]
            if load_service(settings, service_journal(settings, self.job.case)).is_running():
                raise SopError(
                    f"{self.job.name}: service {settings['name']} runs; stop it before the data is exchanged"
                )

    def emptied(self) -> Json:
        """Make room by giving the live data up, for a restore in place."""
        if self.found != "absent":
            return self.result(False, self.found)
        self.require_quiet()
        self.require_stopped()
        if not self.job.check_mode:
            self.journal.remove()
            switch = self.job.switch
            if switch.phase:  # before the first byte goes: from here on nothing may call what is kept the old data
                switch.write({**switch.read(), "emptied": True})
            self.job.engine.empty(self.job.case)
        return self.result(True, "emptied")

    def reverted(self) -> Json:
        """Make the kept data live again."""
        if self.found == "swapped":
            self.require_quiet()
            done = self.exchanged("reverted", self.revert)
            done["sop_evidence"]["kept"] = None if self.job.check_mode else self.cleaning().beside()
            return done
        unused = self.found == "staged" and not (self.journal.read() or {}).get("reverted")
        if unused and not self.job.check_mode:  # never live, so nothing but space is lost
            self.job.engine.discard(self.job.case)
            self.journal.remove()
        return self.result(unused, "reverted")

    def revert(self, case: str) -> Json:
        """Revert; that the new data was open to writers is noted before."""
        if self.was_open():
            mark_reverted(self.job.dataset, case)
        return self.job.engine.revert(case)

    def exchanged(self, state: str, exchange: Callable[[str], Json]) -> Json:
        """Run ``exchange`` with signals put off until it is over."""
        if self.job.check_mode:
            return self.result(True, state)
        with SIGNALS.deferred():
            identity = exchange(self.job.case)
            return self.result(True, state, identity=identity)

    def cleaning(self) -> Cleaning:
        """What the case has set aside by now."""
        job = self.job
        return Cleaning(job.engine, job.switch, job.name, self.journal, job.params["snapshot"])

    def cleaned(self) -> Json:
        """Drop what the case has set aside."""
        job, cleaning = self.job, self.cleaning()
        cleaning.require(job.params["kept"])
        found = cleaning.beside()
        if not job.check_mode:
            cleaning.drop()
        return self.result(bool(found), "absent", dropped=[found] if found else [])

    def finalised(self) -> Json:
        """Check that the case's data is live."""
        if self.found != "swapped" and not self.job.check_mode:
            raise SopError(
                f"{self.job.name}: the restored data of {self.job.case} is not live ({self.found}); swap it first"
            )
        return self.result(False, "finalised", kept=None if self.job.check_mode else self.cleaning().beside())


def work(job: Job) -> Json:
    """Bring the dataset to the wanted state."""
    if job.params["state"] == "placed":
        return place(job)
    restore = Restore(job)
    result: Json = getattr(restore, job.params["state"])()
    return result


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
        "kept": {"type": "list", "elements": "dict", "default": []},
        "state": {"type": "str", "choices": list(KINDS), "required": True},
        "to": {"type": "str"},
    }
    run_module(options, work, operation)


if __name__ == "__main__":
    main()
