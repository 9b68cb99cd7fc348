# SPDX-License-Identifier: Apache-2.0
"""``sopctl demo``: the whole story, as an ordinary user in a deep folder and as root in one that is closed to others."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pikepdf
import pytest

from sopctl.demo.place import MARKER, Place, load
from tests.support.public_python import public_python

NOBODY = 65534
LIMIT = 1800  # seconds until it hangs; the promise is 120, on a machine that has nothing else to do
DEEP = (
    "folder-names-as-long-as-people-make-them/so-that-no-unix-socket-would-fit-below-them/and-one-more-for-good-measure"
)


@dataclass
class Telling:
    """One demo run: where, what it printed, and its exit code."""

    folder: Path
    said: str
    code: int

    @property
    def place(self) -> Place:
        found = load(self.folder)
        assert found is not None
        return found


def command(*words: str, user: int | None = None) -> list[str]:
    """``sopctl …`` with this interpreter, for another user if given."""
    if user is None:
        return [sys.executable, "-P", "-m", "sopctl", *words]
    change = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return [*change, str(public_python(user)), "-P", "-m", "sopctl", *words]


def environment(home: Path) -> dict[str, str]:
    """A poor one: a locale that is not generated, no venv on the PATH."""
    kept = {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return kept | {"HOME": str(home), "PATH": path, "LANG": "id_ID.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def running(folder: Path) -> list[str]:
    """Command lines of processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in line and str(os.getpid()) != path.parent.name:
            found.append(line)
    return found


def tell(folder: Path, home: Path, user: int | None) -> Telling:
    """Run the demo in ``folder``."""
    done = subprocess.run(
        command("demo", user=user),
        cwd=folder.parent,
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=LIMIT,
    )
    return Telling(folder, done.stdout, done.returncode)


def scenes(said: str, typed: str) -> list[str]:
    """What was printed from each such command to the next one."""
    return re.findall(rf"^\$ {typed}.*?(?=^\$ |\Z)", said, re.M | re.S)


def check_backup(said: str) -> None:
    """Made, proven, and not made twice."""
    first, second = scenes(said, "sopctl schedule run --due")
    assert "changed=3" in first
    assert "verified by restoring it into scratch" in first
    assert "changed=0" in second
    (again,) = scenes(said, "sopctl schedule run --dataset")
    assert "changed=0" in again
    assert "already stored for this period" in again


def check_refusals(said: str) -> None:
    """Before the approval, of the rejected request, and a second time."""
    executions = re.findall(r"^\$ sopctl case execute (\S+) ", said, re.M)
    rejected, approved = sorted(set(executions))
    assert executions == [approved, approved, rejected, approved]  # too early, in time, never, once more
    refused = ["  exit 10\n" in scene for scene in scenes(said, "sopctl case execute")]
    assert refused == [True, False, True, True]
    assert said.count("  exit 10\n") == 5
    assert f"no run-started of {rejected}" in said


def check_restore(said: str) -> None:
    """The source of before the accident is back, and what was live is kept."""
    assert re.search(r"downtime: \d+ s", said)
    assert "✔ every row equal" in said
    assert "✔ every file equal" in said
    before, after_accident, restored = re.findall(r"rows until \S+ \S+\s+sha256 ([0-9a-f]{32})", said)
    assert before == restored != after_accident
    assert "✔ old database and old files are kept" in said


def check_proof(said: str) -> None:
    """The archive holds, its copy with one byte changed does not."""
    assert "7 records: bytes, signatures and ledger hold" in said
    (forged,) = scenes(said, "sopctl record verify --archive archive-copy")
    assert "BROKEN" in forged
    assert "  exit 30\n" in forged


def check_what_is_left(telling: Telling) -> None:
    """Forms where it says, nothing running, and a site to look around in."""
    paths = re.findall(r"^\s+(/\S+\.html)$", telling.said, re.M)
    assert len(paths) >= 5
    for path in paths:
        assert "FORMULIR" in Path(path).read_text().upper()
        with pikepdf.open(Path(path).with_suffix(".pdf")) as paper:
            inside = paper.attachments["form.json"].get_file().read_bytes()
            assert inside == Path(path).with_suffix(".json").read_bytes()
    assert running(telling.folder) == []
    assert not Path(telling.place.sockets).exists()
    shell = ["sh", "-c", ". ./env && sopctl case list && sopctl record verify"]
    done = subprocess.run(shell, cwd=telling.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ditolak" in done.stdout
    assert "selesai" in done.stdout


def check_story(telling: Telling) -> None:
    """All of it."""
    assert telling.code == 0, telling.said[-3000:]
    assert "✘" not in telling.said
    assert "Traceback" not in telling.said
    check_backup(telling.said)
    check_refusals(telling.said)
    check_restore(telling.said)
    check_proof(telling.said)
    check_what_is_left(telling)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that an ordinary user may have as home, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="demo-test-"))
    (folder / DEEP).mkdir(parents=True)
    if os.geteuid() == 0:
        for path in (folder, *(path for path in folder.rglob("*"))):
            os.chown(path, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.long
def test_story_as_ordinary_user_in_a_deep_folder(open_folder: Path) -> None:
    telling = tell(open_folder / DEEP / "demo-site", open_folder, NOBODY if os.geteuid() == 0 else None)
    check_story(telling)
    assert Path(telling.place.home).is_relative_to(telling.folder)


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="the demo as root needs root")
def test_story_as_root_in_a_folder_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    telling = tell(tmp_path / "demo-site", tmp_path, None)
    try:
        check_story(telling)
        assert telling.place.home.startswith("/var/tmp/sopctl-demo-")
        assert Path(telling.place.home).stat().st_uid == NOBODY
    finally:
        shutil.rmtree(telling.place.home, ignore_errors=True)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    done = subprocess.run(command("demo", str(tmp_path)), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_stop_where_no_demo_is(tmp_path: Path) -> None:
    done = subprocess.run(command("demo", str(tmp_path), "--stop"), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no demo was made here" in done.stderr


@pytest.mark.part(2)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_its_servers_and_begins_afresh(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "demo-site"
    for _ in range(2):  # the second finds what the first left
        child = subprocess.Popen(
            command("demo", str(folder), "--engine", "sqlite"),
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert child.stdout is not None
        for line in child.stdout:
            if "/health" in line:
                break
        assert running(folder), "the web service should run now"
        child.send_signal(number)
        said = child.stdout.read()
        assert child.wait(30) == 130, said
        deadline = time.monotonic() + 5
        while running(folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running(folder) == []
        assert (folder / MARKER).is_file()
