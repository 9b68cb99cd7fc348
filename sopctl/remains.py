# SPDX-License-Identifier: Apache-2.0
"""What remains of restores on servers, as it is shown: per case and per server, from evidence, without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sopctl import clock, kept
from sopctl.case import Case
from sopctl.errors import SopctlError
from sopctl.kept import Dropped, Holding, Kept
from sopctl.models import Json
from sopctl.session import Session


def kept_json(one: Kept, case: Case | None) -> Json:
    """One kept copy, and what is to be done about it (``next``); a case that cannot be read is not closed."""
    past = clock.now() >= one.until
    closed = case is not None and case.state.closed
    well = case is not None and closed and case.state.outcome == "selesai"
    if well:
        words = f"sopctl case clean {one.case} --as PERSON"
    elif case is not None and closed:
        words = f"the case ended {case.state.outcome}, so it stays"
    else:
        words = "and until the case is closed"
    return {
        "case": one.case, "dataset": one.dataset, "server": one.server, "host": one.host, "copy": one.copy,
        "name": one.name, "bytes": one.size, "emptied": one.emptied, "since": one.since, "until": one.until, "record": one.record,
        "past": past, "cleanable": past and well, "next": words,
    }  # fmt: skip


def dropped_json(one: Dropped) -> Json:
    """One copy that was dropped."""
    return {
        "case": one.case, "dataset": one.dataset, "host": one.host, "name": one.name, "bytes": one.size, "at": one.at,
        "by": one.by, "record": one.record,
    }  # fmt: skip


def of_case(session: Session, case: Case) -> Json:
    """``kept`` and ``cleaned`` of a case; ``unknown`` says why a record cannot be believed."""
    try:
        holding = kept.of_case(session.site, session.ledger.lines(), case.id, session.policy.keep_days)
    except SopctlError as error:
        return {"kept": [], "cleaned": [], "unknown": str(error)}
    return {
        "kept": [kept_json(one, case) for one in holding.kept],
        "cleaned": [dropped_json(one) for one in holding.dropped],
        "unknown": "",
    }


@dataclass(frozen=True)
class OnServer:
    """What one server keeps. ``size``: known bytes; ``unknown``: how many copies tell none."""

    server: str
    size: int
    unknown: int
    copies: list[Json]


def by_server(holdings: Mapping[str, Holding], cases: Mapping[str, Case]) -> list[OnServer]:
    """Every server that keeps something."""
    copies: dict[str, list[Json]] = {}
    for case, holding in holdings.items():
        for one in holding.kept:
            copies.setdefault(one.server, []).append(kept_json(one, cases.get(case)))
    return [
        OnServer(
            server,
            sum(one["bytes"] or 0 for one in listed),
            sum(1 for one in listed if one["bytes"] is None),
            listed,
        )
        for server, listed in sorted(copies.items())
    ]
