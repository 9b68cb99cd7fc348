# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.approval: what was changed beside the case after its approval, and who may execute it, how often."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sopctl import clock, content, targeting
from tests.support.case_site import CaseSite, Paper, refused, seal_backup

pytestmark = pytest.mark.usefixtures("nothing_starts")


def _register(**values: Any) -> Callable[[CaseSite], None]:
    return lambda site: site.change_yaml("register/servers/srv01.yml", **values)


def _dataset(**values: Any) -> Callable[[CaseSite], None]:
    return lambda site: site.change_yaml("register/datasets/antrean.yml", **values)


def _service(**values: Any) -> Callable[[CaseSite], None]:
    def change(site: CaseSite) -> None:
        path = site.root / "register/datasets/antrean.yml"
        service = json.loads(path.read_text(encoding="utf-8"))["services"][0]
        site.change_yaml("register/datasets/antrean.yml", services=[{**service, **values}])

    return change


def _evidence(**values: Any) -> Callable[[CaseSite], None]:
    def change(site: CaseSite) -> None:
        path = next((site.root / "archive/records").glob("*/*/BKP-2020-0001-01/data/evidence.json"))
        evidence = json.loads(path.read_bytes())
        evidence[0].update(values)
        path.write_text(json.dumps(evidence), encoding="utf-8")

    return change


def _profile_edited(site: CaseSite) -> None:
    site.edit("profiles/trenggalek-060-017-2023.yml", "title: Kadis Kominfo", "title: Kepala Dinas")


def _profile_edited_and_signed(site: CaseSite) -> None:
    _profile_edited(site)
    site.retrust(lambda file: file)


def _review_demanded(site: CaseSite) -> None:
    site.edit("sop.yml", "asset_review: warn", "asset_review: block")
    site.change_yaml("register/servers/srv01.yml", reviewed={"at": "2020-01-01", "by": "kabid"})


def _trust_rolled_back(site: CaseSite) -> None:
    kept = [path for path in (site.root / "trust").iterdir() if path.is_file()]
    files = [(path, path.read_bytes()) for path in kept]
    site.retrust(lambda file: file)
    assert site.session.trust.file.serial  # seen once, so the ledger knows it
    for path, data in files:
        path.write_bytes(data)


def _byte(name: str, behind: bytes = b"\n") -> Callable[[CaseSite], None]:
    def change(site: CaseSite) -> None:
        path = site.root / name if "/" in name else site.folder / name
        data = bytearray(path.read_bytes())
        at = data.index(behind) + len(behind) + 3
        data[at] = ord("A") if data[at] != ord("A") else ord("B")
        path.write_bytes(bytes(data))

    return change


CHANGED: dict[str, tuple[Callable[[CaseSite], None], str]] = {
    "machine": (_register(machine_id="9" * 32), "antrean: machine_id was approved as 1111"),
    "host key": (
        _register(ssh_host_key="ssh-ed25519 AAAA"),
        "antrean: ssh_host_key was approved as ssh-ed25519 AAAAC3",
    ),
    "host of the server": (_register(inventory_hostname="srv09"), "antrean: host was approved as srv01, now is srv09"),
    "place": (_dataset(path="/srv/app/lain.db"), "antrean: place was approved as /srv/app/antrean.db"),
    "server of the dataset": (_dataset(server="srv02"), "antrean: server was approved as srv01, now is srv02"),
    "services": (_dataset(services=[]), "antrean: services was approved as ['srv01/web'], now is []"),
    "command of a service": (_service(start=["/bin/sh", "-c", "jahat"]), "antrean: services.srv01/web.start in the"),
    "folder of the host's state": (_dataset(state_dir="/srv/lain"), "antrean: dataset.state_dir in the register"),
    "bytes of the backup in its record": (_evidence(sha256="0" * 64), "is not what was sealed"),
    "manifest of the backup in its record": (_evidence(manifest_snapshot="0" * 64), "is not what was sealed"),
    "profile": (_profile_edited, "is not the one in the trust (its bytes differ)"),
    "profile, signed": (_profile_edited_and_signed, "was made under profile"),
    "review overdue, policy block": (_review_demanded, "the register's review of srv01 is overdue"),
    "trust rolled back": (_trust_rolled_back, "which was in force before"),
    "trust edited": (_byte("trust/trust.yml", b"jabatan: "), "the trust's signature is not valid"),
    "document edited by a byte": (_byte("03-decide.json", b'reason": "'), "was never received by sopctl in this form"),
    "signature edited by a byte": (_byte("03-decide.json.sig"), "was never received by sopctl in this form"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_after_the_approval(name: str, site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    change, expected = CHANGED[name]
    change(site)
    code, reasons = refused(site, capsys)
    assert code == 10, reasons
    assert any(expected in reason for reason in reasons), reasons


def test_code_that_differs_now(
    site: CaseSite, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "code_digest", lambda: "sha256:" + "9" * 64)
    code, reasons = refused(site, capsys)
    assert code == 10
    assert [reason for reason in reasons if reason.startswith("the code differs from the approved code")] == reasons


@pytest.mark.parametrize(
    ("person", "expected"),
    [
        ("kadis", "execution (step 4) is for pelaksana (Pejabat Fungsional/Pelaksana); kadis holds kadis"),
        ("robot", "robot is a service identity: it executes what the schedule allows, never a case"),
    ],
)
def test_who_may_not_execute(person: str, expected: str, site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(site, capsys, person) == (10, [expected])


def test_decider_does_not_execute(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    papers = site.papers()
    papers[-1].body["actor"]["person"] = papers[-1].key = "rangkap"
    site.refile(papers)
    code, reasons = refused(site, capsys, "rangkap")
    assert (code, reasons) == (10, ["rangkap acts as pelaksana and as kabid; the SOP needs two persons"])


# --- a case that was executed -------------------------------------------------------------------------------------


def executed(site: CaseSite) -> list[Paper]:
    """The case with its execution filed."""
    papers = site.papers()
    body = json.loads(json.dumps(papers[-1].body))
    body.update(seq=4, step="r4", act="execute", actor={"person": "pelaksana", "role": "pelaksana"})
    body["body"] = {"run": f"{site.case}-01", "record": f"{site.case}-01", "result": "berhasil", "datasets": {}}
    papers.append(Paper(body, "pelaksana", papers[-1].received))
    site.refile(papers)
    return papers


def test_an_approval_admits_one_execution(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    executed(site)
    code, reasons = refused(site, capsys)
    assert (code, reasons) == (10, ["execute is not due"])


def test_execution_rolled_back_by_git(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    executed(site)
    for path in site.folder.glob("04-*"):
        path.unlink()
    code, reasons = refused(site, capsys)
    assert (code, reasons) == (10, [f"the ledger knows 4 documents of {site.case}, the folder holds 3"])


def test_case_copied_under_another_number(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    twin = site.folder.with_name(f"{site.case[:-4]}0002")
    shutil.copytree(site.folder, twin)
    code, reasons = refused(replace(site, case=twin.name), capsys)
    assert code == 10
    assert f"01-request.json is document 1 of {site.case}, not 1 of {twin.name}" in reasons


def test_newer_backup_does_not_change_what_was_approved(site: CaseSite) -> None:
    session = site.session
    seal_backup(session, "antrean", "BKP-2020-0003-01", snapshot="0f" * 32, started=clock.now())
    plan = targeting.case_plan(session, session.case(site.case))
    assert plan["items"][0]["snapshot"] == "a1" * 32
