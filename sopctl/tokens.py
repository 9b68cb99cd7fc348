# SPDX-License-Identifier: Apache-2.0
"""RFC 3161 time stamps: what an authority is asked, and whether its answer is about these bytes, by whom it should be.

An answer is kept as it came (``TimeStampResp``), so that ``openssl ts -verify`` reads it. It is believed at the time that it
names itself, not now: that a certificate has expired since changes nothing of what it said while it was good.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from sopctl import clock, fsio
from sopctl.errors import ConfigError
from sopctl.settings import TimestampAuthority

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse

MAX_ANSWER = 64 * 1024
HINT = "docs/how-to/time-stamps.md"
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s+[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,38})){1,30}")
_WHY = re.compile(r"Verify error: ?([^\"]+)\"|reason: \"([^\"]+)\"")
_KINDS = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


class BadToken(Exception):
    """The answer is no good time stamp of these bytes; the text says which rule it breaks."""


@dataclass(frozen=True)
class Token:
    """What a time stamp says: bytes of this digest were there ``at`` (UTC, fractions cut off). ``kind``: of the digest."""

    at: str
    kind: str
    imprint: bytes
    policy: str


@dataclass(frozen=True)
class Anchors:
    """CA certificates that an authority's tokens must lead to."""

    certificates: Sequence[Certificate]


# --- the configuration -----------------------------------------------------------------------------------------------


def resolved(entries: Sequence[TimestampAuthority], site_root: Path, where: str) -> list[TimestampAuthority]:
    """The entries of sop.yml with their certificates in the place of the file's name. ConfigError when one is not whole.

    The certificates are only looked at as text here: every command would pay for more. :func:`anchors` reads them.
    """
    found: list[TimestampAuthority] = []
    for one in entries:
        place = f"{where}.{one.name}"
        if one.name in {other.name for other in found}:
            raise ConfigError(f"authority {one.name!r} stands there twice", where=where)
        _check_url(one.url, f"{place}.url")
        if one.policy is not None and not _OID.fullmatch(one.policy):
            raise ConfigError(
                f"{one.policy!r} is not an object identifier",
                where=f"{place}.policy",
                hint="Write it as 1.3.6.1.4.1.9.1.",
            )
        path = site_root / one.anchors
        text = fsio.read_strict(path).decode("ascii", "replace")
        if not _PEM.search(text) or "PRIVATE KEY" in text:
            why = "holds a private key" if "PRIVATE KEY" in text else "holds no certificate"
            raise ConfigError(why, where=str(path), hint=f"Put the authority's CA certificates there, as PEM ({HINT}).")
        found.append(msgspec.structs.replace(one, anchors="".join(f"{block}\n" for block in _PEM.findall(text))))
    return found


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine or not url.isprintable() or " " in url or not url.isascii():
        raise ConfigError(f"{url!r} is not an address", where=where, hint="Write it as https://tsa.example.go.id/tsr.")
    if parts.username is not None:
        raise ConfigError("the address names a user; none is logged in there", where=where, hint="Leave it out.")


def anchors(authority: TimestampAuthority, where: str) -> Anchors:
    """The CA certificates that the authority's tokens must lead to. ConfigError when one is none."""
    from cryptography import x509

    try:
        found = x509.load_pem_x509_certificates(authority.anchors.encode("ascii"))
        for one in found:
            constraints = one.extensions.get_extension_for_class(x509.BasicConstraints).value
            if not constraints.ca:
                raise ValueError(f"{one.subject.rfc4514_string()} is no CA's certificate")
    except x509.ExtensionNotFound:
        raise ConfigError(f"{one.subject.rfc4514_string()} is no CA's certificate", where=where, hint=HINT) from None
    except ValueError as error:
        raise ConfigError(f"cannot be read as CA certificates ({error})", where=where, hint=HINT) from None
    return Anchors(found)


def fingerprints(authority: TimestampAuthority, where: str) -> list[str]:
    """SHA-256 of each certificate, as ``openssl x509 -fingerprint -sha256`` prints it without colons."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return [one.fingerprint(SHA256()).hex().upper() for one in anchors(authority, where).certificates]


# --- asking and believing --------------------------------------------------------------------------------------------


def query(data: bytes, authority: TimestampAuthority) -> tuple[bytes, int]:
    """What the authority is asked about ``data`` (DER), and the nonce that its answer must bring back."""
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    kind = HashAlgorithm.SHA512 if authority.digest == "sha512" else HashAlgorithm.SHA256
    made = TimestampRequestBuilder().data(data).hash_algorithm(kind).nonce(nonce=True).cert_request(cert_request=True)
    request = made.build()
    if request.nonce is None:
        raise AssertionError("a nonce was asked for")
    return request.as_bytes(), request.nonce


def read(answer: bytes) -> Token:
    """What the answer says; nothing of it is believed. BadToken when it says nothing."""
    return _token(_decoded(answer))


def verify(
    answer: bytes, data: bytes, authority: TimestampAuthority, roots: Anchors, nonce: int | None = None
) -> Token:
    """The token when it is a good one of ``data``: granted, its imprint right, signed by a certificate for time stamps alone
    that led to ``roots`` at the token's time, of the authority's policy, and with ``nonce`` where one is given. BadToken else.
    """
    from cryptography.x509 import ObjectIdentifier
    from rfc3161_client import VerifierBuilder

    response = _decoded(answer)
    token = _token(response)
    if token.imprint != hashlib.new(token.kind, data).digest():
        raise BadToken("it is about other bytes")
    if authority.policy is not None and token.policy != authority.policy:
        raise BadToken(f"its policy is {token.policy}, not {authority.policy}")
    policy = ObjectIdentifier(authority.policy) if authority.policy else None
    try:
        if nonce is not None and response.tst_info.nonce != nonce:
            raise BadToken("it does not bring our number back: it is an answer to another question")
        verifier = VerifierBuilder(policy_id=policy, roots=list(roots.certificates), nonce=nonce).build()
        verifier.verify_message(response, data)
        _require_bound(answer, response)
    except BadToken:
        raise
    except Exception as error:  # of three libraries: whatever a token makes them raise, it is the token's fault
        raise BadToken(_plain(str(error))) from error
    return token


def _decoded(answer: bytes) -> TimeStampResponse:
    from rfc3161_client import decode_timestamp_response

    try:
        response = decode_timestamp_response(_in_order(answer))
        status = response.status
        said = "; ".join(text for text in response.status_string if text.strip())
    except Exception as error:
        raise BadToken("it is no answer of RFC 3161") from error
    if status != 0:
        raise BadToken(f"the authority refused ({said or f'status {status}'})")
    return response


def _in_order(answer: bytes) -> bytes:
    """The same answer with its certificates in DER's order, which the library asks for and OpenSSL's own authority does not
    keep. No signature is over their order."""
    try:
        _, _, first, end = next(one for one in _signed_data(answer) if one[0] == 0xA0)
        ordered = sorted(answer[start:stop] for _, start, _, stop in _children(answer, first, end))
    except (IndexError, StopIteration):
        return answer  # the library says what it is
    return answer[:first] + b"".join(ordered) + answer[end:]


def _require_bound(answer: bytes, response: TimeStampResponse) -> None:
    """BadToken unless the signature covers the digest of its own certificate (ESSCertID), as RFC 3161 asks and ``openssl ts``
    looks for, and the library does not: another certificate of the same number could be put in its place."""
    from cryptography.x509 import load_der_x509_certificate

    signers = list(response.signed_data.signer_infos)
    found = [
        one
        for one in response.signed_data.certificates
        for read in [load_der_x509_certificate(one)]
        if len(signers) == 1 and (read.issuer, read.serial_number) == (signers[0].issuer, signers[0].serial_number)
    ]
    try:
        _, _, first, end = _signed_data(answer)[-1]  # signerInfos
        _, _, first, end = _children(answer, first, end)[0]
        _, _, first, end = next(one for one in _children(answer, first, end) if one[0] == 0xA0)  # what is signed
    except (IndexError, StopIteration):
        raise BadToken("its signature covers nothing but itself") from None
    kinds = ("sha1", "sha256", "sha384", "sha512")
    if not any(
        hashlib.new(kind, one, usedforsecurity=False).digest() in answer[first:end] for one in found for kind in kinds
    ):
        raise BadToken("its certificate is not with it, or its signature does not name it")


def _signed_data(answer: bytes) -> list[tuple[int, int, int, int]]:
    """The elements of the answer's SignedData. IndexError when it has none."""
    level = _children(answer, 0, len(answer))
    for place in (0, 1, 1, 0):  # TimeStampResp → its token → [0] → SignedData
        _, _, first, end = level[place]
        level = _children(answer, first, end)
    return level


def _children(data: bytes, at: int, end: int) -> list[tuple[int, int, int, int]]:
    """Tag, start, start of the content and end of each element in ``data[at:end]``. IndexError when they do not fit."""
    found = []
    while at < end:
        size, content = data[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size, content = int.from_bytes(data[content : content + width], "big"), content + width
        if not content <= content + size <= end:
            raise IndexError
        found.append((data[at], at, content, content + size))
        at = content + size
    return found


def _token(response: TimeStampResponse) -> Token:
    try:
        info = response.tst_info
        kind = _KINDS.get(info.message_imprint.hash_algorithm.dotted_string)
        at, imprint, policy = info.gen_time, info.message_imprint.message, info.policy.dotted_string
    except Exception as error:
        raise BadToken("it holds no token that can be read") from error
    if kind is None:
        raise BadToken("its digest is not of the SHA-2 family")
    return Token(clock.stamp(at if at.tzinfo else at.replace(tzinfo=UTC)), kind, imprint, policy)


def _plain(text: str) -> str:
    """What a library says, without its own words around it."""
    found = [one or other for one, other in _WHY.findall(text)]
    return found[-1] if found else " ".join(text.split())[:160]
