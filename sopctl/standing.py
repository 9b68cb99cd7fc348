# SPDX-License-Identifier: Apache-2.0
"""The standing order: what the signed schedule makes due, and running it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sopctl import approval, archive, broken_runs, clock, fsio, locks, periods, vault
from sopctl import case as cases
from sopctl import plan as plans
from sopctl import schedule as schedules
from sopctl.case import Case
from sopctl.errors import GateRefused, SopctlError, UsageError
from sopctl.execution import execute
from sopctl.models import Json, Schedule, ScheduleEntry
from sopctl.profile import Profile
from sopctl.running import Executed, finish
from sopctl.session import Session

#: held by a scheduled run beside its case's lock
SCHEDULE_LOCK = "schedule"


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
    """Run what is due now and whose window is open (or ``only`` these datasets, due or not); None when nothing is.

    Two such runs exclude each other: the second one sees what the first has proven, or is told that it is at work.
    """
    site = session.site
    signer = session.signer(person, key)
    flow_name = site.profile.profile.schedule_flow()
    if flow_name is None:
        raise _no_schedule(site.profile.profile)
    flow = site.profile.profile.flow(flow_name)
    role = session.role(signer.person, flow.steps[0].by, f"execution (step {flow.steps[0].nomor})")
    if not check:
        _let_go_of_dead_run(session)
    unfinished = set() if check or only else _unfinished(session, flow_name)
    entries = _entries_to_run(session, only, unfinished)
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
        with (
            locks.held(site.state, [SCHEDULE_LOCK], signer.person.id, case=case.id),
            session.holding(case.id, signer.person.id),
        ):
            broken_runs.seal(session, case.id, signer)
            # another run may have come to its end since, or brought the broken-off case to its own
            entries = _entries_to_run(session, only, unfinished)
            if not entries or any(case.folder.glob("*-execute.json")):
                return None
            plan = plans.backup_plan(site, case.id, entries, clock.now(), session.policy.verify)
            run = execute(session, plan, decide, signer, check=check, progress=progress, case_held=True)
            return finish(session, case, flow.steps[0], signer, role, run)
    finally:
        if not check:
            _drop_unused(session, case)


def _no_schedule(profile: Profile) -> UsageError:
    return UsageError(
        f"profile {profile.id} has no schedule", hint="Its backups are requested: sopctl case request backup."
    )


def _broken_off(session: Session, flow_name: str) -> Case | None:
    """A scheduled case whose run was ended from outside: nobody else can bring it to an end, so this run goes on with it.

    Its run stands in the ledger. A folder alone tells nothing: somebody may be about to sign a request in it.
    """
    busy = {lock.case for lock in locks.peek(session.site.state) if lock.state == "held"}
    for folder in cases.case_folders(session.site.cases):
        if folder.name in busy or any(folder.glob("*-request.json")) or any(folder.glob("*-execute.json")):
            continue
        if approval.executions(session.context(), folder.name):
            with suppress(SopctlError):  # one that cannot be read stops no backup; `case list` tells of it
                if (case := session.case(folder.name)).flow_name == flow_name:
                    return case
    return None


def _unfinished(session: Session, flow_name: str) -> set[str]:
    """Datasets of a scheduled run that was sealed and not filed: they are proven, but their case has no end and no form that
    anybody is asked to confirm. Run again they change nothing."""
    case = _broken_off(session, flow_name)
    if case is None:
        return set()
    sealed = {line.ref: line.digests.get("tagmanifest") for line in session.ledger.lines() if line.kind == "record"}
    found: set[str] = set()
    for record in archive.list_records(session.site.archive):
        if record.name.startswith(f"{case.id}-") and (record / "data/plan.json").is_file():
            plan = json.loads(vault.sealed_file(record, sealed, "data/plan.json"))
            found |= {item["dataset"]["id"] for item in plan["items"]}
    return found


def _let_go_of_dead_run(session: Session) -> None:
    """Clear the locks of a scheduled run that was killed on this machine: nobody is there at night to take them over.

    Nothing can be harmed by going on, as with a restore: a backup changes nothing on its host, what is still at work there
    holds the host's own lock, and what it has not finished does not count. The run that follows goes on with the same case.
    """
    for number in locks.let_go_of_maintenance(session.site.state):
        session.ledger.append("locks-cleared", number)
    stale = [lock for lock in locks.peek(session.site.state) if lock.state == "stale"]
    for case in {lock.case for lock in stale if lock.name == SCHEDULE_LOCK and lock.case}:
        locks.take_over(session.site.state, [lock for lock in stale if lock.case == case])
        session.ledger.append("locks-cleared", case)
        session.say(f"{case}: a scheduled run died without letting go; its locks are cleared")


def _drop_unused(session: Session, case: Case) -> None:
    """A folder whose run never started is no case."""
    if not any(case.folder.iterdir()) and not approval.executions(session.context(), case.id):
        case.folder.rmdir()


def _entries_to_run(session: Session, only: list[str], unfinished: set[str]) -> list[ScheduleEntry]:
    found = []
    now = clock.now()
    lines = schedule_status(session)  # reads the archive: once
    known = {line.entry.dataset for line in lines}
    for dataset in only:
        session.site.dataset(dataset)
        if dataset not in known:
            raise UsageError(
                f"dataset {dataset!r} is not in the schedule",
                where="schedule.yml",
                hint=f"Scheduled: {', '.join(sorted(known))}.",
            )
    order = session.site.schedule()
    for line in lines:
        again = line.entry.dataset in unfinished and _may_start(session, order, line.entry, now)
        if line.entry.dataset in only or (not only and (line.runs or again)):
            found.append(line.entry)
    return found


def _may_start(session: Session, order: Schedule, entry: ScheduleEntry, now: str) -> bool:
    return periods.opens(order.window_of(entry), now, session.site.tz) <= now


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


def executes_schedule(session: Session, identity: str | None) -> str:
    """Who is to execute the schedule by themselves: ``identity``, or the trust's only service identity that may now.

    UsageError when there is none, or several, or when ``identity`` may not.
    """
    profile = session.site.profile.profile
    flow_name = profile.schedule_flow()
    if flow_name is None:
        raise _no_schedule(profile)
    roles = profile.flow(flow_name).steps[0].by
    context = session.context()
    fit = [
        person
        for person in context.trust.file.people
        if any(context.trust.has_role(person, role, context.now) for role in roles)
    ]
    if identity:
        if identity not in {person.id for person in fit}:
            raise UsageError(
                f"{identity} may not execute the schedule now (needs role {' or '.join(roles)})",
                hint="They may: " + (", ".join(person.id for person in fit) or "nobody") + ".",
            )
        return identity
    services = [person.id for person in fit if person.kind == "service"]
    if len(services) != 1:
        raise UsageError(
            "who is to execute the schedule?",
            hint="Name a service identity with --as"
            + (f": {', '.join(services)}." if services else "; add one: sopctl trust add … --service."),
        )
    return services[0]
