#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Say how large a dataset is and how much room there is for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dataset_capacity
short_description: Say how large a dataset is and how much room there is for it
version_added: 0.1.0
description:
  - Reads the size of the live data, and the free space where a restore would stage its copy and where a backup is
    proven. It reckons with the same places and factors as M(diskominfo.sop.restore_dataset) and
    M(diskominfo.sop.verify_dataset), so a plan that fits here is not refused there while nothing else fills the disk.
  - With O(vault_path) and without O(dataset) it reads the free space of the vault, on the vault's host.
  - Changes nothing, makes no folder, and takes no lock.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.secrets
  - diskominfo.sop.sop.reads
options:
  dataset:
    description:
      - The dataset as the plan describes it, see M(diskominfo.sop.backup_dataset).
      - Exactly one of O(dataset) and O(vault_path) is needed.
    type: dict
  operation:
    description: What is planned; with V(restore) the folder of the live data must be there.
    type: str
    choices: [backup, restore]
    default: restore
  dump_bytes:
    description:
      - Size of the dump that will be loaded, where it is known. Without it the size of the live data stands for it.
    type: int
  vault_path:
    description: Folder of the vault's repositories on this host.
    type: path
"""

EXAMPLES = r"""
- name: Look at size and room
  diskominfo.sop.dataset_capacity:
    case: RST-2026-0001
    dataset: {id: antrean, engine: sqlite, path: /srv/antrean.db}
    operation: restore

- name: Look at the vault's room
  diskominfo.sop.dataset_capacity:
    case: RST-2026-0001
    vault_path: /srv/vault
"""

RETURN = r"""
sop_evidence:
  description:
    - Kind V(capacity) for a dataset, V(vault-capacity) for the vault. All sizes are bytes.
    - A copy fits where C(stage_free) is at least C(needs) and C(reserve) together (C(scratch_) for a backup's proof).
    - What this host cannot look at is null.
  returned: success
  type: dict
  sample:
    kind: capacity
    dataset: antrean
    operation: restore
    engine_version: 3.40.1
    exists: true
    bytes: 8192
    needs_from: live
    stage_path: /srv
    stage_free: 1073741824
    stage_total: 4294967296
    stage_device: 2049
    needs: 8601
    reserve: 67108864
    scratch_path: /var/lib/sop
    scratch_free: 1073741824
    scratch_total: 4294967296
    scratch_device: 2049
    scratch_needs: 8601
    scratch_reserve: 67108864
    at: "2026-11-22T03:00:00Z"
"""

from ansible_collections.diskominfo.sop.plugins.module_utils.capacity import dataset_facts, vault_facts
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    GATE_OPTIONS,
    SECRET_OPTIONS,
    Job,
    evidence,
    run_module,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import utc_now


def work(job: Job) -> Json:
    """Look, and change nothing."""
    params = job.params
    vault_path, size = params["vault_path"], params["dump_bytes"]
    if bool(job.dataset) == bool(vault_path):
        raise SopError("capacity: give either dataset or vault_path; correct the play")
    if size is not None and size < 0:
        raise SopError(f"{job.name}: dump_bytes {size} is no size; correct the plan")
    if vault_path:
        proof = evidence("vault-capacity", **vault_facts(vault_path), at=utc_now())
    else:
        facts = dataset_facts(job.engine, params["operation"], size)
        proof = evidence("capacity", dataset=job.name, operation=params["operation"], **facts, at=utc_now())
    return {"changed": False, "sop_evidence": proof}


def main() -> None:
    """Entry point."""
    options = {
        **CASE_OPTIONS,
        **GATE_OPTIONS,
        **SECRET_OPTIONS,
        "dataset": {"type": "dict"},
        "operation": {"type": "str", "choices": ["backup", "restore"], "default": "restore"},
        "dump_bytes": {"type": "int"},
        "vault_path": {"type": "path"},
    }
    run_module(options, work)


if __name__ == "__main__":
    main()
