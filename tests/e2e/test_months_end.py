# SPDX-License-Identifier: Apache-2.0
"""The night in which a month ends, a clock that goes back, and a month without a run: real sopctl processes at these times.

The machine's own clock stays as it is; the site's is that of its ``timezone``, where a month begins hours before UTC's.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from ansible_collections.diskominfo.sop.plugins.module_utils.vault import Vault

from tests.e2e.checks import Done, all_verified
from tests.e2e.conftest import make_local_site
from tests.e2e.local import refused, untouched
from tests.support import later
from tests.support.site_builder import STAMP, SiteBuilder

pytestmark = pytest.mark.long

DUE = ("schedule", "run", "--due")


def at(site: SiteBuilder, moment: datetime, *words: str, as_: str | None = "pelaksana") -> Done:
    """Run a command whose clock begins at ``moment``."""
    plain = site.sopctl
    site.sopctl = [sys.executable, str(later.__file__), moment.astimezone(UTC).strftime(STAMP)]
    try:
        return site.run(*words, as_=as_, check=False, env={"PYTHONPATH": str(Path(later.__file__).parents[2])})
    finally:
        site.sopctl = plain


def midnight(zone: str, months: int = 1) -> datetime:
    """When the next month begins by the clock on the wall there, or the one ``months`` from now."""
    now = datetime.now(ZoneInfo(zone))
    count = now.year * 12 + now.month - 1 + months
    return datetime(count // 12, count % 12 + 1, 1, tzinfo=ZoneInfo(zone))


def month(moment: datetime) -> str:
    """The name of its period."""
    return f"{moment:%Y-%m}"


def periods(site: SiteBuilder) -> list[str]:
    """The periods of the backups that count in the vault, oldest first."""
    password = (site.root / "secrets/vault-password").read_text(encoding="utf-8").strip()
    vault = Vault({"repository": f"{site.vault}/srv01", "password": password}, str(site.folder / "look"))
    return [backup.period for backup in vault.counted("antrean")]


def in_zone(folder: Path, zone: str) -> SiteBuilder:
    """A site of that time zone."""
    site = make_local_site(folder)
    [line] = [line for line in (site.root / "sop.yml").read_text().splitlines() if line.startswith("timezone:")]
    site.edit("sop.yml", line, f"timezone: {zone}")
    site.sign_trust()
    return site


@pytest.mark.part(2)
@pytest.mark.parametrize(("zone", "hour"), [("Asia/Jakarta", 17), ("Asia/Makassar", 16)])
def test_one_backup_for_each_month(tmp_path: Path, zone: str, hour: int) -> None:
    """A minute apart, in the last night: each serves the month on the wall's calendar, and neither is done twice."""
    site = in_zone(tmp_path, zone)
    begins = midnight(zone)
    assert begins.astimezone(UTC).hour == hour
    last, first = begins - timedelta(seconds=30), begins + timedelta(seconds=30)
    done = at(site, last, *DUE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert periods(site) == [month(last)]
    done = at(site, first, *DUE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert periods(site) == [month(last), month(first)]
    done = at(site, first + timedelta(minutes=5), *DUE)
    assert "Nothing is due (changed=0)." in done.stdout
    done = at(site, first + timedelta(minutes=5), "schedule", "status", as_=None)
    assert done.returncode == 0, done.stdout
    assert periods(site) == [month(last), month(first)]
    all_verified(site)


def test_clock_that_goes_back_is_refused(tmp_path: Path) -> None:
    """An hour back is last month again, which has no backup: it is not made up for, it is refused by both times."""
    site = in_zone(tmp_path, "Asia/Jakarta")
    first = midnight("Asia/Jakarta") + timedelta(minutes=1)
    assert at(site, first, *DUE).returncode == 0
    with untouched(site):
        refused(at(site, first - timedelta(hours=1), *DUE), "this machine's clock says", "the ledger already reached")
    assert periods(site) == [month(first)]
    assert at(site, first + timedelta(hours=1), *DUE).returncode == 0
    assert periods(site) == [month(first)]
    all_verified(site)


def test_a_month_without_a_run(tmp_path: Path) -> None:
    """The present month is caught up; the one that was missed stays missed, by name."""
    site = in_zone(tmp_path, "Asia/Jakarta")
    assert site.run(*DUE, as_="pelaksana").returncode == 0
    missed = month(midnight("Asia/Jakarta"))
    back = midnight("Asia/Jakarta", 2) + timedelta(days=2)
    status = ("schedule", "status")
    done = at(site, back, *status, as_=None)
    assert done.returncode == 31, done.stdout
    assert missed in done.stdout
    assert "overdue" in done.stdout
    done = at(site, back, *DUE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert periods(site) == [month(datetime.now(ZoneInfo("Asia/Jakarta"))), month(back)]
    done = at(site, back + timedelta(minutes=5), *status, as_=None)
    assert done.returncode == 31, done.stdout
    assert missed in done.stdout
    assert "overdue" not in done.stdout
    all_verified(site)
