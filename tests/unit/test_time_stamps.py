# SPDX-License-Identifier: Apache-2.0
"""Time stamps of records and checkpoints, from a real authority (openssl) over real HTTP; and who tampers with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sopctl import checkup, cli, clock, fsio, register, stamping, stamps, witnessing
from sopctl.ledger import Ledger
from tests.support.case_site import CaseSite, at_home, build, refused, seal_backup
from tests.support.timestamp_authority import Answer, Authority, Ca, body, name_authorities, serving, tokens_of, trickle


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> CaseSite:
    return build(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    ca = Ca(tmp_path_factory.mktemp("ca"))
    with serving(Authority(ca, ca.issue("penanda"))) as found:
        yield found


@pytest.fixture
def authority(served: Authority) -> Authority:
    served.say = None
    served.asked.clear()
    return served


@pytest.fixture
def site(built: CaseSite, tmp_path: Path) -> Iterator[CaseSite]:
    with at_home(built.builder):
        yield built.copy(tmp_path / "site")


def run(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), *words])


def withdraw(site: CaseSite) -> int:
    """Close the case, which seals a record and makes a checkpoint."""
    return run(site, "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon")


def verify(site: CaseSite, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = cli.run(["-C", str(site.root), "audit", "verify", "--json", *more])
    said = json.loads(capsys.readouterr().out)
    # the backups of the base site stand in records only, and no witness is named
    known = {"record-without-case", "witness-none"}
    said["findings"] = [finding for finding in said["findings"] if finding["rule"] not in known]
    return code, said


def test_record_and_checkpoint_are_stamped(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    name_authorities(site, authority)
    assert withdraw(site) == 0
    record = f"{site.case}-C"
    size = len(site.ledger.lines())
    assert [str(path.relative_to(site.root / "archive/timestamps")) for path in tokens_of(site)] == [
        f"checkpoints/{size:08d}.tsa1.tsr",
        f"records/{record}.tsa1.tsr",
    ]
    code, said = verify(site, capsys)
    assert (code, said["findings"], said["stamped"]) == (0, [], 2)
    assert run(site, "record", "verify", record) == 0


def test_the_auditor_s_bundle_holds_them(site: CaseSite, authority: Authority, tmp_path: Path) -> None:
    name_authorities(site, authority)
    assert withdraw(site) == 0
    bundle = tmp_path / "bundle"
    assert run(site, "audit", "export", str(bundle), "--period", "2026") in {
        0,
        30,
    }  # the base site's backups have no case
    there = {str(path.relative_to(site.root / "archive")) for path in (site.root / "archive/timestamps").rglob("*.*")}
    assert len(there) == 3
    assert {str(path.relative_to(bundle / "data/archive")) for path in bundle.rglob("timestamps/*/*")} == there


def seal(site: CaseSite, record: str) -> Path:
    """A record more, and a checkpoint over it, as after a run."""
    session = site.session
    bag = seal_backup(session, "berkas", record)
    witnessing.after_sealing(session, session.signer("pelaksana", None))
    return bag


def rules(said: dict[str, Any], severity: str = "broken") -> dict[str, str]:
    """Rule → what it means, of all that was found."""
    found: dict[str, str] = {}
    for one in said["findings"]:
        if one["severity"] == severity:
            found[one["rule"]] = f"{found.get(one['rule'], '')}{one['meaning']}\n"
    return found


def token(site: CaseSite, name: str, authority: str = "tsa1") -> Path:
    """The time stamp of a record, or of a checkpoint by its number of lines."""
    kind = "checkpoints" if name.isdecimal() else "records"
    return site.root / f"archive/timestamps/{kind}/{name}.{authority}.tsr"


def lines_of(site: CaseSite) -> list[str]:
    """What the ledger has of time stamps."""
    return [line.ref for line in site.ledger.lines() if line.kind == "timestamp"]


# --- asking ----------------------------------------------------------------------------------------------------------


def test_checkpoint_covers_the_records_line_and_the_earlier_checkpoints(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    name_authorities(site, authority)
    seal(site, "BKP-2020-0003-01")
    first = f"{len(site.ledger.lines()):08d}"
    assert lines_of(site) == ["record/BKP-2020-0003-01@tsa1"]
    seal(site, "BKP-2020-0004-01")
    assert lines_of(site)[1:] == ["record/BKP-2020-0004-01@tsa1", f"checkpoint/{first}@tsa1"]
    code, said = verify(site, capsys)
    assert (code, said["findings"], said["stamped"], said["covered"]) == (0, [], 4, said["lines"])
    line = next(line for line in site.ledger.lines() if line.kind == "timestamp")
    assert line.digests["token"] == fsio.sha256_file(token(site, "BKP-2020-0003-01"))
    assert line.digests["authorities"] == site.session.trust.file.settings["timestamps"]
    assert len(authority.asked) == 4  # nothing twice


def test_a_silent_authority_fails_nothing_and_is_told_once(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    name_authorities(site, authority)
    authority.say = lambda _: body(b"", status=503)
    capsys.readouterr()
    assert withdraw(site) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "time stamp" in line]
    assert told == ["time stamp: tsa1: got none (HTTP 503). Nothing is lost: the next command asks again"]
    assert tokens_of(site) == []
    code, said = verify(site, capsys)
    assert code == 0
    assert {one["rule"] for one in said["findings"]} == {"timestamp-missing"}
    assert len(said["findings"]) == 2
    states = {(one.what, one.state) for one in checkup.examine(str(site.root))}
    assert ("time stamps", "warn") in states
    # within a minute it is left alone, after that the next command asks again
    asked = len(authority.asked)
    authority.say = None
    assert run(site, "schedule", "sign", "--as", "kabid") == 0
    assert len(authority.asked) == asked
    silent = site.root / ".state/timestamps/tsa1.silent"
    os.utime(silent, (1, 1))
    assert run(site, "schedule", "sign", "--as", "kabid") == 0
    assert len(tokens_of(site)) == 2 and not silent.exists()
    code, said = verify(site, capsys)
    assert (code, rules(said), said["stamped"]) == (0, {}, 2)
    assert ("time stamps", "ok") in {(one.what, one.state) for one in checkup.examine(str(site.root))}


def test_one_of_two_is_silent(site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    other = Authority(authority.ca, authority.signer, "http://127.0.0.1:9/tsr", "tsa2")
    name_authorities(site, authority, other)
    assert withdraw(site) == 0
    assert {path.name.split(".")[-2] for path in tokens_of(site)} == {"tsa1"}
    code, said = verify(site, capsys)
    assert (code, said["stamped"]) == (0, 2)
    assert "tsa2" in rules(said, "unchecked")["timestamp-missing"]


def test_audit_timestamp(site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    name_authorities(site, authority)
    authority.say = lambda _: body(b"", status=500)
    withdraw(site)
    capsys.readouterr()
    assert run(site, "audit", "timestamp", "--json") == 0
    state = json.loads(capsys.readouterr().out)[0]
    assert state["waiting"] == [f"checkpoint {len(site.ledger.lines()):08d}", f"record {site.case}-C"]
    assert state["certificates"][0] in _fingerprint(authority.ca.pem)
    assert run(site, "audit", "timestamp", "tsa1") == 22
    assert run(site, "audit", "timestamp", "lain") == 2
    authority.say = None
    assert run(site, "audit", "timestamp", "tsa1", "--json") == 0
    assert len(tokens_of(site)) == 2


def _fingerprint(pem: Path) -> str:
    command = ["openssl", "x509", "-in", str(pem), "-noout", "-fingerprint", "-sha256"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace(":", "")


def test_a_command_killed_before_the_ledgers_line(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name_authorities(site, authority)

    class Killed(BaseException):
        """As SIGKILL would: nobody catches it."""

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(stamping, "_enter", die)
        with pytest.raises(Killed):
            seal(site, "BKP-2020-0003-01")
    assert len(tokens_of(site)) == 1 and lines_of(site) == []
    code, said = verify(site, capsys)
    assert (code, said["stamped"]) == (0, 1)
    assert run(site, "audit", "checkpoint", "--as", "pelaksana") == 0
    assert lines_of(site) == ["record/BKP-2020-0003-01@tsa1"]
    assert verify(site, capsys)[0] == 0


def test_ctrl_c_ends_the_waiting_alone(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's document is filed after its record is sealed and stamped."""
    name_authorities(site, authority)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(_: bytes) -> Answer:
        signal.pthread_kill(main, signal.SIGINT)
        return trickle(20, 0.1)

    authority.say = interrupt
    capsys.readouterr()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background is born deaf to it
    try:
        assert withdraw(site) == 0
        assert "time stamps: interrupted. Nothing is lost" in capsys.readouterr().err
        assert verify(site, capsys)[0] == 0
        assert run(site, "audit", "timestamp", "tsa1") == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_damaged_record_keeps_none_from_being_stamped(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    name_authorities(site, authority)
    authority.say = lambda _: body(b"", status=503)
    for number in (3, 4):
        bag = seal(site, f"BKP-2020-000{number}-01")
    (bag / "tagmanifest-sha256.txt.sig").unlink()
    authority.say = None
    assert run(site, "audit", "timestamp", "tsa1") == 0
    assert len(tokens_of(site)) == 3
    assert verify(site, capsys)[0] == 30


def test_its_certificate_has_expired_since(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lives = 8.0
    name_authorities(site, authority)
    signer = authority.ca.issue("sebentar", days=(-1, lives / 86400))
    until = time.time() + lives + 1.5
    authority.say = lambda asked: body(Authority(authority.ca, signer).reply(asked))
    seal(site, "BKP-2020-0003-01")
    assert len(tokens_of(site)) == 2
    time.sleep(max(0.0, until - time.time()))
    code, said = verify(site, capsys)
    assert (code, said["findings"], said["stamped"]) == (0, [], 2)
    # openssl agrees that it is over now
    command = [
        "openssl",
        "ts",
        "-verify",
        "-in",
        str(token(site, "BKP-2020-0003-01")),
        "-CAfile",
        str(authority.ca.pem),
    ]
    command += ["-data", str(next((site.root / "archive").glob("records/*/*/BKP-2020-0003-01/*.sig")))]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


# --- the trust -------------------------------------------------------------------------------------------------------


def test_a_site_without_authorities_is_unchanged(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    settings = register.settings_digests(site.session.site.config)
    assert "timestamps" not in settings
    assert site.session.trust.file.settings == settings
    assert withdraw(site) == 0
    assert not (site.root / "archive/timestamps").exists()
    code, said = verify(site, capsys)
    assert (code, said["findings"], said["stamped"]) == (0, [], 0)
    assert "time stamps" not in {one.what for one in checkup.examine(str(site.root))}


def test_nothing_is_loaded_where_nothing_is_stamped() -> None:
    code = "import sys, sopctl.cli; print([name for name in sys.modules if name.startswith(('rfc3161', 'cryptography.x509'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_exchanged_certificates_are_a_setting_that_differs(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The insider who may edit the site's files puts his own CA there, and an authority of his behind the address."""
    name_authorities(site, authority)
    seal(site, "BKP-2020-0003-01")
    own = Ca(tmp_path / "own")
    (site.root / "trust/tsa1.pem").write_bytes(own.pem.read_bytes())
    fake = Authority(own, own.issue("penanda"))
    authority.say = lambda asked: body(fake.reply(asked))
    reason = "sop.yml: timestamps differs from what the trust was signed over"
    assert register.settings_reasons(site.session.trust.file, site.session.site.config) == [reason]
    asked = len(authority.asked)
    capsys.readouterr()
    assert run(site, "audit", "timestamp", "tsa1") == 2
    assert reason in capsys.readouterr().err
    code, why = refused(site, capsys)
    assert code == 10 and any(reason in one for one in why)
    assert len(authority.asked) == asked
    code, said = verify(site, capsys)
    assert (code, rules(said), said["stamped"]) == (0, {}, 2)
    # and the token that he makes himself is none, with a line in the ledger or without
    path = token(site, "BKP-2020-0003-01")
    signature = next((site.root / "archive").glob("records/*/*/BKP-2020-0003-01/*.sig"))
    path.write_bytes(fake.stamp(signature.read_bytes()))
    code, said = verify(site, capsys)
    assert code == 30 and list(rules(said)) == ["timestamp-exchanged"]


def test_a_token_of_his_own_in_a_ledger_of_his_own(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name_authorities(site, authority)
    authority.say = lambda _: body(b"", status=503)
    bag = seal(site, "BKP-2020-0003-01")
    own = Ca(tmp_path / "own", authority.ca.name)
    answer = Authority(own, own.issue("penanda")).stamp((bag / "tagmanifest-sha256.txt.sig").read_bytes())
    plant(site, "BKP-2020-0003-01", answer)
    code, said = verify(site, capsys)
    assert code == 30 and "signature failure" in rules(said)["timestamp"]


def plant(site: CaseSite, record: str, answer: bytes, at: str = "") -> None:
    """A token with its line, as sopctl would enter it at ``at`` (now)."""
    path = token(site, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(answer)
    signature = next((site.root / "archive").glob(f"records/*/*/{record}/tagmanifest-sha256.txt.sig"))
    digests = {
        "token": fsio.sha256_bytes(answer),
        "signature": fsio.sha256_file(signature),
        "authorities": stamps.keep_authorities(site.root / "archive", site.session.site.config),
    }
    moment = clock.parse(at or clock.now())
    Ledger(site.ledger.path, clock=lambda: moment).append("timestamp", f"record/{record}@tsa1", digests)


def test_the_root_holder_may_change_the_authority(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What was stamped before is checked by what was pinned then; also the checkpoint that has no line yet."""
    name_authorities(site, authority)
    seal(site, "BKP-2020-0003-01")
    capsys.readouterr()
    with serving(Authority(new := Ca(tmp_path / "new", "Akar Baru"), new.issue("penanda"))) as other:
        name_authorities(site, other)
        code, said = verify(site, capsys)
        assert (code, rules(said), said["stamped"]) == (0, {}, 2)
        seal(site, "BKP-2020-0004-01")
        code, said = verify(site, capsys)
        assert (code, said["findings"], said["stamped"]) == (0, [], 4)
        assert len(list((site.root / "archive/timestamps/authorities").iterdir())) == 2
        name_authorities(site)  # and no authority at all any more
        code, said = verify(site, capsys)
        assert (code, rules(said), said["stamped"]) == (0, {}, 4)
        # the new CA has no say about what was stamped under the old one
        old = next((site.root / "archive").glob("records/*/*/BKP-2020-0003-01/*.sig"))
        token(site, "BKP-2020-0003-01").write_bytes(other.stamp(old.read_bytes()))
        assert verify(site, capsys)[0] == 30


def test_trust_sign_shows_the_certificates(
    site: CaseSite, authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    name_authorities(site, authority)
    leaf = (authority.ca.folder / f"{authority.signer}.pem").read_bytes()
    assert run(site, "trust", "sign", "--key", str(site.builder.root_key)) == 0
    said = capsys.readouterr().err
    mark = "time stamps of tsa1 lead to "
    assert said[said.index(mark) + len(mark) :].split()[0] in _fingerprint(authority.ca.pem)
    (site.root / "trust/tsa1.pem").write_bytes(leaf)
    assert run(site, "trust", "sign", "--key", str(site.builder.root_key)) == 2
    assert "is no CA's certificate" in capsys.readouterr().err


# --- tampering -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stamped(built: CaseSite, served: Authority, tmp_path_factory: pytest.TempPathFactory) -> tuple[CaseSite, list[str]]:
    """A site with two stamped records and two stamped checkpoints; the checkpoints' names."""
    served.say = None
    with at_home(built.builder):
        site = built.copy(tmp_path_factory.mktemp("stamped") / "site")
        name_authorities(site, served)
        for number in (3, 4):
            seal(site, f"BKP-2020-000{number}-01")
        return site, [path.name[:8] for path in tokens_of(site) if path.parent.name == "checkpoints"]


ONE, OTHER = "BKP-2020-0003-01", "BKP-2020-0004-01"
Spoil = Callable[[CaseSite, list[str]], object]


def _swap(site: CaseSite, one: str, other: str) -> None:
    first, second = token(site, one), token(site, other)
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def _flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 1
    path.write_bytes(data)


def _flatten(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("", encoding="ascii")


def _link(path: Path) -> None:
    path.rename(path.with_name("aside"))
    path.symlink_to("aside")


def _authorities(site: CaseSite) -> Path:
    return next((site.root / "archive/timestamps/authorities").iterdir())


def _without_checkpoint(site: CaseSite, point: str) -> None:
    """The checkpoint, and with it what was said of it."""
    for path in [*(site.root / "archive/checkpoints").glob(f"{point}*"), token(site, point)]:
        path.unlink()


#: what is done → (rule, words of its meaning, severity)
TAMPERED: dict[str, tuple[Spoil, str, str, str]] = {
    "swapped": (
        lambda site, _: _swap(site, ONE, OTHER),
        "timestamp-exchanged",
        f"it is that of record {OTHER}",
        "broken",
    ),
    "swapped with a checkpoint's": (
        lambda site, points: _swap(site, ONE, points[0]),
        "timestamp-exchanged",
        "it is that of checkpoint",
        "broken",
    ),
    "swapped checkpoints": (
        lambda site, points: _swap(site, points[0], points[1]),
        "timestamp",
        "it is about other bytes: it is that of checkpoint",
        "broken",
    ),
    "gone": (lambda site, _: token(site, ONE).unlink(), "timestamp-gone", "it is gone", "broken"),
    "an earlier checkpoint's gone": (
        lambda site, points: token(site, points[0]).unlink(),
        "timestamp-gone",
        "it is gone",
        "broken",
    ),
    "the newest checkpoint's gone": (
        lambda site, points: token(site, points[1]).unlink(),
        "timestamp-missing",
        "has no time stamp of tsa1 yet",
        "unchecked",
    ),
    "damaged": (lambda site, _: _flip(token(site, ONE)), "timestamp-exchanged", "is not the time stamp that", "broken"),
    "the newest checkpoint's damaged": (
        lambda site, points: _flip(token(site, points[1])),
        "timestamp",
        "does not hold",
        "broken",
    ),
    "empty": (lambda site, _: token(site, ONE).write_bytes(b""), "timestamp-exchanged", "is not the time", "broken"),
    "huge": (lambda site, _: token(site, ONE).write_bytes(b"0" * 70000), "timestamp", "is larger than", "broken"),
    "a file in the folder's place": (
        lambda site, _: _flatten(site.root / "archive/timestamps/records"),
        "timestamp-gone",
        "it is gone",
        "broken",
    ),
    "a link": (lambda site, _: _link(token(site, ONE)), "timestamp", "is a link", "broken"),
    "a folder added": (
        lambda site, _: (site.root / "archive/timestamps/lain").mkdir(),
        "stray",
        "is no time stamp of anything",
        "broken",
    ),
    "of nothing": (
        lambda site, _: shutil.copy(token(site, ONE), token(site, "BKP-2020-0009-01")),
        "stray",
        "is no time stamp of anything",
        "broken",
    ),
    "left by a killed command": (
        lambda site, _: token(site, ONE).with_name(".x.tmp").write_bytes(b""),
        "timestamp-torn",
        "killed",
        "unchecked",
    ),
    "by an authority that nobody named": (
        lambda site, _: shutil.copy(token(site, ONE), token(site, ONE, "tsa9")),
        "timestamp-unknown",
        "names no authority tsa9",
        "unchecked",
    ),
    "who the authorities were": (
        lambda site, _: _flip(_authorities(site), 0.9),
        "timestamp-authority",
        "is not what the trust was signed over",
        "broken",
    ),
    "another one with a line of its own": (
        lambda site, _: plant(site, ONE, token(site, OTHER).read_bytes()),
        "timestamp-exchanged",
        f"it is that of record {OTHER}",
        "broken",
    ),
    "a second line": (
        lambda site, _: plant(site, ONE, token(site, ONE).read_bytes()),
        "timestamp-twice",
        "already",
        "broken",
    ),
    "a checkpoint and its time stamp gone": (
        lambda site, points: _without_checkpoint(site, points[0]),
        "timestamp-subject",
        "there is no such thing",
        "broken",
    ),
    "the signature that it is about": (
        lambda site, _: _flip(next((site.root / "archive").glob(f"records/*/*/{ONE}/*.sig"))),
        "timestamp",
        "it is about other bytes",
        "broken",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampering_is_found(
    name: str,
    stamped: tuple[CaseSite, list[str]],
    built: CaseSite,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil, rule, meaning, severity = TAMPERED[name]
    with at_home(built.builder):
        site = stamped[0].copy(tmp_path / "site")
        spoil(site, stamped[1])
        code, said = verify(site, capsys)
        assert code == (30 if severity == "broken" else 0)
        assert meaning in rules(said, severity)[rule]
        if name in {"swapped", "gone", "damaged"}:
            assert run(site, "record", "verify", ONE) == 30
            assert run(site, "audit", "verify", "--since", ONE) == 30


def test_what_names_the_authorities_may_come_from_sop_yml(
    stamped: tuple[CaseSite, list[str]], built: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where its digest is the one that the trust names. Else nobody can say: could not check."""
    with at_home(built.builder):
        site = stamped[0].copy(tmp_path / "site")
        _authorities(site).unlink()
        assert verify(site, capsys)[0] == 0
        name_authorities(site)
        code, said = verify(site, capsys)
        assert (code, said["stamped"]) == (0, 0)
        assert "is gone" in rules(said, "unchecked")["timestamp-authority"]


def test_a_copy_elsewhere_is_checked_the_same(
    stamped: tuple[CaseSite, list[str]], built: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with at_home(built.builder):
        copy = tmp_path / "copy"
        shutil.copytree(stamped[0].root / "archive", copy)
        code, said = verify(stamped[0], capsys, "--archive", str(copy))
        assert (code, said["stamped"]) == (0, 4)
        (copy / "timestamps/records" / f"{ONE}.tsa1.tsr").unlink()
        assert verify(stamped[0], capsys, "--archive", str(copy))[0] == 30


def test_a_removed_token_is_not_replaced_by_a_later_one(
    stamped: tuple[CaseSite, list[str]], built: CaseSite, served: Authority, tmp_path: Path
) -> None:
    with at_home(built.builder):
        site = stamped[0].copy(tmp_path / "site")
        token(site, ONE).unlink()
        assert run(site, "audit", "timestamp", "tsa1") == 0
        assert not token(site, ONE).exists()


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "received_hours", "severity", "rule", "meaning"),
    [
        (-1, 0, "broken", "timestamp-before", "it is older than it says, or this machine's clock was wrong"),
        (0, 0, "", "", ""),
        (50, 50, "unchecked", "timestamp-late", "the authority was silent, or it was made later than it says"),
        (1, 0, "broken", "timestamp-after", "one of the two is forged"),
    ],
)
def test_times(
    hours: int,
    received_hours: int,
    severity: str,
    rule: str,
    meaning: str,
    site: CaseSite,
    authority: Authority,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name_authorities(site, authority)
    authority.say = lambda _: body(b"", status=503)
    bag = seal(site, ONE)
    question = authority.query((bag / "tagmanifest-sha256.txt.sig").read_bytes())
    at = datetime.now(UTC) + timedelta(hours=hours)
    plant(site, ONE, authority.forge(question, authority.signer, at), clock.plus(clock.now(), hours=received_hours))
    code, said = verify(site, capsys)
    found = {
        one["rule"]: one for one in said["findings"] if one["rule"].startswith("timestamp-") and one["record"] == ONE
    }
    assert code == (30 if severity == "broken" else 0)
    assert {name: one["severity"] for name, one in found.items()} == ({rule: severity} if rule else {})
    assert not rule or meaning in found[rule]["meaning"]
