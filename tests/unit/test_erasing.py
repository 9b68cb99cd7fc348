# SPDX-License-Identifier: Apache-2.0
"""A paper of a closed case is erased by a signed act: what was signed stays verifiable and says so, and nothing else may be gone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sopctl import archive, audit, cli, erasing, letters
from tests.support.case_site import CaseSite, at_home

LETTER = "surat.txt"


@pytest.fixture
def site(base_site: CaseSite, tmp_path: Path) -> Iterator[CaseSite]:
    with at_home(base_site.builder):
        yield base_site.copy(tmp_path / "site")


@pytest.fixture
def closed(site: CaseSite) -> CaseSite:
    assert run(site, "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon") == 0
    return site


def run(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), *words])


def erase(site: CaseSite, person: str = "kabid", file: str = LETTER, reason: str = "permintaan pemilik data") -> int:
    return run(site, "case", "erase", site.case, file, "--reason", reason, "--as", person)


def broken(site: CaseSite) -> list[str]:
    session = site.session
    session.reading = True
    return [str(one) for one in audit.verify_all(session, site.root / "archive").findings if one.severity == "broken"]


def paper(site: CaseSite) -> Path:
    return site.folder / "attachments" / LETTER


def test_erased_and_everything_holds(closed: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    text = paper(closed).read_bytes()
    assert broken(closed) == []
    assert erase(closed) == 0
    assert not paper(closed).exists() and not paper(closed).with_name(f"{LETTER}{letters.SALT}").exists()
    assert [path for path in closed.root.rglob("*") if path.is_file() and text in path.read_bytes()] == []
    assert broken(closed) == []
    record = archive.record_path(closed.root / "archive", f"{closed.case}-E01")
    assert record
    said = json.loads((record / "data" / erasing.FILE).read_bytes())
    assert (said["file"], said["person"], said["reason"]) == (LETTER, "kabid", "permintaan pemilik data")
    capsys.readouterr()
    assert run(closed, "case", "show", closed.case, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["erased"], shown["attachments"], shown["problems"]) == ([LETTER], [], [])
    assert run(closed, "case", "show", closed.case) == 0
    assert f"erased: {LETTER}" in capsys.readouterr().out
    assert run(closed, "record", "verify") == 0


def test_the_same_again_changes_nothing(closed: CaseSite) -> None:
    assert erase(closed) == 0
    lines = len(closed.ledger.lines())
    assert erase(closed) == 0
    assert len(closed.ledger.lines()) == lines


def test_killed_before_the_file_went_is_told_and_finished(
    closed: CaseSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(erasing, "_remove", lambda _path: (_ for _ in ()).throw(KeyboardInterrupt))
        assert erase(closed) != 0
    assert any("was to be erased and is still there" in one for one in broken(closed))
    assert erase(closed) == 0
    assert not paper(closed).exists()
    assert broken(closed) == []


def test_gone_without_the_act_is_an_alarm(closed: CaseSite) -> None:
    paper(closed).unlink()
    assert any("is not there" in one for one in broken(closed))


def test_the_salt_belongs_to_the_paper(closed: CaseSite) -> None:
    salt = paper(closed).with_name(f"{LETTER}{letters.SALT}")
    salt.write_bytes(salt.read_bytes()[::-1])
    assert any("is not the one that was signed" in one for one in broken(closed))
    salt.unlink()
    assert any("is not the one that was signed" in one for one in broken(closed))


def test_not_while_it_is_open(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert erase(site) == 10
    assert "when it is closed and sealed" in capsys.readouterr().err
    assert paper(site).exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ({"person": "pelaksana"}, 10, "erasing a paper of a case is for"),
        ({"file": "lain.pdf"}, 2, f"Its papers: {LETTER}"),
        ({"file": "../../sop.yml"}, 2, "no document of"),
        ({"reason": " "}, 2, "erasing needs a reason"),
    ],
)
def test_who_and_what(
    more: dict[str, str], code: int, said: str, closed: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    assert erase(closed, **more) == code
    assert said in capsys.readouterr().err
    assert paper(closed).exists()
    assert (closed.root / "sop.yml").exists()
