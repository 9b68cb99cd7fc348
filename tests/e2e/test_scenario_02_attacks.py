# SPDX-License-Identifier: Apache-2.0
"""Scenario 2, and 6 in the lab: what was not approved as it lies opens no connection, as the hosts' own sshd tells.

The site reaches the hosts through a second sshd on a port of its own, which writes down every connection that is made:
so other tests in the lab do not disturb the count. `tests/unit/attacks` has the whole table of attacks; here are those
whose refusal an sshd confirms.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.checks import all_verified, evidence
from tests.e2e.local import copied, ledger, refused
from tests.lab.hosts import Lab
from tests.support.case_site import CaseSite, at_home
from tests.support.site_builder import SiteBuilder

pytestmark = pytest.mark.lab

PORT = 2222
HOSTS = ("db01", "web01", "file01")
LOG, PID = "/run/sop-attacks.log", "/run/sop-attacks.pid"
SERVER, DATASET = "register/servers/file01.yml", "register/datasets/antrean.yml"
APPROVAL = "03-decide.json"


@pytest.fixture(scope="module")
def listening(lab: Lab, filed: None) -> Iterator[Callable[[], dict[str, int]]]:
    """How many lines each host's second sshd has written; one connection is several."""
    stop = f"test ! -e {PID} || kill $(cat {PID}); rm -f {LOG}"
    for host in HOSTS:
        lab.exec(host, f"{stop}; /usr/sbin/sshd -p {PORT} -o LogLevel=VERBOSE -o PidFile={PID} -E {LOG}")
    yield lambda: {host: len(lab.exec(host, ["cat", LOG]).splitlines()) for host in HOSTS}
    for host in HOSTS:
        lab.exec(host, stop)


@pytest.fixture(scope="module")
def base(
    make_site: Callable[..., SiteBuilder], listening: Callable[[], dict[str, int]], tmp_path_factory: Any
) -> CaseSite:
    """One approved restore of the queue on file01, whose backup is in the vault; all hosts are reached on our port."""
    before = listening()
    site = make_site("antrean", "berkas", quick=True)
    path = site.root / "inventory/hosts.yml"
    inventory = json.loads(path.read_text(encoding="utf-8"))
    for variables in inventory["all"]["hosts"].values():
        variables["ansible_port"] = PORT
    path.write_text(json.dumps(inventory), encoding="utf-8")
    site.run("schedule", "run", "--dataset", "antrean", "--dataset", "berkas", as_="pelaksana")
    after = listening()
    assert after["file01"] > before["file01"], "a run that is allowed is seen by that sshd"
    assert {host: after[host] for host in ("db01", "web01")} == {host: before[host] for host in ("db01", "web01")}
    return CaseSite(site.root, site.keys, site.approved("antrean"), site)


@pytest.fixture
def case(base: CaseSite, tmp_path: Path) -> Iterator[CaseSite]:
    """A copy to be spoilt; this process signs with the site's keys."""
    builder = copied(base.builder, tmp_path)
    with at_home(builder):
        yield CaseSite(builder.root, base.keys, base.case, builder)


# --- forging -----------------------------------------------------------------------------------------------------


def decision(case: CaseSite, change: Callable[[dict[str, Any]], object], key: str | None = None) -> None:
    """Write the decision anew, signed by ``key`` (default: its rightful signer) and received by the ledger."""
    papers = case.papers()
    change(papers[2].body["body"])
    papers[2].key = key or papers[2].key
    case.refile(papers)


def unsigned(case: CaseSite) -> None:
    (case.folder / f"{APPROVAL}.sig").unlink()


def by_the_operator(case: CaseSite) -> None:
    decision(case, lambda _: None, "pelaksana")


def by_a_stranger(case: CaseSite) -> None:
    if not (case.keys / "asing").exists():
        case.builder.make_key("asing")
    decision(case, lambda _: None, "asing")


def in_the_operator_s_name(case: CaseSite) -> None:
    papers = case.papers()
    papers[2].body["actor"]["person"] = papers[2].key = "pelaksana"
    case.refile(papers)


def of_another_namespace(case: CaseSite) -> None:
    papers = case.papers()
    papers[2].namespace = "sop-schedule"
    case.refile(papers)


def expired(case: CaseSite) -> None:
    window = {"valid_from": "2026-01-01T00:00:00Z", "valid_until": "2026-01-08T00:00:00Z"}
    decision(case, lambda body: body["approval"].update(window))


def without_end(case: CaseSite) -> None:
    decision(case, lambda body: body["approval"].update(valid_until="2099-01-01T00:00:00Z"))


def one_byte(case: CaseSite) -> None:
    path = case.folder / APPROVAL
    path.write_bytes(path.read_bytes().replace(b"sesuai kewenangan", b"sesuai kewenangam"))


def widened(case: CaseSite) -> None:
    papers = case.papers()
    papers[0].body["body"]["datasets"].append("berkas")
    case.refile(papers)


def another_backup(case: CaseSite) -> None:
    stored = next(entry for entry in evidence(case.builder.records[0], "backup") if entry["dataset"] == "berkas")
    decision(case, lambda body: body["approval"]["targets"][0].update(backup=stored["snapshot"]))


def of_other_code(case: CaseSite) -> None:
    decision(case, lambda body: body["approval"].update(code="sha256:" + "0" * 64))


def without_disposition(case: CaseSite) -> None:
    papers = case.papers()
    del papers[1]
    papers[1].body["seq"] = 2
    case.refile(papers)


def rejected(case: CaseSite) -> None:
    decision(case, lambda body: body.update(decision="reject"))


def replayed(case: CaseSite) -> None:
    """The approval of one case in the folder of another one, whose request says the same."""
    site = case.builder
    new = site.requested("antrean")
    site.run("case", "dispose", new, as_="kadis")
    folder = case.folder.with_name(new)
    for name in (APPROVAL, f"{APPROVAL}.sig"):
        shutil.copy(case.folder / name, folder / name)
    case.case = new


def host_key_in_the_register(case: CaseSite) -> None:
    case.change_yaml(SERVER, ssh_host_key=host_key(case, "web01"))


def host_key_signed_over(case: CaseSite) -> None:
    host_key_in_the_register(case)
    case.builder.sign_register()


def machine_signed_over(case: CaseSite) -> None:
    case.change_yaml(SERVER, machine_id="0" * 32)
    case.builder.sign_register()


def host_key(case: CaseSite, server: str) -> str:
    """What the register knows as that server's key."""
    text = (case.root / f"register/servers/{server}.yml").read_text(encoding="utf-8")
    return str(json.loads(text)["ssh_host_key"])


def another_host(case: CaseSite) -> None:
    (case.root / "register/servers/web01.yml").unlink()
    case.change_yaml(SERVER, inventory_hostname="web01")
    case.builder.sign_register()


def another_path(case: CaseSite) -> None:
    case.change_yaml(DATASET, path="/srv/antrean/lain.db")
    case.builder.sign_register()


def no_service(case: CaseSite) -> None:
    case.change_yaml(DATASET, services=[])
    case.builder.sign_register()


def unregistered(case: CaseSite) -> None:
    (case.root / SERVER).unlink()


def unregistered_and_signed(case: CaseSite) -> None:
    unregistered(case)
    case.builder.run("asset", "sign", as_="pengurus", check=False)


def trust_edited(case: CaseSite) -> None:
    case.edit("trust/trust.yml", "asset_review: warn", "asset_review: block")


def trust_of_yesterday(case: CaseSite) -> None:
    old = {name: (case.root / "trust" / name).read_bytes() for name in ("trust.yml", "trust.yml.sig")}
    case.builder.sign_trust()
    case.builder.run("schedule", "run", "--dataset", "antrean", "--check", as_="kadis", check=False)  # it is seen
    for name, data in old.items():
        (case.root / "trust" / name).write_bytes(data)


def profile_edited(case: CaseSite) -> None:
    [path] = (case.root / "profiles").glob("*.yml")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("approve: r4, reject: r6b", "approve: r4, reject: r4"), encoding="utf-8")


def vault_elsewhere(case: CaseSite) -> None:
    case.edit("sop.yml", "{server}/", "{server}/lain-")


ATTACKS: dict[Callable[[CaseSite], None], tuple[str, ...]] = {
    unsigned: (APPROVAL, "not signed"),
    by_the_operator: (APPROVAL, "kabid"),
    by_a_stranger: (APPROVAL, "held for nobody"),
    in_the_operator_s_name: (APPROVAL, "pelaksana", "kabid"),
    of_another_namespace: (APPROVAL, "namespace"),
    expired: ("the approval held until 2026-01-08",),
    without_end: ("2099-01-01", "longer than the 30 days"),
    one_byte: (APPROVAL, "never received"),
    widened: ("another request", "dataset berkas was not approved"),
    another_backup: ("antrean", "backup"),
    of_other_code: ("the code differs from the approved code",),
    without_disposition: ("dispose of step r2 was due",),
    rejected: ("execute is not due", "inform"),
    replayed: ("RST-2026-0001", "RST-2026-0002"),
    host_key_in_the_register: ("servers/file01.yml",),
    host_key_signed_over: ("ssh_host_key was approved as",),
    machine_signed_over: ("machine_id was approved as",),
    another_host: ("host was approved as file01, now is web01",),
    another_path: ("place was approved as", "/srv/antrean/lain.db"),
    no_service: ("services was approved as",),
    trust_edited: ("trust.yml", "signature"),
    trust_of_yesterday: ("trust", "serial"),
    profile_edited: ("profile", "trust"),
    vault_elsewhere: ("sop.yml", "vault"),
}


@pytest.mark.part(3)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_scenario_02_refused_without_a_connection(
    case: CaseSite, listening: Callable[[], dict[str, int]], attack: Callable[[CaseSite], None]
) -> None:
    attack(case)
    nobody_knocks(case, listening, *ATTACKS[attack])


@pytest.mark.parametrize("attack", [unregistered, unregistered_and_signed], ids=lambda attack: attack.__name__)
def test_scenario_06_unregistered_server_in_the_lab(
    case: CaseSite, listening: Callable[[], dict[str, int]], attack: Callable[[CaseSite], None]
) -> None:
    """The inventory knows file01 and would reach it; the register does not, or no longer."""
    attack(case)
    nobody_knocks(case, listening, "file01", "register")


def nobody_knocks(case: CaseSite, listening: Callable[[], dict[str, int]], *words: str) -> None:
    """Executing the case is refused with ``words``; no host heard of it, and no run was begun."""
    before, runs = listening(), [line for line in ledger(case.builder) if line["kind"] in {"run-started", "observed"}]
    refused(case.builder.run("case", "execute", case.case, as_="pelaksana", check=False), *words)
    assert listening() == before, "somebody knocked"
    assert [line for line in ledger(case.builder) if line["kind"] in {"run-started", "observed"}] == runs
    assert not list((case.root / ".state/runs").glob("*"))


@pytest.mark.parametrize("person", ["kabid", "kadis", "pemohon", "pengurus"])
def test_scenario_02_not_by_anybody_else(case: CaseSite, listening: Callable[[], dict[str, int]], person: str) -> None:
    before = listening()
    refused(case.builder.run("case", "execute", case.case, as_=person, check=False), person, "pelaksana")
    assert listening() == before


def test_scenario_02_an_approval_is_used_once(case: CaseSite, listening: Callable[[], dict[str, int]]) -> None:
    """The untouched approval runs, which that sshd sees; then it is spent, also when git puts the case folder back."""
    site, before = case.builder, listening()
    kept = case.folder.with_name("kept")
    shutil.copytree(case.folder, case.root / "kept")
    site.run("case", "execute", case.case, as_="pelaksana")
    after = listening()
    assert after["file01"] > before["file01"]
    execute = ("case", "execute", case.case)
    refused(site.run(*execute, as_="pelaksana", check=False), "execute is not due", "inform")
    shutil.rmtree(case.folder)
    shutil.move(case.root / kept.name, case.folder)
    refused(site.run(*execute, as_="pelaksana", check=False), "the ledger knows 4 documents", "the folder holds 3")
    assert listening() == after
    all_verified(site)
