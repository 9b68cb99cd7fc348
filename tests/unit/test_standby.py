# SPDX-License-Identifier: Apache-2.0
"""The sopctl that stands by for tests is the one that a shell would start: what it says, how it ends, what it has open."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.site_builder import OWN
from tests.support.standby import fits, standby

ENV = {"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"], "HOME": "/nonexistent"}


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--help"], ["case", "--help"], [], ["nope"], ["-C", "/nonexistent", "schedule", "status"], ["doctor"],
     ["--json", "-C", "/nonexistent", "vault", "list"], ["case", "show", "\u00e9"]],
    ids=" ".join,
)  # fmt: skip
def test_it_says_and_ends_as_a_started_one(words: list[str], tmp_path: Path) -> None:
    env = {**ENV, "SOPCTL_SITE": str(tmp_path / "none")}
    started = subprocess.run(
        [OWN, *words], env=env, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    stood_by = standby().run([OWN, *words], env, tmp_path, 60)
    assert (stood_by.returncode, stood_by.stdout, stood_by.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def test_each_has_its_own_environment_and_folder(tmp_path: Path) -> None:
    """Many at once, so that what one is asked cannot be answered by another."""

    def ask(number: int) -> str:
        where = tmp_path / str(number)
        where.mkdir()
        return standby().run([OWN, "schedule", "status"], {**ENV, "SOPCTL_SITE": str(where / "x")}, where, 60).stderr

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(ask, range(12)))
    assert all(f"{tmp_path}/{number}/x" in each for number, each in enumerate(said))


def test_one_that_hangs_is_killed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        standby().run([OWN, "demo", str(tmp_path / "demo")], ENV, tmp_path, 0.05)


def test_another_locale_or_python_setting_needs_a_new_interpreter() -> None:
    assert fits(ENV)
    assert not fits({**ENV, "LC_ALL": "C"})
    assert not fits({name: value for name, value in ENV.items() if name != "LC_ALL"})
    assert not fits({**ENV, "PYTHONUTF8": "1"})
