#!/usr/bin/python
# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The dead man's switch of a case on one host: armed, told what to decide, disarmed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dead_mans_switch
short_description: Have a host settle an interrupted restore by itself
version_added: 0.2.0
description:
  - Between V(armed) and V(disarmed) the host brings the case's datasets to wholly old or wholly new data and its services up
    when nobody tells it anything more in time, or when it is restarted, with C(sop-settle) and a journal of its own.
  - Every step of the restore in between takes the switch's lock and is refused once the switch has fired.
author: sopctl contributors (@diskominfo)
extends_documentation_fragment:
  - diskominfo.sop.sop
  - diskominfo.sop.sop.gate
  - diskominfo.sop.sop.case
  - diskominfo.sop.sop.secrets
  - diskominfo.sop.sop.changes
options:
  datasets:
    description: The case's datasets on this host, each as O(datasets) of the plan describes it.
    type: list
    elements: dict
    default: []
  services:
    description: The case's services on this host, in the order in which they are started.
    type: list
    elements: dict
    default: []
  seconds:
    description: After how many seconds the switch fires.
    type: int
    required: true
  together:
    description: Whether other hosts hold datasets of the same case, so that this one must not decide alone.
    type: bool
    default: false
  alone:
    description: Whether this host holds all datasets and all services of the case.
    type: bool
    default: false
  state:
    description:
      - V(armed), watched from now on; what an earlier run had reached is kept.
      - V(ready), everything here is swapped and checked, and the other hosts are waited for; nothing is decided.
      - V(committed), the new data counts; its fence is lifted.
      - V(aborted), the old data is to come back.
      - V(in_place), the live data is about to be replaced where it lies.
      - V(disarmed), nothing is watched any more.
    type: str
    choices: [armed, ready, committed, aborted, in_place, disarmed]
    required: true
"""

EXAMPLES = r"""
- name: Have the host settle by itself if nobody comes back within ten minutes
  diskominfo.sop.dead_mans_switch:
    case: RST-2026-0001
    datasets: [{id: antrean, engine: sqlite, path: /srv/antrean.db}]
    services: [{name: antrean, manager: systemd, unit: antrean.service}]
    seconds: 600
    state: armed
"""

RETURN = r"""
sop_evidence:
  description: The phase, when the switch fires, and what each dataset's state is.
  returned: success
  type: dict
  sample:
    kind: switch
    phase: armed
    deadline: "2026-11-22T03:10:00Z"
    watcher: systemd
    datasets: {antrean: {state: staged, reverted: false}}
    emptied: false
"""

import time
from typing import Any

from ansible_collections.diskominfo.sop.plugins.module_utils import settle, switch_units
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Engine, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import load_engine
from ansible_collections.diskominfo.sop.plugins.module_utils.host import (
    CASE_OPTIONS,
    GATE_OPTIONS,
    SECRET_OPTIONS,
    Job,
    evidence,
    run_module,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import SIGNALS, default_state_dir, iso, utc_now
from ansible_collections.diskominfo.sop.plugins.module_utils.services import load_service
from ansible_collections.diskominfo.sop.plugins.module_utils.switch import EMPTIED, LIVE, Switch, boot_id, on_which


class Arming:
    """One call: this host's switch, its datasets and services, and the step to the wanted phase."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.switch: Switch = job.switch
        self.journal = self.switch.read()
        self.found = str(self.journal.get("phase") or "")
        #: what sop-settle came to before this call, where it fired
        self.fired: Json | None = self.journal.get("outcome") if self.found == "settled" else None
        self.engines = [self._engine(dataset) for dataset in job.params["datasets"]]
        self.identity: Json = {}

    def _engine(self, dataset: Json) -> Engine:
        state_dir = str(dataset.get("state_dir") or default_state_dir())
        return load_engine({**dataset, "state_dir": state_dir}, self.job.secrets_of(str(dataset["id"])))

    def states(self) -> Json:
        """What each dataset's state is, and whether it was live once and taken back."""
        found: Json = {}
        for engine in self.engines:
            if not self.job.check_mode:
                engine.settle(self.job.case)
            mark = settle.restore_journal(engine.dataset, self.job.case).read() or {}
            found[engine.dataset["id"]] = {
                "state": engine.state(self.job.case),
                "reverted": bool(mark.get("reverted")),
            }
        return found

    def all_swapped(self, states: Json) -> bool:
        """Whether every dataset here is swapped."""
        return bool(states) and all(entry["state"] == "swapped" for entry in states.values())

    # -- the phases --------------------------------------------------------------------------------------------

    def armed(self) -> Json:
        """Watch from now on."""
        states = self.states()
        phase = self.found
        if phase not in LIVE:
            swapped = [entry["state"] == "swapped" for entry in states.values()]
            if any(swapped) and not all(swapped):
                raise SopError(
                    f"{self.job.case}: some of the datasets here are swapped and some are not, and no switch says why; "
                    f"look at them and bring them to one side by hand ({states})"
                )
            phase = "committed" if swapped and all(swapped) else "armed"
        return self.watched(phase, states)

    def watched(self, phase: str, states: Json) -> Json:
        """Lay everything down and begin to count."""
        params = self.job.params
        if self.job.check_mode:
            return self.result(True, phase, states)
        deadline = time.time() + params["seconds"]
        services, units = self._services()
        self.switch.require_alone(params["datasets"], params["services"], units)
        switch_units.write_secrets(self.switch, {key: self.job.secrets_of(key) for key in states})
        fields: Json = {
            "case": self.job.case,
            "site": self.switch.site,
            "datasets": params["datasets"],
            "services": services,
            "units": units,
            "deadline": deadline,
            "ends": time.monotonic() + params["seconds"],
            "boot": boot_id(),
            "armed_at": utc_now(),
            "together": params["together"],
            "alone": params["alone"],
            "held": None,
            "served": phase == "committed" and (self.found not in LIVE or bool(self.journal.get("served"))),
            "outcome": None,
        }
        # in the journal first: units without a journal would settle nothing, a journal without units waits for a person
        self.journal = self.switch.enter(phase, **fields)
        watcher = switch_units.lay_down(self.switch, units, params["seconds"])
        self.journal = self.switch.enter(phase, watcher=watcher)
        return self.result(True, phase, states)

    def _services(self) -> tuple[list[Json], list[str]]:
        """The services, with whether each is to be started again; and every unit that is to be held down with them."""
        known = {}
        if self.found in LIVE or self.found == "settled":  # what an earlier run stopped was active
            known = {
                entry["service"]["name"]: bool(entry.get("active")) for entry in self.journal.get("services") or []
            }
        services, units = [], []
        for settings in self.job.params["services"]:
            service = load_service(settings, settle.service_journal(settings, self.job.case))
            active = service.is_running() or known.get(service.name, False)
            services.append({"service": settings, "active": active})
            units += [unit for unit in service.units() if unit not in units]
        return services, units

    def ready(self) -> Json:
        """All here is swapped; nothing is decided until every host says so."""
        self._require("armed", "ready", "committed", "in_place")
        states = self.states()
        if self.found in {"armed", "in_place"}:
            self._require_swapped(states)
        return self.entered("ready", states)

    def committed(self) -> Json:
        """The new data counts, and is open from now on."""
        self._require("armed", "ready", "committed", "in_place")
        states = self.states()
        self._require_swapped(states)
        if self.job.check_mode:
            return self.result(self.found != "committed", "committed", states)
        self.identity = {engine.dataset["id"]: engine.swap(self.job.case) for engine in self.engines}
        with SIGNALS.deferred():
            done = self.entered("committed", states)
            for engine in self.engines:
                engine.release()
        return done

    def aborted(self) -> Json:
        """The old data is to come back."""
        if self.journal.get("emptied"):
            raise SopError(f"{self.job.case}: {EMPTIED}")
        if self.found == "settled" and (self.journal.get("outcome") or {}).get("data") == "new":
            raise self._fired()
        states = self.states()
        if self.found not in LIVE:
            return self.watched("aborted", states)
        return self.entered("aborted", states)

    def in_place(self) -> Json:
        """From here on there is no old data on this host."""
        self._require("armed", "in_place")
        return self.entered("in_place", self.states())

    def disarmed(self) -> Json:
        """Nothing is watched any more."""
        states = self.states()
        if self.found == "in_place" and not self.job.check_mode:
            raise SopError(
                f"{self.job.case}: the live data here was being replaced where it lies, so the switch stays armed; "
                "run the execution again"
            )
        undecided = [name for name, entry in states.items() if entry["state"] == "swapped"]
        if self.found in {"armed", "ready", "aborted"} and undecided and not self.job.check_mode:
            raise SopError(
                f"{self.job.case}: {', '.join(undecided)} is swapped and not committed, so the switch stays armed; "
                "run the execution again"
            )
        left = self.found in LIVE or self.found == "settled"
        if left and not self.job.check_mode:
            self.journal = self.switch.enter("disarmed")
            switch_units.take_up(self.switch, [str(unit) for unit in self.journal.get("units") or []])
        return self.result(left, "disarmed", states)

    # -- what they share ---------------------------------------------------------------------------------------

    def _require(self, *phases: str) -> None:
        if self.job.check_mode or self.found in phases:
            return
        if self.found == "settled":
            raise self._fired()
        raise SopError(
            f"{self.job.case}: this host is {self.found or 'not armed'}, so it cannot be {self.job.params['state']}; "
            "run the execution again"
        )

    def _fired(self) -> SopError:
        outcome = self.journal.get("outcome") or {}
        return SopError(
            f"{self.job.case}: the dead man's switch of this host fired at {outcome.get('at')} and "
            f"settled{on_which(outcome)}; run the execution again"
        )

    def _require_swapped(self, states: Json) -> None:
        wrong = [f"{name} is {entry['state']}" for name, entry in states.items() if entry["state"] != "swapped"]
        if wrong and not self.job.check_mode:
            raise SopError(f"{self.job.case}: not everything is swapped here ({', '.join(wrong)}); nothing was decided")

    def entered(self, phase: str, states: Json) -> Json:
        """Write the phase down, unless it is there."""
        changed = self.found != phase
        if changed and not self.job.check_mode:
            self.journal = self.switch.enter(phase)
        return self.result(changed, phase, states)

    def result(self, changed: bool, phase: str, states: Json) -> Json:
        """The module's result."""
        deadline = self.journal.get("deadline")
        proof: dict[str, Any] = {
            "phase": phase,
            "was": self.found,
            "deadline": iso(float(deadline)) if deadline and phase in LIVE else None,
            "fires": settle.meaning(phase) if phase in LIVE else None,
            "watcher": self.journal.get("watcher"),
            "program": switch_units.settle_path(self.switch),
            "datasets": states,
            "emptied": bool(self.journal.get("emptied")),
            "services": [settings["name"] for settings in self.job.params["services"]],
            "outcome": self.fired,
            "identity": self.identity or None,
            "at": utc_now(),
        }
        return {
            "changed": changed,
            "diff": {"before": f"phase: {self.found or 'none'}\n", "after": f"phase: {phase}\n"},
            "sop_evidence": evidence("switch", **proof),
        }


def work(job: Job) -> Json:
    """Bring the switch to the wanted phase."""
    result: Json = getattr(Arming(job), job.params["state"])()
    return result


def operation(params: Json) -> str:
    """What the grant must allow."""
    return f"switch.{params['state']}"


def main() -> None:
    """Entry point."""
    options = {
        **CASE_OPTIONS,
        **GATE_OPTIONS,
        **SECRET_OPTIONS,
        "datasets": {"type": "list", "elements": "dict", "default": []},
        "services": {"type": "list", "elements": "dict", "default": []},
        "seconds": {"type": "int", "required": True},
        "together": {"type": "bool", "default": False},
        "alone": {"type": "bool", "default": False},
        "state": {
            "type": "str",
            "choices": ["armed", "ready", "committed", "aborted", "in_place", "disarmed"],
            "required": True,
        },
    }
    run_module(options, work, operation)


if __name__ == "__main__":
    main()
