# SPDX-License-Identifier: Apache-2.0
"""A run that is killed loses nothing of what it did: the next command that holds its case seals it, once, and says so."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from sopctl import archive, broken_runs
from sopctl.session import Session
from sopctl.site import Site
from tests.e2e.checks import wait_until
from tests.e2e.running import Running
from tests.support.agencies import Story
from tests.support.case_site import at_home
from tests.support.site_builder import SiteBuilder


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A site of this machine whose schedule has one dataset."""
    made = Story(tmp_path, SiteBuilder(tmp_path))
    made.site.schedule("arsip")
    yield made


def killed(story: Story) -> str:
    """A scheduled run, killed when Ansible has begun to tell; returns its id."""
    runs = story.site.root / ".state/runs"
    running = Running(story.site.start("schedule", "run", "--due", "--json", as_="pelaksana"))
    running.until("Stream the dump")
    assert list(runs.glob("*/events.jsonl.zst"))
    running.kill()
    [left] = runs.iterdir()
    return left.name.rpartition("-")[0]


def findings(site: SiteBuilder) -> set[str]:
    done = json.loads(site.run("audit", "verify", "--json", check=False).stdout)
    return {finding["rule"] for finding in done["findings"]} - {"witness-none"}


def test_the_next_run_seals_what_a_killed_one_left(story: Story) -> None:
    site = story.site
    run = killed(story)
    assert "run-unrecorded" in findings(site)
    assert f"{run}-" in site.run("doctor", check=False).stdout
    assert wait_until(lambda: site.run("schedule", "run", "--due", as_="pelaksana", check=False).returncode == 0, 90)
    record = next((site.root / "archive/records").glob(f"*/*/{run}R"))
    said = json.loads((record / "data/broken.json").read_bytes())
    assert (said["run"], said["case"]) == (run, run[:13])
    with (record / "data/run/events.jsonl.zst").open("rb") as packed:
        stream = zstandard.ZstdDecompressor().stream_reader(packed)
        told = [json.loads(line) for line in io.TextIOWrapper(stream, encoding="utf-8")]
    assert told[0]["event"] == "playbook_on_start"
    assert any("Stream the dump" in json.dumps(event) for event in told), "all that was told before it was killed"
    assert list((site.root / ".state/runs").iterdir()) == []
    assert findings(site) <= {"checkpoint-tail"}
    assert "broke off before" not in site.run("doctor", check=False).stdout
    assert len(list((site.root / "archive/records").glob(f"*/*/{run[:13]}-*"))) == 2


def test_said_once_and_taken_over_where_it_was_half_sealed(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed again while it is sealed: before the bag, before the ledger's line, before the folder is gone."""
    run = killed(story)
    said: list[str] = []
    with at_home(story.site):
        for spoilt in ("write_bag", "append", "rmtree"):
            with monkeypatch.context() as patch:
                where = {
                    "write_bag": archive,
                    "append": type(session(story, said).ledger),
                    "rmtree": shutil,
                }
                patch.setattr(where[spoilt], spoilt, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    seal(story, run, said)
        seal(story, run, said)
        seal(story, run, said)
    assert len(list((story.site.root / "archive/records").glob(f"*/*/{run}R"))) == 1
    assert len([line for line in session(story, said).ledger.lines() if line.ref == f"{run}R"]) == 1
    assert list((story.site.root / "archive/.incoming").glob("*")) == []
    assert f"{run} had been broken off; what it left is record {run}R" in said


def session(story: Story, said: list[str]) -> Session:
    return Session(Site(story.site.root), said.append)


def seal(story: Story, run: str, said: list[str]) -> None:
    now = session(story, said)
    broken_runs.seal(now, run[:13], now.signer("pelaksana", None))
