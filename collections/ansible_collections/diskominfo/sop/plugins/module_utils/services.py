# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Service managers. A new one is one class here and one line in the table at the end."""

from __future__ import annotations

import re
import subprocess
import tempfile
from abc import ABC, abstractmethod

from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.host import Journal
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import PROGRAM_PATH

#: seconds that one command of a service manager may take
COMMAND_TIMEOUT = 300.0


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

    @abstractmethod
    def start(self) -> None:
        """Start it; SopError when the manager refuses."""

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
        argv = ["systemctl", "show", "--property=LoadState,ActiveState,TriggeredBy", unit]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, check=False, env={"PATH": PROGRAM_PATH, "LC_ALL": "C"}
            )
        except OSError as error:
            raise SopError(
                f"service {self.name}: systemctl cannot be run ({error.strerror}); use the manager command"
            ) from error
        if done.returncode != 0:
            raise SopError(
                f"service {self.name}: systemctl show exited {done.returncode} ({done.stderr.strip()[:200]})"
            )
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def _active(self, unit: str) -> bool:
        return self._show(unit).get("ActiveState") not in {"inactive", "failed"}

    def is_running(self) -> bool:
        return self._active(self.unit)

    def may_return(self) -> bool:
        return any(self._active(trigger) for trigger in self._triggers)

    def stop(self) -> None:
        active = [trigger for trigger in self._triggers if self._active(trigger)]
        # a call that is repeated after a crash finds the triggers stopped: keep what the first one saw
        known = (self.journal.read() or {}).get("triggers", [])
        self.journal.write({"triggers": sorted({*known, *active})})
        if active:
            self._must(["systemctl", "stop", *active])
        self._must(["systemctl", "stop", self.unit])

    def start(self) -> None:
        triggers = [each for each in (self.journal.read() or {}).get("triggers", []) if each in self._triggers]
        if triggers:
            self._must(["systemctl", "start", *triggers])
        self._must(["systemctl", "start", self.unit])
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

    def start(self) -> None:
        self._must(self._argv("start"))

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
