# SPDX-License-Identifier: Apache-2.0
"""The gate: documents + trust + profile + register + plan + now → allowed, or every reason why not.

Nothing here reads a file, opens a connection or knows the time by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl import clock
from sopctl.case import Case, Filed
from sopctl.ledger import LedgerLine
from sopctl.models import Document, Json, Policy, Schedule, Server
from sopctl.profile import LoadedProfile, Profile
from sopctl.trust import Trust

RECEIVED_WITHIN = 600  # seconds between a document's own time and its acceptance
REVIEW_DAYS = 366


@dataclass(frozen=True)
class Context:
    """Everything the gate looks at besides the case and the plan."""

    site: str
    trust: Trust
    profile: LoadedProfile
    lines: list[LedgerLine]
    servers: Mapping[str, Server]
    policy: Policy
    code: Callable[[], str]  # digest of the code that would run; raises GateRefused when it cannot be believed
    now: str
    tz_name: str


def document_ref(case_id: str, seq: int) -> str:
    """How the ledger names a document."""
    return f"{case_id}/{seq:02d}"


def received_at(context: Context, case: Case, filed: Filed) -> str | None:
    """When the ledger says sopctl accepted exactly these bytes; None when it does not say so."""
    ref = document_ref(case.id, filed.document.seq)
    for line in context.lines:
        if line.kind == "document" and line.ref == ref:
            same = (
                line.digests.get("document") == filed.digest and line.digests.get("signature") == filed.signature_digest
            )
            return line.at if same else None
    return None


def examine(context: Context, case: Case, *, pending: bool = False, whole: bool = True) -> list[str]:
    """Why the case's documents cannot be believed; empty when they can.

    With ``pending`` the last document may still lack its ledger line (it is being accepted now). Without ``whole`` the
    case is a record's copy: the ledger may know later documents.
    """
    found: list[str] = []
    if context.trust.file.profiles.get(context.profile.profile.id) != context.profile.digest:
        found.append(f"profile {context.profile.profile.id} is not the one in the trust (its bytes differ)")
    prev: str | None = None
    for number, filed in enumerate(case.filed, 1):
        document, name = filed.document, filed.path.name
        if (document.case, document.seq) != (case.id, number):
            found.append(f"{name} is document {document.seq} of {document.case}, not {number} of {case.id}")
        if document.site != context.site:
            found.append(f"{name} is of another site")
        if document.prev != prev:
            found.append(f"{name} does not follow the document before it (prev differs)")
        if document.profile != context.profile.reference:
            found.append(
                f"{name} was made under profile {document.profile}, now {context.profile.reference} is in force"
            )
        prev = filed.link
        found += examine_one(context, case, filed, pending and number == len(case.filed))
    found += case.state.reasons
    found += separation(context.profile.profile, case)
    known = sum(1 for line in context.lines if line.kind == "document" and line.ref.startswith(f"{case.id}/"))
    if whole and known > len(case.filed):
        found.append(f"the ledger knows {known} documents of {case.id}, the folder holds {len(case.filed)}")
    return found


def examine_one(context: Context, case: Case, filed: Filed, pending: bool = False) -> list[str]:
    """Why one document cannot be believed, chain and order aside."""
    document, name = filed.document, filed.path.name
    received = received_at(context, case, filed)
    if received is None:
        if not pending:
            return [f"{name} was never received by sopctl in this form (no ledger line fits it)"]
        received = context.now
    late = clock.seconds_between(document.at, received)
    if abs(late) > RECEIVED_WITHIN:
        return [f"{name} says {document.at} but was received at {received}"]
    step = next((step for step in case.flow.steps if step.id == document.step), None)
    if step is None or step.act != document.act:
        return [f"{name}: the SOP has no step {document.step!r} with act {document.act}"]
    if problem := _unsaid(document):
        return [f"{name} {problem}"]
    allowed = [step.gate.decide] if step.gate else step.by
    if document.actor.role not in allowed:
        return [f"{name}: step {step.id} is for {' or '.join(allowed)}, not {document.actor.role}"]
    reasons = context.trust.reasons(
        filed.data,
        filed.signature,
        "sop-document",
        document.actor.person,
        [document.actor.role],
        sorted({document.at, received}),
    )
    return [f"{name}: {reason}" for reason in reasons]


def _unsaid(document: Document) -> str | None:
    """What a body must say and does not: a document signed by hand may hold anything."""
    body = document.body
    if document.act == "request":
        datasets = body.get("datasets")
        if not isinstance(datasets, list) or not datasets or not all(isinstance(one, str) for one in datasets):
            return "does not say which datasets"
        for key in ("operation", "point", "requester", "unit", "reason"):
            if not isinstance(body.get(key), str):
                return f"does not say {key!r}"
    if document.act == "decide" and body.get("decision") == "approve":
        approval = body.get("approval")
        targets = approval.get("targets") if isinstance(approval, dict) else None
        if not isinstance(targets, list) or not all(isinstance(one, dict) and _is_target(one) for one in targets):
            return "does not say what it approves"
    return None


def _is_target(target: Json) -> bool:
    return isinstance(target.get("dataset"), str) and isinstance(target.get("backup"), str)


def separation(profile: Profile, case: Case, acting: tuple[str, str] | None = None) -> list[str]:
    """Roles that must be different persons but are not; ``acting`` is (person, role) of who is about to act.

    The requester counts as the person named in the request, also where the desk signed for them.
    """
    holders: dict[str, set[str]] = {}
    for filed in case.filed:
        document = filed.document
        holders.setdefault(document.actor.role, set()).add(document.actor.person)
        if document.act == "request":
            requester = document.body.get("requester")
            if isinstance(requester, str):
                holders.setdefault(document.actor.role, set()).add(requester)
    if acting:
        holders.setdefault(acting[1], set()).add(acting[0])
    found = []
    for rule in profile.sod:
        for at, first in enumerate(rule.differ):
            for second in rule.differ[at + 1 :]:
                for person in sorted(holders.get(first, set()) & holders.get(second, set())):
                    found.append(f"{person} acts as {first} and as {second}; the SOP needs two persons")
    return found


def executions(context: Context, case_id: str) -> list[LedgerLine]:
    """Runs that the ledger knows of this case, oldest first."""
    return [line for line in context.lines if line.kind == "run-started" and line.ref.startswith(f"{case_id}/")]


def gate_case(context: Context, case: Case, plan: Json, person: str, role: str) -> list[str]:
    """Why this plan of this case may not run now; empty when it may."""
    found = examine(context, case)
    due = case.state.due
    if due is None or due.act != "execute":
        what = f"{due.act} by {' or '.join(due.by)} (step {due.id})" if due else "nothing: the case is closed"
        found.append(f"execution is not due; due is {what}")
        return found
    found += _operator(context, case, person, role, due.by)
    decision = case.last("decide")
    if decision is None or decision.document.body.get("decision") != "approve":
        return [*found, f"case {case.id} carries no approval"]
    found += approved(context, decision.document.body.get("approval"), plan, decision.document.at)
    return found + targets(context, plan)


def approved(context: Context, approval: Any, plan: Json, decided: str) -> list[str]:
    """What differs between what was approved (at ``decided``) and what would run, each named."""
    if not isinstance(approval, dict):
        return ["the decision does not say what it approves"]
    found = _window(context, approval, decided)
    code = context.code()
    if approval.get("code") != code:
        found.append(f"the code differs from the approved code ({approval.get('code')} then, {code} now)")
    wanted = {item["dataset"]["id"]: item for item in plan["items"]}
    allowed = {str(item.get("dataset")): item for item in approval.get("targets", []) if isinstance(item, dict)}
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
    found += [f"dataset {dataset} was approved but is not planned" for dataset in allowed if dataset not in wanted]
    return found


def _window(context: Context, approval: Json, decided: str) -> list[str]:
    """Why the approval does not hold now, or holds for longer than the trust lets anybody approve."""
    since, until = str(approval.get("valid_from")), str(approval.get("valid_until"))
    for moment in (since, until):
        if not clock.is_time(moment):
            return [f"the approval's validity {moment!r} is not a time"]
    found = []
    if not since <= context.now <= until:
        found.append(f"the approval held until {until}, now is {context.now}")
    days = context.trust.file.policy.approval_days_max
    if clock.seconds_between(decided, until) > days * 86400:
        found.append(f"the approval holds until {until}, longer than the {days} days that the trust allows")
    return found


def approval_target(item: Json) -> Json:
    """What an approval says of one planned dataset; ``register`` is what the modules would get of it, word by word."""
    return {
        "dataset": item["dataset"]["id"],
        "server": item["server"],
        "host": item["host"],
        "machine_id": item["machine_id"],
        "ssh_host_key": item["ssh_host_key"],
        "place": item["dataset"].get("database") or item["dataset"].get("path"),
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


def gate_schedule(
    context: Context, schedule: Schedule, data: bytes, signature: bytes | None, plan: Json, person: str, role: str
) -> list[str]:
    """Why this scheduled plan may not run now; empty when it may."""
    flow_name = context.profile.profile.schedule_flow()
    if flow_name is None:
        return [f"profile {context.profile.profile.id} has no scheduled flow"]
    found = standing_order(context, schedule, data, signature)
    entries = {entry.dataset for entry in schedule.entries}
    found += [
        f"dataset {item['dataset']['id']} is not in the schedule"
        for item in plan["items"]
        if item["dataset"]["id"] not in entries
    ]
    if context.trust.file.profiles.get(context.profile.profile.id) != context.profile.digest:
        found.append(f"profile {context.profile.profile.id} is not the one in the trust (its bytes differ)")
    flow = context.profile.profile.flow(flow_name)
    found += _operator(context, None, person, role, flow.steps[0].by)
    return found + targets(context, plan)


def standing_order(context: Context, schedule: Schedule, data: bytes, signature: bytes | None) -> list[str]:
    """Why the schedule is not a valid standing order now."""
    signers = context.profile.profile.schedule_signers()
    if signature is None:
        return [f"the schedule is not signed by {' or '.join(signers)}"]
    found = []
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


def _operator(context: Context, case: Case | None, person: str, role: str, allowed: list[str]) -> list[str]:
    found = []
    entry = next((entry for entry in context.trust.file.people if entry.id == person), None)
    if role not in allowed:
        found.append(f"execution is for {' or '.join(allowed)}, not {role}")
    elif entry is None or not context.trust.has_role(entry, role, context.now):
        found.append(f"{person} does not hold {role} now")
    elif entry.kind == "service" and case is not None:
        found.append(f"{person} is a service identity: it executes what the schedule allows, never a case")
    if case is not None:
        found += separation(context.profile.profile, case, (person, role))
    return found


def targets(context: Context, plan: Json) -> list[str]:
    """Code that the trust does not list (where it lists any), hosts that are not registered as the plan names them, and
    reviews overdue where the policy blocks."""
    found = []
    if context.trust.file.code and context.code() not in context.trust.file.code:
        found.append(f"the code {context.code()} is not in the trust's list")
    for host, planned in plan["hosts"].items():
        server = context.servers.get(planned["server"])
        if server is None or server.inventory_hostname != host:
            found.append(f"host {host} is not in the asset register as {planned['server']}")
            continue
        if (server.machine_id, server.ssh_host_key) != (planned["machine_id"], planned["ssh_host_key"]):
            found.append(f"host {host} is registered with another identity than planned")
        if context.policy.asset_review == "block" and review_overdue(server, context.now):
            found.append(
                f"the register's review of {server.id} is overdue (last {server.reviewed.at if server.reviewed else 'never'})"
            )
    return found


def review_overdue(server: Server, now: str) -> bool:
    """Whether the last review is over a year ago, or never was."""
    if server.reviewed is None:
        return True
    return clock.seconds_between(f"{server.reviewed.at[:10]}T00:00:00Z", now) > REVIEW_DAYS * 86400


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
