# SPDX-License-Identifier: Apache-2.0
"""Scenario 11: "data terbaru" is the newest *verified* backup; a newer one that is not is named, never taken silently."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.checks import all_verified, evidence, record_json
from tests.e2e.conftest import make_local_site
from tests.e2e.local import data, planned, refused, request, sql, untouched
from tests.support.site_builder import SiteBuilder


@contextmanager
def without_scratch(site: SiteBuilder) -> Iterator[None]:
    """Proofs by restoring fail: what they restore vanishes under them, as on a host whose disk is cleaned meanwhile."""
    ended = threading.Event()

    def clean() -> None:
        while not ended.wait(0.005):
            for path in site.state_dir.glob("scratch-*"):
                shutil.rmtree(path, ignore_errors=True)

    thread = threading.Thread(target=clean)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteBuilder:
    """Kaltim's SOP with two backups on request: one proven, and a newer one whose proof failed."""
    made = make_local_site(tmp_path_factory.mktemp("newest"), "kaltim")
    made.edit("sop.yml", "  verify: read", "  verify: restore")
    good = planned(made, "backup", "antrean")
    made.run("case", "execute", good, as_="pengelola")
    sql(data(made), "UPDATE antrean SET catatan = 'lebih baru'")
    newer = planned(made, "backup", "antrean")
    with without_scratch(made):
        done = made.run("case", "execute", newer, as_="pengelola", check=False)
    assert done.returncode in {20, 22}, done.stdout + done.stderr
    return made


def test_scenario_11_newest_is_not_verified(site: SiteBuilder) -> None:
    """The request says so, the decision binds the verified one by id and hash, and both stand on the form."""
    [good, newer] = [record for record in site.records if (record / "data/evidence.json").exists()]
    [stored], [unproven] = evidence(good, "backup"), evidence(newer, "backup")
    assert stored["snapshot"] != unproven["snapshot"]
    done = request(site, "restore", "antrean")
    assert unproven["name"] in done.stderr, "it is said that there is a newer one"
    case = json.loads(done.stdout)["case"]
    decided = site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="administrator")
    assert unproven["name"] in decided.stderr + decided.stdout
    [path] = (site.root / "cases").rglob(f"{case}/02-decide.json")
    [target] = json.loads(path.read_text(encoding="utf-8"))["body"]["approval"]["targets"]
    assert (target["backup"], target["backup_sha256"]) == (stored["snapshot"], stored["sha256"])
    site.run("case", "dispose", case, as_="pengawas")
    site.run("case", "plan", case, as_="pengelola")
    executed = site.run_json("case", "execute", case, as_="pengelola")
    assert executed["result"] == "berhasil"
    assert sql(data(site), "SELECT DISTINCT catatan FROM antrean WHERE id < 3") != [("lebih baru",)]
    form = (Path(executed["record"]) / "data/form.html").read_text(encoding="utf-8")
    value = json.dumps(record_json(Path(executed["record"]), "form.json"))
    assert stored["name"] in form
    assert stored["sha256"].removeprefix("sha256:") in value.replace("sha256:", "")
    assert unproven["name"] not in form
    all_verified(site)


def test_scenario_11_an_unverified_backup_by_name(site: SiteBuilder) -> None:
    """Asked for by its name it is refused: nobody restores what was never proven."""
    newer = [record for record in site.records if (record / "data/evidence.json").exists()][1]
    [unproven] = evidence(newer, "backup")
    with untouched(site):
        done = request(site, "restore", "antrean", more=("--point", unproven["name"]), check=False)
    assert done.returncode in {2, 10}, done.stdout
    assert unproven["name"] in done.stderr


def test_scenario_11_nothing_verified_at_that_time(site: SiteBuilder) -> None:
    """Before the first verified backup there is none, and no other is taken instead."""
    done = request(site, "restore", "antrean", more=("--point", "2020-01-01T00:00:00Z"), check=False)
    assert done.returncode in {2, 10}, done.stdout
    assert "antrean" in done.stderr


def test_scenario_11_the_chosen_backup_is_bound(site: SiteBuilder) -> None:
    """A newer verified backup made after the decision does not slip under the approval."""
    case = json.loads(request(site, "restore", "antrean").stdout)["case"]
    site.run("case", "decide", case, "--approve", "--reason", "sesuai", as_="administrator")
    site.run("case", "dispose", case, as_="pengawas")
    [path] = (site.root / "cases").rglob(f"{case}/02-decide.json")
    [target] = json.loads(path.read_text(encoding="utf-8"))["body"]["approval"]["targets"]
    newest = planned(site, "backup", "antrean")
    site.run("case", "execute", newest, as_="pengelola")
    site.run("case", "plan", case, as_="pengelola")
    executed = site.run_json("case", "execute", case, as_="pengelola")
    swapped = [entry for entry in evidence(Path(executed["record"]), "stage") if entry.get("dataset") == "antrean"]
    assert swapped[0]["snapshot"] == target["backup"]
    refused(site.run("case", "execute", case, as_="pengelola", check=False), "not due")
