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
  - Asks the restored copy the dataset's own C(checks) (name, query, expected answer), where it has any.
  - A dump that is not as its manifest says is a result with RV(sop_evidence.ok=false) and the module fails.
  - Where there is not room enough to restore, the dump is read to its end instead; RV(sop_evidence.depth) is then V(read), and
    RV(sop_evidence.short) says what was missing.
  - May run on another host than the dataset's, a drill host, which needs the engine's programs and no running server. Nothing of
    the backup stays there; what could not be removed fails the module.
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
      - V(restore) restores and compares every table where there is room; V(read) only reads the dump to its end and checks its
        digest.
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
    short: null
    ok: true
    tables: {antrean: {rows: 120, checksum: 0f3c29a1d1f0c9b6a3b1d0d2f4c5e6a7}}
    checks: [{name: setiap antrean bernomor, ok: true}]
    mismatches: []
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ansible_collections.diskominfo.sop.plugins.module_utils.checks import failures
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
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import utc_now
from ansible_collections.diskominfo.sop.plugins.module_utils.space import shortage


def examine(job: Job, manifest: Json, depth: str) -> tuple[Json, list[Json], list[str]]:
    """Return (tables, checks, mismatches) of the dump."""
    with job.metered("verify", int(manifest["bytes"])):
        if depth == "read":
            job.read_through(manifest)
            return {}, [], []
        with job.engine.scratch(job.source(manifest), manifest) as content:
            return content["tables"], content.get("checks") or [], mismatches(manifest["content"], content)


def room(job: Job, manifest: Json) -> tuple[str, Json | None]:
    """(depth that there is room for, what is missing for the wanted one)."""
    if job.params["depth"] == "read":
        return "read", None
    missing = shortage(job.engine.scratch_place(job.engine.loaded_bytes(manifest)))
    return ("read" if missing else "restore"), missing


@contextmanager
def nothing_left(job: Job) -> Iterator[None]:
    """SopError naming folders and processes of the proof that are still there at its end, however it ended."""
    failed: SopError | None = None
    try:
        yield
    except SopError as error:
        failed = error
    if left := job.left_behind():
        said = (
            f"{job.name}: the proof left {', '.join(left[:5])} behind on {os.uname().nodename}, which may hold restored data; "
            "remove it there, then run again"
        )
        raise SopError(f"{failed}; {said}" if failed else said) from failed
    if failed:
        raise failed


def work(job: Job) -> Json:
    """Restore into scratch and compare."""
    started, begin = utc_now(), time.monotonic()
    manifest = job.planned_manifest()
    depth, missing = room(job, manifest)
    tables: Json = {}
    asked: list[Json] = []
    found: list[str] = []
    if not job.check_mode:
        with nothing_left(job):
            tables, asked, found = examine(job, manifest, depth)
    wrong = failures({"checks": asked})
    proof = evidence(
        "verify",
        dataset=job.dataset["id"],
        snapshot=job.params["snapshot"],
        depth=depth,
        short=missing,
        ok=None if job.check_mode else not found and not wrong,
        tables=tables,
        checks=asked,
        started=started,
        finished=utc_now(),
        duration_s=round(time.monotonic() - begin, 1),
        mismatches=found,
    )
    if found:
        raise Failed(
            f"{job.name}: the backup is not as its manifest says ({'; '.join(found)}); make a new backup", proof
        )
    if wrong:
        raise Failed(
            f"{job.name}: the backup is what was dumped, but the dataset's own checks fail on it ({'; '.join(wrong)}); look "
            "at the live data, or correct the checks in the register",
            proof,
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
