# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.completeness and sopctl.remembered by `audit verify`: what is missing is named, and what was remembered hides nothing."""

from __future__ import annotations

import hmac
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sopctl import audit, cli, clock, remembered, signing
from sopctl.audit import Audit
from sopctl.ledger import Ledger
from tests.support.case_site import CaseSite


@pytest.fixture
def sealed(site: CaseSite, monkeypatch: pytest.MonkeyPatch) -> CaseSite:
    """The base site with its case withdrawn and sealed; files count as settled at once."""
    monkeypatch.setattr(remembered, "TICK_NS", -1_000_000_000)
    assert cli.run(["-C", str(site.root), "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon"]) == 0
    return site


def look(site: CaseSite, **options: Any) -> Audit:
    session = site.session
    session.reading = True
    return audit.verify_all(session, options.pop("archive", site.root / "archive"), **options)


def found(done: Audit, severity: str = "broken") -> set[str]:
    return {finding.rule for finding in done.findings if finding.severity == severity}


def record(site: CaseSite) -> Path:
    return next((site.root / "archive/records").glob(f"*/*/{site.case}-C"))


def test_whole_site(sealed: CaseSite) -> None:
    done = look(sealed)
    assert found(done) == set()
    assert found(done, "unchecked") == {
        "witness-none",
        "record-without-case",
    }  # two backups of the base site have no case


# --- missing -------------------------------------------------------------------------------------------------------


def _case_gone(site: CaseSite) -> None:
    shutil.rmtree(site.folder)


def _document_gone(site: CaseSite) -> None:
    (site.folder / "02-dispose.json").unlink()


def _document_altered(site: CaseSite) -> None:
    path = site.folder / "03-decide.json"
    path.write_bytes(path.read_bytes().replace(b"sesuai", b"SESUAI"))


def _signed_again(site: CaseSite) -> None:
    """The author signs their own document anew: RSA and security keys give another signature each time."""
    path = site.folder / "03-decide.json.sig"
    path.write_bytes(path.read_bytes() + b"\n")


def _letter_exchanged(site: CaseSite) -> None:
    next((site.folder / "attachments").iterdir()).write_text("lain")


def _record_gone(site: CaseSite) -> None:
    shutil.rmtree(record(site))


def _record_and_line_gone(site: CaseSite) -> None:
    """The last record removed, the ledger cut to match, the checkpoint that saw it too."""
    shutil.rmtree(record(site))
    shutil.rmtree(site.root / "archive/checkpoints")
    path = site.ledger.path
    path.write_bytes(b"".join(line + b"\n" for line in path.read_bytes().split(b"\n")[:-2]))


def _execution_unrecorded(site: CaseSite) -> None:
    """A run that the ledger saw begin, and no more."""
    Ledger(site.ledger.path).append("run-started", f"{site.case}/{site.case}-01", {"plan": "sha256:" + "0" * 64})


MISSING: dict[str, tuple[Callable[[CaseSite], None], str, str]] = {
    "case folder": (_case_gone, "broken", "case-missing"),
    "document": (_document_gone, "broken", "document-missing"),
    "document altered": (_document_altered, "broken", "document-altered"),
    "document signed again": (_signed_again, "broken", "document-altered"),
    "letter exchanged": (_letter_exchanged, "broken", "attachment"),
    "record": (_record_gone, "broken", "record-missing"),
    "record and its line": (_record_and_line_gone, "unchecked", "case-unsealed"),
    "run without a record": (_execution_unrecorded, "unchecked", "run-unrecorded"),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_named(name: str, sealed: CaseSite) -> None:
    spoil, severity, rule = MISSING[name]
    spoil(sealed)
    assert rule in found(look(sealed), severity)


def test_month_without_a_backup(sealed: CaseSite) -> None:
    path = sealed.root / "schedule.yml"
    order = json.loads(path.read_text(encoding="utf-8"))
    order["valid"]["since"] = clock.plus(clock.now(), days=-70)
    path.write_text(json.dumps(order), encoding="utf-8")
    assert "period-missing" in found(look(sealed), "unchecked")


# --- remembered ----------------------------------------------------------------------------------------------------


def test_what_did_not_change_is_not_read_again(sealed: CaseSite) -> None:
    first, second, full = look(sealed), look(sealed), look(sealed, full=True)
    assert (first.reused, second.read) == (0, 0)
    assert second.reused == first.read == full.read == first.records > 2
    assert found(second) == set()


def _alter(path: Path) -> None:
    """Another byte, and the times put back: only ctime tells."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_altered_with_its_times_put_back(sealed: CaseSite) -> None:
    look(sealed)
    _alter(record(sealed) / "data/form.html")
    assert found(look(sealed)) == {"file-altered"}


def _checkpoint(site: CaseSite) -> Path:
    return max((site.root / "archive/checkpoints").glob("*.txt.sig"))


LATER: dict[str, tuple[Callable[[CaseSite], object], str]] = {
    "document": (_document_altered, "document-altered"),
    "signature of a document": (_signed_again, "document-altered"),
    "document gone": (_document_gone, "document-missing"),
    "case gone": (_case_gone, "case-missing"),
    "letter": (_letter_exchanged, "attachment"),
    "signature of a checkpoint": (lambda site: _alter(_checkpoint(site)), "checkpoint"),
    "file added": (lambda site: (record(site) / "data/tambahan.txt").write_text("x"), "file-extra"),
    "file gone": (lambda site: (record(site) / "data/form.html").unlink(), "file-missing"),
    "folder added": (lambda site: (record(site) / "data/kosong").mkdir(), "directory-extra"),
}


@pytest.mark.parametrize("name", LATER)
def test_what_changed_since_is_found(name: str, sealed: CaseSite) -> None:
    spoil, rule = LATER[name]
    assert found(look(sealed)) == set()
    assert look(sealed).read == 0
    spoil(sealed)
    assert rule in found(look(sealed))
    assert rule in found(look(sealed)), "what was found is not remembered as whole"


@pytest.mark.parametrize("full", [True, False])
def test_other_processes_find_the_same(full: bool, sealed: CaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    _alter(record(sealed) / "data/form.html")
    _document_altered(sealed)
    here = look(sealed, full=True)
    monkeypatch.setattr(audit, "MANY", 1)
    monkeypatch.setattr(audit, "PORTION", 1)
    apart = look(sealed, full=full)
    assert sorted(map(str, apart.findings)) == sorted(map(str, here.findings))
    assert (apart.read, apart.reused) == (here.records, 0)
    if not full:
        assert look(sealed).reused == here.records - 1


def _linked(site: CaseSite) -> Path:
    """The case's folder elsewhere, and a link in its place; returns where it lies."""
    elsewhere = site.root / "elsewhere"
    site.folder.rename(elsewhere)
    site.folder.symlink_to(elsewhere)
    return elsewhere


def test_a_case_behind_a_link_is_no_case(sealed: CaseSite) -> None:
    look(sealed)
    _linked(sealed)
    assert "case-missing" in found(look(sealed))
    assert "case-missing" in found(look(sealed))


def test_a_file_behind_a_link_is_never_remembered(sealed: CaseSite) -> None:
    """A letter that became a link: what it leads to may change, and nothing about the link does."""
    look(sealed)
    letter = next(path for path in (sealed.folder / "attachments").iterdir() if path.suffix != ".salt")
    letter.rename(sealed.root / "elsewhere")
    letter.symlink_to(sealed.root / "elsewhere")
    assert "attachment" in found(look(sealed))


def test_the_same_case_in_another_year_hides_nothing(sealed: CaseSite) -> None:
    other = sealed.folder.parent.parent / "2031" / sealed.folder.name
    shutil.copytree(sealed.folder, other)
    _document_altered(sealed)
    assert {"case-misplaced", "document-altered"} <= found(look(sealed))
    shutil.rmtree(sealed.folder)
    assert {"case-misplaced", "case-missing"} <= found(look(sealed))


def test_a_history_that_is_gone_is_told_again(sealed: CaseSite) -> None:
    """Whose signature a checkpoint bears could be said, and was remembered; then nobody can say it any more."""
    for _ in range(2):  # no record holds the one between
        sealed.retrust(lambda file: file)
        assert cli.run(["-C", str(sealed.root), "audit", "checkpoint", "--as", "pelaksana"]) == 0
    assert "checkpoint-signer" not in found(look(sealed), "unchecked")
    for path in (sealed.root / "trust/history").iterdir():
        path.unlink()
    assert "checkpoint-signer" in found(look(sealed), "unchecked")


def test_other_trust_looks_at_everything_again(sealed: CaseSite) -> None:
    first = look(sealed)
    sealed.retrust(lambda file: file)
    assert look(sealed).read == first.read


def test_a_new_line_of_the_ledger_concerns_its_own_case(sealed: CaseSite) -> None:
    look(sealed)
    Ledger(sealed.ledger.path).append("locks-cleared", "VLT-2026-0001")
    assert look(sealed).read == 0
    Ledger(sealed.ledger.path).append("locks-cleared", sealed.case)
    assert look(sealed).read == 1


def test_exchanged_by_a_rename(sealed: CaseSite) -> None:
    look(sealed)
    path = record(sealed) / "data/form.html"
    shutil.copy2(path, sealed.root / "other")
    _alter(sealed.root / "other")
    (sealed.root / "other").rename(path)
    assert found(look(sealed)) == {"file-altered"}


def _forge(site: CaseSite, *, with_key: bool) -> None:
    """What is remembered of an altered record made to fit it."""
    state = site.root / ".state/audit"
    _, _, data = (state / remembered.NAME).read_bytes().partition(b"\n")
    value = json.loads(data)
    session = site.session
    memory = remembered.Remembered(site.root / "archive", None, audit._basis(session))
    path = record(site)
    lines = session.ledger.lines()
    line = next(one for one in lines if (one.kind, one.ref) == ("record", path.name))
    about = [one for one in lines if one.ref.partition("/")[0] == site.case]
    value[f"records/{path.parent.parent.name}/{path.parent.name}/{path.name}"] = memory._mark(
        f"{line.digest} {about[-1].digest}", [path]
    )
    data = json.dumps(value).encode()
    key = (state / remembered.KEY).read_bytes() if with_key else b"0" * 32
    place = str((site.root / "archive").resolve()).encode()
    sealed = hmac.new(key, place + b"\0" + data, "sha256").hexdigest().encode()
    (state / remembered.NAME).write_bytes(sealed + b"\n" + data)


def test_memory_altered_by_who_has_not_its_key(sealed: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    look(sealed)
    _alter(record(sealed) / "data/form.html")
    _forge(sealed, with_key=False)
    assert cli.run(["-C", str(sealed.root), "audit", "verify"]) == 30
    assert "is not as sopctl wrote it: every file is read again" in capsys.readouterr().err


def test_memory_forged_with_its_key_does_not_deceive_a_full_audit(sealed: CaseSite) -> None:
    """What the memory is not: who runs sopctl can forge it. So an audit that matters is a full one, or made elsewhere."""
    look(sealed)
    _alter(record(sealed) / "data/form.html")
    _forge(sealed, with_key=True)
    assert found(look(sealed)) == set()
    assert found(look(sealed, full=True)) == {"file-altered"}
    shutil.copytree(sealed.root / "archive", sealed.root / "copy")
    assert found(look(sealed, archive=sealed.root / "copy")) == {"file-altered"}


def test_memory_that_cannot_be_written_fails_nothing(sealed: CaseSite) -> None:
    (sealed.root / ".state").mkdir(exist_ok=True)
    (sealed.root / ".state/audit").write_text("in the way")
    assert found(look(sealed)) == set()


@pytest.mark.parametrize("rubbish", [b"", b"{}", b"\xff" * 40, b"a" * 64 + b"\n{}"])
def test_rubbish_in_place_of_the_memory(rubbish: bytes, sealed: CaseSite) -> None:
    look(sealed)
    (sealed.root / ".state/audit" / remembered.NAME).write_bytes(rubbish)
    assert look(sealed).reused == 0


# --- copies --------------------------------------------------------------------------------------------------------


def _run(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def _rsync(source: Path, target: Path) -> None:
    _run("rsync", "-r", f"{source}/", target)


def _tar(source: Path, target: Path) -> None:
    target.mkdir()
    _run("tar", "-C", source, "-cf", target.with_suffix(".tar"), ".")
    _run("tar", "-C", target, "-xmf", target.with_suffix(".tar"))


def _git(source: Path, target: Path) -> None:
    _run("git", "init", "-q", source)
    _run("git", "-C", source, "add", "-A")
    _run("git", "-C", source, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "x")
    _run("git", "clone", "-q", source, target)


def _zip(source: Path, target: Path) -> None:
    with zipfile.ZipFile(target.with_suffix(".zip"), "w") as packed:
        for path in sorted(source.rglob("*")):
            packed.write(path, path.relative_to(source))
    with zipfile.ZipFile(target.with_suffix(".zip")) as packed:
        packed.extractall(target)


@pytest.mark.parametrize("how", [_rsync, _tar, _git, _zip])
def test_no_alarm_over_a_copy(how: Callable[[Path, Path], None], sealed: CaseSite, tmp_path: Path) -> None:
    how(sealed.root / "archive", tmp_path / "copy")
    done = look(sealed, archive=tmp_path / "copy")
    assert found(done) == set()
    assert found(done, "unchecked") == {"witness-none", "copy-only"}
    assert done.records == 3


def test_no_alarm_over_other_times(sealed: CaseSite) -> None:
    for path in (sealed.root / "archive").rglob("*"):
        os.utime(path, (0, 0))
    assert found(look(sealed)) == set()


def test_signature_of_another_record(sealed: CaseSite) -> None:
    """Signatures swapped between two records."""
    one, other = (
        path / "tagmanifest-sha256.txt.sig" for path in sorted((sealed.root / "archive/records").glob("*/*/*"))[:2]
    )
    first, second = one.read_bytes(), other.read_bytes()
    assert signing.parse(first).namespace == "sop-record"
    one.write_bytes(second)
    other.write_bytes(first)
    assert "signature" in found(look(sealed))
