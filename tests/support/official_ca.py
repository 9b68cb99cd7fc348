# SPDX-License-Identifier: Apache-2.0
"""A CA for officials, as a country's has it: a root, an issuing CA below it, OCSP and CRLs over HTTP, PKCS#12 files for people;
and what their signing tools make of a PDF.

    with serving(OfficialCa(folder)) as ca:
        kabid = ca.issue("Kepala Bidang Aptika")
        signed = sign(paper, kabid)
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign import PdfSignatureMetadata, SimpleSigner, sign_pdf
from pyhanko.sign.fields import SigFieldSpec, SigSeedSubFilter

PASSPHRASE = b"CANARY-sandi-52d1"
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Holder:
    """Whoever got a certificate: ``p12`` holds it with its key and chain, ``pem`` the certificate alone."""

    certificate: x509.Certificate
    p12: Path
    pem: Path


@dataclass
class OfficialCa:
    """``silent``: the server answers nobody. ``revoked``: serial numbers. ``hours``: how long an answer is good."""

    folder: Path
    url: str = "http://127.0.0.1:9"
    silent: bool = False
    revoked: set[int] = field(default_factory=set)
    hours: float = 24
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.root_key, self.key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def found(self) -> None:
        """Make root and issuing CA, whose certificates name where the server listens."""
        self.root = self._certificate("Akar Uji", self.root_key, "Akar Uji", self.root_key, ca=True)
        self.issuing = self._certificate("CA Pejabat Uji", self.key, "Akar Uji", self.root_key, ca=True)
        self.anchor.write_bytes(_pem(self.root))

    @property
    def anchor(self) -> Path:
        """The root's certificate."""
        return self.folder / "akar.pem"

    @property
    def issuing_pem(self) -> bytes:
        """The certificate of the CA that issues, which lies between."""
        return _pem(self.issuing)

    def issue(self, name: str, *, file: str = "", days: float = 365, signing: bool = True, urls: bool = True) -> Holder:
        """A certificate for ``name``, issued by the CA below the root; ``urls``: whether it says where the CA can be asked."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._certificate(name, key, "CA Pejabat Uji", self.key, days=days, signing=signing, urls=urls)
        return self._holder(made, key, file or name.replace(" ", "-").lower(), [self.issuing])

    def self_signed(self, name: str) -> Holder:
        """What anybody can make: a certificate of that name by its own key."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self._holder(self._certificate(name, key, name, key), key, "sendiri", [])

    def _holder(
        self, made: x509.Certificate, key: ec.EllipticCurvePrivateKey, file: str, chain: list[x509.Certificate]
    ) -> Holder:
        p12, pem = self.folder / f"{file}.p12", self.folder / f"{file}.pem"
        encryption = serialization.BestAvailableEncryption(PASSPHRASE)
        p12.write_bytes(serialization.pkcs12.serialize_key_and_certificates(b"x", key, made, chain, encryption))
        pem.write_bytes(_pem(made))
        return Holder(made, p12, pem)

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        issuer_key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        days: float = 365,
        signing: bool = True,
        urls: bool = True,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        usage = dict.fromkeys(
            [
                "digital_signature",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ],
            False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(content_commitment=signing and not ca, key_cert_sign=ca, crl_sign=ca, **usage),
                critical=True,
            )
        )
        if urls and name != issuer:
            which = "akar" if ca else "pejabat"
            places = [
                x509.DistributionPoint([x509.UniformResourceIdentifier(f"{self.url}/{which}.crl")], None, None, None)
            ]
            builder = builder.add_extension(x509.CRLDistributionPoints(places), critical=False)
            if not ca:
                where = x509.UniformResourceIdentifier(f"{self.url}/ocsp")
                access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
                builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    def crl(self, which: str) -> bytes:
        """The list of the root (``akar``) or of the issuing CA (``pejabat``)."""
        name, key = ("Akar Uji", self.root_key) if which == "akar" else ("CA Pejabat Uji", self.key)
        now = datetime.now(UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(name))
            .last_update(now - HOUR)
            .next_update(now + self.hours * HOUR)
            .add_extension(x509.CRLNumber(1), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        )
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - HOUR).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def answer(self, question: bytes) -> bytes:
        """What OCSP says of the certificate that is asked about."""
        asked = ocsp.load_der_ocsp_request(question)
        bad = asked.serial_number in self.revoked
        now = datetime.now(UTC)
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            issuer_name_hash=asked.issuer_name_hash,
            issuer_key_hash=asked.issuer_key_hash,
            serial_number=asked.serial_number,
            algorithm=asked.hash_algorithm,
            cert_status=ocsp.OCSPCertStatus.REVOKED if bad else ocsp.OCSPCertStatus.GOOD,
            this_update=now - timedelta(seconds=1),
            next_update=now + self.hours * HOUR,
            revocation_time=now - HOUR if bad else None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.issuing)
        for extension in asked.extensions:
            if isinstance(extension.value, x509.OCSPNonce):
                builder = builder.add_extension(extension.value, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "ID"), x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@contextmanager
def serving(ca: OfficialCa) -> Iterator[OfficialCa]:
    """The CA with its OCSP and CRLs on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(ca.crl(self.path.strip("/").removesuffix(".crl")), "application/pkix-crl")

        def do_POST(self) -> None:
            question = self.rfile.read(int(self.headers["Content-Length"]))
            self._say(b"" if ca.silent else ca.answer(question), "application/ocsp-response")

        def _say(self, body: bytes, kind: str) -> None:
            ca.asked.append(self.path)
            self.send_response(503 if ca.silent else 200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(b"" if ca.silent else body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ca.url = f"http://127.0.0.1:{server.server_port}"
    ca.found()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield ca
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sign(pdf: bytes, holder: Holder, field_name: str = "TandaTangan", spec: SigFieldSpec | None = None) -> bytes:
    """What a good signing tool makes of it: a PAdES signature in an incremental update."""
    signer = SimpleSigner.load_pkcs12(str(holder.p12), passphrase=PASSPHRASE)  # type: ignore[no-untyped-call]
    assert signer is not None
    meta = PdfSignatureMetadata(field_name=field_name, subfilter=SigSeedSubFilter.PADES, md_algorithm="sha256")
    out = sign_pdf(IncrementalPdfFileWriter(io.BytesIO(pdf)), meta, signer=signer, new_field_spec=spec)
    return bytes(out.getvalue())


def updated(pdf: bytes, change: Callable[[IncrementalPdfFileWriter], None]) -> bytes:
    """An incremental update."""
    writer = IncrementalPdfFileWriter(io.BytesIO(pdf))
    change(writer)
    out = io.BytesIO()
    writer.write(out)  # type: ignore[no-untyped-call]
    return out.getvalue()


def other_text(pdf: bytes) -> bytes:
    """The page shows DITOLAK in the place of all that it said, and the data inside still approves."""

    def change(writer: IncrementalPdfFileWriter) -> None:
        page = writer.root["/Pages"]["/Kids"][0]
        shown = generic.StreamObject(stream_data=b"BT /F1 40 Tf 100 500 Td (DITOLAK) Tj ET")
        page[generic.NameObject("/Contents")] = writer.add_object(shown)
        writer.update_container(page)

    return updated(pdf, change)
