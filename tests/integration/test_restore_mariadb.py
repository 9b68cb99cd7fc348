"""A MariaDB schema through the modules as real processes: backup, proof, staged, swapped, finalised, reverted."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.integration.module_process import finish, grant_for, run_module, start_module
from tests.integration.my_helpers import BEFORE, CASE, SHADOW, Site, no_rests, schemas
from tests.integration.sop_fixtures import vault_at

pytest_plugins = ["tests.integration.my_fixtures"]

Json = dict[str, Any]


def _backed_up(site: Site, folder: Path) -> Json:
    """Arguments of a restore of a backup that was made and proven."""
    common: Json = {"case": "BKP-2026-0001", "dataset": site.engine().dataset, "vault": vault_at(folder)}
    assert run_module("vault_repository", common, "vault_repository")["sop_evidence"]["created"]
    backup = run_module("backup_dataset", {**common, "period": "2026-11", "name": "n"}, "backup")
    assert backup["changed"], backup
    proof = backup["sop_evidence"]
    assert proof["method"] == "mariadb-dump --single-transaction | restic"
    assert not run_module("backup_dataset", {**common, "period": "2026-11", "name": "n"}, "backup")["changed"]
    ids = {key: proof[key] for key in ("snapshot", "manifest_snapshot")}
    verified = run_module("verify_dataset", {**common, **ids}, "verify")
    assert verified["sop_evidence"]["ok"], verified
    return {**common, **ids, "case": CASE, "expected": {"tables": verified["sop_evidence"]["tables"]}}


def _to(args: Json, state: str, check: bool = False) -> Json:
    return run_module("restore_dataset", {**args, "state": state}, None if check else f"restore.{state}", check)


def _quiesce(args: Json, state: str) -> Json:
    options = {"case": CASE, "dataset": args["dataset"], "state": state, "timeout": 10}
    return run_module("quiesce", options, f"quiesce.{state}")


def test_the_whole_way(my_zoo: Site, tmp_path: Path) -> None:
    site = my_zoo
    before = site.server.dump("simpeg")
    args = _backed_up(site, tmp_path)
    assert site.server.dump("simpeg") == before
    site.sql("DELETE FROM anak WHERE id > 100; DROP TABLE kosong; DROP PROCEDURE lama")
    damaged = site.server.dump("simpeg")

    assert _to(args, "staged", check=True)["changed"]
    staged = _to(args, "staged")
    assert staged["changed"], staged
    assert not _to(args, "staged")["changed"]
    assert site.server.dump("simpeg") == damaged
    assert "is in use" in _to(args, "swapped")["msg"]
    assert _quiesce(args, "quiesced")["sop_evidence"]["proof"]["tables_free"]
    swapped = _to(args, "swapped")
    assert swapped["sop_evidence"]["before"] == BEFORE, swapped
    assert not _to(args, "swapped")["changed"]
    assert _quiesce(args, "released")["changed"]
    assert not _quiesce(args, "released")["changed"]
    assert not _to(args, "finalised")["changed"]
    assert site.server.dump("simpeg") == before

    _quiesce(args, "quiesced")
    assert _to(args, "reverted")["changed"]
    assert not _to(args, "reverted")["changed"]
    _quiesce(args, "released")
    assert site.server.dump("simpeg") == damaged
    assert schemas(site.server) == ["simpeg", SHADOW]


def test_a_module_that_is_ended_while_staging_leaves_nothing(my_small: Site, tmp_path: Path) -> None:
    site = my_small
    site.sql("CREATE TABLE besar AS SELECT seq AS x, REPEAT(MD5(seq), 8) AS y FROM seq_1_to_200000")
    args = _backed_up(site, tmp_path)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        options = {**args, "state": "staged"}
        process = start_module("restore_dataset", {**options, "grant": grant_for("restore.staged", options)})
        deadline = time.monotonic() + 60
        while SHADOW not in schemas(site.server) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(sign)
        if sign == signal.SIGTERM:
            assert finish(process)["failed"]
            assert no_rests(site.server)
        else:
            process.communicate()
    assert site.engine().state(CASE) == "absent"
    assert _to(args, "staged")["changed"]  # what the killed one left was never whole
    assert site.server.sql("SELECT COUNT(*) FROM mysql.global_priv WHERE User LIKE 'sop%'") == "0"


def test_a_backup_of_another_engine_or_dataset_is_refused(my_small: Site, tmp_path: Path) -> None:
    site = my_small
    args = _backed_up(site, tmp_path)
    other = {**args, "dataset": {**args["dataset"], "id": "lainnya"}}
    assert "not the manifest of the planned backup" in _to(other, "staged")["msg"]
    path = tmp_path / "antrean.db"
    path.write_bytes(b"")
    sqlite = {**args, "dataset": {"id": "simpeg", "engine": "sqlite", "path": str(path), "state_dir": str(site.state)}}
    assert _to(sqlite, "staged")["failed"]
    assert path.read_bytes() == b""
    assert no_rests(site.server)


def _server_of_the_proof(process: subprocess.Popen[bytes]) -> tuple[int, list[str], set[str]]:
    """The private server that the module has started: its pid, its arguments, and the sockets that it holds."""
    while process.poll() is None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode().split("\0")
                if not words[0].endswith("mariadbd") or not any("sop-scratch-" in word for word in words):
                    continue
                held = {str(each.readlink()) for each in (entry / "fd").iterdir()}
            except OSError:
                continue
            if any(link.startswith("socket:") for link in held):
                return int(entry.name), words, {link for link in held if link.startswith("socket:")}
        time.sleep(0.01)
    raise AssertionError(f"the proof ended without a server: {finish(process)}")


def test_what_a_dump_would_do_by_itself_is_not_done_in_its_proof(my_small: Site, tmp_path: Path) -> None:
    """An event and a trigger that name the live schema; the private server runs none, and no network reaches it."""
    site = my_small
    site.sql("SET GLOBAL event_scheduler = OFF")
    try:
        site.sql("DROP EVENT ev; CREATE EVENT ev ON SCHEDULE EVERY 1 SECOND DO INSERT INTO simpeg.catatan VALUES (-1)")
        site.sql("CREATE TRIGGER jauh AFTER INSERT ON t FOR EACH ROW INSERT INTO simpeg.catatan VALUES (-2)")
        common: Json = {"case": "BKP-2026-0001", "dataset": site.engine().dataset, "vault": vault_at(tmp_path)}
        run_module("vault_repository", common, "vault_repository")
        stored = run_module("backup_dataset", {**common, "period": "2026-11", "name": "n"}, "backup")["sop_evidence"]
        options = {**common, **{key: stored[key] for key in ("snapshot", "manifest_snapshot")}}
        before = site.server.dump("simpeg")
        process = start_module("verify_dataset", {**options, "grant": grant_for("verify", options)})
        pid, words, sockets = _server_of_the_proof(process)
        assert {"--skip-networking", "--event-scheduler=OFF", "--local-infile=0"} <= set(words)
        reached = [
            line.split()[9] for kind in ("tcp", "tcp6", "udp", "udp6")
            for line in Path(f"/proc/{pid}/net/{kind}").read_text(encoding="ascii").splitlines()[1:]
        ]  # fmt: skip
        assert not {f"socket:[{inode}]" for inode in reached} & sockets
        assert finish(process)["sop_evidence"]["ok"]
        assert site.server.dump("simpeg") == before
        assert site.sql("SELECT COUNT(*) FROM catatan WHERE x < 0") == "0"
    finally:
        site.sql("SET GLOBAL event_scheduler = ON")
