# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""The dead man's switch of one case on this host: its journal, its one lock, and what each phase lets happen.

The journal decides, not the controller. Phases and what ``sop-settle`` makes of them stand in docs/adr/0008.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import (
    Journal,
    default_state_dir,
    ensure_state_dir,
    iso,
    utc_now,
)

SCHEMA = "sop-switch/v1"
#: phases in which something is still to be decided or done
LIVE = ("armed", "ready", "committed", "aborted", "in_place")
#: phases that a step of a restore may meet: step → phases
STEPS = {
    "service.stopped": ("armed", "ready", "in_place", "aborted"),
    "service.started": ("committed", "aborted"),
    "quiesce.quiesced": ("armed", "in_place", "aborted"),
    "quiesce.released": LIVE,
    "quiesce.reserved": ("armed", "in_place"),
    "restore.swapped": ("armed", "in_place"),
    "restore.emptied": ("in_place",),
    "restore.reverted": ("armed", "ready", "aborted"),
}
#: why nothing goes back once the live data made room: what is kept beside is empty
EMPTIED = (
    "the live data here was given up for a restore in place, so there is no old data to go back to; run the execution again, "
    "or restore the safety backup"
)
#: seconds that must be left before the switch fires when an exchange begins
LEAST_LEFT = 2.0
#: seconds to wait for another step of the case, or for sop-settle
LOCK_WAIT = 10.0


class Switch:
    """The switch of ``case`` of ``site`` on this host."""

    def __init__(self, case: str, site: str, root: str | None = None) -> None:
        self.case = case
        self.site = site
        self.name = f"{case}-{re.sub(r'[^A-Za-z0-9]', '', site)[:8]}" if site else case
        self.root = root or default_state_dir()
        self.at(os.path.join(self.root, "switch", self.name))

    def at(self, folder: str) -> None:
        """Be the switch that lies in ``folder``."""
        self.folder, self.name = folder, os.path.basename(folder)
        self._journal = Journal(folder, "journal")

    # -- the lock ------------------------------------------------------------------------------------------------

    @property
    def lock_path(self) -> str:
        """The one lock between arm and disarm."""
        return os.path.join(self.folder, "lock")

    @contextmanager
    def held(self, holder: str, wait: float = LOCK_WAIT) -> Iterator[None]:
        """Hold the lock. SopError naming the holder when it is not free within ``wait`` seconds."""
        descriptor = self._locked(holder, wait)
        try:
            yield
        finally:
            os.close(descriptor)

    def _locked(self, holder: str, wait: float) -> int:
        ensure_state_dir(self.root)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    said = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                    os.close(descriptor)
                    raise SopError(
                        f"{self.case}: another step of this case is at work on this host ({said or 'unknown'}); "
                        "wait for it to end, then run again"
                    ) from None
                time.sleep(0.05)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{holder}, pid {os.getpid()}, since {utc_now()}\n".encode(), 0)
        return descriptor

    @contextmanager
    def seized(self, holder: str, patience: float) -> Iterator[None]:
        """Hold the lock; a holder that does not let go within ``patience`` seconds is ended, first politely."""
        descriptor = self._seize(holder, patience)
        try:
            yield
        finally:
            os.close(descriptor)

    def _seize(self, holder: str, patience: float) -> int:
        for number, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
            try:
                return self._locked(holder, wait)
            except SopError:
                self._signal_holder(number)
        return self._locked(holder, 10.0)

    def _signal_holder(self, number: int) -> None:
        """Signal whoever has the lock file open: the flock is theirs."""
        wanted = os.stat(self.lock_path)
        for pid in os.listdir("/proc"):
            if not pid.isdigit() or int(pid) == os.getpid():
                continue
            try:
                for name in os.listdir(f"/proc/{pid}/fd"):
                    found = os.stat(f"/proc/{pid}/fd/{name}")
                    if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                        os.kill(int(pid), number)
                        break
            except OSError:
                continue

    # -- the journal ---------------------------------------------------------------------------------------------

    def read(self) -> Json:
        """The journal; ``{}`` when this host was never armed for the case. SopError when it cannot be read."""
        found = self._journal.read()
        if found is None and os.path.exists(os.path.join(self.folder, "journal.json")):
            raise SopError(f"{self.folder}/journal.json: cannot be read, so nobody can tell what to settle; look at it")
        if found is not None and found.get("schema") != SCHEMA:
            raise SopError(f"{self.folder}/journal.json: schema {found.get('schema')!r} is not {SCHEMA}; look at it")
        return found or {}

    def write(self, journal: Json) -> None:
        """Replace the journal, on disk when this returns."""
        ensure_state_dir(self.root)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._journal.write({**journal, "schema": SCHEMA})

    def enter(self, phase: str, **fields: object) -> Json:
        """Go to ``phase`` and remember when; the new journal."""
        journal = self.read()
        past = [*(journal.get("past") or []), {"phase": phase, "at": utc_now()}][-50:]
        journal = {**journal, **fields, "phase": phase, "past": past}
        self.write(journal)
        return journal

    @property
    def phase(self) -> str:
        """The phase; "" when never armed."""
        return str(self.read().get("phase") or "")

    def require_alone(self, datasets: list[Json], services: list[Json], units: list[str]) -> None:
        """SopError when another case's switch here is still to settle one of ``datasets`` or to start one of ``services``."""
        ours = _things(datasets, services, units)
        for name in found_switches(self.root):
            other = Switch("", "", self.root)
            other.at(os.path.join(self.root, "switch", name))
            journal = other.read()
            entries = [each["service"] for each in journal.get("services") or []]
            theirs = _things(journal.get("datasets") or [], entries, journal.get("units") or [])
            if name != self.name and (shared := sorted({ours[key] for key in ours.keys() & theirs.keys()})):
                raise SopError(
                    f"{self.case}: the dead man's switch of {journal.get('case') or name} on this host still looks after "
                    f"{', '.join(shared)}; finish that case first (sopctl case execute), or settle it here: "
                    f"{other.folder}/sop-settle"
                )

    # -- what a step may do ----------------------------------------------------------------------------------------

    def require(self, step: str) -> None:
        """SopError unless the phase allows ``step`` now (the caller holds the lock). A host never armed allows all."""
        journal = self.read()
        phase = str(journal.get("phase") or "")
        if step not in STEPS or phase in {"", "disarmed"}:
            return
        if phase == "settled":
            if step in {"service.started", "quiesce.released"}:
                return
            outcome = journal.get("outcome") or {}
            if step == "restore.reverted" and outcome.get("data") == "old":
                return  # it is so already; what was staged and not used may go
            raise SopError(
                f"{self.case}: the dead man's switch of this host fired at {outcome.get('at')} and "
                f"settled{on_which(outcome)}; run the execution again"
            )
        if step == "service.started" and phase == "armed" and not journal.get("datasets"):
            return  # nothing is decided on a host that holds no data of the case
        if step == "restore.reverted" and journal.get("emptied"):
            raise SopError(f"{self.case}: {EMPTIED}")
        if phase not in STEPS[step]:
            raise SopError(f"{self.case}: this host is {phase}, which does not allow {step}; run the execution again")
        if step == "restore.swapped" and phase == "armed":  # in place, a switch that fires leaves the data alone
            self._require_time(journal)

    def _require_time(self, journal: Json) -> None:
        if time_left(journal) < LEAST_LEFT:
            raise SopError(
                f"{self.case}: the dead man's switch fires at {iso(float(journal['deadline']))}, too little time is left to "
                "exchange the data; run the execution again, or give the dataset more max_downtime"
            )


def boot_id() -> str:
    """Which start of this host we are in: its steady clock begins anew with each."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def time_left(journal: Json) -> float:
    """Seconds until the switch fires, by the steady clock that the timer counts by: the wall clock may be set meanwhile."""
    if journal.get("boot") == boot_id():
        return float(journal["ends"]) - time.monotonic()
    return float(journal["deadline"]) - time.time()


def _things(datasets: list[Json], services: list[Json], units: list[str]) -> dict[str, str]:
    """What a switch looks after, by what it is: two sites may give different things one name."""
    data = ("engine", "path", "database", "connection")
    found = {json.dumps([each.get(key) for key in data], sort_keys=True): str(each["id"]) for each in datasets}
    commands = [each for each in services if each.get("start")]
    return {
        **found,
        **{json.dumps(each["start"]): str(each["name"]) for each in commands},
        **{unit: unit for unit in units},
    }


def on_which(outcome: Json) -> str:
    """`` on the old data``, or nothing on a host that holds none."""
    return f" on the {outcome['data']} data" if outcome.get("data") else ""


def found_switches(root: str | None = None) -> list[str]:
    """Names of the switches on this host that are still to be settled."""
    folder = os.path.join(root or default_state_dir(), "switch")
    names = []
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            with (
                suppress(OSError, ValueError),
                open(os.path.join(folder, name, "journal.json"), encoding="utf-8") as stream,
            ):
                if json.load(stream).get("phase") in LIVE:
                    names.append(name)
    return names
