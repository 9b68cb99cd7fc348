"""The MariaDB engine's fence, exchange, kept data, restoring in place and beside; proof by restore."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.my_client import MySession
from ansible_collections.diskominfo.sop.plugins.module_utils.my_server import create_schema, drop_schema

from tests.integration.my_helpers import BEFORE, CASE, SHADOW, Site, no_rests, schemas, staged, take
from tests.integration.my_process import ENVIRONMENT, Server

pytest_plugins = ["tests.integration.my_fixtures"]

SECOND = "RST-2026-0002"


class Guest:
    """A session that stays open, as an application's would."""

    def __init__(self, server: Server, user: str, password: str = "") -> None:
        self.process = subprocess.Popen(
            [
                "mariadb", "--no-defaults", f"--socket={server.path}/s", f"--user={user}", "-N", "-B", "--unbuffered", *([f"--password={password}"] if password else []),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd="/",
        )  # fmt: skip

    def say(self, text: str) -> str:
        """Send statements; what comes back, "" when the session is gone."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{text}; SELECT 'selesai';\n")
            self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            lines.append(line.strip())
            if lines[-1] == "selesai":
                break
        return " ".join(lines)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


# -- staging -------------------------------------------------------------------------------------------------------


def test_nothing_fires_while_staged(my_small: Site) -> None:
    """The trigger would write rows, and the event one a second, into the live schema."""
    site = my_small
    site.sql("ALTER EVENT ev ON SCHEDULE EVERY 1 YEAR STARTS '2030-01-01 00:00:00' ENABLE")
    source, manifest = take(site.engine())
    site.sql("DROP EVENT ev")
    before = site.sql("SELECT COUNT(*) FROM catatan")
    content = site.engine().stage(CASE, source, manifest)
    time.sleep(1.5)
    assert site.sql("SELECT COUNT(*) FROM catatan") == before
    assert content["globals"]["names_itself"] == ["event ev"]
    tables = site.server.sql(f"SHOW FULL TABLES FROM {SHADOW}").splitlines()
    assert [line for line in tables if "VIEW" in line] == []
    assert (
        site.server.sql("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA LIKE 'simpeg\\_\\_%'")
        == "0"
    )
    assert site.server.sql("SELECT COUNT(*) FROM information_schema.EVENTS") == "0"
    assert site.server.sql("SELECT COUNT(*) FROM mysql.proc WHERE db LIKE 'simpeg\\_\\_%'") == "0"


def test_the_copy_is_closed_to_the_application(my_small: Site) -> None:
    my_small.engine().stage(CASE, *take(my_small.engine()))
    said = my_small.server.run("SELECT * FROM t", SHADOW, "app", "rahasia").stderr
    assert "Access denied" in said
    assert no_rests(my_small.server) is False
    assert my_small.server.sql("SELECT COUNT(*) FROM mysql.global_priv WHERE User LIKE 'sop%'") == "0"


def test_a_second_staging_is_refused_and_discard_leaves_nothing(my_small: Site) -> None:
    engine = my_small.engine()
    source, manifest = take(engine)
    engine.stage(CASE, source, manifest)
    with pytest.raises(SopError, match="already staged"):
        engine.stage(CASE, source, manifest)
    engine.discard(CASE)
    engine.discard(CASE)
    assert engine.state(CASE) == "absent"
    assert no_rests(my_small.server)
    assert schemas(my_small.server) == ["simpeg"]


@pytest.mark.parametrize(
    ("name", "encoded"), [("simpeg_a", "simpeg_a"), ("e-office ä`b", "e@002doffice@0020@0k@0060b")]
)
def test_a_copy_goes_where_a_server_was_killed_half_way_through_a_definition(
    my_empty: Site, name: str, encoded: str
) -> None:
    """DROP DATABASE alone ends in error 1010 for ever: what lies there is nothing that the server knows."""
    server = my_empty.server
    with MySession(my_empty.engine().client) as session:
        create_schema(session, name, "utf8mb4", "utf8mb4_bin", "")
        folder = server.path / "data" / encoded
        for rest in ("t.TRG~", "tr.TRN~", "v.frm~", "tr.TRN"):
            (folder / rest).touch()
        drop_schema(session, name)
    assert not folder.exists()
    assert name not in schemas(server)


# -- the fence -----------------------------------------------------------------------------------------------------


def test_the_fence_shuts_out_the_application_and_remembers_whom(my_small: Site) -> None:
    site, engine = my_small, my_small.engine()
    site.sql("CREATE USER sudah@localhost IDENTIFIED BY 'x' ACCOUNT LOCK; GRANT SELECT ON simpeg.* TO sudah@localhost")
    site.sql("CREATE ROLE petugas; GRANT INSERT ON simpeg.t TO petugas; CREATE USER lewat@'%' IDENTIFIED BY 'x'")
    site.sql("GRANT petugas TO lewat@'%'; CREATE USER lain@localhost IDENTIFIED BY 'x'; ALTER EVENT ev ENABLE")
    guest = Guest(site.server, "app", "rahasia")
    assert guest.say("USE simpeg; START TRANSACTION; INSERT INTO t VALUES (500, 'belum')") == "selesai"
    assert not engine.is_quiesced()
    proof = engine.quiesce(10)
    assert proof["locked"] == ["app@localhost", "lewat@%"]
    assert (proof["sessions"], proof["tables_free"], proof["fenced"], proof["prepared"]) == (0, True, True, 0)
    assert engine.is_quiesced()
    assert engine.quiesce(10)["locked"] == proof["locked"]
    assert guest.say("SELECT 1") == ""
    assert "Access denied" in site.server.run("SELECT 1", user="app", password="rahasia").stderr
    assert site.server.run("SELECT 1", user="lain", password="x").returncode == 0
    assert site.sql("SELECT COUNT(*) FROM t WHERE x = 500") == "0"
    rows = site.sql("SELECT COUNT(*) FROM catatan")
    time.sleep(1.2)
    assert site.sql("SELECT COUNT(*) FROM catatan") == rows

    engine.release()
    engine.release()
    assert not engine.is_quiesced()
    assert site.server.run("SELECT 1", user="app", password="rahasia").returncode == 0
    assert "Access denied" in site.server.run("SELECT 1", user="sudah", password="x").stderr
    assert site.sql("SELECT STATUS FROM information_schema.EVENTS WHERE EVENT_NAME = 'ev'") == "ENABLED"
    assert list(site.state.iterdir()) == []
    guest.close()


def test_an_account_that_comes_meanwhile_opens_the_fence(my_small: Site) -> None:
    engine = staged(my_small)
    my_small.sql("CREATE USER baru@localhost IDENTIFIED BY 'x'; GRANT ALL ON simpeg.* TO baru@localhost")
    assert not engine.is_quiesced()
    with pytest.raises(SopError, match="still open to others; quiesce it first"):
        engine.swap(CASE)
    assert engine.quiesce(10)["locked"] == ["app@localhost", "baru@localhost"]
    engine.swap(CASE)


def test_a_transaction_of_the_administrator_is_not_quiet(my_small: Site) -> None:
    """root is never locked: who works as root in the schema is named, and one who holds a table from elsewhere too."""
    engine = my_small.engine()
    guest = Guest(my_small.server, my_small.server.admin)
    assert guest.say("START TRANSACTION; INSERT INTO simpeg.t VALUES (500, 'belum')") == "selesai"
    with pytest.raises(SopError, match="a transaction that holds a table of it"):
        engine.quiesce(0.5)
    assert my_small.server.run("SELECT 1", user="app", password="rahasia").returncode == 0
    assert guest.say("ROLLBACK; START TRANSACTION; SELECT COUNT(*) FROM simpeg.t") == "100 selesai"
    with pytest.raises(SopError, match="a transaction that holds a table of it"):
        engine.quiesce(0.5)
    guest.close()
    engine.quiesce(10)


def test_prepared_transactions_are_named(my_small: Site) -> None:
    my_small.sql("XA START 'a'; INSERT INTO t VALUES (700, 'x'); XA END 'a'; XA PREPARE 'a'")
    try:
        with pytest.raises(SopError, match=r"prepared XA transactions .* XA RECOVER shows them"):
            my_small.engine().quiesce(1)
        assert not list(my_small.state.iterdir())
    finally:
        my_small.sql("XA ROLLBACK 'a'")
    my_small.engine().quiesce(10)


# -- the exchange --------------------------------------------------------------------------------------------------


def test_swap_and_revert_say_what_is_where_and_again_changes_nothing(my_small: Site) -> None:
    engine = staged(my_small)
    identity = engine.swap(CASE)
    assert identity["old"]["name"] == BEFORE
    assert identity["new"]["name"] == "simpeg"
    assert identity["old"]["ids"] != identity["new"]["ids"]
    again = engine.swap(CASE)
    assert {**again, "ms": 0} == {**identity, "ms": 0}
    assert engine.state(CASE) == "swapped"
    assert engine.is_quiesced()  # until release
    back = engine.revert(CASE)
    assert back["old"] == {**identity["old"], "name": "simpeg"}
    assert back["new"] == {**identity["new"], "name": SHADOW}
    assert engine.revert(CASE)["old"] == back["old"]
    assert engine.state(CASE) == "staged"


def test_swap_without_staging_or_fence_is_refused(my_small: Site) -> None:
    engine = my_small.engine()
    engine.quiesce(10)
    with pytest.raises(SopError, match="nothing complete is staged"):
        engine.swap(CASE)
    with pytest.raises(SopError, match="no data is kept"):
        engine.revert(CASE)
    engine.release()
    engine.stage(CASE, *take(engine))
    with pytest.raises(SopError, match="quiesce it first"):
        engine.swap(CASE)


def test_a_revert_closes_by_itself_what_is_open(my_small: Site) -> None:
    """The way back of a host that was killed after the new data had been opened: nobody else is there to close it."""
    engine = staged(my_small)
    engine.swap(CASE)
    engine.release()
    guest = Guest(my_small.server, my_small.server.admin)
    assert guest.say("SELECT 1") == "1 selesai"
    back = engine.revert(CASE)
    assert back["old"]["name"] == "simpeg"
    assert engine.state(CASE) == "staged"
    assert engine.is_quiesced()  # until release, as after any revert
    guest.close()
    engine.release()
    assert not engine.is_quiesced()


def test_a_reader_that_slips_in_makes_the_swap_wait(my_small: Site) -> None:
    engine = staged(my_small)
    guest = Guest(my_small.server, my_small.server.admin)
    assert guest.say("START TRANSACTION; SELECT COUNT(*) FROM simpeg.t") == "100 selesai"
    threading.Timer(3, guest.close).start()
    engine.swap(CASE)
    assert engine.state(CASE) == "swapped"


def test_a_reader_that_stays_leaves_wholly_old(my_small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.diskominfo.sop.plugins.module_utils.my_swap._ATTEMPTS", 2)
    engine = staged(my_small)
    before = my_small.server.dump("simpeg")
    guest = Guest(my_small.server, my_small.server.admin)
    assert guest.say("START TRANSACTION; SELECT COUNT(*) FROM simpeg.t") == "100 selesai"
    with pytest.raises(SopError, match=r"holds a table of simpeg; nothing was changed"):
        engine.swap(CASE)
    guest.close()
    assert engine.state(CASE) == "staged"
    assert my_small.server.dump("simpeg") == before
    engine.swap(CASE)


def test_what_the_server_refuses_after_the_renaming_goes_back(my_small: Site) -> None:
    """A definition that cannot be made any more: its account was dropped between staging and swap."""
    engine = staged(my_small)
    before = my_small.server.dump("simpeg")
    my_small.server.sql(
        "UPDATE __sop_objects SET kept = REPLACE(kept, 'SELECT COUNT(*) FROM t', 'SELECT SALAH SALAH FROM FROM t') "
        "WHERE kept LIKE '%PROCEDURE%'",
        SHADOW,
    )
    with pytest.raises(SopError, match=r"1064.* it happened at routine p of simpeg"):
        engine.swap(CASE)
    assert engine.state(CASE) == "staged"
    assert my_small.server.dump("simpeg") == before
    assert schemas(my_small.server) == ["simpeg", SHADOW]
    assert engine.is_quiesced()


def test_no_acknowledged_row_is_lost_and_none_is_torn(my_small: Site) -> None:
    """A writer runs all the time: every row it was told about is in the kept or in the live data."""
    site, engine = my_small, my_small.engine()
    site.sql(
        "CREATE TABLE tulis (a INT PRIMARY KEY, b INT);\nDELIMITER //\n"
        "CREATE PROCEDURE tulislah(x INT) BEGIN DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END; "
        "START TRANSACTION; INSERT INTO tulis VALUES (x, 1); UPDATE tulis SET b = 2 WHERE a = x; COMMIT; END//\nDELIMITER ;"
    )
    engine.stage(CASE, *take(engine))
    acknowledged: list[int] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            done = site.server.run(
                f"CALL tulislah({number})",
                "simpeg", "app", "rahasia",
            )  # fmt: skip
            if done.returncode == 0:
                acknowledged.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    time.sleep(0.7)
    engine.quiesce(10)
    engine.swap(CASE)
    between = len(acknowledged)
    time.sleep(0.3)
    assert len(acknowledged) == between
    engine.release()
    time.sleep(0.5)
    stop.set()
    thread.join()
    assert between > 0
    assert len(acknowledged) > between
    kept = {int(row) for row in site.sql("SELECT a FROM tulis WHERE b = 2", BEFORE).splitlines()}
    live = {int(row) for row in site.sql("SELECT a FROM tulis WHERE b = 2").splitlines()}
    assert set(acknowledged[:between]) <= kept
    assert set(acknowledged[between:]) <= live
    assert not live & kept
    assert site.sql("SELECT COUNT(*) FROM tulis WHERE b <> 2", BEFORE) == "0"
