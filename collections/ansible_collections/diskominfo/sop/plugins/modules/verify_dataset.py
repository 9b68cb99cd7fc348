#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Prove one backup by restoring it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_dataset
short_description: Prove a backup by restoring it into scratch
version_added: 0.1.0
description:
  - Restores the dump into a throw-away place, compares it with its manifest and computes the content checksums that a
    later restore is compared with. Leaves nothing behind. Check mode only reads the manifest.
  - A dump that is not as its manifest says is a result with RV(sop_evidence.ok=false) and the module fails.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.dataset
  - diskominfo.sop.sop.vault
  - diskominfo.sop.sop.secrets
  - diskominfo.sop.sop.snapshot
  - diskominfo.sop.sop.reads
options:
  depth:
    description:
      - V(restore) restores and compares every table; V(read) only reads the dump to its end and checks its digest.
    type: str
    choices: [restore, read]
    default: restore
"""

EXAMPLES = r"""
- name: Prove the backup
  diskominfo.sop.verify_dataset:
    case: BKP-2026-0001
    dataset: {id: antrean, engine: sqlite, path: /srv/antrean.db}
    snapshot: "{{ backup.sop_evidence.snapshot }}"
    manifest_snapshot: "{{ backup.sop_evidence.manifest_snapshot }}"
"""

RETURN = r"""
sop_evidence:
  description: What was found, with the checksum of each table.
  returned: success
  type: dict
  sample:
    kind: verify
    dataset: antrean
    depth: restore
    ok: true
    tables: {antrean: {rows: 120, checksum: 0f3c29a1d1f0c9b6a3b1d0d2f4c5e6a7}}
    mismatches: []
"""

import time

from ansible_collections.diskominfo.sop.plugins.module_utils.compare import mismatches
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    DATASET_OPTIONS,
    GATE_OPTIONS,
    SECRET_OPTIONS,
    SNAPSHOT_OPTIONS,
    VAULT_OPTIONS,
    Failed,
    Job,
    ensure_state_dir,
    evidence,
    run_module,
    utc_now,
)


def examine(job: Job, manifest: Json) -> tuple[Json, list[str]]:
    """Return (tables, mismatches) of the dump."""
    if job.params["depth"] == "read":
        job.read_through(manifest)
        return {}, []
    ensure_state_dir(job.state_dir)
    with job.engine.scratch(job.source(manifest), manifest) as content:
        return content["tables"], mismatches(manifest["content"], content)


def work(job: Job) -> Json:
    """Restore into scratch and compare."""
    started, begin = utc_now(), time.monotonic()
    manifest = job.planned_manifest()
    tables, found = ({}, []) if job.check_mode else examine(job, manifest)
    proof = evidence(
        "verify",
        dataset=job.dataset["id"],
        snapshot=job.params["snapshot"],
        depth=job.params["depth"],
        ok=None if job.check_mode else not found,
        tables=tables,
        started=started,
        finished=utc_now(),
        duration_s=round(time.monotonic() - begin, 1),
        mismatches=found,
    )
    if found:
        raise Failed(
            f"{job.name}: the backup is not as its manifest says ({'; '.join(found)}); make a new backup", proof
        )
    return {"changed": False, "sop_evidence": proof}


def main() -> None:
    """Entry point."""
    options = {
        **CASE_OPTIONS,
        **DATASET_OPTIONS,
        **GATE_OPTIONS,
        **VAULT_OPTIONS,
        **SECRET_OPTIONS,
        **SNAPSHOT_OPTIONS,
        "depth": {"type": "str", "choices": ["restore", "read"], "default": "restore"},
    }
    run_module(options, work, "verify")


if __name__ == "__main__":
    main()
