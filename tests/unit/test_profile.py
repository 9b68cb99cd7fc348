# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.profile: the SOP as data, and what a wrong one says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sopctl import fsio
from sopctl.errors import ConfigError
from sopctl.profile import LoadedProfile, load_profile, paper_title, shipped

TRENGGALEK = shipped()["trenggalek"]


@pytest.fixture(scope="module")
def loaded() -> LoadedProfile:
    return load_profile(TRENGGALEK)


def test_shipped_by_both_names() -> None:
    assert shipped()["trenggalek"] == shipped()["trenggalek-060-017-2023"]
    for path in set(shipped().values()):
        assert load_profile(path).profile.id == path.stem


def test_reference_binds_the_bytes(loaded: LoadedProfile) -> None:
    assert loaded.reference == f"trenggalek-060-017-2023@{fsio.sha256_bytes(TRENGGALEK.read_bytes())}"


def test_one_execution_over_several_rows(loaded: LoadedProfile) -> None:
    """The SOP's rows 4, 5 and 6 are one execution; what follows it is not part of it."""
    flow = loaded.profile.flow("restore")
    assert [step.id for step in flow.group(flow.step("r4"))] == ["r4", "r5", "r6a"]
    assert flow.start_of(flow.step("r6a")).id == "r4"
    assert [step.id for step in flow.group(flow.step("r2"))] == ["r2"]
    assert flow.start_of(flow.step("r6b")).id == "r6b"


def test_flows(loaded: LoadedProfile) -> None:
    profile = loaded.profile
    assert (profile.flow_for("restore"), profile.flow_for("backup"), profile.schedule_flow()) == (
        "restore",
        "backup",
        "backup",
    )
    assert profile.schedule_signers() == ["kabid"]
    assert (profile.flow("restore").operation(), profile.flow("backup").operation()) == ("restore", "backup")
    with pytest.raises(ConfigError, match="has no flow 'hapus'") as caught:
        profile.flow("hapus")
    assert "restore, backup" in caught.value.hint
    with pytest.raises(ConfigError, match="no flow for migrate"):
        profile.flow_for("migrate")


def test_what_we_read_in_is_marked(loaded: LoadedProfile) -> None:
    assert paper_title(loaded.profile, "disposisi") == "Disposisi [tafsiran]"
    assert paper_title(loaded.profile, "jadwal") == "Jadwal Back Up"


@pytest.mark.parametrize(
    ("old", "new", "problem", "key"),
    [
        ("schema: sop-profile/v1", "schema: sop-profile/v9", "schema 'sop-profile/v9' is unknown", "schema"),
        ("{id: r2,", "{id: r1,", "two steps have one id", "flows.restore.steps"),
        ("approve: r4", "approve: r44", "names step 'r44', which does not exist", "flows.restore.r3"),
        ("reject: r6b", "reject: r9", "names step 'r9', which does not exist", "flows.restore.r3"),
        (
            "gate: {decide: kabid, approve: r4",
            "gate: {decide: bupati, approve: r4",
            "names role 'bupati'",
            "restore.r3",
        ),
        ("by: [kadis]", "by: [bupati]", "names role 'bupati', which does not exist", "flows.restore.r2"),
        ("informs: [pemohon]", "informs: [warga]", "names role 'warga'", "flows.restore.r6b"),
        ("needs: [jadwal]", "needs: [kalender]", "names paper 'kalender', which does not exist", "flows.backup.b1"),
        ("out: [disposisi]", "out: [disposal]", "names paper 'disposal'", "flows.restore.r2"),
        (
            "run: {any: [archive]}, end: closed}\n  backup",
            "run: {any: [archive]}}\n  backup",
            "no step that ends",
            "restore",
        ),
        ("act: dispose", "act: dispos", "Invalid enum value 'dispos'", "flows"),
        ("sla: P1D}\n      - {id: r2", "sla: 1 hari}\n      - {id: r2", "is not a duration", "flows.restore.r1"),
        ("by: [pemohon], out: [surat", "oleh: [pemohon], out: [surat", "unknown key 'oleh'", ":"),
        ("differ: [pelaksana, kabid]", "differ: [pelaksana, kabag]", "names role 'kabag'", "sod"),
        ("id: trenggalek-060-017-2023", "id: trenggalek-lain", "differs from the file's name", "id"),
    ],
)
def test_wrong_profile_says_where(old: str, new: str, problem: str, key: str, tmp_path: Path) -> None:
    text = TRENGGALEK.read_text(encoding="utf-8")
    assert text.count(old) >= 1, old
    path = tmp_path / TRENGGALEK.name
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_profile(path)
    assert problem in caught.value.message
    assert str(path) in caught.value.where
    assert key in caught.value.where
