# SPDX-License-Identifier: Apache-2.0
"""The standing order: what the signed schedule makes due, and running it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sopctl import approval, clock, fsio, locks, vault
from sopctl import case as cases
from sopctl import plan as plans
from sopctl import schedule as schedules
from sopctl.case import Case
from sopctl.errors import GateRefused, SopctlError, UsageError
from sopctl.execution import execute
from sopctl.models import Json, ScheduleEntry
from sopctl.running import Executed, finish
from sopctl.session import Session


def schedule_status(session: Session) -> list[schedules.Due]:
    """Every line of the schedule with what the records prove."""
    return schedules.status(session.site.schedule(), vault.catalogue(session.site), clock.now(), session.site.tz)


def run_schedule(
    session: Session,
    person: str | None,
    key: str | None,
    *,
    only: list[str],
    check: bool,
    progress: Callable[[Json], None],
) -> Executed | None:
    """Run what is due now (or ``only`` these datasets, due or not); None when nothing is."""
    site = session.site
    signer = session.signer(person, key)
    flow_name = site.profile.profile.schedule_flow()
    if flow_name is None:
        raise UsageError(
            f"profile {site.profile.profile.id} has no schedule",
            hint="Its backups are requested: sopctl case request backup.",
        )
    flow = site.profile.profile.flow(flow_name)
    role = session.role(signer.person, flow.steps[0].by, f"execution (step {flow.steps[0].nomor})")
    entries = _entries_to_run(session, only)
    if not entries:
        return None
    year = clock.parse(clock.now()).astimezone(site.tz).strftime("%Y")
    schedule, data, signature = site.standing_order()

    def decide(current: Json) -> list[str]:
        if check:
            return approval.targets(session.context(), current)
        return approval.gate_schedule(session.context(), schedule, data, signature, current, signer.person.id, role)

    probe = plans.backup_plan(site, "BKP-0000-0000", entries, clock.now(), session.policy.verify)
    reasons = decide(probe)
    if reasons:
        raise GateRefused(reasons, where="schedule.yml", hint="Nothing was started and no connection opened.")
    if check:
        checks = sum(
            1 for line in session.ledger.lines() if line.kind == "run-started" and line.ref.startswith(f"CEK-{year}-")
        )
        case = Case(f"CEK-{year}-{checks + 1:04d}", site.cases, flow_name, flow, [], site.profile.profile.break_glass)
    else:
        case = _broken_off(session, flow_name) or Case(
            (folder := cases.create_folder(site.cases, "backup", year, session.known_cases())).name,
            folder,
            flow_name,
            flow,
            [],
            site.profile.profile.break_glass,
        )
    try:
        with session.holding(case.id, signer.person.id):
            plan = plans.backup_plan(site, case.id, entries, clock.now(), session.policy.verify)
            run = execute(session, plan, decide, signer, check=check, progress=progress, case_held=True)
            return finish(session, case, flow.steps[0], signer, role, run)
    finally:
        if not check:
            _drop_unused(session, case)


def _broken_off(session: Session, flow_name: str) -> Case | None:
    """A scheduled case whose run was ended from outside: nobody else can bring it to an end, so this run goes on with it."""
    busy = {lock.case for lock in locks.peek(session.site.state) if lock.state == "held"}
    for folder in cases.case_folders(session.site.cases):
        if folder.name in busy or any(folder.glob("*-request.json")) or any(folder.glob("*-execute.json")):
            continue
        if any(folder.iterdir()) or approval.executions(session.context(), folder.name):
            with suppress(SopctlError):  # one that cannot be read stops no backup; `case list` tells of it
                if (case := session.case(folder.name)).flow_name == flow_name:
                    return case
    return None


def _drop_unused(session: Session, case: Case) -> None:
    """A folder whose run never started is no case."""
    if not any(case.folder.iterdir()) and not approval.executions(session.context(), case.id):
        case.folder.rmdir()


def _entries_to_run(session: Session, only: list[str]) -> list[ScheduleEntry]:
    found = []
    known = {entry.entry.dataset for entry in schedule_status(session)}
    for dataset in only:
        session.site.dataset(dataset)
        if dataset not in known:
            raise UsageError(
                f"dataset {dataset!r} is not in the schedule",
                where="schedule.yml",
                hint=f"Scheduled: {', '.join(sorted(known))}.",
            )
    for line in schedule_status(session):
        if line.entry.dataset in only or (not only and line.due):
            found.append(line.entry)
    return found


def sign_schedule(session: Session, person: str | None, key: str | None) -> Path:
    """Sign ``schedule.yml`` as the standing order."""
    schedule, data, _ = session.site.standing_order()
    signer = session.signer(person, key)
    session.role(signer.person, session.site.profile.profile.schedule_signers(), "signing the schedule")
    signature = session.sign(data, "sop-schedule", signer)
    reasons = approval.standing_order(session.context(), schedule, data, signature)
    if reasons:
        raise GateRefused(reasons, where=str(session.site.schedule_path))
    path = session.site.schedule_path.with_name("schedule.yml.sig")
    fsio.write_atomic(path, signature)
    session.ledger.append(
        "schedule", "schedule", {"schedule": fsio.sha256_bytes(data), "signature": fsio.sha256_bytes(signature)}
    )
    return path
