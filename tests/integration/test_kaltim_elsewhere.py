# SPDX-License-Identifier: Apache-2.0
"""An SOP that plans by capacity (Kaltim): restores to another place and in place, as far as the plan has to do with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.agencies import Story
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.long

Json = dict[str, Any]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A Kaltim site whose queue was backed up; nothing was lost."""
    folder = tmp_path_factory.mktemp("kaltim-elsewhere")
    made = Story(folder, SiteBuilder(folder, profile="kaltim"))
    backup = forwarded(made, "backup")
    made.site.run("case", "plan", backup, as_="pengelola")
    made.site.run("case", "execute", backup, as_="pengelola")
    made.site.run("case", "confirm", backup, "--approve", as_="pemeriksa")
    return made


def forwarded(story: Story, operation: str, *more: str) -> str:
    """A case whose plan is due."""
    case = story.request(operation, "antrean", specification=story.specification("antrean"), more=more)
    story.site.run("case", "decide", case, "--approve", "--reason", "lengkap", as_="administrator")
    story.site.run("case", "dispose", case, as_="pengawas")
    return case


def plan_of(story: Story, case: str) -> Json:
    """Body of the newest plan."""
    body: Json = json.loads(sorted(story.folder(case).glob("*-plan.json"))[-1].read_text(encoding="utf-8"))["body"]
    return body


def test_a_place_that_is_taken_is_told_by_the_plan(story: Story) -> None:
    taken = story.data / "ada.db"
    taken.write_text("milik orang lain", encoding="utf-8")
    case = forwarded(story, "restore", "--to", str(taken))
    done = story.site.run("case", "plan", case, as_="pengelola", check=False)
    assert done.returncode == 10, done.stderr
    assert f"antrean: {taken} on srv01 exists already; ask for another place, or move it away" in done.stderr
    done = story.site.run("case", "plan", case, "--in-place", as_="pengelola", check=False)
    assert done.returncode == 2, done.stderr
    assert "this restore touches no live data" in done.stderr


def test_to_another_place_planned_executed_sent_back_and_executed_again(story: Story) -> None:
    copy, live = story.data / "salinan.db", story.contents()
    case = forwarded(story, "restore", "--to", str(copy))
    story.site.run("case", "plan", case, as_="pengelola")
    body = plan_of(story, case)
    (row,) = body["capacity"]
    assert (row["stage_path"], row["predicted_downtime_s"]) == (str(story.data), None)
    assert "in_place" not in body
    assert body["targets"][0]["place"] == str(copy)
    assert "data yang berjalan tidak ada" not in body["risk"]
    done = json.loads(story.site.run("case", "execute", case, "--json", as_="pengelola").stdout)
    assert (done["result"], done["changed"], done["exit"]) == ("berhasil", 1, 0)
    page = (Path(done["record"]) / "data/perencanaan.html").read_text(encoding="utf-8")
    assert "ke lokasi lain: data yang berjalan dan layanannya tidak disentuh" in page
    before = copy.stat().st_mtime_ns
    story.site.run("case", "confirm", case, "--reject", "--reason", "periksa lagi", as_="pemeriksa")
    again = json.loads(story.site.run("case", "execute", case, "--json", as_="pengelola").stdout)
    assert (again["result"], again["changed"], again["exit"]) == ("berhasil", 0, 0)
    assert copy.stat().st_mtime_ns == before
    assert story.contents() == live
    story.site.run("case", "confirm", case, "--approve", as_="pemeriksa")
    story.site.run("record", "verify")


def test_in_place_is_the_planner_s_to_choose_and_is_said_everywhere(story: Story) -> None:
    case = forwarded(story, "restore")
    story.site.run("case", "plan", case, "--in-place", as_="pengelola")
    body = plan_of(story, case)
    (row,), (target,) = body["capacity"], body["targets"]
    assert body["in_place"] is True and target["in_place"] is True
    assert row["predicted_downtime_s"] == row["predicted_s"] > 0
    assert row["basis"].startswith("di tempat, layanan mati selama back up pengaman (")
    assert "antrean: dipulihkan di tempat; selama layanan mati data lama hanya ada di vault" in body["risk"]
    shown = story.folder(case).parent.parent.parent / "permintaan.html"
    story.site.run("case", "print", case, "--to", shown)
    text = shown.read_text(encoding="utf-8")
    assert "menimpa data yang berjalan di tempat" in text
    assert f"back up pengaman di vault, periode {case.lower()}-safety" in text


def test_in_place_by_request(story: Story) -> None:
    case = story.request("restore", "antrean", specification=story.specification("antrean"), more=("--in-place",))
    done = story.site.run("case", "decide", case, "--approve", "--reason", "lengkap", as_="administrator")
    assert "in place: the old data does not stay on srv01" in done.stderr
    story.site.run("case", "dispose", case, as_="pengawas")
    story.site.run("case", "plan", case, as_="pengelola")
    assert plan_of(story, case)["in_place"] is True, "what was asked for and approved"


def test_a_backup_replaces_nothing(story: Story) -> None:
    case = forwarded(story, "backup")
    done = story.site.run("case", "plan", case, "--in-place", as_="pengelola", check=False)
    assert done.returncode == 2, done.stderr
    assert "a backup replaces nothing" in done.stderr
    asked = story.ask("backup", "antrean", specification=story.specification("antrean"), more=("--in-place",))
    assert asked.returncode == 2
    assert "a backup has no target" in asked.stderr
