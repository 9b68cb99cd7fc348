# SPDX-License-Identifier: Apache-2.0
"""A whole restore on this machine whose Kabid signs PDFs: the check of the month's backup and the decision on paper, the operator's
run with a key, the sealed records, sopctl's audit of it, and the page's commands for who has no sopctl."""

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

from tests.support.agencies import Story
from tests.support.official_ca import Holder, OfficialCa, other_text, serving, sign
from tests.support.site_builder import SiteBuilder

PAGE = Path(__file__).parents[2] / "docs/reference/verify-by-hand.md"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfficialCa]:
    with serving(OfficialCa(tmp_path_factory.mktemp("ca"))) as found:
        yield found


def on_paper(story: Story, case: str, holder: Holder, *words: str) -> dict[str, object]:
    """Printed, signed by the official with their tool, and attached by an operator, whose key seals the case if it is closed."""
    paper, signed = story.site.folder / "kertas.pdf", story.site.folder / "kertas-ttd.pdf"
    story.site.run("case", "print", case, "--to", paper, *words)
    signed.write_bytes(sign(paper.read_bytes(), holder))
    done: dict[str, object] = json.loads(
        story.site.run("case", "attach", case, signed, "--json", as_="pelaksana").stdout
    )
    return done


@pytest.fixture(scope="module")
def closed(ca: OfficialCa, tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, str]:
    """A restore from request to closing; the kabid signs nothing but paper."""
    folder = tmp_path_factory.mktemp("kertas")
    site = SiteBuilder(folder)
    kabid = ca.issue("Kepala Bidang Aptika")
    site.run("trust", "anchor", ca.anchor)
    site.run("trust", "certificate", "kabid", kabid.pem)
    site.sign_trust()
    story = Story(folder, site)
    site.schedule("arsip")
    site.run("schedule", "run", "--due", as_="pelaksana")
    backup = next((site.root / "cases").glob("*/BKP-*")).name
    assert on_paper(story, backup, kabid, "--approve", "--reason", "formulir sesuai")["outcome"] == "selesai"
    was = story.contents()
    (story.data / "arsip/surat/1.txt").unlink()
    case = site.requested("arsip")
    site.run("case", "dispose", case, as_="kadis")
    assert on_paper(story, case, kabid, "--approve", "--reason", "sesuai kewenangan")["due"] == "execute"
    ca.silent = True  # nobody needs the CA from here on, until something is signed again
    done = json.loads(site.run("case", "execute", case, "--json", as_="pelaksana").stdout)
    assert done["result"] == "berhasil"
    assert story.contents() == was
    site.run("case", "inform", case, as_="pelaksana")
    assert site.run_json("case", "receive", case, as_="pemohon")["outcome"] == "selesai"
    return story, case


def test_the_record_holds_it_and_the_audit_believes_it(closed: tuple[Story, str]) -> None:
    story, case = closed
    record = next(path for path in story.site.records if path.name == f"{case}-C")
    names = {path.name for path in (record / "data/case").iterdir()}
    assert {"03-decide.json", "03-decide.pdf"} <= names
    assert "03-decide.json.sig" not in names
    assert (record / "data/trust/anchors.pem").read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
    story.site.run("record", "verify", record.name)
    said = json.loads(story.site.run("audit", "verify", "--json", check=False).stdout)
    assert [one for one in said["findings"] if one["severity"] == "broken"] == []


def by_hand(archive: Path) -> str:
    """What the page's commands about signed papers say."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    block = next(one for one in blocks if "pyhanko sign validate" in one)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", block], cwd=archive, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr


def test_by_hand(closed: tuple[Story, str], tmp_path: Path) -> None:
    story, case = closed
    archive = tmp_path / "archive"
    shutil.copytree(story.site.root / "archive", archive)
    for other in archive.glob(f"records/*/*/*/data/case/0?-{'*'}.pdf"):
        if f"/{case}-C/" not in str(other):
            other.unlink()  # each program takes its time: one record's papers are enough
    said = by_hand(archive)
    assert "BROKEN" not in said, said
    paper = next(archive.glob(f"records/*/*/{case}-C/data/case/03-decide.pdf"))
    whole = paper.read_bytes()
    paper.write_bytes(other_text(whole))
    said = by_hand(archive)
    for what in ("not what the ledger received", "signature"):
        assert f"03-decide.pdf: {what}" in said
    told = subprocess.run(["pdfsig", "-nocert", paper], capture_output=True, text=True, check=False).stdout
    assert "Signature is Valid" in told  # why the page says that pdfsig is not enough
