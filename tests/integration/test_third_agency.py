# SPDX-License-Identifier: Apache-2.0
"""A third agency's SOP that is written in this test alone: its own roles, papers, order, rules. No line of sopctl knows it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.agencies import THIRD, THIRD_PEOPLE, Story, started
from tests.support.site_builder import SiteBuilder

BOTH = ["arsip", "antrean"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A site under that SOP; ``antrean`` is rahasia, so only the sekretaris may approve for it."""
    folder = tmp_path_factory.mktemp("contoh")
    path = folder / "kota-contoh-2025.yml"
    path.write_text(THIRD, encoding="utf-8")
    site = SiteBuilder(folder, profile=path, people=THIRD_PEOPLE)
    site.run("profile", "check", path, site=False)
    site.person("juru-data-2", ["juru-data"], "Pranata Komputer", sign=False)
    site.edit("trust/trust.yml", "break_glass: false", "break_glass: true")
    site.sign_trust()
    made = Story(folder, site)
    made.site.dataset("antrean", engine="sqlite", server="srv01", path=str(made.data / "antrean.db"), classification="rahasia")  # fmt: skip
    return made


def tell(site: SiteBuilder, case: str) -> Any:
    """The end of every case: the requester is informed and acknowledges it."""
    site.run("case", "inform", case, as_="penerima")
    return site.run_json("case", "receive", case, as_="pengaju")


def test_no_line_of_sopctl_knows_this_agency() -> None:
    root = Path(__file__).resolve().parents[2]
    words = ("kota-contoh", "juru-data", "penilik", "risalah", "rancangan")
    files = [path for folder in ("sopctl", "collections") for path in (root / folder).rglob("*") if path.is_file()]
    said = [path for path in files if path.suffix in {".py", ".yml", ".j2"} and any(word in path.read_text("utf-8").lower() for word in words)]  # fmt: skip
    assert [path.name for path in said] == []


def test_must_have_is_named(story: Story) -> None:
    done = story.ask("backup", "arsip", as_="pengaju")
    assert done.returncode == 10, done.stderr
    assert "the deadline" in done.stderr
    assert "whom to reach" in done.stderr
    assert not list((story.site.root / "cases").glob("*/*"))


def test_backup_then_restore_in_another_order(story: Story) -> None:
    site = story.site
    more = ("--contact", "0355-123", "--deadline", "2026-12-01")
    case = story.request("backup", *BOTH, as_="pengaju", more=more)
    site.run("case", "dispose", case, as_="penerima")
    # authority by class of data: the gate's own decider may not approve for secret data
    done = site.run("case", "decide", case, "--approve", "--reason", "boleh", as_="kepala-seksi", check=False)
    assert done.returncode == 10, done.stderr
    assert "antrean is rahasia: sekretaris may approve it, kepala-seksi may not" in done.stderr
    site.run("case", "decide", case, "--approve", "--reason", "boleh", as_="sekretaris")
    site.run("case", "plan", case, "--risk", "tidak ada", as_="juru-data")
    made = json.loads(site.run("case", "execute", case, "--json", as_="juru-data").stdout)
    assert made["result"] == "berhasil"
    site.run("case", "confirm", case, "--approve", as_="penilik")
    assert tell(site, case)["outcome"] == "selesai"

    was = story.contents()
    story.destroy()
    assert story.contents() != was
    case = story.request("restore", *BOTH, as_="pengaju", more=more)
    done = site.run("case", "decide", case, "--approve", "--reason", "boleh", as_="sekretaris", check=False)
    assert done.returncode == 10, "this SOP plans before it decides"
    site.run("case", "plan", case, as_="juru-data")
    site.run("case", "decide", case, "--approve", "--reason", "boleh", as_="sekretaris")
    done = site.run("case", "execute", case, as_="juru-data", check=False)
    assert "Due is step 4: dispose, by penerima" in done.stderr
    site.run("case", "dispose", case, as_="penerima")
    made = json.loads(site.run("case", "execute", case, "--json", as_="juru-data").stdout)
    assert made["result"] == "berhasil"
    assert story.contents() == was
    back = site.run_json("case", "confirm", case, "--reject", "--reason", "ulangi", as_="penilik")
    assert back["due"] == "execute"
    again = json.loads(site.run("case", "execute", case, "--json", as_="juru-data").stdout)
    assert (again["exit"], again["changed"]) == (0, 0), again
    assert story.contents() == was
    site.run("case", "confirm", case, "--approve", as_="penilik")
    assert tell(site, case)["outcome"] == "selesai"
    site.run("record", "verify")
    _forms(story, case)


def _forms(story: Story, case: str) -> None:
    """The papers speak this agency's words and nobody else's."""
    forms = story.forms(case)
    assert forms
    everything = "\n".join(forms.values())
    for words in ("UPTD Pengolahan Data Elektronik Kota Contoh", "12/SOP/UPTD-PDE/2025", "Risalah Pekerjaan Data", "Pranata Komputer"):  # fmt: skip
        assert words in everything, words
    for words in ("Trenggalek", "Kaltim", "Kabid", "Formulir Pelaksanaan Restore Data"):
        found = [(name, words) for name, text in forms.items() if words.lower() in text.lower()]
        assert found == []


def test_rejected(story: Story) -> None:
    site = story.site
    case = story.request("backup", "arsip", as_="pengaju", more=("--contact", "0355-123", "--deadline", "2026-12-01"))
    site.run("case", "dispose", case, as_="penerima")
    site.run("case", "decide", case, "--reject", "--reason", "belum perlu", as_="kepala-seksi")
    assert tell(site, case)["outcome"] == "ditolak"
    assert started(site, case) == []


def test_emergency_goes_before_approval_and_stays_flagged(story: Story) -> None:
    site = story.site
    case = story.request("backup", "arsip", as_="pengaju", more=("--contact", "0355-123", "--deadline", "2026-12-01"))
    site.run("case", "emergency", case, "--reason", "listrik padam", as_="juru-data")
    done = site.run("case", "execute", case, as_="juru-data", check=False)
    assert done.returncode == 10, "one signature opens nothing"
    site.run("case", "emergency", case, "--reason", "listrik padam", as_="juru-data-2")
    made = json.loads(site.run("case", "execute", case, "--json", as_="juru-data-2").stdout)
    assert made["result"] == "berhasil"
    site.run("case", "confirm", case, "--approve", as_="penilik")
    assert tell(site, case)["due"] == "ratify"
    closed = site.run_json("case", "ratify", case, "--approve", "--reason", "tepat", as_="kepala-seksi")
    assert (closed["outcome"], closed["due"], closed["emergency"]) == ("selesai", None, "ratified")
    site.run("record", "verify")
