# SPDX-License-Identifier: Apache-2.0
"""One Ansible run, started through ansible-runner in an environment of our own making, and judged by what it did.

This is the only module that imports ansible_runner. A green exit code is not believed: the planned hosts must have
returned evidence, the event counters must be contiguous, and the play must have come to its end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from sopctl import content
from sopctl.models import Json
from sopctl.redact import Redactor

#: where Ansible would look for plugins that no approval names (defaults lie in the home and in /usr/share)
PLUGIN_PATHS = (
    "ACTION_PLUGINS", "BECOME_PLUGINS", "CACHE_PLUGINS", "CALLBACK_PLUGINS", "CLICONF_PLUGINS", "CONNECTION_PLUGINS", "DOC_FRAGMENT_PLUGINS",
    "FILTER_PLUGINS", "HTTPAPI_PLUGINS", "INVENTORY_PLUGINS", "LIBRARY", "LOOKUP_PLUGINS", "MODULE_UTILS",
    "NETCONF_PLUGINS", "STRATEGY_PLUGINS", "TERMINAL_PLUGINS", "TEST_PLUGINS", "VARS_PLUGINS",
)  # fmt: skip
PASSED_ON = ("HOME", "USER", "SSH_AUTH_SOCK")
FROM_RUNNER = ("AWX_ISOLATED_DATA_DIR", "ANSIBLE_STDOUT_CALLBACK")


@dataclass(frozen=True)
class RunRequest:
    """What to run. ``folder`` is a short private folder for sockets; ``keep`` is where events and stdout go."""

    playbook: str
    inventories: list[Path]
    folder: Path
    keep: Path
    hosts: list[str]  # those that must return evidence
    all_hosts: list[str]  # all that may
    known_hosts: str
    check: bool = False
    forks: int = 10
    vault_password_file: Path | None = None
    gate: Path | None = None


@dataclass
class RunOutcome:
    """What a run did. ``problems`` are reasons not to believe it, whatever its exit code says."""

    rc: int = -1
    status: str = "unstarted"
    stats: Json | None = None
    evidence: list[Json] = field(default_factory=list)
    failures: list[Json] = field(default_factory=list)
    unreachable: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    changed: int = 0
    events: int = 0
    interrupted: bool = False
    problems: list[str] = field(default_factory=list)


def tool_path() -> str:
    """PATH with the interpreter's own bin first: a venv need not be activated."""
    own = str(Path(sys.executable).parent)
    rest = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
    return ":".join([own, *[part for part in rest if part.startswith("/") and part != own]])


def environment(folder: Path, known_hosts: Path | None = None) -> dict[str, str]:
    """The whole environment of an Ansible process: an allow-list, so that nothing of the caller's leaks or steers."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    # A host whose link is cut says nothing at all: without asking, a run would wait for it until TCP gives up.
    alive = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
    ssh = f"{alive} -C -o ControlMaster=auto -o ControlPersist=60s -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o UpdateHostKeys=no"
    if known_hosts:
        ssh += f" -o UserKnownHostsFile={known_hosts}"
    return env | {
        "HOME": env.get("HOME", str(Path.home())),
        "PATH": tool_path(),
        "LC_ALL": "C.UTF-8",
        # Ansible's own code comes compiled by who installed it: compiling it anew takes longer than most runs. What is in
        # a collection Ansible itself always compiles from the source.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "ANSIBLE_CONFIG": str(content.package() / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(content.collections_root()),
        "ANSIBLE_ROLES_PATH": str(folder / "none"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_HOME": str(folder / "none"),  # else plugins of the account's own home would run
        **{f"ANSIBLE_{name}": str(folder / "none") for name in PLUGIN_PATHS},
        "ANSIBLE_SSH_ARGS": ssh,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder / "cp"),
        "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_NOCOLOR": "1",
    }


class Stop:
    """Ctrl-C while a run is on. First: no further step is granted. Second: SIGINT to Ansible itself, unless data is
    between stop and swap (``critical``); then the run goes on until the service is up again."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked = 0
        self.critical = False
        self.stops: set[tuple[str, str]] = set()  # (host, service) whose stop was granted
        self._say = say
        self._marker = ""
        self._previous: list[tuple[int, Any]] = []

    def install(self, marker: str) -> None:
        """Take SIGINT and SIGTERM over; ``marker`` is found in the environment of the Ansible process we started."""
        self._marker = marker
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                self._previous.append((number, signal.signal(number, self._handle)))

    def remove(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous:
            signal.signal(number, handler)
        self._previous = []

    def _handle(self, *_: object) -> None:
        self.asked += 1
        if self.critical:
            self._tell("Interrupted, but the service is stopped: finishing until it is up again.")
        elif self.asked == 1:
            self._tell("Interrupted: the running step is finished, then the run ends. Once more stops it at once.")
        else:
            self._tell("Stopping Ansible. Work under way on the hosts runs to its end there.")
            for pid in self._children():
                os.kill(pid, signal.SIGINT)

    def _tell(self, text: str) -> None:
        try:
            self._say(text)
        except RuntimeError:  # the signal came in the middle of a write to the same stream
            os.write(2, f"{text}\n".encode())

    def _children(self) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
                if parent == os.getpid() and self._marker.encode() in entry.joinpath("environ").read_bytes():
                    found.append(int(entry.name))
            except (OSError, ValueError, IndexError):
                continue
        return found


class _Collector:
    """Takes every event: keeps one compressed stream, gathers evidence, never raises (it records that it failed).

    Each event is handed to the kernel when it comes: when sopctl is killed, what Ansible had told is all there.
    """

    def __init__(self, keep: Path, redactor: Redactor, progress: Callable[[Json], None]) -> None:
        self.outcome = RunOutcome()
        self._redactor = redactor
        self._progress = progress
        self._events = zstandard.ZstdCompressor(level=6).stream_writer(
            (keep / "events.jsonl.zst").open("wb", buffering=0)
        )
        self._stdout = (keep / "stdout.txt").open("w", encoding="utf-8", buffering=1)
        self._last = 0

    def __call__(self, event: Json) -> bool:
        try:
            self._take(event)
        except Exception as error:  # ansible-runner would swallow it and report success
            self.outcome.problems.append(f"an event could not be kept ({type(error).__name__}: {error})")
        return False

    def _take(self, event: Json) -> None:
        counter = event.get("counter")
        if counter is not None:
            if counter != self._last + 1:
                self.outcome.problems.append(f"events {self._last + 1} to {counter - 1} are missing")
            self._last = counter
        clean = self._redactor.value(event)
        self._events.write(json.dumps(clean, ensure_ascii=False, sort_keys=True).encode() + b"\n")
        self._events.flush(zstandard.FLUSH_BLOCK)
        if clean.get("stdout"):
            self._stdout.write(clean["stdout"] + "\n")
        self.outcome.events += 1
        self._gather(clean)
        self._progress(clean)

    def _gather(self, event: Json) -> None:
        kind, data = event.get("event", ""), event.get("event_data") or {}
        result = data.get("res") or {}
        evidence = result.get("sop_evidence")
        if isinstance(evidence, dict) and kind in {
            "runner_on_ok",
            "runner_on_failed",
            "runner_item_on_ok",
            "runner_item_on_failed",
        }:
            self.outcome.evidence.append(
                {**evidence, "changed": bool(result.get("changed")), "failed": bool(result.get("failed"))}
            )
        if kind == "playbook_on_stats":
            self.outcome.stats = {
                key: value
                for key, value in data.items()
                if key in {"ok", "changed", "failures", "dark", "skipped", "rescued", "ignored", "processed"}
            }
            self.outcome.changed = sum((data.get("changed") or {}).values())
        elif kind == "runner_on_unreachable":
            self.outcome.unreachable[str(data.get("host"))] = reason(result.get("msg"), unreachable=True)
        elif kind in {"runner_on_failed", "runner_item_on_failed"} and not data.get("ignore_errors"):
            if result.get("results") is not None and kind == "runner_on_failed":
                return
            msg, dataset = reason(result.get("msg"), unreachable=bool(result.get("sop_unreachable"))), _dataset(result)
            if result.get("sop_unreachable") and dataset:  # what ssh says names the host alone
                msg = f"{dataset}: {msg}"
            failure = {
                "host": result.get("sop_host") or data.get("host"),
                "task": data.get("task"),
                "msg": msg,
                "dataset": dataset,
            }
            if failure in self.outcome.failures:
                return  # told again by the rescue
            self.outcome.failures.append(failure)
            if result.get("sop_refused"):
                self.outcome.refused.append(str(failure["msg"]))

    def close(self) -> None:
        """Close both files; a full disk is a problem of the run, not a crash."""
        for stream in (self._events, self._stdout):
            try:
                stream.close()
            except OSError as error:
                self.outcome.problems.append(f"the event stream could not be closed ({error.strerror})")


_NO_SUDO = (
    r"(?i)(missing|incorrect|invalid) (sudo|become) password|a password is required|not in the sudoers",
    "sudo refuses; put ansible_become_password into a vaulted file of the inventory, or allow this user in sudoers there",
)
#: what ssh says about a host that cannot be reached: cause and next step in our words
_NO_WAY_THERE = (
    (
        r"Host key verification failed",
        "its SSH host key is not the one in the register; compare /etc/ssh/ssh_host_ed25519_key.pub there with ssh_host_key in register/servers: a difference that nobody planned is an attack",
    ),
    (
        r"\S*: Permission denied \(",
        "SSH refuses the login; see ansible_user and ansible_ssh_private_key_file in the inventory, and authorized_keys there",
    ),
    (
        r"(?i)(ssh: connect to host .*|ssh: )?(connection refused|timed out|no route to host|network is unreachable|could not resolve|connection closed|connection reset)",
        "see that the host runs and its sshd listens, or correct ansible_host in the inventory",
    ),
)


def reason(text: Any, *, unreachable: bool = False) -> str:
    """What a host or Ansible said, on one line: the line that tells the cause, and the next step where we know one."""
    lines = [line.strip() for line in str(text or "").splitlines() if line.strip()]
    for pattern, step in (_NO_SUDO, *(_NO_WAY_THERE if unreachable else ())):
        for line in lines:
            if found := re.search(pattern, line):
                return f"{line[found.start() :].rstrip('.')}: {step}"
    if len(lines) > 1 and lines[0].endswith(":"):
        return " ".join(lines)  # a heading says nothing without what stands under it
    return lines[0] if lines else "no message"


def _first_line(text: Any) -> str:
    lines = str(text or "").strip().splitlines()
    return lines[0] if lines else "no message"


def _dataset(result: Mapping[str, Any]) -> str | None:
    if result.get("sop_dataset"):  # a host that does not answer says nothing of its arguments
        return str(result["sop_dataset"])
    for source in (result.get("sop_evidence"), (result.get("invocation") or {}).get("module_args")):
        if isinstance(source, Mapping):
            value = source.get("dataset")
            if isinstance(value, Mapping):
                return str(value.get("id"))
            if value:
                return str(value)
    return None


def run(request: RunRequest, redactor: Redactor, progress: Callable[[Json], None], stop: Stop) -> RunOutcome:
    """Run the playbook and return what it did. Never raises for what Ansible or a host did."""
    from ansible_runner.config.runner import RunnerConfig
    from ansible_runner.runner import Runner

    for name in ("project", "tmp", "cp", "pyc"):
        (request.folder / name).mkdir(mode=0o700, exist_ok=True)
    known = request.folder / "known_hosts"
    known.write_text(request.known_hosts)
    collector = _Collector(request.keep, redactor, progress)
    outcome = collector.outcome
    config = RunnerConfig(
        private_data_dir=str(request.folder),
        playbook=request.playbook,
        inventory=[str(path) for path in request.inventories],
        ident="a",
        quiet=True,
        suppress_env_files=True,
        forks=request.forks,
        settings={"pexpect_timeout": 1, "suppress_output_file": True},
        cmdline=_options(request),
    )
    config.prepare()
    config.env = _runner_environment(config.env, request, known)
    config.cwd = str(request.folder / "project")
    if shutil.which(
        "setpriv"
    ):  # an Ansible whose terminal is gone waits for ever; nothing is granted to it then anyway
        config.command = ["setpriv", "--pdeathsig", "KILL", "--", *config.command]
    stop.install(str(request.folder))
    try:
        runner = Runner(config, event_handler=collector)
        runner.run()
        outcome.rc, outcome.status = runner.rc, runner.status
    except Exception as error:  # ansible-runner raises many kinds; none of them is the user's to read as a traceback
        outcome.problems.append(f"ansible-runner failed ({type(error).__name__}: {_first_line(error)})")
    finally:
        stop.remove()
        collector.close()
        _close_masters(request.folder / "cp")
    outcome.interrupted = stop.asked > 0
    judge(request, outcome)
    return outcome


def _options(request: RunRequest) -> str | None:
    options = []
    if request.check:
        options.append("--check")
    if request.vault_password_file:
        options.append(f"--vault-password-file '{request.vault_password_file}'")
    return " ".join(options) or None


def _runner_environment(made: Mapping[str, str], request: RunRequest, known: Path) -> dict[str, str]:
    import ansible_runner

    env = environment(request.folder, known)
    env |= {name: made[name] for name in FROM_RUNNER if name in made}
    env["ANSIBLE_CALLBACK_PLUGINS"] = str(Path(ansible_runner.__file__).parent / "display_callback" / "callback")
    env["SOPCTL_RUN"] = str(request.folder)
    if request.gate:
        env["SOPCTL_GATE"] = str(request.gate)
    return env


def _close_masters(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else []:
        command = ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "any"]
        env = {"PATH": tool_path()}  # the caller's may hold secrets
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def judge(request: RunRequest, outcome: RunOutcome) -> None:
    """Add to ``problems`` whatever makes the run not believable. A run that failed plainly needs no more reasons."""
    if outcome.stats is None and (outcome.rc == 0 or not outcome.interrupted):
        outcome.problems.append(f"the play did not come to its end (ansible exited {outcome.rc})")
    answered = {str(item.get("host")) for item in outcome.evidence}
    silent = [host for host in request.hosts if host not in answered and host not in outcome.unreachable]
    if silent and (outcome.rc == 0 or not (outcome.failures or outcome.interrupted)):
        outcome.problems.append(f"planned hosts returned no evidence: {', '.join(silent)}")
    extra = answered - set(request.all_hosts)
    if extra:
        outcome.problems.append(f"hosts that were not planned returned evidence: {', '.join(sorted(extra))}")
    if outcome.rc == 0 and outcome.unreachable:
        outcome.problems.append(f"exit 0 although hosts did not answer: {', '.join(sorted(outcome.unreachable))}")
