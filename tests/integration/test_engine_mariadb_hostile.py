"""Dumps and manifests by somebody who wants more than to be restored: nothing is gained, the live data is untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

from tests.integration.my_helpers import CASE, Site, manifest_of, no_rests, quoted, schemas, take
from tests.integration.pg_helpers import Bytes

pytest_plugins = ["tests.integration.my_fixtures"]

Json = dict[str, Any]
ROW = b"INSERT INTO `t` VALUES (1,'baris 1');\n"


def _accounts(site: Site) -> str:
    return site.server.sql("SELECT User, Host, Priv FROM mysql.global_priv WHERE User NOT LIKE 'sop%' ORDER BY 1, 2")


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A file that must not come to be."""
    tmp_path.chmod(0o777)
    return tmp_path / "terperangkap"


@pytest.mark.parametrize(
    "line",
    [
        r"\! touch {trap}",
        "system touch {trap}",
        "source /etc/passwd",
        "USE mysql;",
        "DROP TABLE simpeg.t;",
        "GRANT ALL ON *.* TO app@localhost;",
        "SET GLOBAL general_log = 1;",
        "CREATE DEFINER=`root`@`localhost` FUNCTION f() RETURNS INT RETURN 1;",
        "CREATE TRIGGER x BEFORE INSERT ON t FOR EACH ROW SET @a = 1;",
        "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE catatan;",
        "DELIMITER ;;",
        "INSERT INTO `t` SELECT * FROM mysql.global_priv;",
        "INSERT INTO `simpeg`.`t` VALUES (5555,'x');",
        "CREATE TABLE `jauh` (\n  `x` int\n) ENGINE=MyISAM;",
        "CREATE TABLE `jauh` (\n  `x` int\n) ENGINE=InnoDB DATA DIRECTORY='/tmp';",
        "CREATE TABLE `jauh` (\n  `x` int\n) ENGINE=FEDERATED CONNECTION='mysql://x@127.0.0.1/a/b';",
        "CREATE TABLE `jauh` (\n  `x` int\n) ENGINE=InnoDB; DROP TABLE simpeg.t;",
    ],
)
def test_a_line_that_is_none_of_a_dump_is_refused(my_small: Site, trap: Path, line: str) -> None:
    site = my_small
    source, manifest = take(site.engine())
    before, accounts = site.server.dump("simpeg"), _accounts(site)
    data = source.data.replace(ROW, ROW + line.format(trap=trap).encode() + b"\n")
    assert data != source.data
    with pytest.raises(SopError, match=r"simpeg: line [0-9]+ of the dump .* refused"):
        site.engine().stage(CASE, Bytes(data), manifest_of(data, manifest["content"]))
    assert not trap.exists()
    assert site.server.dump("simpeg") == before
    assert _accounts(site) == accounts
    assert no_rests(site.server)


def test_what_stands_in_a_version_comment_is_left_out(my_small: Site) -> None:
    source, manifest = take(my_small.engine())
    accounts = _accounts(my_small)
    data = source.data.replace(
        ROW, ROW + b"/*!50003 CREATE USER jahat@localhost */;\n/*!50003 DROP TABLE simpeg.t */;\n"
    )
    content = my_small.engine().stage(CASE, Bytes(data), manifest_of(data, manifest["content"]))
    assert content["tables"]["t"]["rows"] == 100
    assert _accounts(my_small) == accounts


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("(1,'a'); DROP TABLE simpeg.t; INSERT INTO t VALUES (2,'b')", "1142|1044"),
        ("(1,(SELECT Priv FROM mysql.global_priv LIMIT 1))", "1142|1044"),
        ("(1,(SELECT y FROM simpeg.t LIMIT 1))", "1142|1044"),
        (
            "(1,LOAD_FILE('/etc/passwd')); GRANT ALL ON *.* TO app@localhost; INSERT INTO t VALUES (2,'b')",
            "1044|1045|1698",
        ),
        ("(1,'a'); SET GLOBAL general_log = 1; INSERT INTO t VALUES (2,'b')", "1227"),
        ("(1,'a'); SET sql_log_bin = 0; INSERT INTO t VALUES (2,'b')", "1227"),
        ("(1,'a'); SELECT 'x' INTO OUTFILE '{trap}'; INSERT INTO t VALUES (2,'b')", "1045|1227"),
        ("(1,'a'); CREATE DEFINER=root@localhost VIEW z AS SELECT 1; INSERT INTO t VALUES (2,'b')", "1142|1044"),
        ("(1,'a'); CREATE PROCEDURE z() SELECT 1; INSERT INTO t VALUES (2,'b')", "1044"),
        ("(1,'a'); CREATE EVENT z ON SCHEDULE EVERY 1 SECOND DO SET @a = 1; INSERT INTO t VALUES (2,'b')", "1044"),
        ("(1,'a'); CREATE TRIGGER z BEFORE INSERT ON t FOR EACH ROW SET @a = 1; INSERT INTO t VALUES (2,'b')", "1142"),
        ("(1,'a'); \\! touch {trap} ; INSERT INTO t VALUES (2,'b')", "Unknown command"),
        ("(1,'a'); INSERT INTO t VALUES (2,'b'); system touch {trap}; INSERT INTO t VALUES (3,'c')", "1064"),
    ],
)
def test_what_hides_in_a_row_can_reach_nothing(my_small: Site, trap: Path, row: str, named: str) -> None:
    """It passes for a row, and runs as an account that has nothing but the copy."""
    site = my_small
    source, manifest = take(site.engine())
    before, accounts = site.server.dump("simpeg"), _accounts(site)
    data = source.data.replace(ROW, b"INSERT INTO `t` VALUES " + row.format(trap=trap).encode() + b";\n")
    assert data != source.data
    with pytest.raises(SopError, match=named):
        site.engine().stage(CASE, Bytes(data), manifest_of(data, manifest["content"]))
    assert not trap.exists()
    assert site.server.dump("simpeg") == before
    assert _accounts(site) == accounts
    assert site.sql("SELECT @@general_log") == "0"
    assert no_rests(site.server)


def _object(content: Json, kind: str, **changes: Any) -> Json:
    item: Json = next(each for each in content["globals"]["objects"] if each["kind"] == kind)
    item.update(changes)
    return item


def test_an_object_with_power_over_the_server_needs_a_word_in_the_register(my_small: Site) -> None:
    """The small schema's own trigger, routine and event are root's; after they are gone, root's are no longer known."""
    site = my_small
    source, manifest = take(site.engine())
    site.sql("DROP TRIGGER tr; DROP PROCEDURE p; DROP EVENT ev")
    with pytest.raises(SopError, match=r"power over the whole server.*list the account"):
        site.engine().stage(CASE, source, manifest)
    assert no_rests(site.server)
    site.engine(definers=["root@localhost"]).stage(CASE, source, manifest)
    site.engine().discard(CASE)


@pytest.mark.parametrize(
    ("kind", "change", "named"),
    [
        ("routine", lambda _text: "DROP DATABASE simpeg", "does not begin as MariaDB writes one"),
        ("routine", lambda text: text.replace("PROCEDURE `p`", "USER `p`"), "does not begin as"),
        ("routine", lambda text: text.replace("PROCEDURE `p`", "PROCEDURE `mysql`.`p`"), "does not begin as"),
        ("routine", lambda text: text.replace("`p`", "`q`"), "is not what its definition says"),
        ("trigger", lambda text: text.replace("TRIGGER tr ", "TRIGGER mysql.tr "), "names schema mysql in its head"),
        ("trigger", lambda text: text.replace("ON t ", "ON mysql.db "), "names schema mysql in its head"),
        ("trigger", lambda text: text.replace("TRIGGER tr ", "TRIGGER /*!mysql.*/tr "), "does not begin as"),
        ("event", lambda text: text.replace("EVENT `ev`", "EVENT `mysql`.`ev`"), "does not begin as"),
        ("event", lambda text: text.replace("DISABLE DO", "DISABLE; DROP DATABASE simpeg; DO"), "does not begin as"),
        ("view", lambda text: text.replace("VIEW `v` AS", "TABLE `v` AS"), "does not begin as"),
    ],
)
def test_a_definition_of_another_kind_or_place_is_refused(my_small: Site, kind: str, change: Any, named: str) -> None:
    site = my_small
    before = site.server.dump("simpeg")

    def spoil(content: Json) -> None:
        item = _object(content, kind)
        assert change(item["text"]) != item["text"]
        item["text"] = change(item["text"])

    source, manifest = take(site.engine(), spoil)
    with pytest.raises(SopError, match=named):
        site.engine().stage(CASE, source, manifest)
    assert site.server.dump("simpeg") == before
    assert no_rests(site.server)


@pytest.mark.parametrize(
    ("kind", "tail"),
    [
        ("routine", "; GRANT ALL ON *.* TO app@localhost WITH GRANT OPTION"),
        ("trigger", "; DROP DATABASE simpeg"),
        ("event", "; CREATE USER jahat@localhost"),
        ("view", "; DROP DATABASE simpeg"),
        ("view", "\n;\n\\! touch {trap}\n"),
    ],
)
def test_a_body_carries_no_second_statement(my_small: Site, trap: Path, kind: str, tail: str) -> None:
    """Before, a body behind a delimiter of its own would have run as the administrator."""
    site = my_small
    before, accounts = site.server.dump("simpeg"), _accounts(site)

    def spoil(content: Json) -> None:
        item = _object(content, kind)
        item["text"] += tail.format(trap=trap)

    source, manifest = take(site.engine(), spoil)
    with pytest.raises(SopError, match=r"MariaDB refused a step .* it happened at"):
        site.engine().stage(CASE, source, manifest)
    assert not trap.exists()
    assert site.server.dump("simpeg") == before
    assert _accounts(site) == accounts
    assert no_rests(site.server)


@pytest.mark.parametrize("key", ["client", "collation", "database_collation"])
def test_a_character_set_carries_no_statement(my_small: Site, key: str) -> None:
    def spoil(content: Json) -> None:
        _object(content, "view", **{key: "utf8mb4; DROP DATABASE simpeg"})

    source, manifest = take(my_small.engine(), spoil)
    with pytest.raises(SopError, match="it was refused"):
        my_small.engine().stage(CASE, source, manifest)
    assert schemas(my_small.server) == ["simpeg"]


def test_a_name_with_everything_in_it(my_empty: Site) -> None:
    """Schema and table names with quotes, wildcards and SQL in them are names, nothing else."""
    name = "a`b'; DROP DATABASE x; -- %_\\"
    place = quoted(name)
    my_empty.server.sql(
        f"CREATE DATABASE {place}; USE {place}; CREATE TABLE `t'``;` (x INT) AS SELECT 1 AS x; "
        "CREATE SEQUENCE `s'``;`; ALTER TABLE `t'``;` ADD y INT DEFAULT NEXTVAL(`s'``;`)"
    )
    engine = my_empty.engine(database=name)
    before = my_empty.server.dump(name)
    engine.stage(CASE, *take(engine))
    engine.quiesce(5)
    engine.swap(CASE)
    engine.release()
    assert my_empty.server.dump(name) == before
    assert engine.kept_bytes(CASE) > 0
    engine.drop_kept(CASE)
    assert schemas(my_empty.server) == [name]
