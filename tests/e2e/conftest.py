# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests: the lab, sites over it, and small sites on this machine."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import wait_until
from tests.e2e.users import at_work
from tests.lab.hosts import Lab
from tests.lab.probe import wait_healthy
from tests.lab.site import lab_site
from tests.support.site_builder import SiteBuilder

LabSite = Callable[..., SiteBuilder]
SMALL_MB = 8


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The running lab; a test that needs it fails with `run make lab` where there is none."""
    return Lab.load()


@pytest.fixture(scope="session")
def make_site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabSite]:
    """``make_site("simpeg", "berkas")``: a site over the lab with vault repositories of its own.

    ``small``: in the vault that fills up; ``quick``: backups are proven by reading them, where proof is not the matter;
    ``profile``: whose SOP; ``more``: further keys of each dataset, such as max_downtime. Whenever a case is executed,
    people work with the applications.
    """
    names: list[str] = []

    def make(
        *datasets: str, small: bool = False, quick: bool = False, profile: str = "trenggalek", **more: Any
    ) -> SiteBuilder:
        names.append(f"e2e-{secrets.token_hex(4)}")
        folder = tmp_path_factory.mktemp("site") / names[-1]
        folder.mkdir()
        made = lab_site(folder, lab, datasets, small=small, profile=profile, more=more)
        made.around = at_work(lab, made)
        return proven_by_reading(made, quick)

    yield make
    for name in names:
        lab.exec("vault01", f"rm -rf /srv/vault/*/{name} /srv/small/*/{name}")


def proven_by_reading(site: SiteBuilder, quick: bool) -> SiteBuilder:
    """Choose the cheaper proof of a backup."""
    if quick:
        site.edit("sop.yml", "  verify: restore", "  verify: read")
    return site


@pytest.fixture(scope="module")
def alone(lab: Lab) -> Iterator[None]:
    """The hosts' live data is this module's: another process that wants it waits until the module has ended."""
    with lab.held("hosts"):
        lab.forget_switches()
        yield


@pytest.fixture(scope="module")
def personnel(lab: Lab, alone: None) -> Callable[[], None]:
    """Makes db01's personnel database anew, a small one; it is called once for each module that asks for it."""

    def anew() -> None:
        lab.generate(SMALL_MB)
        lab.exec("web01", "systemctl start simpeg-web.service")
        assert wait_healthy(f"{lab.web_url}/health", 20)

    anew()
    return anew


@pytest.fixture(scope="module")
def licences(lab: Lab, alone: None) -> Callable[[], None]:
    """The same for db02's licensing database."""

    def anew() -> None:
        lab.generate(SMALL_MB, "perizinan")
        lab.exec("web01", "systemctl start perizinan-web.service")
        assert wait_healthy(f"{lab.licence_url}/health", 20)

    anew()
    return anew


@pytest.fixture(scope="module")
def filed(lab: Lab, alone: None) -> Iterator[None]:
    """file01's tree and queue as the lab made them, before and after."""
    restore_file01(lab)
    yield
    restore_file01(lab)


def restore_file01(lab: Lab) -> None:
    """Make file01's data anew and drop what restores kept."""
    lab.exec(
        "file01",
        "systemctl stop antrean.service berkas-web.service; rm -rf /srv/berkas /srv/berkas__* /srv/antrean/*; "
        "python3 /usr/local/lib/berkas/make.py /srv/berkas; systemctl start antrean.service berkas-web.service",
    )
    assert wait_until(lambda: wait_healthy(f"{lab.queue_url}/health", 1), 20)
    assert wait_until(lambda: wait_healthy(f"{lab.filing_url}/health", 1), 20)


@pytest.fixture
def local_site(tmp_path: Path) -> SiteBuilder:
    """A site on this machine with one SQLite dataset, ``antrean``, of 200 rows; its schedule is signed."""
    return make_local_site(tmp_path)


def make_local_site(folder: Path, profile: str = "trenggalek") -> SiteBuilder:
    """See ``local_site``; of Kaltim's SOP, which has no schedule, on demand."""
    site = SiteBuilder(folder, profile=profile)
    site.server("srv01")
    data = folder / "data"
    data.mkdir()
    connection = sqlite3.connect(data / "antrean.db")
    with connection:
        connection.execute("CREATE TABLE antrean (id INTEGER PRIMARY KEY, catatan TEXT NOT NULL)")
        connection.executemany("INSERT INTO antrean (catatan) VALUES (?)", [(f"tamu ke-{n}",) for n in range(200)])
    connection.close()
    site.dataset("antrean", engine="sqlite", server="srv01", path=str(data / "antrean.db"))
    if profile == "trenggalek":
        site.schedule()
    return proven_by_reading(site, True)
