# SPDX-License-Identifier: Apache-2.0
"""Copies of the vault in other ones: made, read back, checked, forgotten, and brought back when the vault is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_vault_maintenance import Vaulted

pytestmark = pytest.mark.long


class Copied(Vaulted):
    """A site with a second vault on this machine, with a password of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.other = folder / "luar" / "srv01"
        secret = self.site.root / "secrets/luar"
        secret.write_text("kata sandi lain\n")
        secret.chmod(0o600)
        self.set_vault(
            copies=[
                {
                    "name": "luar",
                    "url": str(folder / "luar" / "{server}"),
                    "media": "pusat data provinsi",
                    "password": {"file": "secrets/luar"},
                }
            ]
        )

    def copy(self, *args: str, code: int = 0) -> Any:
        done = self.site.run("vault", "copy", *args, "--json", as_="pelaksana", check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def there(self) -> list[Any]:
        """What restic says lies in the other vault, opened with its own password."""
        return list(json.loads(self.restic("snapshots", "--json", repository=self.other, secret="luar")))

    def live_digest(self) -> str:
        with closing(sqlite3.connect(self.live)) as connection:
            return str(connection.execute("SELECT group_concat(id || hex(isi)) FROM antrean").fetchone()[0])


@pytest.fixture
def copied(tmp_path: Path) -> Iterator[Copied]:
    """A site whose one dataset has a verified backup, not copied yet."""
    made = Copied(tmp_path)
    made.backup()
    yield made


def test_a_backup_is_copied_read_back_and_said(copied: Copied) -> None:
    before = copied.rows()[0]
    assert (before["copies"], before["three_two_one"]["kept"]) == ({}, False)
    assert "NOT kept" in copied.site.run("vault", "list").stdout
    done = copied.copy()
    [row] = done["copies"]
    assert [(one["name"], one["verified"]) for one in row["copied"]] == [(before["name"], True)]
    own = {one["id"]: one for one in json.loads(copied.restic("snapshots", "--json"))}
    there = {one["original"]: one for one in copied.there()}
    assert there.keys() == own.keys(), "each by its original, though under another id"
    assert all(there[name]["tree"] == own[name]["tree"] and there[name]["id"] != name for name in own)
    [after] = copied.rows()
    assert after["copies"]["luar"]["verified"]
    assert after["three_two_one"] == {"places": ["live", "vault", "luar"], "media": 3, "offsite": 1, "kept": True}
    said = copied.site.run("vault", "list").stdout
    assert "luar: verified" in said
    assert "3-2-1 of antrean: 3 copies (live, vault, luar), 3 media, 1 off-site: kept" in said
    assert copied.site.run("record", "verify", check=False).returncode == 0
    again = copied.copy()
    assert (again["copies"][0]["copied"], again["record"]) == ([], None), "a second time there is nothing to do"


def test_only_stored_until_it_is_read_back(copied: Copied) -> None:
    copied.copy("--no-read-back")
    [row] = copied.rows()
    assert (row["copies"]["luar"]["verified"], row["three_two_one"]["kept"]) == (False, False)
    assert "luar: stored" in copied.site.run("vault", "list").stdout
    first = {one["id"] for one in copied.there()}
    copied.copy()
    assert {one["id"] for one in copied.there()} == first, "read back, not copied again"
    assert copied.rows()[0]["three_two_one"]["kept"]


def test_a_copy_that_was_damaged_is_found_and_made_anew(copied: Copied) -> None:
    copied.copy()
    pack = copied.spoil(copied.other)
    code, row = copied.check("--copy", "luar", "--read-share", "all")
    assert (code, row["clean"], row["copy"]) == (30, False, "luar")
    assert [one["name"] for one in row["damaged"]] == [copied.rows()[0]["name"]]
    [bad] = copied.rows()
    assert bad["verified"], "the vault's own is as good as before"
    assert (bad["copies"]["luar"]["flaw"], bad["three_two_one"]["kept"]) == ("damaged", False)
    told = copied.site.run("vault", "check", "--copy", "luar", as_="pelaksana", check=False).stdout
    assert "next: sopctl vault check --copy luar --quarantine --as PERSON" in told, "not the vault itself"
    assert copied.check("--copy", "luar", "--quarantine")[0] == 30
    assert not pack.exists()
    copied.copy()
    code, row = copied.check("--copy", "luar", "--read-share", "all")
    assert (code, row["clean"]) == (0, True)
    assert copied.rows()[0]["three_two_one"]["kept"]
    assert "vault of srv01@luar: last checked: 20" in copied.site.run("vault", "list").stdout
    assert copied.check("--read-share", "all")[0] == 0, "the vault itself was never meant"


def test_damage_that_reading_back_finds_is_not_called_a_copy(copied: Copied) -> None:
    copied.copy("--no-read-back")
    copied.spoil(copied.other)
    done = copied.copy(code=30)
    assert [one["verified"] for one in done["copies"][0]["copied"]] == [False]
    assert copied.rows()[0]["copies"]["luar"]["flaw"] == "damaged"


def test_what_another_put_there_is_no_copy_of_ours(copied: Copied) -> None:
    copied.copy()
    there = {one["original"]: one["tree"] for one in copied.there()}
    shutil.rmtree(copied.other)
    (folder := copied.other.parent.parent / "palsu").mkdir()
    fake = Copied(folder)
    fake.backup()
    fake.copy()
    shutil.copytree(fake.other, copied.other)
    copied.check("--copy", "luar")
    assert copied.rows()[0]["copies"]["luar"]["flaw"] == "missing"
    copied.copy()
    own = {one["original"]: one["tree"] for one in copied.there() if one["original"] in there}
    assert own == there
    [row] = copied.rows()
    assert row["copies"]["luar"]["verified"]


@pytest.mark.parametrize("lost", ["all", "pack"])
def test_what_the_vault_lost_is_brought_back_and_restored(copied: Copied, lost: str) -> None:
    copied.copy()
    wanted = copied.live_digest()
    if lost == "all":
        shutil.rmtree(copied.repository)
        refused = copied.site.run("vault", "check", as_="pelaksana", check=False)
        assert (refused.returncode, "there is no repository" in refused.stderr) == (2, True)
    else:
        copied.spoil()
        assert copied.check("--read-share", "all", "--quarantine")[0] == 30
        assert copied.rows()[0]["verified"] is False
    done = copied.copy("--back", "luar")
    [one] = done["copies"][0]["copied"]
    [row] = copied.rows()
    assert (row["verified"], row["flaw"]) == (True, "")
    assert row["snapshot"] == one["snapshot"] != one["copy"], "records name it as ever; it lies under another id"
    assert copied.check("--read-share", "all")[0] == 0
    copied.fill(2)
    case = copied.site.approved("antrean")
    copied.site.run("case", "execute", case, as_="pelaksana")
    assert copied.live_digest() == wanted
    assert copied.copy("--back", "luar")["record"] is None


def test_bringing_back_is_ordered_by_a_person_who_executes(copied: Copied) -> None:
    copied.copy()
    done = copied.site.run("vault", "copy", "--back", "luar", as_="kabid", check=False)
    assert (done.returncode, done.stdout) == (10, "")
    assert (
        copied.site.run("vault", "copy", "--back", "luar", "--to", "luar", as_="pelaksana", check=False).returncode == 2
    )
    done = copied.site.run("vault", "copy", "--to", "entah", as_="pelaksana", check=False)
    assert (done.returncode, "there is no copy 'entah'" in done.stderr, "There are: luar" in done.stderr) == (
        2,
        True,
        True,
    )


def test_copies_are_forgotten_by_the_same_retention(copied: Copied) -> None:
    copied.set_vault(keep={"monthly": 1})
    copied.another(2, "P1W")
    copied.another(3, "P1D")
    copied.copy()
    whole = len(copied.there())
    assert whole == 6
    copied.site.run("vault", "forget", "--yes", as_="pelaksana")
    assert len(copied.ids()) == 2
    assert len(copied.there()) == whole, "each vault has its own forgetting"
    going = copied.site.run("vault", "forget", "--copy", "luar", "--check").stdout
    assert going.count("goes: antrean") == 2
    copied.site.run("vault", "forget", "--copy", "luar", "--yes", as_="pelaksana")
    assert len(copied.there()) == 2
    assert [row["copies"]["luar"]["forgotten"] for row in copied.rows()] == [True, True, False]
    assert copied.copy()["record"] is None, "what was forgotten there is not copied again"
    assert copied.check("--copy", "luar", "--read-share", "all")[0] == 0


def test_what_cannot_be_reached_is_told_and_the_rest_is_kept(copied: Copied) -> None:
    copied.other.parent.write_text("no folder")
    done = copied.site.run("vault", "copy", as_="pelaksana", check=False)
    assert done.returncode in {2, 20}
    assert len(done.stderr.strip().splitlines()[-1]) < 600
    assert "Traceback" not in done.stderr
    assert copied.rows()[0]["copies"] == {}
    copied.other.parent.unlink()
    copied.copy()
    assert copied.rows()[0]["three_two_one"]["kept"]


def test_backups_and_restores_go_on_while_it_copies(copied: Copied) -> None:
    """Other maintenance waits; a restore at night does not."""
    from sopctl import locks

    with locks.held(copied.site.root / ".state", ["vault"], "pelaksana", case="VLT-2026-0009"):
        assert copied.site.run("vault", "copy", as_="pelaksana", check=False).returncode == 11
        case = copied.site.approved("antrean")
        copied.site.run("case", "execute", case, as_="pelaksana")
