"""backup_dataset as a real process: killed, lied to, starved; what counts is always whole."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Counted, Vault

from tests.integration.module_process import finish, grant_for, run_module, start_module
from tests.integration.pg_cluster import Cluster, bin_dirs, running
from tests.integration.rest_vault import rest_vault
from tests.integration.sop_fixtures import PASSWORD, dataset_for, make_database, noise, tmpfs, vault_at
from tests.support.thin import stride

Json = dict[str, Any]
DB_PASSWORD = "CANARY-db-password-91bd"
KILL_MOMENTS = 13 // stride(3)  # for each of two engines


class Site:
    """One host: a dataset, a vault, and the arguments of modules."""

    def __init__(self, folder: Path, dataset: Json) -> None:
        self.folder = folder
        self.dataset = dataset
        self.settings = vault_at(folder)
        self.vault = Vault(self.settings, str(folder / "state"))
        self.vault.ensure_repository()

    def args(self, period: str = "2026-11", **more: Any) -> Json:
        args: Json = {"case": "BKP-2026-0001", "dataset": self.dataset, "vault": self.settings}
        return {**args, "secrets": {"db_password": DB_PASSWORD}, "period": period, "name": f"n_{period}", **more}

    def backup(self, period: str = "2026-11", check: bool = False, **more: Any) -> Json:
        return run_module("backup_dataset", self.args(period, **more), None if check else "backup", check)

    def start(self, period: str) -> Any:
        args = self.args(period)
        return start_module("backup_dataset", {**args, "grant": grant_for("backup", args)})

    def verify(self, counted: Counted, *, drill: bool = False, **dataset: Any) -> Json:
        args = {key: value for key, value in self.args().items() if key not in {"period", "name"}}
        args |= {"snapshot": counted.snapshot, "manifest_snapshot": counted.manifest_snapshot}
        args["dataset"] = {**self.dataset, **dataset}
        grant = {**grant_for("verify", args), **({"drill": True} if drill else {})}
        return run_module("verify_dataset", {**args, "grant": grant})

    def own_processes(self) -> list[int]:
        """Processes of ours that restic runs in, found by their home."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"HOME={self.folder / 'state'}".encode() in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    path = tmp_path / "antrean.db"
    make_database(path)
    return Site(tmp_path, dataset_for(path, tmp_path / "state"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    found = bin_dirs()
    if not found:
        pytest.skip("no PostgreSQL on this machine")
    name = sorted(found)[0]
    with running(found[name], 51000 + os.getpid() % 4000) as started:
        started.sql("CREATE DATABASE simpeg")
        started.sql(
            "CREATE TABLE pegawai (id int PRIMARY KEY, isi text);"
            "INSERT INTO pegawai SELECT n, md5(n::text) || repeat(md5((n * 7)::text), 8) FROM generate_series(1, 40000) n;",
            "simpeg",
        )
        yield started


@pytest.fixture
def pg_site(tmp_path: Path, cluster: Cluster) -> Site:
    dataset = {"id": "simpeg", "engine": "postgresql", "database": "simpeg", "connection": cluster.connection}
    return Site(tmp_path, {**dataset, "state_dir": str(tmp_path / "state")})


def failure(result: Json, *words: str) -> None:
    """The result is a failure told in one line."""
    assert result.get("failed"), result
    assert "\n" not in result["msg"]
    for word in words:
        assert word in result["msg"], result["msg"]
    assert "CANARY" not in str(result)


def test_first_backup_makes_the_repository_and_no_call_of_restic_is_for_nothing(tmp_path: Path) -> None:
    """Each call derives its key anew, most of a second: a look, the dump, its manifest."""
    path = tmp_path / "antrean.db"
    make_database(path)
    said = tmp_path / "said"
    counting = tmp_path / "restic"
    counting.write_text(f'#!/bin/sh\necho "$*" >> {said}\nexec restic "$@"\n')
    counting.chmod(0o755)
    with rest_vault(tmp_path / "rest") as (_server, settings):
        args: Json = {"case": "BKP-2026-0001", "dataset": dataset_for(path, tmp_path / "state")}
        args |= {"vault": {**settings, "restic": str(counting)}, "name": "n"}
        planned = run_module("backup_dataset", {**args, "period": "2026-11"}, None, check=True)
        assert planned["changed"]
        assert not list((tmp_path / "rest").rglob("config"))
        first = run_module("backup_dataset", {**args, "period": "2026-11"}, "backup")["sop_evidence"]
        said.unlink()
        second = run_module("backup_dataset", {**args, "period": "2026-12"}, "backup")["sop_evidence"]
        calls = [line.split("--cacert")[1].split()[1] for line in said.read_text().splitlines()]
        assert calls == ["snapshots", "backup", "backup"]
        held = Vault(settings, str(tmp_path / "state")).counted(args["dataset"]["id"])
        found = [(each.snapshot, each.manifest_snapshot) for each in held]
        assert found == [(each["snapshot"], each["manifest_snapshot"]) for each in (first, second)]


def test_backup_verify_and_nothing_to_do_again(site: Site) -> None:
    before = sorted(str(each) for each in (site.folder / "vault").rglob("*"))
    planned = site.backup(check=True)
    assert planned["changed"]
    assert sorted(str(each) for each in (site.folder / "vault").rglob("*")) == before
    assert not (site.folder / "state").exists()
    first = site.backup()
    proof = first["sop_evidence"]
    assert first["changed"]
    assert proof["tables"] == {"pegawai": {"rows": 1000}, "tabel aneh; --": {"rows": 3}}
    assert proof["bytes"] == (site.folder / "antrean.db").stat().st_size
    assert proof["sha256"] == hashlib.sha256((site.folder / "antrean.db").read_bytes()).hexdigest()
    second = site.backup()
    assert not second["changed"]
    assert second["sop_evidence"] == {**proof, "reused": True}
    assert not site.backup(check=True)["changed"]
    (counted,) = site.vault.counted("antrean", "2026-11")
    verified = site.verify(counted)
    assert not verified["changed"]
    assert verified["sop_evidence"]["ok"] is True
    assert all(len(table["checksum"]) == 32 for table in verified["sop_evidence"]["tables"].values())
    assert sorted(each.name for each in (site.folder / "state").iterdir()) == ["lock-antrean"]
    assert "CANARY" not in str([first, second, verified])
    assert site.backup("2026-12")["changed"]


def test_a_database_too_large_for_scratch_is_proven_by_reading(pg_site: Site) -> None:
    pg_site.backup()
    (counted,) = pg_site.vault.counted("simpeg")
    assert pg_site.verify(counted)["sop_evidence"]["depth"] == "restore"
    proof = pg_site.verify(counted, reserve_bytes=1 << 60)["sop_evidence"]
    assert (proof["ok"], proof["depth"], proof["tables"]) == (True, "read", {})
    short = proof["short"]
    assert (short["path"], short["reserve"]) == ("/var/tmp", 1 << 60)
    assert 0 < short["free"] < short["needs"] + short["reserve"]
    assert short["needs"] > int(
        pg_site.vault.read_manifest(counted.manifest_snapshot, "simpeg", counted.snapshot)["bytes"]
    )


def test_a_file_too_large_for_scratch_is_proven_by_reading(site: Site, tmp_path: Path) -> None:
    """And what is read to its end and is not what was stored is no proof, as ever."""
    site.backup()
    (counted,) = site.vault.counted("antrean")
    with tmpfs(tmp_path / "small", "40m") as mounted:
        small = mounted / "state"
        proof = site.verify(counted, state_dir=str(small))["sop_evidence"]
        assert (proof["ok"], proof["depth"], proof["short"]["path"]) == (True, "read", str(small))
        packs = [path for path in (site.folder / "vault/data").rglob("*") if path.is_file()]
        largest = max(packs, key=lambda path: path.stat().st_size)
        largest.chmod(0o600)
        whole = bytearray(largest.read_bytes())
        whole[len(whole) // 2] ^= 0xFF
        largest.write_bytes(whole)
        failure(site.verify(counted, state_dir=str(small)), "vault")


def test_a_drill_host_needs_no_server_and_keeps_nothing(pg_site: Site, tmp_path: Path) -> None:
    """Neither the socket nor the database's password of the source lead anywhere there; restic keeps no cache."""
    with rest_vault(tmp_path / "rest") as (_server, settings):
        pg_site.settings = settings
        pg_site.vault = Vault(settings, str(tmp_path / "state"))
        pg_site.vault.ensure_repository()
        pg_site.backup()
        (counted,) = pg_site.vault.counted("simpeg")
        away = tmp_path / "away"
        nowhere = {**pg_site.dataset["connection"], "socket": str(tmp_path / "nowhere")}
        proof = pg_site.verify(counted, drill=True, state_dir=str(away), connection=nowhere)["sop_evidence"]
        assert (proof["ok"], proof["depth"], proof["tables"]["public.pegawai"]["rows"]) == (True, "restore", 40000)
        assert [path.name for path in away.iterdir()] == ["lock-simpeg"]


def test_a_host_without_the_server_programs_of_the_dump(pg_site: Site, tmp_path: Path) -> None:
    pg_site.backup()
    (counted,) = pg_site.vault.counted("simpeg")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("psql", "pg_restore"):
        (programs / name).symlink_to(Path(pg_site.dataset["connection"]["bin_dir"]) / name)
    connection = {**pg_site.dataset["connection"], "bin_dir": str(programs)}
    failure(
        pg_site.verify(counted, drill=True, connection=connection), "simpeg: no postgres in", "install it or correct"
    )


def test_what_a_proof_leaves_behind_fails_it(site: Site) -> None:
    """A folder of restored data that cannot be removed, here one that somebody made immutable."""
    site.backup()
    (counted,) = site.vault.counted("antrean")
    kept = site.folder / "state" / "scratch-antrean.sisa"
    kept.mkdir(parents=True)
    if subprocess.run(["chattr", "+i", str(kept)], check=False, capture_output=True).returncode:
        pytest.skip("this file system has no immutable folders")
    try:
        failure(
            site.verify(counted), "antrean: the proof left", str(kept), "which may hold restored data; remove it there"
        )
    finally:
        subprocess.run(["chattr", "-i", str(kept)], check=True)
    assert site.verify(counted)["sop_evidence"]["ok"] is True
    assert not kept.exists()


def test_what_a_proof_refuted_does_not_count_again(site: Site) -> None:
    """Named with the order, so that the period gets another one; what is not named still counts."""
    first = site.backup()["sop_evidence"]
    again = site.backup(passed_over=["f" * 64])
    assert (again["changed"], again["sop_evidence"]["snapshot"]) == (False, first["snapshot"])
    other = site.backup(passed_over=[first["snapshot"]])
    assert other["changed"]
    assert other["sop_evidence"]["snapshot"] != first["snapshot"]
    assert not site.backup(passed_over=[first["snapshot"]])["changed"], "the other one counts"


def test_without_grant_or_with_a_wrong_one_nothing_happens(site: Site) -> None:
    args = site.args()
    failure(run_module("backup_dataset", args), "refused: no grant")
    good = grant_for("backup", args)
    wrong = {
        "operation": ("verify", "the grant's operation is 'verify'"),
        "dataset": ("lain", "the grant's dataset is 'lain'"),
        "case": ("BKP-2026-0002", "the grant's case is 'BKP-2026-0002'"),
        "machine_id": ("0" * 32, "is for the machine 000"),
        "expires": ("2020-01-01T00:00:00Z", "ended at 2020-01-01T00:00:00Z"),
    }
    for key, (value, words) in wrong.items():
        failure(run_module("backup_dataset", {**args, "grant": {**good, key: value}}), "refused:", words)
    unreadable = {**good, "expires": "soon"}
    failure(run_module("backup_dataset", {**args, "grant": unreadable}), "refused:", "no readable expiry")
    assert site.vault.snapshots({"sop-dataset": "antrean"}) == []
    for change in ({"case": "../x"}, {"dataset": {**site.dataset, "id": "../../etc"}}):
        bad = {**args, **change}
        failure(run_module("backup_dataset", {**bad, "grant": grant_for("backup", bad)}), "correct the plan")


def test_one_run_at_a_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import DatasetLock

    with DatasetLock(str(site.folder / "state"), "antrean", "BKP-2026-0009 backup"):
        failure(site.backup(), "another run holds this dataset here (BKP-2026-0009 backup, pid")
    assert site.backup()["changed"]


def test_failures_a_person_can_cause(site: Site, tmp_path: Path) -> None:
    failure(
        site.backup(vault={**site.settings, "password": "CANARY-wrong"}),
        "wrong vault password",
        str(tmp_path / "vault"),
    )
    failure(site.backup(vault={**site.settings, "restic": "restic-nope"}), "install the package restic")
    failure(site.backup(vault=None), "no vault was given")
    failure(site.backup(dataset={**site.dataset, "engine": "oracle"}), "engine 'oracle' is unknown; one of files")
    failure(site.backup(dataset={**site.dataset, "path": "/nonexistent/x.db"}), "no such database file")
    failure(site.backup(name="a,b"), "comma")
    secret = "CANARY-url"
    failure(
        site.backup(vault={**site.settings, "repository": f"rest:http://u:{secret}@127.0.0.1:9/x"}),
        "rest:http://127.0.0.1:9/x",
        "does not answer",
    )


def test_unwritable_and_full_vault(site: Site, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "6m") as small:
        settings = vault_at(small)
        Vault(settings, str(tmp_path / "state")).ensure_repository()
        connection = sqlite3.connect(site.folder / "antrean.db")
        with connection:
            connection.execute("CREATE TABLE besar (isi BLOB)")
            connection.executemany("INSERT INTO besar VALUES (?)", ((noise(1 << 20, bytes([n])),) for n in range(24)))
        connection.close()
        failure(site.backup(vault=settings), str(small), "no space left", "nothing was stored that counts")
        assert Vault(settings, str(tmp_path / "state")).counted("antrean") == []
    assert site.backup()["changed"]


def spread(count: int, duration: float) -> list[float]:
    """Moments over ``duration``, one in each equal part, somewhere in it."""
    jitter = hashlib.shake_256(b"moments").digest(count)
    return [duration * (n + jitter[n] / 256) / count for n in range(count)]


def kill_at_many_moments(site: Site, name: str, count: int) -> int:
    """Kill the module at ``count`` moments of a backup; return how many backups counted all the same."""
    begin = time.monotonic()
    assert site.backup("2020-01")["changed"]
    duration = time.monotonic() - begin
    whole = 1
    for number, moment in enumerate(spread(count, duration)):
        period = f"2021-{number:02}"
        process = site.start(period)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for _attempt in range(100):
            if not site.own_processes():
                break
            time.sleep(0.05)
        assert site.own_processes() == [], "restic outlived the module"
        for counted in site.vault.counted(name, period):
            whole += 1
            proof = site.verify(counted)
            assert proof["sop_evidence"]["ok"] is True, proof
    result = site.backup("2030-01")
    assert result["changed"], result
    everything = site.vault.counted(name)
    assert len(everything) == whole + 1
    assert site.verify(everything[-1])["sop_evidence"]["ok"] is True
    left = [each.name for each in (site.folder / "state").iterdir()]
    assert not [each for each in left if each.startswith("scratch")]
    return whole


def test_killed_at_random_moments_sqlite(site: Site) -> None:
    connection = sqlite3.connect(site.folder / "antrean.db")
    with connection:
        connection.execute("CREATE TABLE besar (isi BLOB)")
        connection.executemany("INSERT INTO besar VALUES (?)", ((noise(1 << 20, bytes([n])),) for n in range(30)))
    connection.close()
    kill_at_many_moments(site, "antrean", KILL_MOMENTS)


def test_killed_at_random_moments_postgresql(pg_site: Site) -> None:
    kill_at_many_moments(pg_site, "simpeg", KILL_MOMENTS)


def wrapped_programs(site: Site, script: str) -> Json:
    """The dataset with a pg_dump that runs ``script`` with the real one as $REAL."""
    real = Path(site.dataset["connection"]["bin_dir"])
    folder = site.folder / "bin"
    folder.mkdir(exist_ok=True)
    for program in real.iterdir():
        target = folder / program.name
        if not target.exists() and program.name != "pg_dump":
            target.symlink_to(program)
    wrapper = folder / "pg_dump"
    wrapper.write_text(f'#!/bin/sh\nREAL={real}/pg_dump\ncase "$*" in *--version*) exec $REAL "$@";; esac\n{script}\n')
    wrapper.chmod(0o755)
    for each in (site.folder, *site.folder.parents):
        if each.stat().st_uid == os.geteuid() and str(each) not in {"/", "/tmp"}:
            each.chmod(each.stat().st_mode | 0o111)
    return {**site.dataset, "connection": {**site.dataset["connection"], "bin_dir": str(folder)}}


@pytest.mark.parametrize(
    "script",
    ['$REAL "$@"; exit 3', '$REAL "$@" | head -c 3000000; kill -9 $$', "exit 0"],
    ids=["fails at its very end", "killed half-way", "says nothing"],
)
def test_dump_that_is_not_whole_does_not_count(pg_site: Site, script: str) -> None:
    whole = pg_site.dataset
    pg_site.dataset = wrapped_programs(pg_site, script)
    failure(pg_site.backup(), "pg_dump")
    assert pg_site.vault.snapshots({"sop-dataset": "simpeg"}) == []
    assert pg_site.own_processes() == []
    pg_site.dataset = whole
    assert pg_site.backup()["changed"]


def test_dump_cut_short_with_exit_0_is_never_verified(pg_site: Site) -> None:
    whole = pg_site.dataset
    pg_site.dataset = wrapped_programs(pg_site, '$REAL "$@" | head -c 3000000; exit 0')
    result = pg_site.backup()
    pg_site.dataset = whole
    if result.get("failed"):
        failure(result, "pg_dump")
        return
    (counted,) = pg_site.vault.counted("simpeg")
    failure(pg_site.verify(counted), "simpeg")


def test_ended_by_signal_says_so(pg_site: Site) -> None:
    whole = pg_site.dataset
    pg_site.dataset = wrapped_programs(pg_site, '$REAL "$@"; sleep 30')
    process = pg_site.start("2026-11")
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    failure(finish(process, timeout=20), "ended by SIGTERM")
    assert pg_site.own_processes() == []
    assert pg_site.vault.snapshots({"sop-dataset": "simpeg"}) == []
    pg_site.dataset = whole


class Watch:
    """Looks at every process's arguments and environment, and at the module's memory, while it runs."""

    def __init__(self, pid: int) -> None:
        self.leaks: set[str] = set()
        self.peak = 0
        self.looks = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for path in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        if b"CANARY" in (path / name).read_bytes():
                            self.leaks.add(f"{path.name}: {(path / name).read_bytes()[:200]!r}")
                    except OSError:
                        continue
            try:
                status = Path(f"/proc/{self._pid}/status").read_text()
                self.peak = max(self.peak, int(status.split("VmHWM:")[1].split()[0]))
            except (OSError, IndexError):
                pass
            self.looks += 1
            time.sleep(0.02)


def test_the_watch_sees_a_secret_that_is_there() -> None:
    script = "sleep 1"
    for argv, env in ((["sh", "-c", script, DB_PASSWORD], {}), (["sh", "-c", script], {"X": PASSWORD})):
        process = subprocess.Popen(argv, env={"PATH": os.environ["PATH"], **env})
        with Watch(process.pid) as watch:
            process.wait()
        assert any(leak.startswith(f"{process.pid}:") for leak in watch.leaks)


def test_no_secret_is_seen_and_memory_stays_flat(site: Site, pg_site: Site) -> None:
    connection = sqlite3.connect(site.folder / "antrean.db")
    connection.execute("CREATE TABLE besar (isi BLOB)")
    peaks = []
    for number, megabytes in enumerate((1, 150)):
        with connection:
            connection.executemany(
                "INSERT INTO besar VALUES (?)", ((bytes([n]) * (1 << 20),) for n in range(megabytes))
            )
        process = site.start(f"2026-{number:02}")
        with Watch(process.pid) as watch:
            result = finish(process)
        assert result["changed"], result
        assert watch.leaks == set()
        assert watch.looks > 5
        peaks.append(watch.peak)
    connection.close()
    assert peaks[1] - peaks[0] < 16 << 10, f"peak memory in KiB: {peaks}"
    process = pg_site.start("2026-11")
    with Watch(process.pid) as watch:
        assert finish(process)["changed"]
    assert watch.leaks == set()
    # grep of everything left on the host; the vault's own files are encrypted
    for path in (site.folder / "state").rglob("*"):
        assert not path.is_file() or b"CANARY" not in path.read_bytes()
    assert PASSWORD.startswith("CANARY")
