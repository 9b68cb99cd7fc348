# SPDX-License-Identifier: Apache-2.0
"""Prints the demo: what a step is, the command before it runs, and what it said. Anything unexpected ends the demo."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

OUTPUT, REMARK = 4, 2  # columns of indentation


class Unexpected(Exception):  # it names what happened
    """A command did not end as the story needs; ``code`` is the demo's exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Narrator:
    """Prints and runs. ``folder`` is where commands run, ``environment`` what is added to theirs; ``exits`` counts codes."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder
        self.console = Console(highlight=False)
        self._environment = environment
        self._scene = 0
        self.exits: Counter[int] = Counter()

    # words ----------------------------------------------------------------------------------------------------

    def scene(self, title: str) -> None:
        """The next part of the story."""
        self._scene += 1
        self.console.print()
        self.console.print(Rule(Text(f"{self._scene}  {title}", "bold cyan"), align="left", style="cyan"))

    def step(self, meaning: str, sop: str = "") -> None:
        """One step: its words in the SOP (Indonesian), and what they mean here."""
        self.console.print()
        if sop:
            self._print(Text(f"SOP: {sop}", "bold"), 0)
        self._print(Text(meaning, "italic" if sop else ""), 0)

    def remark(self, text: str, style: str = "") -> None:
        """A line of our own below a command."""
        self._print(Text(text, style), REMARK)

    def shown(self, text: str) -> None:
        """A file's or program's text."""
        for line in text.rstrip("\n").splitlines():
            self._print(Text.from_ansi(line), OUTPUT)

    def command(self, words: Sequence[str]) -> None:
        """The command as a person would type it."""
        for line in wrapped(words, max(self.console.width - 2, 40)):
            self._print(Text(line, "bold green"), 0)

    def _print(self, text: Text, indent: int) -> None:
        lines = [text]
        if self.console.is_terminal and text.cell_len + indent > self.console.width:
            own = len(text.plain) - len(text.plain.lstrip())  # what continues a line stands two columns further in
            rest = text[own:]
            lines = [Text(" " * own) + line for line in rest.wrap(self.console, self.console.width - indent - own - 2)]
            lines[1:] = [Text("  ") + line for line in lines[1:]]
        for line in lines:  # nothing is broken into lines where a program reads
            line.rstrip()
            self.console.print(Text(" " * indent) + line, soft_wrap=True)

    # commands -------------------------------------------------------------------------------------------------

    def sopctl(self, *words: str, exits: int = 0, says: Sequence[str] = ()) -> str:
        """Run one of sopctl's commands; returns what it printed."""
        return self.run(["sopctl", *words], [sys.executable, "-P", "-m", "sopctl", *words], exits=exits, says=says)

    def run(
        self,
        typed: Sequence[str],
        words: Sequence[str] | None = None,
        *,
        exits: int = 0,
        says: Sequence[str] = (),
    ) -> str:
        """Show ``typed`` and run ``words`` (the same unless given). Unexpected when exit code or output is not as told."""
        self.command(typed)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SOPCTL_")}
        environment |= self._environment | {"PYTHONUNBUFFERED": "1"}
        if self.console.is_terminal:
            environment |= {"COLUMNS": str(self.console.width - OUTPUT)}
            if not self.console.no_color:
                environment |= {"FORCE_COLOR": "1"}
        said: list[str] = []
        with subprocess.Popen(
            list(words or typed),
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as child:
            assert child.stdout is not None  # noqa: S101  # asked for above
            try:
                for line in child.stdout:
                    said.append(Text.from_ansi(line.rstrip("\n")).plain)
                    self.shown(line)
            except KeyboardInterrupt:  # the command got it too, and may have to bring a service back first
                child.wait()
                raise
        if exits:
            self.remark(f"exit {child.returncode}", "bold yellow")
        self.exits[child.returncode] += 1
        self._check(list(typed), child.returncode, "\n".join(said), exits, says)
        return "\n".join(said)

    def _check(self, typed: list[str], code: int, said: str, exits: int, says: Sequence[str]) -> None:
        short = shlex.join(typed[:4])
        if code != exits:
            refusal = ": what must be refused was not" if exits and not code else ""
            raise Unexpected(f"`{short} …` ended with exit {code}, expected was {exits}{refusal}.", code or 1)
        for word in says:
            if word not in said:
                raise Unexpected(f"`{short} …` did not say {word!r}.", 1)

    def expect(self, good: bool, what: str) -> None:
        """Print ``what`` with a mark; Unexpected when it is not so."""
        self.remark(f"{'✔' if good else '✘'} {what}", "green" if good else "bold red")
        if not good:
            raise Unexpected(f"Not so: {what}", 1)


def wrapped(words: Sequence[str], width: int) -> list[str]:
    """A command in lines of at most ``width``, where it can be broken before options."""
    lines, line = [], "$"
    parts: list[str] = []
    for word in words:
        quoted = shlex.quote(word)
        if parts and parts[-1].startswith("-") and " " not in parts[-1] and not word.startswith("-"):
            parts[-1] += f" {quoted}"  # an option stays with its value
        else:
            parts.append(quoted)
    for part in parts:
        if len(line) + 1 + len(part) + 2 > width and part.startswith("-"):
            lines.append(f"{line} \\")
            line = "   "
        line += f" {part}"
    return [*lines, line]
