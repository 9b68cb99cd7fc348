# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference/profile.schema.json, and the tables of keys in docs/reference/profile.md.

    python -m tests.tools.profile_schema

tests/unit/test_profiles_shipped.py fails while either differs from what this would write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sopctl.profile import FIELDS, RESERVED
from sopctl.profile_schema import MEANING, json_schema

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"
SCHEMA, PAGE = REFERENCE / "profile.schema.json", REFERENCE / "profile.md"
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def schema_text() -> str:
    """The schema's file."""
    return json.dumps(json_schema(), ensure_ascii=False, indent=2) + "\n"


def page_text(current: str) -> str:
    """``current`` with its generated parts made anew."""
    definitions = json_schema()["$defs"]
    return _PART.sub(lambda match: match.group(1) + _part(match.group(2), definitions) + match.group(3), current)


def _part(name: str, definitions: dict[str, Any]) -> str:
    if name == "FIELDS":
        return _table(("word", "what the request must say"), [(f"`{word}`", text) for word, text in FIELDS.items()])
    if name == "RESERVED":
        return _table(("role", "printed as"), [(f"`{role}`", title) for role, title in RESERVED.items()])
    required = definitions[name].get("required", [])
    rows = [(f"`{key}`", "yes" if key in required else "", text) for key, text in MEANING[name].items()]
    return _table(("key", "needed", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Write both."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(page_text(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
