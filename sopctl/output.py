# SPDX-License-Identifier: Apache-2.0
"""One result, rendered for a person (rich) or for a program (``--json``)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from rich.box import SQUARE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sopctl.errors import GateRefused, SopctlError
from sopctl.models import Json

SHORT = {
    "",
    "step",
    "act",
    "case",
    "record",
    "at",
    "date",
    "kind",
    "flow",
    "outcome",
    "due",
    "period",
    "time",
    "took / limit",
}
STATE_COLOUR = {"selesai": "green", "ditolak": "red", "berjalan": "yellow", "dibatalkan": "red", "rusak": "red"}


class Output:
    """Where a command's words go: results to stdout, everything else to stderr."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, value: Any, render: Callable[[Output], None]) -> None:
        """Print ``value`` as JSON, or let ``render`` print it for a person."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n")
        else:
            render(self)

    def line(self, text: str, style: str = "") -> None:
        """One line of the result; ``text`` is printed as it is."""
        self.out.print(escape(text), style=style)

    def remark(self, text: str) -> None:
        """A remark for the person, never part of the result."""
        self.err.print(escape(text), style="dim")

    def table(self, columns: list[str], rows: list[list[str]], title: str | None = None) -> None:
        """A table; wide cells are folded, nothing is cut."""
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=column in SHORT)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.out.print(table)

    def ruled(self, columns: list[tuple[str, int]], rows: list[list[str]], *, tight: bool = False) -> None:
        """A table with a rule between its rows; a column is its heading and its width. Nothing is cut."""
        table = Table(box=SQUARE, show_lines=True, header_style="bold", padding=(0, 0 if tight else 1))
        for heading, width in columns:
            table.add_column(escape(heading), overflow="fold", width=width)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.out.print(table)

    def error(self, error: SopctlError) -> None:
        """The error, in one line; every reason of a refusal is in it."""
        if self.as_json:
            reasons = list(error.reasons) if isinstance(error, GateRefused) else [error.message]
            value = {"error": str(error), "reasons": reasons, "exit": int(error.exit_code)}
            sys.stderr.write(json.dumps(value, ensure_ascii=False) + "\n")
        else:
            kind = "" if isinstance(error, GateRefused) else "error: "
            self.err.print(f"[bold red]sopctl:[/] {kind}{escape(str(error))}")


def duration(seconds: int | None) -> str:
    """``3 d``, ``2 h 5 m``, ``4 s``; empty for None."""
    if seconds is None:
        return ""
    sign, value = ("-" if seconds < 0 else ""), abs(seconds)
    for size, unit, small, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if value >= size:
            rest = value % size // small
            return f"{sign}{value // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{sign}{value} s"


def size(count: int | None) -> str:
    """Bytes for a person: ``1.2 MB``."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return ""


class Progress:
    """What a run says while it goes: each task once, and each piece of evidence as a line."""

    def __init__(self, output: Output, *, check: bool = False) -> None:
        self._output = output
        self._changed = "would change" if check else "changed"

    def __call__(self, event: Json) -> None:
        data = event.get("event_data") or {}
        if event.get("event") == "playbook_on_task_start":
            if self._output.as_json:
                self._emit({"task": data.get("name")})
            return
        if event.get("event") not in {"runner_on_ok", "runner_item_on_ok", "runner_on_failed", "runner_item_on_failed"}:
            return
        result = data.get("res") or {}
        evidence = result.get("sop_evidence")
        if not isinstance(evidence, dict):
            return
        if self._output.as_json:
            self._emit(
                {"host": evidence.get("host"), "kind": evidence.get("kind"), "changed": bool(result.get("changed"))}
            )
            return
        mark = self._changed if result.get("changed") else "ok"
        self._output.err.print(escape(f"  {evidence.get('host')}: {describe(evidence)} [{mark}]"), style="cyan")

    def _emit(self, value: Json) -> None:
        sys.stderr.write(json.dumps({"progress": value}, ensure_ascii=False) + "\n")


def describe(evidence: Json) -> str:
    """One piece of evidence in a few words."""
    kind, name = evidence.get("kind"), evidence.get("dataset") or ""
    if isinstance(name, dict):
        name = name.get("id", "")
    tables: Any = evidence.get("tables") or {}
    if kind == "vault":
        return "vault repository made" if evidence.get("created") else "vault repository ready"
    if kind == "backup":
        stored = "already stored for this period" if evidence.get("reused") else "stored"
        return f"{name} {stored}: {evidence.get('name')} ({size(evidence.get('bytes'))})"
    if kind == "verify":
        proof = f"{len(tables)} counts equal" if tables else "equal"
        return (
            f"{name} verified by restoring it into scratch: {proof}" if evidence.get("ok") else f"{name} NOT verified"
        )
    if kind == "service":
        service = evidence.get("service")
        service = service.get("name") if isinstance(service, dict) else service
        return f"service {service} {evidence.get('state')}" + (", healthy" if evidence.get("healthy_at") else "")
    if kind == "quiesce":
        proof = ", ".join(
            f"{key} {value}" for key, value in (evidence.get("proof") or {}).items() if isinstance(value, int | bool)
        )
        return (
            f"{name} quiet{': ' + proof if proof else ''}"
            if evidence.get("state") == "quiesced"
            else f"{name} open to writers again"
        )
    words = {
        "stage": "staged beside the live data",
        "swap": "swapped",
        "finalise": "identity checked",
        "revert": "old data back",
    }
    kept = f", old data kept as {evidence.get('before')}" if kind == "swap" and evidence.get("before") else ""
    return f"{name} {words.get(str(kind), str(kind))}{kept}"
