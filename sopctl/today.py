# SPDX-License-Identifier: Apache-2.0
"""What `sopctl` says when nothing is asked of it: what waits for me, what waits for others, and what is not as it should be."""

from __future__ import annotations

from sopctl import monitoring, overview
from sopctl.models import Json
from sopctl.monitoring import State
from sopctl.session import Session


def today(session: Session, person: str | None) -> Json:
    """``person`` (None: nobody said who), ``mine`` and ``others`` (rows of :func:`overview.waiting`, each with the ``command`` to type), and
    ``attention``: what is not as it should be, the worst first, as ``state`` and ``text``.
    """
    rows = [row | {"command": command(row, person)} for row in overview.waiting(session)]
    mine = [row for row in rows if person in row["people"]]
    return {
        "person": person,
        "mine": mine,
        "others": [row for row in rows if row not in mine],
        "attention": [
            {"state": state.name.lower(), "text": text}
            for state, text in monitoring.judge(monitoring.watch(session))
            if state != State.OK
        ],
    }


def command(row: Json, person: str | None) -> str | None:
    """What is typed to do the act that is due; None where there is none."""
    if row["act"] is None:
        return None
    if row["flow"] == "schedule" and row["act"] == "execute":
        return "sopctl schedule run --due"
    more = {"decide": " --approve|--reject --reason R", "confirm": " --approve|--reject --reason R"}
    return f"sopctl case {row['act']} {row['case']}{more.get(row['act'], '')} --as {person or 'PERSON'}"
