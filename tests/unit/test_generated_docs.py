# SPDX-License-Identifier: Apache-2.0
"""Role READMEs say what the argument specs say, and the specs say what the defaults are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import role_docs

ROLES = pytest.mark.parametrize("role", role_docs.roles(), ids=lambda role: role.name)


@ROLES
def test_readme_is_generated(role: Path) -> None:
    path = role / "README.md"
    current = path.read_text(encoding="utf-8") if path.exists() else ""
    assert current == role_docs.render(role), f"{path} is out of date; run: python -m tests.tools.role_docs"


@ROLES
def test_specs_and_defaults_name_the_same_variables(role: Path) -> None:
    options = role_docs.read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = role_docs.read(role / "defaults/main.yml")
    optional = {name for name, option in options.items() if not option.get("required")}
    assert optional == set(defaults)
    assert all(name.startswith(f"{role.name}_") for name in options)
    for name, option in options.items():
        if "default" in option:
            assert option["default"] == defaults[name], f"{name}: the spec's default is not the role's"
        else:
            assert option.get("required") or "{{" in str(defaults[name]), f"{name}: the spec lacks the default"
