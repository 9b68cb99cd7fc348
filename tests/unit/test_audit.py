# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.audit: one altered byte anywhere in the archive is found, and nothing is ever repaired."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from sopctl import archive, audit, cli, fsio, requesting, signing, workflow
from sopctl.errors import GateRefused, UsageError
from sopctl.models import TrustFile
from sopctl.session import Session
from tests.support.case_site import CaseSite, at_home


@pytest.fixture(scope="module")
def closed(base_site: CaseSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseSite]:
    """The base site with one rejected case that is closed and sealed."""
    with at_home(base_site.builder):
        site = base_site.copy(tmp_path_factory.mktemp("closed") / "site")
        session = site.session
        asked = requesting.Asked(
            operation="restore",
            datasets=["antrean"],
            unit="Bidang Mutasi",
            letter=base_site.builder.letter(),
            letter_number="1",
            reason="coba",
        )
        case = requesting.request(session, asked, "pemohon", None)
        workflow.act(session, case.id, "dispose", "kadis", None, lambda *_: {"to": "", "note": ""})
        workflow.act(session, case.id, "decide", "kabid", None, workflow.decision(session, False, "tidak berwenang"))
        workflow.act(
            session, case.id, "inform", "pelaksana", None, lambda *_: {"status": "ditolak", "text": "", "to": ""}
        )
        workflow.act(session, case.id, "receive", "pemohon", None, lambda *_: {"note": ""})
        site.case = case.id
        yield site


@pytest.fixture
def copy(closed: CaseSite, tmp_path: Path) -> CaseSite:
    return closed.copy(tmp_path / "site")


def record(site: CaseSite) -> Path:
    return next((site.root / "archive/records").glob(f"*/*/{site.case}-C"))


def rules(site: CaseSite, *only: str) -> set[str]:
    findings, _ = audit.verify(site.session, site.root / "archive", list(only))
    return {finding.rule for finding in findings if finding.severity == "broken"}


FILES = [
    "bagit.txt",
    "bag-info.txt",
    "manifest-sha256.txt",
    "tagmanifest-sha256.txt",
    "tagmanifest-sha256.txt.sig",
    "data/form.json",
    "data/form.html",
    "data/case.json",
    "data/profile.yml",
    "data/trust/trust.yml",
    "data/trust/trust.yml.sig",
    "data/trust/allowed_signers",
    "data/case/01-request.json",
    "data/case/01-request.json.sig",
    "data/case/03-decide.json",
    "data/case/05-receive.json.sig",
    "data/attachments/surat.txt.sha256",
]


def test_whole_archive_holds(closed: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    findings, count = audit.verify(closed.session, closed.root / "archive", [])
    assert (findings, count) == ([], 3)
    present = {str(path.relative_to(record(closed))) for path in record(closed).rglob("*") if path.is_file()}
    assert set(FILES) <= present
    assert cli.run(["-C", str(closed.root), "record", "verify"]) == 0
    assert "3 records: bytes, signatures and ledger hold" in capsys.readouterr().out


@pytest.mark.parametrize("name", FILES)
def test_one_altered_byte_anywhere(name: str, copy: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(copy) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert cli.run(["-C", str(copy.root), "record", "verify"]) == 30
    assert "BROKEN" in capsys.readouterr().out
    assert cli.run(["-C", str(copy.root), "record", "verify", record(copy).name]) == 30
    assert path.read_bytes() == data, "checking never repairs"


def _removed(site: CaseSite) -> None:
    shutil.rmtree(record(site))


def _added(site: CaseSite) -> None:
    shutil.copytree(record(site), record(site).with_name("RST-2026-0099-C"))


def _twice(site: CaseSite) -> None:
    other = record(site).parent.with_name("01" if record(site).parent.name != "01" else "02")
    other.mkdir()
    shutil.copytree(record(site), other / record(site).name)


def _stray(site: CaseSite) -> None:
    (record(site).parent / "catatan.txt").write_text("x")


def _extra_file(site: CaseSite) -> None:
    (record(site) / "data/tambahan.txt").write_text("x")


def _gone_file(site: CaseSite) -> None:
    (record(site) / "data/form.html").unlink()


def _linked(site: CaseSite) -> None:
    path = record(site) / "data/form.html"
    path.rename(site.root / "form.html")
    path.symlink_to(site.root / "form.html")


def _exchanged(site: CaseSite) -> None:
    """The same record sealed anew with another content, by a key that may sign records."""
    path = record(site)
    files: dict[str, bytes | Path] = {
        str(item.relative_to(path / "data")): item.read_bytes() for item in (path / "data").rglob("*") if item.is_file()
    }
    files["form.json"] = b"{}\n"
    shutil.rmtree(path)
    archive.seal_record(
        site.root / "archive", path.name, "case", files, {},
        sign=lambda data: signing.sign(data, "sop-record", site.keys / "pelaksana"),
    )  # fmt: skip


def _by_nobody(site: CaseSite) -> None:
    path = record(site)
    signature = signing.sign((path / "tagmanifest-sha256.txt").read_bytes(), "sop-record", site.builder.root_key)
    (path / "tagmanifest-sha256.txt.sig").write_bytes(signature)


def _ledger(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[CaseSite], None]:
    def spoil(site: CaseSite) -> None:
        path = site.root / "archive/ledger.jsonl"
        path.write_bytes(b"\n".join(change(path.read_bytes().split(b"\n"))))

    return spoil


def _line_edited(lines: list[bytes]) -> list[bytes]:
    other = b"0" if lines[1].split(b"sha256:")[1][:1] != b"0" else b"1"
    head, tail = lines[1].split(b"sha256:", 1)
    return [lines[0], head + b"sha256:" + other + tail[1:], *lines[2:]]


def _digest_edited(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-2], lines[-2].replace(b'"tagmanifest":"sha256:', b'"tagmanifest":"sha256:0')[:-1], lines[-1]]


SPOILT: list[tuple[Callable[[CaseSite], None], str]] = [
    (_removed, "record-missing"),
    (_added, "record-unlisted"),
    (_twice, "record-twice"),
    (_stray, "stray"),
    (_extra_file, "file-extra"),
    (_gone_file, "file-missing"),
    (_linked, "link"),
    (_exchanged, "record-exchanged"),
    (_by_nobody, "signature"),
    (_ledger(_line_edited), "ledger-chain"),
    (_ledger(_digest_edited), "ledger-line"),
    (_ledger(lambda lines: [*lines[:3], *lines[4:]]), "ledger-sequence"),
    (_ledger(lambda lines: lines[:-2] + lines[-1:]), "record-unlisted"),  # the last line cut off whole
    (_ledger(lambda lines: [lines[1], lines[0], *lines[2:]]), "ledger-sequence"),
]


@pytest.mark.parametrize(("spoil", "rule"), SPOILT)
def test_what_was_done_to_the_archive(
    spoil: Callable[[CaseSite], None], rule: str, copy: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(copy)
    findings, _ = audit.verify(_trusting(copy), copy.root / "archive", [])
    assert rule in {finding.rule for finding in findings if finding.severity == "broken"}, findings


def _trusting(site: CaseSite) -> Session:
    """A session of the unspoilt site, as an auditor with a copy of the archive has it."""
    session = site.session
    whole = site.builder.root
    session.site.root = whole
    return session


@pytest.mark.parametrize("spoil", [_exchanged, _by_nobody])
def test_one_record_alone_is_compared_with_the_ledger_too(
    spoil: Callable[[CaseSite], None], copy: CaseSite, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(copy)
    assert cli.run(["-C", str(copy.root), "record", "verify", record(copy).name]) == 30


def test_record_that_the_ledger_never_saw(copy: CaseSite) -> None:
    _added(copy)
    assert "record-unlisted" in rules(copy, "RST-2026-0099-C")


def test_document_in_a_record_is_judged_again(copy: CaseSite) -> None:
    """A record sealed whole over a document that nobody signed: the bag is right, the document is not."""
    path = record(copy)
    document = json.loads((path / "data/case/03-decide.json").read_bytes())
    document["body"]["decision"] = "approve"
    (path / "data/case/03-decide.json").write_bytes(fsio.canonical_json(document))
    assert "document-refused" in rules(copy)


def test_profile_that_changed_since_does_not_break_old_records(copy: CaseSite) -> None:
    """The SOP is revised, the trust says so: last year's records were right and stay so."""
    copy.edit("profiles/trenggalek-060-017-2023.yml", "title: Kadis Kominfo", "title: Kepala Dinas Kominfo")
    copy.retrust(lambda file: file)
    findings, _ = audit.verify(copy.session, copy.root / "archive", [])
    assert [finding for finding in findings if finding.severity == "broken"] == []


def test_official_who_left_does_not_break_old_records(copy: CaseSite) -> None:
    gone = ("kabid", "pelaksana", "pemohon")

    def left(file: TrustFile) -> TrustFile:
        return changed(file, people=[one for one in file.people if one.id not in gone])

    copy.retrust(left, forget=gone)
    findings, _ = audit.verify(copy.session, copy.root / "archive", [])
    kept = [finding for finding in findings if finding.severity == "broken" and not finding.record.startswith("BKP-")]
    assert kept == []  # the two backups of the base site hold no trust of their own


def test_trust_that_never_was_in_force(copy: CaseSite) -> None:
    """A record that brings its own trust is not judged by it."""
    for name in ("trust.yml", "trust.yml.sig"):
        (record(copy) / "data/trust" / name).write_bytes(b"x")
    assert "trust-unknown" in rules(copy)


def test_ledger_of_another_form(copy: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole chain with a record line that has no digest is broken evidence, not a fault of sopctl."""
    copy.ledger.append("record", "RST-2026-0098-C", {"other": "sha256:" + "0" * 64})
    assert cli.run(["-C", str(copy.root), "record", "verify"]) == 30
    assert "unexpected" not in capsys.readouterr().err


def test_no_such_archive_or_record(copy: CaseSite) -> None:
    with pytest.raises(UsageError, match="the archive does not exist"):
        audit.verify(copy.session, copy.root / "none", [])
    with pytest.raises(UsageError, match="record 'RST-2026-0077-C' does not exist"):
        audit.verify(copy.session, copy.root / "archive", ["RST-2026-0077-C"])


def test_archive_is_read_years_after_the_trust_expired(copy: CaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sopctl.clock.now", lambda: "2036-01-01T00:00:00Z")
    with pytest.raises(GateRefused, match="the trust holds from"):
        audit.verify(copy.session, copy.root / "archive", [])
    session = copy.session
    session.reading = True
    findings, count = audit.verify(session, copy.root / "archive", [])
    assert findings == []
    assert count
