# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/reference/documents.md, with which an auditor checks a case without sopctl, run as printed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.site_builder import UNIT, SiteBuilder

PAGE = Path(__file__).parents[2] / "docs/reference/documents.md"
SPECIFICATION = """schema: sop-specification/v1
items:
  - {dataset: berkas, server: srv01, application: Kepegawaian, data: /srv/berkas, size: 1 MB}
"""


def blocks() -> list[str]:
    """The page's commands: for a case, for a site, for a record."""
    found = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(found) == 3
    return found


def run(commands: str, folder: Path, **words: str) -> str:
    """What the commands say, standard error included. ``words`` are put in for what the page has as an example."""
    for old, new in {"pemeriksa": "administrator", "RST-2026-0001": "BKP-2026-0001", **words}.items():
        commands = commands.replace(old, new)
    done = subprocess.run(["sh", "-c", commands], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout + done.stderr


def folder(site: SiteBuilder) -> Path:
    return site.root / "cases" / next((site.root / "cases").iterdir()).name / "BKP-2026-0001"


def record(site: SiteBuilder) -> Path:
    return site.records[-1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """A site with a rejected, closed and sealed case of four documents."""
    place = tmp_path_factory.mktemp("by-hand")
    made = SiteBuilder(place, profile="kaltim")
    made.server("srv01")
    made.dataset("berkas", engine="files", server="srv01", path=str(place))
    listed = place / "spek.yml"
    listed.write_text(SPECIFICATION, encoding="utf-8")
    asked = [
        "--dataset",
        "berkas",
        "--unit",
        UNIT,
        "--letter",
        str(made.letter()),
        "--letter-number",
        "1/2",
        "--reason",
        "x",
    ]
    made.run("case", "request", "backup", *asked, "--specification", listed, as_="pemohon")
    case = "BKP-2026-0001"
    made.run("case", "attach", case, made.letter(), "--note", "surat", as_="administrator")
    made.run("case", "decide", case, "--reject", "--reason", "tidak lengkap", as_="administrator")
    made.run("case", "inform", case, as_="administrator")
    return made


def changed(path: Path, say: Callable[[], str]) -> str:
    """What is said while one byte of ``path`` is another one."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a", b"b", 1))
    try:
        return say()
    finally:
        path.write_bytes(data)


def test_a_case(site: SiteBuilder) -> None:
    def say() -> str:
        return run(blocks()[0], folder(site))

    said = say()
    assert said.count('Good "sop-document" signature for ') == 4
    assert said.count(" follows") == 4
    assert "BROKEN" not in said
    received = re.findall(r"(sha256:[0-9a-f]{64} sha256:[0-9a-f]{64})", said)
    assert len(received) == 8
    assert received[::2] == received[1::2]
    said = changed(folder(site) / "02-attach.json", say)
    assert said.count("Good ") == 3
    assert "03-decide.json BROKEN" in said
    received = re.findall(r"(sha256:[0-9a-f]{64} sha256:[0-9a-f]{64})", said)
    assert received[2] != received[3]


def test_a_site(site: SiteBuilder) -> None:
    commands = "\n".join(line for line in blocks()[1].splitlines() if "schedule.yml" not in line)  # this SOP has none

    def say() -> str:
        return run(commands, site.root, **{"/etc/sopctl/root": f"{site.root_key}.allowed"})

    said = say()
    assert 'Good "sop-trust" signature for root' in said
    assert 'Good "sop-register" signature for pengurus' in said
    assert "BROKEN" not in said
    head = next(item["detail"] for item in site.run_json("doctor", check=False) if item["what"] == "ledger")
    assert f"head {head.removeprefix('head ')}" in said
    assert "BROKEN" in changed(site.root / "archive/ledger.jsonl", say)
    assert "Good" not in changed(site.root / "trust/trust.yml", say).splitlines()[0]


def test_a_record(site: SiteBuilder) -> None:
    def say() -> str:
        return run(blocks()[2], record(site))

    said = say()
    assert said.splitlines()[0] == "whole"
    assert 'Good "sop-record" signature for administrator' in said
    digests = re.findall(r"\b[0-9a-f]{64}\b", said)
    assert len(digests) == 2
    assert digests[0] == digests[1]
    assert "whole" not in changed(record(site) / "data/case.json", say)
