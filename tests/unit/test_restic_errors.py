# SPDX-License-Identifier: Apache-2.0
"""What the admin host makes of restic's words: a vault's place may hold any number and any word."""

from __future__ import annotations

from pathlib import Path

import pytest

from sopctl.errors import ConfigError
from sopctl.restic import Restic


@pytest.mark.parametrize("name", ["401", "403", "500", "507", "connection", "timeout", "certificate"])
def test_a_folder_s_name_is_no_cause(tmp_path: Path, name: str) -> None:
    place = tmp_path / name / "srv01"
    restic = Restic({"repository": str(place), "password": "x", "ca_pem": None}, "srv01", tmp_path)
    with pytest.raises(ConfigError, match="restic snapshots") as told:
        restic.run("snapshots")
    assert "Nothing is there as seen from this machine" in str(told.value.hint)
