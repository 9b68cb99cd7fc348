"""The MariaDB engine's kept data, restoring in place and beside, and proof by restore."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

from tests.integration.my_helpers import CASE, SHADOW, Site, schemas, staged, take
from tests.integration.my_process import server_account

pytest_plugins = ["tests.integration.my_fixtures"]

SECOND = "RST-2026-0002"


def _routine_grants(site: Site) -> list[str]:
    return sorted(site.sql("SELECT User, Host, Routine_name, Proc_priv FROM procs_priv", "mysql").splitlines())


@pytest.fixture
def scratch_dir() -> Iterator[Path]:
    """A folder that the scratch server's account can reach."""
    with tempfile.TemporaryDirectory(prefix="sop-test-scratch-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


# -- the kept data, in place, beside -------------------------------------------------------------------------------


def test_kept_data_is_measured_and_dropped_alone(my_small: Site) -> None:
    engine = staged(my_small)
    assert engine.kept_bytes(CASE) == 0
    engine.drop_kept(CASE)
    engine.swap(CASE)
    assert engine.kept_bytes(CASE) > 10_000
    my_small.server.sql("CREATE DATABASE simpeg__before_rst20260009")
    engine.drop_kept(CASE)
    engine.drop_kept(CASE)
    assert engine.kept_bytes(CASE) == 0
    assert schemas(my_small.server) == ["simpeg", "simpeg__before_rst20260009"]
    with pytest.raises(SopError, match="not the finished kept data"):
        engine.drop_kept("RST-2026-0009")


def test_kept_data_is_not_dropped_when_it_is_the_only_one(my_small: Site) -> None:
    engine = staged(my_small)
    engine.swap(CASE)
    my_small.server.sql("DROP DATABASE simpeg")
    with pytest.raises(SopError, match="may be the only data"):
        engine.drop_kept(CASE)


def test_in_place_empties_and_restores_with_all_privileges(my_zoo: Site) -> None:
    site, engine = my_zoo, my_zoo.engine()
    source, manifest = take(engine)
    before, grants = site.server.dump("simpeg"), _routine_grants(site)
    with pytest.raises(SopError, match="quiesce it before it is emptied"):
        engine.empty(CASE)
    engine.quiesce(10)
    engine.empty(CASE)
    engine.empty(CASE)
    assert site.sql("SHOW TABLES") == ""
    assert engine.is_quiesced()
    engine.stage(CASE, source, manifest)
    engine.swap(CASE)
    engine.release()
    assert site.server.dump("simpeg") == before
    assert _routine_grants(site) == grants


def test_a_schema_that_was_dropped_comes_back(my_zoo: Site) -> None:
    site = my_zoo
    source, manifest = take(site.engine())
    before, privileges = site.server.dump("simpeg"), _routine_grants(site)
    site.server.sql("DROP DATABASE simpeg")
    engine = site.engine(definers=["root@localhost"])
    with pytest.raises(SopError, match="power over the whole server"):
        site.engine().stage(CASE, source, manifest)
    assert schemas(site.server) == []
    engine.stage(CASE, source, manifest)
    engine.quiesce(10)
    engine.swap(CASE)
    engine.release()
    assert site.server.dump("simpeg") == before
    assert _routine_grants(site) == privileges


def test_place_makes_a_copy_beside_that_cannot_reach_back(my_zoo: Site) -> None:
    site, engine = my_zoo, my_zoo.engine()
    source, manifest = take(engine)
    before = site.server.dump("simpeg")
    content = engine.place("salinan", CASE, source, manifest)
    assert content["tables"] == engine.manifest(checksums=True)["tables"]
    assert content["left_out"] == ["event ev1", "event ev3", "routine hitung", "trigger tr2", "trigger tr3"]
    assert engine.placed("salinan", CASE)
    assert not engine.placed("salinan", SECOND)
    assert site.server.dump("simpeg") == before
    assert site.sql("SELECT COUNT(*) FROM induk", "salinan", user="app", password="rahasia") == "4"
    assert site.sql("SELECT COUNT(*) FROM a_atas", "salinan", user="app", password="rahasia") == "4"
    site.sql("INSERT INTO induk (nama) VALUES ('hanya di salinan')", "salinan")
    assert site.server.dump("simpeg") == before
    assert (
        site.sql("SELECT COUNT(*) FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'salinan' AND STATUS = 'ENABLED'")
        == "0"
    )
    for target in ("simpeg", SHADOW, "x" * 65):
        with pytest.raises(SopError, match="choose another"):
            engine.place(target, CASE, source, manifest)
    with pytest.raises(SopError, match="placed already"):
        engine.place("salinan", CASE, source, manifest)
    with pytest.raises(SopError, match="there already"):
        engine.place("salinan", SECOND, source, manifest)
    with pytest.raises(SopError):
        engine.place("rusak", CASE, type(source)(source.data[:5000]), manifest)
    assert schemas(site.server) == ["salinan", "simpeg"]


# -- proof by restore ----------------------------------------------------------------------------------------------


def test_scratch_gives_the_content_and_leaves_nothing(my_zoo: Site, scratch_dir: Path) -> None:
    place = scratch_dir
    engine = my_zoo.engine(scratch_dir=str(place))
    source, manifest = take(engine)
    accounts = my_zoo.server.sql("SELECT User, Host FROM mysql.global_priv")
    with engine.scratch(source, manifest) as content:
        assert content["tables"] == engine.manifest(checksums=True)["tables"]
        assert content["globals"]["schema"]["name"] == "simpeg"
        (folder,) = place.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        commands = [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
        servers = [
            (c, Path(f"/proc/{n}").stat().st_uid) for n, c in zip(children, commands, strict=True) if b"mariadbd" in c
        ]
        mine = [(command, uid) for command, uid in servers if str(folder).encode() in command]
        assert len(mine) == 1
        assert b"--skip-networking" in mine[0][0]
        assert mine[0][1] != 0
    assert list(place.iterdir()) == []
    assert my_zoo.server.sql("SELECT User, Host FROM mysql.global_priv") == accounts
    assert schemas(my_zoo.server) == ["simpeg"]


def test_an_event_and_a_trigger_gain_nothing_while_they_are_proven(
    my_small: Site, scratch_dir: Path, request: pytest.FixtureRequest
) -> None:
    """Both are whole and well-formed, and root's; the event is due each second, and both may write where it is tried."""
    site, trap = my_small, scratch_dir / "terperangkap"
    scratch_dir.chmod(0o777)
    takes = f"SELECT n FROM simpeg.t LIMIT 1 INTO OUTFILE '{trap}'"  # noqa: S608  # ours
    request.addfinalizer(lambda: site.sql("DROP EVENT IF EXISTS ev; SET GLOBAL event_scheduler = ON"))
    site.sql("SET GLOBAL event_scheduler = OFF; DROP TRIGGER tr; DROP EVENT ev")
    site.sql(f"CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW {takes}")
    site.sql(f"CREATE EVENT ev ON SCHEDULE EVERY 1 SECOND STARTS '2020-01-01 00:00:00' ENABLE DO {takes}")
    engine = site.engine(scratch_dir=str(scratch_dir))
    source, manifest = take(engine)
    before = site.server.dump("simpeg")
    with engine.scratch(source, manifest) as content:
        assert content["tables"]["t"]["rows"] == 100
        kinds = {item["kind"]: str(item["text"]).upper() for item in content["globals"]["objects"]}
        assert all(takes.upper() in kinds[kind] for kind in ("event", "trigger")), "they were restored as they came"
        time.sleep(2.5)
        assert not trap.exists()
    assert list(scratch_dir.rglob("*")) == []
    assert site.server.dump("simpeg") == before


def test_scratch_leaves_the_live_servers_temporary_tables_alone(my_small: Site, scratch_dir: Path) -> None:
    """A MariaDB that starts removes all temporary tables from its folder for them; by default that is everybody's /tmp."""
    foreign = Path(f"/tmp/#sql-temptable-{os.getpid()}-1-1.MAI")
    foreign.write_bytes(b"")
    if os.geteuid() == 0:
        shutil.chown(foreign, server_account())
    try:
        engine = my_small.engine(scratch_dir=str(scratch_dir))
        with engine.scratch(*take(engine)):
            assert foreign.exists()
    finally:
        foreign.unlink(missing_ok=True)


def test_scratch_tells_a_bad_dump_and_leaves_nothing(my_small: Site, scratch_dir: Path) -> None:
    engine = my_small.engine(scratch_dir=str(scratch_dir))
    source, manifest = take(engine)
    with pytest.raises(SopError), engine.scratch(type(source)(source.data[:3000]), manifest):
        pass
    manifest["content"]["globals"]["version"] = "99.1.0-MariaDB"
    with pytest.raises(SopError, match=r"made by MariaDB 99.1.0-MariaDB, here is"), engine.scratch(source, manifest):
        pass
    assert list(scratch_dir.iterdir()) == []
