# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.signing, against ``ssh-keygen -Y verify``: what ours accepts, OpenSSH accepts too, and the other way."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sopctl import signing
from sopctl.errors import ConfigError, UsageError
from sopctl.signing import BadSignature

KINDS = {
    "ed25519": ["-t", "ed25519"],
    "ecdsa-256": ["-t", "ecdsa", "-b", "256"],
    "ecdsa-384": ["-t", "ecdsa", "-b", "384"],
    "ecdsa-521": ["-t", "ecdsa", "-b", "521"],
    "rsa-3072": ["-t", "rsa", "-b", "3072"],
    "rsa-4096": ["-t", "rsa", "-b", "4096"],
}
HASHES = ("sha256", "sha512")
DATA = b'{"act": "decide"}\n'


@dataclass(frozen=True)
class Signed:
    """A key and its signatures over DATA, by hash."""

    public: str
    signatures: dict[str, bytes]


def keygen(folder: Path, *options: str) -> Path:
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "", "-f", str(key), *options], check=True)
    return key


def sign(key: Path, *options: str, data: bytes = DATA) -> bytes:
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "sop-document", *options]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signed]:
    found = {}
    for name, options in KINDS.items():
        key = keygen(tmp_path_factory.mktemp(name), *options)
        public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
        found[name] = Signed(public, {digest: sign(key, "-O", f"hashalg={digest}") for digest in HASHES})
    return found


def openssh_accepts(public: str, armored: bytes, folder: Path, data: bytes = DATA) -> bool:
    """What the other program says of the same bytes."""
    (folder / "allowed").write_text(f"someone {public}\n")
    (folder / "sig").write_bytes(armored)
    command = ["ssh-keygen", "-Y", "verify", "-f", str(folder / "allowed"), "-I", "someone", "-n", "sop-document"]
    done = subprocess.run([*command, "-s", str(folder / "sig")], input=data, capture_output=True, check=False)
    return done.returncode == 0


def we_accept(public: str, armored: bytes, data: bytes = DATA) -> bool:
    try:
        return signing.verify(data, armored, "sop-document") == public
    except BadSignature:
        return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("digest", HASHES)
def test_good_signature(kind: str, digest: str, signed: dict[str, Signed], tmp_path: Path) -> None:
    own = signed[kind]
    assert signing.verify(DATA, own.signatures[digest], "sop-document") == own.public
    assert openssh_accepts(own.public, own.signatures[digest], tmp_path)
    with pytest.raises(BadSignature, match="does not match the bytes"):
        signing.verify(DATA + b" ", own.signatures[digest], "sop-document")


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "rsa-3072"])
def test_every_seventh_byte_altered(kind: str, signed: dict[str, Signed], tmp_path: Path) -> None:
    """Ours and OpenSSH's answer agree on every altered signature, and one altered byte of content is never accepted."""
    own, good = signed[kind], signed[kind].signatures["sha512"]
    body = range(good.index(b"\n") + 1, good.rindex(b"\n-"))
    for at in range(0, len(good), 7):
        altered = bytearray(good)
        altered[at] = ord("B") if altered[at] == ord("A") else ord("A")
        ours = we_accept(own.public, bytes(altered))
        if at in body and good[at : at + 1] not in (b"\n", b"="):
            assert not ours, f"byte {at} of {len(good)}"
        if ours or at % 3 == 0:  # each run of ssh-keygen costs 5 ms
            assert openssh_accepts(own.public, bytes(altered), tmp_path) == ours, f"byte {at} of {len(good)}"


def unpack(armored: bytes) -> bytes:
    return base64.b64decode(b"".join(armored.splitlines()[1:-1]))


def pack(raw: bytes) -> bytes:
    text = base64.encodebytes(raw)
    return b"-----BEGIN SSH SIGNATURE-----\n" + text + b"-----END SSH SIGNATURE-----\n"


def test_other_forms_of_a_good_signature(signed: dict[str, Signed], tmp_path: Path) -> None:
    """Nothing that OpenSSH refuses is accepted, and there is no second spelling of one signature's content."""
    own = signed["ed25519"]
    good, raw = own.signatures["sha512"], unpack(own.signatures["sha512"])
    body = good.splitlines()[1:-1]
    spare = body[-1].rstrip(b"=")
    spelled = {
        "re-wrapped": (pack(raw), True),
        "leading newline": (b"\n" + good, False),
        "trailing text": (good + b"x", False),
        "bytes behind the end": (pack(raw + b"\0"), False),
        "cut short": (pack(raw[:-1]), False),
        "half": (good[: len(good) // 2], False),
        "no end": (good[: good.index(b"-----END")], False),
        "nothing": (b"", False),
        "only armor": (b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n", False),
        "version 2": (pack(raw[:6] + b"\0\0\0\2" + raw[10:]), False),
        "too large": (good[:-30] + b"\n" * signing.MAX_SIGNATURE + good[-30:], False),
        "not text": (b"\xff" * 100, False),
        "reserved field used": (
            pack(raw.replace(_string(b"") + _string(b"sha512"), _string(b"x") + _string(b"sha512"))),
            False,
        ),
        "other padding bits": (
            good.replace(body[-1], spare[:-1] + bytes([spare[-1] + 1]) + body[-1][len(spare) :]),
            False,
        ),
    }
    assert body[-1].endswith(b"="), "the case 'other padding bits' needs padding"
    for name, (armored, expected) in spelled.items():
        assert we_accept(own.public, armored) is expected, name
        if expected:
            assert openssh_accepts(own.public, armored, tmp_path), name


def test_windows_line_ends_as_openssh_says(signed: dict[str, Signed], tmp_path: Path) -> None:
    own = signed["ed25519"]
    armored = own.signatures["sha512"].replace(b"\n", b"\r\n")
    assert not (we_accept(own.public, armored) and not openssh_accepts(own.public, armored, tmp_path))


def test_namespace_is_part_of_what_is_signed(signed: dict[str, Signed]) -> None:
    good = signed["ed25519"].signatures["sha512"]
    with pytest.raises(BadSignature, match="signed for namespace 'sop-document', not 'sop-trust'"):
        signing.verify(DATA, good, "sop-trust")
    renamed = pack(unpack(good).replace(b"\0\0\0\x0csop-document", b"\0\0\0\x09sop-trust"))
    with pytest.raises(BadSignature, match="does not match the bytes"):
        signing.verify(DATA, renamed, "sop-trust")


def test_hash_is_part_of_what_is_signed(signed: dict[str, Signed]) -> None:
    raw = unpack(signed["ed25519"].signatures["sha512"])
    for other, problem in ((b"sha256", "does not match"), (b"sha384", "not allowed"), (b"md5sum", "not allowed")):
        with pytest.raises(BadSignature, match=problem):
            signing.verify(DATA, pack(raw.replace(b"sha512", other)), "sop-document")


def test_short_rsa_is_refused_whatever_it_signs(tmp_path: Path) -> None:
    key = keygen(tmp_path, "-t", "rsa", "-b", "2048")
    with pytest.raises(BadSignature, match="RSA key shorter than 3072 bits"):
        signing.verify(DATA, sign(key), "sop-document")
    with pytest.raises(ConfigError, match="shorter than 3072 bits"):
        signing.key_blob(key.with_suffix(".pub").read_text(), "trust")


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def test_one_key_has_one_spelling(signed: dict[str, Signed]) -> None:
    """A second spelling of a key would put one key under two persons unseen."""
    ed = base64.b64decode(signed["ed25519"].public.split()[1])
    ec = base64.b64decode(signed["ecdsa-256"].public.split()[1])
    rsa = base64.b64decode(signed["rsa-3072"].public.split()[1])
    exponent = _string(b"\x01\x00\x01")
    spellings = {
        "ssh-ed25519": [ed + b"\0", ed + _string(b""), _string(b"ssh-ed25519") + _string(ed[-31:])],
        "ecdsa-sha2-nistp256": [
            ec + b"\0",
            ec.replace(b"\x08nistp256\0", b"\x08nistp384\0"),
            ec[:-69] + _string(bytes([2 + ec[-1] % 2]) + ec[-64:-32]),  # the point, compressed
        ],
        "ssh-rsa": [rsa + b"\0", rsa.replace(exponent, _string(b"\0\x01\x00\x01"))],
    }
    for kind, blobs in spellings.items():
        for at, blob in enumerate(blobs):
            with pytest.raises(ConfigError, match="not an acceptable public key"):
                print(kind, at)  # shown when nothing is raised
                signing.key_blob(f"{kind} {base64.b64encode(blob).decode()}", "trust")


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 !!!", "ssh-dss AAAAB3NzaC1kc3M=", "é é", "x AAAA"])
def test_not_a_public_key(line: str) -> None:
    with pytest.raises(ConfigError, match="not an acceptable public key") as caught:
        signing.key_blob(line, "trust.yml:people.kabid")
    assert "trust.yml:people.kabid" in str(caught.value)


def test_kinds_do_not_mix(signed: dict[str, Signed]) -> None:
    """The key of one kind with the signature of another is refused, not tried."""
    one, other = (unpack(signed[kind].signatures["sha512"]) for kind in ("ed25519", "ecdsa-256"))
    own, wrong = signing.parse(pack(one)), signing.parse(pack(other))
    mixed = one.replace(_string(own.blob), _string(wrong.blob))
    with pytest.raises(BadSignature, match="different or unknown kinds"):
        signing.verify(DATA, pack(mixed), "sop-document")


def test_fingerprint_is_ssh_keygens(signed: dict[str, Signed], tmp_path: Path) -> None:
    for own in signed.values():
        (tmp_path / "key.pub").write_text(own.public + "\n")
        command = ["ssh-keygen", "-l", "-f", str(tmp_path / "key.pub")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1]
        assert signing.fingerprint(own.public) == said


def test_sign_with_a_key_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot sign") as caught:
        signing.sign(DATA, "sop-document", tmp_path / "none")
    assert "\n" not in str(caught.value)


def test_sign_verifies(tmp_path: Path) -> None:
    key = keygen(tmp_path, "-t", "ed25519")
    public = " ".join(key.with_suffix(".pub").read_text().split()[:2])
    assert signing.verify(DATA, signing.sign(DATA, "sop-record", key), "sop-record") == public


# --- whatever comes, nothing but BadSignature comes out --------------------------------------------------------------

MANY = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _never_believed(armored: bytes) -> None:
    with pytest.raises(BadSignature):
        signing.verify(DATA, armored, "sop-document")


@MANY
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    _never_believed(data)
    _never_believed(pack(data))
    _never_believed(pack(b"SSHSIG\0\0\0\1" + data))


_part = st.one_of(st.binary(max_size=80), st.sampled_from([b"\xff" * 33, b"\x80" + b"\0" * 399, b"\1" * 400, b""]))
_kind = st.sampled_from([b"ssh-ed25519", b"sk-ssh-ed25519@openssh.com", b"ssh-rsa", b"ecdsa-sha2-nistp256", b"other"])


@MANY
@given(kind=_kind, key=st.lists(_part, max_size=3), other=_kind, blob=st.lists(_part, max_size=3), tail=_part)
def test_any_well_formed_parts(kind: bytes, key: list[bytes], other: bytes, blob: list[bytes], tail: bytes) -> None:
    public = b"".join(map(_string, [kind, *key]))
    signature = b"".join(map(_string, [other.replace(b"ssh-rsa", b"rsa-sha2-512"), *blob])) + tail
    parts = [public, b"sop-document", b"", b"sha512", signature]
    _never_believed(pack(b"SSHSIG\0\0\0\1" + b"".join(map(_string, parts))))


@MANY
@given(flips=st.lists(st.tuples(st.integers(10, 3000), st.integers(1, 255)), min_size=1, max_size=4), data=st.data())
def test_any_altered_content(flips: list[tuple[int, int]], data: st.DataObject, signed: dict[str, Signed]) -> None:
    own = signed[data.draw(st.sampled_from(sorted(KINDS)))]
    raw = bytearray(unpack(own.signatures["sha256"]))
    before = bytes(raw)
    for at, bits in flips:
        raw[at % len(raw)] ^= bits
    if bytes(raw) != before:
        assert not we_accept(own.public, pack(bytes(raw)))


def test_grant_is_signed_while_the_terminal_s_ctrl_c_waits(tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the terminal's group; the one that signs a grant is not of it."""
    key = tmp_path / "run-key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    program = tmp_path / "bin/ssh-keygen"
    program.parent.mkdir()
    real = shutil.which("ssh-keygen")
    program.write_text(f'#!/bin/sh\nps -o sid= -p $$ >"{tmp_path}/session"\nexec {real} "$@"\n')
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        for apart in (False, True):
            signing.verify(b"x", signing.sign(b"x", "sop-grant", key, apart=apart), "sop-grant")
            assert (int((tmp_path / "session").read_text()) != os.getsid(0)) is apart
