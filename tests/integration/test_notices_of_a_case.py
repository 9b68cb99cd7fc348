# SPDX-License-Identifier: Apache-2.0
"""Notices along a whole case: a rejected request whose requester has no key, and a scheduled run that half fails."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from sopctl import cli, clock
from sopctl.models import Person, TrustFile
from tests.support.case_site import CaseSite, at_home, build
from tests.support.notice_servers import describe_notices, mail_server, name_notices, text_of, webhook
from tests.support.site_builder import UNIT, SiteBuilder


@pytest.fixture
def site(tmp_path: Path) -> Iterator[CaseSite]:
    built = build(tmp_path)
    with at_home(built.builder):
        yield built


def _desk(file: TrustFile) -> TrustFile:
    """A requester without a key, and the register's keeper at the desk."""

    def at_the_desk(person: Person) -> Person:
        held = [replace(person.roles[0], role="loket")] if person.id == "pengurus" else []
        return replace(person, roles=[*person.roles, *held])

    asks = next(person for person in file.people if person.id == "pemohon")
    letters_only = replace(asks, id="peminta", jabatan="Kepala Subbagian Umum", keys=[])
    return replace(file, people=[*map(at_the_desk, file.people), letters_only])


def test_rejected_informed_and_received_with_a_signed_letter(
    site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.run(["-C", str(site.root), *words])
        return code, capsys.readouterr().err

    receipt = tmp_path / "tanda terima.PDF"
    receipt.write_bytes(b"%PDF-1.7 sudah diterima, ttd\n")
    with mail_server() as (url, box):
        site.retrust(_desk)
        people = {name: {"to": {"surel": f"{name}@example.go.id"}} for name in ("peminta", "pengurus", "pelaksana")}
        name_notices(site, {"surel": url}, people)
        words = ["--dataset", "berkas", "--unit", UNIT, "--letter", str(site.builder.letter()), "--letter-number", "2"]
        asked = ["case", "request", "restore", *words, "--reason", "salah hapus", "--requester", "peminta"]
        assert ask(*asked, "--as", "pengurus")[0] == 0
        case = "RST-2026-0002" if (site.root / "cases/2026").is_dir() else f"RST-{clock.now()[:4]}-0002"
        assert ask("case", "dispose", case, "--as", "kadis")[0] == 0
        assert ask("case", "decide", case, "--reject", "--reason", "bukan data unit Anda", "--as", "kabid")[0] == 0
        [rejected] = box.to("peminta@example.go.id")
        assert rejected["Subject"] == f"{case}: permintaan ditolak"
        assert "Alasan: bukan data unit Anda" in text_of(rejected)
        assert f"sopctl case inform {case} --as pelaksana" in text_of(box.to("pelaksana@example.go.id")[-1])
        assert ask("case", "inform", case, "--as", "pelaksana")[0] == 0
        informed = box.to("peminta@example.go.id")[-2:]
        told = next(mail for mail in informed if "status permintaan Anda: ditolak" in mail["Subject"])
        assert "bukan data unit Anda" in text_of(told)
        assert "petugas penerima surat" in text_of(told)
        turn = box.to("pengurus@example.go.id")[-1]
        assert f"sopctl case receive {case} --as pengurus" in text_of(turn)
        code, said = ask("case", "receive", case, "--as", "pengurus")
        assert (code, "with their signed letter: --letter FILE" in said) == (10, True)
        assert ask("case", "receive", case, "--letter", str(tmp_path / "tidak-ada.pdf"), "--as", "pengurus")[0] == 2
        assert ask("case", "receive", case, "--letter", str(receipt), "--as", "pengurus")[0] == 0
    folder = site.root / "cases" / case.split("-")[1] / case
    [document] = folder.glob("*-receive.json")
    letter = json.loads(document.read_bytes())["body"]["letter"]
    assert letter["file"] == "tanda-terima-05.pdf"
    kept = folder / "attachments" / letter["file"]
    assert kept.read_bytes() == receipt.read_bytes()
    [record] = (site.root / "archive/records").glob(f"*/*/{case}-C")
    digest = (record / "data/attachments" / f"{letter['file']}.sha256").read_text(encoding="utf-8").strip()
    assert digest == letter["sha256"]
    assert not [line for line in site.ledger.lines() if line.kind == "run-started"]
    kept.write_bytes(b"%PDF-1.7 lain\n")
    capsys.readouterr()
    assert cli.run(["-C", str(site.root), "case", "show", case, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["outcome"] == "ditolak"
    assert f"attachment {letter['file']} is not the one that was signed" in shown["problems"]


def test_a_scheduled_run_that_half_fails(tmp_path: Path) -> None:
    """`schedule run` tells the operator that it failed, and whoever checks the form that it waits, with the record's form."""
    site = SiteBuilder(tmp_path)
    site.server("srv01")
    with sqlite3.connect(tmp_path / "antrean.db") as database:
        database.execute("CREATE TABLE antrean (nomor INTEGER)")
    site.dataset("antrean", engine="sqlite", server="srv01", path=str(tmp_path / "antrean.db"))
    site.dataset("hilang", engine="sqlite", server="srv01", path=str(tmp_path / "tidak-ada.db"))
    site.schedule()
    with webhook() as (url, taken):
        operator = {"to": {"pusat": ""}, "events": ["started", "finished", "failed"]}
        describe_notices(site.root, {"pusat": url}, {"pelaksana": operator, "kabid": {"to": {"pusat": ""}}})
        site.sign_trust()
        done = site.run("schedule", "run", "--due", as_="pelaksana", check=False)
        assert done.returncode == 22, done.stderr
        titles = {one["title"]: one for one in taken}
        [case] = [folder.name for folder in (site.root / "cases").glob("*/BKP-*")]
        assert set(titles) == {
            f"{case}: pelaksanaan dimulai",
            f"{case}: pelaksanaan berhasil sebagian",
            f"{case}: giliran Anda, langkah 6",
        }, done.stdout + done.stderr
        told = titles[f"{case}: giliran Anda, langkah 6"]
        assert f"sopctl case confirm {case} --approve --as kabid" in told["message"]
        [form] = told["attachments"]
        [record] = [record for record in site.records if record.name.startswith(case)]
        assert base64.b64decode(form["base64"]) == (record / "data/form.html").read_bytes()
        assert form["filename"] == f"{record.name}-form.html"
        taken.clear()
        site.run("case", "confirm", case, "--approve", as_="kabid")
        assert [one["title"] for one in taken] == []
