# SPDX-License-Identifier: Apache-2.0
"""A sopctl at work, for tests that interrupt it, kill it, or do something to its hosts at a chosen moment."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass, field

from tests.e2e.checks import wait_until
from tests.support.site_builder import SiteBuilder


@dataclass
class Running:
    """A sopctl at work, whose progress is read line by line."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def until(self, *words: str) -> None:
        """Read on until a line holds all of ``words``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if all(word in line for word in words):
                return
        raise AssertionError(f"ended ({self.process.wait()}) before {words}:\n{''.join(self.lines)}")

    def interrupt(self) -> None:
        """What a terminal sends on Ctrl-C: SIGINT to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """What the kernel does to sopctl when memory is short; returns when its Ansible is gone too."""
        found = ["ps", "-o", "pid=", "--ppid", str(self.process.pid)]
        children = subprocess.run(found, capture_output=True, text=True, check=False).stdout
        self.process.kill()
        self.process.wait()
        assert wait_until(lambda: not any(alive(int(pid)) for pid in children.split()), 60), "Ansible runs on"

    def end(self) -> int:
        """Read to the end; the exit code."""
        assert self.process.stdout is not None
        self.lines += self.process.stdout.readlines()
        code = self.process.wait(120)
        assert "Traceback" not in self.text, self.text
        return code

    @property
    def text(self) -> str:
        """All output so far."""
        return "".join(self.lines)


def execute(site: SiteBuilder, case: str) -> Running:
    """Start the execution of a case."""
    return Running(site.start("case", "execute", case, "--json", as_="pelaksana"))


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip()) and not done.stdout.startswith("Z")
