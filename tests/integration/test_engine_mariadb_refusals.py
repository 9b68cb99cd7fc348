"""What the MariaDB engine refuses, before anything is changed: servers, dumps, targets."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.engines.mariadb import MariadbEngine

from tests.integration.my_helpers import CASE, Site, manifest_of, no_rests, schemas, take
from tests.integration.my_process import installed, running
from tests.integration.pg_helpers import Bytes, drain

pytest_plugins = ["tests.integration.my_fixtures"]

Json = dict[str, Any]


def _refused(site: Site, data: bytes, change: Callable[[Json], None] | None, named: str) -> None:
    """Staging is refused with ``named``, and nothing has changed."""
    before, content = site.server.dump("simpeg"), take(site.engine())[1]["content"]
    if change is not None:
        change(content)
    with pytest.raises(SopError, match=named):
        site.engine().stage(CASE, Bytes(data), manifest_of(data, content))
    assert site.server.dump("simpeg") == before
    assert no_rests(site.server)
    assert schemas(site.server) == ["simpeg"]


# -- servers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "named"),
    [("8.0.36", "is MySQL or something else, not MariaDB"), ("10.5.23-MariaDB", "too old; 10.6 is needed")],
)
def test_mysql_and_old_servers_are_refused_by_name(version: str, named: str) -> None:
    if not installed():
        pytest.skip("mariadbd is not installed: apt-get install mariadb-server")
    with running(f"--version={version}") as server:
        engine = Site(server, Path("/nonexistent")).engine()
        with pytest.raises(SopError, match=named):
            engine.describe()


def test_an_account_that_is_no_administrator_is_named(my_small: Site) -> None:
    my_small.sql(
        "CREATE USER petugas@localhost IDENTIFIED BY 'kata \"sandi\\\\ #1'; GRANT ALL ON *.* TO petugas@localhost"
    )
    record = my_small.engine(connection={"user": "petugas"}).dataset
    secrets = {"db_password": 'kata "sandi\\ #1'}
    with pytest.raises(SopError, match=r"petugas@localhost lacks GRANT OPTION on \*\.\*"):
        MariadbEngine(record, secrets).describe()
    my_small.sql("GRANT ALL ON *.* TO petugas@localhost WITH GRANT OPTION; REVOKE EVENT ON *.* FROM petugas@localhost")
    with pytest.raises(SopError, match="lacks EVENT"):
        MariadbEngine(record, secrets).describe()
    my_small.sql("GRANT EVENT ON *.* TO petugas@localhost")
    assert MariadbEngine(record, secrets).describe()["exists"]
    with pytest.raises(SopError, match=r"cannot talk to MariaDB as petugas .* correct the connection"):
        MariadbEngine(record, {"db_password": "salah"}).describe()
    with pytest.raises(SopError, match="cannot talk to MariaDB"):
        my_small.engine(connection={"socket": "/nonexistent/s"}).describe()


# -- what cannot be dumped -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TABLE lama (x INT) ENGINE = MyISAM", r"not InnoDB.*lama \(MyISAM\); convert each"),
        ("CREATE TABLE aria (x INT) ENGINE = Aria", r"aria \(Aria\)"),
        ("CREATE VIEW rusak AS SELECT x FROM catatan; DROP TABLE catatan", "views that do not work: rusak"),
        ("CREATE TABLE __sop_objects (x INT)", "__sop_objects, a name that is kept"),
        ("CREATE TABLE `baris\nbaru` (x INT)", "control character"),
        (
            "CREATE TABLE tr (x INT, a BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, z BIGINT UNSIGNED GENERATED ALWAYS "
            "AS ROW END, PERIOD FOR SYSTEM_TIME (a, z)) WITH SYSTEM VERSIONING",
            "transaction numbers",
        ),
    ],
)
def test_what_no_dump_can_carry_is_named(my_small: Site, statement: str, named: str) -> None:
    my_small.sql(statement)
    with pytest.raises(SopError, match=named):
        my_small.engine().dump()


def test_a_schema_that_is_not_there(my_small: Site) -> None:
    engine = my_small.engine(database="tidakada")
    assert engine.describe()["exists"] is False
    with pytest.raises(SopError, match="no schema tidakada"):
        engine.dump()
    with pytest.raises(SopError, match="the server's own schema"):
        my_small.engine(database="mysql")


def test_a_dump_that_is_killed_half_way_does_not_count(my_small: Site) -> None:
    my_small.sql("CREATE TABLE besar AS SELECT seq AS x, REPEAT('z', 200) AS y FROM seq_1_to_50000")
    stream = my_small.engine().dump()
    stream.read(100_000)
    os.kill(stream.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.raises(SopError, match="killed by signal 9"):
        drain(stream)
    stream.abort()
    stream = my_small.engine().dump()
    stream.read(1000)
    with pytest.raises(SopError, match="not read to its end"):
        stream.finish()


def test_definitions_that_change_during_the_dump_are_named(my_small: Site) -> None:
    stream = my_small.engine().dump()
    drain(stream)
    my_small.sql("CREATE OR REPLACE PROCEDURE p() SELECT 2; CREATE TABLE baru (x INT)")
    with pytest.raises(SopError, match="routine p, table baru changed while simpeg was dumped"):
        stream.finish()


def test_rows_are_those_of_one_moment(my_small: Site) -> None:
    stream = my_small.engine().dump()
    first = stream.read(100)
    my_small.sql("DROP TRIGGER tr")  # its absence is found at the end; the rows below are not in the snapshot
    my_small.sql("INSERT INTO t SELECT seq, '' FROM seq_1000_to_1100")
    my_small.sql("CREATE TRIGGER tr AFTER INSERT ON t FOR EACH ROW INSERT INTO catatan VALUES (NEW.x)")
    data = first + drain(stream)
    content = stream.finish()
    assert content["tables"]["t"]["rows"] == 100
    assert data.count(b"\nINSERT INTO `t`") == 100


# -- what cannot be restored here ----------------------------------------------------------------------------------


def _newer(content: Json) -> None:
    content["globals"]["version"] = "11.4.2-MariaDB"


def _charset(content: Json) -> None:
    content["globals"]["schema"].update(charset="latin1", collation="latin1_swedish_ci")


def _folded(content: Json) -> None:
    content["globals"]["lower_case_names"] = 1


def _definer(content: Json) -> None:
    for item in content["globals"]["objects"]:
        if item["kind"] == "view":
            item["definer"]["user"] = "hilang"
            item["text"] = item["text"].replace("`app`", "`hilang`")


def _postgres(content: Json) -> None:
    content["globals"] = {"major": 15, "database": {}}


def _nothing(content: Json) -> None:
    del content["globals"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_newer, "made by MariaDB 11.4.2-MariaDB, this server is"),
        (_charset, r"the dump is latin1 \(latin1_swedish_ci\), schema simpeg is utf8mb4"),
        (_folded, "lower_case_table_names=1"),
        (_definer, r"run: CREATE USER 'hilang'@'localhost' ACCOUNT LOCK;"),
        (_postgres, "no globals of a MariaDB schema"),
        (_nothing, "no globals of a MariaDB schema"),
    ],
)
def test_a_dump_that_does_not_fit_is_refused(my_small: Site, change: Callable[[Json], None], named: str) -> None:
    source, _manifest = take(my_small.engine())
    _refused(my_small, source.data, change, named)


@pytest.mark.parametrize("cut", [50, 3000, -400, -1])
def test_a_cut_dump_is_refused(my_small: Site, cut: int) -> None:
    source, manifest = take(my_small.engine())
    with pytest.raises(SopError):
        my_small.engine().stage(CASE, Bytes(source.data[:cut]), manifest)
    assert no_rests(my_small.server)


def test_a_stream_that_breaks_is_told(my_small: Site) -> None:
    source, manifest = take(my_small.engine())
    with pytest.raises(SopError, match="the vault is gone"):
        my_small.engine().stage(CASE, Bytes(source.data[:2000], SopError("the vault is gone")), manifest)
    assert no_rests(my_small.server)


def test_a_changed_byte_is_refused(my_small: Site) -> None:
    source, manifest = take(my_small.engine())
    with pytest.raises(SopError, match="its manifest says"):
        my_small.engine().stage(CASE, Bytes(source.data.replace(b"'baris 7'", b"'baris 8'")), manifest)
    assert no_rests(my_small.server)


# -- targets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("SET GLOBAL read_only = 1", "the server is read-only"),
        (
            "CREATE DATABASE lain; CREATE TABLE lain.x (t INT, CONSTRAINT asing FOREIGN KEY (t) REFERENCES simpeg.t (x))",
            r"lain.x \(asing\) to simpeg.t",
        ),
        (
            "CREATE DATABASE lain; CREATE TABLE lain.x (t INT PRIMARY KEY); "
            "CREATE TABLE y (t INT, CONSTRAINT keluar FOREIGN KEY (t) REFERENCES lain.x (t))",
            r"simpeg.y \(keluar\) to lain.x",
        ),
        ("GRANT SELECT ON `simpeg%`.* TO app@localhost", "grants by pattern .* simpeg% for app@localhost"),
        ("CHANGE MASTER 'asal' TO MASTER_HOST = '127.0.0.1', MASTER_USER = 'x'", "replica of another one"),
    ],
)
def test_a_target_that_cannot_be_exchanged_is_refused(my_small: Site, statement: str, named: str) -> None:
    source, manifest = take(my_small.engine())
    my_small.sql(statement)
    try:
        with pytest.raises(SopError, match=named):
            my_small.engine().require_swappable()
        with pytest.raises(SopError, match=named):
            my_small.engine().stage(CASE, source, manifest)
        assert no_rests(my_small.server)
    finally:
        my_small.sql("SET GLOBAL read_only = 0; RESET SLAVE ALL")
        my_small.server.run("RESET SLAVE 'asal' ALL")


def test_a_disk_that_fills_up_drops_the_copy(my_small: Site) -> None:
    source, manifest = take(my_small.engine())
    with pytest.raises(SopError, match="make room and stage again"):
        my_small.engine(reserve_bytes=1 << 60).stage(CASE, source, manifest)
    assert no_rests(my_small.server)


def test_the_password_is_never_in_an_argument(my_small: Site) -> None:
    """Looks at every process that the engine starts while it dumps and stages."""
    my_small.sql(
        "CREATE USER petugas@localhost IDENTIFIED BY 'rahasia-sekali'; GRANT ALL ON *.* TO petugas@localhost WITH GRANT OPTION"
    )
    record = my_small.engine(connection={"user": "petugas"}).dataset
    my_small.sql(
        "CREATE TABLE besar AS SELECT seq AS x, REPEAT('z', 200) AS y FROM seq_1_to_5000"
    )  # more than a pipe holds
    stream = MariadbEngine(record, {"db_password": "rahasia-sekali"}).dump()
    seen = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            for name in ("cmdline", "environ"):
                try:
                    seen.append((entry / name).read_bytes())
                except OSError:
                    continue
    stream.abort()
    assert any(b"mariadb-dump" in text for text in seen)
    assert not any(b"rahasia-sekali" in text for text in seen if b"pytest" not in text)
