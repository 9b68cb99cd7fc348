# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/reference/verify-by-hand.md, run as printed on a copy of an archive, with a real witness's copy beside it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sopctl import cli
from tests.support.case_site import CaseSite, at_home, build
from tests.support.timestamp_authority import Authority, Ca, name_authorities, serving, tokens_of
from tests.support.witness_host import name_witnesses, witness_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes an account for the witness: root only")
PAGE = Path(__file__).parents[2] / "docs/reference/verify-by-hand.md"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an auditor has: ``archive``, the root's line, the witness's key and its folder."""
    place = tmp_path_factory.mktemp("auditor")
    built: CaseSite = build(tmp_path_factory.mktemp("base"))
    ca = Ca(tmp_path_factory.mktemp("ca"))
    with at_home(built.builder):
        site = built.copy(tmp_path_factory.mktemp("by-hand") / "site")
        with witness_host(site) as host, serving(Authority(ca, ca.issue("penanda"))) as authority:
            name_authorities(site, authority)
            name_witnesses(site, [host.entry])
            words = ["-C", str(site.root), "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon"]
            assert cli.run(words) == 0
            assert len(tokens_of(site)) == 2
            assert cli.run(["-C", str(site.root), "audit", "checkpoint", "--as", "pelaksana"]) == 0
            shutil.copytree(host.folder, place / "kept")
            (place / "witness").write_text(f"kabag {host.entry['keys'][0]}\n", encoding="ascii")
    shutil.copytree(site.root / "archive", place / "archive")
    shutil.copy(f"{built.builder.root_key}.allowed", place / "root")
    return place


def run(place: Path) -> str:
    """What the page's commands say, standard error too."""
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 8
    env = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ROOT": str(place / "root"),
        "WITNESS": str(place / "witness"),
        "KEPT": str(place / "kept"),
    }
    done = subprocess.run(
        ["sh", "-c", "\n".join(blocks[1:])],
        cwd=place / "archive",
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    # the base site's two backups were sealed without a trust, by its builder: nothing real is
    return re.sub(r"BROKEN BKP-2020-000[12]-01: signature\n", "", done.stdout) + done.stderr


def test_whole_archive(given: Path) -> None:
    said = run(given)
    assert "BROKEN" not in said
    assert re.search(r"(\d+) lines, the last checkpoint saw \1$", said, re.M), said


def _byte(name: str) -> Callable[[Path], None]:
    def spoil(archive: Path) -> None:
        path = next(archive.glob(name))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    return spoil


def _extra(archive: Path) -> None:
    (next(archive.glob("records/*/*/RST-*")) / "data/tambahan.txt").write_text("x")


def _extra_tag(archive: Path) -> None:
    (next(archive.glob("records/*/*/RST-*")) / "catatan.txt").write_text("x")


def _swapped(archive: Path) -> None:
    """Each time stamp under the other's name."""
    one, other = next(archive.glob("timestamps/records/*.tsr")), next(archive.glob("timestamps/checkpoints/*.tsr"))
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def _unstamped(archive: Path) -> None:
    next(archive.glob("timestamps/records/*.tsr")).unlink()


def _gone(archive: Path) -> None:
    shutil.rmtree(next(archive.glob("records/*/*/RST-*")))


def _cut(archive: Path) -> None:
    path = archive / "ledger.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in path.read_bytes().split(b"\n")[:-2]))


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "form": (_byte("records/*/*/RST-*/data/form.html"), "bytes"),
    "tag manifest": (_byte("records/*/*/RST-*/tagmanifest-sha256.txt"), "not what the ledger received"),
    "signature": (_byte("records/*/*/RST-*/tagmanifest-sha256.txt.sig"), "-C: signature"),
    "trust": (_byte("records/*/*/RST-*/data/trust/trust.yml"), "was never in force"),
    "ledger": (_byte("ledger.jsonl"), "BROKEN at"),
    "checkpoint": (_byte("checkpoints/????????.txt"), "BROKEN checkpoints"),
    "witness's word": (_byte("checkpoints/????????.kabag.txt"), "BROKEN checkpoints"),
    "time stamp": (_byte("timestamps/records/*.tsr"), "by nobody whom a trust named"),
    "time stamps swapped": (_swapped, "-C.tsa1.tsr: not of records/"),
    "time stamp gone": (_unstamped, "-C.tsa1.tsr: not what the ledger received"),
    "its authority": (_byte("timestamps/authorities/*.json"), "no trust in these records names it"),
    "file added": (_extra, "files added or gone"),
    "tag file added": (_extra_tag, "files added or gone"),
    "record gone": (_gone, "the record is gone"),
    "ledger cut": (_cut, "BROKEN the witness saw other lines"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_was_altered_is_found(name: str, given: Path, tmp_path: Path) -> None:
    spoil, said = SPOILT[name]
    shutil.copytree(given, tmp_path / "copy")
    spoil(tmp_path / "copy/archive")
    assert said in run(tmp_path / "copy")
