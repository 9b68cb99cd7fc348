"""The vault on real restic repositories: what counts, what does not, and how failures are told."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils import restic as restic_module
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import DumpStream, Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.restic import VaultError, classify, without_credentials
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Vault, nanoseconds

from tests.integration.rest_vault import SECRET, rest_vault
from tests.integration.sop_fixtures import PASSWORD, noise, tmpfs, vault_at

TAGS = {
    "sop-kind": "dump",
    "sop-dataset": "antrean",
    "sop-period": "2026-11",
    "sop-case": "BKP-2026-0001",
    "sop-name": "n",
}
NOISE = noise(3 << 20)


class BytesDump(DumpStream):
    """A dump of ``data``; ``fail`` is raised by finish, ``die_at`` makes read fail after so many bytes."""

    def __init__(self, data: bytes, fail: BaseException | None = None, die_at: int | None = None) -> None:
        self._stream = io.BytesIO(data)
        self._fail = fail
        self._die_at = die_at
        self.aborted = False

    def read(self, size: int) -> bytes:
        if self._die_at is not None and self._stream.tell() >= self._die_at:
            raise SopError("antrean: the dump was killed half-way")
        return self._stream.read(min(size, 100_000))

    def finish(self) -> Json:
        if self._fail is not None:
            raise self._fail
        return {"tables": {"t": {"rows": 1, "checksum": None}}, "globals": {}, "bytes": 1}

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Vault:
    """A vault that tests may add to."""
    folder = tmp_path_factory.mktemp("shared")
    vault = Vault(vault_at(folder), str(folder / "state"))
    assert vault.ensure_repository()[1]
    return vault


def manifest_of(snapshot: str) -> Json:
    return {"schema": "sop-manifest/v1", "dataset": "antrean", "dump_snapshot": snapshot}


def assert_one_line(error: BaseException, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert PASSWORD not in text
    assert SECRET not in text
    for word in words:
        assert word in text


def test_repository_is_made_once(tmp_path: Path) -> None:
    vault = Vault(vault_at(tmp_path), str(tmp_path / "state"))
    assert vault.ensure_repository(create=False) == ("", False)
    assert not (tmp_path / "vault").exists()
    made, created = vault.ensure_repository()
    assert created
    assert vault.ensure_repository() == (made, False)


def test_dump_counts_only_with_its_manifest(shared: Vault) -> None:
    tags = {**TAGS, "sop-dataset": "satu"}
    stored = shared.backup_stream(lambda: BytesDump(NOISE), "dump.bin", tags)
    assert (stored.bytes, len(stored.snapshot)) == (len(NOISE), 64)
    assert shared.counted("satu") == []
    manifest = {**manifest_of(stored.snapshot), "dataset": "satu", "bytes": stored.bytes, "sha256": stored.sha256}
    manifest_id = shared.put_manifest(manifest, {**tags, "sop-kind": "manifest", "sop-dump": stored.snapshot})
    (found,) = shared.counted("satu", "2026-11")
    assert (found.snapshot, found.manifest_snapshot, found.name) == (stored.snapshot, manifest_id, "n")
    assert shared.counted("satu", "2026-12") == []
    assert shared.counted("dua") == []
    assert shared.read_manifest(manifest_id, "satu", stored.snapshot) == manifest
    with pytest.raises(SopError, match="not the manifest of the planned backup"):
        shared.read_manifest(manifest_id, "dua", stored.snapshot)
    with shared.stream_source(stored.snapshot, "dump.bin", manifest).open() as stream:
        assert stream.read() == NOISE
    short = shared.stream_source(stored.snapshot, "dump.bin", {**manifest, "sha256": "0" * 64}).open()
    with pytest.raises(SopError, match="not the one its manifest describes"):
        short.read()
    short.close()
    early = shared.stream_source(stored.snapshot, "dump.bin", manifest).open()
    assert early.read(10) == NOISE[:10]
    early.close()


def test_planted_manifest_does_not_count(shared: Vault) -> None:
    tags = {**TAGS, "sop-dataset": "tanam"}
    stored = shared.backup_stream(lambda: BytesDump(b"x"), "dump.bin", {**tags, "sop-period": "2026-10"})
    shared.put_manifest(manifest_of("0" * 64), {**tags, "sop-kind": "manifest", "sop-dump": "0" * 64})
    shared.put_manifest(manifest_of(stored.snapshot), {**tags, "sop-kind": "manifest", "sop-dump": stored.snapshot})
    assert shared.counted("tanam") == []


@pytest.mark.parametrize(
    ("dump", "message"),
    [
        (BytesDump(NOISE, die_at=1 << 20), "killed half-way"),
        (BytesDump(NOISE, fail=SopError("pg_dump exited 3")), "exited 3"),
        (BytesDump(NOISE, fail=KeyboardInterrupt("ctrl-c")), "ctrl-c"),
    ],
    ids=["half-way", "bad end", "interrupted"],
)
def test_dump_that_fails_leaves_no_snapshot(shared: Vault, dump: BytesDump, message: str) -> None:
    with pytest.raises((SopError, KeyboardInterrupt), match=message):
        shared.backup_stream(lambda: dump, "dump.bin", {**TAGS, "sop-dataset": "gagal"})
    assert dump.aborted
    assert shared.snapshots({"sop-dataset": "gagal"}) == []


def test_wrong_password(shared: Vault, tmp_path: Path) -> None:
    wrong = Vault({"repository": shared.restic.repository, "password": "CANARY-wrong"}, str(tmp_path))
    for call in (wrong.ensure_repository, lambda: wrong.counted("x")):
        with pytest.raises(VaultError) as caught:
            call()
        assert_one_line(caught.value, "wrong vault password", wrong.label)
        assert "CANARY-wrong" not in str(caught.value)
        assert caught.value.reason == "password"


def test_absent_unreachable_and_missing(tmp_path: Path) -> None:
    with pytest.raises(VaultError) as caught:
        Vault(vault_at(tmp_path), str(tmp_path)).counted("x")
    assert_one_line(caught.value, "no vault at this place")
    settings = {"repository": f"rest:http://u:{SECRET}@127.0.0.1:9/x", "password": PASSWORD}
    for call in (Vault(settings, str(tmp_path)).ensure_repository, Vault(settings, str(tmp_path)).repository_id):
        with pytest.raises(VaultError) as caught:
            call()
        assert caught.value.reason == "unreachable"
        assert_one_line(caught.value, "does not answer", "rest:http://127.0.0.1:9/x")
    with pytest.raises(VaultError, match="install the package restic"):
        Vault(vault_at(tmp_path, restic="restic-nope"), str(tmp_path))
    with pytest.raises(SopError, match="vault: password is missing"):
        Vault(vault_at(tmp_path, password=""), str(tmp_path))


def test_vault_that_cannot_be_written(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "ro", "16m") as folder:
        vault = Vault(vault_at(folder), str(tmp_path / "state"))
        vault.ensure_repository()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        start = time.monotonic()
        with pytest.raises(VaultError) as caught:
            vault.counted("antrean")
        with pytest.raises(VaultError):
            vault.backup_stream(lambda: BytesDump(NOISE), "dump.bin", TAGS)
        assert_one_line(caught.value, "not writable", vault.label)
        assert time.monotonic() - start < 15
        reading = Vault(vault_at(folder), str(tmp_path / "state"), read_only=True)
        assert reading.counted("antrean") == []
        elsewhere = Vault(vault_at(folder / "below"), str(tmp_path / "state"))
        with pytest.raises(VaultError) as caught:
            elsewhere.ensure_repository()
        assert_one_line(caught.value, "not writable")


def test_full_vault(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "8m") as folder:
        vault = Vault(vault_at(folder), str(tmp_path / "state"))
        vault.ensure_repository()
        dump = BytesDump(noise(40 << 20))
        with pytest.raises(VaultError) as caught:
            vault.backup_stream(lambda: dump, "dump.bin", TAGS)
        assert caught.value.reason == "full"
        assert_one_line(caught.value, "no space left", vault.label, "nothing was stored that counts")
        assert dump.aborted
        assert vault.snapshots({"sop-dataset": "antrean"}) == []
        vault.backup_stream(lambda: BytesDump(b"small"), "dump.bin", TAGS)


def test_rest_vault_with_tls_and_password(tmp_path: Path) -> None:
    with rest_vault(tmp_path / "rest") as (server, settings):
        state = tmp_path / "state"
        vault = Vault(settings, str(state))
        assert vault.ensure_repository()[1]
        assert SECRET not in vault.label
        taken: list[BytesDump] = []

        def dump() -> BytesDump:
            taken.append(BytesDump(NOISE))
            return taken[-1]

        stored = vault.backup_stream(dump, "dump.bin", TAGS)
        assert stored.bytes == len(NOISE)
        assert len(taken) == 1
        with pytest.raises(VaultError) as caught:
            Vault({**settings, "ca_pem": None}, str(state)).repository_id()
        assert caught.value.reason in {"certificate", "unreachable"}
        assert_one_line(caught.value)
        bad = settings["repository"].replace(SECRET, "CANARY-old")
        with pytest.raises(VaultError) as caught:
            Vault({**settings, "repository": bad}, str(state)).repository_id()
        assert_one_line(caught.value, "refused the user name or password")
        server.status = 507
        with pytest.raises(VaultError) as caught:
            vault.backup_stream(lambda: BytesDump(NOISE[::-1]), "dump.bin", TAGS)
        assert caught.value.reason == "full"
        leaks = subprocess.run(
            ["grep", "-rl", "CANARY", str(state)], capture_output=True, text=True, check=False
        ).stdout
        assert leaks == ""


def test_broken_connection_takes_one_new_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restic_module, "RETRY_GRACE", 0.2)
    with rest_vault(tmp_path / "rest") as (server, settings):
        vault = Vault(settings, str(tmp_path / "state"))
        vault.ensure_repository()
        taken: list[BytesDump] = []

        def dump() -> BytesDump:
            # the vault is broken while the first dump is read, and well again afterwards
            server.break_uploads = 10_000 if not taken else 0
            taken.append(BytesDump(NOISE))
            return taken[-1]

        stored = vault.backup_stream(dump, "dump.bin", TAGS)
        assert stored.bytes == len(NOISE)
        assert [each.aborted for each in taken] == [True, False]
        server.break_uploads = 10_000
        with pytest.raises(VaultError) as caught:
            vault.backup_stream(lambda: BytesDump(NOISE[::-1]), "dump.bin", TAGS)
        assert caught.value.reason == "unreachable"
        assert len(vault.snapshots({"sop-dataset": "antrean"})) == 1


def test_locked_vault_is_waited_for(tmp_path: Path) -> None:
    vault = Vault(vault_at(tmp_path, lock_wait=1.5), str(tmp_path / "state"))
    vault.ensure_repository()
    locks = tmp_path / "vault" / "locks"
    env = {"PATH": os.environ["PATH"], "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(tmp_path / "vault")}
    admin = subprocess.Popen(["restic", "--no-cache", "-q", "check"], env=env, stdout=subprocess.DEVNULL)
    try:
        for _attempt in range(2000):
            if any(len(each.name) == 64 for each in locks.iterdir()):
                break
            time.sleep(0.002)
        os.kill(admin.pid, signal.SIGSTOP)
        with pytest.raises(VaultError) as caught:
            vault.counted("antrean")
        assert caught.value.reason == "locked"
        assert_one_line(caught.value, "locked by maintenance")
        vault.restic.lock_wait = 30
        os.kill(admin.pid, signal.SIGCONT)
        assert vault.counted("antrean") == []
    finally:
        os.kill(admin.pid, signal.SIGCONT)
        admin.wait(30)


def test_tags_that_restic_would_split_are_refused(shared: Vault) -> None:
    with pytest.raises(SopError, match="comma"):
        shared.snapshots({"sop-name": "a,b"})


@pytest.mark.parametrize("number", ["401", "403", "500", "507"])
def test_a_number_in_the_vaults_path_is_no_answer_of_a_server(tmp_path: Path, number: str) -> None:
    """Else the first run takes a vault that is still to be made for one that refuses, and never makes it."""
    folder = tmp_path / f"arsip-{number}"
    folder.mkdir()
    vault = Vault(vault_at(folder), str(tmp_path / "state"))
    with pytest.raises(VaultError) as caught:
        vault.repository_id()
    assert caught.value.reason == "absent"
    assert vault.ensure_repository()[1]


def test_small_things() -> None:
    assert nanoseconds("2001-02-03T04:05:06.123456789+07:00") == 981147906123456789
    assert nanoseconds("1969-12-31T23:59:59.5Z") == -500000000
    assert without_credentials("rest:https://u:p@h/x") == "rest:https://h/x"
    assert without_credentials("sftp:root@host:/srv") == "sftp:root@host:/srv"
    assert classify("server response unexpected: 507 Insufficient Storage") == "full"
    assert classify("", 12) == "password"


def test_manifest_snapshot_is_plain_json(shared: Vault) -> None:
    tags = {**TAGS, "sop-dataset": "json", "sop-kind": "manifest", "sop-dump": "0" * 64}
    manifest_id = shared.put_manifest({"b": 1, "a": "é"}, tags)
    assert json.loads(shared.restic.run(["dump", manifest_id, "/manifest.json"])) == {"a": "é", "b": 1}
