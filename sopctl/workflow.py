# SPDX-License-Identifier: Apache-2.0
"""Acting on a case: who may, what the document says, and what follows from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sopctl import approval, clock, fsio, sealing, vault
from sopctl import case as cases
from sopctl import plan as plans
from sopctl.case import Case
from sopctl.errors import GateRefused, UsageError
from sopctl.execution import Run, execute
from sopctl.forms import RESULT_TEXT
from sopctl.models import Json
from sopctl.outcomes import backup_result, dataset_result, exit_code, restore_result
from sopctl.profile import Step
from sopctl.session import Session, Signer

#: says why a plan may not run now; empty when it may
Decide = Callable[[Json], list[str]]
MAX_LETTER = 20 * 1024 * 1024


@dataclass(frozen=True)
class Executed:
    """A run, its record, its case afterwards and the exit code it deserves."""

    run: Run
    record: Path
    case: Case
    code: int
    result: str

    @property
    def said(self) -> str:
        """The result in words, with what Ansible changed (or would)."""
        changed = self.run.outcome.changed
        if self.run.check:
            return f"checked, nothing changed (would change: {changed})"
        return f"{RESULT_TEXT[self.result]} (changed={changed})"


def due_step(case: Case, act: str) -> Step:
    """The step that is due, when it is ``act``; GateRefused names what is due instead, and by whom."""
    due = case.state.due
    if case.state.reasons:
        raise GateRefused(case.state.reasons, where=case.id)
    if due is None:
        raise GateRefused(f"the case is closed ({case.state.outcome}); nothing is due", where=case.id)
    if due.act != act:
        by = " or ".join([due.gate.decide] if due.gate else due.by)
        raise GateRefused(
            f"{act} is not due",
            where=case.id,
            hint=f"Due is step {due.nomor}: {due.act}, by {by}: sopctl case {due.act} {case.id} --as {by}.",
        )
    return due


def request(
    session: Session,
    operation: str,
    *,
    datasets: list[str],
    unit: str,
    letter: Path,
    letter_number: str,
    letter_date: str | None,
    reason: str,
    point: str,
    person: str | None,
    key: str | None,
    deadline: str | None,
    contact: str | None,
) -> Case:
    """Open a case with its letter. Nothing is written unless all of it is good."""
    site = session.site
    profile = site.profile.profile
    flow_name = profile.flow_for(operation)
    flow = profile.flow(flow_name)
    step = flow.steps[0]
    if step.act != "request":
        raise UsageError(
            f"{operation} is not requested in this SOP; its schedule starts it", hint="sopctl schedule run --due"
        )
    if not datasets:
        raise UsageError(
            "no dataset named", where="--dataset", hint=f"Registered: {', '.join(site.datasets) or 'none'}."
        )
    for name, value in (("--unit", unit), ("--reason", reason), ("--letter-number", letter_number)):
        if not value.strip():
            raise UsageError("must not be empty", where=name)
    for dataset in datasets:
        site.dataset(dataset)
    if len(set(datasets)) != len(datasets):
        raise UsageError("a dataset is named twice", where="--dataset")
    if letter_date and not clock.is_time(f"{letter_date}T00:00:00Z"):
        raise UsageError(f"{letter_date!r} is not a date", where="--letter-date", hint="Write it as 2026-11-22.")
    data = _letter(letter)
    for dataset in datasets:
        if operation == "restore":
            vault.choose(vault.catalogue(site), dataset, point)
    signer = session.signer(person, key)
    role = session.role(signer.person, step.by, f"{step.act} (step {step.nomor})")
    folder = cases.create_folder(site.cases, operation, clock.parse(clock.now()).astimezone(site.tz).strftime("%Y"))
    try:
        body: Json = {
            "operation": operation,
            "unit": unit,
            "datasets": datasets,
            "point": point,
            "reason": reason,
            "requester": signer.person.id,
            "letter": {
                "number": letter_number,
                "date": letter_date,
                "file": f"surat{letter.suffix.lower()}",
                "sha256": fsio.sha256_bytes(data),
            },
        }
        body |= {name: value for name, value in (("deadline", deadline), ("contact", contact)) if value}
        (folder / "attachments").mkdir()
        fsio.write_atomic(folder / "attachments" / body["letter"]["file"], data, 0o640)
        return session.file(Case(folder.name, folder, flow_name, flow, []), step, signer, role, body)
    except BaseException:
        _remove_empty(folder)
        raise


def _letter(path: Path) -> bytes:
    if not path.exists():
        raise UsageError(
            "the letter file does not exist", where=f"--letter {path}", hint="Give the scanned request letter."
        )
    data = fsio.read_strict(path, MAX_LETTER)
    if not data:
        raise UsageError("the letter file is empty", where=f"--letter {path}")
    if not re.fullmatch(r"\.[a-z0-9]{1,5}", path.suffix.lower()):
        raise UsageError(
            "the letter needs an ending that tells its kind", where=f"--letter {path}", hint="For example .pdf or .txt."
        )
    return data


def _remove_empty(folder: Path) -> None:
    if not list(folder.glob("*.json")):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


def act(
    session: Session,
    case_id: str,
    act_name: str,
    person: str | None,
    key: str | None,
    body: Callable[[Case, Step], Json],
) -> Case:
    """File the document of ``act_name`` when it is due and the person may; closes and seals the case at its end."""
    case = session.case(case_id)
    step = due_step(case, act_name)
    signer = session.signer(person, key)
    allowed = [step.gate.decide] if step.gate else step.by
    role = session.role(signer.person, allowed, f"{act_name} (step {step.nomor})")
    together = approval.separation(session.site.profile.profile, case, (signer.person.id, role))
    if together:
        raise GateRefused(together, where=case.id)
    reasons = approval.examine(session.context(), case)
    if reasons:
        raise GateRefused(reasons, where=case.id)
    case = session.file(case, step, signer, role, body(case, step))
    if case.state.closed:
        session.say(f"record {sealing.seal_case(session, case, signer).name} sealed")
    return case


def decision(session: Session, approve: bool, reason: str) -> Callable[[Case, Step], Json]:
    """Body of a decision; an approval binds datasets, targets, backups, code and validity."""

    def body(case: Case, step: Step) -> Json:
        if not reason.strip():
            raise UsageError("a decision needs a reason", where="--reason")
        checks = dict.fromkeys(step.gate.checks if step.gate else [], approve)
        if not approve:
            return {"decision": "reject", "reason": reason, "checks": checks}
        plan = restore_plan(session, case)
        now = clock.now()
        targets = [
            approval.approval_target(item) | {"backup_name": item["backup_name"], "backup_time": item["backup_time"]}
            for item in plan["items"]
        ]
        for item in plan["items"]:
            session.say(
                f"{item['dataset']['id']}: data since {item['backup_time']} will be set aside (backup {item['backup_name']})"
            )
        days = min(session.site.config.policy.approval_days, session.trust.file.policy.approval_days_max)
        approved: Json = {
            "targets": targets,
            "code": session.code,
            "valid_from": now,
            "valid_until": clock.plus(now, days=days),
        }
        return {"decision": "approve", "reason": reason, "checks": checks, "approval": approved}

    return body


def restore_plan(session: Session, case: Case) -> Json:
    """Plan of a requested restore: the approved backups, or (before the decision) those the request asks for."""
    chosen: dict[str, vault.Backup] = {}
    backups = vault.catalogue(session.site)
    approved = {
        target["dataset"]: target["backup"] for target in (case.body("decide").get("approval") or {}).get("targets", [])
    }
    for dataset in case.request["datasets"]:
        if dataset in approved:
            found = [backup for backup in backups if backup.snapshot == approved[dataset]]
            if not found:
                raise GateRefused(f"{dataset}: the approved backup {approved[dataset]} is in no record", where=case.id)
            chosen[dataset] = found[0]
        else:
            chosen[dataset], remarks = vault.choose(backups, dataset, case.request["point"])
            for remark in remarks:
                session.say(f"{dataset}: {remark}")
    return plans.restore_plan(session.site, case.id, case.flow_name, case.request["datasets"], chosen, clock.now())


def confirmation(approve: bool, reason: str) -> Callable[[Case, Step], Json]:
    """Body of an inspector's confirmation: bound to the record that was looked at."""

    def body(case: Case, _step: Step) -> Json:
        if not approve and not reason.strip():
            raise UsageError("sending back needs a reason", where="--reason")
        executed = case.body("execute")
        return {
            "decision": "approve" if approve else "reject",
            "reason": reason,
            "record": executed.get("record"),
            "record_digest": executed.get("record_digest"),
        }

    return body


def execute_case(
    session: Session,
    case_id: str,
    person: str | None,
    key: str | None,
    *,
    check: bool,
    progress: Callable[[Json], None],
) -> Executed:
    """Execute a requested case: gate, run, record, and the execute document."""
    case = session.case(case_id)
    signer = session.signer(person, key)
    executing = next(step for step in case.flow.steps if step.act == "execute")
    flow_step = executing if check else due_step(case, "execute")
    role = session.role(signer.person, flow_step.by, f"execution (step {flow_step.nomor})")
    if not case.request:
        raise UsageError(
            "a scheduled case is executed by the schedule", where=case.id, hint="sopctl schedule run --due"
        )
    if reasons := approval.examine(session.context(), case):  # before anything in the documents is used
        raise GateRefused(reasons, where=case.id, hint="Nothing was started and no connection opened.")
    plan = restore_plan(session, case)

    def decide(current: Json) -> list[str]:
        context = session.context()
        if check:
            return approval.targets(context, current)
        return approval.gate_case(context, session.case(case_id), current, signer.person.id, role)

    run = execute(session, plan, decide, signer, check=check, progress=progress)
    return finish(session, case, flow_step, signer, role, run)


def finish(session: Session, case: Case, step: Step, signer: Signer, role: str, run: Run) -> Executed:
    record = sealing.seal_run(session, case, run, signer)
    restore = run.plan["operation"] == "restore"
    result = restore_result(run) if restore else backup_result(run)
    if not run.check and (not restore or result != "gagal_layanan_mati") and not _due_again(run, result):
        body: Json = {
            "run": run.id,
            "record": record.name,
            "record_digest": fsio.sha256_file(record / "tagmanifest-sha256.txt"),
            "result": result,
            "datasets": {
                item["dataset"]["id"]: result if restore else dataset_result(run, item)[0] for item in run.plan["items"]
            },
            "started": run.started,
            "finished": run.finished,
        }
        case = session.file(case, step, signer, role, body)
    return Executed(run, record, case, int(exit_code(run)), result)


def _due_again(run: Run, result: str) -> bool:
    """An interrupted restore that put no other data in place is no execution: its step stays due.

    A scheduled run's case ends with its run; what it did not do is due again by the schedule.
    """
    if run.plan["operation"] == "backup":
        return False
    swapped = any(entry["kind"] == "swap" and not entry.get("failed") for entry in run.outcome.evidence)
    return run.outcome.interrupted and not swapped and result in {"gagal", "gagal_dikembalikan"}
