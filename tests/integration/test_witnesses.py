# SPDX-License-Identifier: Apache-2.0
"""Witnesses of all three kinds: under another account behind a real sshd, a real bare repository, a real mail server. And the
insider who has the archive and a key: what he rewrites is found by what the witness kept, and named."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from sopctl import checkpoints, cli, clock, signing
from sopctl.ledger import Ledger
from tests.support.case_site import CaseSite, at_home, build, seal_backup
from tests.support.witness_host import WitnessHost, name_witnesses, witness_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes an account for the witness: root only")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> CaseSite:
    return build(tmp_path_factory.mktemp("base"))


@pytest.fixture
def site(built: CaseSite, tmp_path: Path) -> Iterator[CaseSite]:
    with at_home(built.builder):
        yield built.copy(tmp_path / "site")


@pytest.fixture
def host(site: CaseSite) -> Iterator[WitnessHost]:
    with witness_host(site) as found:
        name_witnesses(site, [found.entry])
        yield found


def point(site: CaseSite) -> int:
    return cli.run(["-C", str(site.root), "audit", "checkpoint", "--as", "pelaksana"])


def verify(site: CaseSite, capsys: pytest.CaptureFixture[str], *copies: Path) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    words = [word for copy in copies for word in ("--witness", str(copy))]
    code = cli.run(["-C", str(site.root), "audit", "verify", "--json", *words])
    said = json.loads(capsys.readouterr().out)
    # the backups of the base site stand in records only: no case was ever opened for them
    said["findings"] = [finding for finding in said["findings"] if finding["rule"] != "record-without-case"]
    return code, said


def rewrite(site: CaseSite, drop: str) -> None:
    """The insider: the ledger without the lines that name ``drop``, chained anew, the records it names removed, the
    checkpoints and the witness's words thrown away and a new checkpoint signed with a key that may."""
    lines = [line for line in site.ledger.lines() if drop not in line.ref]
    site.ledger.path.unlink()
    for line in lines:
        moment = clock.parse(line.at)

        def then(moment: datetime = moment) -> datetime:
            return moment

        Ledger(site.ledger.path, clock=then).append(line.kind, line.ref, dict(line.digests), serial=line.serial)
    for path in (site.root / "archive/records").glob(f"*/*/{drop}*"):
        shutil.rmtree(path)
    shutil.rmtree(site.root / "archive/checkpoints")
    new = site.ledger.lines()
    made = checkpoints.Checkpoint(site.session.site.config.site, len(new), new[-1].digest, clock.now())
    signature = signing.sign(made.data, "sop-checkpoint", site.keys / "pelaksana")
    checkpoints.keep(checkpoints.path_of(site.root / "archive", made.size), made.data, signature)


# --- ssh -----------------------------------------------------------------------------------------------------------


def test_ssh_witness_countersigns_and_keeps_the_lines(
    site: CaseSite, host: WitnessHost, capsys: pytest.CaptureFixture[str]
) -> None:
    assert point(site) == 0
    lines = site.ledger.lines()
    assert host.lines == [line.raw() for line in lines]
    assert {path.stat().st_uid for path in host.folder.rglob("*")} == {host.folder.stat().st_uid} != {os.getuid()}
    code, said = verify(site, capsys)
    assert (code, said["findings"]) == (0, [])
    assert said["witnessed"] == said["covered"] == said["lines"] == len(lines)
    seal_backup(site.session, "berkas", "BKP-2020-0003-01")
    assert point(site) == 0
    assert len(host.lines) == len(lines) + 1
    code, said = verify(site, capsys, host.folder)
    assert (code, said["findings"]) == (0, [])


def test_its_word_is_checked_by_ssh_keygen(site: CaseSite, host: WitnessHost) -> None:
    point(site)
    path = checkpoints.path_of(site.root / "archive", len(site.ledger.lines()), "kabag")
    signers = site.root / "witnesses"
    signers.write_text(f"kabag {host.entry['keys'][0]}\n", encoding="ascii")
    command = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        str(signers),
        "-I",
        "kabag",
        "-n",
        "sop-witness",
        "-s",
        f"{path}.sig",
    ]
    subprocess.run(command, input=path.read_bytes(), check=True, capture_output=True)


def test_insider_who_rewrites_everything_is_named_by_the_witness(
    site: CaseSite, host: WitnessHost, capsys: pytest.CaptureFixture[str]
) -> None:
    point(site)
    rewrite(site, "BKP-2020-0002-01")
    code, said = verify(site, capsys)
    assert code == 0, said  # nothing contradicts itself any more
    assert "witness-tail" in {finding["rule"] for finding in said["findings"]}
    code, said = verify(site, capsys, host.folder)
    assert code == 30
    found = {finding["rule"]: finding for finding in said["findings"] if finding["severity"] == "broken"}
    assert "record BKP-2020-0002-01" in found["ledger-rewritten"]["meaning"]
    assert found["record-missing"]["record"] == "BKP-2020-0002-01"


def test_insiders_site_is_refused_and_the_attempt_is_kept(
    site: CaseSite, host: WitnessHost, capsys: pytest.CaptureFixture[str]
) -> None:
    point(site)
    before = host.lines
    rewrite(site, "BKP-2020-0002-01")
    seal_backup(site.session, "berkas", "BKP-2020-0003-01")
    seal_backup(site.session, "berkas", "BKP-2020-0004-01")
    assert point(site) == 30
    assert "refused the checkpoint" in capsys.readouterr().err
    assert host.lines == before
    code, said = verify(site, capsys, host.folder)
    assert code == 30
    assert "witness-refused" in {finding["rule"] for finding in said["findings"]}


def test_silent_witness_fails_nothing_and_is_asked_again(
    site: CaseSite, host: WitnessHost, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = host.folder.parent / "authorized_keys"
    allowed = keys.read_text(encoding="ascii")
    keys.write_text("", encoding="ascii")
    words = ["-C", str(site.root), "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon"]
    assert cli.run(words) == 0
    assert "kabag: could not be told" in capsys.readouterr().err
    code, said = verify(site, capsys)
    assert code == 0
    assert {finding["rule"] for finding in said["findings"]} == {"witness-tail"}
    keys.write_text(allowed, encoding="ascii")
    for path in (site.root / ".state/witnesses").glob("*.silent"):
        os.utime(path, (0, 0))  # a minute later
    assert cli.run(["-C", str(site.root), "audit", "witness"]) == 0  # any command
    assert len(host.lines) == len(site.ledger.lines())


def test_another_machine_under_the_witness_s_name(
    site: CaseSite, host: WitnessHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    other = (tmp_path / "other.pub").read_text(encoding="ascii").strip()
    site.edit("sop.yml", host.entry["host_key"], other)
    site.retrust(lambda file: file)
    assert point(site) == 22
    assert "Host key verification failed" in capsys.readouterr().err
    assert host.lines == []


def test_witness_exchanged_in_sop_yml_is_not_believed(
    site: CaseSite, host: WitnessHost, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An insider names a witness key of his own and witnesses himself."""
    assert point(site) == 0
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "own")], check=True)
    path = checkpoints.path_of(site.root / "archive", checkpoints.sizes(site.root / "archive")[-1], "kabag")
    path.with_name(path.name + ".sig").write_bytes(signing.sign(path.read_bytes(), "sop-witness", tmp_path / "own"))
    code, said = verify(site, capsys)
    assert (code, said["findings"][0]["rule"]) == (30, "witness")
    site.edit("sop.yml", host.entry["keys"][0], (tmp_path / "own.pub").read_text(encoding="ascii").strip())
    code, said = verify(site, capsys)
    assert {"witness-unsigned-setting", "witness-none"} <= {finding["rule"] for finding in said["findings"]}
    assert said["witnessed"] == 0


def test_the_site_s_key_opens_no_shell(site: CaseSite, host: WitnessHost) -> None:
    entry = host.entry
    command = [
        "ssh",
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]
    command += ["-i", str(site.root / "secrets/witness-key"), "-p", str(entry["port"]), entry["to"], "rm -rf kept"]
    done = subprocess.run(command, input=b"{}\n", capture_output=True, check=False, timeout=30)
    assert b"not a message of sopctl" in done.stderr
    assert host.folder.is_dir()


# --- git -----------------------------------------------------------------------------------------------------------


def git(*words: str | Path) -> str:
    done = subprocess.run(["git", *map(str, words)], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def remote(site: CaseSite, tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    git("init", "-q", "--bare", path)
    name_witnesses(site, [{"name": "gitlab", "kind": "git", "to": str(path)}])
    return path


def protect(remote: Path) -> None:
    git("-C", remote, "config", "receive.denyNonFastForwards", "true")
    git("-C", remote, "config", "receive.denyDeletes", "true")


def test_git_remote_that_can_be_rewritten_is_no_witness(
    site: CaseSite, remote: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert point(site) == 22
    assert "set receive.denyNonFastForwards true" in capsys.readouterr().err
    git("-C", remote, "config", "receive.denyNonFastForwards", "true")
    assert point(site) == 22
    assert "set receive.denyDeletes true" in capsys.readouterr().err
    assert not git("-C", remote, "for-each-ref", "refs/heads/ledger-*")


def test_git_witness_holds_every_checkpoint(
    site: CaseSite, remote: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protect(remote)
    assert point(site) == 0
    seal_backup(site.session, "berkas", "BKP-2020-0003-01")
    assert point(site) == 0
    branch = f"ledger-{site.session.site.config.site}"
    assert git("-C", remote, "rev-list", "--count", branch) == "2"
    code, said = verify(site, capsys)
    assert code == 0  # what we note ourselves proves nothing
    assert {finding["rule"] for finding in said["findings"]} == {"witness-unsigned", "witness-tail"}
    for copy in (remote, tmp_path / "clone"):
        if copy != remote:
            git("clone", "-q", "--no-checkout", remote, copy)
        code, said = verify(site, capsys, copy)
        assert (code, said["witnessed"]) == (0, said["lines"])
    rewrite(site, "BKP-2020-0002-01")
    assert point(site) == 30
    assert "holds other lines" in capsys.readouterr().err
    code, said = verify(site, capsys, remote)
    assert code == 30
    assert "ledger-rewritten" in {finding["rule"] for finding in said["findings"]}


# --- mail ----------------------------------------------------------------------------------------------------------


def test_mail_witness(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    entry = {"name": "inspektorat", "kind": "mail", "to": "inspektorat@example.go.id", "sender": "sop@example.go.id",
             "server": f"127.0.0.1:{port}", "tls": "none"}  # fmt: skip
    name_witnesses(site, [entry])
    assert point(site) == 22, "nobody listens yet"
    server = Controller(Mailbox(tmp_path / "inbox"), hostname="127.0.0.1", port=port)
    server.start()
    try:
        assert point(site) == 0
    finally:
        server.stop()
    mail = next((tmp_path / "inbox/new").iterdir())
    assert "To: inspektorat@example.go.id" in mail.read_text(encoding="ascii")
    code, said = verify(site, capsys, mail)
    assert (code, said["witnessed"]) == (0, said["lines"])
    quoted = tmp_path / "forwarded.txt"
    quoted.write_text(
        "".join(f"> {line}\r\n" for line in mail.read_text(encoding="ascii").splitlines()), encoding="ascii"
    )
    assert verify(site, capsys, quoted)[1]["witnessed"] == said["lines"]
    rewrite(site, "BKP-2020-0002-01")
    code, said = verify(site, capsys, mail)
    assert code == 30
    assert {"ledger-rewritten", "ledger-cut"} & {finding["rule"] for finding in said["findings"]}
