#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Gather what the asset register says of a server."""

from __future__ import annotations

DOCUMENTATION = r"""
module: asset_facts
short_description: Gather what the asset register says of a server
version_added: 0.1.0
description:
  - Reads maker, model, serial, CPU, memory, disks, the operating system and until when it is supported, addresses, services,
    database servers with their databases, web sites, how the clock is kept, and the backup programs.
  - Database servers are found by their processes, so that one that nobody registered is found too.
  - Changes nothing, makes no file, and takes no lock. Programs of a process are run with that process's own rights.
  - Without root it reads what it can, and says what it could not read.
  - Knows Debian, Ubuntu and the family of Red Hat Enterprise Linux.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.reads
"""

EXAMPLES = r"""
- name: Look at the server
  diskominfo.sop.asset_facts:
    case: AST-2026-0001
"""

RETURN = r"""
sop_evidence:
  description:
    - Kind V(facts). Sizes are bytes, memory is MiB; what is not known is null.
    - C(unread) says what could not be read, and why.
  returned: success
  type: dict
  sample:
    kind: facts
    facts:
      machine: {maker: QEMU, model: Standard PC, serial: null, kind: virtual, platform: kvm, memory_mib: 3924}
      system: {id: debian, version: "12.8", kernel: 6.1.0-27-amd64, support_until: "2028-06-30"}
      databases: [{engine: postgresql, version: "15.9", port: 5432, databases: [{name: simpeg, owner: simpeg, bytes: 8192}]}]
    unread: [{what: serial number, why: /sys/class/dmi/id/product_serial may only be read by root}]
    root: false
    at: "2026-11-22T03:00:00Z"
"""

from ansible_collections.diskominfo.sop.plugins.module_utils.asset_gathering import gather
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_look import Json, Look
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    GATE_OPTIONS,
    Job,
    evidence,
    run_module,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import utc_now


def work(job: Job) -> Json:  # noqa: ARG001  (every module's work takes its job)
    """Look, and change nothing."""
    look = Look()
    facts = gather(look)
    return {
        "changed": False,
        "sop_evidence": evidence("facts", facts=facts, unread=look.unread, root=look.root, at=utc_now()),
    }


def main() -> None:
    """Entry point."""
    run_module({**CASE_OPTIONS, **GATE_OPTIONS}, work)


if __name__ == "__main__":
    main()
