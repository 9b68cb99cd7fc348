# SPDX-License-Identifier: Apache-2.0
"""Officials sign PDFs: what is taken as their act, by a real CA with OCSP and CRLs; and who tries to have something else signed."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pikepdf
import pytest
import yaml
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigFieldSpec

from sopctl import cli, clock, examination, fsio, loading, requesting, signed_pdf, workflow
from sopctl.models import TrustFile
from tests.support.case_site import CaseSite, at_home
from tests.support.official_ca import PASSPHRASE, Holder, OfficialCa, other_text, serving, sign, updated
from tests.support.site_builder import UNIT

NAME = "Kepala Bidang Aptika"


@dataclass
class Desk:
    """A site whose kabid and kadis have certificates; ``case`` waits for the kabid, whose paper (approving) is printed."""

    site: CaseSite
    ca: OfficialCa
    case: str
    paper: bytes
    kabid: Holder
    kadis: Holder

    def attach(self, data: bytes, case: str = "") -> int:
        """What an operator types when the signed file came back."""
        path = self.site.root.parent / "signed.pdf"
        path.write_bytes(data)
        return cli.run(["-C", str(self.site.root), "case", "attach", case or self.case, str(path)])

    @property
    def folder(self) -> Path:
        return self.site.root / "cases" / self.case.split("-")[1] / self.case

    def why_not(self) -> list[str]:
        """Why the case cannot be believed."""
        session = self.site.session
        return examination.examine(session.context(), session.case(self.case))


def run(site: CaseSite, *words: str | Path) -> int:
    return cli.run(["-C", str(site.root), *map(str, words)])


def asked(site: CaseSite) -> requesting.Asked:
    return requesting.Asked(
        operation="restore",
        datasets=["antrean"],
        unit=UNIT,
        letter=site.builder.letter(),
        letter_number="800/13/2026",
        reason="data terhapus",
    )


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfficialCa]:
    with serving(OfficialCa(tmp_path_factory.mktemp("ca"))) as found:
        yield found


@pytest.fixture(scope="module")
def printed(base_site: CaseSite, ca: OfficialCa, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The desk that tests copy: printing takes seconds."""
    with at_home(base_site.builder):
        site = base_site.copy(tmp_path_factory.mktemp("printed") / "site")
        kabid, kadis = ca.issue(NAME), ca.issue("Kepala Dinas")
        assert run(site, "trust", "anchor", ca.anchor) == 0
        for person, holder in (("kabid", kabid), ("kadis", kadis)):
            assert run(site, "trust", "certificate", person, holder.pem) == 0
        assert run(site, "trust", "sign", "--key", base_site.builder.root_key) == 0
        case = requesting.request(site.session, asked(site), "pemohon", None).id
        workflow.act(site.session, case, "dispose", "kadis", None, lambda *_: {"to": "", "note": ""})
        out = site.root.parent / "paper.pdf"
        assert run(site, "case", "print", case, "--approve", "--reason", "sesuai kewenangan", "--to", out) == 0
    return Desk(site, ca, case, out.read_bytes(), kabid, kadis)


@pytest.fixture
def desk(printed: Desk, tmp_path: Path) -> Iterator[Desk]:
    with at_home(printed.site.builder):
        yield Desk(
            printed.site.copy(tmp_path / "site"), printed.ca, printed.case, printed.paper, printed.kabid, printed.kadis
        )
    printed.ca.revoked.clear()
    printed.ca.silent = False


# --- what attackers make ---------------------------------------------------------------------------------------------


def other_data(pdf: bytes) -> bytes:
    """The data inside rejects, and the page says DISETUJUI."""

    def change(writer: IncrementalPdfFileWriter) -> None:
        entry = writer.root["/Names"]["/EmbeddedFiles"]["/Names"][1].get_object()
        held = entry["/EF"]["/F"]
        data = held.data.replace(b'"approve"', b'"reject"')
        new = generic.StreamObject(dict_data={"/Type": generic.NameObject("/EmbeddedFile")}, stream_data=data)
        for name in ("/F", "/UF"):
            entry["/EF"][generic.NameObject(name)] = writer.add_object(new)
        writer.update_container(entry["/EF"])

    return updated(pdf, change)


def other_document(pdf: bytes) -> bytes:
    """A whole document of its own behind our bytes, to which nothing in it refers."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
    ]
    out, places = pdf, []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    at = len(out)
    trailer = b"trailer << /Size 4 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % at
    return out + b"xref\n0 4\n0000000000 65535 f \n" + table + trailer


def rewritten(pdf: bytes) -> bytes:
    """What many tools make of a PDF that they open and save."""
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as opened:
        opened.save(out)
    return out.getvalue()


def flipped(pdf: bytes) -> bytes:
    """One byte of the signed revision, in the form field's name of the signer's software."""
    at = pdf.rindex(b"/ByteRange")
    return pdf[:at] + pdf[at:].replace(b"/Filter", b"/Fjlter", 1)


def overlaid(desk: Desk) -> bytes:
    return sign(desk.paper, desk.kabid, "Lain", SigFieldSpec("Lain", box=(0, 0, 595, 842)))


def twice(desk: Desk) -> bytes:
    return sign(sign(desk.paper, desk.kabid), desk.kadis, "Lain", SigFieldSpec("Lain"))


ATTACKS: dict[str, tuple[Callable[[Desk], bytes], str]] = {
    "not signed": (lambda desk: desk.paper, "the paper is not signed"),
    "text altered before signing": (
        lambda desk: sign(other_text(desk.paper), desk.kabid),
        "altered between printing and",
    ),
    "text altered after signing": (
        lambda desk: other_text(sign(desk.paper, desk.kabid)),
        "was altered after it was signed",
    ),
    "a byte altered after signing": (lambda desk: flipped(sign(desk.paper, desk.kabid)), "altered after it was signed"),
    "data altered": (lambda desk: sign(other_data(desk.paper), desk.kabid), "the data inside it is not the document"),
    "another document behind it": (lambda desk: other_document(desk.paper), "but shows something else"),
    "a field over the page": (overlaid, "a visible field (Lain)"),
    "rewritten": (lambda desk: sign(rewritten(desk.paper), desk.kabid), "is not the paper that sopctl printed"),
    "two signatures": (twice, "bears 2 signatures"),
    "somebody of that name": (
        lambda desk: sign(desk.paper, desk.ca.issue(NAME, file="senama")),
        "nobody's in the trust",
    ),
    "a name of one's own": (lambda desk: sign(desk.paper, desk.ca.self_signed(NAME)), "signed by itself, by no CA"),
    "not their turn": (lambda desk: sign(desk.paper, desk.kadis), "is kadis's, not kabid's"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_refused_with_its_own_reason(name: str, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    make, reason = ATTACKS[name]
    data, before = make(desk), desk.site.ledger.head()
    capsys.readouterr()
    assert desk.attach(data) == 10
    said = capsys.readouterr().err
    assert reason in said
    assert "Traceback" not in said
    assert desk.site.ledger.head() == before
    assert not list(desk.folder.glob("03-*"))


def test_taken_as_the_act_and_judged_later_without_the_ca(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signed bytes stay as they are, with the CA's answers behind them; when those have run out, and nobody answers any more,
    the case still holds, by what was known when it was received."""
    data = sign(desk.paper, desk.kabid)
    assert desk.attach(data) == 0
    kept = (desk.folder / "03-decide.pdf").read_bytes()
    assert kept.startswith(data)
    assert b"/DSS" in kept[len(data) :]
    assert not (desk.folder / "03-decide.json.sig").exists()
    line = desk.site.ledger.find("document", f"{desk.case}/03")[0]
    assert line.digests["signature"] == fsio.sha256_bytes(kept)
    desk.ca.silent = True
    desk.ca.revoked.add(desk.kabid.certificate.serial_number)
    later = clock.plus(clock.now(), days=20)
    monkeypatch.setattr(clock, "now", lambda: later)
    signed_pdf.judge.cache_clear()
    asked = len(desk.ca.asked)
    assert desk.why_not() == []
    assert len(desk.ca.asked) == asked


@pytest.mark.parametrize("kind", ["silent", "says nowhere whom to ask", "revoked"])
def test_revocation_is_asked_and_no_answer_is_no(kind: str, desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    holder, reason = desk.kabid, "could not be found out"
    if kind == "revoked":
        desk.ca.revoked.add(holder.certificate.serial_number)
        reason = "the certificate was revoked"
    elif kind == "silent":
        desk.ca.silent = True
    else:
        holder = desk.ca.issue(NAME, file="tanpa-alamat", urls=False)
        pinned(desk, "kabid", holder)
    capsys.readouterr()
    assert desk.attach(sign(desk.paper, holder)) == 10
    assert reason in capsys.readouterr().err
    assert not list(desk.folder.glob("03-*"))


def pinned(desk: Desk, person: str, holder: Holder) -> None:
    assert run(desk.site, "trust", "certificate", person, holder.pem) == 0
    assert run(desk.site, "trust", "sign", "--key", desk.site.builder.root_key) == 0


def test_a_soft_policy_takes_no_answer_and_never_a_revoked_one(desk: Desk) -> None:
    def soft(file: TrustFile) -> TrustFile:
        return msgspec.structs.replace(file, papers=msgspec.structs.replace(file.papers, revocation="soft"))

    desk.site.retrust(soft)
    data = sign(desk.paper, desk.kabid)
    desk.ca.revoked.add(desk.kabid.certificate.serial_number)
    assert desk.attach(data) == 10
    desk.ca.silent = True
    assert desk.attach(data) == 0
    assert desk.why_not() == []


def test_a_paper_of_another_case_or_time(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sign(desk.paper, desk.kabid)
    assert desk.attach(data, desk.site.case) == 10
    assert f"is a paper of case {desk.case}" in capsys.readouterr().err
    late = clock.plus(clock.now(), days=8)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", lambda: late)
        assert desk.attach(data) == 10
    assert "a paper is good for 7 days" in capsys.readouterr().err
    scan = desk.site.root.parent / "lampiran.pdf"
    scan.write_bytes(b"%PDF-1.4 a scan of anything")
    assert run(desk.site, "case", "attach", desk.case, scan, "--as", "kadis") == 0
    assert (desk.folder / "attachments/lampiran.pdf").exists()
    capsys.readouterr()
    assert desk.attach(data) == 10
    assert "was printed as document 03, and document 04 is next" in capsys.readouterr().err


def test_revoked_in_the_trust(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    mark = desk.site.session.trust.person("kabid").certificates[0].sha256
    assert run(desk.site, "trust", "revoke", "kabid", "--key", mark) == 0
    assert run(desk.site, "trust", "sign", "--key", desk.site.builder.root_key) == 0
    capsys.readouterr()
    assert desk.attach(sign(desk.paper, desk.kabid)) == 10
    assert "was revoked in the trust" in capsys.readouterr().err


@pytest.mark.parametrize("spoilt", ["signature", "exchanged", "two", "line"])
def test_what_lies_in_the_case_is_what_was_received(spoilt: str, desk: Desk) -> None:
    data = sign(desk.paper, desk.kabid)
    assert desk.attach(data) == 0
    path = desk.folder / "03-decide.pdf"
    if spoilt == "signature":
        path.write_bytes(flipped(path.read_bytes()))
    elif spoilt == "exchanged":
        path.write_bytes(sign(desk.paper, desk.kabid))
    elif spoilt == "two":
        (desk.folder / "03-decide.json.sig").write_bytes((desk.folder / "02-dispose.json.sig").read_bytes())
    else:  # the signed PDF under the name of an SSH signature
        path.rename(desk.folder / "03-decide.json.sig")
    assert run(desk.site, "case", "execute", desk.case, "--as", "pelaksana") == 10


def test_the_tool_that_officials_have(desk: Desk, tmp_path: Path) -> None:
    """pyHanko's own command line, with a PKCS#12 file."""
    paper, signed, secret = tmp_path / "paper.pdf", tmp_path / "hasil.pdf", tmp_path / "secret"
    paper.write_bytes(desk.paper)
    secret.write_bytes(PASSPHRASE)
    words = ["sign", "addsig", "--field", "TandaTangan", "--use-pades", "pkcs12", "--passfile", secret]
    program = Path(sys.executable).with_name("pyhanko")
    command = [program, *words, paper, signed, desk.kabid.p12]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=tmp_path, timeout=60)
    assert desk.attach(signed.read_bytes()) == 0
    assert desk.why_not() == []


def test_nothing_is_printed_that_could_not_be_done(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    out, before = desk.site.root.parent / "no.pdf", desk.site.ledger.head()
    for words, code, said in (
        (["--approve", "--reason", ""], 2, "a decision needs a reason"),
        (["--due"], 2, "Give --approve or --reject"),
        (["--reject", "--reason", "x", "--for", "kadis"], 10, "is for kabid"),
        (["--approve", "--reason", "x", "--for", "pelaksana"], 10, "has no certificate in the trust"),
        (["--reason", "x"], 2, "nothing is said that could be signed"),
    ):
        capsys.readouterr()
        assert run(desk.site, "case", "print", desk.case, "--to", out, *words) == code
        assert said in capsys.readouterr().err
    assert not out.exists()
    assert desk.site.ledger.head() == before


def test_acts_in_which_nothing_is_decided(desk: Desk) -> None:
    """The kadis disposes on paper; what a killed command left of another signature does not stand in the way."""
    site, out = desk.site, desk.site.root.parent / "disposisi.pdf"
    case = requesting.request(site.session, asked(site), "pemohon", None)
    assert run(site, "case", "print", case.id, "--due", "--reason", "tindak lanjuti", "--to", out) == 0
    (case.folder / "02-dispose.json.sig").write_bytes(b"half")
    assert desk.attach(sign(out.read_bytes(), desk.kadis), case.id) == 0
    session = site.session
    now = session.case(case.id)
    assert now.filed[-1].document.body == {"to": "", "note": "tindak lanjuti"}
    assert now.state.due is not None
    assert now.state.due.act == "decide"
    assert examination.examine(session.context(), now) == []
    assert not (case.folder / "02-dispose.json.sig").exists()


def test_certificates_in_the_trust(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each stands under one person, who is no CA and no service; a key never lies with it; none vanishes."""
    both = tmp_path / "both.pem"
    both.write_bytes(desk.kabid.pem.read_bytes() + b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for words, said in (
        (("certificate", "kadis", desk.kabid.pem), "the certificate is kabid's"),
        (("certificate", "kadis", desk.ca.anchor), "is a CA"),
        (("certificate", "kadis", desk.ca.issue("Server", signing=False).pem), "is not for signing"),
        (("certificate", "kadis", both), "holds a private key"),
        (("certificate", "kadis", wrong), "is no certificate"),
        (("certificate", "kadis", tmp_path / "none.pem"), "does not exist"),
        (("anchor", desk.kabid.pem), "is no CA's certificate"),
        (("anchor", desk.ca.anchor), "stand in the trust already"),
        (("certificate", "robot", desk.ca.issue("Robot").pem), "a service identity signs no papers"),
    ):
        capsys.readouterr()
        assert run(desk.site, "trust", *words) == 2
        assert said in capsys.readouterr().err
    path = desk.site.root / "trust/trust.yml"
    file = loading.from_yaml(TrustFile, path.read_bytes(), path)
    people = {person.id: person for person in file.people}
    for change, said in (
        ({"kabid": []}, "is gone"),
        ({"kadis": people["kadis"].certificates + people["kabid"].certificates}, "one certificate under two persons"),
    ):
        listed = [
            msgspec.structs.replace(one, certificates=change.get(one.id, one.certificates)) for one in file.people
        ]
        path.write_bytes(yaml.safe_dump(msgspec.to_builtins(msgspec.structs.replace(file, people=listed))).encode())
        capsys.readouterr()
        assert run(desk.site, "trust", "sign", "--key", desk.site.builder.root_key) == 2
        assert said in capsys.readouterr().err
