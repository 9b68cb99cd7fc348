# SPDX-License-Identifier: Apache-2.0
"""Scenario 8 on this machine: a restore fails behind the swap; the old data comes back, and the approval is spent.

The service is a real one to sopctl: commands that start and stop it, and an HTTP address that answers 200 only while it
runs on data that it can use. The backup holds data that it cannot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.checks import all_verified, record_json, run_error
from tests.e2e.conftest import make_local_site
from tests.e2e.local import data, refused, sql, untouched
from tests.support.site_builder import SiteBuilder


@dataclass
class Service:
    """A service over a site's queue; ``down`` makes it ill whatever the data."""

    site: SiteBuilder
    down: bool = False

    @property
    def flag(self) -> Path:
        """There while the service runs."""
        return self.site.folder / "hidup"

    def healthy(self) -> bool:
        """Runs, and can use its data."""
        usable = sql(data(self.site), "SELECT catatan FROM antrean WHERE id = 1") != [("rusak",)]
        return self.flag.exists() and usable and not self.down


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """The service's health address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if service.healthy() else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test's output is not a web server's log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A running service whose data was mended after the backup."""
    site = make_local_site(tmp_path)
    service = Service(site)
    with serving(service) as url:
        flag = str(service.flag)
        entry = {
            "name": "web",
            "server": "srv01",
            "manager": "command",
            "start": ["/usr/bin/touch", flag],
            "stop": ["/bin/rm", "-f", flag],
            "status": ["/usr/bin/test", "-e", flag],
            "health": {"url": url, "timeout": 3},
        }
        site.dataset("antrean", engine="sqlite", server="srv01", path=str(data(site)), services=[entry])
        service.flag.touch()
        sql(data(site), "UPDATE antrean SET catatan = 'rusak' WHERE id = 1")
        site.run("schedule", "run", "--due", as_="pelaksana")
        sql(data(site), "UPDATE antrean SET catatan = 'baik' WHERE id = 1")
        assert service.healthy()
        yield service


def test_scenario_08_restore_fails_midway(service: Service) -> None:
    """*gagal, dikembalikan*: exit 20, old data, service up, said on the form; a second try needs a second decision."""
    site = service.site
    case = site.approved("antrean")
    done = site.run("case", "execute", case, as_="pelaksana", check=False)
    run_error(done, 20, "srv01")
    assert service.healthy()
    assert sql(data(site), "SELECT catatan FROM antrean WHERE id = 1") == [("baik",)]
    form = record_json(site.records[-1], "form.json")
    assert form["header"]["result"] == "gagal_dikembalikan"
    printed = (site.records[-1] / "data/form.html").read_text(encoding="utf-8").upper()
    assert "GAGAL, DIKEMBALIKAN" in printed or "DIKEMBALIKAN" in printed
    with untouched(site):
        refused(site.run("case", "execute", case, as_="pelaksana", check=False), "execute is not due", "inform")
    site.run("case", "inform", case, as_="pelaksana")
    site.run("case", "receive", case, as_="pemohon")
    assert site.run_json("case", "show", case)["outcome"] == "selesai"
    all_verified(site)


def test_scenario_08_the_way_back_fails_too(service: Service) -> None:
    """Exit 21: it stays down and says so; the execution stays due, and once the service can start it comes to its end."""
    site = service.site
    case = site.approved("antrean")
    service.down = True
    done = site.run("case", "execute", case, as_="pelaksana", check=False)
    run_error(done, 21, "THE SERVICE IS DOWN")
    assert record_json(site.records[-1], "form.json")["header"]["result"] == "gagal_layanan_mati"
    assert sql(data(site), "SELECT catatan FROM antrean WHERE id = 1") == [("baik",)], "the old data"
    assert site.run_json("case", "show", case)["due"]["act"] == "execute"
    service.down = False
    done = site.run("case", "execute", case, as_="pelaksana", check=False)
    assert done.returncode in {0, 20}, done.stdout
    assert service.healthy() or done.returncode == 0
    assert service.flag.exists()
    all_verified(site)
