# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.standing and ``sopctl schedule``: windows hold runs back, and the gate refuses what walks round them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sopctl import approval, cli, clock, locks, standing
from sopctl import plan as plans
from sopctl.errors import GateRefused
from sopctl.models import Window
from sopctl.running import Executed
from sopctl.schedule import Due
from sopctl.session import Session
from sopctl.vault import Backup
from tests.support.case_site import CaseSite

JAKARTA = ZoneInfo("Asia/Jakarta")
NOW = "2026-11-22T03:00:00Z"
Order = Callable[..., CaseSite]


def around(first: int, last: int) -> str:
    """A window from ``first`` to ``last`` hours from now."""
    now = datetime.now(UTC).astimezone(JAKARTA)
    return "-".join(f"{now + timedelta(hours=hours):%H:%M}" for hours in (first, last))


CLOSED, OPEN = around(2, 4), around(-2, 2)


@pytest.fixture
def ordered(site: CaseSite) -> Order:
    """Change the standing order and have it signed; no backup is proven, so that all of it is due."""
    shutil.rmtree(site.root / "archive/records")

    def change(**changes: Any) -> CaseSite:
        site.change_yaml("schedule.yml", **changes)
        standing.sign_schedule(site.session, "kabid", str(site.keys / "kabid"))
        return site

    return change


def run(site: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(site.root), "schedule", *words])


def asked(site: CaseSite, *words: str) -> int:
    return run(site, "run", *words, "--as", "pelaksana", "--key", str(site.keys / "pelaksana"))


def test_run_outside_the_window_starts_nothing(ordered: Order, capsys: pytest.CaptureFixture[str]) -> None:
    site = ordered(window={"hours": CLOSED})
    before = {path for path in site.root.rglob("*") if ".state" not in path.parts}
    assert asked(site, "--due") == 0
    said = capsys.readouterr().out
    assert "Nothing can start now (changed=0)." in said
    assert f"due, window opens {datetime.now(JAKARTA) + timedelta(hours=2):%Y-%m-%d}"[:-3] in said
    assert {path for path in site.root.rglob("*") if ".state" not in path.parts} == before
    assert asked(site, "--due", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["waiting"]) == {"antrean", "berkas"}
    assert (told["changed"], told["done"], told["overdue"]) == (0, {}, [])


def test_what_is_overdue_is_told_although_its_window_is_closed(
    ordered: Order, capsys: pytest.CaptureFixture[str]
) -> None:
    site = ordered(window={"hours": CLOSED}, valid={"since": "2026-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z"})
    assert asked(site, "--due") == 31
    assert "overdue, window opens" in capsys.readouterr().out


def test_gate_refuses_outside_the_window(ordered: Order, capsys: pytest.CaptureFixture[str]) -> None:
    site = ordered(window={"hours": CLOSED})
    lines = len(site.ledger.lines())
    assert asked(site, "--dataset", "antrean") == 10
    assert "the window of antrean is closed" in capsys.readouterr().err
    assert len(site.ledger.lines()) == lines


def test_gate_asks_when_the_run_began(ordered: Order) -> None:
    """A run that takes longer than its window comes to its end; a plan of tomorrow's window starts nothing today."""
    site = ordered(window={"hours": OPEN})
    session = site.session
    entries = session.site.schedule().entries

    def reasons(at: str) -> list[str]:
        plan = plans.backup_plan(session.site, "BKP-2026-0001", entries, at, "restore")
        order = session.site.standing_order()
        return approval.gate_schedule(session.context(), *order, plan, "pelaksana", "pelaksana")

    now = clock.now()
    assert not [reason for reason in reasons(now) if "window" in reason or "plan" in reason]
    assert any("is closed" in reason for reason in reasons(clock.plus(now, hours=-6)))
    assert any("the plan is of" in reason for reason in reasons(clock.plus(now, hours=24)))
    slow = clock.plus(now, seconds=5)  # the site was looked at, and then the plan was made
    assert not [reason for reason in reasons(slow) if "window" in reason or "plan" in reason]


def test_a_second_that_passes_keeps_nothing_back(ordered: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read more than once; what may start at one of these moments is not said to wait for it."""
    site = ordered(window={"hours": OPEN})
    begin, seconds = clock.now(), iter(range(1000))
    monkeypatch.setattr(clock, "now", lambda: clock.plus(begin, seconds=next(seconds)))
    entries = standing._entries_to_run(site.session, [], set())
    assert {entry.dataset for entry in entries} == {"antrean", "berkas"}


def test_status_tells_the_window(ordered: Order, capsys: pytest.CaptureFixture[str]) -> None:
    site = ordered(window={"hours": CLOSED})
    assert run(site, "status", "--json") == 0
    for row in json.loads(capsys.readouterr().out):
        assert (row["due"], row["window_open"], row["overdue"]) == (True, False, False)
        assert clock.seconds_between(clock.now(), row["next_due"]) > 3600
    assert run(ordered(window={"hours": OPEN}), "status", "--json") == 0
    assert all(row["window_open"] for row in json.loads(capsys.readouterr().out))


def test_second_run_is_told_who_is_at_work(ordered: Order, capsys: pytest.CaptureFixture[str]) -> None:
    site = ordered(window={"hours": OPEN})
    before = sorted(path for path in (site.root / "cases").rglob("*"))
    with locks.held(site.session.site.state, [standing.SCHEDULE_LOCK], "pelaksana", case="BKP-2026-0009"):
        assert asked(site, "--due") == 11
    assert "schedule is held by pelaksana" in capsys.readouterr().err
    assert sorted(path for path in (site.root / "cases").rglob("*")) == before, "no empty case is left"


def test_what_another_run_has_proven_since_is_not_done_again(ordered: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs that saw the same datasets due: the second one looks again once it has the lock."""
    site = ordered(window={"hours": OPEN})
    looks = iter([True, False])

    def entries(session: Any, _only: list[str], _unfinished: set[str]) -> list[Any]:
        return session.site.schedule().entries if next(looks) else []

    monkeypatch.setattr(standing, "_entries_to_run", entries)
    done = standing.run_schedule(
        site.session, "pelaksana", str(site.keys / "pelaksana"), only=[], check=False, progress=lambda _: None
    )
    assert done is None
    assert not [line for line in site.ledger.lines() if line.kind == "run-started" and line.ref.startswith("BKP")]


def test_window_is_part_of_what_is_signed(ordered: Order) -> None:
    site = ordered(window={"hours": OPEN})
    assert site.session.site.schedule().window == Window(OPEN)
    (site.root / "schedule.yml").write_bytes(
        (site.root / "schedule.yml").read_bytes().replace(OPEN.encode(), CLOSED.encode())
    )
    with pytest.raises(GateRefused, match="signature is not one of"):
        standing.run_schedule(
            site.session, "pelaksana", str(site.keys / "pelaksana"), only=["antrean"], check=False, progress=print
        )


def abandoned(site: CaseSite, names: list[str], case: str) -> None:
    """Locks as a command leaves them that is killed while it holds them."""
    child = os.fork()
    if child == 0:
        with locks.held(site.session.site.state, names, "robot", case=case):
            os._exit(9)
    os.waitpid(child, 0)


def test_killed_run_stops_no_later_one(ordered: Order) -> None:
    """Nobody has to take its locks over; those of other commands are left to people."""
    site = ordered(window={"hours": OPEN})
    state = site.session.site.state
    abandoned(site, ["BKP-2026-0001", standing.SCHEDULE_LOCK, "dataset-antrean"], "BKP-2026-0001")
    abandoned(site, ["RST-2026-0001", "dataset-berkas"], "RST-2026-0001")
    said: list[str] = []
    session = site.session
    session.say = said.append
    done = standing.run_schedule(
        session, "pelaksana", str(site.keys / "pelaksana"), only=["antrean"], check=False, progress=lambda _: None
    )
    assert done, "the run began (and failed: there is no such host)"
    assert said == ["BKP-2026-0001: a scheduled run died without letting go; its locks are cleared"]
    assert [lock.name for lock in locks.peek(state)] == ["RST-2026-0001", "dataset-berkas"]


def test_dead_run_is_cleared_also_when_nothing_is_due_and_never_by_a_check(
    ordered: Order, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its locks would keep a restore of the same dataset waiting until the next window."""
    site = ordered(window={"hours": CLOSED})
    state = site.session.site.state
    abandoned(site, ["BKP-2026-0001", standing.SCHEDULE_LOCK, "dataset-antrean"], "BKP-2026-0001")
    assert asked(site, "--dataset", "antrean", "--check") == 11
    assert len(locks.peek(state)) == 3
    assert asked(site, "--due") == 0
    assert locks.peek(state) == []
    assert [line.ref for line in site.ledger.lines() if line.kind == "locks-cleared"] == ["BKP-2026-0001"]
    capsys.readouterr()


def test_request_in_the_making_is_nobody_s_broken_off_run(ordered: Order) -> None:
    """A folder with an attachment and no document yet: somebody is about to sign."""
    site = ordered(window={"hours": OPEN})
    folder = site.root / "cases/2026/RST-2026-0077/attachments"
    folder.mkdir(parents=True)
    (folder / "surat.pdf").write_bytes(b"%PDF")
    assert standing._broken_off(site.session, "backup") is None


def test_run_that_was_sealed_and_not_filed_is_brought_to_its_end(
    ordered: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between its record and its document: nothing is due, and yet its case needs an end that somebody confirms."""
    site = ordered(window={"hours": OPEN})
    sign = ("pelaksana", str(site.keys / "pelaksana"))

    def run_once() -> Executed | None:
        return standing.run_schedule(site.session, *sign, only=[], check=False, progress=lambda _: None)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "file", killed)
        with pytest.raises(KeyboardInterrupt):
            run_once()
    [first] = [path for path in (site.root / "archive/records").glob("*/*/*") if path.is_dir()]
    monkeypatch.setattr(standing, "schedule_status", proven(standing.schedule_status))
    done = run_once()
    assert done is not None
    assert done.case.id == first.name[:13]
    assert (done.case.folder / "01-execute.json").is_file()
    assert run_once() is None


def proven(status: Callable[[Session], list[Due]]) -> Callable[[Session], list[Due]]:
    """As if all had been verified."""

    def lines(session: Session) -> list[Due]:
        return [replace(line, done=line.done or BACKUP, runs=False) for line in status(session)]

    return lines


BACKUP = Backup(
    dataset="antrean", name="b", period="2026-11", snapshot="a", manifest_snapshot="b", bytes=1, sha256="c", started=NOW,
    finished=NOW, record="R", verified=True, verified_at=NOW, depth="read", content=None,
)  # fmt: skip
