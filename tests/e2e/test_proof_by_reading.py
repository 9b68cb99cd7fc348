# SPDX-License-Identifier: Apache-2.0
"""A backup that does not fit into the place of proofs is proven by reading it, and every place that tells of it says so."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.checks import all_verified, evidence, record_json
from tests.integration.sop_fixtures import tmpfs
from tests.support.site_builder import SiteBuilder


def test_too_large_for_scratch(local_site: SiteBuilder, tmp_path: Path) -> None:
    site = local_site
    site.edit("sop.yml", "  verify: read", "  verify: restore")
    with tmpfs(tmp_path / "small", "40m") as mounted:  # less than what must stay free
        place = str(mounted / "state")
        database = str(tmp_path / "data/antrean.db")
        site.dataset("antrean", engine="sqlite", server="srv01", path=database, state_dir=place)
        done = site.run("schedule", "run", "--due", as_="pelaksana")
        said = site.run("vault", "list").stdout
    assert f"antrean read back whole, for want of room to restore at {place}" in done.stdout + done.stderr
    [proof] = evidence(site.records[-1], "verify")
    assert (proof["ok"], proof["depth"], proof["short"]["path"], proof["host"]) == (True, "read", place, "srv01")
    [row] = record_json(site.records[-1], "form.json")["rows"]
    assert (row["result"], row["verification"]) == ("berhasil", "berhasil")
    told = f"dibuktikan dengan dibaca sampai akhir, tidak dipulihkan, karena ruang di {place} kurang: perlu "
    assert told in row["remark"]
    page = (site.records[-1] / "data/form.html").read_text(encoding="utf-8")
    assert told in page
    assert f"verified (read: no room to restore at {place}) on srv01" in " ".join(said.split())
    [listed] = site.run_json("vault", "list")
    assert (listed["depth"], listed["short"], listed["proven_on"]) == ("read", proof["short"], "srv01")
    all_verified(site)


def test_the_sites_own_choice_to_read_is_told_too(local_site: SiteBuilder) -> None:
    local_site.run("schedule", "run", "--due", as_="pelaksana")
    [row] = record_json(local_site.records[-1], "form.json")["rows"]
    assert "dibuktikan dengan dibaca sampai akhir, tidak dipulihkan" in row["remark"]
    assert "karena" not in row["remark"]
    [proof] = evidence(local_site.records[-1], "verify")
    assert (proof["depth"], proof["short"]) == ("read", None)
