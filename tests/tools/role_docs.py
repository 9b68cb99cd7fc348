# SPDX-License-Identifier: Apache-2.0
"""Write each role's README.md from its meta/argument_specs.yml and defaults/main.yml.

    python -m tests.tools.role_docs

tests/unit/test_generated_docs.py fails while a README differs from what this would write.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "collections/ansible_collections/diskominfo/sop/roles"
GATED = "The role is run by `sopctl`; each changing task asks its gate and is refused without it."
FOOT = {
    "enrol": "Run it with `ansible-playbook diskominfo.sop.enrol -i inventory -e enrol_keys_file=trust/run.pub`.",
    "vault_server": "Run it with `ansible-playbook diskominfo.sop.vault_server -i inventory -e vault_server_hosts=vault01 "
    "-e @vault-users.yml`.",
}


def roles() -> list[Path]:
    """The collection's roles."""
    return sorted(path for path in ROLES.iterdir() if path.is_dir())


def read(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def sentences(text: str | list[str]) -> list[str]:
    """A description as a list of paragraphs, in Markdown."""
    return [
        re.sub(r"\b[CVOM]\(([^)]*)\)", r"`\1`", part).strip() for part in ([text] if isinstance(text, str) else text)
    ]


def render(role: Path) -> str:
    """The README of a role."""
    spec = read(role / "meta/argument_specs.yml")["argument_specs"]["main"]
    defaults = read(role / "defaults/main.yml")
    lines = ["<!-- Made by tests/tools/role_docs.py from meta/argument_specs.yml; do not edit. -->", ""]
    lines += [f"# {role.name}", "", f"{spec['short_description']}.", ""]
    lines += [f"- {part}" for part in sentences(spec["description"])]
    lines += ["", "## Variables", "", "| name | type | default | meaning |", "|---|---|---|---|"]
    for name, option in spec["options"].items():
        kind = f"{option['type']} of {option['elements']}" if "elements" in option else option["type"]
        meaning = " ".join(sentences(option["description"]))
        if "choices" in option:
            meaning += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
        default = f"`{defaults[name]}`".replace("|", "\\|") if name in defaults else "required"
        lines.append(f"| `{name}` | {kind} | {default} | {meaning} |")
    lines += ["", FOOT.get(role.name, GATED), ""]
    return "\n".join(lines)


def main() -> None:
    """Write every README that differs."""
    for role in roles():
        path, text = role / "README.md", render(role)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
