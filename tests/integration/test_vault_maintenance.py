# SPDX-License-Identifier: Apache-2.0
"""Maintenance of the vault from the admin host, on real restic repositories."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sopctl.errors import ConfigError, VaultFailed
from sopctl.restic import Restic
from tests.integration.rest_vault import SECRET, rest_vault
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.long

JUNK = "0" * 64


class Vaulted:
    """A site with one SQLite dataset, and its repository."""

    def __init__(self, folder: Path) -> None:
        self.live = folder / "antrean.db"
        self.fill(1)
        self.site = SiteBuilder(folder)
        self.site.server("srv01")
        self.site.dataset("antrean", engine="sqlite", server="srv01", path=str(self.live))
        self.site.schedule()
        self.repository = self.site.vault / "srv01"

    def fill(self, number: int) -> None:
        with sqlite3.connect(self.live) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS antrean (id INTEGER PRIMARY KEY, isi BLOB)")
            connection.execute("INSERT INTO antrean VALUES (?, ?)", (number, os.urandom(400_000)))
        connection.close()

    def backup(self) -> Any:
        return self.site.run_json("schedule", "run", "--due", as_="pelaksana")

    def another(self, number: int, every: str) -> None:
        """A further backup: one of the same month serves a shorter period too, so it is never due by itself."""
        self.fill(number)
        self.site.schedule(every=every)
        self.site.run("schedule", "run", "--dataset", "antrean", as_="pelaksana")

    def check(self, *args: str) -> tuple[int, Any]:
        done = self.site.run("vault", "check", *args, "--json", as_="pelaksana", check=False)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)["servers"][0]

    def rows(self) -> list[Any]:
        return list(self.site.run_json("vault", "list"))

    def restic(
        self,
        *args: str,
        repository: Path | None = None,
        secret: str = "vault-password",  # noqa: S107  # a file's name
        stdin: bytes | None = None,
    ) -> str:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.site.home),
            "RESTIC_PASSWORD_FILE": str(self.site.root / "secrets" / secret),
            "RESTIC_REPOSITORY": str(repository or self.repository),
        }
        done = subprocess.run(["restic", "--no-cache", *args], env=env, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def ids(self) -> set[str]:
        return {one["id"] for one in json.loads(self.restic("snapshots", "--json"))}

    def spoil(self, repository: Path | None = None) -> Path:
        """Flip a byte in the largest pack."""
        packs = [path for path in ((repository or self.repository) / "data").rglob("*") if path.is_file()]
        pack = max(packs, key=lambda path: path.stat().st_size)
        pack.chmod(0o600)
        data = bytearray(pack.read_bytes())
        data[1000] ^= 1
        pack.write_bytes(data)
        return pack

    def set_vault(self, **more: Any) -> None:
        """Further keys of ``vault`` in sop.yml, signed over."""
        path = self.site.root / "sop.yml"
        text = path.read_text()
        words = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in more.items())
        path.write_text(re.sub(r"^(vault:.*\n)", lambda found: found[1] + words, text, count=1, flags=re.MULTILINE))
        self.site.sign_trust()


@pytest.fixture
def vaulted(tmp_path: Path) -> Iterator[Vaulted]:
    """A site whose one dataset has a verified backup."""
    made = Vaulted(tmp_path)
    made.backup()
    yield made


def test_a_clean_vault_is_checked_recorded_and_said(vaulted: Vaulted) -> None:
    assert vaulted.rows()[0]["checked"] is None
    (vaulted.repository / "vault-full").write_text("2 1\n")  # of the keeper, while the server is over its quota
    code, row = vaulted.check("--read-share", "all")
    assert (code, row["clean"], row["unknown"], row["misfits"]) == (0, True, [], [])
    assert vaulted.rows()[0]["checked"]
    assert "last checked: 20" in vaulted.site.run("vault", "list").stdout
    lines = (vaulted.site.root / "archive/ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines][-2:] == ["record", "vault-checked"]
    assert json.loads(lines[-1])["ref"].startswith("srv01/VLT-")
    assert vaulted.site.run("record", "verify", check=False).returncode == 0
    measures = vaulted.site.run("metrics").stdout
    assert 'sopctl_vault_checked_timestamp_seconds{server="srv01"}' in measures
    assert vaulted.check()[0] == 0, "a second one has a number of its own"


def test_a_corrupt_pack_is_found_repaired_and_the_next_run_makes_a_good_backup(vaulted: Vaulted) -> None:
    [first] = vaulted.rows()
    pack = vaulted.spoil().name
    code, row = vaulted.check("--read-share", "all")
    assert code == 30
    assert row["packs"] == [pack]
    assert [one["name"] for one in row["damaged"]] == [first["name"]]
    told = vaulted.site.run("vault", "check", as_="pelaksana", check=False).stdout
    assert "next: sopctl vault check --quarantine" in told
    [bad] = vaulted.rows()
    assert (bad["verified"], bad["flaw"]) == (False, "damaged")
    code, row = vaulted.check("--quarantine")
    assert code == 30
    assert not list((vaulted.repository / "data").rglob(pack))
    assert [path.name for path in Path(row["quarantine"]).rglob(pack)] == [pack], "moved, not deleted"
    vaulted.backup()
    rows = vaulted.rows()
    assert [each["verified"] for each in rows] == [False, True]
    assert rows[0]["period"] == rows[1]["period"]
    case = vaulted.site.approved("antrean")
    vaulted.site.run("case", "execute", case, as_="pelaksana")


def test_without_repair_a_new_backup_on_a_corrupt_pack_is_not_verified(vaulted: Vaulted) -> None:
    vaulted.spoil()
    assert vaulted.check("--read-share", "all")[0] == 30
    done = vaulted.site.run("schedule", "run", "--due", "--json", as_="pelaksana", check=False)
    assert done.returncode != 0, "the proof by restore finds it too"
    assert not any(each["verified"] for each in vaulted.rows())


def test_an_append_only_vault_and_one_that_does_not_answer_are_one_line(tmp_path: Path) -> None:
    with rest_vault(tmp_path / "rest") as (server, access):
        restic = Restic(access, "srv1", tmp_path)
        restic.run("init")
        (tmp_path / "file").write_text("data")
        restic.run("backup", str(tmp_path / "file"))
        [snapshot] = restic.json("snapshots")
        server.append_only = True
        with pytest.raises(ConfigError, match="append-only") as refused:
            restic.run("forget", snapshot["id"])
        assert SECRET not in str(refused.value) and access["password"] not in str(refused.value)
        assert restic.json("snapshots") == [snapshot]
    with pytest.raises(VaultFailed, match="does not answer"):
        restic.run("check", may_fail=True)


def test_junk_is_quarantined_and_a_restore_still_works(vaulted: Vaulted, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    planted = [
        "keys/zz",
        f"keys/{JUNK}",
        f"snapshots/{JUNK}",
        f"data/00/{JUNK}",
        "data/strange/x",
        "index/link",
        "plant",
    ]
    for name in planted:
        path = vaulted.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(secret) if name.endswith("link") else path.write_bytes(b"jk")
    code, row = vaulted.check("--quarantine")
    assert code == 30
    assert {one["path"] for one in row["misfits"]} == {*planted, "data/strange"} - {"data/strange/x"}
    assert not row["missing"] and not row["damaged"]
    assert all(os.path.lexists(Path(row["quarantine"]) / name) for name in planted)
    assert secret.read_text() == "x"
    code, row = vaulted.check("--read-share", "all")
    assert (code, row["problems"]) == (0, [])
    case = vaulted.site.approved("antrean")
    vaulted.site.run("case", "execute", case, as_="pelaksana")


def test_what_is_missing_or_unknown_is_named(vaulted: Vaulted) -> None:
    [backup] = vaulted.rows()
    vaulted.restic("backup", "--stdin", "--stdin-filename", "plant", "--time", "2030-01-01 00:00:00", stdin=b"junk")
    code, row = vaulted.check()
    assert (code, len(row["unknown"]), row["missing"]) == (0, 1, [])
    vaulted.restic("forget", backup["snapshot"])
    code, row = vaulted.check()
    assert code == 30
    assert [one["name"] for one in row["missing"]] == [backup["name"]]
    assert vaulted.rows()[0]["flaw"] == "missing"
    vaulted.backup()
    assert vaulted.rows()[-1]["verified"]


def one_line(vaulted: Vaulted, code: int, *args: str) -> str:
    done = vaulted.site.run(*args, as_="pelaksana", check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    return last


def test_what_cannot_be_checked_is_one_line(vaulted: Vaulted, tmp_path: Path) -> None:
    password = vaulted.site.root / "secrets/vault-password"
    right = password.read_text()
    password.write_text("wrong-password-of-this-test\n")
    told = one_line(vaulted, 2, "vault", "check")
    assert "wrong password" in told and "wrong-password-of" not in told
    password.write_text(right)
    lock = vaulted.site.root / ".state/locks"
    with subprocess.Popen(
        ["flock", str(lock / "dataset-antrean"), "-c", "echo held; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == b"held\n"
        assert "dataset-antrean" in one_line(vaulted, 11, "vault", "check")
        assert running.stdin is not None
        running.stdin.close()
    vaulted.repository.rename(tmp_path / "away")
    assert "vault.admin_url" in one_line(vaulted, 2, "vault", "check")
    assert "is no share" in one_line(vaulted, 2, "vault", "check", "--read-share", "some")


def test_settings_are_those_that_were_signed(vaulted: Vaulted) -> None:
    vaulted.site.edit("sop.yml", "\n  password: {file", "\n  admin_url: /elsewhere/{server}\n  password: {file")
    assert "vault differs" in one_line(vaulted, 10, "vault", "check")


def test_maintenance_that_died_does_not_stop_the_schedule(vaulted: Vaulted) -> None:
    lock = vaulted.site.root / ".state/locks/dataset-antrean"
    holder = {"holder": "pelaksana", "host": os.uname().nodename, "pid": 1, "since": "2026-01-01T00:00:00Z"}
    lock.write_text(json.dumps({**holder, "case": "VLT-2026-0001"}) + "\n")
    assert vaulted.check()[0] == 0
    lock.write_text(json.dumps({**holder, "case": "VLT-2026-0001"}) + "\n")
    vaulted.site.run("schedule", "run", "--dataset", "antrean", as_="pelaksana")


def test_names_are_hashes(vaulted: Vaulted) -> None:
    """What the scrub relies on holds for restic's own files."""
    for kind in ("keys", "snapshots", "index"):
        for path in (vaulted.repository / kind).iterdir():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_forget_by_retention(vaulted: Vaulted) -> None:
    site = vaulted.site
    for number, every in enumerate(("P1W", "P1D"), 2):
        vaulted.another(number, every)
    vaulted.restic("backup", "--stdin", "--stdin-filename", "plant", "--time", "2030-01-01 00:00:00", stdin=b"junk")
    before, names = vaulted.ids(), [each["name"] for each in vaulted.rows()]
    assert len(names) == 3
    vaulted.set_vault(keep={"monthly": 1})
    looked = site.run_json("vault", "forget", as_="pelaksana")
    assert [each["goes"] for each in looked["backups"]] == [True, True, False]
    assert vaulted.ids() == before, "showing changes nothing"
    done = site.run_json("vault", "forget", "--yes", as_="pelaksana")
    assert [each["name"] for each in done["forgotten"]] == names[:2]
    gone = {each[key] for each in done["forgotten"] for key in ("snapshot", "manifest_snapshot")}
    assert vaulted.ids() == before - gone, "and nothing else: the plant is still there"
    assert site.run_json("vault", "forget", "--yes", as_="pelaksana")["forgotten"] == []
    kinds = [json.loads(line)["kind"] for line in (site.root / "archive/ledger.jsonl").read_text().splitlines()]
    assert kinds[-2:] == ["destruction", "record"]
    assert [each["forgotten"] for each in vaulted.rows()] == [True, True, False]
    assert site.run("record", "verify", check=False).returncode == 0
    code, row = vaulted.check("--read-share", "all")
    assert (code, row["missing"], len(row["unknown"])) == (0, [], 1)
