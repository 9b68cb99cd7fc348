#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Make a host's vault."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_repository
short_description: Make a host's vault if it is not there
version_added: 0.1.0
description:
  - Makes the restic repository, and checks that it opens with the vault's password when it is there.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.dataset
  - diskominfo.sop.sop.vault
  - diskominfo.sop.sop.changes
"""

EXAMPLES = r"""
- name: Make the vault
  diskominfo.sop.vault_repository:
    case: BKP-2026-0001
    dataset: {id: antrean, engine: sqlite, path: /srv/antrean.db}
"""

RETURN = r"""
sop_evidence:
  description: The vault's id and whether this call made it.
  returned: success
  type: dict
  sample:
    kind: vault
    repository_id: b6278596ed1f0c9b6a3b1d0d2f4c5e6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4
    created: false
"""

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    DATASET_OPTIONS,
    GATE_OPTIONS,
    VAULT_OPTIONS,
    Job,
    evidence,
    run_module,
)


def work(job: Job) -> Json:
    """Make the repository unless it is there."""
    repository_id, created = job.vault.ensure_repository(create=not job.check_mode)
    changed = created or not repository_id
    return {
        "changed": changed,
        "diff": {"before": "" if changed else f"{job.vault.label}\n", "after": f"{job.vault.label}\n"},
        "sop_evidence": evidence(
            "vault", dataset=job.dataset["id"], repository_id=repository_id or None, created=created
        ),
    }


def main() -> None:
    """Entry point."""
    run_module({**CASE_OPTIONS, **DATASET_OPTIONS, **GATE_OPTIONS, **VAULT_OPTIONS}, work, "vault_repository")


if __name__ == "__main__":
    main()
