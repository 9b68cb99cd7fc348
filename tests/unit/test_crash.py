# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.session, sopctl.case and sopctl.locks: a command killed between any two of its writes.

The command runs in a process of its own that ends like ``kill -9`` before its n-th write (n = 1, 2, 3 … until it comes
through). The next command must read the case and say where it stands; after an explicit take-over of the dead command's
lock, where it left one, the same act is done, once, and the case stands as if nothing had happened.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from sopctl import archive, beside, cli, locks, workflow
from sopctl.case import Case
from sopctl.examination import examine
from tests.support.case_site import CaseSite
from tests.support.site_builder import UNIT
from tests.unit.attacks.forging import Spoil, asked, disposed, lend

KILLED = 137
#: what changes a disk, or waits until it has changed
WRITES = ("fsync", "replace", "rename", "link", "mkdir", "ftruncate", "pwrite", "unlink", "write", "open")


@dataclass(frozen=True)
class Scene:
    """A case made ready, the command that is killed, and what the case is afterwards."""

    prepare: Spoil
    words: list[str]
    acts: list[str]
    outcome: str = "berjalan"


def _two_asked(site: CaseSite) -> None:
    site.retrust(lambda file: changed(file, policy=changed(file.policy, break_glass=True)))
    asked(site)


def _one_signed(site: CaseSite) -> None:
    _two_asked(site)
    beside.emergency(site.session, site.case, "pelayanan berhenti", "pelaksana", None)


def _rejected(site: CaseSite) -> None:
    asked(site)
    disposed(site)
    workflow.act(site.session, site.case, "decide", "kabid", None, workflow.decision(site.session, False, "tidak"))


def _informed(site: CaseSite) -> None:
    _rejected(site)
    workflow.act(site.session, site.case, "inform", "pelaksana", None, workflow.informing("ditolak"))


def _to_decide(site: CaseSite) -> None:
    asked(site)
    disposed(site)


def _ask(site: CaseSite) -> None:
    asked(site)


def _nothing(_: CaseSite) -> None:
    """The base site's own case is approved already; the request makes another."""


def _abandoned(site: CaseSite) -> None:
    """A command died while it held the case."""
    asked(site)
    if (child := os.fork()) == 0:
        with locks.held(site.root / ".state", [site.case], "kadis", case=site.case):
            os._exit(KILLED)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


REASON = ["--reason", "alasan"]
DECIDE = ["case", "decide", "CASE", *REASON, "--as", "kabid"]
SCENES: dict[str, Scene] = {
    "dispose": Scene(_ask, ["case", "dispose", "CASE", "--as", "kadis"], ["request", "dispose"]),
    "approve": Scene(_to_decide, [*DECIDE, "--approve"], ["request", "dispose", "decide"]),
    "inform": Scene(_rejected, ["case", "inform", "CASE", "--as", "pelaksana"], ["request", "dispose", "decide", "inform"]),
    "receive": Scene(
        _informed, ["case", "receive", "CASE", "--as", "pemohon"],
        ["request", "dispose", "decide", "inform", "receive"], "ditolak",
    ),
    "withdraw": Scene(_ask, ["case", "withdraw", "CASE", *REASON, "--as", "pemohon"], ["request", "withdraw"], "dibatalkan"),
    "consent": Scene(
        lend, ["case", "consent", "CASE", "--dataset", "antrean", "--approve", "--as", "kadis"], ["request", "consent"]
    ),
    "attach": Scene(_ask, ["case", "attach", "CASE", "LETTER", "--as", "pemohon"], ["request", "attach"]),
    "emergency countersigned": Scene(
        _one_signed, ["case", "emergency", "CASE", *REASON, "--as", "rangkap"], ["request", "emergency", "emergency"]
    ),
    "take-over": Scene(_abandoned, ["case", "take-over", "CASE", *REASON, "--as", "pelaksana"], ["request", "takeover"]),
}  # fmt: skip


def killed_before_write(number: int, words: list[str]) -> bool:
    """Run a command in a process that dies before its ``number``-th write; whether it did."""
    child = os.fork()
    if child == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        _die_before(number)
        os._exit(cli.run(words))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, KILLED}, f"{words} exited {code} before its {number}. write"
    return code == KILLED


def _die_before(number: int) -> None:
    left = [number]

    def counted(true: Callable[..., Any], changes: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            if changes(*args):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(KILLED)
            return true(*args, **more)

        return call

    def to_disk(target: Any, *_: Any) -> bool:
        return not isinstance(target, int) or stat.S_ISREG(os.fstat(target).st_mode)

    def makes(_: Any, flags: int = 0, *__: Any) -> bool:
        return bool(flags & os.O_CREAT)

    for name in WRITES:
        looks = makes if name == "open" else to_disk if name in {"write", "pwrite"} else lambda *_: True
        setattr(os, name, counted(getattr(os, name), looks))


def crashes(site: CaseSite, words: list[str], folder: Path) -> Iterator[CaseSite]:
    """A copy of the site for each place where the command can be killed, killed there.

    Behind the first forty writes a record is sealed, file by file in a folder of its own: every fifth is tried there.
    """
    number = 1
    while True:
        copy = site.copy(folder / f"write-{number:03d}")
        if not killed_before_write(number, ["-C", str(copy.root), *words]):
            assert number > 10, "that command hardly wrote anything: the counter counts nothing"
            return
        yield copy
        number += 1 if number < 40 else 5


def ran(copy: CaseSite, *words: str) -> int:
    return cli.run(["-C", str(copy.root), *words])


def acts(copy: CaseSite, case: str) -> list[str]:
    """What the case holds; every document of it can be believed."""
    session = copy.session
    found: Case = session.case(case)
    assert examine(session.context(), found) == []
    return [filed.document.act for filed in found.filed]


def go_on(copy: CaseSite, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What a person does who finds the case after the crash: looks, takes over, acts again if it is still due."""
    where = copy.root.name
    assert ran(copy, "case", "show", copy.case) == 0, where
    code = ran(copy, *words)
    if code == 11:
        said = capsys.readouterr().err
        assert "ended without letting go" in said
        assert f"sopctl case take-over {copy.case}" in said
        assert ran(copy, "case", "take-over", copy.case, *REASON, "--as", "pelaksana") == 0, where
        code = ran(copy, *words)
    if code:
        assert code in {2, 10}, f"{where}: {capsys.readouterr().err}"


@pytest.mark.part(12)
@pytest.mark.parametrize("name", SCENES)
def test_killed_between_two_writes(
    name: str, site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = SCENES[name]
    scene.prepare(site)
    letter = tmp_path / "lampiran.txt"
    letter.write_text("lampiran")
    words = [{"CASE": site.case, "LETTER": str(letter)}.get(word, word) for word in scene.words]
    for copy in crashes(site, words, tmp_path):
        go_on(copy, words, capsys)
        found = acts(copy, site.case)
        others = [act for act in found if act != "takeover"] if scene.acts[-1] != "takeover" else found
        assert others[: len(scene.acts)] == scene.acts, copy.root.name
        repeatable = {"attach", "consent", "takeover", "decide"}  # said twice is said once; an approval may be renewed
        assert set(others[len(scene.acts) :]) <= repeatable & {scene.acts[-1]}, copy.root.name
        state = copy.session.case(site.case).state
        assert state.outcome == scene.outcome, copy.root.name
        assert copy.ledger.verify() == [], copy.root.name
        assert locks.peek(copy.root / ".state") == [], copy.root.name
        if state.closed:
            sealed = [path.name for path in archive.list_records(copy.root / "archive")]
            assert f"{site.case}-C" in sealed, f"{copy.root.name}: closed and never sealed"


def test_killed_while_a_request_is_filed(site: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["case", "request", "restore", "--dataset", "antrean", "--unit", UNIT, "--letter-number", "1"]
    words += ["--letter", str(site.builder.letter()), *REASON, "--as", "pemohon"]
    for copy in crashes(site, words, tmp_path):
        assert ran(copy, "case", "list") == 0, copy.root.name
        capsys.readouterr()
        assert ran(copy, *words, "--json") == 0, copy.root.name
        case = json.loads(capsys.readouterr().out)["case"]
        assert acts(copy, case) == ["request"]
        assert ran(copy, "case", "dispose", case, "--as", "kadis") == 0, copy.root.name
        assert ran(copy, "case", "list") == 0
        assert copy.ledger.verify() == []


def test_the_counter_counts(tmp_path: Path) -> None:
    """A file is whole or not there, wherever the writer is killed."""
    from sopctl import fsio

    for number in range(1, 30):
        path = tmp_path / f"{number}"
        child = os.fork()
        if child == 0:
            _die_before(number)
            fsio.write_atomic(path, b"isi")
            os._exit(0)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert not path.exists() or path.read_bytes() == b"isi"
        if ended == 0:
            assert number > 4
            return
    sys.exit("the writer never came through")
