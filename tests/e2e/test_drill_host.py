# SPDX-License-Identifier: Apache-2.0
"""Backups proven on another server than their own: it says so, the source restores nothing, and nothing stays anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import Done, all_verified, evidence, one_line_error, record_json, run_error
from tests.e2e.test_believable import without_sshd
from tests.lab.hosts import Lab
from tests.lab.site import described
from tests.support.site_builder import SiteBuilder

pytestmark = [pytest.mark.lab, pytest.mark.long]
DRILL = "db03"
HOMES = {"simpeg": "db01", "perizinan": "db02", "berkas": "file01", "antrean": "file01"}
PROGRAMS = "/usr/lib/postgresql/15/bin"
#: databases are restored below the one, paths below the other
SCRATCH = "/var/tmp /var/lib/sop"


def look(lab: Lab, host: str) -> str:
    """When something was last made or removed in the folders of proofs, and what lies in them."""
    return lab.exec(
        host, f"mkdir -p -m 0700 /var/lib/sop; stat -c %.9Y /var/tmp; find {SCRATCH} -mindepth 1 -printf '%P\\n' | sort"
    )


def processes(lab: Lab, host: str) -> set[str]:
    """Whose programs run there, by name and user, those of a proof among them if there are any."""
    return set(
        lab.exec(host, "ps -eo user:20=,comm= | grep -E 'restic|initdb|postgres|maria|mysql' || true").split("\n")
    )


def backup(site: SiteBuilder, *datasets: str) -> Done:
    """Back up these datasets, whatever comes of it."""
    words = [word for dataset in datasets for word in ("--dataset", dataset)]
    return site.run("schedule", "run", *words, as_="pelaksana", check=False)


def row(site: SiteBuilder, dataset: str) -> dict[str, Any]:
    """The dataset's row on the newest form."""
    rows = record_json(site.records[-1], "form.json")["rows"]
    return next(each for each in rows if each["dataset"] == dataset)


@contextmanager
def without_programs(lab: Lab) -> Iterator[None]:
    """A drill host whose PostgreSQL runs and cannot be used for anything else."""
    lab.exec(DRILL, f"mv {PROGRAMS} {PROGRAMS}.away")
    try:
        yield
    finally:
        lab.exec(DRILL, f"mv {PROGRAMS}.away {PROGRAMS}")


@pytest.fixture(scope="module")
def site(
    make_site: Callable[..., SiteBuilder], lab: Lab, personnel: object, licences: object, filed: object
) -> SiteBuilder:
    """Four engines' datasets and one of db03's own; sop.yml names db03 as the place of proof, and the root holder signed it."""
    made = make_site(*HOMES, "arsip")
    made.edit("sop.yml", "  verify: restore", f"  verify: restore\n  drill: {DRILL}")
    one_line_error(backup(made, "simpeg"), 10, "policy.drill: the trust was signed without it", "sopctl trust sign")
    made.sign_trust()
    lab.exec(DRILL, "rm -rf /var/lib/sop")
    return made


@pytest.fixture(scope="module")
def first(site: SiteBuilder, lab: Lab) -> Iterator[dict[str, Any]]:
    """The first run over all five, with a look at each host before and after."""
    hosts = {*HOMES.values(), DRILL}
    before = {host: (look(lab, host), processes(lab, host)) for host in hosts}
    done = site.run("schedule", "run", "--due", as_="pelaksana", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    after = {host: (look(lab, host), processes(lab, host)) for host in hosts}
    yield {"before": before, "after": after, "record": site.records[-1], "said": done.stdout}


def test_the_record_says_where_each_was_proven(site: SiteBuilder, first: dict[str, Any]) -> None:
    proofs = {entry["dataset"]: entry for entry in evidence(first["record"], "verify")}
    assert {name: proof["host"] for name, proof in proofs.items()} == dict.fromkeys((*HOMES, "arsip"), DRILL)
    assert all(proof["ok"] and proof["depth"] == "restore" and proof["tables"] for proof in proofs.values())
    stored = {entry["dataset"]: entry["host"] for entry in evidence(first["record"], "backup")}
    assert stored == {**HOMES, "arsip": DRILL}
    plan = record_json(first["record"], "plan.json")
    assert {item["dataset"]["id"]: (item.get("drill") or {}).get("host") for item in plan["items"]} == {
        **dict.fromkeys(HOMES, DRILL),
        "arsip": None,  # its own server is the place of proof already
    }
    assert set(plan["hosts"]) == {*HOMES.values(), DRILL}
    remarks = {name: row(site, name)["remark"] for name in (*HOMES, "arsip")}
    assert all((f"dibuktikan di {DRILL}" in remarks[name]) == (name != "arsip") for name in remarks), remarks
    listed = site.run_json("vault", "list")
    assert {each["dataset"]: (each["verified"], each["proven_on"]) for each in listed} == dict.fromkeys(
        proofs, (True, DRILL)
    )
    assert f"verified (restore) on {DRILL}" in site.run("vault", "list").stdout
    all_verified(site)


@pytest.mark.parametrize("host", ["db01", "db02"])
def test_the_source_restores_nothing(host: str, first: dict[str, Any]) -> None:
    """Nothing was made in its folder of proofs, nor removed again."""
    (before, _), (after, _) = first["before"][host], first["after"][host]
    assert before.splitlines()[0] == after.splitlines()[0]


def test_nothing_is_left_on_the_drill_host(lab: Lab, first: dict[str, Any]) -> None:
    (before, ran), (after, running) = first["before"][DRILL], first["after"][DRILL]
    assert before.splitlines()[0] != after.splitlines()[0], "the proofs were made in another folder than was looked at"
    # arsip is of this host, which has a cache of its own repository, and of no other
    left = [line for line in after.splitlines()[1:] if not line.startswith("restic-cache")]
    assert sorted(left) == [f"lock-{name}" for name in sorted((*HOMES, "arsip"))]
    assert running == ran
    caches = lab.exec(DRILL, "find /var/lib/sop/restic-cache -mindepth 1 -maxdepth 1 -type d | wc -l").strip()
    assert caches == "1"
    for host in sorted(set(HOMES.values())):
        search = "grep -rlsF -f /dev/stdin /etc /home /root /tmp /var/lib/sop /var/log /var/tmp /dev/shm || true"
        assert lab.exec(DRILL, search, stdin=lab.vault_password(host).encode()) == ""


def test_a_drill_host_without_the_programs_is_told_and_nothing_is_done_in_its_stead(
    site: SiteBuilder, lab: Lab, first: dict[str, Any]
) -> None:
    site.dataset("berkas", **described("berkas", {"drill": "file01"}))  # at home, whatever sop.yml says
    with without_programs(lab):
        done = backup(site, "simpeg", "berkas")
    run_error(done, 22, "simpeg", "server programs", "none at all", "install postgresql-15 here")
    assert "db01: not backed up and proven: simpeg (stored, not proven)" in done.stdout
    assert [(entry["dataset"], entry["host"]) for entry in evidence(site.records[-1], "verify")] == [
        ("berkas", "file01")
    ]
    kept = row(site, "simpeg")
    assert (kept["result"], kept["verification"]) == ("gagal", "belum")
    assert f"tersimpan, tidak terbukti di {DRILL}: " in kept["remark"]
    assert (row(site, "berkas")["result"], f"di {DRILL}" in row(site, "berkas")["remark"]) == ("berhasil", False)
    assert "sop-scratch" not in look(lab, "db01") + look(lab, DRILL)


def test_a_drill_host_that_does_not_answer_is_told(site: SiteBuilder, lab: Lab, first: dict[str, Any]) -> None:
    before = look(lab, "db01").splitlines()[0]
    with without_sshd(lab, DRILL):
        done = backup(site, "simpeg", "berkas")
    run_error(done, 22, f"{DRILL}: simpeg: ", "Connection refused", "see that the host runs")
    assert f"tersimpan, tidak terbukti di {DRILL}: " in row(site, "simpeg")["remark"]
    assert evidence(site.records[-1], "backup")[0]["dataset"] in {"simpeg", "berkas"}
    assert look(lab, "db01").splitlines()[0] == before, "the source proved it in the drill host's stead"
    done = backup(site, "simpeg", "berkas")
    assert done.returncode == 0, done.stdout + done.stderr
    all_verified(site)


def test_the_plan_is_held_to_the_register(site: SiteBuilder, tmp_path: Path) -> None:
    site.edit("sop.yml", f"  drill: {DRILL}", "  drill: db09")
    try:
        one_line_error(
            site.run("case", "list", check=False), 2, "sop.yml:", ":policy.drill", "'db09' is not in the asset"
        )
    finally:
        site.edit("sop.yml", "  drill: db09", f"  drill: {DRILL}")
