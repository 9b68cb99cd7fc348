# SPDX-License-Identifier: Apache-2.0
"""Attacks on a clean run that is held open: tasks, plans and code that differ from what was ordered."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sopctl import cleaning, clock, destruction, kept
from sopctl import plan as plans
from sopctl.models import Json
from sopctl.play_gate import PlayGate
from sopctl.runner import Stop
from tests.support.case_site import CaseSite
from tests.support.later import later
from tests.support.restored import name_of, restored


@pytest.fixture(autouse=True)
def _nothing_starts(nothing_starts: None) -> Iterator[None]:
    yield


class Play:
    """A clean run of a case that may be cleaned, held open, with its order filed."""

    def __init__(self, site: CaseSite) -> None:
        session = site.session
        self.site = site
        signer = session.signer("pelaksana", None)
        copies = kept.of_case(session.site, session.ledger.lines(), site.case, session.policy.keep_days).kept
        case = session.case(site.case)
        plan = plans.clean_plan(session.site, site.case, case.flow_name, copies, "pelaksana", None, clock.now())
        body = {"drops": destruction.drops(plan), "code": session.code}
        case = session.file_beside(case, "clean", signer, "pelaksana", body)
        self.plan = {**plan, "order": case.filed[-1].digest}
        self.gate = self.held(self.plan)

    def held(self, plan: Json, by: str = "pelaksana") -> PlayGate:
        session = self.site.session

        def decide(current: Json) -> list[str]:
            case = session.case(self.site.case)
            return destruction.gate_clean(session.context(), case, current, by, by, {})

        return PlayGate(session, plan, decide, Stop(lambda _: None), check=False)

    def question(self, **args: Any) -> Json:
        item = copy.deepcopy(self.plan["items"][0])
        given = {"case": self.plan["case"], "state": "cleaned"}
        given |= {key: item[key] for key in ("dataset", "snapshot", "manifest_snapshot", "kept")}
        return {"operation": "restore.cleaned", "host": "srv01", "check": False, "args": {**given, **args}}


@pytest.fixture
def play(site: CaseSite) -> Iterator[Play]:
    restored(site)
    with later(8):
        yield Play(site)


def test_the_ordered_copy_is_granted_and_no_vault_is_handed_out(play: Play) -> None:
    answer = play.gate.answer(play.question())
    assert answer["allowed"], answer
    assert (answer["vault"], answer["secrets"]) == (None, None)
    grant = answer["grant"]["grant"]
    assert (grant["operation"], grant["execution"], grant["dataset"]) == ("restore.cleaned", 2, "antrean")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kept": [{"copy": "before", "name": "/srv/app/antrean.db"}]}, "argument kept is not the planned one"),
        ({"kept": []}, "argument kept is not the planned one"),
        ({"snapshot": "f" * 64}, "argument snapshot is not the planned one"),
        ({"case": "RST-2026-0099"}, "is not the case of this run"),
        ({"dataset": {"id": "antrean", "engine": "sqlite", "path": "/etc/passwd"}}, "argument dataset.path"),
        ({"dataset": {"id": "berkas"}}, "dataset berkas is not in the plan"),
    ],
)
def test_a_task_with_other_arguments_is_refused(play: Play, change: Json, reason: str) -> None:
    answer = play.gate.answer(play.question(**change))
    assert not answer["allowed"]
    assert any(reason in one for one in answer["reasons"]), answer


@pytest.mark.parametrize(
    "operation", ["restore.swapped", "restore.reverted", "service.stopped", "backup", "quiesce.released"]
)
def test_a_clean_run_does_nothing_else(play: Play, operation: str) -> None:
    answer = play.gate.answer({**play.question(), "operation": operation})
    assert any("is no part of a clean" in one for one in answer["reasons"]), answer


def test_a_restore_run_cleans_nothing(play: Play) -> None:
    gate = play.held({**play.plan, "operation": "restore"})
    answer = gate.answer(play.question())
    assert "operation restore.cleaned is no part of a restore" in answer["reasons"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda plan: plan["items"][0]["kept"][0].update(name=name_of("RST-2026-0001", "shadow")), "other copies"),
        (lambda plan: plan["items"][0].update(until="2020-01-01T00:00:00Z"), "other copies"),
        (lambda plan: plan.update(order="sha256:0"), "nobody has signed that this is dropped"),
        (lambda plan: plan.update(by="kabid"), "is pelaksana's, not kabid's"),
        (lambda plan: plan["items"][0].update(machine_id="7" * 32), "was restored on another machine"),
    ],
)
def test_a_plan_that_is_not_the_order_is_refused(play: Play, change: Callable[[Json], None], reason: str) -> None:
    plan = copy.deepcopy(play.plan)
    change(plan)
    reasons = play.held(plan).answer(play.question())["reasons"]
    assert any(reason in one for one in reasons), reasons


def test_code_that_changed_since_the_order_is_refused(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    from sopctl import content

    monkeypatch.setattr(content, "code_digest", lambda: "sha256:" + "d1" * 32)
    reasons = play.gate.answer(play.question())["reasons"]
    assert any("the code differs from that of" in one for one in reasons), reasons


def test_running_again_files_no_second_order(play: Play) -> None:
    session = play.site.session
    case = session.case(play.site.case)
    plan = {**play.plan, "order": None}
    again, bound = cleaning._order(session, case, plan, session.signer("pelaksana", None), "pelaksana")
    assert len(again.filed) == len(case.filed)
    assert bound["order"] == play.plan["order"]
