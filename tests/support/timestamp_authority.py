# SPDX-License-Identifier: Apache-2.0
"""A time stamp authority: certificates of its own CA, ``openssl ts -reply`` behind a small HTTP server, and what a bad one says.

:meth:`Authority.forge` makes what ``openssl ts`` refuses to make: tokens by any certificate, of any time. It signs the
token's own bytes with ``openssl cms``, so that they are whole but for what the test wants wrong.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sopctl import fsio
from tests.support.case_site import CaseSite

POLICY, OTHER_POLICY = "1.3.6.1.4.1.99999.1", "1.3.6.1.4.1.99999.2"
REPLY = "application/timestamp-reply"
CONFIG = f"""
[tsa]
default_tsa = here
[here]
serial = serial
default_policy = {POLICY}
other_policies = {OTHER_POLICY}
signer_digest = sha256
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


@dataclass
class Ca:
    """A certificate authority, and the folder in which its files lie."""

    folder: Path
    name: str = "Akar Uji"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.certificate = self._certificate(
            self.name, self.key, ca=True, days=(-3650, 3650), usages=None, critical=True
        )
        self.pem.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def pem(self) -> Path:
        """Its certificate."""
        return self.folder / "ca.pem"

    def issue(
        self,
        name: str,
        *,
        usages: list[x509.ObjectIdentifier] | None = None,
        critical: bool = True,
        days: tuple[float, float] = (-1, 365),
    ) -> str:
        """A certificate NAME.pem with its key, valid from and until so many days from now; returns ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        wanted = [ExtendedKeyUsageOID.TIME_STAMPING] if usages is None else usages
        made = self._certificate(name, key, ca=False, days=days, usages=wanted, critical=critical)
        (self.folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return name

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool,
        days: tuple[float, float],
        usages: list[x509.ObjectIdentifier] | None,
        critical: bool,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if not ca:
            builder = builder.add_extension(_key_usage(), critical=True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=critical)
        return builder.sign(self.key, hashes.SHA256())


def _key_usage() -> x509.KeyUsage:
    off = ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"]
    return x509.KeyUsage(digital_signature=True, encipher_only=False, decipher_only=False, **dict.fromkeys(off, False))


#: what the server says instead: status, headers, pieces of the body
Answer = tuple[int, dict[str, str], Iterator[bytes]]


@dataclass
class Authority:
    """The authority ``signer`` of ``ca``. ``say`` (question → answer) takes the place of ``openssl ts`` where it is set."""

    ca: Ca
    signer: str
    url: str = ""
    name: str = "tsa1"
    say: Callable[[bytes], Answer] | None = None
    asked: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.ca.folder / "tsa.cnf").write_text(CONFIG, encoding="ascii")
        if not (self.ca.folder / "serial").exists():
            (self.ca.folder / "serial").write_text("01\n", encoding="ascii")

    @property
    def entry(self) -> dict[str, Any]:
        """What sop.yml says of it; its CA lies below the site."""
        return {"name": self.name, "url": self.url, "anchors": f"trust/{self.name}.pem"}

    def reply(self, question: bytes, *more: str) -> bytes:
        """What ``openssl ts -reply`` says."""
        query, out = self.ca.folder / "query.tsq", self.ca.folder / "reply.tsr"
        query.write_bytes(question)
        self._openssl(
            "ts", "-reply", "-config", "tsa.cnf", "-section", "here", "-queryfile", "query.tsq", "-signer",
            f"{self.signer}.pem", "-inkey", f"{self.signer}.key", "-out", "reply.tsr", *more,
        )  # fmt: skip
        return out.read_bytes()

    def stamp(self, data: bytes, *more: str) -> bytes:
        """An answer over ``data``."""
        return self.reply(self.query(data), *more)

    def query(self, data: bytes, *more: str) -> bytes:
        """What ``openssl ts -query`` asks about ``data``."""
        (self.ca.folder / "data").write_bytes(data)
        self._openssl("ts", "-query", "-data", "data", "-sha256", "-cert", "-out", "query.tsq", *more)
        return (self.ca.folder / "query.tsq").read_bytes()

    def forge(self, question: bytes, signer: str, at: datetime | None = None, *, cades: bool = True) -> bytes:
        """An answer to ``question`` by the certificate ``signer`` of the same CA, dated ``at``; honest where neither differs.
        Without ``cades`` the signature does not name its certificate."""
        good = self.ca.issue("honest") if not (self.ca.folder / "honest.pem").exists() else "honest"
        Authority(self.ca, good).reply(question, "-token_out")
        self._openssl(
            "cms", "-verify", "-noverify", "-binary", "-inform", "DER", "-in", "reply.tsr", "-out", "info.der"
        )
        info = self.ca.folder / "info.der"
        if at is not None:
            was = info.read_bytes()
            mark = was.index(b"\x18\x0f") + 2  # GeneralizedTime of 15 characters
            info.write_bytes(was[:mark] + at.strftime("%Y%m%d%H%M%SZ").encode() + was[mark + 15 :])
        self._openssl(
            "cms", "-sign", *(["-cades"] if cades else []), "-binary", "-nodetach", "-econtent_type", "1.2.840.113549.1.9.16.1.4", "-in",
            "info.der", "-signer", f"{signer}.pem", "-inkey", f"{signer}.key", "-md", "sha256", "-outform", "DER",
            "-out", "token.der",
        )  # fmt: skip
        return _sequence(bytes.fromhex("3003020100") + (self.ca.folder / "token.der").read_bytes())

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], cwd=self.ca.folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()


def _sequence(body: bytes) -> bytes:
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return b"\x30" + length + body


def body(data: bytes, kind: str = REPLY, status: int = 200) -> Answer:
    """A whole answer."""
    return status, {"Content-Type": kind, "Content-Length": str(len(data))}, iter([data])


def trickle(pieces: int, seconds: float) -> Answer:
    """A body that never seems to end."""

    def slowly() -> Iterator[bytes]:
        for _ in range(pieces):
            time.sleep(seconds)
            yield b"0"

    return 200, {"Content-Type": REPLY}, slowly()


@contextmanager
def serving(authority: Authority) -> Iterator[Authority]:
    """The authority on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            authority.asked.append(question)
            say = authority.say or (lambda asked: body(authority.reply(asked)))
            status, headers, pieces = say(question)
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
            except OSError:
                pass  # whoever asked has gone

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    authority.url = f"http://127.0.0.1:{server.server_address[1]}/tsr"
    try:
        yield authority
    finally:
        server.shutdown()
        server.server_close()


def name_authorities(site: CaseSite, *authorities: Authority, **changed: Any) -> None:
    """Write them into sop.yml with their certificates, and have the root holder sign the trust over them."""
    import json

    for one in authorities:
        (site.root / f"trust/{one.name}.pem").write_bytes(one.ca.pem.read_bytes())
    path = site.root / "sop.yml"
    text = "".join(
        line for line in path.read_text(encoding="utf-8").splitlines(True) if not line.startswith("timestamps:")
    )
    entries = [{**one.entry, **changed} for one in authorities]
    path.write_text(
        f"{text.rstrip()}\n" + (f"timestamps: {json.dumps(entries)}\n" if entries else ""), encoding="utf-8"
    )
    site.retrust(lambda file: file)


def tokens_of(site: CaseSite) -> list[Path]:
    """The time stamps that lie in its archive."""
    return sorted((site.root / "archive/timestamps").glob("*/*.tsr"))


def digest_of(path: Path) -> str:
    """As the ledger has it."""
    return fsio.sha256_file(path)
