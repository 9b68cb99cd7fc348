#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Stop or start a service and see that it is so."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_state
short_description: Stop or start a service and see that it is so
version_added: 0.1.0
description:
  - Stops a unit with the sockets, timers and paths that would bring it back, and waits until it is inactive.
  - Starts it again with those of them that were active, and waits until its health address answers 200.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.changes
options:
  service:
    description:
      - The service as the plan describes it.
      - C(name) and C(manager) are always there; V(systemd) has C(unit); V(command) has the argument lists C(start),
        C(stop) and C(status), whose exit code 0 means running.
      - C(health), with C(url) and C(timeout) in seconds, is optional.
    type: dict
    required: true
  state:
    description: The wanted state.
    type: str
    choices: [started, stopped]
    required: true
  timeout:
    description: Seconds to wait until the service has stopped or is running.
    type: float
    default: 60
"""

EXAMPLES = r"""
- name: Stop the service
  diskominfo.sop.service_state:
    case: RST-2026-0001
    service: {name: antrean, manager: systemd, unit: antrean.service}
    state: stopped
"""

RETURN = r"""
sop_evidence:
  description: When the service was in the wanted state, and when it was healthy.
  returned: success
  type: dict
  sample:
    kind: service
    service: antrean
    state: started
    at: "2026-11-22T03:00:04Z"
    healthy_at: "2026-11-22T03:00:05Z"
"""

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    GATE_OPTIONS,
    Job,
    evidence,
    run_module,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import utc_now
from ansible_collections.diskominfo.sop.plugins.module_utils.services import (
    Service,
    healthy_at,
    load_service,
    wait_running,
)


def stopped_since(service: Service, now: bool) -> str:
    """Since when it is down: a run that was broken off may have stopped it, and the form counts from there."""
    kept = service.journal.read() or {}
    if now or not kept.get("stopped_at"):
        kept["stopped_at"] = utc_now()
        service.journal.write(kept)
    return str(kept["stopped_at"])


def work(job: Job) -> Json:
    """Bring the service to the wanted state."""
    service = load_service(job.service, job.journal("service"))
    wanted = job.params["state"] == "started"
    running = service.is_running() and not (wanted and service.is_stopping())
    changed = running != wanted or (not wanted and service.may_return())
    at = healthy = None
    if not job.check_mode:
        if changed:
            (service.start if wanted else service.stop)()
        elif not wanted:  # one that does not run could be started by anybody while the data is exchanged
            service.hold()
        wait_running(service, wanted, job.params["timeout"])
        at = utc_now() if wanted else stopped_since(service, changed)
        healthy = healthy_at(job.service) if wanted else None
        if wanted and job.switch.phase == "committed":  # people work on the new data: no switch takes it back any more
            job.switch.write({**job.switch.read(), "served": True})
    word = {True: "started", False: "stopped"}
    return {
        "changed": changed,
        "diff": {"before": f"state: {word[running]}\n", "after": f"state: {word[wanted]}\n"},
        "sop_evidence": evidence(
            "service", service=service.name, state=job.params["state"], at=at, healthy_at=healthy, was=word[running]
        ),
    }


def operation(params: Json) -> str:
    """What the grant must allow."""
    return f"service.{params['state']}"


def main() -> None:
    """Entry point."""
    options = {
        **CASE_OPTIONS,
        **GATE_OPTIONS,
        "service": {"type": "dict", "required": True},
        "state": {"type": "str", "choices": ["started", "stopped"], "required": True},
        "timeout": {"type": "float", "default": 60},
    }
    run_module(options, work, operation)


if __name__ == "__main__":
    main()
