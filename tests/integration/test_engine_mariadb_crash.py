"""Exchange of MariaDB schemas: whoever dies at whatever step, settling leaves wholly old or wholly new data."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import SopError

from tests.integration.my_helpers import BEFORE, CASE, SHADOW, Site, schemas, staged
from tests.integration.my_process import server_account
from tests.support.thin import stride

pytest_plugins = ["tests.integration.my_fixtures"]
pytestmark = pytest.mark.part(1)  # and fewer places in each

ROOT = Path(__file__).parents[2]


def _crash(site: Site, step: str, at: int, whom: str, after: float = 0.0) -> bool:
    """Run ``step`` and let it crash; False when it came to its end before."""
    order = {"dataset": site.engine().dataset, "step": step, "case": CASE, "at": at, "whom": whom, "after": after}
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.my_crash", json.dumps(order)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'collections'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    if done.returncode == 0:
        return False
    assert done.returncode == -9 or "SopError" in done.stderr or "MySqlError" in done.stderr, done.stderr
    return True


def _sides(site: Site) -> dict[str, str]:
    """What mariadb-dump says of the live schema before and after an undisturbed swap; staged again at the end."""
    engine = staged(site)
    site.sql(
        "INSERT INTO t VALUES (1000, 'sesudah'); DROP VIEW v; CREATE VIEW w AS SELECT 1 AS a; CREATE TABLE baru (x INT)"
    )
    site.sql(
        "CREATE FUNCTION f() RETURNS INT RETURN 1; CREATE TRIGGER tr2 BEFORE INSERT ON baru FOR EACH ROW SET @a = 1"
    )
    sides = {}
    for step in ("revert", "swap", "revert"):
        getattr(engine, step)(CASE)
        engine.release()
        sides["swapped" if step == "swap" else "staged"] = site.server.dump("simpeg")
        engine.quiesce(10)
    assert sides["staged"] != sides["swapped"]
    return sides


def _check(site: Site, sides: dict[str, str], step: str) -> str:
    """Settle; the state, after making sure that the live data is wholly of that state and nothing else lies about."""
    engine = site.engine()
    claimed = engine.state(CASE)
    engine.settle(CASE)
    state = engine.state(CASE)
    assert claimed == state
    engine.settle(CASE)
    assert engine.is_quiesced()
    engine.release()
    assert site.server.dump("simpeg") == sides[state], f"{step}: not wholly {state}"
    assert schemas(site.server) == ["simpeg", BEFORE if state == "swapped" else SHADOW]
    assert site.sql("SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'") == "1"
    engine.quiesce(10)
    return state


@pytest.mark.parametrize(("step", "whom"), [("swap", "self"), ("swap", "sent"), ("revert", "sent")])
def test_the_process_killed_at_every_statement(my_small: Site, step: str, whom: str) -> None:
    site = my_small
    site.sql("ALTER EVENT ev ON SCHEDULE EVERY 1 YEAR STARTS '2030-01-01 00:00:00' ENABLE")
    sides, seen, tried = _sides(site), set(), list[int]()
    origin, other = ("staged", "swapped") if step == "swap" else ("swapped", "staged")
    back = "revert" if step == "swap" else "swap"
    at = 1
    while True:
        if site.engine().state(CASE) != origin:
            getattr(site.engine(), "swap" if origin == "swapped" else "revert")(CASE)
        assert site.engine().state(CASE) == origin
        if not _crash(site, step, at, whom, after=0.002 * (at % 3)):
            break
        tried.append(at)
        seen.add(_check(site, sides, f"{step} at {at}"))
        if len(tried) % 5 == 0:  # once more after the crash converges to what was wanted
            getattr(site.engine(), step)(CASE)
            assert _check(site, sides, f"{step} again after {at}") == other
            getattr(site.engine(), back)(CASE)
        at += stride(9)
    assert at > 20
    assert seen == {"staged", "swapped"}


@pytest.mark.parametrize("step", ["swap", "revert"])
def test_the_server_killed_at_every_statement(my_small: Site, step: str) -> None:
    site = my_small
    site.sql("ALTER EVENT ev ON SCHEDULE EVERY 1 YEAR STARTS '2030-01-01 00:00:00' ENABLE")
    sides, seen = _sides(site), set()
    origin = "staged" if step == "swap" else "swapped"
    at = 1
    while True:
        if site.engine().state(CASE) != origin:
            getattr(site.engine(), "swap" if origin == "swapped" else "revert")(CASE)
        assert site.server.process is not None
        if not _crash(site, step, at, str(site.server.process.pid), after=0.001 * (at % 8)):
            break
        site.server.process.wait()
        site.server.start()
        seen.add(_check(site, sides, f"{step} at {at}"))
        at += stride(6)
    assert at > 20
    assert seen == {"staged", "swapped"}


@pytest.mark.parametrize("step", ["swap", "revert"])
def test_a_trigger_s_name_left_in_the_crash(my_small: Site, step: str) -> None:
    """A server killed in DROP TRIGGER may leave the file that holds the name (seen): no trigger is there, none of that name
    can be made, and the schema cannot be dropped."""
    site = my_small
    site.sql("ALTER EVENT ev ON SCHEDULE EVERY 1 YEAR STARTS '2030-01-01 00:00:00' ENABLE")
    sides, left = _sides(site), 0
    origin = "staged" if step == "swap" else "swapped"
    at = 1
    while True:
        if site.engine().state(CASE) != origin:
            getattr(site.engine(), "swap" if origin == "swapped" else "revert")(CASE)
        if not _crash(site, step, at, "sent", after=0.02):
            break
        there = site.sql("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'simpeg'").split()
        under_way = site.sql(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_NAME IN ('__sop_pending', '__sop_moved')"
        )
        for name, table in (("tr", "t"), ("tr2", "baru"))[: 2 if step == "swap" else 1]:  # the new data has tr alone
            path = site.server.path / "data" / "simpeg" / f"{name}.TRN"
            if under_way and name not in there:
                path.write_text(f"TYPE=TRIGGERNAME\ntrigger_table={table}\n")
                shutil.chown(path, server_account())
                left += 1
        _check(site, sides, f"{step} at {at}")
        known = site.sql("SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'simpeg'")
        assert len(list((site.server.path / "data" / "simpeg").glob("*.TRN"))) == int(known)
        at += 3
    assert left > 2


@pytest.mark.parametrize("moved", [True, False], ids=["before it was done", "afterwards"])
@pytest.mark.parametrize("step", ["swap", "revert"])
def test_a_schema_s_comment_lost_in_the_crash(my_small: Site, step: str, moved: bool) -> None:
    """The server writes the file that a comment lies in anew, empty at first, and not through to the disk. ``moved``: the
    crash came right then, with the exchange's mark still there."""
    site = my_small
    site.sql("ALTER EVENT ev ON SCHEDULE EVERY 1 YEAR STARTS '2030-01-01 00:00:00' ENABLE")
    sides = _sides(site)
    site.engine().swap(CASE)
    if step == "revert":
        site.engine().revert(CASE)
    leaving, state = (BEFORE, "swapped") if step == "swap" else (SHADOW, "staged")
    if moved:
        site.sql(f"CREATE TABLE {leaving}.__sop_moved (id INT PRIMARY KEY) ENGINE=InnoDB")
    site.server.kill()
    os.truncate(site.server.path / "data" / leaving / "db.opt", 0)
    site.server.start()
    assert _check(site, sides, f"{step}, comment lost") == state
    assert "sop: " in site.sql(f"SHOW CREATE DATABASE {leaving}"), "it says again what it is"
    other = "revert" if step == "swap" else "swap"
    getattr(site.engine(), other)(CASE)
    assert _check(site, sides, f"{other} after it") == ("staged" if step == "swap" else "swapped")


def test_a_schema_of_somebody_else_is_not_taken_for_ours(my_small: Site) -> None:
    """It has the name that ours would have, and no comment."""
    engine = staged(my_small)
    my_small.sql(f"CREATE DATABASE {BEFORE}; CREATE TABLE {BEFORE}.berharga (x INT)")
    assert engine.state(CASE) == "staged"
    with pytest.raises(SopError, match="in the way"):
        engine.swap(CASE)
    engine.settle(CASE)
    assert BEFORE in schemas(my_small.server)
