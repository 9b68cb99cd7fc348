# SPDX-License-Identifier: Apache-2.0
"""Officials sign a sealed record's form: with a PKCS#12 file or a token, by a real CA, one after the other; and what is refused."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pexpect
import pytest
from pyhanko.pdf_utils.reader import PdfFileReader

from sopctl import archive, audit, cli, clock, fsio, pem, sealing, signed_pdf
from sopctl.cli import records
from sopctl.ledger import Ledger
from tests.support import timestamp_authority
from tests.support.case_site import CaseSite, at_home
from tests.support.official_ca import PASSPHRASE, Holder, OfficialCa, serving
from tests.support.timestamp_authority import Authority, Ca

PAGE = Path(__file__).parents[2] / "docs/reference/verify-by-hand.md"
SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")


@dataclass
class Desk:
    """A site with a sealed record whose form is a PDF; kabid and kadis have certificates, ``tamu`` one that nobody wrote down."""

    site: CaseSite
    ca: OfficialCa
    kabid: Holder
    kadis: Holder
    tamu: Holder

    @property
    def record(self) -> str:
        return f"{self.site.case}-C"

    def run(self, *words: str | Path) -> int:
        return cli.run(["-C", str(self.site.root), *map(str, words)])

    def sign(self, holder: Holder, *words: str) -> int:
        return self.run("record", "sign", self.record, "--pkcs12", holder.p12, "--as", "pelaksana", *words)

    def signed(self, number: int) -> Path:
        found = archive.record_path(self.site.root / "archive", f"{self.record}T{number}")
        assert found
        return found / "data/form.pdf"

    @property
    def form(self) -> bytes:
        found = archive.record_path(self.site.root / "archive", self.record)
        assert found
        return (found / "data/form.pdf").read_bytes()

    @property
    def now(self) -> str:
        return clock.now()

    def broken(self) -> list[str]:
        session = self.site.session
        session.reading = True
        done = audit.verify_all(session, self.site.root / "archive", full=True)
        return [str(one) for one in done.findings if one.severity == "broken"]


@pytest.fixture(scope="module")
def sealed(base_site: CaseSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("countersigned")
    with at_home(base_site.builder), serving(OfficialCa(folder / "ca")) as ca:
        site = base_site.copy(folder / "site")
        desk = Desk(site, ca, ca.issue("Kepala Bidang Aptika"), ca.issue("Kepala Dinas"), ca.issue("Tamu"))
        site.edit("sop.yml", "forms: {pdf: false}", "forms: {pdf: true}")
        assert desk.run("trust", "anchor", ca.anchor) == 0
        for person, holder in (("kabid", desk.kabid), ("kadis", desk.kadis)):
            assert desk.run("trust", "certificate", person, holder.pem) == 0
        assert desk.run("trust", "sign", "--key", base_site.builder.root_key) == 0
        assert desk.run("case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon") == 0
        yield desk


@pytest.fixture
def desk(sealed: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(records, "_secret", lambda _what: PASSPHRASE.decode())
    with at_home(sealed.site.builder):
        yield Desk(sealed.site.copy(tmp_path / "site"), sealed.ca, sealed.kabid, sealed.kadis, sealed.tamu)
    sealed.ca.revoked.clear()
    sealed.ca.silent = False


def valid(pdf: Path, anchor: Path) -> list[str]:
    """What pyhanko's own command says of each signature; by the CA's answers in the file."""
    command = [str(Path(sys.executable).with_name("pyhanko")), "sign", "validate", "--executive-summary"]
    done = subprocess.run(
        [*command, "--trust-replace", "--trust", anchor, "--no-revocation-check", pdf],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return [line.rpartition(":")[2] for line in done.stdout.splitlines()]


def test_two_officials_sign_one_after_the_other(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    before = desk.form
    assert desk.sign(desk.kabid, "--reason", "mengetahui", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["person"], said["of"], said["level"]) == ("kabid", desk.record, "B-B")
    first = desk.signed(1).read_bytes()
    assert first.startswith(before) and len(first) > len(before)
    assert desk.sign(desk.kadis) == 0
    assert desk.signed(2).read_bytes().startswith(first)
    assert valid(desk.signed(2), desk.ca.anchor) == ["VALID", "VALID"]
    assert desk.broken() == []
    assert desk.sign(desk.kadis) == 10
    assert "kadis has signed this form already" in capsys.readouterr().err
    assert archive.record_path(desk.site.root / "archive", f"{desk.record}T3") is None


def refused(desk: Desk, capsys: pytest.CaptureFixture[str], code: int, *words: str) -> None:
    """The last command said why, and nothing was sealed."""
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert archive.record_path(desk.site.root / "archive", f"{desk.record}T1") is None
    assert code in {2, 10, 1, 30}


def test_whose_certificate_it_is_the_trust_says(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    refused(desk, capsys, desk.sign(desk.tamu), "is nobody's in the trust")


def test_a_revoked_certificate_signs_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.ca.revoked.add(desk.kabid.certificate.serial_number)
    refused(desk, capsys, desk.sign(desk.kabid), "revoked")


def test_a_silent_ca_is_no(desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can say whether the certificate still holds: nothing is signed (hard-fail)."""
    monkeypatch.setattr(OfficialCa, "crl", lambda *_: b"")
    desk.ca.silent = True
    refused(desk, capsys, desk.sign(desk.kabid), "whether the certificate is revoked could not be found out")


def test_another_passphrase(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(records, "_secret", lambda _what: "lain")
    refused(desk, capsys, desk.sign(desk.kabid), "no PKCS#12 file, or the passphrase is another one", "kepala")
    (tmp_path / "x.p12").write_bytes(b"x")
    code = desk.run("record", "sign", desk.record, "--pkcs12", tmp_path / "x.p12", "--as", "pelaksana")
    refused(desk, capsys, code, "no PKCS#12 file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "what holds the key"),
        (["--pkcs11", "/usr/lib/x.so"], "which key on the token"),
        (["--pkcs12", "/none.p12"], "no such file"),
    ],
)
def test_what_was_typed_wrongly(desk: Desk, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = desk.run("record", "sign", desk.record, *words, "--as", "pelaksana")
    refused(desk, capsys, code, said)
    assert code == 2


def test_no_such_record_or_form(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.sign(desk.kabid, "--form", "lain.pdf") == 2
    assert "holds no lain.pdf" in capsys.readouterr().err
    assert desk.run("record", "sign", "RST-2026-0077-C", "--pkcs12", desk.kabid.p12, "--as", "pelaksana") == 2
    assert "does not exist" in capsys.readouterr().err


def test_nobody_signs_what_is_not_what_was_sealed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    form = archive.record_path(desk.site.root / "archive", desk.record)
    assert form
    path = form / "data/form.html"
    path.write_bytes(path.read_bytes() + b" ")
    code = desk.sign(desk.kabid)
    refused(desk, capsys, code, "is not what was sealed", "form.html")
    assert code == 30


def test_what_was_signed_stays_the_beginning_of_the_next(desk: Desk) -> None:
    """A form that was altered before it is signed again, with everything else sealed anew by an insider, is named."""
    assert desk.sign(desk.kabid) == 0
    pdf = desk.signed(1).read_bytes()
    for other in (pdf[:-40], pdf[:1000] + bytes([pdf[1000] ^ 1]) + pdf[1001:]):
        judged = signed_pdf.judge_form(other, desk.form, desk.site.session.trust.anchors, desk.now)
        assert judged.reasons, other[-60:]
    judged = signed_pdf.judge_form(pdf, desk.form + b"x", desk.site.session.trust.anchors, desk.now)
    assert judged.reasons == ("it is not the form with something added behind it",)


def test_without_the_form_that_was_signed_it_could_not_be_checked(desk: Desk) -> None:
    assert desk.sign(desk.kabid) == 0
    record = desk.signed(1).parents[1]
    copy = desk.site.root.parent / "copy"
    shutil.copytree(desk.site.root / "archive", copy)
    shutil.rmtree(next(copy.glob(f"records/*/*/{desk.record}")))
    session = desk.site.session
    session.reading = True
    found, _ = audit.verify(session, copy, [record.name])
    assert [(one.severity, one.rule) for one in found] == [("unchecked", "signature-before")]


@pytest.fixture
def token(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token of softhsm2 with kadis's key and certificate on it, called ``pejabat``."""
    if not SOFTHSM.exists():
        pytest.skip("no softhsm2 on this machine; `make deps` installs it")
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    key = tmp_path / "key.pem"
    unpack: list[str | Path] = [
        "openssl",
        "pkcs12",
        "-in",
        desk.kadis.p12,
        "-nocerts",
        "-nodes",
        "-passin",
        f"pass:{PASSPHRASE.decode()}",
    ]
    with key.open("wb") as stream:
        subprocess.run(unpack, check=True, stdout=stream)
    softhsm = ["softhsm2-util", "--pin", "1234"]
    subprocess.run(
        [*softhsm, "--init-token", "--free", "--label", "dinas", "--so-pin", "5678"], check=True, capture_output=True
    )
    subprocess.run(
        [*softhsm, "--import", key, "--token", "dinas", "--label", "pejabat", "--id", "01"],
        check=True,
        capture_output=True,
    )
    import pkcs11
    from pkcs11.util.x509 import decode_x509_certificate

    with pkcs11.lib(str(SOFTHSM)).get_token(token_label="dinas").open(rw=True, user_pin="1234") as session:
        for label, text in (("pejabat", desk.kadis.pem.read_bytes()), ("antara", desk.ca.issuing_pem)):
            found = decode_x509_certificate(pem.certificates(text)[0].der)
            mine = {pkcs11.Attribute.LABEL: label, pkcs11.Attribute.TOKEN: True}
            session.create_object({**found, **mine, pkcs11.Attribute.ID: label.encode()})
    return "dinas"


def test_by_a_token(
    desk: Desk, token: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sign(label: str) -> int:
        words = ["--pkcs11", str(SOFTHSM), "--token", token, "--label", label, "--as", "pelaksana"]
        return desk.run("record", "sign", desk.record, *words)

    monkeypatch.setattr(records, "_secret", lambda _what: "0000")
    refused(desk, capsys, sign("pejabat"), "does not open")
    monkeypatch.setattr(records, "_secret", lambda _what: "1234")
    refused(desk, capsys, sign("lain"), "no certificate called 'lain'")
    assert sign("pejabat") == 0
    assert valid(desk.signed(1), desk.ca.anchor) == ["VALID"]
    assert "signed by kadis" in capsys.readouterr().out


def test_the_passphrase_is_asked_for_on_the_terminal(desk: Desk) -> None:
    builder = desk.site.builder
    words = [
        "-C",
        str(desk.site.root),
        "record",
        "sign",
        desk.record,
        "--pkcs12",
        str(desk.kabid.p12),
        "--as",
        "pelaksana",
    ]
    env = {**os.environ, **builder.env}
    child = pexpect.spawn(str(builder.sopctl[0]), [*builder.sopctl[1:], *words], env=env, timeout=60)
    child.expect("Passphrase of kepala-bidang-aptika.p12: ")
    child.sendline(PASSPHRASE.decode())
    child.expect("signed by kabid")
    child.expect(pexpect.EOF)
    said = child.before or b""
    assert PASSPHRASE not in said
    assert desk.broken() == []
    kept = [path for path in desk.site.root.rglob("*") if path.is_file() and PASSPHRASE in path.read_bytes()]
    assert kept == []


def test_with_an_authority_of_the_time(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """PAdES B-LT: the time stamp is inside, and what the CA says of all certificates."""
    ca = Ca(tmp_path / "tsa")
    with timestamp_authority.serving(Authority(ca, ca.issue("penanda"))) as authority:
        timestamp_authority.name_authorities(desk.site, authority)
        capsys.readouterr()
        assert desk.sign(desk.kabid, "--json") == 0
    assert json.loads(capsys.readouterr().out)["level"] == "B-LT"
    signature = next(iter(PdfFileReader(io.BytesIO(desk.signed(1).read_bytes())).embedded_regular_signatures))
    assert "signature_time_stamp_token" in {one["type"].native for one in signature.signer_info["unsigned_attrs"]}
    assert desk.broken() == []


def by_hand(archive_root: Path) -> str:
    """What the page's commands for signed forms say."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    block = next(one for one in blocks if "signature.json" in one)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", block],
        cwd=archive_root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_by_hand(desk: Desk) -> None:
    assert desk.sign(desk.kabid) == 0
    assert desk.sign(desk.kadis) == 0
    root = desk.site.root / "archive"
    assert by_hand(root) == ""
    said = desk.signed(2).with_name("signature.json")
    said.write_text(said.read_text(encoding="utf-8").replace('"kadis"', '"kabid"'), encoding="utf-8")
    assert "not kabid's certificate" in by_hand(root)
    desk.signed(1).write_bytes(desk.form + b"x")
    assert "does not begin with what was signed" in by_hand(root)


def resealed(desk: Desk, change: Callable[[dict[str, Any]], object], number: int = 1) -> list[str]:
    """What the audit says when whoever may seal makes the record of a signature anew, with other things said of it."""
    record = desk.signed(number).parents[1]
    said = json.loads((record / "data/signature.json").read_bytes())
    change(said)
    pdf = desk.signed(number).read_bytes()
    shutil.rmtree(record)
    session = desk.site.session
    lines = [line for line in session.ledger.lines() if line.ref != record.name]
    desk.site.ledger.path.write_bytes(b"".join(line.raw() + b"\n" for line in lines[: len(lines)]))
    shutil.rmtree(desk.site.root / "archive/checkpoints", ignore_errors=True)
    session = desk.site.session
    files = {"form.pdf": pdf, "signature.json": fsio.canonical_json(said)} if said else {"form.pdf": pdf}
    files["trust/anchors.pem"] = pem.pem_of(session.trust.anchors)
    sealing.seal_maintenance(session, record.name, files, session.signer("pelaksana", None), "anew")
    return desk.broken()


SAID: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "nothing": (lambda said: said.clear(), "signature-unreadable"),
    "level": (lambda said: said.update(level="B-LT"), "is no PAdES B-LT"),
    "person": (lambda said: said.update(person="kadis"), "is kabid's, not kadis's"),
    "certificate": (lambda said: said.update(certificate="sha256:" + "0" * 64), "another than is said"),
    "subject": (lambda said: said.update(subject="Kepala Dinas"), "called otherwise"),
    "record": (lambda said: said.update(tagmanifest="sha256:" + "0" * 64), "another record than the ledger has"),
    "time": (lambda said: said.update(at="2026-11-01T00:00:00Z"), "was received at"),
    "form": (lambda said: said.update(of="RST-2026-0077-C"), "signature-place"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_of_a_signature_is_checked(name: str, desk: Desk) -> None:
    change, expected = SAID[name]
    assert desk.sign(desk.kabid) == 0
    assert any(expected in one for one in resealed(desk, change))


def test_sealed_anew_as_it_was_nothing_is_found(desk: Desk) -> None:
    assert desk.sign(desk.kabid) == 0
    assert resealed(desk, lambda _said: None) == []


def test_a_signature_that_is_gone_is_not_made_again(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.sign(desk.kabid) == 0
    record = desk.signed(1).parents[1]
    record.rename(desk.site.root / "gone")
    capsys.readouterr()
    assert desk.sign(desk.kadis) == 30
    assert "the ledger names this record, but it is gone" in capsys.readouterr().err
    (desk.site.root / "gone").rename(record)
    assert desk.sign(desk.kadis) == 0
    assert desk.broken() == []


def test_killed_before_the_ledgers_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record lies there and the ledger does not know it: the next who signs has it entered, and signs on it."""
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert desk.sign(desk.kabid) != 0
    assert any("record-unlisted" in one for one in desk.broken())
    assert desk.sign(desk.kadis) == 0
    assert f"record {desk.record}T1 was sealed when a command broke off" in capsys.readouterr().err
    assert valid(desk.signed(2), desk.ca.anchor) == ["VALID", "VALID"]
    assert desk.broken() == []
