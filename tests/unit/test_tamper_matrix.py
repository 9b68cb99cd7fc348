# SPDX-License-Identifier: Apache-2.0
"""The tamper matrix: an archive of 200 records (in `make test` 32) made by the real sealing code, and every class of change to it. Each is found and
names the record and the file; the archive is put back after each, and nothing is found in it then."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sopctl import archive, audit, cli, sealing
from sopctl.findings import Finding
from tests.support.case_site import CaseSite, at_home
from tests.support.thin import stride

pytestmark = pytest.mark.part(1)  # and fewer places in each
RECORDS = 29 if stride(2) > 1 else 197  # of maintenance; those of the base site and of its case are 3 more
PLACES = 150  # bytes altered of each file


@pytest.fixture(scope="module")
def filled(base_site: CaseSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseSite]:
    with at_home(base_site.builder):
        site = base_site.copy(tmp_path_factory.mktemp("matrix") / "site")
        assert (
            cli.run(["-C", str(site.root), "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon"]) == 0
        )
        session = site.session
        signer = session.signer("pelaksana", None)
        for number in range(RECORDS):
            files = {"evidence.json": f'[{{"number": {number}}}]'.encode()}
            sealing.seal_maintenance(session, f"VLT-2026-{number:04d}", files, signer, "vault check")
        yield site


def look(site: CaseSite) -> list[Finding]:
    session = site.session
    session.reading = True
    done = audit.verify_all(session, site.root / "archive")
    return [finding for finding in done.findings if finding.severity == "broken"]


def record(site: CaseSite, name: str = "") -> Path:
    return next((site.root / "archive/records").glob(f"*/*/{name or site.case + '-C'}"))


@contextmanager
def put_back(path: Path, beside: Path) -> Iterator[None]:
    """``path`` (a folder) is as it was afterwards."""
    shutil.copytree(path, beside, symlinks=True)
    try:
        yield
    finally:
        shutil.rmtree(path)
        beside.rename(path)


def test_nothing_is_found_in_it(filled: CaseSite) -> None:
    assert look(filled) == []
    assert len(archive.list_records(filled.root / "archive")) == RECORDS + 3


def test_every_class_of_byte_of_every_kind_of_file(filled: CaseSite) -> None:
    """First, last, and a spread of bytes between, each with another bit: found, and the file named."""
    session = filled.session
    session.reading = True
    bag = record(filled)
    missed, done, dice = [], 0, random.Random(20261129)  # noqa: S311  # the same places each time; nothing is secret
    for path in sorted(one for one in bag.rglob("*") if one.is_file()):
        data = path.read_bytes()
        name = str(path.relative_to(bag))
        spread = sorted({0, len(data) - 1, *(dice.randrange(len(data)) for _ in range(PLACES // stride(10)))})
        for at in spread:
            path.write_bytes(data[:at] + bytes([data[at] ^ (1 << (at % 8))]) + data[at + 1 :])
            findings, _ = audit.verify(session, filled.root / "archive", [bag.name])
            named = [one for one in findings if one.severity == "broken" and (one.record, one.file) == (bag.name, name)]
            done += 1
            if not named:
                missed.append((name, at, [str(one) for one in findings]))
        path.write_bytes(data)
    assert missed == []
    assert done > 2000 // stride(10)
    assert look(filled) == []


def test_a_profile_that_is_not_whole_any_more_ends_no_audit(filled: CaseSite) -> None:
    """Seen: a name changed at one of its two places, and the audit of all records ended there."""
    path = record(filled) / "data/profile.yml"
    data = path.read_bytes()
    session = filled.session
    session.reading = True
    path.write_bytes(data.replace(b"f_permintaan_restore", b"f_permintain_restore", 1))
    try:
        findings, looked = audit.verify(session, filled.root / "archive", [])
    finally:
        path.write_bytes(data)
    assert looked > RECORDS
    assert {one.rule for one in findings if one.file == "data/profile.yml"} >= {"profile-unknown"}


def test_every_line_of_the_ledger(filled: CaseSite) -> None:
    """One digit of one digest in each line; the last one too, which no other line follows but a checkpoint saw."""
    path = filled.ledger.path
    data = path.read_bytes()
    lines = data.split(b"\n")[:-1]
    missed = []
    for number, line in enumerate(lines):
        at = line.index(b"sha256:") + 7
        other = line[:at] + (b"0" if line[at : at + 1] != b"0" else b"1") + line[at + 1 :]
        path.write_bytes(b"".join(one + b"\n" for one in [*lines[:number], other, *lines[number + 1 :]]))
        session = filled.session
        try:
            found = {one.rule for one in filled.ledger.verify()}
            if not found and number == len(lines) - 1:
                session.reading = True
                found = {one.rule for one in look(filled)}
        finally:
            path.write_bytes(data)
        if not found:
            missed.append(number + 1)
    assert missed == []


def _extra(bag: Path) -> None:
    (bag / "data/tambahan.txt").write_text("x")


def _extra_tag(bag: Path) -> None:
    (bag / "catatan.txt").write_text("x")


def _removed(bag: Path) -> None:
    (bag / "data/profile.yml").unlink()


def _renamed(bag: Path) -> None:
    (bag / "data/form.html").rename(bag / "data/formulir.html")


def _without_tagmanifest(bag: Path) -> None:
    (bag / "tagmanifest-sha256.txt").unlink()


def _fetch(bag: Path) -> None:
    (bag / "fetch.txt").write_text("https://example.org/form.html 1 data/form.html\n")


def _link(bag: Path) -> None:
    (bag / "data/form.html").rename(bag.parent.parent / "form.html")
    (bag / "data/form.html").symlink_to(bag.parent.parent / "form.html")


def _hard(bag: Path) -> None:
    """A file of another record in its place."""
    other = next(bag.parent.glob("VLT-*-0001"))
    shutil.copy(other / "data/versions.json", bag / "data/case.json")


def _swapped(bag: Path) -> None:
    """The whole bag of another record under this one's name."""
    other = next(bag.parent.glob("VLT-*-0001"))
    shutil.rmtree(bag)
    shutil.copytree(other, bag)


def _gone(bag: Path) -> None:
    shutil.rmtree(bag)


def _trust(bag: Path) -> None:
    (bag / "data/trust/trust.yml").write_bytes((bag / "data/trust/trust.yml").read_bytes() + b"\n")


def _empty_folder(bag: Path) -> None:
    (bag / "data/kosong").mkdir()


SHAPES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "file added": (_extra, "file-extra", "data/tambahan.txt"),
    "tag file added": (_extra_tag, "file-extra", "catatan.txt"),
    "file removed": (_removed, "file-missing", "data/profile.yml"),
    "file renamed": (_renamed, "file-missing", "data/form.html"),
    "without tagmanifest": (_without_tagmanifest, "manifest-missing", "tagmanifest-sha256.txt"),
    "fetch.txt": (_fetch, "fetch", "fetch.txt"),
    "link in place of a file": (_link, "link", "data/form.html"),
    "file of another record": (_hard, "file-altered", "data/case.json"),
    "bag of another record": (_swapped, "bag-info", "bag-info.txt"),
    "record removed": (_gone, "record-missing", ""),
    "trust replaced": (_trust, "file-altered", "data/trust/trust.yml"),
    "empty folder": (_empty_folder, "directory-extra", "data/kosong"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shape_of_a_record(name: str, filled: CaseSite, tmp_path: Path) -> None:
    spoil, rule, file = SHAPES[name]
    bag = record(filled)
    with put_back(filled.root / "archive", tmp_path / "whole"):
        spoil(bag)
        found = look(filled)
        assert (bag.name, file, rule) in {(one.record, one.file, one.rule) for one in found}, found
    assert look(filled) == []


@pytest.mark.parametrize("last", [1, 5])
def test_last_records_removed_and_the_ledger_cut_to_match(last: int, filled: CaseSite, tmp_path: Path) -> None:
    """The checkpoints saw the lines; with those removed too nothing but a witness can (tests/integration/test_witnesses.py)."""
    with put_back(filled.root / "archive", tmp_path / "whole"):
        lines = filled.ledger.path.read_bytes().split(b"\n")[:-1]
        for number in range(RECORDS - last, RECORDS):
            shutil.rmtree(record(filled, f"VLT-2026-{number:04d}"))
        filled.ledger.path.write_bytes(b"".join(line + b"\n" for line in lines[:-last]))
        found = {one.rule for one in look(filled)}
        assert found == {"ledger-cut"}
        shutil.rmtree(filled.root / "archive/checkpoints")
        assert look(filled) == []
