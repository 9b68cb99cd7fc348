# SPDX-License-Identifier: Apache-2.0
"""Covers the plans and the play's gate of a restore to another place, and of one in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sopctl import approval, clock, targeting
from sopctl import plan as plans
from sopctl.case import Case
from sopctl.errors import GateRefused, UsageError
from sopctl.models import Json
from sopctl.play_gate import IN_PLACE, OPERATIONS
from sopctl.profile import load_profile
from sopctl.vault import Backup, choose
from tests.support.agencies import THIRD
from tests.support.case_site import CaseSite
from tests.unit.attacks.forging import asked
from tests.unit.test_play_gate import Play, _set

COPY = "/srv/app/salinan.db"


def play(site: CaseSite, **wanted: Any) -> Play:
    """The play of a case that asks so."""
    case = asked(site, **wanted)
    return Play(site, targeting.case_plan(site.session, case))


@pytest.fixture
def beside(site: CaseSite) -> Play:
    return play(site, to=[f"srv02:{COPY}"])


@pytest.fixture
def in_place(site: CaseSite) -> Play:
    return play(site, in_place=True)


def placed(beside: Play, **changes: Any) -> Json:
    question = beside.question("restore.placed", **changes)
    question["args"]["to"] = COPY
    return question


# -- another place ----------------------------------------------------------------------------------------------------


def test_plan_of_another_place(site: CaseSite, beside: Play) -> None:
    plan = beside.plan
    (item,) = plan["items"]
    assert (plan["operation"], item["services"]) == ("place", [])
    assert item["to"] == {"server": "srv02", "place": COPY, "source": "srv01"}
    assert (item["server"], item["host"], item["machine_id"]) == ("srv02", "srv02", "2" * 32)
    assert set(plan["hosts"]) == {"srv02"}, "the server whose data it is is not connected to"
    assert item["dataset"]["path"] == "/srv/app/antrean.db"
    target = approval.approval_target(item)
    assert (target["place"], target["server"], target["in_place"]) == (COPY, "srv02", False)
    (looked,) = plans.look_plan(site.session.site, plan)["items"]
    assert (looked["operation"], looked["dataset"]["path"]) == ("restore", COPY)


def test_the_other_server_must_be_known_by_its_machine(site: CaseSite) -> None:
    site.change_yaml("register/servers/srv02.yml", inventory_hostname="lain")
    plan = targeting.case_plan(site.session, asked(site, to=[f"srv02:{COPY}"]))
    plan["hosts"]["lain"]["machine_id"] = "9" * 32
    found = approval.targets(site.session.context(), plan)
    assert "host lain is registered with another identity than planned" in found


def test_every_step_to_another_place_is_granted(site: CaseSite, beside: Play) -> None:
    answer = beside.gate.answer(placed(beside))
    assert answer["allowed"], answer
    grant = answer["grant"]["grant"]
    assert (grant["operation"], grant["to"], grant["host"], grant["machine_id"]) == (
        "restore.placed", COPY, "srv02", "2" * 32,
    )  # fmt: skip
    assert answer["vault"] == site.session.vault_access("srv01"), "the backup lies in its own server's repository"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_set("args.to", "/srv/app/lain.db"), "argument to is not the planned one"),
        (_set("args.to", "/srv/app/antrean.db"), "argument to is not the planned one"),
        (_set("args.to", None), "argument to is not the planned one"),
        (_set("host", "srv01"), "host srv01 is not the planned host of antrean (srv02)"),
        (_set("args.snapshot", "f" * 64), "argument snapshot is not the planned one"),
        (_set("args.expected", None), "argument expected is not the planned one"),
        (_set("args.dataset.path", COPY), "argument dataset.path is not the planned one"),
        *[
            (_set("operation", operation), f"operation {operation} is no part of a place")
            for operation in sorted((OPERATIONS["restore"] | OPERATIONS["backup"] | IN_PLACE) - OPERATIONS["place"])
        ],
    ],
)
def test_another_place_with_a_wrong_argument(change: Any, reason: str, beside: Play) -> None:
    question = placed(beside)
    change(question)
    assert any(reason in said for said in beside.reasons(question)), beside.reasons(question)


def test_a_restore_over_live_data_takes_no_target(site: CaseSite) -> None:
    restore = play(site)
    question = restore.question("restore.staged")
    assert restore.reasons(question) == []
    question["args"]["to"] = COPY
    assert restore.reasons(question) == ["argument to is not the planned one"]
    question["operation"] = "restore.placed"
    assert "operation restore.placed is no part of a restore" in restore.reasons(question)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"to": ["srv09:/srv/x"]}, "is not in the asset register"),
        ({"to": [COPY], "in_place": True}, "--to touches no live data"),
        ({"to": ["antrean=/srv/x"], "datasets": ["antrean", "berkas"]}, "berkas would replace the live data"),
        ({"to": ["antrean=/srv/x", "berkas=/srv/x"], "datasets": ["antrean", "berkas"]}, "to one place"),
    ],
)
def test_a_request_that_is_refused_leaves_nothing(wanted: Json, reason: str, site: CaseSite) -> None:
    before = set(site.root.glob("cases/*/*"))
    with pytest.raises(UsageError, match=reason):
        asked(site, **wanted)
    assert set(site.root.glob("cases/*/*")) == before


def test_a_register_that_changed_since_is_asked_anew(site: CaseSite) -> None:
    case = asked(site, to=["/srv/data/x.db"])
    site.change_yaml("register/datasets/berkas.yml", path="/srv/data")
    with pytest.raises(GateRefused, match="is where dataset berkas lives"):
        targeting.case_plan(site.session, case)


# -- in place ---------------------------------------------------------------------------------------------------------


def test_plan_in_place(in_place: Play) -> None:
    (item,) = in_place.plan["items"]
    period = f"{in_place.plan['case'].lower()}-safety"
    assert (in_place.plan["operation"], item["in_place"], item["safety_period"]) == ("restore", True, period)
    assert "_antrean_pengaman_" in item["safety_name"]
    assert item["services"], "its services are stopped like any restore's"
    assert approval.approval_target(item)["in_place"] is True


def safety(in_place: Play, operation: str) -> Json:
    question = in_place.question("restore.staged" if operation == "restore.emptied" else "quiesce.quiesced")
    (item,) = in_place.plan["items"]
    question["operation"] = operation
    if operation == "backup":
        question["args"] |= {"period": item["safety_period"], "name": item["safety_name"]}
    elif operation == "verify":
        question["args"] |= {"snapshot": "new", "manifest_snapshot": "new", "depth": "read"}
    return question


def test_live_data_is_emptied_only_after_its_safety_backup_was_read_back(in_place: Play) -> None:
    unwatched = in_place.reasons(safety(in_place, "restore.emptied"))
    assert "the dead man's switch of srv01 is not armed" in unwatched
    assert in_place.answer("switch.armed")["allowed"]
    early = in_place.reasons(safety(in_place, "restore.emptied"))
    assert early == ["the safety backup of antrean was not read back in this run"]
    for operation in ("backup", "verify", "restore.emptied"):
        answer = in_place.gate.answer(safety(in_place, operation))
        assert answer["allowed"], answer
        assert answer["grant"]["grant"].get("safety", False) is (operation != "restore.emptied")


@pytest.mark.parametrize(
    ("operation", "change", "reason"),
    [
        ("backup", _set("args.period", "2026-11"), "argument period is not the planned one"),
        ("backup", _set("args.name", "lain"), "argument name is not the planned one"),
        ("backup", _set("args.passed_over", ["f" * 64]), "argument passed_over is not the planned one"),
        ("verify", _set("args.depth", "restore"), "argument depth is not the planned one"),
        ("restore.emptied", _set("args.snapshot", "f" * 64), "argument snapshot is not the planned one"),
        ("restore.emptied", _set("host", "srv02"), "is not the planned host"),
        ("backup", _set("args.dataset.id", "berkas"), "operation backup is no part of a restore"),
    ],
)
def test_in_place_with_a_wrong_argument(operation: str, change: Any, reason: str, in_place: Play) -> None:
    question = safety(in_place, operation)
    change(question)
    assert any(reason in said for said in in_place.reasons(question)), in_place.reasons(question)


@pytest.mark.parametrize("operation", sorted(IN_PLACE))
def test_what_belongs_to_in_place_is_no_part_of_another_restore(operation: str, site: CaseSite) -> None:
    restore = play(site)
    question = restore.question("restore.staged")
    question["operation"] = operation
    assert f"operation {operation} is no part of a restore" in restore.reasons(question)


def test_a_plan_chooses_only_where_it_comes_after_the_decision(kaltim_flow: Case, third_flow: Case) -> None:
    assert approval.in_place_by_plan(kaltim_flow)
    assert not approval.in_place_by_plan(third_flow), "there the decider approves the plan"


class _Planned(Case):
    """A case of which only the plan is asked."""

    def body(self, act: str) -> Json:
        return {"in_place": True} if act == "plan" else {}


@pytest.fixture
def third_flow(tmp_path: Path) -> Case:
    path = tmp_path / "kota-contoh-2025.yml"
    path.write_text(THIRD, encoding="utf-8")
    return _Planned("RST-2026-0001", tmp_path, "pemulihan", load_profile(path).profile.flow("pemulihan"), [])


@pytest.fixture
def kaltim_flow(tmp_path: Path) -> Case:
    profile = load_profile(Path(plans.__file__).parent / "profiles" / "kaltim-065.2-517-2018.yml").profile
    name = profile.flow_for("restore")
    return _Planned("RST-2026-0001", tmp_path, name, profile.flow(name), [])


# -- the safety backup afterwards ----------------------------------------------------------------------------------------


def backup(name: str, started: str, period: str) -> Backup:
    return Backup("antrean", name, period, "a" * 64, "b" * 64, 1, "c" * 64, started, started, "R", True, started, "read", None)  # fmt: skip


def test_what_a_restore_replaced_is_no_backup_to_go_back_to_by_itself() -> None:
    good = backup("bulanan", "2026-11-01T00:00:00Z", "2026-11")
    replaced = backup("pengaman", "2026-11-02T00:00:00Z", "rst-2026-0001-safety")
    found, remarks = choose([good, replaced], "antrean", "latest")
    assert found == good
    assert remarks == ["pengaman is newer but what a restore replaced; passed over, ask for it by its name"]
    assert choose([good, replaced], "antrean", "pengaman") == (replaced, [])
    assert choose([good, replaced], "antrean", clock.now())[0] == good
