# SPDX-License-Identifier: Apache-2.0
"""Certificates in files: read from PEM or DER, and written as other programs read them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from sopctl import fsio


@dataclass(frozen=True)
class CertificateFacts:
    """What is written down of a certificate. ``digest``: ``sha256:<hex>`` of ``der``; ``kinds``: its key usages."""

    der: bytes
    digest: str
    subject: str
    serial: str
    ca: bool
    kinds: tuple[str, ...]


def certificates(data: bytes) -> list[CertificateFacts]:
    """The certificates in a PEM (or one in a DER) file. ValueError when there is none, or a private key lies with it."""
    from asn1crypto import pem, x509

    if b"PRIVATE KEY" in data:
        raise ValueError("holds a private key; give the certificate alone")
    blocks = [der for _, _, der in pem.unarmor(data, multiple=True)] if pem.detect(data) else [data]
    found = []
    for der in blocks:
        try:
            one = x509.Certificate.load(der, strict=True)
            usage = one.key_usage_value
            kinds = tuple(sorted(usage.native)) if usage is not None else ()
            subject, serial = str(one.subject.human_friendly), f"{one.serial_number:x}"
            found.append(CertificateFacts(der, fsio.sha256_bytes(der), subject, serial, bool(one.ca), kinds))
        except (ValueError, TypeError) as error:
            raise ValueError("is no certificate (PEM or DER)") from error
    return found


def pem_of(ders: Sequence[bytes]) -> bytes:
    """Certificates as ``openssl`` and ``pyhanko`` read them."""
    found = []
    for der in ders:
        text = base64.b64encode(der)
        lines = [text[at : at + 64] for at in range(0, len(text), 64)]
        found += [b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""]
    return b"\n".join(found)
