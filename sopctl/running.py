# SPDX-License-Identifier: Apache-2.0
"""Executing a case: gate, run, record, and the execute document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sopctl import approval, broken_runs, clock, fsio, sealing
from sopctl import plan as plans
from sopctl.case import Case, due_step
from sopctl.duties import authority, requester_now, separation
from sopctl.errors import GateRefused, UsageError
from sopctl.examination import examine
from sopctl.execution import Run, execute
from sopctl.forms import RESULT_TEXT
from sopctl.models import Json
from sopctl.outcomes import exit_code, item_result, run_result, unsettled, untouched
from sopctl.profile import Step
from sopctl.session import Session, Signer
from sopctl.targeting import case_plan


@dataclass(frozen=True)
class Executed:
    """A run, its record, its case afterwards, the exit code it deserves, and whether its step stays due."""

    run: Run
    record: Path
    case: Case
    code: int
    result: str
    by: str
    due_again: bool

    @property
    def said(self) -> str:
        """The result in words, with what Ansible changed (or would)."""
        changed = self.run.outcome.changed
        if self.run.check:
            return f"checked, nothing changed (would change: {changed})"
        return f"{RESULT_TEXT[self.result]} (changed={changed})"


def execute_case(
    session: Session,
    case_id: str,
    person: str | None,
    key: str | None,
    *,
    check: bool,
    progress: Callable[[Json], None],
) -> Executed:
    """Execute a requested case: gate, run, record, and the execute document; the case is held until that is filed."""
    session.read_what_decides()
    signer = session.signer(person, key)
    with session.holding(case_id, signer.person.id):
        broken_runs.seal(session, case_id, signer)
        return _execute_case(session, case_id, signer, check=check, progress=progress)


def _execute_case(
    session: Session, case_id: str, signer: Signer, *, check: bool, progress: Callable[[Json], None]
) -> Executed:
    case = session.case_to_act_on(case_id)
    executing = case.flow.first("execute")
    if executing is None:
        raise UsageError("this SOP executes nothing", where=case.id)
    flow_step = executing if check else due_step(case, "execute")
    role = session.role(signer.person, flow_step.actors, f"execution (step {flow_step.nomor})")
    context = session.context()
    reasons = examine(context, case) + authority(context, case) + requester_now(context, case)
    if reasons:  # before anything in the documents is used
        raise GateRefused(reasons, where=case.id, hint="Nothing was started and no connection opened.")
    with session.deciding():
        plan = case_plan(session, case) if case.request else scheduled_plan(session, case)
    order = session.site.standing_order() if not case.request else None

    def decide(current: Json) -> list[str]:
        context = session.context()
        if check:
            return approval.targets(context, current)
        now = session.case(case_id)
        if order is None:
            return approval.gate_case(context, now, current, signer.person.id, role)
        together = separation(context, now, (signer.person.id, role))
        return (
            examine(context, now) + together + approval.gate_schedule(context, *order, current, signer.person.id, role)
        )

    run = execute(session, plan, decide, signer, check=check, progress=progress, case_held=True)
    return finish(session, session.case(case_id) if not check else case, flow_step, signer, role, run)


def scheduled_plan(session: Session, case: Case) -> Json:
    """Plan of a scheduled case that its inspector sent back: the same datasets, by the order that stands now."""
    done = case.body("execute").get("datasets") or {}
    if not done:
        raise UsageError(
            "a scheduled case is executed by the schedule", where=case.id, hint="sopctl schedule run --due"
        )
    entries = [entry for entry in session.site.schedule().entries if entry.dataset in done]
    return plans.backup_plan(session.site, case.id, entries, clock.now(), session.policy.verify)


def finish(session: Session, case: Case, step: Step, signer: Signer, role: str, run: Run) -> Executed:
    """Seal the run, and file its document where it was an execution; the caller holds the case's lock."""
    record = sealing.seal_run(session, case, run, signer)
    result = run_result(run)
    again = not run.check and (result == "gagal_layanan_mati" or _due_again(run, result))
    if not run.check and not again:
        body: Json = {
            "run": run.id,
            "record": record.name,
            "record_digest": fsio.sha256_file(record / "tagmanifest-sha256.txt"),
            "result": result,
            "datasets": {item["dataset"]["id"]: item_result(run, item) for item in run.plan["items"]},
            "started": run.started,
            "finished": run.finished,
        }
        case = session.file(case, step, signer, role, body)
    return Executed(run, record, case, int(exit_code(run)), result, signer.person.id, again)


def _due_again(run: Run, result: str) -> bool:
    """A restore that came to nothing before it stopped a service, or was interrupted before it put other data in place, is
    no execution: its step stays due. Neither is one to another place that was interrupted before all of it was there, nor
    one that leaves a dead man's switch armed, nor one whose data is live and which did not come to its end.

    A scheduled run's case ends with its run; what it did not do is due again by the schedule.
    """
    if run.plan["operation"] == "backup":
        return False
    if run.plan["operation"] == plans.PLACE:
        return run.outcome.interrupted and result != "berhasil"
    if result == "sebagian" or (result != "berhasil" and unsettled(run)):
        return True
    if result == "gagal" and untouched(run):
        return True
    swapped = any(entry["kind"] == "swap" and not entry.get("failed") for entry in run.outcome.evidence)
    return run.outcome.interrupted and not swapped and result in {"gagal", "gagal_dikembalikan"}
