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

import time
import urllib.error
import urllib.request

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    GATE_OPTIONS,
    Job,
    evidence,
    run_module,
    utc_now,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.services import Service, load_service

HEALTH_TIMEOUT = 60.0


def wait_healthy(name: str, url: str, timeout: float) -> str:
    """Poll ``url`` until it answers 200 and return when that was; SopError with the last answer otherwise."""
    if not url.startswith(("http://", "https://")):
        raise SopError(f"service {name}: health url {url!r} is not http or https; correct the register")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + timeout
    while True:
        try:
            with opener.open(url, timeout=min(5.0, max(0.5, timeout))) as answer:
                if answer.status == 200:
                    return utc_now()
                last = f"status {answer.status}"
        except urllib.error.HTTPError as error:
            last = f"status {error.code}"
        except OSError as error:
            last = str(error)
        if time.monotonic() >= deadline:
            raise SopError(
                f"service {name}: runs, but {url} was not healthy within {timeout:.0f} s ({last}); look at its log"
            )
        time.sleep(0.1)


def wait_running(service: Service, wanted: bool, timeout: float) -> None:
    """Wait until the service runs or does not; SopError when it does not come to that."""
    deadline = time.monotonic() + timeout
    while service.is_running() != wanted or (not wanted and service.may_return()):
        if time.monotonic() >= deadline:
            word = "started" if wanted else "stopped"
            raise SopError(f"service {service.name}: not {word} after {timeout:.0f} s; look at its log, then run again")
        time.sleep(0.1)


def work(job: Job) -> Json:
    """Bring the service to the wanted state."""
    service = load_service(job.service, job.journal("service"))
    wanted = job.params["state"] == "started"
    running = service.is_running()
    changed = running != wanted or (not wanted and service.may_return())
    at = healthy_at = None
    if not job.check_mode:
        if changed:
            (service.start if wanted else service.stop)()
        wait_running(service, wanted, job.params["timeout"])
        at = utc_now()
        health = job.service.get("health") or {}
        if wanted and health.get("url"):
            healthy_at = wait_healthy(service.name, str(health["url"]), float(health.get("timeout") or HEALTH_TIMEOUT))
    word = {True: "started", False: "stopped"}
    return {
        "changed": changed,
        "diff": {"before": f"state: {word[running]}\n", "after": f"state: {word[wanted]}\n"},
        "sop_evidence": evidence(
            "service", service=service.name, state=job.params["state"], at=at, healthy_at=healthy_at, was=word[running]
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
