# SPDX-License-Identifier: Apache-2.0
"""OpenSSH signatures (SSHSIG): made by ssh-keygen, verified in process.

Verification follows OpenSSH's PROTOCOL.sshsig. Making a signature is left to ``ssh-keygen -Y sign``, so that agents,
pass phrases and hardware keys work as their owner expects.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sopctl.errors import ConfigError, UsageError

Namespace = Literal[
    "sop-document",
    "sop-trust",
    "sop-schedule",
    "sop-register",
    "sop-grant",
    "sop-record",
    "sop-checkpoint",
    "sop-witness",
]
MAX_SIGNATURE = 16 * 1024
MIN_RSA_BITS = 3072
_CURVES: dict[bytes, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    b"ecdsa-sha2-nistp256": (ec.SECP256R1(), hashes.SHA256()),
    b"ecdsa-sha2-nistp384": (ec.SECP384R1(), hashes.SHA384()),
    b"ecdsa-sha2-nistp521": (ec.SECP521R1(), hashes.SHA512()),
}


class BadSignature(Exception):
    """The signature is not valid; the text says which rule it breaks."""


@dataclass(frozen=True)
class Signature:
    """A parsed SSHSIG."""

    key_blob: bytes
    namespace: str
    hash_name: str
    blob: bytes

    @property
    def key(self) -> str:
        """The signer's public key as ``type base64``."""
        return public_line(self.key_blob)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > len(self.data):
            raise BadSignature("the signature is cut short")
        piece = self.data[self.at : self.at + size]
        self.at += size
        return piece

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def mpint(self) -> int:
        return int.from_bytes(self.string(), "big", signed=True)

    def end(self) -> None:
        if self.at != len(self.data):
            raise BadSignature("the signature has bytes behind its end")


def public_line(blob: bytes) -> str:
    """``type base64`` of a public key blob."""
    return f"{_Reader(blob).string().decode('ascii', 'replace')} {base64.b64encode(blob).decode()}"


def key_blob(line: str, where: str) -> bytes:
    """Blob of a public key line (``type base64 [comment]``); ConfigError when it is not one we accept."""
    parts = line.split()
    try:
        blob = base64.b64decode(parts[1], validate=True)
        kind = _Reader(blob).string()
        if parts[0].encode() != kind:
            raise BadSignature(f"says {parts[0]} but is {kind.decode('ascii', 'replace')}")
        _check_key(blob)
    except (IndexError, binascii.Error, BadSignature, ValueError) as error:
        raise ConfigError(
            f"not an acceptable public key ({error})",
            where=where,
            hint="Use an OpenSSH Ed25519, sk-Ed25519, ECDSA or RSA (>= 3072 bits) public key line.",
        ) from None
    return blob


def fingerprint(line: str) -> str:
    """``SHA256:…`` as ssh-keygen prints it."""
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def parse(armored: bytes) -> Signature:
    """Parse an armored signature; BadSignature says what is wrong."""
    if len(armored) > MAX_SIGNATURE:
        raise BadSignature("the signature file is too large")
    lines = armored.decode("ascii", "replace").rstrip("\n").split("\n")
    if len(lines) < 3 or lines[0] != "-----BEGIN SSH SIGNATURE-----" or lines[-1] != "-----END SSH SIGNATURE-----":
        raise BadSignature("not an SSH signature")
    text = "".join(lines[1:-1])
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadSignature("the signature is not base64") from None
    if base64.b64encode(raw).decode() != text:  # spare bits set: OpenSSH refuses them too
        raise BadSignature("the signature is not base64")
    reader = _Reader(raw)
    if reader.take(6) != b"SSHSIG" or int.from_bytes(reader.take(4), "big") != 1:
        raise BadSignature("not an SSHSIG of version 1")
    blob, namespace, reserved, hash_name, signature = (reader.string() for _ in range(5))
    reader.end()
    if reserved:
        raise BadSignature("the signature uses its reserved field, which nothing signs")
    return Signature(blob, namespace.decode("ascii", "replace"), hash_name.decode("ascii", "replace"), signature)


def _packed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@lru_cache(maxsize=256)  # the documents of a case lie in each of its records
def verify(data: bytes, armored: bytes, namespace: Namespace) -> str:
    """Verify ``armored`` over ``data`` and return the signer's key as ``type base64``.

    Raises BadSignature. Whose key it is, and whether it held then, is the trust's business.
    """
    signature = parse(armored)
    if signature.namespace != namespace:
        raise BadSignature(f"signed for namespace {signature.namespace!r}, not {namespace!r}")
    if signature.hash_name not in {"sha256", "sha512"}:
        raise BadSignature(f"hash {signature.hash_name!r} is not allowed")
    digest = hashlib.new(signature.hash_name, data).digest()
    message = b"SSHSIG" + b"".join(
        _packed(part) for part in (namespace.encode(), b"", signature.hash_name.encode(), digest)
    )
    try:
        _verify_blob(signature, message)
    except (InvalidSignature, ValueError):
        raise BadSignature("the signature does not match the bytes") from None
    return signature.key


def _check_key(blob: bytes) -> None:
    """BadSignature unless this is a key we accept in its one spelling: a second one would be a second person's key."""
    reader = _Reader(blob)
    kind = reader.string()
    if kind == b"ssh-rsa":
        exponent, modulus = reader.mpint(), reader.mpint()
        if modulus.bit_length() < MIN_RSA_BITS:
            raise BadSignature(f"RSA key shorter than {MIN_RSA_BITS} bits")
        sound = exponent > 2 and modulus > 0
        spelled = [kind, _mpint(exponent), _mpint(modulus)]
    elif kind in {b"ssh-ed25519", b"sk-ssh-ed25519@openssh.com"}:
        point = reader.string()
        sound = len(point) == 32
        spelled = [kind, point, *([reader.string()] if kind.startswith(b"sk-") else [])]
    elif kind in _CURVES:
        _curve, point = reader.string(), reader.string()
        spelled = [kind, kind.removeprefix(b"ecdsa-sha2-"), point]
        sound = point[:1] == b"\4" and len(point) == 1 + 2 * ((_CURVES[kind][0].key_size + 7) // 8)
    else:
        raise BadSignature(f"key type {kind.decode('ascii', 'replace')!r} is not allowed")
    if not sound or blob != b"".join(map(_packed, spelled)):
        raise BadSignature(f"not a whole and plain {kind.decode('ascii')} key")


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)


def _verify_blob(signature: Signature, message: bytes) -> None:
    _check_key(signature.key_blob)
    key, body = _Reader(signature.key_blob), _Reader(signature.blob)
    kind, sig_kind = key.string(), body.string()
    raw = body.string()
    if kind == b"ssh-ed25519" and sig_kind == kind:
        Ed25519PublicKey.from_public_bytes(key.string()).verify(raw, message)
    elif kind == b"sk-ssh-ed25519@openssh.com" and sig_kind == kind:
        point, application = key.string(), key.string()
        flags, counter = body.take(1), body.take(4)
        if not flags[0] & 1:
            raise BadSignature("the security key was not touched")
        signed = hashlib.sha256(application).digest() + flags + counter + hashlib.sha256(message).digest()
        Ed25519PublicKey.from_public_bytes(point).verify(raw, signed)
    elif kind in _CURVES and sig_kind == kind:
        curve, algorithm = _CURVES[kind]
        key.string()
        numbers = _Reader(raw)
        r, s = numbers.mpint(), numbers.mpint()
        public = ec.EllipticCurvePublicKey.from_encoded_point(curve, key.string())
        public.verify(encode_dss_signature(r, s), message, ec.ECDSA(algorithm))
    elif kind == b"ssh-rsa" and sig_kind in {b"rsa-sha2-256", b"rsa-sha2-512"}:
        exponent, modulus = key.mpint(), key.mpint()
        chosen: hashes.HashAlgorithm = hashes.SHA512() if sig_kind.endswith(b"512") else hashes.SHA256()
        rsa.RSAPublicNumbers(exponent, modulus).public_key().verify(raw, message, padding.PKCS1v15(), chosen)
    else:
        raise BadSignature("key and signature are of different or unknown kinds")
    body.end()


def sign(data: bytes, namespace: Namespace, key: Path, *, apart: bool = False) -> bytes:
    """Sign ``data`` with ``ssh-keygen -Y sign``; ``key`` is a private key, or a public key whose other half an agent
    or a security key holds. Pass phrases are asked on the terminal. UsageError when it cannot.

    ``apart`` from the terminal, for a key without a pass phrase: Ctrl-C goes to every program of the terminal, and a
    grant must be signed while the service is stopped and the interrupt waits.
    """
    # LC_ALL fixed: messages are matched by nobody, but stay readable in any locale
    env = {
        k: v for k, v in os.environ.items() if k in {"HOME", "PATH", "SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY", "TERM"}
    }
    with tempfile.TemporaryDirectory(prefix="sop-sign-") as folder:
        message = Path(folder, "message")
        message.write_bytes(data)
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key), str(message)]
        try:
            done = subprocess.run(
                command,
                env={**env, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL if apart else None,
                stderr=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                check=False,
                start_new_session=apart,
            )
        except FileNotFoundError:
            raise UsageError("ssh-keygen is not installed", hint="Install openssh-client.") from None
        produced = Path(folder, "message.sig")
        if done.returncode or not produced.exists():
            reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason given"]
            raise UsageError(
                f"cannot sign ({reason[0]})",
                where=str(key),
                hint="Give your own private key with --key or load it into ssh-agent.",
            )
        return produced.read_bytes()
