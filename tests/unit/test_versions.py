# SPDX-License-Identifier: Apache-2.0
"""One version everywhere, and one licence a tree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import sopctl

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "collections/ansible_collections/diskominfo/sop"
APACHE = "# SPDX-License-Identifier: Apache-2.0"
GPL = "# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)"


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    galaxy = yaml.safe_load((COLLECTION / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    changelog = yaml.safe_load((COLLECTION / "changelogs/changelog.yaml").read_text(encoding="utf-8"))["releases"]
    assert (sopctl.__version__, galaxy) == (project, project)
    assert project in changelog, f"changelogs/changelog.yaml does not speak of {project}"


def test_one_oldest_ansible() -> None:
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    oldest = next(match[1] for text in needed if (match := re.match(r"ansible-core>=([0-9.]+)", text)))
    runtime = yaml.safe_load((COLLECTION / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    assert runtime == f">={oldest}.0"
    for meta in sorted(COLLECTION.glob("roles/*/meta/main.yml")):
        assert yaml.safe_load(meta.read_text(encoding="utf-8"))["galaxy_info"]["min_ansible_version"] == oldest, meta


@pytest.mark.parametrize(
    ("folder", "line"), [(ROOT / "sopctl", APACHE), (COLLECTION, GPL)], ids=["sopctl", "collection"]
)
def test_licence_header(folder: Path, line: str) -> None:
    sources = sorted(folder.rglob("*.py"))
    lacking = [
        str(path.relative_to(ROOT)) for path in sources if line not in path.read_text(encoding="utf-8").splitlines()[:3]
    ]
    assert sources
    assert not lacking, f"the first three lines lack {line!r}"


def test_licence_texts_are_there() -> None:
    apache = (ROOT / "LICENSES/Apache-2.0.txt").read_text(encoding="utf-8")
    gpl = (COLLECTION / "LICENSES/GPL-3.0-or-later.txt").read_text(encoding="utf-8")
    assert "Apache License" in apache
    assert "GNU GENERAL PUBLIC LICENSE" in gpl
    assert (ROOT / "LICENSES/GPL-3.0-or-later.txt").read_text(encoding="utf-8") == gpl
