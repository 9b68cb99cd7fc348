# SPDX-License-Identifier: Apache-2.0
"""Time stamps against a real authority: what ``openssl ts -verify`` refuses is refused here too, and asking ends whatever is said."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from sopctl import authorities, clock, tokens
from sopctl.authorities import NoStamp
from sopctl.errors import ConfigError
from sopctl.settings import TimestampAuthority
from sopctl.tokens import BadToken
from tests.support.timestamp_authority import OTHER_POLICY, POLICY, Answer, Authority, Ca, body, serving, trickle

DATA = b"-----BEGIN SSH SIGNATURE-----\nisi\n-----END SSH SIGNATURE-----\n"
#: seconds that a test waits for an authority that says too little
SHORT = 1.0


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    found = Ca(tmp_path_factory.mktemp("ca"))
    found.issue("penanda")
    found.issue("kode", usages=[ExtendedKeyUsageOID.CODE_SIGNING])
    found.issue("dua", usages=[ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING])
    found.issue("longgar", critical=False)
    found.issue("tanpa", usages=[])
    found.issue("lama", days=(-900, -300))
    return found


@pytest.fixture(scope="module")
def good(ca: Ca) -> Authority:
    return Authority(ca, "penanda")


def entry(ca: Ca, url: str = "http://127.0.0.1:9/tsr", **changed: Any) -> TimestampAuthority:
    """As it stands in a loaded sop.yml."""
    made = TimestampAuthority("tsa1", url, ca.pem.read_text(encoding="ascii"))
    return msgspec.structs.replace(made, **changed)


def verify(ca: Ca, answer: bytes, data: bytes = DATA, **changed: Any) -> tokens.Token:
    one = entry(ca, **changed)
    return tokens.verify(answer, data, one, tokens.anchors(one, "tsa1"))


def openssl_verifies(ca: Ca, answer: bytes, data: bytes, at: datetime, tmp_path: Path) -> bool:
    """What an auditor's openssl says, asked at that time."""
    (tmp_path / "answer.tsr").write_bytes(answer)
    (tmp_path / "data").write_bytes(data)
    command = ["openssl", "ts", "-verify", "-in", "answer.tsr", "-data", "data", "-CAfile", str(ca.pem)]
    command += ["-attime", str(int(at.timestamp()))]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0


def days_ago(days: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


Made = Callable[[Authority], bytes]
#: what is made, when it is dated (days ago), why it is refused ("": it holds)
ANSWERS: dict[str, tuple[Made, int, str]] = {
    "openssl's own": (lambda good: good.stamp(DATA), 0, ""),
    "with its chain": (lambda good: good.stamp(DATA, "-chain", str(good.ca.pem)), 0, ""),
    "sha512": (lambda good: good.reply(good.query(DATA, "-sha512")), 0, ""),
    "forged as it should be": (lambda good: good.forge(good.query(DATA), "penanda"), 0, ""),
    "its certificate expired since": (lambda good: good.forge(good.query(DATA), "lama", days_ago(500)), 500, ""),
    "its certificate expired before": (
        lambda good: good.forge(good.query(DATA), "lama", days_ago(100)),
        100,
        "certificate has expired",
    ),
    "its certificate came later": (
        lambda good: good.forge(good.query(DATA), "lama", days_ago(1000)),
        1000,
        "certificate is not yet valid",
    ),
    "signs code": (lambda good: good.forge(good.query(DATA), "kode"), 0, "unsuitable certificate purpose"),
    "signs code too": (lambda good: good.forge(good.query(DATA), "dua"), 0, "unsuitable certificate purpose"),
    "purpose not critical": (lambda good: good.forge(good.query(DATA), "longgar"), 0, "unsuitable certificate"),
    "no purpose": (lambda good: good.forge(good.query(DATA), "tanpa"), 0, "unsuitable certificate purpose"),
    "other bytes": (lambda good: good.stamp(b"lain"), 0, "it is about other bytes"),
    "other CA": (
        lambda good: _stranger(good.ca).stamp(DATA),
        0,
        "unable to get local issuer certificate",
    ),
    "a CA of the same name": (lambda good: _stranger(good.ca, good.ca.name).stamp(DATA), 0, "signature failure"),
    "names no certificate": (lambda good: good.forge(good.query(DATA), "penanda", cades=False), 0, "does not name"),
    "a question": (lambda good: good.query(DATA), 0, "it is no answer of RFC 3161"),
    "refusal": (lambda good: good.reply(good.query(DATA, "-md5")), 0, "the authority refused"),
    "more behind it": (lambda good: good.stamp(DATA) + b"\0", 0, "it is no answer of RFC 3161"),
}


def _stranger(ca: Ca, name: str = "Akar Lain") -> Authority:
    other = Ca(ca.folder / name.replace(" ", "-"), name)
    return Authority(other, other.issue("penanda"))


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_judged_as_openssl_judges_them(name: str, good: Authority, ca: Ca, tmp_path: Path) -> None:
    make, days, why = ANSWERS[name]
    answer = make(good)
    assert openssl_verifies(ca, answer, DATA, days_ago(days), tmp_path) is (not why or name == "more behind it")
    if not why:
        token = verify(ca, answer)
        assert abs((clock.parse(token.at) - days_ago(days)).total_seconds()) < 120
        return
    with pytest.raises(BadToken, match=why):
        verify(ca, answer)


def test_policy(good: Authority, ca: Ca) -> None:
    answer = good.stamp(DATA)
    assert verify(ca, answer, policy=POLICY).policy == POLICY
    with pytest.raises(BadToken, match=f"its policy is {POLICY}, not {OTHER_POLICY}"):
        verify(ca, answer, policy=OTHER_POLICY)


def test_no_altered_byte_changes_what_it_says(good: Authority, ca: Ca) -> None:
    """Some bytes are signed by nobody (the order of optional parts); the ledger's digest covers those."""
    answer, one, random_ = good.stamp(DATA), entry(ca), random.Random(3161)  # noqa: S311  # which bits are spoilt is no secret
    roots, said = tokens.anchors(one, "tsa1"), verify(ca, answer)
    refused = 0
    for _ in range(1500):
        spoilt = bytearray(answer)
        spoilt[random_.randrange(len(spoilt))] ^= 1 << random_.randrange(8)
        try:
            assert tokens.verify(bytes(spoilt), DATA, one, roots) == said
        except BadToken:
            refused += 1
    assert refused > 1400
    for _ in range(200):
        with pytest.raises(BadToken):
            tokens.verify(answer[: random_.randrange(len(answer))], DATA, one, roots)
        with pytest.raises(BadToken):
            tokens.verify(random_.randbytes(random_.randrange(300)), DATA, one, roots)


# --- the certificates ------------------------------------------------------------------------------------------------


def test_a_certificate_that_is_no_cas_is_refused(ca: Ca) -> None:
    text = (ca.folder / "penanda.pem").read_text(encoding="ascii")
    with pytest.raises(ConfigError, match="CN=penanda is no CA's certificate"):
        tokens.anchors(entry(ca, anchors=text), "tsa1")
    with pytest.raises(ConfigError, match="cannot be read as CA certificates"):
        tokens.anchors(entry(ca, anchors="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "tsa1")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"url": "ftp://tsa/"}, "is not an address"),
        ({"url": "http://"}, "is not an address"),
        ({"url": "http://tsa:99999/"}, "is not an address"),
        ({"url": "file:///etc/passwd"}, "is not an address"),
        ({"url": "http://tsa/ x"}, "is not an address"),
        ({"url": "http://orang@tsa/"}, "names a user"),
        ({"policy": "1.3.x"}, "is not an object identifier"),
        ({"anchors": "tidak-ada.pem"}, "no such file"),
        ({"anchors": "kosong.pem"}, "holds no certificate"),
        ({"anchors": "kunci.pem"}, "holds a private key"),
    ],
)
def test_what_sop_yml_may_not_say(changed: dict[str, str], why: str, ca: Ca, tmp_path: Path) -> None:
    (tmp_path / "kosong.pem").write_text("nothing\n", encoding="ascii")
    both = ca.pem.read_bytes() + (ca.folder / "penanda.key").read_bytes()
    (tmp_path / "kunci.pem").write_bytes(both)
    (tmp_path / "tsa1.pem").write_bytes(ca.pem.read_bytes())
    one = TimestampAuthority("tsa1", "https://tsa.example.go.id/tsr", "tsa1.pem")
    assert tokens.resolved([one], tmp_path, "sop.yml")[0].anchors == ca.pem.read_text(encoding="ascii")
    with pytest.raises(ConfigError, match=why):
        tokens.resolved([msgspec.structs.replace(one, **changed)], tmp_path, "sop.yml")
    with pytest.raises(ConfigError, match="stands there twice"):
        tokens.resolved([one, one], tmp_path, "sop.yml")


def test_only_the_certificates_of_the_file_count(ca: Ca, tmp_path: Path) -> None:
    """Words between the certificates change nothing that is signed over."""
    plain = ca.pem.read_text(encoding="ascii")
    (tmp_path / "a.pem").write_text(f"subject=Akar\n{plain}\nakhir\n", encoding="ascii")
    one = TimestampAuthority("tsa1", "https://tsa.example.go.id/tsr", "a.pem")
    assert tokens.resolved([one], tmp_path, "sop.yml")[0].anchors == plain


# --- asking ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(good: Authority) -> Iterator[Authority]:
    with serving(Authority(good.ca, good.signer)) as found:
        yield found


def ask(served: Authority, say: Callable[[bytes], Answer] | None, **changed: Any) -> bytes:
    served.say = say
    one = entry(served.ca, served.url, **changed)
    return authorities.ask(one, DATA, tokens.anchors(one, "tsa1"))


@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_ask(served: Authority, digest: str) -> None:
    answer = ask(served, None, digest=digest)
    assert verify(served.ca, answer).kind == digest


def test_answers_that_are_none(served: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorities, "SECONDS", SHORT)
    other = f"{served.url}/lain"
    earlier = ask(served, None)
    hour = timedelta(hours=1)
    cases: list[tuple[Callable[[bytes], Answer], str]] = [
        (lambda _: body(b"", status=503), "HTTP 503"),
        (lambda _: body(b"", status=404), "HTTP 404"),
        (
            lambda _: (302, {"Location": other, "Content-Length": "0"}, iter(())),
            "HTTP 302 to another address, which is not",
        ),
        (
            lambda _: (307, {"Location": other, "Content-Length": "0"}, iter(())),
            "HTTP 307 to another address, which is not",
        ),
        (lambda _: body(b"<html>Selamat datang</html>", "text/html"), "an answer of type text/html"),
        (lambda _: body(b"0\x82\xff\xff"), "it is no answer of RFC 3161"),
        (lambda _: body(b""), "it is no answer of RFC 3161"),
        (lambda _: body(b"0" * (tokens.MAX_ANSWER + 1)), "an answer of more than 65536 bytes"),
        (lambda _: body(b"0" * 50_000_000), "an answer of more than 65536 bytes"),
        (lambda _: trickle(40, 0.1), "no whole answer within 1 s"),
        (lambda _: body(earlier), "an answer to another question"),
        (lambda _: body(served.stamp(b"lain")), "it is about other bytes"),
        (lambda asked: body(served.reply(asked)[:-3]), "it is no answer of RFC 3161"),
        (lambda asked: body(served.forge(asked, "kode")), "unsuitable certificate purpose"),
        (lambda asked: body(served.forge(asked, "penanda", datetime.now(UTC) - hour)), "its clock says"),
        (lambda asked: body(served.forge(asked, "penanda", datetime.now(UTC) + hour)), "its clock says"),
        (lambda asked: body(_stranger(served.ca).reply(asked)), "unable to get local issuer certificate"),
    ]
    for number, (say, why) in enumerate(cases):
        began = time.monotonic()
        served.asked.clear()
        with pytest.raises(NoStamp) as raised:
            ask(served, say)
        assert why in raised.value.message, (number, raised.value.message)
        assert str(raised.value).startswith("time stamp: tsa1: got none (")
        assert "\n" not in str(raised.value)
        assert len(served.asked) == 1  # nobody was asked elsewhere
        assert time.monotonic() - began < SHORT + 4


def test_nobody_there(ca: Ca) -> None:
    for url in ("http://127.0.0.1:9/tsr", "http://tidak-ada.invalid/tsr"):
        one = entry(ca, url)
        with pytest.raises(NoStamp, match="got none"):
            authorities.ask(one, DATA, tokens.anchors(one, "tsa1"))


def test_what_is_asked_says_nothing_of_the_data(served: Authority) -> None:
    ask(served, None)
    assert DATA[:10] not in served.asked[-1] and len(served.asked[-1]) < 120
