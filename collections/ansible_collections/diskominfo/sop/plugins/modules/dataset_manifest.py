#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Describe the live content of a dataset."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dataset_manifest
short_description: Describe the live content of a dataset
version_added: 0.1.0
description:
  - Counts the rows of each table, and with O(checksums) reads every row; the order of rows does not matter.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.dataset
  - diskominfo.sop.sop.secrets
  - diskominfo.sop.sop.reads
options:
  checksums:
    description: Also compute content checksums, which reads all data.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Count what is there
  diskominfo.sop.dataset_manifest:
    dataset: {id: antrean, engine: sqlite, path: /srv/antrean.db}
"""

RETURN = r"""
manifest:
  description: The content.
  returned: success
  type: dict
  sample:
    tables: {antrean: {rows: 120, checksum: null}}
    globals: {user_version: 0}
    bytes: 8192
"""

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    DATASET_OPTIONS,
    SECRET_OPTIONS,
    Job,
    run_module,
)


def work(job: Job) -> Json:
    """Describe the live data."""
    return {"changed": False, "manifest": job.engine.manifest(job.params["checksums"])}


def main() -> None:
    """Entry point."""
    run_module({**DATASET_OPTIONS, **SECRET_OPTIONS, "checksums": {"type": "bool", "default": False}}, work)


if __name__ == "__main__":
    main()
