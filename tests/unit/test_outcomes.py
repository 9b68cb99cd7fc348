# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.outcomes: what a run came to, and the exit code it deserves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sopctl import outcomes, running
from sopctl.execution import Run
from sopctl.models import Json
from sopctl.runner import RunOutcome

STAGE, SWAP, FINALISE, REVERT = (
    {"kind": kind, "host": "srv01", "dataset": "antrean"} for kind in ("stage", "swap", "finalise", "revert")
)


def service(state: str, **more: Any) -> Json:
    return {"kind": "service", "host": "srv01", "service": "web", "state": state, **more}


def switch(phase: str) -> Json:
    return {"kind": "switch", "host": "srv01", "phase": phase}


DOWN, UP = service("stopped"), service("started", healthy_at="2026-11-22T03:00:00Z")
GOOD = [STAGE, DOWN, SWAP, UP, FINALISE]


def run(operation: str, outcome: RunOutcome, *datasets: str, check: bool = False) -> Run:
    items = [
        {"dataset": {"id": name}, "host": "srv01", "services": [{"host": "srv01", "service": {"name": "web"}}]}
        for name in datasets or ("antrean",)
    ]
    plan = {"operation": operation, "items": items}
    at = "2026-11-22T03:00:00Z"
    return Run("R", plan, None, outcome, Path(), at, at, check, b"", "")


def restored(*evidence: Json, rc: int = 0, **values: Any) -> Run:
    return run("restore", RunOutcome(rc=rc, stats={}, evidence=list(evidence), **values))


@pytest.mark.parametrize(
    ("made", "result", "code"),
    [
        (restored(*GOOD), "berhasil", 0),
        (restored(STAGE, FINALISE), "berhasil", 0),  # nothing was stopped: an earlier run had swapped
        (restored(*GOOD, rc=2), "sebagian", 22),
        (restored(STAGE, rc=2), "gagal", 20),
        (restored(STAGE, DOWN, SWAP, UP, rc=2), "sebagian", 22),
        (restored(STAGE, DOWN, SWAP, DOWN, REVERT, UP, rc=2), "gagal_dikembalikan", 20),
        (restored(STAGE, DOWN, SWAP, rc=2), "gagal_layanan_mati", 21),
        (restored(STAGE, DOWN, SWAP, DOWN, REVERT, rc=2), "gagal_layanan_mati", 21),
        (restored(STAGE, DOWN, SWAP, service("started", failed=True), rc=2), "gagal_layanan_mati", 21),
        (restored(STAGE, DOWN, SWAP, FINALISE, rc=0), "gagal_layanan_mati", 21),
        (restored(STAGE, service("stopped", failed=True), rc=2), "gagal_layanan_mati", 21),
        (restored(STAGE, rc=2, interrupted=True), "gagal", 130),
        (restored(STAGE, DOWN, rc=2, interrupted=True), "gagal_layanan_mati", 21),
        (restored(*GOOD, interrupted=True), "berhasil", 0),
        # an earlier run had stopped the service and swapped; this one came to nothing
        (restored({**STAGE, "phase": "ready"}, rc=2), "gagal_layanan_mati", 21),
        (
            restored({**STAGE, "phase": "ready"}, switch("aborted"), REVERT, UP, switch("disarmed"), rc=2),
            "gagal_dikembalikan",
            20,
        ),
        (restored(STAGE, DOWN, SWAP, switch("committed"), UP, rc=2), "sebagian", 22),  # could not be disarmed
        (restored({**STAGE, "state": "swapped", "phase": "settled"}, UP, rc=2), "sebagian", 22),  # nor found out again
        # another host could not be armed, so nothing was stopped; an earlier run may have
        (restored(STAGE, switch("armed"), rc=4), "gagal", 20),
        (restored({**STAGE, "phase": "disarmed"}, switch("armed"), rc=4), "gagal_layanan_mati", 21),
        (
            replace(restored(STAGE, switch("armed"), rc=4), stops=frozenset({("srv01", "web")})),
            "gagal_layanan_mati",
            21,
        ),
        (restored(rc=-1, problems=["the play did not come to its end"]), "gagal", 30),
        (restored(STAGE, DOWN, rc=0, problems=["events 3 to 9 are missing"]), "gagal_layanan_mati", 21),
    ],
)
def test_restore(made: Run, result: str, code: int) -> None:
    assert (outcomes.restore_result(made), int(outcomes.exit_code(made))) == (result, code)


@pytest.mark.parametrize(
    ("phase", "wanted"), [("committed", True), ("armed", True), ("settled", False), ("disarmed", False)]
)
def test_what_leaves_a_switch_armed_is_run_again(phase: str, wanted: bool) -> None:
    made = restored(switch("armed"), switch(phase), UP, rc=2)
    assert outcomes.unsettled(made) is wanted
    assert running._due_again(made, "gagal") is wanted
    assert running._due_again(made, "gagal_dikembalikan") is wanted


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (restored(rc=4), True),  # the host did not answer
        (restored({**STAGE, "phase": ""}, rc=2), True),  # staged, and then something was in the way
        (restored({**STAGE, "phase": "settled"}, rc=2), False),  # an earlier run had gone further
        (restored(STAGE, service("stopped", failed=True), rc=2), False),
        (replace(restored(STAGE, rc=2), stops=frozenset({("srv01", "web")})), False),
        (restored(STAGE, DOWN, SWAP, DOWN, REVERT, UP, rc=2), False),
        (restored(rc=-1, problems=["the play did not come to its end"]), False),
    ],
)
def test_what_stopped_nothing_is_no_execution(made: Run, wanted: bool) -> None:
    """An approval is for one execution; a network that fails while the data is staged does not use it up."""
    assert outcomes.untouched(made) is wanted
    assert running._due_again(made, "gagal") is wanted


def test_broken_evidence_is_never_a_success() -> None:
    made = restored(*GOOD, problems=["events 3 to 9 are missing"])
    assert outcomes.restore_result(made) != "berhasil"
    assert int(outcomes.exit_code(made)) == 30


def test_every_dataset_must_be_finalised() -> None:
    made = run("restore", RunOutcome(rc=0, stats={}, evidence=GOOD), "antrean", "berkas")
    assert outcomes.restore_result(made) == "gagal"


STORED, PROVEN = (
    {"kind": "backup", "host": "srv01", "dataset": "antrean"},
    {"kind": "verify", "host": "srv01", "dataset": "antrean", "ok": True},
)
OTHER: list[Json] = [{**STORED, "dataset": "berkas"}, {**PROVEN, "dataset": "berkas"}]
FAILURE = {"host": "srv01", "dataset": "berkas", "msg": "tar exited 2"}


@pytest.mark.parametrize(
    ("evidence", "values", "result", "code"),
    [
        ([STORED, PROVEN, *OTHER], {}, "berhasil", 0),
        ([STORED, PROVEN], {"rc": 2, "failures": [FAILURE]}, "sebagian", 22),
        ([STORED], {"rc": 2}, "gagal", 20),
        ([STORED, {**PROVEN, "ok": False}], {"rc": 2}, "gagal", 20),
        ([STORED, {**PROVEN, "failed": True}], {"rc": 2}, "gagal", 20),
        ([PROVEN], {"rc": 2}, "gagal", 20),
        ([], {"rc": 4, "unreachable": {"srv01": "no route"}}, "gagal", 20),
        ([], {"rc": 2, "interrupted": True}, "gagal", 130),
        ([STORED, PROVEN, *OTHER], {"problems": ["events 3 to 9 are missing"]}, "sebagian", 30),
    ],
)
def test_backup(evidence: list[Json], values: Json, result: str, code: int) -> None:
    made = run("backup", RunOutcome(**{"rc": 0, "stats": {}, "evidence": evidence, **values}), "antrean", "berkas")
    assert (outcomes.backup_result(made), int(outcomes.exit_code(made))) == (result, code)


def test_why_a_dataset_failed() -> None:
    outcome = RunOutcome(rc=2, evidence=[STORED, PROVEN], failures=[FAILURE])
    made = run("backup", outcome, "antrean", "berkas")
    assert outcomes.dataset_result(made, made.plan["items"][0]) == ("berhasil", "")
    assert outcomes.dataset_result(made, made.plan["items"][1]) == ("gagal", "tar exited 2")
    silent = run("backup", RunOutcome(rc=0, evidence=[]))
    assert outcomes.dataset_result(silent, silent.plan["items"][0]) == ("gagal", "tidak ada bukti dari server")
    away = run("backup", RunOutcome(rc=4, unreachable={"srv01": "no route"}))
    assert outcomes.dataset_result(away, away.plan["items"][0]) == ("gagal", "srv01 tidak menjawab: no route")
    again = run("backup", RunOutcome(rc=0, evidence=[{**STORED, "reused": True}, PROVEN]))
    assert outcomes.dataset_result(again, again.plan["items"][0])[0] == "berhasil"


def test_a_drill_host_fails_its_own_dataset_alone() -> None:
    """What is not proven where the plan says is not proven, though it be stored, or proven somewhere else."""
    gone = {"host": "srv02", "dataset": "antrean", "msg": "antrean: Connection refused"}
    both: list[Json] = [STORED, *OTHER]
    made = run("backup", RunOutcome(rc=2, stats={}, evidence=both, failures=[gone]), "antrean", "berkas")
    made.plan["items"][0]["drill"] = {"server": "srv02", "host": "srv02"}
    said = "tersimpan, tidak terbukti di srv02: antrean: Connection refused"
    assert outcomes.dataset_result(made, made.plan["items"][0]) == ("gagal", said)
    assert outcomes.dataset_result(made, made.plan["items"][1]) == ("berhasil", "")
    assert (outcomes.backup_result(made), int(outcomes.exit_code(made))) == ("sebagian", 22)
    made.outcome.evidence.append(PROVEN)  # by srv01
    assert outcomes.dataset_result(made, made.plan["items"][0])[0] == "gagal"
    made.outcome.evidence.append({**PROVEN, "host": "srv02"})
    assert outcomes.dataset_result(made, made.plan["items"][0]) == ("berhasil", "")


@pytest.mark.parametrize(("rc", "code"), [(0, 0), (2, 20)])
@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_check_promises_nothing(operation: str, rc: int, code: int) -> None:
    made = run(operation, RunOutcome(rc=rc, stats={}), check=True)
    result = outcomes.backup_result(made) if operation == "backup" else outcomes.restore_result(made)
    assert (result, int(outcomes.exit_code(made))) == ("menunggu", code)


def test_granted_stop_without_evidence_counts_as_down() -> None:
    """The host was lost while its service was being stopped."""
    lost = replace(restored(STAGE, rc=4), stops=frozenset({("srv01", "web")}))
    assert outcomes.restore_result(lost) == "gagal_layanan_mati"
    assert outcomes.exit_code(lost) == 21
