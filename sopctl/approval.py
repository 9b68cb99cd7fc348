# SPDX-License-Identifier: Apache-2.0
"""The gate: documents + trust + profile + register + plan + now → allowed, or every reason why not.

Nothing here reads a file, opens a connection or knows the time by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sopctl import clock, periods, reviews
from sopctl.case import Case, due_act
from sopctl.context import Context
from sopctl.duties import authority, requester_now, separation, taken_back
from sopctl.examination import examine
from sopctl.ledger import CLOCK_TOLERANCE, LedgerLine
from sopctl.models import Json, Schedule, Server
from sopctl.reviews import Last


def sha256(data: bytes) -> str:
    """A digest as the ledger has it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def executions(context: Context, case_id: str) -> list[LedgerLine]:
    """Runs that the ledger knows of this case, oldest first."""
    return [line for line in context.lines if line.kind == "run-started" and line.ref.startswith(f"{case_id}/")]


def gate_case(context: Context, case: Case, plan: Json, person: str, role: str) -> list[str]:
    """Why this plan of this case may not run now; empty when it may."""
    found = examine(context, case) + authority(context, case) + requester_now(context, case)
    due = case.state.due
    if due is None or due.act != "execute":
        what = f"{due_act(due)} by {' or '.join(due.actors)} (step {due.id})" if due else "nothing: the case is closed"
        found.append(f"execution is not due; due is {what}")
        return found
    found += operator(context, case, person, role, due.actors)
    granted = approval_of(case)
    if granted is None:
        return [*found, f"case {case.id} carries no approval"]
    approval, at = granted
    if not overtaken(case):
        found += taken_back(context, case)
        longest = context.trust.file.policy.approval_days_max
        found += approved(context, approval, plan, at, chosen=in_place_by_plan(case), days=longest)
    elif case.state.emergency == "censured":
        found.append("the emergency was censured; nothing more is executed by it")
    elif not context.trust.file.policy.break_glass or context.profile.profile.break_glass is None:
        found.append("the trust allows no emergency (policy.break_glass)")
    else:
        found += approved(context, approval, plan, at, hours=context.profile.profile.break_glass.hours)
    if isinstance(approval, dict) and approval.get("request") != case.filed[0].digest:
        found.append("the approval is of another request (its bytes differ)")
    return found + planned(context, case, plan) + targets(context, plan)


def overtaken(case: Case) -> bool:
    """Whether an emergency goes before approval: two operators signed it; one signature changes nothing yet."""
    return case.state.emergency not in {"", "asked"}


def approval_of(case: Case) -> tuple[Any, str] | None:
    """What the case was approved for and when: by the decision, or by an emergency that two operators signed."""
    if overtaken(case):
        asked = case.all("emergency")
        if len(asked) != 2 or asked[1].document.body.get("countersigns") != asked[0].link:
            return None
        return asked[0].document.body.get("approval"), asked[0].document.at
    decision = case.last("decide")
    if decision is None or decision.document.body.get("decision") != "approve":
        return None
    return decision.document.body.get("approval"), decision.document.at


def in_place_by_plan(case: Case) -> bool:
    """Whether the case's plan chose to restore in place, where the SOP plans after it has decided.

    Where it decides over the plan, what it approved stands.
    """
    order = [step.act for step in case.flow.steps]
    if "plan" not in order or "decide" not in order or order.index("plan") < order.index("decide"):
        return False
    return case.body("plan").get("in_place") is True


def planned(context: Context, case: Case, plan: Json) -> list[str]:
    """Why this run is not what was planned, in an SOP that plans; nothing to say in an emergency."""
    if case.flow.first("plan") is None or overtaken(case):
        return []
    filed = case.last("plan")
    if filed is None:
        return ["nothing was planned yet"]
    body = filed.document.body
    found = [f"the plan is another: {reason}" for reason in _compare(body.get("targets"), plan)]
    window = body.get("window")
    since, until = (str(window.get(key)) if isinstance(window, dict) else "" for key in ("since", "until"))
    if not (clock.is_time(since) and clock.is_time(until)):
        found.append("the plan's window is not a time")
    elif not since <= context.now <= until:
        found.append(f"the plan's window is {since} to {until}, now is {context.now}")
    return found


def approved(
    context: Context, approval: Any, plan: Json, decided: str, *, chosen: bool = False, **longest: int
) -> list[str]:
    """What differs between what was approved (at ``decided``) and what would run, each named.

    ``chosen``: who plans has since chosen to restore in place (:func:`in_place_by_plan`); nothing else may differ.
    """
    if not isinstance(approval, dict):
        return ["the decision does not say what it approves"]
    found = _window(context, approval, decided, longest)
    code = context.code()
    if approval.get("code") != code:
        found.append(f"the code differs from the approved code ({approval.get('code')} then, {code} now)")
    listed = approval.get("targets")
    if chosen and isinstance(listed, list):
        listed = [{**target, "in_place": True} if isinstance(target, dict) else target for target in listed]
    return found + _compare(listed, plan)


def _compare(approved_targets: Any, plan: Json) -> list[str]:
    """Names of what differs between targets as a document has them and as the plan would run them."""
    found = []
    wanted = {item["dataset"]["id"]: item for item in plan["items"]}
    listed = approved_targets if isinstance(approved_targets, list) else []
    allowed = {str(item.get("dataset")): item for item in listed if isinstance(item, dict)}
    for dataset, item in wanted.items():
        if dataset not in allowed:
            found.append(f"dataset {dataset} was not approved")
            continue
        now = approval_target(item)
        found += [
            f"{dataset}: {key} was approved as {allowed[dataset].get(key)}, now is {now[key]}"
            for key in now
            if key != "register" and allowed[dataset].get(key) != now[key]
        ]
        found += [
            f"{dataset}: {name} in the register was changed after the approval"
            for name in differences(allowed[dataset].get("register"), now["register"])
        ]
    return found + [
        f"dataset {dataset} was approved but is not planned" for dataset in allowed if dataset not in wanted
    ]


def _window(context: Context, approval: Json, decided: str, longest: Mapping[str, int]) -> list[str]:
    """Why the approval does not hold now, or holds for longer than anybody may approve (``days`` or ``hours``)."""
    since, until = str(approval.get("valid_from")), str(approval.get("valid_until"))
    for moment in (since, until):
        if not clock.is_time(moment):
            return [f"the approval's validity {moment!r} is not a time"]
    found = []
    if not since <= context.now <= until:
        found.append(f"the approval held until {until}, now is {context.now}")
    if clock.seconds_between(clock.plus(decided, **longest), until) > 0:
        unit, count = next(iter(longest.items()))
        who = "the trust" if unit == "days" else "the SOP (emergency)"
        found.append(f"the approval holds until {until}, longer than the {count} {unit} that {who} allows")
    return found


def approval_target(item: Json) -> Json:
    """What an approval says of one planned dataset; ``register`` is what the modules would get of it, word by word."""
    return {
        "dataset": item["dataset"]["id"],
        "server": item["server"],
        "host": item["host"],
        "machine_id": item["machine_id"],
        "ssh_host_key": item["ssh_host_key"],
        "place": (item.get("to") or {}).get("place") or item["dataset"].get("database") or item["dataset"].get("path"),
        "to": item.get("to"),
        "in_place": item.get("in_place", False),
        "drill": (item.get("drill") or {}).get("server"),
        "owner_unit": item["owner_unit"],
        "classification": item["classification"],
        "services": [f"{service['server']}/{service['service']['name']}" for service in item["services"]],
        "backup": item.get("snapshot"),
        "backup_sha256": item.get("sha256"),
        "backup_manifest": item.get("manifest_snapshot"),
        "register": {
            "dataset": item["dataset"],
            "services": {
                f"{service['server']}/{service['service']['name']}": service["service"] for service in item["services"]
            },
        },
    }


#: seconds that a scheduled plan may be later than what it is judged by; clocks are read in between
PLANNED_AHEAD = 600


def gate_schedule(
    context: Context, schedule: Schedule, data: bytes, signature: bytes | None, plan: Json, person: str, role: str
) -> list[str]:
    """Why this scheduled plan may not run now; empty when it may."""
    flow_name = context.profile.profile.schedule_flow()
    if flow_name is None:
        return [f"profile {context.profile.profile.id} has no scheduled flow"]
    found = standing_order(context, schedule, data, signature)
    entries = {entry.dataset: entry for entry in schedule.entries}
    for item in plan["items"]:
        dataset = item["dataset"]["id"]
        if dataset not in entries:
            found.append(f"dataset {dataset} is not in the schedule")
            continue
        # by when the run began: one that takes longer than its window comes to its end
        opens = periods.opens(schedule.window_of(entries[dataset]), plan["at"], context.work.tz)
        if opens > plan["at"]:
            found.append(f"the window of {dataset} is closed at {plan['at']}; it opens at {opens}")
    # the context may have been looked at a little before the plan was made
    if clock.seconds_between(context.now, plan["at"]) > PLANNED_AHEAD:
        found.append(f"the plan is of {plan['at']}, now is {context.now}")
    if context.trust.file.profiles.get(context.profile.profile.id) != context.profile.digest:
        found.append(f"profile {context.profile.profile.id} is not the one in the trust (its bytes differ)")
    flow = context.profile.profile.flow(flow_name)
    found += operator(context, None, person, role, flow.steps[0].actors)
    return found + targets(context, plan)


def standing_order(context: Context, schedule: Schedule, data: bytes, signature: bytes | None) -> list[str]:
    """Why the schedule is not a valid standing order now."""
    signers = context.profile.profile.schedule_signers()
    if signature is None:
        return [f"the schedule is not signed by {' or '.join(signers)}"]
    found = []
    signed = [line for line in context.lines if line.kind == "schedule"]
    known = [line.digests.get("schedule") for line in signed]
    if (
        sha256(data) in known[:-1] and sha256(data) != known[-1]
    ):  # one that the ledger does not know was signed just now
        found.append(f"the schedule is not the one that was signed last, at {signed[-1].at}")
    if schedule.site != context.site:
        found.append("the schedule is of another site")
    if schedule.profile != context.profile.profile.id:
        found.append(f"the schedule is of profile {schedule.profile}")
    if not schedule.valid.since <= context.now <= schedule.valid.until:
        found.append(f"the schedule holds from {schedule.valid.since} to {schedule.valid.until}, now is {context.now}")
    holders = [
        person.id
        for person in context.trust.file.people
        if any(context.trust.has_role(person, role, context.now) for role in signers)
    ]
    reasons = [
        context.trust.reasons(data, signature, "sop-schedule", holder, signers, [context.now]) for holder in holders
    ]
    if not any(reason == [] for reason in reasons):
        first = next((reason for reason in reasons if reason), [f"nobody holds {' or '.join(signers)}"])
        found.append(f"the schedule's signature is not one of {' or '.join(signers)}: {first[0]}")
    return found


def operator(context: Context, case: Case | None, person: str, role: str, allowed: list[str]) -> list[str]:
    """Why ``person`` may not execute in ``role`` (``case``: requested, None for what the schedule starts)."""
    found = []
    entry = next((entry for entry in context.trust.file.people if entry.id == person), None)
    if role not in allowed:
        found.append(f"execution is for {' or '.join(allowed)}, not {role}")
    elif entry is None or not context.trust.has_role(entry, role, context.now):
        found.append(f"{person} does not hold {role} now")
    elif entry.kind == "service" and case is not None:
        found.append(f"{person} is a service identity: it executes what the schedule allows, never a case")
    if case is not None:
        found += separation(context, case, (person, role))
    return found


def targets(context: Context, plan: Json) -> list[str]:
    """What :func:`registered` finds, and reviews overdue where the policy blocks."""
    found = registered(context, plan)
    return found + review_reasons(context, plan) if context.policy.asset_review == "block" else found


def review_reasons(context: Context, plan: Json) -> list[str]:
    """Why the planned servers' register entries do not count as reviewed; they block or are said, as the policy has it."""
    found = list(context.reviews.problems)
    for identity in plan["hosts"].values():
        server = context.servers.get(identity["server"])
        if server is None or not review_overdue(server, context.now, context.reviews.last.get(server.id)):
            continue
        last = context.reviews.last.get(server.id)
        at = max((last.at[:10] if last else ""), server.reviewed.at if server.reviewed else "") or "never"
        wrong = f": {last.said.result}, {last.document}" if last and last.said.result != reviews.GOOD else ""
        found.append(f"the register's review of {server.id} is overdue (last {at}{wrong})")
    return found


def registered(context: Context, plan: Json) -> list[str]:
    """Code that the trust does not list (where it lists any), settings and register entries that are not the signed ones,
    and hosts that are not registered as the plan names them. It is all that a look at servers needs."""
    found = [*_clock(context), *context.settings()]
    entries = [f"datasets/{item['dataset']['id']}.yml" for item in plan["items"]]
    entries += [f"servers/{planned_host['server']}.yml" for planned_host in plan["hosts"].values()]
    found += context.register(sorted(set(entries)))
    if context.trust.file.code and context.code() not in context.trust.file.code:
        found.append(f"the code {context.code()} is not in the trust's list")
    for host, identity in plan["hosts"].items():
        server = context.servers.get(identity["server"])
        if server is None or server.inventory_hostname != host:
            found.append(f"host {host} is not in the asset register as {identity['server']}")
            continue
        if (server.machine_id, server.ssh_host_key) != (identity["machine_id"], identity["ssh_host_key"]):
            found.append(f"host {host} is registered with another identity than planned")
    return found


def _clock(context: Context) -> list[str]:
    """Why this machine's clock is in doubt: it lies behind what the ledger has reached."""
    reached = max((line.at for line in context.lines), default=context.now)
    if clock.seconds_between(context.now, reached) > CLOCK_TOLERANCE.total_seconds():
        return [f"this machine's clock says {context.now}, but the ledger already reached {reached}"]
    return []


def review_overdue(server: Server, now: str, last: Last | None = None) -> bool:
    """Whether the last review (``last``: signed; else what the entry says) is over a year ago, never was, or found it wrong."""
    until = reviews.due(last, server.reviewed.at if server.reviewed else None)
    return until is None or now > f"{until}T00:00:00Z"


def differences(planned: Any, actual: Any, path: str = "") -> list[str]:
    """Names of the arguments whose value is not the planned one."""
    if isinstance(planned, Mapping) and isinstance(actual, Mapping):
        keys = sorted({*planned, *actual}, key=str)
        return [
            name
            for key in keys
            for name in differences(planned.get(key), actual.get(key), f"{path}.{key}" if path else str(key))
        ]
    return [] if planned == actual else [path or "value"]


def site_path(path: Path, root: Path) -> str:
    """``path`` as the site sees it, for messages."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
