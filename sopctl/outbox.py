# SPDX-License-Identifier: Apache-2.0
"""Which notices have gone out, and which could not: one small file below ``.state``, safe to lose.

It decides nothing and is signed by nobody. Who sends *claims* notices first, in a moment under a lock, and says afterwards
what came of them: two commands at once send none twice, and no lock is held while a mail server thinks. A claim of a command
that died ends by itself, and its notices are sent again: at least once, not at most once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sopctl import clock, fsio, loading
from sopctl.errors import ConfigError
from sopctl.models import Record, to_json

#: how often a notice is tried
MOST_TRIES = 10
#: seconds between tries; the first failure is followed up by the very next command
PATIENCE = 60
#: seconds after which the claim of a command that died counts for nothing
CLAIM = 300
#: days for which it is remembered what went out, longer than the monthly reminders are apart
REMEMBERED = 40
_MOST = 16 * 1024 * 1024


@dataclass(frozen=True, order=True)
class Key:
    """One notice: what happened, in which document or to which thing, who is told, through which channel."""

    event: str
    ref: str
    person: str
    channel: str

    def __str__(self) -> str:
        return f"{self.event} {self.ref} {self.person} {self.channel}"


class Entry(Record, frozen=True):
    """What came of one notice. ``case``: its case, or empty; ``tries``: failed ones; ``at``: when it was looked at last.

    ``claimed``: until when a command is at it. ``cause``: why it could not be delivered, without anything secret.
    """

    event: str
    ref: str
    person: str
    channel: str
    case: str
    state: Literal["sent", "waiting", "given-up"]
    at: str
    tries: int = 0
    cause: str = ""
    claimed: str | None = None

    @property
    def key(self) -> Key:
        """Its notice."""
        return Key(self.event, self.ref, self.person, self.channel)


class _File(Record, frozen=True):
    entries: list[Entry]


class Outbox:
    """The outbox of a site, whose ``.state`` is ``state``."""

    def __init__(self, state: Path) -> None:
        self.folder = state / "notices"
        self.path = self.folder / "outbox.json"

    def entries(self) -> dict[Key, Entry]:
        """All that is remembered. ConfigError when the file is damaged."""
        if not self.path.exists():
            return {}
        try:
            found = loading.load_json(_File, fsio.read_strict(self.path, _MOST), self.path)
        except ConfigError as error:
            hint = "Remove it: what was sent in the last days is then sent once more."
            raise ConfigError(error.message, where=error.where, hint=hint) from None
        return {entry.key: entry for entry in found.entries}

    def undelivered(self, case: str | None = None) -> list[Entry]:
        """What could not be delivered so far, of one case or of all."""
        return [
            entry
            for entry in self.entries().values()
            if entry.state != "sent" and entry.cause and case in {None, entry.case}
        ]

    def open(self, wanted: Iterable[Key]) -> list[Key]:
        """Those of ``wanted`` that may be tried now; the least tried come first, so that a wrong address hinders nobody."""
        return _open(self.entries(), wanted, clock.now())

    def claim(self, wanted: Mapping[Key, str]) -> list[Key]:
        """The same (notice → its case), claimed: until they are settled no other command takes them."""
        with self._locked():
            known, now = self.entries(), clock.now()
            mine = _open(known, wanted, now)
            until = clock.plus(now, seconds=CLAIM)
            for key in mine:
                before = known.get(key)
                known[key] = _entry(
                    key,
                    wanted[key],
                    "waiting",
                    now,
                    before.tries if before else 0,
                    before.cause if before else "",
                    until,
                )
            if mine:
                self._write(known, now)
        return mine

    def settle(self, outcome: Mapping[Key, str | None], untried: Iterable[Key] = ()) -> None:
        """Say what came of claimed notices: None for delivered, else the cause. ``untried`` are let go as they were."""
        with self._locked():
            known, now = self.entries(), clock.now()
            for key, cause in outcome.items():
                before = known.get(key)
                tries = (before.tries if before else 0) + (cause is not None)
                state: Literal["sent", "waiting", "given-up"] = "waiting" if tries < MOST_TRIES else "given-up"
                case = before.case if before else ""
                known[key] = _entry(key, case, "sent" if cause is None else state, now, tries, cause or "", None)
            for key in untried:
                before = known.get(key)
                if before is not None and before.tries:
                    known[key] = _entry(key, before.case, "waiting", before.at, before.tries, before.cause, None)
                elif before is not None:
                    del known[key]
            self._write(known, now)

    def _write(self, known: Mapping[Key, Entry], now: str) -> None:
        oldest = clock.plus(now, days=-REMEMBERED)
        entries = [known[key] for key in sorted(known) if known[key].at >= oldest]
        data = fsio.canonical_json(to_json(_File(entries)))
        fsio.write_atomic(self.path, data, 0o600)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else writes meanwhile. Held for reading and writing one file; the kernel lets it go when we die."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot be used ({error.strerror})", where=str(self.folder)) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _entry(
    key: Key,
    case: str,
    state: Literal["sent", "waiting", "given-up"],
    at: str,
    tries: int,
    cause: str,
    claimed: str | None,
) -> Entry:
    return Entry(
        event=key.event, ref=key.ref, person=key.person, channel=key.channel, case=case, state=state, at=at, tries=tries,
        cause=cause, claimed=claimed,
    )  # fmt: skip


def _open(known: Mapping[Key, Entry], wanted: Iterable[Key], now: str) -> list[Key]:
    found = []
    for key in wanted:
        entry = known.get(key)
        if entry is None or _may_be_tried(entry, now):
            found.append((entry.tries if entry else 0, key))
    return [key for _, key in sorted(found, key=lambda one: one[0])]


def _may_be_tried(entry: Entry, now: str) -> bool:
    if entry.state != "waiting" or (entry.claimed is not None and entry.claimed >= now):
        return False
    return entry.tries < 2 or clock.seconds_between(entry.at, now) >= PATIENCE
