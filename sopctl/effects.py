# SPDX-License-Identifier: Apache-2.0
"""What a restore does to the data that is there, said before anybody signs: "data since T will be set aside"."""

from __future__ import annotations

import hashlib

from sopctl import clock
from sopctl.models import Json

_NAME_BYTES = 63
_STEM_BYTES = 255 - 64
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def age(backup_time: str, now: str) -> str:
    """How old a backup is, in the two largest units: ``3 days 4 hours``."""
    rest, parts = max(0, clock.seconds_between(backup_time, now)), []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
        elif parts:
            break
    return " ".join(parts[:2]) or "less than a second"


def kept_name(dataset: Json, case_id: str) -> str:
    """Name or path under which the server keeps what the restore of ``case_id`` sets aside, as the engines give it."""
    suffix = f"__before_{case_id.lower().replace('-', '')}"
    if "path" in dataset:
        folder, slash, base = str(dataset["path"]).rpartition("/")
        return f"{folder}{slash}{_stem(base)}{suffix}"
    base = str(dataset.get("database", ""))
    if len((base + suffix).encode()) <= _NAME_BYTES:
        return base + suffix
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]  # a server would cut it silently
    head = base.encode()[: _NAME_BYTES - len(suffix) - len(digest) - 1].decode("utf-8", "ignore")
    return f"{head}_{digest}{suffix}"


def _stem(base: str) -> str:
    """A file's name, shortened where what is made of it would be too long for a file system."""
    raw = base.encode()
    if len(raw) <= _STEM_BYTES:
        return base
    return f"{raw[: _STEM_BYTES - 9].decode('utf-8', 'ignore')}~{hashlib.sha256(raw).hexdigest()[:8]}"


def said(item: Json, case_id: str, now: str, keep_days: int) -> str:
    """What approving the planned ``item`` of a restore means for its data, in one line."""
    backup = f"backup {item['backup_name']}, {age(item['backup_time'], now)} old"
    dataset, since = item["dataset"]["id"], item["backup_time"]
    if to := item.get("to"):
        return (
            f"{dataset}: nothing is set aside: the data as of {since} ({backup}) is restored as {to['place']} on "
            f"{to['server']}; the live data and its services are not touched"
        )
    if item.get("in_place"):
        return (
            f"{dataset}: data since {since} will be set aside ({backup}), in place: the old data does not stay on "
            f"{item['server']}. It is not lost: while the service is stopped all of it is stored in the vault first, as a "
            f"safety backup of period {item['safety_period']}, and the service stays down until the backup is loaded"
        )
    until = clock.plus(now, days=keep_days)[:10]
    return (
        f"{dataset}: data since {since} will be set aside ({backup}): it is not deleted, all of the old data stays on "
        f"{item['server']} as {kept_name(item['dataset'], case_id)} for at least {keep_days} days after the restore "
        f"(not before {until} is it dropped, and by a signed command only)"
    )
