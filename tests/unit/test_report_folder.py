# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.report.folder by `audit report` and `audit export`: whole or not at all, and never over anything else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from sopctl import cli
from sopctl.report import folder
from tests.support.case_site import CaseSite


def run(site: CaseSite, *words: str | Path) -> int:
    return cli.run(["-C", str(site.root), "audit", *(str(word) for word in words)])


def test_a_former_report_is_replaced_whole(site: CaseSite, tmp_path: Path) -> None:
    out = tmp_path / "r"
    out.mkdir()
    assert run(site, "report", out, "--no-verify") == 0
    (out / "csv/cases.csv").write_text("edited", encoding="utf-8")
    assert run(site, "report", out, "--no-verify", "--lang", "en") == 0
    assert "edited" not in (out / "csv/cases.csv").read_text(encoding="utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"r", "site"}, "nothing is left beside it"


def _file(out: Path) -> None:
    out.write_text("x", encoding="utf-8")


def _others(out: Path) -> None:
    out.mkdir()
    (out / "index.html").write_text("mine", encoding="utf-8")


def _added(out: Path) -> None:
    out.mkdir()
    folder.fill(out, {"index.html": b"x"})
    (out / "notes.txt").write_text("mine", encoding="utf-8")


def _forged(out: Path) -> None:
    out.mkdir()
    (out / "report.json").write_text('{"schema": "other", "files": []}', encoding="utf-8")


def _linked(out: Path) -> None:
    (out.parent / "real").mkdir()
    out.symlink_to(out.parent / "real")


def _dangling(out: Path) -> None:
    out.symlink_to(out.parent / "nowhere")


def _linked_inside(out: Path) -> None:
    out.mkdir()
    folder.fill(out, {"index.html": b"x"})
    (out / "index.html").unlink()
    (out / "index.html").symlink_to("/etc/hostname")


@pytest.mark.parametrize("there", [_file, _others, _added, _forged, _linked, _dangling, _linked_inside])
@pytest.mark.parametrize("command", ["report", "export"])
def test_nothing_else_is_overwritten(
    there: Any, command: str, site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r"
    there(out)
    before = sorted((str(path), path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*"))
    assert run(site, command, out, "--no-verify", "--period", "2025") == 2
    assert str(out) in capsys.readouterr().err
    assert before == sorted((str(path), path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("place", ["archive/laporan", "cases/laporan", "trust", ".", "register/servers/x", ".."])
def test_not_among_the_evidence(place: str, site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(site, "report", site.root / place, "--no-verify") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_parent(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(site, "report", tmp_path / "a/b", "--no-verify") == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_a_full_disk_leaves_what_was_there(site: CaseSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "r"
    assert run(site, "report", out, "--no-verify") == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "x")

    monkeypatch.setattr(folder, "fill", full)
    assert run(site, "report", out, "--no-verify") == 2
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path.name for path in tmp_path.iterdir()} == {"r", "site"}


def test_no_archive(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(site.root / "archive")
    assert run(site, "report", tmp_path / "r", "--no-verify") == 2
    assert "Traceback" not in capsys.readouterr().err
