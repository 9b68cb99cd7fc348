# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.play_gate: every question against the plan, with the arguments the task really has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sopctl import approval, clock, fsio, signing, targeting
from sopctl import plan as plans
from sopctl.bootstrap import RUN_PUBLIC
from sopctl.errors import ConfigError, GateRefused
from sopctl.models import Json, ScheduleEntry
from sopctl.play_gate import OPERATIONS, RUN_KEY, PlayGate
from sopctl.runner import Stop
from sopctl.site import Site
from tests.support.case_site import SERVICE, CaseSite

Asked = Callable[..., list[str]]


class Play:
    """A play that asks: knows the true question of each operation, and what it is answered."""

    def __init__(self, site: CaseSite, plan: Json, *, check: bool = False, refuse: list[str] | None = None) -> None:
        self.plan, self.said, self.refuse = plan, list[str](), refuse or []
        self.stop = Stop(self.said.append)
        self.gate = PlayGate(site.session, plan, lambda _: list(self.refuse), self.stop, check)

    def question(self, operation: str, at: int = 0, **changes: Any) -> Json:
        item = copy.deepcopy(self.plan["items"][at])
        args: Json = {"case": self.plan["case"]}
        if operation.startswith("service."):
            args |= {"service": item["services"][0]["service"], "state": operation.partition(".")[2]}
        elif operation.startswith("switch."):
            [planned] = plans.switches(self.plan)
            args |= {key: value for key, value in planned.items() if key != "host"}
        else:
            args["dataset"] = item["dataset"]
        for name in ("period", "name", "passed_over", "snapshot", "manifest_snapshot", "expected"):
            if name in item and operation.partition(".")[0] in {"backup", "restore"}:
                args[name] = item[name]
        if operation == "verify":
            args |= {"snapshot": "new", "manifest_snapshot": "new", "depth": item["verify"]}
        return {"operation": operation, "host": item["host"], "check": False, "args": args, **changes}

    def answer(self, operation: str, **changes: Any) -> Json:
        return self.gate.answer(self.question(operation, **changes))

    def reasons(self, question: Json) -> list[str]:
        answer = self.gate.answer(question)
        if answer["allowed"]:
            return []
        assert set(answer) == {"allowed", "reasons"}, "a refusal carries no secret"
        return list(answer["reasons"])


@pytest.fixture
def restore(site: CaseSite) -> Play:
    session = site.session
    return Play(site, targeting.case_plan(session, session.case(site.case)))


@pytest.fixture
def drill(site: CaseSite) -> Play:
    """A backup of srv01's antrean, here a database with a password, that is proven on srv02."""
    connection = {"password": {"file": "secrets/db"}}
    database = {"engine": "postgresql", "path": None, "database": "antrean", "connection": connection}
    site.change_yaml("register/datasets/antrean.yml", drill="srv02", **database)
    (site.root / "secrets/db").write_text("sandi")
    (site.root / "secrets/db").chmod(0o600)
    entries = [ScheduleEntry("antrean"), ScheduleEntry("berkas")]
    return Play(site, plans.backup_plan(Site(site.root), "BKP-2026-0001", entries, clock.now(), "restore"))


@pytest.fixture
def backup(site: CaseSite) -> Play:
    entries = [ScheduleEntry("antrean"), ScheduleEntry("berkas")]
    return Play(site, plans.backup_plan(Site(site.root), "BKP-2026-0001", entries, clock.now(), "restore"))


def test_every_planned_step_is_granted(restore: Play, backup: Play) -> None:
    for play in (restore, backup):  # those of a restore elsewhere or in place: test_elsewhere_gate.py
        for operation in sorted(OPERATIONS[play.plan["operation"]], key=lambda name: name != "switch.armed"):
            answer = play.answer(operation)
            assert answer["allowed"], answer
            grant = answer["grant"]["grant"]
            assert (grant["case"], grant["operation"], grant["host"]) == (play.plan["case"], operation, "srv01")
            assert grant["machine_id"] == "1" * 32
            assert 0 < clock.seconds_between(clock.now(), grant["expires"]) <= 15 * 60
            if operation.startswith("service."):
                assert (answer["vault"], answer["secrets"], grant["service"]) == (None, None, "web")
            elif operation.startswith("switch."):
                assert (answer["vault"], set(answer["secrets"])) == (None, {"antrean"})
            else:
                assert answer["vault"]["password"]
    nonces = {restore.answer("quiesce.quiesced")["grant"]["grant"]["nonce"] for _ in range(2)}
    assert len(nonces) == 2


def test_grants_are_signed_by_the_run_key_and_name_the_ledger_s_runs(site: CaseSite, restore: Play) -> None:
    plan = fsio.sha256_bytes(fsio.canonical_json(restore.plan))
    site.session.ledger.append("run-started", f"{site.case}/{site.case}-01", {"plan": plan})
    given = restore.answer("restore.staged")["grant"]
    grant, signature = given["grant"], given["grant_signature"].encode()
    public = (site.root / RUN_PUBLIC).read_text(encoding="utf-8")
    assert signing.verify(fsio.canonical_json(grant), signature, "sop-grant") == " ".join(public.split()[:2])
    assert (grant["schema"], grant["execution"], grant["plan"], grant["runs"]) == ("sop/grant/v1", 1, plan, [plan])
    assert grant["snapshot"] == restore.plan["items"][0]["snapshot"]
    (site.folder / "09-execute.json").write_bytes(b"{}")  # what an inspector sent back is another execution
    assert restore.answer("restore.staged")["grant"]["grant"]["execution"] == 2


def test_run_key_that_must_not_be_used_is_told_before_a_run(site: CaseSite, restore: Play) -> None:
    key = site.root / RUN_KEY
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="the run key is open to others"):
        Play(site, restore.plan)
    key.chmod(0o600)
    key.write_bytes((site.keys / "pelaksana").read_bytes())
    with pytest.raises(GateRefused, match="this run key is not the one that the trust names"):
        Play(site, restore.plan)
    key.unlink()
    assert Play(site, restore.plan).answer("restore.staged")["grant"]["grant_signature"] is None


def _set(path: str, value: Any) -> Callable[[Json], None]:
    def change(question: Json) -> None:
        *way, last = path.split(".")
        for step in way:
            question = question[step]
        question[last] = value

    return change


@pytest.mark.parametrize(
    ("operation", "change", "reason"),
    [
        ("backup", _set("args.period", "2020-01"), "argument period is not the planned one"),
        ("backup", _set("args.name", "lain"), "argument name is not the planned one"),
        ("backup", _set("args.case", "BKP-2026-0002"), "case BKP-2026-0002 is not the case of this run"),
        ("backup", _set("args.dataset.id", "lain"), "dataset lain is not in the plan"),
        ("backup", _set("args.dataset.path", "/etc"), "argument dataset.path is not the planned one"),
        ("backup", _set("args.dataset.state_dir", "/srv"), "argument dataset.state_dir is not the planned one"),
        ("backup", _set("args.dataset.connection", {"host": "x"}), "argument dataset.connection is not the planned"),
        ("backup", _set("args.dataset", None), "dataset None is not in the plan"),
        ("backup", _set("host", "srv02"), "host srv02 is not the planned host of antrean (srv01)"),
        ("verify", _set("args.dataset.engine", "files"), "argument dataset.engine is not the planned one"),
        ("verify", _set("args.depth", "read"), "argument depth is not the planned one"),
        ("vault_repository", _set("host", "srv02"), "host srv02 is not the planned host"),
        ("backup", _set("operation", "restore.swapped"), "operation restore.swapped is no part of a backup"),
        ("backup", _set("operation", "service.stopped"), "operation service.stopped is no part of a backup"),
        ("backup", _set("operation", "forget"), "operation forget is no part of a backup"),
        ("backup", _set("operation", None), "operation None is no part of a backup"),
    ],
)
def test_backup_with_a_wrong_argument(
    operation: str, change: Callable[[Json], None], reason: str, backup: Play
) -> None:
    question = backup.question(operation)
    change(question)
    assert any(reason in said for said in backup.reasons(question)), backup.reasons(question)


def test_a_backup_is_proven_on_the_planned_drill_host_alone(drill: Play, site: CaseSite) -> None:
    assert set(drill.plan["hosts"]) == {"srv01", "srv02"}
    verify = drill.question("verify")
    assert drill.reasons(verify) == ["host srv01 is not the planned host of antrean (srv02)"]
    answer = drill.gate.answer({**verify, "host": "srv02"})
    grant = answer["grant"]["grant"]
    assert (grant["host"], grant["machine_id"], grant["drill"]) == ("srv02", "2" * 32, True)
    assert answer["vault"] == site.session.vault_access("srv01"), "the backup lies in its own server's repository"
    assert answer["secrets"] is None, "the live database's password is nothing to a host that only proves"
    for operation in ("backup", "vault_repository"):
        question = drill.question(operation)
        assert drill.reasons({**question, "host": "srv02"}) == ["host srv02 is not the planned host of antrean (srv01)"]
        given = drill.gate.answer(question)
        assert "drill" not in given["grant"]["grant"]
        assert given["secrets"] == {"db_password": "sandi"}
    other = drill.question("verify", at=1)  # berkas has no drill host
    assert drill.reasons({**other, "host": "srv02"}) == ["host srv02 is not the planned host of berkas (srv01)"]
    assert "drill" not in drill.gate.answer(other)["grant"]["grant"]


@pytest.mark.parametrize(
    ("operation", "change", "reason"),
    [
        (step, _set(f"args.{name}", value), f"argument {name} is not the planned one")
        for step in ("restore.staged", "restore.swapped", "restore.finalised", "restore.reverted")
        for name, value in (("snapshot", "f" * 64), ("manifest_snapshot", "f" * 64), ("expected", {"tables": {}}))
    ]
    + [
        ("restore.swapped", _set("args.dataset.path", "/srv/lain"), "argument dataset.path is not the planned one"),
        ("quiesce.quiesced", _set("args.dataset.id", "berkas"), "dataset berkas is not in the plan"),
        ("quiesce.quiesced", _set("host", None), "host None is not the planned host"),
        ("service.stopped", _set("args.service.name", "ssh"), "service ssh on srv01 is not in the plan"),
        ("service.stopped", _set("args.service.stop", ["/bin/sh"]), "argument service.stop is not the planned one"),
        ("service.started", _set("args.service.unit", "ssh"), "argument service.unit is not the planned one"),
        ("service.started", _set("host", "srv02"), "service web on srv02 is not in the plan"),
        ("service.started", _set("args.service", None), "service None on srv01 is not in the plan"),
        ("service.started", _set("args.case", None), "case None is not the case of this run"),
        ("restore.staged", _set("operation", "backup"), "operation backup is no part of a restore"),
        ("switch.armed", _set("args.seconds", 86400), "argument seconds is not the planned one"),
        ("switch.armed", _set("args.datasets", []), "argument datasets is not the planned one"),
        ("switch.committed", _set("args.services", [{"name": "ssh"}]), "argument services is not the planned one"),
        ("switch.aborted", _set("args.together", True), "argument together is not the planned one"),
        ("switch.disarmed", _set("host", "srv02"), "host srv02 has nothing to watch in this plan"),
        ("switch.disarmed", _set("args.case", "RST-2026-0099"), "case RST-2026-0099 is not the case of this run"),
        ("switch.armed", _set("operation", "switch.forgotten"), "operation switch.forgotten is no part of a restore"),
    ],
)  # fmt: skip
def test_restore_with_a_wrong_argument(
    operation: str, change: Callable[[Json], None], reason: str, restore: Play
) -> None:
    question = restore.question(operation)
    change(question)
    assert any(reason in said for said in restore.reasons(question)), restore.reasons(question)


@pytest.mark.parametrize("operation", ["service.stopped", "quiesce.quiesced", "restore.swapped"])
def test_no_step_without_the_dead_man_s_switch(operation: str, restore: Play) -> None:
    """Starting the play at a later task must not get round what would bring the service back."""
    assert restore.reasons(restore.question(operation)) == ["the dead man's switch of srv01 is not armed"]
    assert restore.answer(operation, check=True)["allowed"]
    assert restore.answer("switch.armed")["allowed"]
    assert restore.answer(operation)["allowed"]


def test_going_back_does_not_hang_on_the_clock_either(restore: Play) -> None:
    """Once the old data was said to count, stopping and closing again lead back too; swapping never does."""
    for operation in ("switch.armed", "service.stopped", "restore.swapped"):
        assert restore.answer(operation)["allowed"]
    restore.refuse = ["the approval held until just now"]
    assert restore.reasons(restore.question("service.stopped"))
    for operation in ("switch.aborted", "service.stopped", "quiesce.quiesced", "restore.reverted", "switch.disarmed"):
        assert restore.answer(operation)["allowed"], operation
    for operation in ("switch.armed", "switch.committed", "restore.swapped"):
        assert restore.reasons(restore.question(operation)), operation


def test_service_of_another_dataset_is_not_planned(site: CaseSite) -> None:
    session = site.session
    plan = targeting.case_plan(session, session.case(site.case))
    plan["items"][0]["services"] = []
    play = Play(site, plan)
    question: Json = {
        "operation": "service.started", "host": "srv01", "check": False,
        "args": {"case": plan["case"], "service": {key: SERVICE[key] for key in ("name", "manager")}},
    }  # fmt: skip
    assert play.reasons(question) == ["service web on srv01 is not in the plan"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"hosts": []}, "the play's hosts [] are not the planned hosts ['srv01']"),
        ({"hosts": ["srv01", "srv02"]}, "are not the planned hosts"),
        ({"hosts": None}, "are not the planned hosts"),
        ({"args": {"case": None, "playbook": "backup"}}, "case None is not the case of this run"),
        ({"args": {"playbook": "restore"}}, "playbook restore is not the planned backup"),
    ],
)
def test_authorize(changes: Json, reason: str | None, backup: Play) -> None:
    args = {"case": backup.plan["case"], "playbook": "backup"}
    question = {"operation": "authorize", "host": None, "check": False, "hosts": ["srv01"], "args": args, **changes}
    answer = backup.gate.answer(question)
    if reason is None:
        assert answer == {"allowed": True, "case": backup.plan["case"]}, "no grant and no secret for the whole play"
    else:
        assert any(reason in said for said in answer["reasons"])


def test_the_gate_is_asked_anew_each_time(restore: Play) -> None:
    assert restore.answer("restore.staged")["allowed"]
    restore.refuse = ["the approval held until yesterday"]
    assert restore.reasons(restore.question("restore.staged")) == ["the approval held until yesterday"]


def test_way_back_does_not_hang_on_the_clock(restore: Play) -> None:
    """An approval that runs out in the middle must not leave the service down: what leads back is granted still."""
    assert restore.answer("restore.staged")["allowed"]
    assert restore.answer("switch.armed")["allowed"]
    assert restore.answer("service.stopped")["allowed"]
    restore.refuse = ["the approval held until just now"]
    for operation in ("restore.reverted", "quiesce.released", "service.started"):
        assert restore.answer(operation)["allowed"], operation


def test_check_run_refuses_a_task_that_would_change(site: CaseSite, restore: Play) -> None:
    play = Play(site, restore.plan, check=True)
    question = play.question("restore.swapped")
    assert play.reasons(question) == ["this run is a check; the task is not"]
    assert play.answer("restore.swapped", check=True)["allowed"]


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def interrupted(play: Play, operation: str) -> bool:
    """Whether ``operation`` is still granted."""
    reasons = play.reasons(play.question(operation))
    assert reasons in ([], ["the run was interrupted; no further step is begun"]), reasons
    return not reasons


def test_interrupted_before_the_stop_nothing_more_begins(restore: Play) -> None:
    """Ctrl-C while staging: the service is not stopped for it, and nothing is swapped."""
    assert restore.answer("restore.staged")["allowed"]
    restore.stop.asked = 1
    for operation in ("restore.staged", "service.stopped", "quiesce.quiesced", "restore.swapped", "restore.finalised"):
        reasons = restore.reasons(restore.question(operation))
        assert reasons[0] == "the run was interrupted; no further step is begun", operation
    for operation in ("restore.reverted", "quiesce.released", "service.started"):
        assert interrupted(restore, operation), operation


def test_interrupted_between_stop_and_swap_goes_on(restore: Play) -> None:
    """The service is down: the quickest way up is forward."""
    assert restore.answer("switch.armed")["allowed"]
    assert restore.answer("service.stopped")["allowed"]
    restore.stop.asked = 2
    for operation in ("quiesce.quiesced", "restore.swapped", "service.started", "service.stopped", "restore.reverted"):
        assert interrupted(restore, operation), operation


def test_interrupted_backup_begins_no_further_dataset(backup: Play) -> None:
    assert backup.answer("backup")["allowed"]
    backup.stop.asked = 1
    for operation in ("vault_repository", "backup", "verify"):
        assert not interrupted(backup, operation), operation


def test_interrupted_between_two_datasets_finishes_both(site: CaseSite, restore: Play) -> None:
    plan = copy.deepcopy(restore.plan)
    plan["items"].append(copy.deepcopy(plan["items"][0]))
    plan["items"][1]["dataset"]["id"] = "berkas"
    play = Play(site, plan)
    assert play.answer("switch.armed")["allowed"]
    assert play.answer("service.stopped")["allowed"]
    assert play.answer("restore.finalised")["allowed"]
    play.stop.asked = 1
    assert play.reasons(play.question("restore.finalised", at=1)) == []
    assert not play.stop.critical


def test_check_run_is_never_between_stop_and_swap(site: CaseSite, restore: Play) -> None:
    play = Play(site, restore.plan, check=True)
    assert play.answer("service.stopped", check=True)["allowed"]
    assert not play.stop.critical


def test_differences_names_every_argument() -> None:
    planned = {"a": 1, "b": {"c": [1], "d": None}}
    assert approval.differences(planned, {"a": 1, "b": {"c": [1]}}) == []
    assert approval.differences(planned, {"a": 2, "b": {"c": [2]}, "e": 1}) == ["a", "b.c", "e"]
    assert approval.differences(planned, None) == ["value"]
