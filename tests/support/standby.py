# SPDX-License-Identifier: Apache-2.0
"""sopctl for tests that start it thousands of times: a process that has loaded it forks one for each command.

What a command gets is what the kernel would give a new one: its own process, argv, environment, working directory and
standard streams; it runs the same ``main`` and ends by itself. Only loading, half a second of computing, is not done again.
Tests that look at the process (signals, names, terminals), and those of the wheel, start the installed program.

    python -m tests.support.standby FD      the server: requests come as datagrams on the inherited socket FD
"""

from __future__ import annotations

import array
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
#: settings that are read when an interpreter starts: with others than these, a new one is started
AT_START = {"LC_ALL": "C.UTF-8"}
LONGEST = 1 << 18  # bytes of a request


# --- the server ------------------------------------------------------------------------------------------------


def _load() -> None:
    """What most commands need."""
    import bagit  # noqa: F401
    import jinja2.sandbox  # noqa: F401
    import segno  # noqa: F401

    import sopctl.cli  # noqa: F401


def serve(requests: socket.socket) -> None:
    """Fork for each request until the one who asks has gone."""
    _load()
    waiting: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as ready:
        ready.register(requests, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not requests:
                    pid, answer = waiting.pop(key.fd)
                    ready.unregister(key.fd)
                    os.close(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with suppress(OSError):
                        answer.send(str(code).encode())
                    answer.close()
                    continue
                data, fds, _, _ = socket.recv_fds(requests, LONGEST, 4)
                if not data:
                    return
                pid = os.fork()
                if pid == 0:
                    ready.close()
                    _become(json.loads(data), fds, [requests, *(each for _, each in waiting.values())])
                for fd in fds[:3]:
                    os.close(fd)
                answer = socket.socket(fileno=fds[3])
                with suppress(OSError):
                    answer.send(str(pid).encode())
                descriptor = os.pidfd_open(pid)
                waiting[descriptor] = pid, answer
                ready.register(descriptor, selectors.EVENT_READ)


def _become(request: dict[str, Any], fds: Sequence[int], others: Sequence[socket.socket]) -> NoReturn:
    """Be the command; its end is the end of this process."""
    for number, fd in enumerate(fds[:3]):
        os.dup2(fd, number)
    for fd in fds:
        os.close(fd)
    for other in others:
        other.close()
    # as a new interpreter opens them, and until the end of the process
    sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = request["argv"]
    from sopctl.cli import main

    main()
    raise AssertionError("main returned")


# --- who asks --------------------------------------------------------------------------------------------------


class Standby:
    """The server of this process."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        env = {**os.environ, **AT_START, "PYTHONPYCACHEPREFIX": str(ROOT / ".cache/pyc")}
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.support.standby", str(theirs.fileno())],
            cwd=ROOT,
            env=env,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()

    def run(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` with both streams captured as text and nothing on standard input."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends = [os.pipe(), os.pipe()]
        null = os.open(os.devnull, os.O_RDONLY)
        sent = [null, ends[0][1], ends[1][1], theirs.fileno()]
        request = json.dumps({"argv": list(argv), "env": dict(env), "cwd": str(cwd)}).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", sent))]
        self._requests.sendmsg([request], rights)
        for fd in sent[:3]:
            os.close(fd)
        theirs.close()
        with ours:
            pid = int(ours.recv(32))
            texts = _read(pid, [ends[0][0], ends[1][0]], argv, timeout)
            code = int(ours.recv(32))
        return subprocess.CompletedProcess(list(argv), code, *texts)


def _read(pid: int, ends: list[int], argv: Sequence[str], timeout: float) -> list[str]:
    """What comes from both pipes until all who hold them have closed them."""
    read: dict[int, list[bytes]] = {fd: [] for fd in ends}
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as ready:
        for fd in ends:
            ready.register(fd, selectors.EVENT_READ)
        while ready.get_map():
            found = ready.select(max(0.0, end - time.monotonic()))
            if not found:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(argv), timeout)
            for key, _ in found:
                piece = os.read(key.fd, 1 << 16)
                read[key.fd].append(piece)
                if not piece:
                    ready.unregister(key.fd)
                    os.close(key.fd)
    return [b"".join(read[fd]).decode().replace("\r\n", "\n") for fd in ends]


@cache
def _standby(_pid: int) -> Standby:
    return Standby()


def standby() -> Standby:
    """The server of this process, started at the first use; it ends with us."""
    return _standby(os.getpid())


def fits(env: Mapping[str, str]) -> bool:
    """Whether a command with this environment is what the server would fork."""
    settings = {name: value for name, value in env.items() if name.startswith(("LC_", "LANG", "PYTHON"))}
    settings.pop("PYTHONPYCACHEPREFIX", None)
    return settings == AT_START


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
