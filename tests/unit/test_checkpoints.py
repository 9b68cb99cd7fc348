# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.checkpoints, sopctl.witnessing and `audit verify`: what an insider with the archive and a key would do."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from sopctl import audit, checkpoints, cli, clock, fsio, signing, witnessing
from sopctl.checkpoints import Checkpoint
from sopctl.errors import EvidenceError
from sopctl.ledger import Ledger
from tests.support.case_site import CaseSite, seal_backup


@pytest.fixture
def marked(site: CaseSite) -> CaseSite:
    """The base site with a checkpoint over all of its ledger."""
    mark(site)
    return site


def mark(site: CaseSite) -> Checkpoint:
    session = site.session
    point = witnessing.checkpoint(session, session.signer("pelaksana", None))
    assert point is not None
    return point


def rules(site: CaseSite, severity: str = "broken") -> set[str]:
    session = site.session
    session.reading = True
    done = audit.verify_all(session, site.root / "archive")
    # two backups of the base site stand in records only: no case was ever opened for them
    return {finding.rule for finding in done.findings if finding.severity == severity} - {"record-without-case"}


def text(site: CaseSite) -> Path:
    return next((site.root / "archive/checkpoints").glob("*.txt"))


def rewrite_ledger(site: CaseSite, keep: int | None = None, change: Callable[[str], str] = lambda ref: ref) -> None:
    """A whole and well-chained ledger in the old one's place, as who can write the archive can make it."""
    lines = site.ledger.lines()[:keep]
    site.ledger.path.unlink()
    for line in lines:
        moment = clock.parse(line.at)

        def then(moment: datetime = moment) -> datetime:
            return moment

        Ledger(site.ledger.path, clock=then).append(line.kind, change(line.ref), dict(line.digests), serial=line.serial)


def test_a_checkpoint_over_everything_holds(marked: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert rules(marked) == set()
    assert rules(marked, "unchecked") == {"witness-none"}
    assert cli.run(["-C", str(marked.root), "audit", "verify"]) == 0
    said = capsys.readouterr().out
    assert "could not check" in said
    assert "nothing contradicts" in said


def test_ssh_keygen_agrees(marked: CaseSite) -> None:
    """An auditor without sopctl checks it with the trust's allowed_signers."""
    path = text(marked)
    signers = marked.root / "signers"
    signers.write_text(marked.session.trust.allowed_signers(), encoding="utf-8")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "pelaksana", "-n", "sop-checkpoint", "-s"]
    subprocess.run([*command, f"{path}.sig"], input=path.read_bytes(), check=True, capture_output=True)


def test_command_makes_one_and_no_second(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-C", str(site.root), "audit", "checkpoint", "--as", "pelaksana"]
    assert (cli.run(words), cli.run(words)) == (0, 0)
    assert "nothing came since" in capsys.readouterr().out
    assert len(checkpoints.sizes(site.root / "archive")) == 1


def test_a_sealed_case_leaves_one(site: CaseSite) -> None:
    assert cli.run(["-C", str(site.root), "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon"]) == 0
    lines = site.ledger.lines()
    assert lines[-1].kind == "record"
    assert checkpoints.sizes(site.root / "archive") == [len(lines)]


def test_what_came_since_is_not_covered(marked: CaseSite) -> None:
    seal_backup(marked.session, "berkas", "BKP-2020-0003-01")
    assert rules(marked) == set()
    assert rules(marked, "unchecked") == {"witness-none", "checkpoint-tail"}


def test_a_checkpoint_that_cannot_be_made_fails_nothing(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    (site.root / "archive/checkpoints").write_text("in the way")
    assert cli.run(["-C", str(site.root), "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon"]) == 0
    assert "no checkpoint was made" in capsys.readouterr().err


# --- attacks -------------------------------------------------------------------------------------------------------


def _cut(site: CaseSite) -> None:
    rewrite_ledger(site, -2)


def _rewritten(site: CaseSite) -> None:
    rewrite_ledger(site, change=lambda ref: ref.replace("BKP-2020-0002-01", "BKP-2020-0009-01"))


def _signed_by(key: str, **values: object) -> Callable[[CaseSite], None]:
    """The checkpoint written anew with other words, signed by ``key``."""

    def spoil(site: CaseSite) -> None:
        path = text(site)
        point = checkpoints.parse(path.read_bytes())
        forged = Checkpoint(**{**vars(point), **values})
        path.write_bytes(forged.data)
        path.with_name(path.name + ".sig").write_bytes(signing.sign(forged.data, "sop-checkpoint", site.keys / key))

    return spoil


def _other_namespace(site: CaseSite) -> None:
    path = text(site)
    path.with_name(path.name + ".sig").write_bytes(
        signing.sign(path.read_bytes(), "sop-record", site.keys / "pelaksana")
    )


def _flipped(at: int, ending: str = "") -> Callable[[CaseSite], None]:
    def spoil(site: CaseSite) -> None:
        path = text(site)
        path = path.with_name(path.name + ending)
        data = bytearray(path.read_bytes())
        data[at] ^= 1
        path.write_bytes(data)

    return spoil


def _renamed(site: CaseSite) -> None:
    path = text(site)
    path.with_name(path.name + ".sig").rename(path.with_name("00000001.txt.sig"))
    path.rename(path.with_name("00000001.txt"))


def _linked(site: CaseSite) -> None:
    path = text(site)
    path.rename(site.root / "elsewhere.txt")
    path.symlink_to(site.root / "elsewhere.txt")


def _unsigned(site: CaseSite) -> None:
    path = text(site)
    path.with_name(path.name + ".sig").unlink()


def _stray(site: CaseSite) -> None:
    (site.root / "archive/checkpoints/catatan").write_text("x")


def _word_on_another(site: CaseSite) -> None:
    """The checkpoint was made anew; the word of a witness that saw the first one still lies there."""
    point = checkpoints.parse(text(site).read_bytes())
    word = checkpoints.Word("kabag", "sha256:" + "1" * 64, point.size, point.at, signed=False)
    checkpoints.keep(checkpoints.path_of(site.root / "archive", point.size, "kabag"), word.data, None)


ATTACKS: dict[str, tuple[Callable[[CaseSite], None], str]] = {
    "the ledger's end cut off": (_cut, "ledger-cut"),
    "the ledger rewritten whole": (_rewritten, "ledger-rewritten"),
    "checkpoint of a nobody": (_signed_by("root"), "checkpoint-signer"),
    "dated before its lines": (_signed_by("pelaksana", at="2020-01-01T00:00:00Z"), "checkpoint-time"),
    "of another site": (_signed_by("pelaksana", site="0" * 36), "checkpoint-site"),
    "another head": (_signed_by("pelaksana", head="sha256:" + "0" * 64), "ledger-rewritten"),
    "another number": (_signed_by("pelaksana", size=1), "checkpoint-name"),
    "signed for another purpose": (_other_namespace, "checkpoint"),
    "a byte of the text": (_flipped(30), "checkpoint"),
    "the last byte of the text": (_flipped(-1), "checkpoint"),
    "a byte of the signature": (_flipped(200, ".sig"), "checkpoint"),
    "renamed": (_renamed, "checkpoint-name"),
    "a link": (_linked, "checkpoint"),
    "signature gone": (_unsigned, "checkpoint"),
    "something else beside it": (_stray, "stray"),
    "exchanged after a witness saw it": (_word_on_another, "checkpoint-exchanged"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_was_done_is_found(name: str, marked: CaseSite) -> None:
    spoil, rule = ATTACKS[name]
    spoil(marked)
    assert rule in rules(marked)


def test_checkpoint_removed_leaves_the_lines_uncovered(marked: CaseSite) -> None:
    """Nothing but a witness can say that there was one; what it covered is named."""
    shutil.rmtree(marked.root / "archive/checkpoints")
    assert rules(marked, "unchecked") == {"checkpoint-tail", "witness-none"}


def test_no_checkpoint_over_a_ledger_that_lost_lines(marked: CaseSite) -> None:
    _cut(marked)
    session = marked.session
    session.reading = True  # the trust's own line may be among those that are gone
    with pytest.raises(EvidenceError, match="its end was cut off"):
        witnessing.checkpoint(session, session.signer("pelaksana", None))


def test_key_that_ended_since_does_not_break_old_checkpoints(marked: CaseSite) -> None:
    """By the trust in force then, which trust/history has."""
    from msgspec.structs import replace as changed

    marked.retrust(
        lambda file: changed(file, people=[one for one in file.people if one.id != "pelaksana"]), forget=("pelaksana",)
    )
    mark_by(marked, "kabid")
    assert {rule for rule in rules(marked) if rule.startswith("checkpoint")} == set()


def mark_by(site: CaseSite, person: str) -> None:
    session = site.session
    assert witnessing.checkpoint(session, session.signer(person, None)) is not None


def test_witness_whose_clock_is_before_ours(marked: CaseSite) -> None:
    point = checkpoints.parse(text(marked).read_bytes())
    word = checkpoints.Word("kabag", fsio.sha256_bytes(point.data), point.size, "2020-01-01T00:00:00Z", False)
    checkpoints.keep(checkpoints.path_of(marked.root / "archive", point.size, "kabag"), word.data, None)
    assert "witness-clock" in rules(marked, "unchecked")


@pytest.mark.parametrize("since", ["BKP-2020-0002-01", "2020-01-01"])
def test_since(since: str, marked: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-C", str(marked.root), "audit", "verify", "--since", since]) == 0
    shutil.rmtree(next((marked.root / "archive/records").glob("*/*/BKP-2020-0002-01")))
    assert cli.run(["-C", str(marked.root), "audit", "verify", "--since", since]) == 30
    assert "BKP-2020-0002-01 : the ledger names this record" in capsys.readouterr().out


def test_since_that_is_neither(marked: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-C", str(marked.root), "audit", "verify", "--since", "kemarin"]) == 2
    assert "neither a date nor a record" in capsys.readouterr().err
