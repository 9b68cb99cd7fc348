# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Compare two contents table by table."""

from __future__ import annotations

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json

#: how many mismatches evidence and messages name
NAMED = 10


def mismatches(expected: Json, found: Json) -> list[str]:
    """What differs, one line a table: missing, additional, rows, checksum (where both sides have one)."""
    wanted, have = expected.get("tables", {}), found.get("tables", {})
    named = [f"{name}: missing" for name in wanted if name not in have]
    named += [f"{name}: not in the backup" for name in have if name not in wanted]
    for name in (each for each in wanted if each in have):
        one, two = wanted[name], have[name]
        if one["rows"] != two["rows"]:
            named.append(f"{name}: {two['rows']} rows, expected {one['rows']}")
        elif one.get("checksum") and two.get("checksum") and one["checksum"] != two["checksum"]:
            named.append(f"{name}: same number of rows, other content")
    if len(named) > NAMED:
        named = [*named[:NAMED], f"and {len(named) - NAMED} more"]
    return named
