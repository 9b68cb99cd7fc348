# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.locks, with processes that really hold locks and really die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sopctl import clock, locks
from sopctl.errors import ConfigError, LockedError

HERE = Path(__file__).parents[2]
CASE, OTHER = "RST-2026-0001", "RST-2026-0002"
HOLD = """
import sys, time
from pathlib import Path
from sopctl import locks
state, who, case, end, *names = sys.argv[1:]
with locks.held(Path(state), names, who, case):
    print("held", flush=True)
    sys.stdin.readline()
    if end == "exit":
        sys.exit(3)
    if end == "error":
        raise ValueError("the work failed")
"""


@contextmanager
def holding(state: Path, *names: str, case: str = CASE, end: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that holds the locks until it gets a line, and then ends as ``end`` says."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state), "pelaksana", case, end, *names],
        cwd=HERE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def killed(state: Path, *names: str, case: str = CASE) -> int:
    """Let a process die by SIGKILL while it holds the locks; its pid."""
    with holding(state, *names, case=case) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return process.pid


def write(state: Path, name: str, **fields: object) -> None:
    """A lock's file as another process left it."""
    line = {"holder": "kabid", "host": socket.gethostname(), "pid": 7, "since": "2026-11-22T03:00:00Z", "case": CASE}
    (state / "locks").mkdir(exist_ok=True)
    (state / "locks" / name).write_text(json.dumps(line | fields) + "\n")


def content(state: Path, name: str) -> str:
    return (state / "locks" / name).read_text()


def free(state: Path, *names: str) -> bool:
    """Whether a command of any other case gets the locks."""
    with locks.held(state, list(names), "kabid", OTHER):
        return True


# holding ---------------------------------------------------------------------------------------------------------


def test_the_holder_stands_inside_and_is_gone_afterwards(tmp_path: Path) -> None:
    before = clock.now()
    with locks.held(tmp_path, [CASE, "dataset-simpeg", CASE], "pelaksana", CASE):
        for name in (CASE, "dataset-simpeg"):
            text = content(tmp_path, name)
            assert text.endswith("}\n") and text.count("\n") == 1
            line = json.loads(text)
            assert before <= line.pop("since") <= clock.now()
            assert line == {"holder": "pelaksana", "host": socket.gethostname(), "pid": os.getpid(), "case": CASE}
    assert content(tmp_path, CASE) == content(tmp_path, "dataset-simpeg") == ""
    assert free(tmp_path, CASE, "dataset-simpeg")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, LockedError])
def test_an_exception_lets_go(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), locks.held(tmp_path, [CASE], "pelaksana", CASE):
        raise error("x")
    assert content(tmp_path, CASE) == ""


@pytest.mark.parametrize("end", ["", "exit", "error"])
def test_a_process_that_ends_lets_go(tmp_path: Path, end: str) -> None:
    with holding(tmp_path, CASE, end=end) as process:
        process.communicate("\n", timeout=20)
        assert process.returncode == {"": 0, "exit": 3, "error": 1}[end]
    assert locks.peek(tmp_path) == []
    assert free(tmp_path, CASE)


def test_todays_callers_give_no_case(tmp_path: Path) -> None:
    with locks.held(tmp_path, [CASE], "pelaksana"):
        assert [lock.case for lock in locks.peek(tmp_path)] == [""]


def test_somebody_elses_lock_is_told_with_holder_and_time(tmp_path: Path) -> None:
    with holding(tmp_path, "dataset-simpeg") as process:
        with pytest.raises(LockedError) as caught, locks.held(tmp_path, [OTHER, "dataset-simpeg"], "kabid", OTHER):
            pytest.fail("two hold one lock")
        since = json.loads(content(tmp_path, "dataset-simpeg"))["since"]
        assert caught.value.message == (
            f"dataset-simpeg is held by pelaksana on {socket.gethostname()} (pid {process.pid}, since {since}) for {CASE}"
        )
        assert caught.value.exit_code == 11
        assert content(tmp_path, OTHER) == ""  # the lock that we did get is let go
        (lock,) = locks.peek(tmp_path)
        assert (lock.name, lock.state, lock.case) == ("dataset-simpeg", "held", CASE)
        assert lock.read and lock.read.pid == process.pid
        assert locks.stale(tmp_path, CASE) == []
        assert free(tmp_path, OTHER)


def test_a_lock_that_is_let_go_at_this_moment_is_waited_for(tmp_path: Path) -> None:
    with holding(tmp_path, CASE) as process:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and content(tmp_path, CASE):
            time.sleep(0.001)
        assert free(tmp_path, CASE)


# stale -----------------------------------------------------------------------------------------------------------


def test_a_killed_process_leaves_a_stale_lock_that_nobody_gets_past(tmp_path: Path) -> None:
    pid = killed(tmp_path, CASE, "dataset-simpeg")
    since = json.loads(content(tmp_path, CASE))["since"]
    for _ in range(2):  # looking at it, and being refused, does not clear it
        with pytest.raises(LockedError) as caught, locks.held(tmp_path, [OTHER, "dataset-simpeg"], "kabid", OTHER):
            pytest.fail("a stale lock was taken in silence")
        assert caught.value.message == (
            f"dataset-simpeg was held by pelaksana on {socket.gethostname()} (pid {pid}, since {since}) for {CASE}, "
            "which ended without letting go"
        )
        assert caught.value.hint == (
            f"See what came of it (sopctl case show {CASE}), then take it over: "
            f"sopctl case take-over {CASE} --reason … --as PERSON."
        )
        assert caught.value.exit_code == 11
        assert [(lock.name, lock.state) for lock in locks.peek(tmp_path)] == [
            (CASE, "stale"),
            ("dataset-simpeg", "stale"),
        ]
    assert content(tmp_path, OTHER) == ""


def test_a_forked_process_that_is_killed_leaves_a_stale_lock_too(tmp_path: Path) -> None:
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # the child
        with locks.held(tmp_path, [CASE], "pelaksana", CASE):
            os.write(told, b"x")
            time.sleep(60)
        os._exit(1)
    os.read(ready, 1)
    os.close(ready)
    os.close(told)
    assert [lock.state for lock in locks.peek(tmp_path)] == ["held"]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert [lock.state for lock in locks.peek(tmp_path)] == ["stale"]


def test_taking_over_clears_what_the_case_left_and_nothing_else(tmp_path: Path) -> None:
    killed(tmp_path, CASE, "dataset-simpeg")
    killed(tmp_path, OTHER, "dataset-absensi", case=OTHER)
    left = locks.stale(tmp_path, CASE)
    assert [lock.name for lock in left] == [CASE, "dataset-simpeg"]
    assert all(lock.holder.startswith(f"pelaksana on {socket.gethostname()} (pid ") for lock in left)
    locks.take_over(tmp_path, left)
    assert locks.stale(tmp_path, CASE) == []
    assert free(tmp_path, CASE, "dataset-simpeg")
    assert [lock.name for lock in locks.stale(tmp_path, OTHER)] == [OTHER, "dataset-absensi"]
    locks.take_over(tmp_path, left)  # again: they are free already
    with holding(tmp_path, CASE):
        with pytest.raises(LockedError, match="is held by pelaksana"):
            locks.take_over(tmp_path, left)
        assert content(tmp_path, CASE)


def test_taking_over_clears_all_or_nothing(tmp_path: Path) -> None:
    killed(tmp_path, "a", "b")
    left = locks.stale(tmp_path, CASE)
    locks.take_over(tmp_path, [lock for lock in left if lock.name == "b"])
    held = rf"b is held by pelaksana .* for {OTHER}"
    with holding(tmp_path, "b", case=OTHER), pytest.raises(LockedError, match=held):
        locks.take_over(tmp_path, left)
    assert content(tmp_path, "a") and content(tmp_path, "b")
    with pytest.raises(
        LockedError, match="b has another holder"
    ):  # that process was killed as well: look at its case first
        locks.take_over(tmp_path, left)
    assert [lock.name for lock in locks.peek(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "kabid on pusdatin, pid 7, since 2026-11-22T03:00:00Z\n",  # as an earlier sopctl wrote it
        "\0" * 120,  # after a power failure
        '{"holder": "kabid"}',
        '{"holder": "kabid", "host": "x", "pid": "7", "since": "2026-11-22T03:00:00Z", "case": ""}',
        '{"holder": "kabid", "host": "x", "pid": 7, "since": "yesterday", "case": ""}',
        '{"holder": "kabid", "host": "x", "pid": 7, "since": "2026-11-22T03:00:00Z", "case": "$(reboot)"}',
        '{"holder": "kabid", "host": "x", "pid": 7, "since": "2026-11-22T03:00:00Z", "case": "RST-2026-0001\\n"}',
        "[" * 4000,
        "x" * 10_000,
        "\udcff\udc80",
    ],
)
def test_what_cannot_be_read_is_stale_and_any_case_may_clear_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "dataset-simpeg").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LockedError) as caught, locks.held(tmp_path, ["dataset-simpeg"], "kabid", OTHER):
        pytest.fail("taken in silence")
    assert "was held by an unknown holder (its file reads " in caught.value.message
    assert "for an unknown case, which ended without letting go" in caught.value.message
    assert "take it over with any open case: sopctl case take-over CASE" in caught.value.hint
    assert len(str(caught.value).encode()) < 1000 and str(caught.value).isprintable()
    left = locks.stale(tmp_path, OTHER)
    assert [(lock.state, lock.read, lock.case) for lock in left] == [("stale", None, "")]
    locks.take_over(tmp_path, left)
    assert free(tmp_path, "dataset-simpeg")


def test_nobody_is_stuck_behind_a_case_that_is_gone_or_closed(tmp_path: Path) -> None:
    write(tmp_path, "dataset-simpeg", case=CASE)
    assert locks.stale(tmp_path, OTHER) == []
    assert locks.stale(tmp_path, OTHER, cases=[CASE, OTHER]) == []
    locks.take_over(tmp_path, locks.stale(tmp_path, OTHER, cases=[OTHER]))
    assert free(tmp_path, "dataset-simpeg")


def test_a_holder_on_another_host_is_not_called_dead(tmp_path: Path) -> None:
    write(tmp_path, "dataset-simpeg", host="pusdatin-2")
    with pytest.raises(LockedError) as caught, locks.held(tmp_path, ["dataset-simpeg"], "kabid", OTHER):
        pytest.fail("taken in silence")
    assert caught.value.message == (
        f"dataset-simpeg is held by kabid on pusdatin-2 (pid 7, since 2026-11-22T03:00:00Z) for {CASE}, "
        "which cannot be seen from here"
    )
    assert caught.value.hint.startswith("Wait for it to end. When you have made sure on pusdatin-2 that it is dead")
    (lock,) = locks.stale(tmp_path, CASE)
    assert lock.state == "elsewhere"
    locks.take_over(tmp_path, [lock])
    assert free(tmp_path, "dataset-simpeg")


# what is no lock ---------------------------------------------------------------------------------------------------


def test_a_site_without_locks_has_none(tmp_path: Path) -> None:
    assert locks.peek(tmp_path) == [] == locks.stale(tmp_path, CASE)
    assert list(tmp_path.iterdir()) == []


def test_looking_at_free_locks_turns_nobody_away(tmp_path: Path) -> None:
    """``doctor`` in a loop beside a process that takes and lets go of a lock all the time."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom sopctl import locks\n"
        "for _ in range(300):\n    with locks.held(Path(sys.argv[1]), ['a'], 'kabid', 'RST-2026-0001'):\n        pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=HERE, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    )
    seen = 0
    while process.poll() is None:
        seen += len(locks.peek(tmp_path))
    assert process.returncode == 0
    assert seen


@pytest.mark.parametrize("kind", ["link", "folder", "fifo"])
def test_only_plain_files_are_locks(tmp_path: Path, kind: str) -> None:
    (tmp_path / "locks").mkdir()
    path = tmp_path / "locks" / CASE
    (tmp_path / "victim").write_text("precious")
    if kind == "link":
        path.symlink_to(tmp_path / "victim")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(ConfigError) as caught, locks.held(tmp_path, [CASE], "kabid", CASE):
        pytest.fail("that is no lock")
    assert caught.value.where == str(path)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used for locks"), locks.held(tmp_path / "file", [CASE], "kabid"):
        pytest.fail("held nowhere")
