# SPDX-License-Identifier: Apache-2.0
"""One result, rendered for a person (rich) or for a program (``--json``)."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from rich.box import SQUARE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sopctl.errors import GateRefused, SopctlError
from sopctl.models import Json
from sopctl.progress import EVENT, Advance, Pace

#: lines above which laying them out takes longer than finding them out
MANY = 200
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
        self._passing = ""
        #: progress comes from a thread of the gate's; a signal may speak in the middle of a line of its own thread
        self.lock = threading.RLock()

    @property
    def can_update(self) -> bool:
        """Whether a line on stderr can be written over."""
        return not self.as_json and self.err.is_terminal and not self.err.is_dumb_terminal

    def passing(self, text: str) -> None:
        """Show ``text`` as a line that the next words replace; an empty one takes it away."""
        with self.lock:
            if text == self._passing or not self.can_update:
                return
            width = max(self.err.width - 1, 1)
            shown = text if len(text) <= width else text[: width - 1] + "…"
            self._passing = text
            self.err.file.write(f"\r\x1b[2K{shown}")
            self.err.file.flush()

    def result(self, value: Any, render: Callable[[Output], None]) -> None:
        """Print ``value`` (or what it returns, where it is much to make) as JSON, or let ``render`` print it for a person."""
        self.passing("")
        if self.as_json:
            value = value() if callable(value) else value
            sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n")
        else:
            render(self)

    def line(self, text: str, style: str = "") -> None:
        """One line of the result; ``text`` is printed as it is."""
        self.passing("")
        self.out.print(escape(text), style=style)

    def lines(self, texts: list[str], style: str = "") -> None:
        """Lines of the result; thousands are printed as they are, for that takes rich longer than anything else does."""
        if len(texts) > MANY:
            self.page("".join(f"{text}\n" for text in texts))
            return
        for text in texts:
            self.line(text, style)

    def page(self, text: str) -> None:
        """A page that is read as it is written: not wrapped, not coloured."""
        self.out.file.write(text)

    def remark(self, text: str, style: str = "dim") -> None:
        """A remark for the person, never part of the result."""
        with self.lock:
            self.passing("")
            self.err.print(escape(text), style=style)

    def table(self, columns: list[str], rows: list[list[str]], title: str | None = None) -> None:
        """A table; wide cells are folded, nothing is cut."""
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold", no_wrap=column in SHORT)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.out.print(table)

    def long_table(self, columns: list[str], rows: list[list[str]]) -> None:
        """A table; of very many rows as plain lines with tabs."""
        if len(rows) > MANY:
            self.lines(["\t".join(row) for row in [columns, *rows]])
        else:
            self.table(columns, rows)

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
        self.passing("")
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


def kept_line(kept: Json) -> str:
    """One kept copy: where, which, how large, until when, and what to do."""
    what = "empty (its data is in the vault)" if kept["emptied"] else size(kept["bytes"]) or "size not known"
    then = f"until {kept['until'][:10]}" if not kept["past"] else f"its keep time was over on {kept['until'][:10]}"
    return f"{kept['server']} {kept['name']}, {what}, {then}; {kept['next']}"


def dropped_line(dropped: Json) -> str:
    """One copy that is gone."""
    what = f", {size(dropped['bytes'])}" if dropped["bytes"] is not None else ""
    return f"{dropped['host']} {dropped['name']}{what}: cleaned at {dropped['at']} by {dropped['by']}"


def sentence(advance: Advance, left: int | None) -> str:
    """``db01/simpeg: staging 412 of 930 MB, 44 %, about 12 s left``."""
    verb = {"backup": "backing up", "verify": "reading the backup", "stage": "staging"}[advance.what]
    where = f"{advance.host}/{advance.dataset}: {verb}"
    if advance.total is None:
        return f"{where}, {size(advance.done)} so far"
    whole = size(advance.total)
    number, _, unit = size(advance.done).partition(" ")
    done = number if whole.endswith(f" {unit}") else f"{number} {unit}"
    text = f"{where} {done} of {'about ' if advance.estimate else ''}{whole}, {advance.percent} %"
    if advance.moved:
        return f"{text}, now comparing"
    return text if left is None else f"{text}, about {duration(left)} left"


class Progress:
    """What a run says while it goes: each task once, each piece of evidence as a line, and how far dumps have come."""

    #: where no line can be written over: a dataset's next line comes after so many seconds, or percent
    QUIET_SECONDS = 30.0
    QUIET_PERCENT = 10

    def __init__(self, output: Output, *, check: bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self._output = output
        self._changed = "would change" if check else "changed"
        self._now = now
        self._pace = Pace(now)
        self._current: dict[tuple[str, str], str] = {}
        self._told: dict[tuple[str, str, str, str], tuple[float, int]] = {}

    def __call__(self, event: Json) -> None:
        with self._output.lock:
            self._take(event)

    def _take(self, event: Json) -> None:
        data = event.get("event_data") or {}
        if event.get("event") == EVENT:
            self._advance(Advance(**data))
            return
        if event.get("event") == "playbook_on_task_start":
            if self._output.as_json:
                self._emit({"progress": {"task": data.get("name")}})
            return
        if event.get("event") == "playbook_on_stats":
            self._current.clear()
            self._output.passing("")
            return
        if event.get("event") not in {"runner_on_ok", "runner_item_on_ok", "runner_on_failed", "runner_item_on_failed"}:
            return
        result = data.get("res") or {}
        evidence = result.get("sop_evidence")
        if not isinstance(evidence, dict):
            return
        self._current.pop((str(evidence.get("host")), str(evidence.get("dataset"))), None)
        if self._output.as_json:
            told = {key: evidence[key] for key in ("dataset", "service", "state", "phase") if evidence.get(key)}
            said = {"host": evidence.get("host"), "kind": evidence.get("kind"), **told}
            self._emit({"progress": {**said, "changed": bool(result.get("changed"))}})
            return
        mark = self._changed if result.get("changed") else "ok"
        self._output.remark(f"  {evidence.get('host')}: {describe(evidence)} [{mark}]", style="cyan")
        self._output.passing("; ".join(self._current.values()))

    def _advance(self, advance: Advance) -> None:
        left = self._pace.seconds_left(advance)
        if self._output.as_json:
            self._emit(
                {
                    "event": "progress",
                    "host": advance.host,
                    "dataset": advance.dataset,
                    "what": advance.what,
                    "done": advance.done,
                    "total": advance.total,
                    "estimate": advance.estimate,
                    "percent": advance.percent,
                    "seconds_left": left,
                    "started": advance.started,
                    "at": advance.at,
                }
            )
            return
        text = sentence(advance, left)
        if self._output.can_update:
            self._current[advance.host, advance.dataset] = text
            self._output.passing("; ".join(self._current.values()))
        elif self._is_news(advance):
            self._output.remark(f"  {text}")

    def _is_news(self, advance: Advance) -> bool:
        key = (advance.host, advance.dataset, advance.what, advance.started)
        now, percent = self._now(), advance.percent or 0
        at, before = self._told.get(key, (float("-inf"), 0))
        if now - at < self.QUIET_SECONDS and percent - before < self.QUIET_PERCENT:
            return False
        self._told[key] = (now, percent)
        return True

    def _emit(self, value: Json) -> None:
        sys.stderr.write(json.dumps(value, ensure_ascii=False) + "\n")


def describe(evidence: Json) -> str:
    """One piece of evidence in a few words."""
    kind = str(evidence.get("kind"))
    words = {
        "vault": _vault_words,
        "backup": _backup_words,
        "verify": _verify_words,
        "service": _service_words,
        "quiesce": _quiesce_words,
        "switch": _switch_words,
        "clean": _clean_words,
        "facts": _facts_words,
    }
    return words.get(kind, _step_words)(evidence)


def _name(evidence: Json) -> str:
    name = evidence.get("dataset") or ""
    return str(name.get("id", "") if isinstance(name, dict) else name)


def _vault_words(evidence: Json) -> str:
    return "vault repository made" if evidence.get("created") else "vault repository ready"


def _backup_words(evidence: Json) -> str:
    stored = "already stored for this period" if evidence.get("reused") else "stored"
    return f"{_name(evidence)} {stored}: {evidence.get('name')} ({size(evidence.get('bytes'))})"


def _verify_words(evidence: Json) -> str:
    if not evidence.get("ok"):
        return f"{_name(evidence)} NOT verified"
    if evidence.get("depth") == "read":
        short = evidence.get("short")
        why = f", for want of room to restore at {short['path']}" if short else ""
        return f"{_name(evidence)} read back whole{why}"
    tables: Any = evidence.get("tables") or {}
    proof = f"{len(tables)} counts equal" if tables else "equal"
    return f"{_name(evidence)} verified by restoring it into scratch: {proof}"


def _service_words(evidence: Json) -> str:
    service = evidence.get("service")
    service = service.get("name") if isinstance(service, dict) else service
    return f"service {service} {evidence.get('state')}" + (", healthy" if evidence.get("healthy_at") else "")


def _quiesce_words(evidence: Json) -> str:
    if evidence.get("state") == "released":
        return f"{_name(evidence)} open to writers again"
    proof = ", ".join(
        f"{key} {value}" for key, value in (evidence.get("proof") or {}).items() if isinstance(value, int | bool)
    )
    word = "quiet" if evidence.get("state") == "quiesced" else "closed to all but its safety backup"
    return f"{_name(evidence)} {word}{': ' + proof if proof else ''}"


def _switch_words(evidence: Json) -> str:
    phase, until = evidence.get("phase"), evidence.get("deadline")
    words = {
        "armed": f"dead man's switch armed until {until}",
        "ready": "swapped and checked, waits for the other hosts",
        "committed": "the new data counts",
        "aborted": "the old data counts",
        "in_place": "the live data is about to be replaced where it lies",
        "disarmed": "dead man's switch disarmed",
    }
    fired = (evidence.get("outcome") or {}).get("at")
    return words.get(str(phase), f"dead man's switch {phase}") + (f" (it had fired at {fired})" if fired else "")


def _clean_words(evidence: Json) -> str:
    dropped = evidence.get("dropped") or []
    listed = "".join(f": {copy['name']} ({size(copy.get('bytes'))})" for copy in dropped)
    return f"{_name(evidence)} {'kept data dropped' if dropped else 'keeps nothing any more'}{listed}"


def _facts_words(evidence: Json) -> str:
    return "looked at" + ("" if evidence.get("root") else ", without root")


def _step_words(evidence: Json) -> str:
    kind = str(evidence.get("kind"))
    words = {
        "stage": "staged beside the live data",
        "swap": "swapped",
        "finalise": "identity checked",
        "revert": "old data back",
        "empty": "emptied, to be loaded in place",
        "place": f"restored as {evidence.get('to')}, the live data untouched",
    }
    kept = f", old data kept as {evidence.get('before')}" if kind == "swap" and evidence.get("before") else ""
    return f"{_name(evidence)} {words.get(kind, kind)}{kept}"
