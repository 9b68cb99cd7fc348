# SPDX-License-Identifier: Apache-2.0
"""Planning by available capacity: look at the servers without changing anything, refuse what does not fit, sign the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from sopctl import approval, capacity, clock
from sopctl import plan as plans
from sopctl.case import Case, due_step
from sopctl.duties import separation
from sopctl.errors import GateRefused, RunFailed, UsageError
from sopctl.examination import examine
from sopctl.execution import Run, execute
from sopctl.models import Json
from sopctl.session import Session, Signer
from sopctl.targeting import case_plan
from sopctl.vault import catalogue


@dataclass(frozen=True)
class Wanted:
    """What the planner says: window (None: from now until the approval ends), who is on duty, the risk, and whether the
    live data is to be replaced where it lies (also where the request already says so)."""

    since: str | None
    until: str | None
    on_duty: list[str]
    risk: str
    in_place: bool = False


def plan(
    session: Session,
    case_id: str,
    wanted: Wanted,
    person: str | None,
    key: str | None,
    progress: Callable[[Json], None],
) -> Case:
    """File the plan of a case. GateRefused with the numbers when it does not fit."""
    session.read_what_decides()
    signer = session.signer(person, key)
    with session.holding(case_id, signer.person.id):
        return _plan(session, case_id, wanted, signer, progress)


def _plan(session: Session, case_id: str, wanted: Wanted, signer: Signer, progress: Callable[[Json], None]) -> Case:
    case = session.case_to_act_on(case_id)
    step = due_step(case, "plan")
    role = session.role(signer.person, step.actors, f"plan (step {step.nomor})")
    context = session.context()
    if reasons := separation(context, case, (signer.person.id, role)) or examine(context, case):
        raise GateRefused(reasons, where=case.id)
    window = _window(session, case, wanted)
    people = _on_duty(session, wanted.on_duty or [signer.person.id])
    in_place = _in_place(case, wanted)
    target = case_plan(session, case, in_place=in_place)
    granted = approval.approval_of(case)
    longest = context.trust.file.policy.approval_days_max
    if granted and (
        reasons := approval.approved(context, granted[0], target, granted[1], chosen=in_place, days=longest)
    ):
        raise GateRefused(reasons, where=case.id)
    run = _look(session, target, signer, progress)
    evidence = [entry for entry in run.outcome.evidence if entry["kind"] == "capacity"]
    vault = next((entry for entry in run.outcome.evidence if entry["kind"] == "vault-capacity"), None)
    items = run.plan["items"]
    stored = {backup.dataset for backup in catalogue(session.site)}
    reasons = capacity.assess(items, evidence, vault, stored)
    if not approval.executions(context, case.id):  # what an earlier run of this case placed is no obstacle
        reasons += capacity.occupied(items, evidence)
    if reasons:
        raise GateRefused(reasons, where=case.id, hint="Make room, or reject the request; nothing was changed.")
    for what in capacity.unknown(items, evidence, vault):
        session.say(what)
    predictions = _predictions(session, items, evidence)
    risks = capacity.risks(items, evidence, vault, predictions)
    body: Json = {
        "targets": [approval.approval_target(item) for item in target["items"]],
        "capacity": [capacity.row(item, evidence, predictions[item["dataset"]["id"]], vault) for item in items],
        "window": window,
        "on_duty": people,
        "services": {
            item["dataset"]["id"]: [f"{one['server']}/{one['service']['name']}" for one in item["services"]]
            for item in target["items"]
        },
        "risk": "; ".join([*([wanted.risk] if wanted.risk else []), *risks]),
        "informs": step.informs,
        "observed": run.id,
    }
    if in_place:
        body["in_place"] = True
    return session.file(case, step, signer, role, body)


def _in_place(case: Case, wanted: Wanted) -> bool:
    """Whether this plan restores in place: by the request, or as its author chooses now."""
    if wanted.in_place and case.operation != "restore":
        raise UsageError("a backup replaces nothing", where="--in-place", hint="Leave it away.")
    if wanted.in_place and case.request.get("to"):
        raise UsageError("this restore touches no live data", where="--in-place", hint="Leave it away.")
    return wanted.in_place or case.request.get("in_place") is True


def _predictions(session: Session, items: list[Json], evidence: list[Json]) -> dict[str, capacity.Prediction]:
    """How long each dataset will take, from what the records tell of it."""
    history = capacity.history(session.site)
    found = {}
    for item in items:
        dataset, seen = item["dataset"]["id"], capacity.answer(item, evidence)
        live = (seen["bytes"] if seen else 0) or 0
        size, runs = item.get("bytes") or live, history.get(dataset, [])
        if item.get("in_place"):
            found[dataset] = capacity.predict_in_place(dataset, size, live, runs)
        else:
            stops = bool(item["services"])
            found[dataset] = capacity.predict(dataset, item["operation"], size, runs, stops_service=stops)
    return found


def _look(session: Session, target: Json, signer: Signer, progress: Callable[[Json], None]) -> Run:
    looked = plans.look_plan(session.site, target)
    run = execute(
        session,
        looked,
        lambda current: approval.targets(session.context(), current),
        signer,
        check=False,
        case_held=True,
        progress=progress,
    )
    shutil.rmtree(run.folder, ignore_errors=True)
    said = [f"{failure['host']}: {failure['msg']}" for failure in run.outcome.failures]
    said += [f"{host} does not answer: {why}" for host, why in run.outcome.unreachable.items()]
    if said or run.outcome.problems:
        raise RunFailed("; ".join(said or run.outcome.problems), where=looked["case"], hint="Nothing was planned.")
    return run


def _window(session: Session, case: Case, wanted: Wanted) -> Json:
    granted = approval.approval_of(case)
    limit = granted[0].get("valid_until") if granted and isinstance(granted[0], dict) else None
    now = clock.now()
    since = wanted.since or now
    until = wanted.until or (limit if isinstance(limit, str) else clock.plus(now, days=session.policy.approval_days))
    for name, value in (("--since", since), ("--until", until)):
        if not clock.is_time(value):
            raise UsageError(f"{value!r} is not a time", where=name, hint="Write it in UTC as 2026-11-22T03:00:00Z.")
    if not since < until or until <= now:
        raise UsageError(f"the window {since} to {until} is empty or over", where="--until")
    if isinstance(limit, str) and until > limit:
        raise UsageError(f"the window ends at {until}, the approval at {limit}", where="--until")
    return {"since": since, "until": until}


def _on_duty(session: Session, people: list[str]) -> list[Json]:
    found = []
    for person_id in people:
        person = session.trust.person(person_id)
        roles = [held.role for held in person.roles if session.trust.has_role(person, held.role, clock.now())]
        if not roles:
            raise UsageError(f"{person_id} holds no role now", where="--on-duty")
        found.append({"person": person.id, "roles": sorted(set(roles))})
    return found
