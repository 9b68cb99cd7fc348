# SPDX-License-Identifier: Apache-2.0
"""The 3 a.m. page: what each host is left with when a restore ends with its service down. Pure: a run in, a page out.

Nothing is guessed: what stands here was said by a host as evidence, or it is called unknown.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from sopctl import plan as plans
from sopctl.escalation_data import FIRES, DataPage, SwitchPage, data_page
from sopctl.execution import Run
from sopctl.models import Json

#: the same on a host that holds services of the case and none of its data
ALONE = {**FIRES, **dict.fromkeys(("armed", "aborted", "committed"), "starts the services of this host")}


@dataclass(frozen=True)
class ServicePage:
    """One service. ``state``: runs, stopped, held (stopped, and kept down by a file) or unknown."""

    service: str
    unit: str
    state: Literal["runs", "stopped", "held", "unknown"]
    since: str | None
    health: str
    commands: list[str]


@dataclass(frozen=True)
class HostPage:
    """One host. ``answers`` is False when the run lost it; ``why`` says how."""

    host: str
    answers: bool
    why: str
    datasets: list[DataPage]
    services: list[ServicePage]
    switch: SwitchPage | None


@dataclass(frozen=True)
class Step:
    """What to do, and the commands for it."""

    text: str
    commands: list[str]


@dataclass(frozen=True)
class Page:
    """The whole page."""

    case: str
    run: str
    at: str
    failures: list[str]
    hosts: list[HostPage]
    advice: Literal["old", "new", "only-new", "wait", "vault"]
    steps: list[Step]


def escalate(run: Run, person: str, now: str) -> Page:
    """The page of a run that left a service down; ``person`` is whose command goes on."""
    hosts = [_host(run, host, now) for host in run.plan["hosts"]]
    failures = [f"{entry['host']}: {entry['msg']}" for entry in run.outcome.failures]
    failures += [f"{host} does not answer: {why}" for host, why in run.outcome.unreachable.items()]
    failures += [f"evidence: {problem}" for problem in run.outcome.problems]
    advice = _advice(hosts)
    case = str(run.plan["case"])
    return Page(
        case=case,
        run=run.id,
        at=now,
        failures=list(dict.fromkeys(failures)),
        hosts=hosts,
        advice=advice,
        steps=_steps(case, person, hosts, advice),
    )


# -- one host ---------------------------------------------------------------------------------------------------------


def _host(run: Run, host: str, now: str) -> HostPage:
    own = [entry for entry in run.outcome.evidence if entry.get("host") == host]
    lost = _lost(run, host)
    switch = _switch(run, host, own, now)
    return HostPage(
        host=host,
        answers=not lost,
        why=lost,
        datasets=[data_page(run, item, own, lost, switch) for item in run.plan["items"] if item["host"] == host],
        services=[
            _service(run, planned["service"], host, own, lost, switch)
            for planned in plans.run_services(run.plan)
            if planned["host"] == host
        ],
        switch=switch,
    )


def _lost(run: Run, host: str) -> str:
    """Why the host does not answer; empty when it does."""
    if host in run.outcome.unreachable:
        return run.outcome.unreachable[host]
    for entry in reversed(run.outcome.failures):
        if entry["host"] == host and ": does not answer: " in str(entry["msg"]):
            return str(entry["msg"]).partition(": does not answer: ")[2]
    return ""


def _switch(run: Run, host: str, own: Iterable[Json], now: str) -> SwitchPage | None:
    """What the host's switch said last."""
    last = next((entry for entry in reversed(list(own)) if entry["kind"] == "switch" and not entry.get("failed")), None)
    if last is None:
        return None
    phase = str(last.get("phase")).replace("-", "_")
    deadline = last.get("deadline") if phase in FIRES else None
    outcome = last.get("outcome") or {}
    here = any(item["host"] == host for item in run.plan["items"])
    does = (FIRES if here else ALONE).get(phase) or (
        f"has fired: settled on the {str(outcome.get('data')).upper()} data"
        if phase == "settled"
        else "is off: nothing happens by itself any more"
    )
    fired = phase == "settled" or (deadline is not None and deadline <= now)
    return SwitchPage(phase, deadline, fired, does, str(last.get("program") or _program(run.plan)))


def _program(plan: Json) -> str:
    """Where sop-settle lies on a host that is managed as root."""
    site = re.sub(r"[^A-Za-z0-9]", "", str(plan["site"]))[:8]
    return f"/var/lib/sop/switch/{plan['case']}-{site}/sop-settle"


# -- its services -----------------------------------------------------------------------------------------------------


def _service(run: Run, service: Json, host: str, own: list[Json], lost: str, switch: SwitchPage | None) -> ServicePage:
    name = service["name"]
    last = next((entry for entry in reversed(own) if entry["kind"] == "service" and _is_of(entry, name)), None)
    unit = str(service.get("unit") or "")
    state: Literal["runs", "stopped", "held", "unknown"] = "unknown"
    if last is not None and not lost and not last.get("failed"):
        state = "runs" if last.get("state") == "started" else "stopped"
    elif last is None and not lost and (host, name) not in run.stops:
        state = "runs"  # nobody was allowed to stop it
    if state == "stopped" and unit and switch is not None and switch.phase in FIRES:
        state = "held"
    return ServicePage(
        service=name,
        unit=unit,
        state=state,
        since=(last or {}).get("at"),
        health=str((service.get("health") or {}).get("url") or ""),
        commands=_by_hand(service, unit),
    )


def _is_of(entry: Json, name: str) -> bool:
    service = entry.get("service")
    return (service.get("name") if isinstance(service, dict) else service) == name


def _by_hand(service: Json, unit: str) -> list[str]:
    """Look, let go of the hold, start."""
    if not unit:
        return [shlex.join(service[key]) for key in ("status", "start") if service.get(key)]
    quoted = shlex.quote(unit)
    return [
        f"systemctl status {quoted}; journalctl -u {quoted} -n 30 --no-pager",
        f"sudo rm -f /run/sop/hold-{quoted} && sudo systemctl start {quoted}",
    ]


# -- what to do -------------------------------------------------------------------------------------------------------


def _advice(hosts: list[HostPage]) -> Literal["old", "new", "only-new", "wait", "vault"]:
    """Which side is the right one, where all that is known says the same."""
    phases = {host.switch.phase for host in hosts if host.switch}
    states = {data.state for host in hosts for data in host.datasets}
    given_up = "in_place" in phases or any(data.given_up for host in hosts for data in host.datasets)
    if "committed" in phases or "committed" in states:  # on that host writers may be at work on the new data already
        return "only-new" if given_up else "new"
    if given_up:
        return "vault"
    if "ready" in phases and not all(host.answers for host in hosts):
        return "wait"  # a host that does not answer may have been told something else
    return "old"


_WORDS = {
    "old": "Nothing counts as restored yet, so the OLD data is the safe side.",
    "new": "A host was told that the NEW data counts, and may have let writers in: NEW is the side, unless the new data is "
    "wrong; what was written to it is then set aside, not lost.",
    "only-new": "A host was told that the NEW data counts, and there is no old data beside it: NEW is the only side.",
    "wait": "First reach the host that does not answer: it may have been told which side counts. Only then decide.",
    "vault": "There is no old data beside the live data: it is in the safety backup in the vault. Do not decide for old; "
    "run the execution again, or restore the safety backup as a new case.",
}


def _decide(sides: dict[str, str], advice: str) -> list[str]:
    """The commands that decide, the advised side first."""
    if advice == "vault":
        return []
    if advice == "wait":
        return list(sides.values())
    if advice == "only-new":  # old would make the empty data live that a restore in place has left
        return [sides["new"]]
    other = "new" if advice == "old" else "old"
    return [sides[advice], f"{sides[other]}    # the other side"]


def _steps(case: str, person: str, hosts: list[HostPage], advice: str) -> list[Step]:
    programs = list(dict.fromkeys(host.switch.program for host in hosts if host.switch))
    steps = [
        Step(
            "Mend what failed, then run the execution again. It finds on each host how far it came, goes on from there and "
            "never restores twice.",
            [f"sopctl case execute {case} --as {person}"],
        )
    ]
    for program in programs:
        names = ", ".join(host.host for host in hosts if host.switch and host.switch.program == program)
        sides = {side: f"sudo $S {case} --{side}" for side in ("old", "new")}
        steps.append(
            Step(
                f"If sopctl cannot go on: on each host ({names}) ask its switch, which changes nothing.",
                [f"S={program}", f"sudo $S {case} --status"],
            )
        )
        steps.append(
            Step(f"Then decide for ONE side, the same on every host. {_WORDS[advice]}", _decide(sides, advice))
        )
    if not programs:
        steps.append(Step(f"No host says that its dead man's switch is armed. {_WORDS[advice]}", []))
    down = [(host, service) for host in hosts for service in host.services if service.state != "runs"]
    if down:
        steps.append(
            Step(
                "Only when that fails too, with a second person watching and written down: start the services by hand, "
                "after the data is wholly on one side.",
                [f"{command}    # {host.host}" for host, service in down for command in service.commands],
            )
        )
    steps.append(
        Step(
            "Tell who decided and who asked. The case stays open until an execution of it has been filed: "
            "docs/how-to/escalate.md.",
            [f"sopctl case show {case}"],
        )
    )
    return steps
