# SPDX-License-Identifier: Apache-2.0
"""Where a restore puts the data when it is not to replace the live data: what ``--to`` may name, and what it may not.

Pure: a place is looked at as text, and against what the register says of the server it lies on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sopctl.errors import UsageError
from sopctl.models import Dataset, Json, Server

_DATABASE = re.compile(r"[a-z][a-z0-9_]{0,62}")
_PATH = re.compile(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,149})+")
_MAX_PATH = 1024
#: what database servers keep under these names is theirs
_SYSTEM_DATABASES = {
    *("postgres", "template0", "template1"),
    *("mysql", "sys", "information_schema", "performance_schema"),
}
#: below these, a file is a program, a setting or the machine itself
_SYSTEM_PATHS = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"),
    *("/var/lib/sop", "/var/run"),
)
#: marks of the names that restores give
_OURS = ("__before_", "__shadow_")
_HERE = {"127.0.0.1", "::1", "localhost"}
_HOW = "A database is named like simpeg_salinan, a file or folder by its absolute path."


def parse(texts: Sequence[str], datasets: Sequence[Dataset]) -> dict[str, Json]:
    """``--to`` of the command line: dataset → {"server", "place"}. ``[DATASET=][SERVER:]NAME``, one a dataset.

    UsageError when one cannot be read, or when some datasets have one and others none.
    """
    found: dict[str, Json] = {}
    by_id = {dataset.id: dataset for dataset in datasets}
    for text in texts:
        named, equals, target = text.rpartition("=")
        if not equals and len(datasets) > 1:
            raise _wrong(text, "does not say whose", "Write DATASET=TARGET for each of several datasets.")
        dataset_id = named if equals else next(iter(by_id))
        if dataset_id not in by_id:
            raise _wrong(text, f"{dataset_id!r} is not asked for", f"Datasets of this request: {', '.join(by_id)}.")
        if dataset_id in found:
            raise _wrong(text, f"{dataset_id} has two targets", "Give one; open a second case for the other.")
        server, colon, place = target.partition(":") if ":" in target else (by_id[dataset_id].server, "", target)
        if colon and not server:
            raise _wrong(text, "names no server before ':'", "Leave ':' away for the dataset's own server.")
        found[dataset_id] = {"server": server, "place": place}
        if reason := _misshapen(place):
            raise _wrong(text, reason, _HOW)
    if found and (without := [dataset_id for dataset_id in by_id if dataset_id not in found]):
        raise UsageError(
            f"{', '.join(without)} would replace the live data, the others not",
            where="--to",
            hint="Give each dataset its --to, or open two cases.",
        )
    return found


def _wrong(text: str, reason: str, hint: str) -> UsageError:
    return UsageError(reason, where=f"--to {text}", hint=hint)


def _misshapen(place: Any) -> str | None:
    if not isinstance(place, str) or not place:
        return "names no target"
    if place.startswith("/"):
        fits = len(place) <= _MAX_PATH and _PATH.fullmatch(place)
        return None if fits else f"{place!r} is not a plain absolute path of letters, digits, '_', '-' and '.'"
    return None if _DATABASE.fullmatch(place) else f"{place!r} is not a plain name of a-z, 0-9 and '_'"


def unfit(body: Json) -> str | None:
    """Why a request's ``to`` and ``in_place`` are nothing that sopctl writes; None when they are."""
    to, in_place = body.get("to"), body.get("in_place")
    if to is None and in_place is None:
        return None
    if body.get("operation") != "restore" or (to is not None and in_place is not None):
        return "asks for a place (to, in_place) that does not go with the rest"
    if to is None:
        return None if in_place is True else "says 'in_place' in another way than true"
    shaped = (
        isinstance(to, dict)
        and set(to) == set(body["datasets"])
        and all(isinstance(one, dict) and set(one) == {"server", "place"} for one in to.values())
        and all(isinstance(one["server"], str) for one in to.values())
    )
    if not shaped:
        return "does not say for each dataset where to ('to')"
    return next(
        (f"restores to a place that {reason}" for one in to.values() if (reason := _misshapen(one["place"]))), None
    )


def problems(
    dataset: Dataset, server: str, place: str, datasets: Mapping[str, Dataset], servers: Mapping[str, Server]
) -> list[str]:
    """Why ``dataset`` may not be restored as ``place`` on ``server``; empty when it may. Each with its next step."""
    name = f"{dataset.id}: {place} on {server}"
    if reason := _misshapen(place):
        return [f"{name}: {reason}. {_HOW}"]
    if server not in servers:
        return [f"{name}: the server is not in the asset register ({', '.join(servers) or 'it is empty'}); register it"]
    by_path = dataset.path is not None
    if by_path != place.startswith("/"):
        kind = "an absolute path" if by_path else "a database name"
        return [f"{name}: a dataset of engine {dataset.engine} is restored to {kind}; give one"]
    found = []
    if server != dataset.server and (dataset.connection.host or "localhost") not in _HERE:
        found.append(
            f"{name}: the register reaches this database at {dataset.connection.host}, so it would not be {server} that "
            f"it is restored on; give a name on its own server ({dataset.server}), or register {server}'s database"
        )
    if any(mark in place for mark in _OURS):
        found.append(f"{name}: names with {' or '.join(_OURS)} are those that restores give; choose another")
    if place in _SYSTEM_DATABASES or (not by_path and place == dataset.connection.maintenance_db):
        found.append(f"{name}: the database server itself uses that name; choose another")
    if by_path and any(_holds(folder, place) for folder in _SYSTEM_PATHS):
        found.append(f"{name}: that is a folder of the operating system; choose one for data, such as /srv")
    for other in datasets.values():
        if other.server == server and _meet(other, place):
            found.append(f"{name}: is where dataset {other.id} lives ({_place_of(other)}); choose a place beside it")
    return found


def _meet(other: Dataset, place: str) -> bool:
    lives = _place_of(other)
    return lives == place or (place.startswith("/") and (_holds(lives, place) or _holds(place, lives)))


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _place_of(dataset: Dataset) -> str:
    return dataset.database or dataset.path or ""


def clashes(targets: Collection[tuple[str, str, str]]) -> list[str]:
    """Why these (dataset, server, place) cannot all be: two of them meet."""
    listed = sorted(targets)
    return [
        f"{first[0]} and {second[0]} would be restored to one place ({first[2]}, {second[2]}); give each its own"
        for at, first in enumerate(listed)
        for second in listed[at + 1 :]
        if first[1] == second[1] and (_holds(first[2], second[2]) or _holds(second[2], first[2]))
    ]


def suggestion(dataset: Dataset) -> str:
    """A name beside the live data, as an offer."""
    beside = f"{_place_of(dataset)}_salinan"
    return beside if _misshapen(beside) is None else f"/srv/{dataset.id}-salinan"


def repository(item: Json) -> str:
    """Server whose repository in the vault a planned item reads or writes: the source's, wherever it is restored to."""
    return str((item.get("to") or {}).get("source") or item["server"])
