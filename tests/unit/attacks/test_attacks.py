# SPDX-License-Identifier: Apache-2.0
"""The attack table: forged and invalid approvals, one fault each, through ``sopctl case execute``.

Each is refused with exit 10 and its own reason, and opens nothing: no line in the ledger, no run folder, no inventory
read, no Ansible started. More of the table stands in test_approval.py (FORGED) and test_approval_changes.py (CHANGED).
"""

from __future__ import annotations

from itertools import combinations

import pytest

from sopctl import approval, targeting
from tests.support.case_site import CaseSite, refused
from tests.unit.attacks import duties, elsewhere, emergencies, files, kaltim, order, records, signatures, trusts
from tests.unit.attacks.forging import Attack, Spoil, Table, at_desk, emergency, lent
from tests.unit.test_approval import FORGED
from tests.unit.test_approval_changes import CHANGED

TABLES: dict[str, Table] = {
    module.__name__.rpartition(".")[2]: module.ATTACKS
    for module in (signatures, order, files, trusts, records, duties, emergencies, elsewhere, kaltim)
}
ALL = {f"{theme}: {name}": attack for theme, table in TABLES.items() for name, attack in table.items()}


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize("attack", ALL.values(), ids=ALL.keys())
def test_attack_is_refused(attack: Attack, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    site: CaseSite = request.getfixturevalue(attack.base)
    attack.spoil(site)
    code, reasons = refused(site, capsys, attack.person)
    assert any(attack.reason in reason for reason in reasons), reasons
    assert code == 10, reasons


@pytest.mark.parametrize(
    ("base", "prepare", "person"),
    [
        ("site", lambda site: site.refile(site.papers()), "pelaksana"),
        ("site", emergency, "pelaksana"),
        ("site", lent, "pelaksana"),
        ("site", at_desk, "pelaksana"),
        ("kaltim", lambda site: site.refile(site.papers()), "pengelola"),
        ("site", elsewhere.beside(), "pelaksana"),
        ("site", elsewhere.beside(f"srv02:{elsewhere.COPY}"), "pelaksana"),
        ("site", elsewhere.in_place, "pelaksana"),
        ("kaltim", elsewhere.chosen_in_place, "pengelola"),
    ],
    ids=["approved", "emergency", "lent", "desk", "kaltim", "beside", "elsewhere", "in place", "planned in place"],
)
def test_true_cases_are_allowed(base: str, prepare: Spoil, person: str, request: pytest.FixtureRequest) -> None:
    """Without these, the refusals above would prove nothing."""
    site: CaseSite = request.getfixturevalue(base)
    prepare(site)
    session = site.session
    case = session.case(site.case)
    plan = targeting.case_plan(session, case)
    assert approval.gate_case(session.context(), case, plan, person, person) == []


def test_the_table_is_long_and_each_attack_is_another() -> None:
    names = [name.partition(": ")[2] for name in ALL] + [*FORGED, *CHANGED]
    assert len(names) >= 200
    assert [one for one, other in combinations(sorted(names), 2) if one == other] == []
