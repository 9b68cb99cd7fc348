# SPDX-License-Identifier: Apache-2.0
"""What retention leaves alone, and what becomes of who asks for what is gone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from sopctl import vault
from sopctl.site import Site
from tests.integration.test_vault_maintenance import Vaulted

pytestmark = pytest.mark.long


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Vaulted]:
    """Three verified backups of one month, of which retention keeps the newest."""
    made = Vaulted(tmp_path)
    made.backup()
    for number, every in enumerate(("P1W", "P1D"), 2):
        made.another(number, every)
    made.set_vault(keep={"monthly": 1})
    yield made


def test_an_open_case_holds_what_it_may_be_given(three: Vaulted) -> None:
    oldest = three.rows()[0]["name"]
    case = three.site.approved("antrean", point=oldest)
    looked = three.site.run_json("vault", "forget", "--yes", as_="pelaksana")
    assert looked["forgotten"] == []
    assert {each["why"] for each in looked["backups"]} == {f"{case} asks for its dataset and is open"}
    three.site.run("case", "execute", case, as_="pelaksana")
    assert three.site.run_json("vault", "forget", "--yes", as_="pelaksana")["forgotten"] == [], "not closed yet"
    three.site.run("case", "inform", case, as_="pelaksana")
    three.site.run("case", "receive", case, as_="pemohon")
    assert three.site.run_json("case", "show", case)["due"] is None
    looked = three.site.run_json("vault", "forget", "--yes", as_="pelaksana")
    assert len(looked["forgotten"]) == 1
    [held] = [each["why"] for each in looked["backups"] if each["name"] == oldest]
    assert case in held, "what the restore replaced is kept yet, and this is what it was replaced with"


def test_a_case_that_was_withdrawn_holds_nothing(three: Vaulted) -> None:
    case = three.site.requested("antrean")
    assert three.site.run_json("vault", "forget", "--yes", as_="pelaksana")["forgotten"] == []
    three.site.run("case", "withdraw", case, "--reason", "tidak perlu lagi", as_="pemohon")
    assert len(three.site.run_json("vault", "forget", "--yes", as_="pelaksana")["forgotten"]) == 2


def test_what_was_forgotten_is_not_restored_from(three: Vaulted) -> None:
    names = [row["name"] for row in three.rows()]
    three.site.run("vault", "forget", "--yes", as_="pelaksana")
    with pytest.raises(AssertionError, match=r"exited 2(.|\n)*was forgotten(.|\n)*sopctl vault list"):
        three.site.requested("antrean", point=names[0])
    assert "forgotten, the vault holds it no more" in three.site.run("vault", "list").stdout


def test_a_time_at_which_all_is_forgotten_falls_back_in_no_silence(three: Vaulted) -> None:
    """What was nearest to the time asked for is gone: the one before it is proposed and said to be, or there is none."""
    _, second, third = three.rows()
    three.site.run("vault", "forget", "--yes", as_="pelaksana")
    said = f"no verified backup of antrean at or before {second['started']}"
    gone = f"{second['name']} and 1 before it came nearer but retention has forgotten it"
    with pytest.raises(AssertionError, match=rf"exited 2(.|\n)*{said}(.|\n)*{gone}"):
        three.site.requested("antrean", point=second["started"])
    for point in ("latest", third["started"]):
        case = three.site.approved("antrean", point=point)
        assert three.site.run_json("case", "show", case)["due"]["act"] == "execute"


def test_a_time_nearer_to_what_is_forgotten_names_it(three: Vaulted) -> None:
    """One is proposed, an older one; whoever asks is told what it is not."""
    first, second, third = three.rows()
    three.site.run("vault", "forget", "--yes", as_="pelaksana")
    backups = [
        dataclasses.replace(each, forgotten=each.forgotten and each.name != first["name"])
        for each in vault.catalogue(Site(three.site.root))
    ]
    chosen, remarks = vault.choose(backups, "antrean", second["started"])
    assert chosen.name == first["name"]
    assert remarks == [f"{second['name']} came nearer but retention has forgotten it; passed over"]
    assert vault.choose(backups, "antrean", "latest")[0].name == third["name"]
    assert vault.choose(backups, "antrean", "latest")[1] == []
