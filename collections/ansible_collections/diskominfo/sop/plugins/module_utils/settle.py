# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""``sop-settle CASE``: bring the case's data on this host to wholly old or wholly new and its services up. No controller.

It takes the lock that every step between arm and disarm takes, so it never meets an exchange half done, and it decides from
this host's journal alone. Where the journal does not decide, the services stay held and a person does.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import time
from typing import Any, Callable

from ansible_collections.diskominfo.sop.plugins.module_utils import holds, switch_units
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Engine, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines import load_engine
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import (
    SIGNALS,
    DatasetLock,
    Journal,
    default_state_dir,
    iso,
    utc_now,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.services import (
    Service,
    healthy_at,
    load_service,
    wait_running,
)
from ansible_collections.diskominfo.sop.plugins.module_utils.switch import EMPTIED, LIVE, Switch, time_left

#: seconds that a step of the case may keep the lock once the switch has fired
PATIENCE = 30.0
#: seconds to try again while the data cannot be reached (a database that starts, a log that is replayed)
REACH = {"fire": 120.0, "boot": 900.0}
#: seconds between two settlings while the data does not answer; the lock is free meanwhile
AGAIN = 30.0
HELD = 21
OUTCOMES = {"armed": "old", "aborted": "old", "committed": "new"}
WHY_HELD = {
    "ready": "the hosts of this case had all swapped, but none was told whether it counts: look at the others, then decide",
    "in_place": "the live data was being replaced where it lies: the old data is in the safety backup only",
}


class Undecided(Exception):
    """The journal does not decide, or the data does not answer: the services stay held."""


def say(text: str) -> None:
    """One line for the journal of the system."""
    print(f"sop-settle: {text}", flush=True)


class Settlement:
    """One settling of one switch; the caller holds nothing."""

    def __init__(self, switch: Switch, mode: str) -> None:
        self.switch = switch
        self.mode = mode
        self.journal: Json = {}
        #: the journal decides, and only the data did not answer
        self.again = False

    def run(self) -> int:
        """Settle when it is due; 0 when nothing is left to settle, 21 when the services stay held."""
        with self.switch.seized(f"{self.switch.case} sop-settle", PATIENCE):
            self.journal = self.switch.read()
            phase = self.journal.get("phase")
            if phase not in LIVE:
                say(f"{self.switch.case}: nothing to settle ({phase or 'never armed'})")
                return 0
            if self.mode == "fire" and time_left(self.journal) > 1.0 and not self.journal.get("held"):
                say(f"{self.switch.case}: armed anew until {iso(float(self.journal['deadline']))}")
                return 0
            holds.hold(self.units())
            try:
                data = self._settle(str(phase))
            except (Undecided, SopError, OSError) as error:
                reason = " ".join(str(error).split())
                self.again = isinstance(error, Undecided) and phase in OUTCOMES
                with contextlib.suppress(OSError):  # a full disk: said below all the same
                    self.switch.enter(str(phase), held={"at": utc_now(), "why": reason})
                say(f"{self.switch.case}: NOT settled, the services stay held: {reason}")
                return HELD
            what = f"settled on the {data} data" if self.journal.get("datasets") else "the services are up"
            say(f"{self.switch.case}: {what}")
            return 0

    def units(self) -> list[str]:
        """Everything that is held down for the case here."""
        return [str(unit) for unit in self.journal.get("units") or []]

    # -- the data ------------------------------------------------------------------------------------------------

    def _settle(self, phase: str) -> str:
        data = OUTCOMES.get(phase)
        if data is None:
            raise Undecided(WHY_HELD.get(phase, f"phase {phase} decides nothing"))
        if data == "old" and self.journal.get("emptied"):
            raise Undecided(EMPTIED)
        with contextlib.ExitStack() as locks:
            engines = self._engines(locks)
            for engine in engines:
                self._patiently(lambda engine=engine: self._bring(engine, data))  # type: ignore[misc]  # the default binds the loop's value
            for engine in engines:
                self._patiently(engine.release)
            try:
                services = self._start_services()
            except SopError as error:
                if data != "new" or not self._may_go_back():
                    raise
                say(f"{self.switch.case}: the services do not come up on the new data ({error}); going back to the old")
                data, services = "old", self._go_back(engines)
        outcome = {
            "data": data if engines else None,
            "at": utc_now(),
            "by": self.mode,
            "services": services,
            "phase": phase,
        }
        with contextlib.suppress(OSError):  # a full disk keeps nobody down; it is settled again, to the same end
            self.switch.enter("settled", outcome=outcome)
        switch_units.take_up(self.switch, self.units(), self.mode if self.mode in REACH else None)
        return data

    def _engines(self, locks: contextlib.ExitStack) -> list[Engine]:
        secrets = switch_units.read_secrets(self.switch)
        engines = []
        for dataset in self.journal.get("datasets") or []:
            state_dir = str(dataset.get("state_dir") or default_state_dir())
            lock = DatasetLock(state_dir, str(dataset["id"]), f"{self.switch.case} sop-settle", wait=120.0)
            locks.enter_context(lock)
            own = secrets.get(dataset["id"]) or {}
            engines.append(
                self._patiently(lambda d=dataset, s=state_dir, o=own: load_engine({**d, "state_dir": s}, o))  # type: ignore[misc]  # as above
            )
        return engines

    def _patiently(self, step: Callable[[], Any]) -> Any:
        """Try a step until it works: at boot the database may come up after us."""
        deadline = time.monotonic() + REACH.get(self.mode, 30.0)
        while True:
            try:
                return step()
            except SopError as error:
                if time.monotonic() >= deadline:
                    raise Undecided(str(error)) from error
                time.sleep(1.0)

    def _bring(self, engine: Engine, data: str) -> None:
        case = self.switch.case
        with SIGNALS.deferred():
            engine.settle(case)
            state = engine.state(case)
            if data == "new":
                if state != "swapped":
                    raise SopError(
                        f"{engine.dataset['id']}: is {state}, though the case was committed; look at the data"
                    )
                return
            if state == "swapped":
                if self._was_open():
                    mark_reverted(engine.dataset, case)
                engine.revert(case)
                say(f"{engine.dataset['id']}: the old data is live again")

    def _was_open(self) -> bool:
        """Whether anybody may have written into the new data."""
        return any(entry.get("phase") == "committed" for entry in self.journal.get("past") or [])

    # -- the services ----------------------------------------------------------------------------------------------

    def _services(self) -> list[tuple[Service, Json]]:
        found = []
        for entry in self.journal.get("services") or []:
            settings = entry["service"]
            if entry.get("active"):
                found.append((load_service(settings, service_journal(settings, self.switch.case)), settings))
        return found

    def _start_services(self) -> Json:
        """When each service was healthy; what did start stays up. At boot systemd starts them after us, and waits for us."""
        holds.release(self.units())
        answers: Json = {}
        wrong = []
        for service, settings in self._services():
            try:
                answers[service.name] = self._start(service, settings)
            except SopError as error:  # no reason to keep the others down
                wrong.append(str(error))
        if wrong:
            raise SopError("; ".join(wrong))
        return answers

    def _start(self, service: Service, settings: Json) -> str:
        if not service.is_running() or service.is_stopping():
            service.start(wait=self.mode != "boot")
        if self.mode == "boot":
            return "told to start"
        wait_running(service, True, 60.0)
        return healthy_at(settings, 120.0) or utc_now()

    def _may_go_back(self) -> bool:
        """Whether the old data may come back though the new counts: nobody worked on the new, and here lies all of the case.

        After a restart nobody can tell for how long it had been up.
        """
        kept_open = self.journal.get("served") or self.journal.get("emptied") or self.mode == "boot"
        return bool(self.journal.get("alone") and not kept_open)

    def _go_back(self, engines: list[Engine]) -> Json:
        self.switch.enter("aborted")
        for service, _settings in self._services():
            service.stop()
            wait_running(service, False, 60.0)
        for engine in engines:
            engine.quiesce(30.0)
            self._bring(engine, "old")
            engine.release()
        return self._start_services()


def mark_reverted(dataset: Json, case: str) -> None:
    """Remember that what is staged was live once: it is nobody's to drop or to use again."""
    journal = restore_journal(dataset, case)
    journal.write({**(journal.read() or {}), "reverted": utc_now()})


def restore_journal(dataset: Json, case: str) -> Journal:
    """What ``restore_dataset`` remembers of a dataset and case."""
    return Journal(str(dataset.get("state_dir") or default_state_dir()), f"staged-{dataset['id']}-{case}")


def service_journal(settings: Json, case: str) -> Journal:
    """What ``service_state`` remembers of a service and case."""
    return Journal(str(settings.get("state_dir") or default_state_dir()), f"service-service-{settings['name']}-{case}")


def status(switch: Switch) -> list[str]:
    """What a person needs to know of this host, line by line."""
    journal = switch.read()
    phase = journal.get("phase") or "never armed"
    lines = [f"{switch.case} on this host: {phase}"]
    if phase in LIVE:
        lines.append(f"  fires at {iso(float(journal['deadline']))}: {meaning(str(phase))}")
    if journal.get("outcome"):
        lines.append(f"  settled on the {journal['outcome']['data']} data at {journal['outcome']['at']}")
    if journal.get("held"):
        lines.append(f"  held since {journal['held']['at']}: {journal['held']['why']}")
    secrets = switch_units.read_secrets(switch)
    for dataset in journal.get("datasets") or []:
        state_dir = str(dataset.get("state_dir") or default_state_dir())
        try:
            engine = load_engine({**dataset, "state_dir": state_dir}, secrets.get(dataset["id"]) or {})
            state = engine.state(switch.case)
            fence = "closed" if engine.fences and engine.is_quiesced() else "open"
            live = {"swapped": "the new data is live", "staged": "the old data is live"}.get(state, "nothing is staged")
            lines.append(f"  {dataset['id']}: {live}, {fence}; kept: {engine.before_name(switch.case)}")
        except SopError as error:
            lines.append(f"  {dataset['id']}: cannot tell ({error})")
    units = [str(unit) for unit in journal.get("units") or []]
    for entry in journal.get("services") or []:
        name = entry["service"]["name"]
        try:
            running = load_service(entry["service"], service_journal(entry["service"], switch.case)).is_running()
            lines.append(f"  service {name}: {'runs' if running else 'does not run'}")
        except SopError as error:
            lines.append(f"  service {name}: cannot tell ({error})")
    if held := holds.held(units):
        lines.append(f"  held down: {', '.join(held)} (by {holds.HOLDS}/hold-…)")
    return lines


def meaning(phase: str) -> str:
    """What the switch does when it fires in ``phase``."""
    data = OUTCOMES.get(phase)
    return f"{data} data, services up" if data else "decides nothing, the services stay held"


def watch(switch: Switch) -> int:
    """Wait for the deadline where systemd does not; ends when nothing is to be settled any more.

    One process at a time: of two, the second would end the first as a holder that does not let go.
    """
    with contextlib.suppress(FileNotFoundError):
        turn = os.open(
            os.path.join(switch.folder, "watch"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(turn, fcntl.LOCK_EX)
    while True:
        journal = switch.read()
        if journal.get("phase") not in LIVE:
            return 0
        left = time_left(journal)
        if left <= 0:
            return persist(switch, "fire")
        time.sleep(min(1.0, left))


def persist(switch: Switch, mode: str) -> int:
    """Settle; where the journal decides and only the data does not answer, again and again: nobody else would."""
    while True:
        settlement = Settlement(switch, mode)
        code = settlement.run()
        if not settlement.again or mode == "boot":
            break
        time.sleep(AGAIN)
    if settlement.again:  # the start of the host must not wait any longer: the timer's unit goes on
        switch_units.fire(switch)
    return code


def by_hand(switch: Switch, data: str) -> int:
    """A person decides what the journal does not; written down, then settled at once."""
    with switch.held(f"{switch.case} sop-settle by hand"):
        journal = switch.read()
        if journal.get("phase") not in LIVE:
            say(f"{switch.case}: nothing to settle ({journal.get('phase') or 'never armed'})")
            return 0
        if data == "old" and journal.get("emptied"):
            raise SopError(f"{switch.case}: {EMPTIED}")
        _require_choice(switch, journal, data)
        switch.enter("committed" if data == "new" else "aborted", by_hand=os.environ.get("SUDO_USER") or "root")
    return Settlement(switch, "hand").run()


def _require_choice(switch: Switch, journal: Json, data: str) -> None:
    """SopError when a person decides for new data that is not there, before that is written down."""
    secrets = switch_units.read_secrets(switch)
    for dataset in journal.get("datasets") or [] if data == "new" else []:
        state_dir = str(dataset.get("state_dir") or default_state_dir())
        state = load_engine({**dataset, "state_dir": state_dir}, secrets.get(dataset["id"]) or {}).state(switch.case)
        if state != "swapped":
            raise SopError(
                f"{switch.case}: {dataset['id']} is {state}, so there is no new data here to decide for; decide for --old, or "
                "run the execution again"
            )


def main(arguments: list[str], folder: str | None = None) -> int:
    """The command line; the switch is the one in whose folder this program lies."""
    parser = argparse.ArgumentParser(prog="sop-settle", description="Settle an interrupted restore on this host.")
    parser.add_argument("case", help="the case, such as RST-2026-0001")
    choice = parser.add_mutually_exclusive_group()
    for name, text in (
        ("status", "say what is where, change nothing (the default)"),
        ("fire", "settle if the time has come (systemd's timer)"),
        ("boot", "settle after a restart (systemd)"),
        ("watch", "wait for the time (hosts without systemd)"),
        ("old", "decide for the old data and settle now"),
        ("new", "decide for the new data and settle now"),
    ):
        choice.add_argument(f"--{name}", dest="mode", action="store_const", const=name, help=text)
    options = parser.parse_args(arguments)
    place = folder or os.path.dirname(os.path.abspath(sys.argv[0]))
    switch = Switch(options.case, "", root=os.path.dirname(os.path.dirname(place)))
    switch.at(place)
    if not os.path.basename(place).startswith(options.case):
        print(f"sop-settle: this is the switch {os.path.basename(place)}, not of {options.case}", file=sys.stderr)
        return 2
    SIGNALS.install()
    try:
        if options.mode in {"fire", "boot"}:
            return persist(switch, options.mode)
        if options.mode == "watch":
            return watch(switch)
        if options.mode in {"old", "new"}:
            return by_hand(switch, options.mode)
        print("\n".join(status(switch)))
    except SopError as error:
        print(f"sop-settle: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0
