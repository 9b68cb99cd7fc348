#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Keep writers out of a dataset and prove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: quiesce
short_description: Keep writers out of a dataset and prove that none is left
version_added: 0.1.0
description:
  - PostgreSQL databases are fenced until they are released. For SQLite and files nothing is held; the proof is made
    here and again inside the exchange.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.dataset
  - diskominfo.sop.sop.secrets
  - diskominfo.sop.sop.changes
options:
  state:
    description:
      - V(quiesced), proven to have no writer; V(released), open again.
      - V(reserved), closed to everybody but a dump of ours, for the safety backup of a restore in place.
    type: str
    choices: [quiesced, released, reserved]
    required: true
  timeout:
    description: Seconds to wait for the last writer to leave.
    type: float
    default: 30
"""

EXAMPLES = r"""
- name: Prove that nobody writes
  diskominfo.sop.quiesce:
    case: RST-2026-0001
    dataset: {id: antrean, engine: sqlite, path: /srv/antrean.db}
    state: quiesced
"""

RETURN = r"""
sop_evidence:
  description: The proof.
  returned: success
  type: dict
  sample:
    kind: quiesce
    dataset: antrean
    state: quiesced
    proof: {openers: [], seen: all processes, log: empty, readable: true}
"""

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    DATASET_OPTIONS,
    GATE_OPTIONS,
    SECRET_OPTIONS,
    Job,
    evidence,
    run_module,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import utc_now


def work(job: Job) -> Json:
    """Fence and prove, or release."""
    engine, wanted = job.engine, job.params["state"]
    fences = engine.fences
    before = engine.is_quiesced()
    started = utc_now()
    proof: Json = {}
    if wanted != "released":
        changed = not before
        made_room = (
            before and job.switch.phase == "in_place"
        )  # then the safety backup is there, and nobody needs to get in
        close = engine.quiesce if wanted == "quiesced" or made_room else engine.reserve
        if not job.check_mode:
            proof = close(job.params["timeout"])
    else:
        changed = before and fences
        if not job.check_mode:
            engine.release()
    word = {True: "quiesced", False: "released"}
    after = before if not changed else wanted != "released"
    return {
        "changed": changed,
        "diff": {"before": f"state: {word[before]}\n", "after": f"state: {word[after]}\n"},
        "sop_evidence": evidence(
            "quiesce", dataset=job.dataset["id"], state=wanted, proof=proof, started=started, finished=utc_now()
        ),
    }


def operation(params: Json) -> str:
    """What the grant must allow."""
    return f"quiesce.{params['state']}"


def main() -> None:
    """Entry point."""
    options = {
        **CASE_OPTIONS,
        **DATASET_OPTIONS,
        **GATE_OPTIONS,
        **SECRET_OPTIONS,
        "state": {"type": "str", "choices": ["quiesced", "released", "reserved"], "required": True},
        "timeout": {"type": "float", "default": 30},
    }
    run_module(options, work, operation)


if __name__ == "__main__":
    main()
