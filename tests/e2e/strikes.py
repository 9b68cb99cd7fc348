# SPDX-License-Identifier: Apache-2.0
"""Kills on a lab host at a chosen moment of a backup: a watch on the host itself, so that the moment is hit.

What runs on the host is told apart by what it is: the dump program by its name, restic by its arguments, the module as the
parent of restic, the SSH connection as the module's sshd.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.hosts import Lab

#: bytes that restic has read, in the middle of a dump or of its proof
MIDDLE = 12_000_000
SECONDS = 240.0

_WATCH = r"""
import os, signal, sys, time

victim, moment, program, middle, seconds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])


def read(pid, name):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def stat(pid):
    text = read(pid, "stat").decode("utf-8", "replace")
    return text[text.find("(") + 1 : text.rfind(")")], int((text.rpartition(")")[2].split() or [0, 0])[1])


def done(pid, key):
    return next((int(line.split()[1]) for line in read(pid, "io").splitlines() if line.startswith(key)), 0)


def manifest(words):
    return any(word.endswith("manifest.json") for word in words)


MOMENTS = {
    "beginning": lambda pid, words: "backup" in words and not manifest(words),
    "middle": lambda pid, words: "backup" in words and not manifest(words) and done(pid, b"rchar") > middle,
    "manifest": lambda pid, words: "backup" in words and manifest(words),
    "verifying": lambda pid, words: {"dump", "restore"} & set(words) and not manifest(words)
    and done(pid, b"wchar") > middle,
}


def struck(restic):
    if victim == "restic":
        return [restic]
    if victim == "dump":
        # the program is asked for its version first, with nothing but that
        return [pid for pid in pids() if stat(pid)[0] == program and read(pid, "cmdline").count(b"\0") > 3]
    module = stat(restic)[1]
    if victim == "module":
        return [module]
    found, each = [], module
    while each > 1:
        name, parent = stat(each)
        if name.startswith("sshd") and parent > 1:
            found.append(each)
        each = parent
    return found if victim == "ssh" else [restic]


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


end = time.monotonic() + seconds
while time.monotonic() < end:
    for pid in pids():
        if stat(pid)[0] != "restic":
            continue
        words = read(pid, "cmdline").decode("utf-8", "replace").split("\0")
        if not MOMENTS[moment](pid, words):
            continue
        hit = struck(pid)
        if not hit:
            continue
        if victim != "sopctl":
            for each in hit:
                os.kill(each, signal.SIGKILL)
        print("struck", *hit)
        sys.exit()
    time.sleep(0.002)
sys.exit("the moment never came")
"""


@dataclass(frozen=True)
class Strike:
    """SIGKILL on ``host`` to ``victim`` (dump, restic, module, ssh) at ``moment`` (beginning, middle, manifest: the dump is
    stored and its manifest is being written, verifying). For ``sopctl`` the watch only tells when the moment is there."""

    host: str
    victim: str
    moment: str
    program: str = ""

    def watch(self, lab: Lab) -> str:
        """Wait for the moment and strike; what was struck."""
        words = [self.victim, self.moment, self.program, str(MIDDLE), str(SECONDS)]
        return lab.exec(self.host, ["python3", "-c", _WATCH, *words], timeout=SECONDS + 30)


@contextmanager
def striking(lab: Lab, *strikes: Strike) -> Iterator[list[Future[str]]]:
    """Watch for all of ``strikes`` while the block runs; afterwards each has found its moment."""
    with ThreadPoolExecutor(len(strikes)) as pool:
        futures = [pool.submit(strike.watch, lab) for strike in strikes]
        yield futures
        for future in futures:
            assert future.result().startswith("struck ")
