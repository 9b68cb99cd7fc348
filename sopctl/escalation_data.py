# SPDX-License-Identifier: Apache-2.0
"""What the 3 a.m. page says of a dataset: which data is where, by the last that its host said of it. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal

from sopctl.execution import Run
from sopctl.models import Json

State = Literal["untouched", "staged", "swapped", "committed", "reverted", "emptied", "unknown"]
#: what the dead man's switch does when it fires, by its phase (docs/adr/0008)
FIRES = {
    "armed": "brings the OLD data back and starts the services",
    "aborted": "brings the OLD data back and starts the services",
    "committed": "makes the NEW data whole and starts the services",
    "ready": "decides nothing: the services stay held until a person decides",
    "in_place": "decides nothing: the old data is in the safety backup in the vault only",
}
#: state → what is live, and what the kept copy is
DATA: dict[str, tuple[str, str]] = {
    "untouched": ("OLD data", ""),
    "staged": ("OLD data", "restored copy, never live"),
    "swapped": ("NEW data, not committed yet", "OLD data"),
    "committed": ("NEW data", "OLD data"),
    "reverted": ("OLD data", "restored copy, with what was written to it"),
    "emptied": ("EMPTY, or in part: given up for a restore in place", ""),
    "unknown": ("not known", ""),
}


@dataclass(frozen=True)
class DataPage:
    """One dataset. ``state`` is the last that its host said; ``doubt``: why that may not hold any more. ``given_up``: the old
    data lies in the vault only, where ``kept`` then says its name.
    """

    dataset: str
    engine: str
    state: State
    doubt: str
    live: str
    live_is: str
    kept: str
    kept_is: str
    given_up: bool
    look: list[str]


@dataclass(frozen=True)
class SwitchPage:
    """A host's dead man's switch. ``deadline``: when it fires (UTC), None when it does not."""

    phase: str
    deadline: str | None
    fired: bool
    does: str
    program: str


def data_page(run: Run, item: Json, own: list[Json], lost: str, switch: SwitchPage | None) -> DataPage:
    dataset = item["dataset"]
    state: State = "untouched"
    names: Json = {}
    failed = ""
    for entry in own:
        if entry.get("kind") != "switch" and entry.get("dataset") != dataset["id"]:
            continue
        if entry.get("failed"):
            failed = str(entry["kind"])
            continue
        before, state = state, _next(state, entry, dataset["id"])
        failed = "" if state != before else failed
        names |= {key: entry[key] for key in ("before", "shadow") if entry.get(key)}
    place = str(dataset.get("database") or dataset.get("path"))
    kept = {"swapped": "before", "committed": "before", "staged": "shadow", "reverted": "shadow"}.get(state, "")
    given_up = _given_up(item, own)
    if given_up and state in {"untouched", "staged"}:
        state, kept = "emptied", ""
    live_is, kept_is = DATA[state]
    where = str(names.get(kept) or _name(place, kept, run.plan["case"])) if kept else ""
    if given_up:
        where, kept_is = f"in the vault, {_safety(item, own)}", "OLD data"
    return DataPage(
        dataset=dataset["id"],
        engine=dataset["engine"],
        state=state,
        doubt=_doubt(lost, failed, switch),
        live=place,
        live_is=live_is,
        kept=where,
        kept_is=kept_is,
        given_up=given_up,
        look=_look(dataset, place),
    )


def _given_up(item: Json, own: list[Json]) -> bool:
    """Whether the live data made room for a restore in place, or may have begun to."""
    if not item.get("in_place"):
        return False
    return any(
        (entry["kind"] == "empty" and entry.get("dataset") == item["dataset"]["id"])
        or (entry["kind"] == "switch" and str(entry.get("phase")).replace("-", "_") == "in_place")
        for entry in own
    )


def _safety(item: Json, own: list[Json]) -> str:
    """Name of the safety backup: as it was stored in this run, else as it was planned."""
    stored = [entry for entry in own if entry["kind"] == "backup" and entry.get("dataset") == item["dataset"]["id"]]
    return str(
        (stored[-1] if stored else {}).get("name") or item.get("safety_name") or "its name stands in an earlier record"
    )


def _next(state: State, entry: Json, dataset: str) -> State:
    """The dataset's state after one piece of evidence."""
    kind, told = entry["kind"], str(entry.get("state"))
    if kind == "switch":
        told = str(((entry.get("datasets") or {}).get(dataset) or {}).get("state"))
        committed = entry.get("phase") == "committed" or (entry.get("outcome") or {}).get("data") == "new"
        found: State = "committed" if committed and told == "swapped" else state
        return found if told in {"", "None"} or found == "committed" else _known(told, state)
    if kind == "revert":
        return "reverted" if entry.get("identity") or told == state else "untouched"
    if kind in {"stage", "swap", "finalise", "empty"}:
        return _known({"finalised": "committed"}.get(told, told), state)
    return state


def _known(told: str, state: State) -> State:
    if told == "absent":
        return "untouched"
    if told == "staged" and state == "reverted":  # the host tells the copy, we know what it was
        return state
    if told == "swapped" and state == "committed":
        return state
    return told if told in DATA else state  # type: ignore[return-value]  # the keys of DATA are the states


def _name(place: str, copy: str, case: str) -> str:
    return f"{place}__{copy}_{re.sub(r'[^a-z0-9]', '', case.lower())}"


def _doubt(lost: str, failed: str, switch: SwitchPage | None) -> str:
    if lost:
        fired = " and its switch may have fired" if switch and switch.phase in FIRES else ""
        return f"last known; the host does not answer since{fired}"
    return f"last known; the step after it ({failed}) failed" if failed else ""


def _look(dataset: Json, place: str) -> list[str]:
    """How an engineer sees the names on the host, changing nothing."""
    connection = dataset.get("connection") or {}
    engine = dataset["engine"]
    if engine == "postgresql":
        words = ["sudo", "-u", str(connection.get("os_user") or "postgres"), "psql"]
        for option, key in (("-h", "socket"), ("-h", "host"), ("-p", "port"), ("-U", "user")):
            words += [option, str(connection[key])] if connection.get(key) else []
        return [shlex.join([*words, "-l"])]
    if engine in {"mariadb", "mysql"}:
        words = ["sudo", "mariadb"]
        for option, key in (("-S", "socket"), ("-h", "host"), ("-P", "port"), ("-u", "user")):
            words += [option, str(connection[key])] if connection.get(key) else []
        return [shlex.join([*words, "-e", "SHOW DATABASES"])]
    folder, _, base = place.rpartition("/")
    return [f"sudo ls -la {shlex.quote(folder or '/')} | grep -F {shlex.quote(base)}"]
