#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Back up one dataset."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_dataset
short_description: Back up one dataset into the vault
version_added: 0.1.0
description:
  - Streams the engine's dump straight into restic, with no temporary file, and then writes its manifest.
  - A dump counts only when its manifest was written after it, so a run that is killed leaves nothing that counts.
  - Does nothing when the vault holds a dump of this dataset and period that counts.
  - Makes the server's repository where there is none yet.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.dataset
  - diskominfo.sop.sop.vault
  - diskominfo.sop.sop.secrets
  - diskominfo.sop.sop.changes
options:
  period:
    description: The period that one backup is due for, such as V(2026-11).
    type: str
    required: true
  name:
    description: Name of the backup by the site's rule.
    type: str
    required: true
  passed_over:
    description: Snapshots of dumps of this period that a proof has refuted; they do not count, and another one is made.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Back up the monthly dataset
  diskominfo.sop.backup_dataset:
    case: BKP-2026-0001
    dataset: {id: antrean, engine: sqlite, path: /srv/antrean.db}
    period: 2026-11
    name: dinas_srv01_antrean_full_20261122T030000Z_bkp20260001
"""

RETURN = r"""
sop_evidence:
  description: What was stored.
  returned: success
  type: dict
  sample:
    kind: backup
    dataset: antrean
    period: 2026-11
    snapshot: 6f823d4d823f04e85244f3219f198b870b5653506ca3e36968be28c4c91b20f2
    bytes: 8192
    reused: false
"""

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    DATASET_OPTIONS,
    GATE_OPTIONS,
    SECRET_OPTIONS,
    VAULT_OPTIONS,
    Job,
    evidence,
    run_module,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import utc_now
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import VaultError
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import MANIFEST_SCHEMA, Counted


def reused(job: Job, found: Counted) -> Json:
    """Result when the period's dump is there already."""
    manifest = job.vault.read_manifest(found.manifest_snapshot, found.dataset, found.snapshot)
    return result(manifest, found.manifest_snapshot, reused=True)


def result(manifest: Json, manifest_snapshot: str, reused: bool) -> Json:
    """The module's result for a dump that counts."""
    same = ("dataset", "name", "period", "bytes", "sha256", "method", "engine_version", "started", "finished")
    tables = {name: {"rows": table["rows"]} for name, table in manifest["content"]["tables"].items()}
    proof = evidence(
        "backup",
        **{key: manifest[key] for key in same},
        snapshot=manifest["dump_snapshot"],
        manifest_snapshot=manifest_snapshot,
        tables=tables,
        reused=reused,
    )
    diff = {"before": "", "after": "" if reused else f"{manifest['name']} {manifest['dump_snapshot']}\n"}
    return {"changed": not reused, "diff": diff, "sop_evidence": proof}


def is_safety(job: Job) -> bool:
    """Whether this stores what a restore in place is about to replace."""
    return bool(((job.params.get("grant") or {}).get("grant") or {}).get("safety"))


def made_room(job: Job) -> bool:
    """Whether the live data is closed for good since its safety backup. Until then people may have worked on meanwhile."""
    return bool(job.switch.phase == "in_place" or job.switch.read().get("emptied"))


def would_back_up(job: Job, version: str) -> Json:
    """Result of check mode when a dump is due."""
    proof = evidence(
        "backup",
        dataset=job.dataset["id"],
        name=job.params["name"],
        period=job.params["period"],
        snapshot=None,
        engine_version=version,
        reused=False,
    )
    return {"changed": True, "diff": {"before": "", "after": f"{job.params['name']}\n"}, "sop_evidence": proof}


def already(job: Job, dataset: str, period: str) -> list[Counted]:
    """What counts for the period. A server's first backup makes its repository, but no restore's safety backup does."""
    try:
        return job.vault.counted(dataset, period)
    except VaultError as error:
        if error.reason != "absent" or is_safety(job):
            raise
    if not job.check_mode:  # a check goes before the first real run too
        job.vault.ensure_repository()
    return []


def work(job: Job) -> Json:
    """Store dump and manifest unless the period has one."""
    dataset, period, name = str(job.dataset["id"]), job.params["period"], job.params["name"]
    counted = [each for each in already(job, dataset, period) if each.snapshot not in (job.params["passed_over"] or [])]
    if counted and (not is_safety(job) or made_room(job)):
        return reused(job, counted[-1])
    if is_safety(job) and job.switch.read().get("emptied"):
        raise SopError(
            f"{job.name}: the live data made room already and its safety backup of period {period} is not in this vault; "
            "nothing was stored, find the vault that has it"
        )
    facts = job.engine.describe()
    version = str(facts["version"])
    if job.check_mode:
        return would_back_up(job, version)
    tags = {"sop-dataset": dataset, "sop-period": period, "sop-case": job.case, "sop-name": name}
    started = utc_now()
    with job.metered("backup", int(facts["bytes"]), estimate=True):
        stored = job.store({**tags, "sop-kind": "dump"})
    manifest = {
        "schema": MANIFEST_SCHEMA,
        "dataset": dataset,
        "engine": job.engine.kind,
        "name": name,
        "case": job.case,
        "period": period,
        "dump_snapshot": stored.snapshot,
        "bytes": stored.bytes,
        "sha256": stored.sha256,
        "started": started,
        "finished": utc_now(),
        "engine_version": version,
        "method": job.engine.method_name,
        "content": stored.content,
    }
    manifest_tags = {**tags, "sop-kind": "manifest", "sop-dump": stored.snapshot}
    return result(manifest, job.vault.put_manifest(manifest, manifest_tags), reused=False)


def main() -> None:
    """Entry point."""
    options = {
        **CASE_OPTIONS,
        **DATASET_OPTIONS,
        **GATE_OPTIONS,
        **VAULT_OPTIONS,
        **SECRET_OPTIONS,
        "period": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "passed_over": {"type": "list", "elements": "str", "default": []},
    }
    run_module(options, work, "backup")


if __name__ == "__main__":
    main()
