# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Looks, while a module moves a dump, at the file in which it says how far it has come, and passes that on.

A convenience for who waits: whatever goes wrong here is silent, and the module's task neither waits for it nor fails by it.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
import threading
from collections.abc import Callable
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.diskominfo.sop.plugins.module_utils.progress import file_name

#: seconds between two looks; a task that is over sooner is never looked at
PAUSE = 2.0
#: seconds that a task which is over may wait for a look under way
GRACE = 1.0
#: looks that may fail one after the other before no further one is tried
PATIENCE = 2
#: connections that a second, independent command is known to be safe beside
TRANSPORTS = ("ssh", "local")
KEYS = ("what", "done", "total", "estimate", "started", "at")
MAX_BYTES = 4096


def command_for(dataset: dict[str, Any], case: str) -> str | None:
    """The shell command that prints the file of this dataset and case, if it is there."""
    name = str(dataset.get("id"))
    if not re.fullmatch(r"[a-z0-9-]{2,32}", name) or not re.fullmatch(r"[A-Z]{2,8}-[0-9]{4}-[0-9]{4,8}", case):
        return None
    folder = shlex.quote(str(dataset["state_dir"])) if dataset.get("state_dir") else '"$d"'
    # the same folder as default_state_dir() of the module, which runs as the same user
    default = 'd=/var/lib/sop; [ "$(id -u)" -eq 0 ] || d=$HOME/.local/state/sop'
    return f"{default}; head -c {MAX_BYTES} {folder}/{shlex.quote(file_name(name, case))} 2>/dev/null || true"


class Watch:
    """``with Watch(…):`` around the module's run. ``tell`` gets each new state: host, dataset, and the file's keys."""

    def __init__(
        self,
        action: ActionBase,
        host: str,
        dataset: dict[str, Any],
        case: str,
        tell: Callable[[dict[str, Any]], object],
    ) -> None:
        self._action = action
        self._about = {"kind": "progress", "host": host, "dataset": str(dataset.get("id"))}
        self._command = command_for(dataset, case)
        self._tell = tell
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="sop-watch", daemon=True)

    def __enter__(self) -> Watch:
        if self._command and str(self._action._connection.transport).rsplit(".", 1)[-1] in TRANSPORTS:
            self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(GRACE)

    def _look(self) -> None:
        last: dict[str, Any] | None = None
        failures = 0
        while not self._over.wait(PAUSE) and failures < PATIENCE:
            try:
                found = self._read()
            except Exception:  # not reachable, not allowed, not JSON: the run itself will say what is wrong
                failures += 1
                continue
            failures = 0
            if found and found != last and not self._over.is_set():
                last = found
                self._tell({**self._about, **found})

    def _read(self) -> dict[str, Any] | None:
        """What the file says now; None when there is none."""
        answer = self._eye()._low_level_execute_command(self._command, in_data=b"\n")
        if answer["rc"] != 0:
            raise OSError(answer["rc"])
        text = answer["stdout"].strip()
        if not text:
            return None
        state = json.loads(text)
        return {key: state[key] for key in KEYS if key in state}

    def _eye(self) -> ActionBase:
        """The action with connection and become of its own, with the options of the task's.

        Both keep what they are just doing in themselves (the mark that tells success, a pipe for the password), so one
        of them must not serve two commands. An SSH connection to the same host goes through the master that is there.
        """
        eye = copy.copy(self._action)
        eye._connection = copy.copy(self._action._connection)
        if eye._connection.become is not None:
            eye._connection.become = copy.copy(eye._connection.become)
        return eye
