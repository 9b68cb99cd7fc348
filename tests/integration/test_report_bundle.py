# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.report.bundle: what `audit export` packs verifies with sha256sum and bagit.py, and by hand as the page in it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sopctl import cli
from tests.support import report_site
from tests.support.case_site import CaseSite, at_home, build

PAGE = Path(__file__).parents[2] / "docs/reference/verify-by-hand.md"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseSite]:
    """A site with the year 2025 behind it, and a case withdrawn and sealed, with a checkpoint, this year."""
    base = build(tmp_path_factory.mktemp("base"))
    with at_home(base.builder):
        report_site.year(base)
        words = ["-C", str(base.root), "case", "withdraw", base.case, "--reason", "salah", "--as", "pemohon"]
        assert cli.run(words) == 0
        yield base


@pytest.fixture(scope="module")
def packed(old: CaseSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of 2025; the root's line lies beside it."""
    out = tmp_path_factory.mktemp("auditor") / "bukti"
    assert export(old, out, "2025") == 0
    shutil.copy(f"{old.builder.root_key}.allowed", out.parent / "root")
    return out


@pytest.fixture
def bundle(packed: Path, tmp_path: Path) -> Path:
    shutil.copy(packed.parent / "root", tmp_path / "root")
    return Path(shutil.copytree(packed, tmp_path / "bukti"))


def export(site: CaseSite, out: Path, period: str, *words: str) -> int:
    return cli.run(["-C", str(site.root), "audit", "export", str(out), "--period", period, *words])


def by_hand(bundle: Path) -> str:
    """What the commands of the page in the bundle say: the first in its folder, the others in its archive."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (bundle / "data/verify-by-hand.md").read_text("utf-8"), re.M | re.S)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "ROOT": str(bundle.parent / "root")}
    said = ""
    # up to the ledger; the witness and the authorities are of tests/integration/test_verify_by_hand.py
    for block in blocks[:6]:
        folder = bundle if block is blocks[0] else bundle / "data/archive"
        done = subprocess.run(
            ["sh", "-c", block], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120
        )
        said += done.stdout + done.stderr
    return said


def test_it_verifies_by_hand(bundle: Path) -> None:
    said = by_hand(bundle)
    assert "the bundle is whole" in said and "BROKEN" not in said, said
    assert "3 records of other periods are not in this copy" in said
    assert re.search(r"(\d+) lines, the last checkpoint saw \1$", said, re.M)
    assert (bundle / "data/verify-by-hand.md").read_bytes() == PAGE.read_bytes()


def test_what_is_in_it(packed: Path, old: CaseSite) -> None:
    data = packed / "data"
    records = {path.name for path in (data / "archive/records").glob("*/*/*")}
    assert records == {f"BKP-2025-{number:04d}-01" for number in range(1, 8)}
    assert (data / "archive/ledger.jsonl").read_bytes() == old.ledger.path.read_bytes()
    assert (data / "archive/left-out.txt").read_text().split() == [
        "BKP-2020-0001-01",
        "BKP-2020-0002-01",
        f"{old.case}-C",
    ]
    assert not (data / "cases").exists(), "nothing of a case was received then"
    assert "tidak dapat diperiksa" in (data / "report/records.html").read_text(encoding="utf-8")
    assert {path.name for path in (data / "archive/trusts/1").iterdir()} == {
        "trust.yml",
        "trust.yml.sig",
        "allowed_signers",
    }
    assert json.loads((data / "findings.json").read_bytes())["verified"] is True
    assert "SHA256:" in (data / "README.txt").read_text(encoding="utf-8")


def test_cases_come_with_their_documents_and_letters_only_when_asked_for(old: CaseSite, tmp_path: Path) -> None:
    year = old.case.split("-")[1]
    assert export(old, tmp_path / "a", year) == 0
    assert export(old, tmp_path / "b", year, "--attachments", "--lang", "en", "--no-verify") == 0
    place = f"data/cases/{year}/{old.case}"
    documents = {path.name for path in old.folder.glob("*.json*")}
    assert {path.name for path in (tmp_path / "a" / place).iterdir()} == documents
    assert (tmp_path / "b" / place / "attachments/surat.txt").read_bytes() == (
        old.folder / "attachments/surat.txt"
    ).read_bytes()
    assert "NOT CHECKED" in (tmp_path / "b/data/report/index.html").read_text(encoding="utf-8")


def test_the_digest_is_told(old: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(old, tmp_path / "a", "2025-06", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    done = subprocess.run(
        ["sha256sum", tmp_path / "a/tagmanifest-sha256.txt"], capture_output=True, text=True, check=True
    )
    assert said["tagmanifest"] == f"sha256:{done.stdout[:64]}"
    assert (said["records"], said["left_out"]) == (2, 8)


SPOILT = {
    "archive/records/2025/01/BKP-2025-0001-01/data/evidence.json": "BROKEN BKP-2025-0001-01: bytes",
    "archive/ledger.jsonl": "BROKEN at ",
    "archive/trusts/1/trust.yml": "BROKEN trusts/1/trust.yml",
}


def test_what_was_spoilt_is_found(bundle: Path) -> None:
    """A byte of a record, of the ledger and of a trust; and a record that was taken out."""
    for name in SPOILT:
        path = bundle / "data" / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    shutil.rmtree(bundle / "data/archive/records/2025/02")
    said = by_hand(bundle)
    assert "the bundle is whole" not in said
    for expected in (*SPOILT.values(), "BROKEN BKP-2025-0002-01: the record is gone"):
        assert expected in said


@pytest.mark.parametrize("name", ["report/index.html", "README.txt", "../bag-info.txt", "added"])
def test_one_byte_is_found_by_its_manifests(name: str, bundle: Path) -> None:
    path = bundle / "data" / name
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"x")
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    env = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-c", blocks[0]], cwd=bundle, env=env, capture_output=True, text=True, check=False)
    assert "the bundle is whole" not in done.stdout


def test_a_record_gone_from_the_archive_is_not_excused(old: CaseSite, tmp_path: Path) -> None:
    site = old.copy(tmp_path / "site")
    shutil.rmtree(site.root / "archive/records/2025/02")
    shutil.copy(f"{old.builder.root_key}.allowed", tmp_path / "root")
    assert export(site, tmp_path / "bukti", "2025") == 30
    assert "BROKEN BKP-2025-0002-01: the record is gone" in by_hand(tmp_path / "bukti")


def test_a_link_is_not_packed(old: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = old.copy(tmp_path / "site")
    place = site.root / "archive/records/2025/02/BKP-2025-0002-01/data/rahasia"
    place.symlink_to("/etc/passwd")
    assert export(site, tmp_path / "bukti", "2025") == 2
    assert "cannot be packed" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]


def test_a_bundle_is_never_replaced(bundle: Path, old: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(old, bundle, "2025") == 2
    assert "not empty" in capsys.readouterr().err
    assert (bundle / "data/verify-by-hand.md").is_file()


def test_a_period_is_needed(old: CaseSite, tmp_path: Path) -> None:
    assert cli.run(["-C", str(old.root), "audit", "export", str(tmp_path / "a")]) == 2
    assert export(old, tmp_path / "a", "kemarin") == 2
    assert not list(tmp_path.iterdir())
