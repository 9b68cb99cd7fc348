# SPDX-License-Identifier: Apache-2.0
"""Covers module enrolment and enrolled hosts: real runs on this machine, in a mount namespace with an /etc of its own.

So nothing of this machine is enrolled, and no option of the modules says where the host's files are.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import evidence
from tests.integration.module_process import COLLECTIONS
from tests.support.site_builder import SiteBuilder, installed_sopctl

Json = dict[str, Any]
ENTER = 'mount --bind "$1" /etc; mount --bind "$2" /var/lib; shift 2; exec "$@"'


class Host:
    """This machine with another /etc and /var/lib."""

    def __init__(self, folder: Path) -> None:
        self.etc, self.lib = folder / "etc", folder / "lib"
        shutil.copytree("/etc", self.etc, symlinks=True, ignore=shutil.ignore_patterns("sop", "sopctl"))
        self.lib.mkdir()
        self.signers, self.used = self.etc / "sop/grant-signers", self.lib / "sop/used.jsonl"
        enter = ["unshare", "--mount", "sh", "-euc", ENTER, "sh", str(self.etc), str(self.lib)]
        if os.geteuid() or subprocess.run([*enter, "true"], check=False).returncode:
            pytest.skip("a mount namespace needs root")
        self.enter = enter

    def run(self, command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a program there."""
        return subprocess.run([*self.enter, *command], capture_output=True, text=True, check=False, **more)

    def module(self, *, check: bool = False, **args: str) -> Json:
        """Run module enrolment there."""
        given = json.dumps({"ANSIBLE_MODULE_ARGS": {**args, "_ansible_check_mode": check, "_ansible_diff": True}})
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(COLLECTIONS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/nonexistent",
        }
        name = "ansible_collections.diskominfo.sop.plugins.modules.enrolment"
        done = self.run([sys.executable, "-m", name], input=given, env=env)
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        result: Json = json.loads(done.stdout)
        return result


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def public(folder: Path, name: str) -> tuple[str, str]:
    """A new key's public line and fingerprint."""
    path = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "run key of a site", "-f", str(path)], check=True
    )
    told = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], capture_output=True, text=True, check=True).stdout
    return Path(f"{path}.pub").read_text(), told.split()[1]


def test_enrol_replace_and_take_out(host: Host, tmp_path: Path) -> None:
    (line, fingerprint), (other, other_print) = public(tmp_path, "one"), public(tmp_path, "two")
    checked = host.module(check=True, key=line)
    assert checked["changed"]
    assert checked["diff"]["after"].startswith('run namespaces="sop-grant" ssh-ed25519 ')
    assert not host.signers.parent.exists()
    assert not host.used.exists()

    made = host.module(key=line)
    assert made["changed"]
    assert made["sop_evidence"]["fingerprint"] == fingerprint
    assert host.signers.read_text() == f'run namespaces="sop-grant" {" ".join(line.split()[:2])}\n'
    assert (host.signers.stat().st_mode & 0o777, host.signers.parent.stat().st_mode & 0o777) == (0o644, 0o755)
    assert (host.used.stat().st_mode & 0o777, host.used.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    host.used.write_text("{}\n")
    assert not host.module(key=line)["changed"]

    for said in (host.module(key=other), host.module(key=other, replaces=other_print)):
        assert said["failed"]
        assert f"enrolled with the key {fingerprint}" in said["msg"]
    assert host.module(state="absent")["failed"]
    assert host.module(state="absent", replaces=other_print)["failed"]
    assert "not a fingerprint" in host.module(key=other, replaces="one")["msg"]
    assert host.module(key=other, replaces=fingerprint, check=True)["changed"]
    assert fingerprint == made["sop_evidence"]["fingerprint"]
    assert host.module(key=other, replaces=fingerprint)["sop_evidence"]["before"] == fingerprint
    assert host.module(state="absent", replaces=other_print, check=True)["changed"]
    assert host.signers.exists()
    assert host.module(state="absent", replaces=other_print)["changed"]
    assert not host.signers.exists()
    assert host.used.read_text() == "{}\n", "what was done stays remembered"
    assert not host.module(state="absent")["changed"]


@pytest.mark.parametrize(
    "key", ["", "garbage", "ssh-ed25519 AAAA\nssh-ed25519 AAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA", "{}\n{}", '*" {}']
)
def test_what_is_no_public_key(key: str, host: Host, tmp_path: Path) -> None:
    line, _ = public(tmp_path, "one")
    said = host.module(key=key.format(line.strip(), line.strip()))
    assert "not one OpenSSH public key line" in said["msg"], said
    assert not host.signers.exists()


def test_file_of_somebody_else_s_is_left_alone(host: Host, tmp_path: Path) -> None:
    line, _ = public(tmp_path, "one")
    host.signers.parent.mkdir()
    host.signers.write_text("# mine\n")
    assert "was not written by this module" in host.module(key=line)["msg"]
    host.signers.unlink()
    host.signers.symlink_to("/etc/passwd")
    assert "is a link" in host.module(key=line)["msg"]
    assert host.signers.is_symlink()


def test_list_that_is_gone_is_made_again_by_the_administrator_only(host: Host, tmp_path: Path) -> None:
    line, _ = public(tmp_path, "one")
    host.module(key=line)
    host.used.unlink()
    assert host.module(key=line, check=True)["changed"]
    assert host.module(key=line)["changed"]
    assert host.used.read_bytes() == b""


# real runs -----------------------------------------------------------------------------------------------------------


class Enrolled:
    """A site whose one host is enrolled, with one SQLite dataset."""

    def __init__(self, folder: Path) -> None:
        self.host = Host(folder)
        self.site = SiteBuilder(folder, sopctl=[*self.host.enter, *installed_sopctl()])
        self.site.server("srv01")
        self.data = folder / "data/antrean.db"
        self.data.parent.mkdir()
        self.write("tamu")
        self.site.dataset("antrean", engine="sqlite", server="srv01", path=str(self.data))
        self.site.schedule()
        if not (self.site.root / "trust/run.pub").exists():  # a site made before sopctl init made one
            public(self.site.root / "secrets", "run-key")
            (self.site.root / "secrets/run-key.pub").rename(self.site.root / "trust/run.pub")
        assert self.host.module(key=(self.site.root / "trust/run.pub").read_text())["changed"]

    def write(self, word: str) -> None:
        """Make the database hold this word."""
        with sqlite3.connect(self.data) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS antrean (catatan TEXT)")
            connection.execute("DELETE FROM antrean")
            connection.executemany("INSERT INTO antrean VALUES (?)", [(word,)] * 50)
        connection.close()

    def word(self) -> str:
        """What it holds."""
        connection = sqlite3.connect(self.data)
        found = str(connection.execute("SELECT DISTINCT catatan FROM antrean").fetchone()[0])
        connection.close()
        return found

    def lines(self, what: str) -> list[Json]:
        """The host's memory."""
        return [line for line in map(json.loads, self.host.used.read_text().splitlines()) if line["what"] == what]

    def kept(self) -> list[Path]:
        """What restores set aside."""
        return sorted(self.data.parent.glob("*__before_*"))


@pytest.fixture
def enrolled(tmp_path: Path) -> Enrolled:
    return Enrolled(tmp_path)


def test_runs_on_an_enrolled_host(enrolled: Enrolled, tmp_path: Path) -> None:
    """Backup, a second one, a restore, the same twice after the whole site was put back by git."""
    site = enrolled.site
    site.run("schedule", "run", "--due", as_="pelaksana")
    assert [entry["enrolled"] for kind in ("backup", "verify") for entry in evidence(site.records[-1], kind)] == [
        True
    ] * 2
    assert len(enrolled.lines("finished")) == 1
    again = site.run_json("schedule", "run", "--dataset", "antrean", as_="pelaksana")
    assert again["changed"] == 0
    assert len(enrolled.lines("finished")) == 2, "another case, proven again"

    enrolled.write("rusak")
    case = site.approved("antrean")
    shutil.copytree(site.root, tmp_path / "yesterday", symlinks=True)
    site.run("case", "execute", case, as_="pelaksana")
    assert enrolled.word() == "tamu"
    assert {entry["enrolled"] for entry in evidence(site.records[-1], "swap")} == {True}
    assert len({line["nonce"] for line in enrolled.lines("used")}) == len(enrolled.lines("used"))

    enrolled.write("data baru")
    before, kept = enrolled.data.read_bytes(), enrolled.kept()
    shutil.rmtree(site.root)
    shutil.copytree(tmp_path / "yesterday", site.root, symlinks=True)
    done = site.run("case", "execute", case, as_="pelaksana", check=False)
    assert done.returncode not in (0, 2), done.stdout
    assert "in a run that the site's ledger does not name" in done.stdout, done.stdout + done.stderr
    assert enrolled.data.read_bytes() == before
    assert enrolled.kept() == kept


@pytest.mark.long
def test_finished_execution_is_repeated_only_as_far_as_it_changes_nothing(enrolled: Enrolled) -> None:
    """sopctl died after the last step, before the document was filed: the resume ends well, and can do no harm later."""
    site = enrolled.site
    site.run("schedule", "run", "--due", as_="pelaksana")
    enrolled.write("rusak")
    case = site.approved("antrean")
    site.run("case", "execute", case, as_="pelaksana")
    drop_execution(site, case)
    resumed = site.run_json("case", "execute", case, as_="pelaksana")
    assert resumed["changed"] == 0
    assert enrolled.word() == "tamu"

    drop_execution(site, case)
    for path in enrolled.kept():
        path.unlink()  # the keep time is over; the host alone knows now that this restore was done
    enrolled.write("data baru")
    done = site.run("case", "execute", case, as_="pelaksana", check=False)
    assert "this host finished execution 1 of" in done.stdout, done.stdout + done.stderr
    assert enrolled.word() == "data baru"
    assert enrolled.kept() == []


def drop_execution(site: SiteBuilder, case: str) -> None:
    """As if sopctl had been killed before it filed the document: neither the file nor its line is there."""
    for path in (site.root / "cases").rglob(f"{case}/*-execute.json*"):
        path.unlink()
    ledger = site.root / "archive/ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    last = [number for number, line in enumerate(lines) if f'"{case}/' in line and '"document"' in line][-1]
    ledger.write_text("".join(lines[:last]))


@pytest.mark.long
def test_site_with_another_run_key(enrolled: Enrolled, tmp_path: Path) -> None:
    """A key that the host does not know, and none at all: nothing is begun."""
    site = enrolled.site
    line, fingerprint = public(tmp_path, "other")
    enrolled.host.module(key=line, replaces=fingerprint_of(enrolled.host))
    done = site.run("schedule", "run", "--due", as_="pelaksana", check=False)
    assert done.returncode not in (0, 2)
    assert "is not signed by the run key that this host knows" in done.stdout, done.stdout
    (site.root / "secrets/run-key").unlink()
    done = site.run("schedule", "run", "--due", as_="pelaksana", check=False)
    assert "is not signed, and this host is enrolled" in done.stdout, done.stdout
    assert not list(site.vault.rglob("config"))
    assert fingerprint == fingerprint_of(enrolled.host)


def fingerprint_of(host: Host) -> str:
    """Of the key that the host believes."""
    key = " ".join(host.signers.read_text().split()[2:])
    told = subprocess.run(["ssh-keygen", "-lf", "-"], input=key, capture_output=True, text=True, check=True).stdout
    return told.split()[1]


@pytest.mark.long
def test_run_key_that_may_not_be_used(enrolled: Enrolled) -> None:
    """Told before anything is started."""
    site = enrolled.site
    (site.root / "secrets/run-key").chmod(0o644)
    done = site.run("schedule", "run", "--due", as_="pelaksana", check=False)
    assert done.returncode == 2
    assert "the run key is open to others" in done.stderr
    assert '"run-started"' not in (site.root / "archive/ledger.jsonl").read_text()


def test_host_that_is_not_enrolled_says_so(tmp_path: Path) -> None:
    enrolled = Enrolled(tmp_path)
    enrolled.host.signers.unlink()
    enrolled.site.run("schedule", "run", "--due", as_="pelaksana")
    assert [entry["enrolled"] for entry in evidence(enrolled.site.records[-1], "backup")] == [False]
