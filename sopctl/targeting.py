# SPDX-License-Identifier: Apache-2.0
"""What exactly a case would run: its datasets with hosts, services and backups."""

from __future__ import annotations

from sopctl import approval, clock, effects, vault
from sopctl import plan as plans
from sopctl.case import Case
from sopctl.errors import GateRefused
from sopctl.models import Json
from sopctl.session import Session


def case_plan(session: Session, case: Case, *, in_place: bool | None = None) -> Json:
    """Plan of a requested case now; ``in_place``: what is being planned (default: what the case says)."""
    if case.operation == "restore":
        return restore_plan(session, case, chosen_in_place(case) if in_place is None else in_place)
    return plans.requested_backup_plan(
        session.site, case.id, case.flow_name, case.request["datasets"], clock.now(), session.policy.verify
    )


def chosen_in_place(case: Case) -> bool:
    """Whether the request, or the case's newest plan, chose to restore in place."""
    return case.request.get("in_place") is True or case.body("plan").get("in_place") is True


def restore_plan(session: Session, case: Case, in_place: bool) -> Json:
    """Plan of a requested restore: the approved backups, or (before the decision) those the request asks for."""
    chosen: dict[str, vault.Backup] = {}
    backups = vault.catalogue(session.site)
    granted = approval.approval_of(case)
    listed = granted[0].get("targets") if granted and isinstance(granted[0], dict) else None
    approved = {target["dataset"]: target["backup"] for target in listed or []}
    for dataset in case.request["datasets"]:
        if dataset in approved:
            found = [backup for backup in backups if (backup.dataset, backup.snapshot) == (dataset, approved[dataset])]
            if not found:
                raise GateRefused(f"{dataset}: the approved backup {approved[dataset]} is in no record", where=case.id)
            if not found[0].verified:
                raise GateRefused(f"{dataset}: the approved backup {found[0].name} is not verified", where=case.id)
            chosen[dataset] = found[0]
        else:
            chosen[dataset], remarks = vault.choose(backups, dataset, case.request["point"])
            for remark in remarks:
                session.say(f"{dataset}: {remark}")
    return plans.restore_plan(
        session.site,
        case.id,
        case.flow_name,
        case.request["datasets"],
        chosen,
        clock.now(),
        to=case.request.get("to"),
        in_place=in_place,
    )


def approval_body(session: Session, case: Case, **valid: int) -> Json:
    """What an approval of this case binds: request, targets, code, and how long it holds (``days`` or ``hours``)."""
    plan = case_plan(session, case)
    if reasons := approval.targets(session.context(), plan):
        raise GateRefused(reasons, where=case.id, hint="Nothing was signed.")
    now = clock.now()
    targets = []
    for item in plan["items"]:
        target = approval.approval_target(item)
        if case.operation == "restore":
            target |= {"backup_name": item["backup_name"], "backup_time": item["backup_time"]}
            session.say(effects.said(item, case.id, now, session.policy.keep_days))
        targets.append(target)
    return {
        "request": case.filed[0].digest,
        "targets": targets,
        "code": session.code,
        "valid_from": now,
        "valid_until": clock.plus(now, **valid),
    }
