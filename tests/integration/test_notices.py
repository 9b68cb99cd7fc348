# SPDX-License-Identifier: Apache-2.0
"""People are told: over real mail and a real webhook, what waits for them, in their language, with the form; and what
happens when nobody takes it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sopctl import archive, channels, cli, clock, fsio, outbox
from sopctl.redact import Redactor
from tests.support.case_site import CaseSite, at_home, build
from tests.support.notice_servers import (
    PASSWORD,
    free_port,
    mail_address,
    mail_server,
    name_notices,
    silent_server,
    text_of,
    webhook,
)
from tests.support.site_builder import UNIT

MAIL = {name: {"to": {"surel": f"{name}@example.go.id"}} for name in ("pemohon", "kadis", "kabid", "pelaksana")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> CaseSite:
    return build(tmp_path_factory.mktemp("base"))


@pytest.fixture
def site(built: CaseSite, tmp_path: Path) -> Iterator[CaseSite]:
    with at_home(built.builder):
        yield built.copy(tmp_path / "site")


def ask(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), *words])


def note(site: CaseSite, folder: Path, person: str = "pelaksana") -> int:
    """A command that acts, and changes nobody's turn."""
    paper = folder / f"catatan-{len(list(folder.glob('catatan-*')))}.txt"
    paper.write_text("catatan\n", encoding="utf-8")
    return ask(site, "case", "attach", site.case, str(paper), "--as", person)


def shown(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The undelivered notices, as ``case show`` has them."""
    capsys.readouterr()
    assert ask(site, "case", "show", site.case, "--json") == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["notices"]
    return found


def test_mail_tells_who_is_due_what_to_type_and_brings_the_form(site: CaseSite, tmp_path: Path) -> None:
    with mail_server() as (url, box):
        people: dict[str, Any] = {**MAIL, "pemohon": {**MAIL["pemohon"], "events": ["received", "approved"]}}
        people["pelaksana"] = {**MAIL["pelaksana"], "language": "en"}
        name_notices(site, {"surel": url}, people)
        assert note(site, tmp_path) == 0
        [turn] = box.to("pelaksana@example.go.id")
        assert turn["Subject"] == f"{site.case}: your turn, step 4"
        assert turn["From"].addresses[0].addr_spec == "sop@example.go.id"
        assert f"sopctl case execute {site.case} --as pelaksana" in text_of(turn)
        assert "Requester : Kepala Bidang Mutasi, Bidang Mutasi" in text_of(turn)
        [form] = turn.iter_attachments()
        assert form.get_filename() == f"{site.case}-form.html"
        assert "Formulir Permintaan Restore Data" in form.get_content()
        received, approved = box.to("pemohon@example.go.id")
        assert received["Subject"] == f"{site.case}: permintaan Anda telah diterima"
        assert "Disetujui oleh Kepala Bidang Aptika" in text_of(approved)
        assert "Alasan: sesuai" in text_of(approved)
        assert not box.to("kadis@example.go.id")  # it was theirs, and is no longer
        count = len(box.taken)
        assert note(site, tmp_path) == 0
        assert ask(site, "notify") == 0
        assert len(box.taken) == count


def test_webhook_of_one_who_watches_everything(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    with webhook() as (url, taken):
        site.edit("sop.yml", "forms: {pdf: false}", "forms: {pdf: true}")
        wanted = {"to": {"pusat": ""}, "all": True, "events": ["approved", "received", "turn"]}
        name_notices(site, {"pusat": url}, {"pengurus": wanted})
        capsys.readouterr()
        assert ask(site, "notify", "--check", "--json") == 0
        [due] = json.loads(capsys.readouterr().out)["due"]
        assert (due["event"], due["person"], due["channel"]) == ("approved", "pengurus", "pusat")
        assert not taken
        assert ask(site, "notify", "--json") == 0
        [sent] = json.loads(capsys.readouterr().out)["sent"]
        assert sent == {"event": "approved", "case": site.case, "person": "pengurus", "channel": "pusat"}
        [told] = taken
        assert told["title"] == due["subject"] == f"{site.case}: permintaan disetujui"
        [form] = told["attachments"]
        assert form["filename"] == f"{site.case}-form.pdf"
        assert base64.b64decode(form["base64"]).startswith(b"%PDF-")


def test_dead_channel_is_no_failure_is_shown_and_is_tried_by_the_next_command(
    site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    name_notices(site, {"surel": mail_address(port)}, MAIL)
    assert note(site, tmp_path) == 0
    assert "to pelaksana over surel" in capsys.readouterr().err
    [undelivered] = shown(site, capsys)
    assert (undelivered["event"], undelivered["person"], undelivered["tries"]) == ("turn", "pelaksana", 1)
    assert "refused" in undelivered["cause"]
    assert ask(site, "case", "show", site.case) == 0
    assert "not delivered: turn to pelaksana over surel" in capsys.readouterr().out
    with mail_server(port) as (_, box):
        assert note(site, tmp_path) == 0
        assert len(box.to("pelaksana@example.go.id")) == 1
    assert shown(site, capsys) == []


def test_a_server_that_never_answers_costs_a_moment(
    site: CaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And only once a command, however many wait for that channel; the others are served."""
    monkeypatch.setattr(channels, "CONNECT", 1)
    with silent_server() as port, webhook() as (url, taken):
        people = {name: {"to": {"surel": f"{name}@example.go.id"}, "events": ["approved", "turn"]} for name in MAIL}
        people["kadis"] = {"to": {"pusat": ""}, "events": ["approved"]}
        name_notices(site, {"surel": mail_address(port), "pusat": url}, people)
        assert note(site, tmp_path) == 0
        said = capsys.readouterr().err
        assert said.count("timed out") == 1
        assert len(taken) == 1
        assert len(shown(site, capsys)) == 1


def test_a_wrong_address_hinders_nobody(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mail_server() as (url, box):
        box.refused.add("kadis@example.go.id")
        people = {name: {**MAIL[name], "events": ["approved"]} for name in ("kadis", "pemohon", "pelaksana")}
        name_notices(site, {"surel": url}, people)
        assert note(site, tmp_path) == 0
        assert note(site, tmp_path) == 0
        assert {to for recipients, _ in box.taken for to in recipients} == {
            "pemohon@example.go.id",
            "pelaksana@example.go.id",
        }
        [undelivered] = shown(site, capsys)
        assert undelivered["person"] == "kadis"
        assert "550" in undelivered["cause"]


def test_the_channels_secret_stands_nowhere_else(
    site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ""
    with webhook(500) as (broken, _), mail_server() as (url, box):
        addresses = {
            "surel": url,
            "salah": url.replace("r4hasia", "kel1ru-sekali"),
            "rusak": broken,
            "mati": mail_address(free_port()),
            "ganjil": f"tidakada://{PASSWORD}",
        }
        name_notices(
            site,
            addresses,
            {
                "pelaksana": {
                    "to": dict.fromkeys(["surel", "salah", "mati"], "a@example.go.id") | {"rusak": "", "ganjil": ""}
                }
            },
        )
        for words in (["doctor"], ["notify", "--check"], ["notify", "--json"], ["case", "show", site.case], ["doctor"]):
            ask(site, *words)
        note(site, tmp_path)
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert len(box.taken) == 1
    assert len(shown(site, capsys)) == 4
    assert "salah" in said and "535" in said
    assert "500" in said
    secret = Redactor([PASSWORD, "kel1ru-sekali", *addresses.values()])
    assert secret.finds(PASSWORD.encode())
    assert not secret.finds(said.encode())
    assert not secret.finds(b"".join(box.raw))
    for path in sorted(site.root.rglob("*")):
        if path.is_file() and path.parent.name != "secrets":
            assert not secret.finds(path.read_bytes()), path


def test_hostile_words_stay_words(site: CaseSite, tmp_path: Path) -> None:
    evil = "Bidang\r\nBcc: jahat@example.org\n\n<b>Klik</b> [ini](http://jahat.example)\u202e\x1b[2J"
    with mail_server() as (url, box), webhook() as (hook, taken):
        people = {"kadis": {"to": {"surel": "kadis@example.go.id", "pusat": ""}}}
        name_notices(site, {"surel": url, "pusat": hook}, people)
        words = ["--dataset", "antrean", "--unit", UNIT, "--letter", str(site.builder.letter()), "--letter-number", "1"]
        assert ask(site, "case", "request", "restore", *words, "--reason", evil, "--as", "pemohon") == 0
        [mail] = box.to("kadis@example.go.id")
        assert [to for to, _ in box.taken] == [["kadis@example.go.id"]]
        assert mail["Bcc"] is None
        assert next(part.get_content_type() for part in mail.walk() if not part.is_multipart()) == "text/plain"
        for text in (text_of(mail), taken[0]["message"]):
            line = next(line for line in text.splitlines() if "Bcc:" in line)
            assert line == "Alasan  : Bidang Bcc: jahat@example.org ‹b›Klik‹/b› (ini)(http://jahat.example) (2J"
            assert not {"\x1b", "\u202e", "<"} & set(text)


def test_what_the_clock_says(
    site: CaseSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Near, late, overdue and due for review; what lasts is told once a week."""
    with webhook() as (url, taken):
        name_notices(site, {"pusat": url}, {
            "pelaksana": {"to": {"pusat": ""}, "events": ["near", "overdue"]},
            "kabid": {"to": {"pusat": ""}, "events": ["overdue", "review"], "language": "en"},
        })  # fmt: skip
        until = site.session.context().work.deadline(site.ledger.lines()[-1].at, "P1D")

        def told(moment: str) -> list[str]:
            monkeypatch.setattr(clock, "now", lambda: moment)
            taken.clear()
            assert ask(site, "notify") == 0
            return sorted(one["title"] for one in taken)

        assert told(clock.now()) == []
        assert told(clock.plus(until, minutes=-30)) == [f"{site.case}: batas waktu langkah 4 hampir habis"]
        assert told(clock.plus(until, minutes=-20)) == []
        assert told(clock.plus(until, minutes=5)) == [f"{site.case}: langkah 4 terlambat"]
        assert told(clock.plus(until, days=2)) == []
        assert told(clock.plus(until, days=8)) == [f"{site.case}: langkah 4 terlambat"]
        later = told(clock.plus(until, days=70))
        assert "antrean, berkas: back up terlambat" in later
        assert "antrean, berkas: the backup is overdue" in later
        assert "srv01, srv02: the yearly review of the asset register is due soon" in told(clock.plus(until, days=340))
        site.change_yaml("register/servers/srv02.yml", reviewed={"at": "2020-01-01", "by": "kabid"})
        assert "srv02: the yearly review of the asset register is overdue" in told(clock.plus(until, days=341))


def test_a_run_that_left_the_service_down_is_told_though_it_left_no_document(site: CaseSite, tmp_path: Path) -> None:
    form = {"form": "restore", "header": {"result": "gagal_layanan_mati", "check_mode": False}}
    files = {"form.json": json.dumps(form).encode(), "form.html": b"<p>form</p>"}
    session, record = site.session, f"{site.case}-01"
    signer = session.signer("pelaksana", None)
    bag = archive.seal_record(
        session.site.archive, record, "run", files, {}, sign=lambda data: session.sign(data, "sop-record", signer)
    )
    session.ledger.append("record", record, {"tagmanifest": fsio.sha256_file(bag / "tagmanifest-sha256.txt")})
    with mail_server() as (url, box):
        name_notices(
            site, {"surel": url}, {name: {**MAIL[name], "events": ["failed"]} for name in ("kadis", "pelaksana")}
        )
        assert note(site, tmp_path) == 0
        for name in ("kadis", "pelaksana"):
            [mail] = box.to(f"{name}@example.go.id")
            assert mail["Subject"] == f"{site.case}: pelaksanaan gagal, layanan masih mati"
            assert "LAYANAN MASIH MATI. Hubungi pelaksana sekarang" in text_of(mail)
            [attached] = mail.iter_attachments()
            assert attached.get_filename() == f"{record}-form.html"
    with mail_server() as (url, box):  # a form that is not what was sealed goes to nobody
        name_notices(site, {"surel": url}, {"kabid": {**MAIL["kabid"], "events": ["failed"]}})
        (bag / "data/form.html").write_bytes(b"<p>lain</p>")
        assert note(site, tmp_path) == 0
        [mail] = box.to("kabid@example.go.id")
        assert list(mail.iter_attachments()) == []


def test_a_trial_message(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    with mail_server() as (url, box), webhook(403) as (hook, _):
        name_notices(
            site, {"surel": url, "pusat": hook}, {"kabid": {"to": {"surel": "kabid@example.go.id", "pusat": ""}}}
        )
        capsys.readouterr()
        assert ask(site, "notify", "--test", "kabid") == 22
        said = capsys.readouterr().out
        assert "sent: test to kabid over surel" in said
        assert "test to kabid over pusat: " in said and "403" in said
        [mail] = box.to("kabid@example.go.id")
        assert mail["Subject"] == "sopctl: pesan percobaan"
        assert ask(site, "notify", "--test", "kadis") == 2
        assert ask(site, "notify", "--test", "kabid", "--check") == 2
        assert len(box.taken) == 1
        assert not (site.root / ".state/notices").exists()


def test_channels_that_nobody_signed_are_not_used(
    site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with webhook() as (url, taken):
        name_notices(site, {"pusat": url}, {"pelaksana": {"to": {"pusat": ""}}})
        site.edit("sop.yml", "secrets/kanal-pusat", "secrets/./kanal-pusat")
        assert note(site, tmp_path) == 0
        assert "no notice is sent: sop.yml: notices.channels differs" in capsys.readouterr().err
        assert ask(site, "doctor") in {0, 2}
        assert "notices" in capsys.readouterr().out
        assert not taken


def test_who_has_left_is_told_nothing(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mail_server() as (url, box):
        name_notices(site, {"surel": url}, {"kadis": {**MAIL["kadis"], "events": ["approved"], "all": True}})
        capsys.readouterr()
        assert ask(site, "trust", "end", "kadis", "--role", "kadis") == 0
        assert "refused" not in capsys.readouterr().err
        site.retrust(lambda file: file)
        assert note(site, tmp_path) == 0
        assert not box.taken


def test_an_agencys_own_words(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = site.root / "kami/notices/id"
    own.mkdir(parents=True)
    with (site.root / "sop.yml").open("a", encoding="utf-8") as stream:
        stream.write("templates: kami\n")
    with mail_server() as (url, box):
        name_notices(site, {"surel": url}, {"pelaksana": MAIL["pelaksana"]})
        (own / "turn.txt.j2").write_text("{{ ''.__class__.__mro__ }}", encoding="utf-8")
        assert note(site, tmp_path) == 0
        assert "template: " in capsys.readouterr().err
        assert not box.taken
        (own / "turn.txt.j2").write_text(
            "Mohon {{ command }}\n{% include 'notices/id/_case.txt.j2' %}", encoding="utf-8"
        )
        assert note(site, tmp_path) == 0
        [(_, mail)] = box.taken
        assert mail["Subject"] == f"Mohon sopctl case execute {site.case} --as pelaksana"
        assert "Pemohon : Kepala Bidang Mutasi" in text_of(mail)


def test_two_commands_at_once_send_none_twice(site: CaseSite) -> None:
    """Both know of the same notices; each takes what the other has not, and holds nothing while it sends."""
    name_notices(site, {"surel": "json://127.0.0.1:9"}, {"pelaksana": {"to": {"surel": ""}}})
    first, second = outbox.Outbox(site.root / ".state"), outbox.Outbox(site.root / ".state")
    wanted = {outbox.Key("turn", f"{site.case}/0{n}/r4", "pelaksana", "surel"): site.case for n in range(3)}
    mine = first.claim(wanted)
    assert len(mine) == 3
    assert second.claim(wanted) == []
    first.settle({mine[0]: None}, mine[1:])
    assert second.claim(wanted) == mine[1:]
