# SPDX-License-Identifier: Apache-2.0
"""The Kaltim SOP with its shipped profile, from request to closing, on this machine. Numbers are DOMAIN §5's."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.support.agencies import Story, files_of, started
from tests.support.site_builder import SiteBuilder

BOTH = ["arsip", "antrean"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A Kaltim site with a folder and an SQLite database; nothing was asked for yet."""
    folder = tmp_path_factory.mktemp("kaltim")
    site = SiteBuilder(folder, profile="kaltim")
    # DOMAIN 9: pemeriksa's role also for somebody who operates, and a second operator
    site.person("merangkap", ["pengelola", "pemeriksa"], "Pranata Komputer", sign=False)
    site.person("pengelola-2", ["pengelola"], "Pranata Komputer", sign=False)
    site.sign_trust()
    return Story(folder, site)


def approved(story: Story, operation: str, datasets: Sequence[str] = BOTH) -> str:
    """Request with its specification list, decision, disposition and plan; the id of the case."""
    site = story.site
    case = story.request(operation, *datasets, specification=story.specification(*datasets))
    site.run("case", "decide", case, "--approve", "--reason", "kapasitas ada", as_="administrator")
    site.run("case", "dispose", case, as_="pengawas")
    site.run("case", "plan", case, "--on-duty", "pengelola", "--on-duty", "pemeriksa", as_="pengelola")
    return case


def cases(story: Story) -> set[str]:
    """Every case there is."""
    return {path.name for path in (story.site.root / "cases").glob("*/*")}


def test_3_request_without_specification_list_is_refused_and_named(story: Story) -> None:
    before = cases(story)
    done = story.ask("backup", "arsip")
    assert done.returncode == 10, done.stderr
    assert "the specification of arsip (server, application, data, size)" in done.stderr
    half = story.specification("arsip", size="")
    done = story.ask("backup", "arsip", specification=half)
    assert done.returncode == 10, done.stderr
    assert "the specification of arsip (size)" in done.stderr
    done = story.ask("backup", *BOTH, specification=story.specification("arsip"))
    assert done.returncode == 10, done.stderr
    assert "the specification of antrean (" in done.stderr
    assert "specification of arsip" not in done.stderr
    assert cases(story) == before


def test_1_rejected_is_told_and_closed(story: Story) -> None:
    site = story.site
    case = story.request("backup", "arsip", specification=story.specification("arsip"))
    site.run("case", "decide", case, "--reject", "--reason", "server akan diganti", as_="administrator")
    done = site.run("case", "execute", case, as_="pengelola", check=False)
    assert done.returncode == 10, done.stderr
    assert "Due is step k2r: inform, by administrator" in done.stderr
    told = site.run_json("case", "inform", case, as_="administrator")
    assert told["outcome"] == "ditolak"
    assert told["due"] is None
    assert started(site, case) == []
    inform = json.loads((story.folder(case) / "03-inform.json").read_text())
    assert inform["body"] == {"status": "ditolak", "text": "server akan diganti", "to": "pemohon"}
    done = site.run("case", "dispose", case, as_="pengawas", check=False)
    assert done.returncode == 10


def test_backup_and_restore_from_request_to_closing(story: Story) -> None:
    site = story.site
    backup = approved(story, "backup")
    site.run("case", "execute", backup, as_="pengelola")
    closed = site.run_json("case", "confirm", backup, "--approve", as_="pemeriksa")
    assert closed["outcome"] == "selesai"

    was = story.contents()
    story.destroy()
    assert story.contents() != was
    case = approved(story, "restore")
    assert [path.name[3:-5] for path in sorted(story.folder(case).glob("*.json"))] == ["request", "decide", "dispose", "plan"]  # fmt: skip
    done = json.loads(site.run("case", "execute", case, "--json", as_="pengelola").stdout)
    assert done["result"] == "berhasil"
    assert done["changed"] > 0
    assert story.contents() == was

    # 9: who operated does not confirm, whatever role they hold
    refused = site.run("case", "confirm", case, "--approve", as_="pengelola", check=False)
    assert refused.returncode == 10

    # sent back: executed again, which changes nothing, then confirmed
    back = site.run_json("case", "confirm", case, "--reject", "--reason", "lampirkan daftar", as_="pemeriksa")
    assert back["due"] == "execute"
    again = json.loads(site.run("case", "execute", case, "--json", as_="pengelola").stdout)
    assert (again["exit"], again["changed"], again["result"]) == (0, 0, "berhasil"), again
    assert story.contents() == was
    assert len(started(site, case)) == 2
    closed = site.run_json("case", "confirm", case, "--approve", as_="pemeriksa")
    assert closed["outcome"] == "selesai"
    done2 = site.run("case", "execute", case, as_="pengelola", check=False)
    assert done2.returncode == 10
    site.run("record", "verify")
    forms = story.forms(case)
    for words in ("Laporan", "065.2/517/Diskominfo", "perencanaan"):
        assert any(words in text for text in forms.values()), (words, sorted(forms))
    assert not any("Trenggalek" in text for text in forms.values())


def test_9_same_person_operates_and_confirms(story: Story) -> None:
    site = story.site
    case = approved(story, "backup", ["arsip"])
    site.run("case", "execute", case, as_="merangkap")
    before = files_of(story.folder(case))
    done = site.run("case", "confirm", case, "--approve", as_="merangkap", check=False)
    assert done.returncode == 10, done.stderr
    assert "merangkap acts as pengelola and as pemeriksa; the SOP needs two persons" in done.stderr
    assert files_of(story.folder(case)) == before
    site.run("case", "confirm", case, "--approve", as_="pemeriksa")


def test_9_second_account_with_the_same_nip(story: Story) -> None:
    """One human has one entry: a second one with the NIP is refused before it can be signed."""
    site = story.site
    key = site.make_key("akun-lain")
    site.run("trust", "add", "merangkap", "--role", "pengelola", "--nip", "19800101 200501 1 001")
    done = site.run("trust", "add", "akun-lain", "--role", "pemeriksa", "--jabatan", "Staf", "--key", f"{key}.pub", "--nip",
                    "198001012005011001", check=False)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "one NIP under two persons" in done.stderr
    site.sign_trust()
