# SPDX-License-Identifier: Apache-2.0
"""Module verify_dataset: what its proof leaves behind is told, and nobody else's is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.module_process import run_module
from tests.integration.sop_fixtures import dataset_for, vault_at


@pytest.fixture
def backup(tmp_path: Path) -> dict[str, Any]:
    """Arguments that verify a backup of a folder."""
    (live := tmp_path / "berkas").mkdir()
    (live / "a").write_text("isi")
    common = {
        "case": "BKP-2026-0001",
        "dataset": dataset_for(live, tmp_path / "state", "files"),
        "vault": vault_at(tmp_path),
    }
    run_module("vault_repository", common, "vault_repository")
    made = run_module("backup_dataset", {**common, "period": "2026-11", "name": "n"}, "backup")["sop_evidence"]
    return {**common, **{key: made[key] for key in ("snapshot", "manifest_snapshot")}}


def verified_beside(args: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the proof says while a process works in a scratch folder of that dataset's name in ``folder``."""
    name = args["dataset"]["id"]
    with subprocess.Popen(["sh", "-c", "echo on; cat", f"{folder}/scratch-{name}.x/t"], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None and other.stdout.readline() == b"on\n"
        done = run_module("verify_dataset", args, "verify")
        other.kill()
    return done


def test_another_site_s_dataset_of_the_same_name_is_proven_beside(backup: dict[str, Any]) -> None:
    assert verified_beside(backup, Path("/srv/lain/state"))["sop_evidence"]["ok"] is True


def test_a_process_that_the_proof_left_is_told(backup: dict[str, Any], tmp_path: Path) -> None:
    done = verified_beside(backup, tmp_path / "state")
    assert done["failed"] is True
    assert "the proof left process " in done["msg"] and "remove it there" in done["msg"]
