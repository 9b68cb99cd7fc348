"""restore_dataset state cleaned as a real process: what it drops, and what it refuses to."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.switch import Switch

from tests.integration.module_process import grant_for, run_module
from tests.integration.test_restore_dataset import CASE, Json, Restore, failed

#: a site of this test run: a host knows switches by case and site
SITE = str(uuid.uuid4())


pytestmark = pytest.mark.part(2)


def granted(name: str, args: Json, operation: str, check: bool = False) -> Json:
    """Run a module with the grant of this site; a check needs none."""
    grant = {} if check else {"grant": {**grant_for(operation, args), "site": SITE}}
    return run_module(name, {**args, **grant}, None, check)


class Restored:
    """A dataset that was restored: its old data is kept."""

    def __init__(self, folder: Path, engine: str = "sqlite") -> None:
        self.restore = Restore(folder, engine)
        self.bad = self.restore.content()
        for state in ("staged", "swapped", "finalised"):
            if state == "swapped":
                self.quiesce()
            done = self.to(state)
            assert not done.get("failed"), done
        kept = done["sop_evidence"]["kept"]
        self.before = Path(f"{self.restore.path}__before_rst20260001")
        self.shadow = Path(f"{self.restore.path}__shadow_rst20260001")
        self.state = folder / "state"
        assert self.before.exists()
        assert (kept["copy"], kept["name"]) == ("before", str(self.before))
        assert kept["bytes"] >= 4096

    def to(self, state: str, check: bool = False, **more: Any) -> Json:
        args = {**self.restore.args, **more, "state": state}
        return granted("restore_dataset", args, f"restore.{state}", check)

    def quiesce(self) -> None:
        args = {"case": CASE, "dataset": self.restore.dataset, "state": "quiesced", "timeout": 2}
        granted("quiesce", args, "quiesce.quiesced")

    def clean(self, copy: str = "before", check: bool = False, **more: Any) -> Json:
        name = str(self.before if copy == "before" else self.shadow)
        kept = more.pop("kept", [{"copy": copy, "name": name}])
        return self.to("cleaned", check, kept=kept, **more)


@pytest.fixture(autouse=True, scope="module")
def _no_switch_stays() -> Iterator[None]:
    yield
    shutil.rmtree(Switch(CASE, SITE).folder, ignore_errors=True)


@pytest.fixture
def restored(tmp_path: Path) -> Restored:
    return Restored(tmp_path)


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Restored:
    """One for all refusals: what was refused has changed nothing."""
    return Restored(tmp_path_factory.mktemp("safe"))


def test_dropped_once_and_the_live_data_stays(restored: Restored) -> None:
    would = restored.clean(check=True)
    assert would["changed"]
    assert restored.before.exists()
    done = restored.clean()
    assert done["changed"]
    [gone] = done["sop_evidence"]["dropped"]
    assert (gone["name"], gone["copy"]) == (str(restored.before), "before")
    assert gone["bytes"] >= 4096
    assert done["sop_evidence"]["kind"] == "clean"
    assert not restored.before.exists()
    assert restored.restore.content() == restored.restore.good
    assert restored.restore.names() == {"antrean.db"}
    for check in (True, False):
        again = restored.clean(check=check)
        assert not again["changed"]
        assert again["sop_evidence"]["dropped"] == []


def test_a_folder_is_dropped_whole(tmp_path: Path) -> None:
    restored = Restored(tmp_path, "files")
    done = restored.clean()
    assert [copy["name"] for copy in done["sop_evidence"]["dropped"]] == [str(restored.before)]
    assert restored.restore.content() == restored.restore.good
    assert restored.restore.names() == {"berkas"}


def test_what_was_taken_back_is_dropped_the_same_way(restored: Restored) -> None:
    restored.quiesce()
    reverted = restored.to("reverted")
    assert reverted["changed"]
    assert (reverted["sop_evidence"]["kept"]["name"], reverted["sop_evidence"]["kept"]["bytes"] >= 4096) == (
        str(restored.shadow),
        True,
    )
    assert restored.shadow.exists()
    done = restored.clean("shadow")
    assert [copy["name"] for copy in done["sop_evidence"]["dropped"]] == [str(restored.shadow)]
    assert done["sop_evidence"]["dropped"][0]["bytes"] >= 4096
    assert not restored.shadow.exists()
    assert restored.restore.content() == restored.bad


@pytest.mark.parametrize(
    "kept",
    [
        [],
        [{"copy": "shadow", "name": "{before}"}],
        [{"copy": "before", "name": "{live}"}],
        [{"copy": "before", "name": "{before}x"}],
    ],
)
def test_what_nobody_ordered_stays(safe: Restored, kept: list[Json]) -> None:
    names = {"before": str(safe.before), "live": str(safe.restore.path)}
    ordered = [{**one, "name": one["name"].format(**names)} for one in kept]
    failed(safe.clean(kept=ordered), "which nobody ordered to be dropped")
    assert safe.before.exists()


def test_old_data_is_not_dropped_where_the_record_says_it_came_back(safe: Restored) -> None:
    """The order names the staged copy; on the host the restored data is live, so what lies there is the old data."""
    failed(safe.clean("shadow"), "which nobody ordered to be dropped")
    assert safe.before.exists()


def test_what_came_of_another_restore_stays(safe: Restored) -> None:
    """Two sites may give two restores of one dataset the same number."""
    failed(safe.clean(snapshot="f" * 64), "came of another restore")
    assert safe.before.exists()


def test_what_this_host_forgot_stays(safe: Restored) -> None:
    [journal] = safe.state.glob("staged-*.json")
    was = journal.rename(journal.with_suffix(".away"))
    failed(safe.clean(), "a restore that this host forgot")
    was.rename(journal)
    assert safe.before.exists()


def test_the_only_data_there_is_stays(safe: Restored) -> None:
    was = safe.restore.path.rename(f"{safe.restore.path}.away")
    failed(safe.clean(), "may be all there is")
    was.rename(safe.restore.path)
    assert safe.before.exists()


@pytest.mark.parametrize("phase", ["armed", "ready", "committed", "aborted", "in_place"])
def test_while_the_dead_man_s_switch_is_armed_it_stays(safe: Restored, phase: str) -> None:
    switch = Switch(CASE, SITE)
    journal = {"deadline": time.time() + 600, "datasets": [], "services": []}
    try:
        switch.enter(phase, **journal)
        done = safe.clean()
    finally:
        shutil.rmtree(switch.folder)
    failed(done, f"the dead man's switch of {CASE} is {phase} here")
    assert safe.before.exists()


def test_no_grant_no_drop(safe: Restored) -> None:
    args = {**safe.restore.args, "state": "cleaned", "kept": [{"copy": "before", "name": str(safe.before)}]}
    failed(run_module("restore_dataset", args, None), "refused: no grant for restore.cleaned")
    failed(run_module("restore_dataset", args, "restore.staged"), "refused: the grant's operation")
    assert safe.before.exists()


def test_what_a_killed_run_was_dropping_is_dropped(tmp_path: Path) -> None:
    restored = Restored(tmp_path, "files")
    gone = Path(f"{restored.restore.path}__gone_rst20260001")
    restored.before.rename(gone)  # what its name becomes before the first file is removed
    result = restored.clean()
    assert not result["changed"], result
    assert not gone.exists()
    assert restored.restore.content() == restored.restore.good
