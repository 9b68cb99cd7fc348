# SPDX-License-Identifier: Apache-2.0
"""Who waits sees bytes and time left: in ``--json`` lines, on a terminal, on this machine and over SSH with sudo."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SMALL_MB, make_local_site
from tests.integration.rest_vault import SECRET, USER, rest_vault
from tests.integration.sop_fixtures import noise
from tests.lab.hosts import Lab
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.long

Json = dict[str, Any]
SIZE = 24_000_000
SECONDS = 8  # that the vault takes for them


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteBuilder]:
    """A local site whose vault is slow from now on; its first backup is made."""
    tmp_path = tmp_path_factory.mktemp("slow")
    site = make_local_site(tmp_path / "site")
    with closing(sqlite3.connect(tmp_path / "site/data/antrean.db")) as connection, connection:
        connection.execute("CREATE TABLE lampiran (id INTEGER PRIMARY KEY, isi BLOB)")
        rows = [(noise(SIZE // 24, b"%d" % number),) for number in range(24)]
        connection.executemany("INSERT INTO lampiran (isi) VALUES (?)", rows)
    with rest_vault(tmp_path / "rest") as (server, settings):
        url = re.sub(r"//[^@]*@([^/]+)/.*", r"//\1/{server}/", settings["repository"])
        (site.root / "trust/vault-ca.pem").write_text(settings["ca_pem"])
        secret = site.root / "secrets/rest"
        secret.write_text(SECRET)
        secret.chmod(0o600)
        site.edit("sop.yml", f"{site.vault}/{{server}}", url)
        more = f"  user: {USER}\n  user_password: {{file: secrets/rest}}\n  ca_file: trust/vault-ca.pem\n"
        password = "  password: {file: secrets/vault-password}\n"
        site.edit("sop.yml", password, password + more)
        site.sign_trust()  # the trust is signed over where the vault is
        site.run("schedule", "run", "--due", as_="pelaksana")
        server.pace = SIZE // SECONDS
        yield site


def progress_lines(stderr: str) -> list[Json]:
    """The progress lines among what a ``--json`` command wrote to stderr; each line of it is JSON."""
    found = [json.loads(line) for line in stderr.splitlines()]
    return [line for line in found if line.get("event") == "progress"]


def grows(lines: list[Json]) -> None:
    """One dump's bytes grow towards its total, and the time left is told once there is a pace."""
    done = [line["done"] for line in lines]
    assert done == sorted(done)
    assert len(set(done)) >= 3, lines
    assert all(0 <= line["done"] <= line["total"] for line in lines)
    assert all(line["percent"] == line["done"] * 100 // line["total"] for line in lines)
    told = [line["seconds_left"] for line in lines if line["seconds_left"] is not None]
    assert told, lines
    assert all(0 <= left < 600 for left in told)


def test_json_lines_while_staging(slow: SiteBuilder) -> None:
    site = slow
    case = site.approved("antrean")
    done = site.run("case", "execute", case, "--json", as_="pelaksana")
    executed = json.loads(done.stdout)
    assert executed["result"] == "berhasil"
    lines = progress_lines(done.stderr)
    grows(lines)
    assert {(line["host"], line["dataset"], line["what"]) for line in lines} == {("srv01", "antrean", "stage")}
    assert {line["estimate"] for line in lines} == {False}
    assert not [path.name for path in site.state_dir.iterdir() if "progress" in path.name]
    for path in Path(executed["record"]).rglob("*"):
        if path.is_file():
            assert b"sop_progress" not in path.read_bytes(), path
    assert SECRET not in done.stderr + done.stdout


def test_one_line_on_a_terminal(slow: SiteBuilder) -> None:
    site = slow
    screen = on_a_terminal(site, "case", "execute", site.approved("antrean"), "--as", "pelaksana")
    found = re.findall(r"\r\x1b\[2Ksrv01/antrean: staging ([\d.]+) of ([\d.]+) MB, \d+ %", screen)
    assert len(found) >= 3, screen
    assert [float(done) for done, _total in found] == sorted(float(done) for done, _total in found)
    assert re.search(r"about \d+ s left", screen)
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line.rpartition("\r\x1b[2K")[2]) for line in screen.split("\r\n")]
    assert not [line for line in lines if "staging" in line], "what stays on the screen is results"
    assert [line for line in lines if "antrean staged beside the live data" in line], screen


def on_a_terminal(site: SiteBuilder, *words: str) -> str:
    """What a terminal of 100 columns gets to show."""
    master, slave = pty.openpty()
    command = [*site.sopctl, "-C", str(site.root), *words]
    env = {**site.env, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, env=env, cwd=site.folder, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    screen = b""
    try:
        while piece := os.read(master, 65536):
            screen += piece
    except OSError:  # how a terminal's other end says that nobody is there any more
        pass
    os.close(master)
    assert process.wait(60) == 0, screen.decode()
    return screen.decode()


def test_lines_now_and_then_in_a_pipe(slow: SiteBuilder) -> None:
    """And what a killed run left of its progress is not what the next one says."""
    site = slow
    case = site.approved("antrean")
    stale = site.state_dir / f"progress-antrean-{case}.json"
    stale.write_text(json.dumps({"what": "stage", "done": 10**12, "total": 1}))
    done = site.run("case", "execute", case, as_="pelaksana")
    lines = [line for line in done.stderr.splitlines() if "srv01/antrean: staging" in line]
    assert 1 <= len(lines) <= 11, done.stderr
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    assert not stale.exists()


@pytest.mark.lab
def test_over_ssh_with_sudo(lab: Lab, alone: None, make_site: Callable[..., SiteBuilder]) -> None:
    site = make_site("simpeg")
    lab.generate(400)
    try:
        done = site.run("schedule", "run", "--due", "--json", as_="pelaksana")
        backup = progress_lines(done.stderr)
        executed = site.run("case", "execute", site.approved("simpeg"), "--json", as_="pelaksana")
        staging = progress_lines(executed.stderr)
    finally:
        lab.generate(SMALL_MB)
    assert {line["what"] for line in backup} == {"backup", "verify"}, done.stderr
    assert {(line["host"], line["dataset"], line["what"]) for line in staging} == {("db01", "simpeg", "stage")}
    grown = [line["done"] for line in staging]
    assert grown == sorted(grown)
    assert len(set(grown)) >= 2, staging
    assert "progress-" not in lab.exec("db01", "ls /var/lib/sop")
