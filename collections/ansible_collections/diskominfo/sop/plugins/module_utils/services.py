# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Service managers. A new one is one class here and one line in the table at the end."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod

from ansible_collections.diskominfo.sop.plugins.module_utils import holds
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import Journal, utc_now
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import PROGRAM_PATH

#: seconds that one command of a service manager may take
COMMAND_TIMEOUT = 300.0
#: seconds to wait for a health address, unless the register says otherwise
HEALTH_TIMEOUT = 60.0


def run_command(name: str, argv: list[str]) -> tuple[int, str]:
    """Run a command that may leave a daemon behind; return (exit code, the last line it printed)."""
    with tempfile.TemporaryFile() as output:  # a pipe would wait for the daemon, which inherits it
        try:
            code = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": PROGRAM_PATH, "LC_ALL": "C.UTF-8", "HOME": "/"},
                cwd="/",
                start_new_session=True,
                timeout=COMMAND_TIMEOUT,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise SopError(
                f"service {name}: {argv[0]} did not end within {COMMAND_TIMEOUT:.0f} s; look at the service"
            ) from error
        except OSError as error:
            raise SopError(
                f"service {name}: {argv[0]} cannot be run ({error.strerror}); correct the register"
            ) from error
        output.seek(0)
        lines = output.read(65536).decode("utf-8", "replace").strip().splitlines()
    return code, lines[-1] if lines else ""


class Service(ABC):
    """One service on this host. ``settings`` is the plan's service record."""

    def __init__(self, settings: Json, journal: Journal) -> None:
        self.name = str(settings.get("name"))
        self.settings = settings
        self.journal = journal

    @abstractmethod
    def is_running(self) -> bool:
        """True when the service runs."""

    def may_return(self) -> bool:
        """True when something could still bring the stopped service back."""
        return False

    def is_stopping(self) -> bool:
        """True while it was told to stop and has not yet."""
        return False

    def is_starting(self) -> bool:
        """True while it is on its way up, also for the second time: one that crashes again and again is never up."""
        return False

    def units(self) -> list[str]:
        """What has to be held down with it: systemd units; none where nothing can bring it back."""
        return []

    def hold(self) -> None:  # noqa: B027  # where nothing can bring it back there is nothing to hold
        """Keep the stopped service down."""

    @abstractmethod
    def start(self, wait: bool = True) -> None:
        """Start it; SopError when the manager refuses. Without ``wait`` the manager is told, and may do it later."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it, with everything that would bring it back; SopError when the manager refuses."""

    def _must(self, argv: list[str]) -> None:
        code, last = run_command(self.name, argv)
        if code != 0:
            raise SopError(
                f"service {self.name}: {' '.join(argv[:3])} exited {code} ({last[:200]}); look at the service's log"
            )


class SystemdService(Service):
    """A systemd unit."""

    def __init__(self, settings: Json, journal: Journal) -> None:
        super().__init__(settings, journal)
        unit = settings.get("unit")
        if not isinstance(unit, str) or not re.fullmatch(r"[A-Za-z0-9_@.:\\][A-Za-z0-9_@.:\\-]*", unit):
            raise SopError(f"service {self.name}: unit {unit!r} is not a unit name; correct the register")
        self.unit = unit if "." in unit else unit + ".service"
        properties = self._show(self.unit)
        if properties.get("LoadState") != "loaded":
            raise SopError(
                f"service {self.name}: systemd has no unit {self.unit} ({properties.get('LoadState')}); correct the register"
            )
        self._triggers = properties.get("TriggeredBy", "").split()

    def _show(self, unit: str) -> dict[str, str]:
        output = holds.systemctl("show", "--property=LoadState,ActiveState,TriggeredBy", unit)
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)

    def _state(self, unit: str) -> str:
        return self._show(unit).get("ActiveState", "")

    def _active(self, unit: str) -> bool:
        return self._state(unit) not in {"inactive", "failed"}

    def is_running(self) -> bool:
        return self._active(self.unit)

    def is_stopping(self) -> bool:
        return self._state(self.unit) == "deactivating"

    def is_starting(self) -> bool:
        return self._state(self.unit) == "activating"

    def may_return(self) -> bool:
        return any(self._active(trigger) for trigger in self._triggers)

    def units(self) -> list[str]:
        return [self.unit, *self._triggers]

    def hold(self) -> None:
        holds.hold(self.units())

    def stop(self) -> None:
        active = [trigger for trigger in self._triggers if self._active(trigger)]
        # a call that is repeated after a crash finds the triggers stopped: keep what the first one saw
        known = (self.journal.read() or {}).get("triggers", [])
        self.journal.write({**(self.journal.read() or {}), "triggers": sorted({*known, *active})})
        self.hold()
        if active:
            self._must(["systemctl", "stop", *active])
        # whoever calls waits, and no longer than it may: a unit that will not stop would block systemctl itself
        self._must(["systemctl", "stop", "--no-block", self.unit])

    def start(self, wait: bool = True) -> None:
        if self.is_stopping():  # it was told to stop, did not come to it, and would keep the start waiting for ever
            holds.systemctl("kill", "--kill-who=all", "--signal=KILL", self.unit, check=False)
        holds.release(self.units())
        triggers = [each for each in (self.journal.read() or {}).get("triggers", []) if each in self._triggers]
        later = [] if wait else ["--no-block"]
        if triggers:
            self._must(["systemctl", "start", *later, *triggers])
        self._must(["systemctl", "start", *later, self.unit])
        self.journal.remove()


class CommandService(Service):
    """A service that is run by commands of its own."""

    def _argv(self, key: str) -> list[str]:
        argv = self.settings.get(key)
        if not isinstance(argv, list) or not argv or not all(isinstance(part, str) for part in argv):
            raise SopError(f"service {self.name}: {key} is not a list of words; correct the register")
        return argv

    def is_running(self) -> bool:
        return run_command(self.name, self._argv("status"))[0] == 0

    def start(self, wait: bool = True) -> None:  # noqa: ARG002  # a command returns when it is done, or leaves a daemon behind
        self._must(self._argv("start"))
        self.journal.remove()

    def stop(self) -> None:
        self._must(self._argv("stop"))


MANAGERS: dict[str, type[Service]] = {"command": CommandService, "systemd": SystemdService}


def load_service(settings: Json, journal: Journal) -> Service:
    """Return the service; SopError names the managers that exist."""
    manager = settings.get("manager")
    if not re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", str(settings.get("name"))):
        raise SopError(f"service {settings.get('name')!r}: not a plain name; correct the register")
    if manager not in MANAGERS:
        raise SopError(
            f"service {settings['name']}: manager {manager!r} is unknown; one of {', '.join(sorted(MANAGERS))}"
        )
    return MANAGERS[manager](settings, journal)


def wait_healthy(name: str, url: str, timeout: float) -> str:
    """Poll ``url`` until it answers 200 and return when that was; SopError with the last answer otherwise."""
    if not url.startswith(("http://", "https://")):
        raise SopError(f"service {name}: health url {url!r} is not http or https; correct the register")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + timeout
    while True:
        try:
            with opener.open(url, timeout=min(5.0, max(0.5, timeout))) as answer:
                if answer.status == 200:
                    return utc_now()
                last = f"status {answer.status}"
        except urllib.error.HTTPError as error:
            last = f"status {error.code}"
        except OSError as error:
            last = str(error)
        if time.monotonic() >= deadline:
            raise SopError(
                f"service {name}: runs, but {url} was not healthy within {timeout:.0f} s ({last}); look at its log"
            )
        time.sleep(0.1)


def wait_running(service: Service, wanted: bool, timeout: float) -> None:
    """Wait until the service runs or does not; SopError when it does not come to that."""
    deadline = time.monotonic() + timeout
    while service.is_running() != wanted or (
        service.is_stopping() or service.is_starting() if wanted else service.may_return()
    ):
        if time.monotonic() >= deadline:
            word = "started" if wanted else "stopped"
            raise SopError(f"service {service.name}: not {word} after {timeout:.0f} s; look at its log, then run again")
        time.sleep(0.1)


def healthy_at(settings: Json, longest: float | None = None) -> str | None:
    """When the service's health address answered 200; None where the register names none. SopError when it does not."""
    health = settings.get("health") or {}
    if not health.get("url"):
        return None
    timeout = float(health.get("timeout") or HEALTH_TIMEOUT)
    return wait_healthy(
        str(settings["name"]), str(health["url"]), timeout if longest is None else min(timeout, longest)
    )
