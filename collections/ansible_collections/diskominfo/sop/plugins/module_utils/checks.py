# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""A dataset's own checks: questions whose answers show that a restored copy makes sense to the application."""

from __future__ import annotations

import re
from collections.abc import Callable

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError

#: seconds that one question may take
LIMIT_S = 300
#: what psql and mariadb take as a command of their own, or as the end of the statement
_UNSAFE = re.compile(r"[\\;\x00-\x1f\x7f]")
#: answers that tell nothing of anybody
_TELLING = re.compile(r"-?\d{1,18}(\.\d{1,9})?|t|f|true|false|", re.ASCII)


def results(dataset: Json, ask: Callable[[str], str]) -> list[Json]:
    """Each check of ``dataset`` as {"name", "ok", "why"?}. ``ask`` gives a query's first value as text, empty for none.

    An answer that is not as expected stands in ``why`` only when it is a number or a truth value: records hold no rows.
    """
    found: list[Json] = []
    for check in dataset.get("checks") or []:
        name, query, expected = str(check["name"]), str(check["query"]), str(check["expect"])
        if _UNSAFE.search(query):
            raise SopError(
                f"{dataset['id']}: check {name!r} holds a backslash, a semicolon or a line's end; report this"
            )
        try:
            answer = ask(query)
        except SopError as error:
            found.append({"name": name, "ok": False, "why": f"cannot be answered ({error})"})
            continue
        if answer == expected:
            found.append({"name": name, "ok": True})
        else:
            said = answer if _TELLING.fullmatch(answer) else "something else"
            found.append({"name": name, "ok": False, "why": f"{said or 'nothing'} instead of {expected}"})
    return found


def failures(content: Json) -> list[str]:
    """What is wrong by the checks of a scratch copy's content, in words."""
    return [f"check '{one['name']}': {one['why']}" for one in content.get("checks") or [] if not one["ok"]]
