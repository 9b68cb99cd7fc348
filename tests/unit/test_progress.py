# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.progress and its showing in sopctl.output: what is believed, how long it takes, and how it looks."""

from __future__ import annotations

import io
import json
import os
import pty
from typing import Any

import pytest
from rich.console import Console

from sopctl.output import Output, Progress, sentence
from sopctl.progress import EVENT, MOST, Advance, Pace, advance_of, listener

Json = dict[str, Any]
PLAN: Json = {
    "items": [
        {"host": "db01", "dataset": {"id": "simpeg"}},
        {"host": "db02", "dataset": {"id": "absensi"}},
    ]
}
START = "2026-11-22T03:00:00Z"
GOOD: Json = {
    "kind": "progress",
    "host": "db01",
    "dataset": "simpeg",
    "what": "stage",
    "done": 412_000_000,
    "total": 930_000_000,
    "estimate": False,
    "started": START,
    "at": "2026-11-22T03:00:10Z",
}


class Clock:
    """Seconds that pass when we say so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def advance(**changes: Any) -> Advance:
    found = advance_of({**GOOD, **changes}, PLAN)
    assert found is not None
    return found


def event(**changes: Any) -> Json:
    heard: list[Json] = []
    listener(PLAN, heard.append)({**GOOD, **changes})
    [one] = heard
    return one


# what is believed -------------------------------------------------------------------------------------------------


def test_a_state_of_the_plan_is_heard() -> None:
    found = advance()
    assert (found.host, found.dataset, found.percent, found.moved) == ("db01", "simpeg", 44, False)
    assert event()["event"] == EVENT


def test_a_proof_is_heard_from_its_drill_host_and_a_dump_from_its_own() -> None:
    plan = {"items": [{**PLAN["items"][0], "drill": {"server": "db03", "host": "db03"}}]}
    told = {
        (host, what): advance_of({**GOOD, "host": host, "what": what}, plan) is not None
        for host in ("db01", "db03")
        for what in ("backup", "verify")
    }
    assert [place for place, heard in told.items() if heard] == [("db01", "backup"), ("db03", "verify")]


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "db02"},  # another dataset's host
        {"host": "\x1b[2Jdb01"},
        {"host": None},
        {"host": ["db01"]},
        {"dataset": "gaji"},
        {"dataset": {"id": "simpeg"}},
        {"what": "swap"},
        {"what": ["stage"]},
        {"what": {}},
        {"done": -1},
        {"done": True},
        {"done": 1.5},
        {"done": "412"},
        {"done": None},
        {"done": MOST},
        {"total": 0},
        {"total": -5},
        {"total": "930"},
        {"total": False},
        {"total": 10**400},
        {"estimate": "no"},
        {"estimate": None},
        {"started": "yesterday"},
        {"started": 5},
        {"at": "\x07"},
        {"at": None},
        {"at": "2026-11-22T03:00:10Z\n"},
    ],
)
def test_what_is_not_exactly_one_is_dropped(changes: Json) -> None:
    assert advance_of({**GOOD, **changes}, PLAN) is None


@pytest.mark.parametrize("message", [None, [], "progress", 5, {}, {"kind": "progress"}])
def test_what_is_no_state_at_all_is_dropped(message: Any) -> None:
    heard: list[Json] = []
    listener(PLAN, heard.append)(message)
    assert heard == []


def test_further_keys_are_not_passed_on() -> None:
    assert "rahasia" not in json.dumps(event(password="rahasia"))


def test_an_estimate_that_was_too_low_is_no_total() -> None:
    found = advance(done=931, total=930, estimate=True)
    assert (found.total, found.percent, found.moved) == (None, None, False)


# how long it takes ------------------------------------------------------------------------------------------------


def test_the_first_state_counts_from_the_host_s_own_start() -> None:
    assert Pace(Clock()).seconds_left(advance(done=100, total=400)) == 30


def test_the_pace_is_of_the_last_half_minute() -> None:
    clock = Clock()
    pace = Pace(clock)
    for second in range(101):  # 1 a second for a minute, then 10
        clock.now = 100.0 + second
        done = second if second <= 60 else 60 + 10 * (second - 60)
        left = pace.seconds_left(advance(done=done, total=1060))
    assert left == 60


def test_our_clock_counts_and_not_the_host_s() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.seconds_left(advance(done=0, total=100, at="2031-01-01T00:00:00Z"))
    clock.now += 10
    assert pace.seconds_left(advance(done=50, total=100, at="1999-01-01T00:00:00Z")) == 10


def test_a_dump_that_stands_still_or_begins_anew_has_no_time_left() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.seconds_left(advance(done=50, total=100))
    clock.now += 40
    assert pace.seconds_left(advance(done=50, total=100)) is None
    clock.now += 2
    assert pace.seconds_left(advance(done=10, total=100)) == 90  # by the host's ten seconds


@pytest.mark.parametrize("changes", [{"total": None}, {"done": 0}, {"at": START}, {"at": "2026-11-22T02:00:00Z"}])
def test_nothing_is_said_where_nothing_can_be(changes: Json) -> None:
    assert Pace(Clock()).seconds_left(advance(**changes)) is None


def test_years_are_not_said() -> None:
    assert Pace(Clock()).seconds_left(advance(done=1, total=10**15)) is None


# how it looks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "left", "said"),
    [
        ({}, 12, "db01/simpeg: staging 412.0 of 930.0 MB, 44 %, about 12 s left"),
        ({}, None, "db01/simpeg: staging 412.0 of 930.0 MB, 44 %"),
        ({"total": 4_000_000_000}, 125, "db01/simpeg: staging 412.0 MB of 4.0 GB, 10 %, about 2 m 5 s left"),
        ({"what": "verify", "done": 930_000_000}, 0, "db01/simpeg: reading the backup 930.0 of 930.0 MB, 100 %, now comparing"),
        ({"what": "backup", "estimate": True}, 3, "db01/simpeg: backing up 412.0 of about 930.0 MB, 44 %, about 3 s left"),
        ({"what": "backup", "total": None}, None, "db01/simpeg: backing up, 412.0 MB so far"),
    ],
)  # fmt: skip
def test_sentence(changes: Json, left: int | None, said: str) -> None:
    assert sentence(advance(**changes), left) == said


def test_json_lines(capfd: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress(Output(as_json=True), now=clock)
    progress(event())
    clock.now += 10
    progress(event(done=671_000_000, at="2026-11-22T03:00:20Z"))
    out, err = capfd.readouterr()
    assert out == ""
    first, second = (json.loads(line) for line in err.splitlines())
    same = {key: GOOD[key] for key in ("host", "dataset", "what", "done", "total", "estimate", "started", "at")}
    assert first == {"event": "progress", **same, "percent": 44, "seconds_left": 13}
    assert (second["done"], second["percent"], second["seconds_left"]) == (671_000_000, 72, 10)


def evidence_event(**more: Any) -> Json:
    proof = {"kind": "stage", "host": "db01", "dataset": "simpeg", **more}
    return {"event": "runner_on_ok", "event_data": {"res": {"changed": True, "sop_evidence": proof}}}


def test_lines_now_and_then_where_there_is_no_terminal() -> None:
    clock = Clock()
    output = Output()
    output.err = Console(file=io.StringIO(), soft_wrap=True, highlight=False, force_terminal=False)
    progress = Progress(output, now=clock)
    for percent in range(101):
        clock.now += 1
        progress(event(done=percent, total=100))
    for _ in range(61):  # stands still
        clock.now += 1
        progress(event(done=40, total=None))
    text = output.err.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "\x1b" not in text
    assert "\r" not in text
    lines = text.splitlines()
    assert len(lines) == 11 + 2, text
    assert lines[4] == "  db01/simpeg: staging 40 of 100 B, 40 %, about 1 m left"


def terminal() -> tuple[Output, io.StringIO]:
    output = Output()
    screen = io.StringIO()
    output.err = Console(file=screen, soft_wrap=True, highlight=False, force_terminal=True, width=70, color_system=None)
    return output, screen


def test_one_line_on_a_terminal_that_words_replace() -> None:
    output, screen = terminal()
    progress = Progress(output, now=Clock())
    progress(event())
    progress(event(host="db02", dataset="absensi", done=5, total=None))
    assert screen.getvalue().count("\n") == 0
    last = screen.getvalue().rpartition("\r\x1b[2K")[2]
    assert last.startswith("db01/simpeg: staging 412.0 of 930.0 MB, 44 %")
    assert len(last) < 70
    assert last.endswith("…")
    progress(evidence_event())
    shown = screen.getvalue().rpartition("…")[2]
    assert shown.startswith("\r\x1b[2K  db01: simpeg staged beside the live data [changed]\n"), shown
    assert shown.endswith("\r\x1b[2Kdb02/absensi: staging, 5 B so far"), "the other one goes on"
    progress({"event": "playbook_on_stats", "event_data": {}})
    assert screen.getvalue().endswith("\r\x1b[2K")
    output.remark("selesai")
    assert screen.getvalue().endswith("\r\x1b[2Kselesai\n")


def test_words_on_stdout_never_stand_behind_the_line() -> None:
    output, screen = terminal()
    output.passing("setengah jalan")
    output.line("x")
    assert screen.getvalue().endswith("\r\x1b[2K")
    output.passing("setengah jalan")
    output.result({}, lambda _: None)
    assert screen.getvalue().endswith("\r\x1b[2K")


def test_a_real_terminal_is_one_and_a_dumb_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    with os.fdopen(slave, "w") as stream:
        for kind, can in (("xterm", True), ("dumb", False)):
            monkeypatch.setenv("TERM", kind)
            output = Output()
            output.err = Console(file=stream, soft_wrap=True)
            assert output.can_update is can
        assert not Output(as_json=True).can_update
    os.close(master)
