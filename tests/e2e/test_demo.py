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

import pytest

import sopctl
from sopctl.demo.place import MARKER, Place, load, reachable

pytestmark = pytest.mark.xdist_group("demo")  # the tests share two tellings

NOBODY = 65534
LIMIT = 400  # seconds; the promise is 120 on an idle machine, and here two demos run at once, beside other tests
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
    own = [sys.executable, "-P", "-m", "sopctl", *words]
    if user is None:
        return own
    change = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    needed = [Path(sys.executable).resolve().parent, Path(sys.executable).parent, Path(sopctl.__file__).parent]
    if not all(reachable(path, user) for path in needed):  # a checkout below /root: let them read, and no more
        change += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [*change, *own]


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


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that an ordinary user may have as home, when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="demo-test-"))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def tellings(open_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Telling]]:
    """Both demos, at the same time."""
    root = os.geteuid() == 0
    deep = open_folder / DEEP
    subprocess.run(command_as(["mkdir", "-p", str(deep)], root), check=True)
    folders = {"user": deep / "demo-site"}
    if root:
        closed = tmp_path_factory.mktemp("closed")
        closed.chmod(0o700)
        folders["root"] = closed / "demo-site"
    children = {
        name: subprocess.Popen(
            command("demo", user=NOBODY if root and name == "user" else None),
            cwd=folder.parent,
            env=environment(open_folder if name == "user" else folder.parent),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        for name, folder in folders.items()
    }
    told = {}
    for name, child in children.items():
        said, _ = child.communicate(timeout=LIMIT)
        told[name] = Telling(folders[name], said, child.returncode)
    yield told
    for telling in told.values():
        shutil.rmtree(telling.place.home, ignore_errors=True)


def command_as(words: list[str], change: bool) -> list[str]:
    """``words`` as the ordinary user."""
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words] if change else words


@pytest.fixture(params=["user", "root"])
def told(request: pytest.FixtureRequest, tellings: dict[str, Telling]) -> Telling:
    """Each telling."""
    if request.param not in tellings:
        pytest.skip("the demo as root needs root")
    return tellings[request.param]


def after(said: str, typed: str) -> str:
    """What was printed between a command and the next one."""
    found = re.search(rf"^\$ {typed}.*?(?=^\$ |\Z)", said, re.M | re.S)
    assert found, f"{typed} was not shown"
    return found.group()


def test_ends_well(told: Telling) -> None:
    assert told.code == 0, told.said[-3000:]
    assert "✘" not in told.said
    assert "Traceback" not in told.said


def test_second_scheduled_run_changes_nothing(told: Telling) -> None:
    runs = re.findall(r"^\$ sopctl schedule run --due.*?(?=^\$ |\Z)", told.said, re.M | re.S)
    assert "changed=3" in runs[0]
    assert "verified by restoring it into scratch" in runs[0]
    assert "changed=0" in runs[1]
    forced = after(told.said, "sopctl schedule run --dataset")
    assert "changed=0" in forced
    assert "already stored for this period" in forced


def test_refusals_are_shown_with_exit_10(told: Telling) -> None:
    executions = re.findall(r"^\$ sopctl case execute (\S+) .*?(?=^\$ |\Z)", told.said, re.M | re.S)
    rejected, approved = sorted(set(executions))
    assert executions == [approved, approved, rejected, approved]  # too early, in time, never, once more
    assert told.said.count("  exit 10\n") == 5
    assert "no run-started of RST-" in told.said


def test_restore_brings_the_source_back(told: Telling) -> None:
    assert re.search(r"downtime: \d+ s", told.said)
    assert "✔ every row equal" in told.said
    assert "✔ every file equal" in told.said
    prints = re.findall(r"rows until \S+ \S+\s+sha256 ([0-9a-f]{32})", told.said)
    assert len(prints) == 3
    assert prints[0] == prints[2] != prints[1]
    assert "__before_rst" in told.said


def test_one_byte_is_found_with_exit_30(told: Telling) -> None:
    assert "7 records: bytes, signatures and ledger hold" in told.said
    forged = after(told.said, "sopctl record verify --archive archive-copy")
    assert "BROKEN" in forged
    assert "  exit 30\n" in forged


def test_forms_are_where_it_says(told: Telling) -> None:
    paths = re.findall(r"^\s+(/\S+\.html)$", told.said, re.M)
    assert len(paths) >= 5
    for path in paths:
        assert "FORMULIR" in Path(path).read_text().upper()


def test_leaves_nothing_running(told: Telling) -> None:
    assert running(told.folder) == []
    assert not Path(told.place.sockets).exists()


def test_database_lives_where_its_account_can_reach_it(tellings: dict[str, Telling]) -> None:
    assert Path(tellings["user"].place.home).is_relative_to(tellings["user"].folder)
    if "root" in tellings:
        assert tellings["root"].place.home.startswith("/var/tmp/sopctl-demo-")
        assert Path(tellings["root"].place.home).stat().st_uid == NOBODY


def test_env_file_lets_one_look_around(tellings: dict[str, Telling]) -> None:
    telling = tellings["root" if "root" in tellings else "user"]
    shell = ["sh", "-c", ". ./env && sopctl case list && sopctl record verify"]
    done = subprocess.run(shell, cwd=telling.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ditolak" in done.stdout
    assert "selesai" in done.stdout


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
