# SPDX-License-Identifier: Apache-2.0
"""Cases for the report: what was asked, how it ended, and each step's time against its mutu baku."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from sopctl import indonesian, overview
from sopctl.case import Case
from sopctl.errors import SopctlError
from sopctl.ledger import LedgerLine
from sopctl.models import Json
from sopctl.report.facts import Facts


@dataclass(frozen=True)
class CaseFacts:
    """One case. ``state`` as :meth:`Facts.state` has it; ``steps`` as `case show` lists them; ``records``: ids."""

    case: Case
    opened: str
    ended: str
    outcome: str
    emergency: str
    state: str
    reason: str
    steps: list[Json]
    records: list[str]

    @property
    def datasets(self) -> list[str]:
        """What it is about, as the request, or the execution, says."""
        found = self.case.request.get("datasets") or list(self.case.body("execute").get("datasets") or {})
        return [str(one) for one in found] if isinstance(found, list) else []

    @property
    def late(self) -> int:
        """Steps that came after their time."""
        return sum(1 for step in self.steps if late_step(step))


def case_facts(facts: Facts) -> list[CaseFacts]:
    """The cases of the period, oldest first: those in which something was received, or sealed, then."""
    context = facts.session.context() if facts.cases and facts.lines else None
    if context is None:
        return []
    lines: dict[str, list[LedgerLine]] = defaultdict(list)
    for line in facts.lines:
        lines[line.ref.partition("/")[0]].append(line)
    of_case: dict[str, list[str]] = defaultdict(list)
    for record in facts.records:
        of_case["-".join(record.id.split("-")[:3])].append(record.id)
    found = []
    for case in facts.cases:
        own = lines.get(case.id, [])  # all that its documents are looked at with
        try:
            steps = overview.steps_taken(facts.session, replace(context, lines=own), case)
        except (SopctlError, KeyError, TypeError, ValueError, AttributeError):
            facts.session.say(f"{case.id}: its documents cannot be listed")
            continue
        received = [step["received"] for step in steps]
        records = sorted(of_case.get(case.id, []))
        if not records and not any(facts.within(facts.month_of(at)) for at in received):
            continue
        state = case.state
        found.append(
            CaseFacts(
                case=case,
                opened=received[0] if received else "",
                ended=received[-1] if state.closed and received else "",
                outcome=state.outcome,
                emergency=state.emergency,
                state=_state(facts, case, steps),
                reason="; ".join(state.reasons),
                steps=steps,
                records=records,
            )
        )
    return found


def _state(facts: Facts, case: Case, steps: list[Json]) -> str:
    """A closed case is judged as it was sealed, by the trust in force then; an open one by the trust in force now."""
    if facts.audit is None:
        return "unverified"
    own = facts.state(case.id)
    if own == "broken" or case.state.reasons:
        return "broken"
    if any(one.id == f"{case.id}-C" for one in facts.records):
        return min(own, facts.state(f"{case.id}-C"), key=("broken", "unchecked", "verified").index)
    return own if all(step["signature"] == "valid" for step in steps) else "unchecked"


def late_step(step: Json) -> bool:
    """Whether a step came after its time; where no time began (a scheduled run), whether it took longer than the limit."""
    if step["until"]:
        return bool(step["late"])
    return step["took"] is not None and bool(step["limit"]) and int(step["took"]) > limit_seconds(step["limit"])


def limit_seconds(limit: object) -> int:
    """Seconds of a time limit; 0 for what is none. A month of a profile's limit counts 30 days, as the forms count it."""
    try:
        return indonesian.iso_duration_seconds(limit) if isinstance(limit, str) else 0
    except ValueError:
        return 0
