# SPDX-License-Identifier: Apache-2.0
"""Which documents there are, in which order, and what they are about."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

from sopctl import beside, clock, fsio
from sopctl.ledger import Ledger
from tests.support.case_site import CODE, CaseSite, Paper
from tests.unit.attacks.forging import (
    DECIDE,
    DISPOSE,
    REQUEST,
    Attack,
    Table,
    asked,
    body,
    disposed,
    extra,
    forge,
    head,
    twin,
    without,
)


def _first_dropped(_: CaseSite, papers: list[Paper]) -> None:
    del papers[REQUEST]
    for number, paper in enumerate(papers, 1):
        paper.body["seq"] = number


def _all_dropped(site: CaseSite) -> None:
    for path in site.folder.glob("0*"):
        path.unlink()


def _taken_back(_: CaseSite, papers: list[Paper]) -> None:
    again = json.loads(json.dumps(papers[DECIDE].body))
    again["seq"], again["body"] = 4, {"decision": "reject", "reason": "tidak jadi"}
    papers.append(replace(papers[DECIDE], body=again))


def _rejected_first(_: CaseSite, papers: list[Paper]) -> None:
    """The rejection is filed as step 3, the approval behind it."""
    no = json.loads(json.dumps(papers[DECIDE].body))
    no["body"] = {"decision": "reject", "reason": "tidak"}
    papers[DECIDE].body["seq"] = 4
    papers.insert(DECIDE, replace(papers[DECIDE], body=no))


def _decided_without_disposition(_: CaseSite, papers: list[Paper]) -> None:
    del papers[DISPOSE]
    papers[1].body.update(seq=2, step="r2")


def _executed_by_hand(site: CaseSite, papers: list[Paper]) -> None:
    extra("execute", "pelaksana", "pelaksana", "r4", run="x", result="berhasil", datasets={})(site, papers)
    extra("execute", "pelaksana", "pelaksana", "r4", run="y", result="berhasil", datasets={})(site, papers)


def _executed_and_informed(site: CaseSite, papers: list[Paper]) -> None:
    extra("execute", "pelaksana", "pelaksana", "r4", run="x", result="berhasil", datasets={})(site, papers)
    extra("inform", "pelaksana", "pelaksana", "r6b", status="berhasil", text="", to="pemohon")(site, papers)


def _withdrawn(site: CaseSite) -> None:
    beside.withdraw(site.session, site.case, "tidak jadi", "pemohon", None)


def _withdrawal_taken_out(site: CaseSite) -> None:
    _withdrawn(site)
    for path in site.folder.glob("04-*"):
        path.unlink()


def _approval_of_another_request(site: CaseSite) -> None:
    """The same datasets were asked for twice; the decider approves one request, the other one's number is used."""
    other = fsio.sha256_file(site.folder / "01-request.json")
    asked(site)
    disposed(site)
    from tests.unit.attacks.forging import decided

    decided(site)
    forge(lambda _, papers: papers[DECIDE].body["body"]["approval"].update(request=other))(site)


def _request_edited_afterwards(site: CaseSite, papers: list[Paper]) -> None:
    papers[REQUEST].body["body"]["reason"] = "alasan lain"


def _folder_from_the_year_before(site: CaseSite) -> None:
    """The folder under an older number, its documents saying so too; the approval is of the true number."""
    other = twin(site, 77)
    shutil.copytree(site.folder, other.folder)
    site.case = other.case


def _renumbered(site: CaseSite) -> None:
    _folder_from_the_year_before(site)
    for path in site.folder.glob("*.json"):
        path.write_bytes(path.read_bytes().replace(b"-0001", b"-0077"))


def _another_agencys_case(site: CaseSite, papers: list[Paper]) -> None:
    papers[DECIDE].body["site"] = "11111111-2222-3333-4444-555555555555"


def _clock_set_back(site: CaseSite) -> None:
    """The ledger reached a time that this machine's clock says is still to come."""
    ahead = clock.parse(clock.plus(clock.now(), hours=1))
    Ledger(site.ledger.path, clock=lambda: ahead).append("schedule", "schedule")


def _valid_in_the_past(site: CaseSite, papers: list[Paper]) -> None:
    granted = papers[DECIDE].body["body"]["approval"]
    granted["valid_until"] = clock.plus(granted["valid_from"], seconds=-1)


def _git_took_the_case_back(site: CaseSite, papers: list[Paper]) -> None:
    site.refile(papers)
    site.ledger.append("document", f"{site.case}/04", {"document": CODE, "signature": CODE})


def _rolled_back(site: CaseSite) -> None:
    _git_took_the_case_back(site, site.papers())


ATTACKS: Table = {
    "request dropped": Attack(
        forge(_first_dropped), "document 1 is dispose of step r2, but request of step r1 was due"
    ),
    "everything dropped": Attack(_all_dropped, "the ledger knows 3 documents of"),
    "approved and taken back": Attack(forge(_taken_back), "document 4 takes back an approval"),
    "rejected and then approved": Attack(
        forge(_rejected_first), "document 4 is decide of step r3, but inform of step r6b was due"
    ),
    "decision in the disposition's place": Attack(
        forge(_decided_without_disposition), "document 2 is decide of step r2, but dispose of step r2 was due"
    ),
    "confirmed where nothing is confirmed": Attack(
        forge(extra("confirm", "kabid", "kabid", "r3", decision="approve")),
        "document 4 is confirm of step r3, but execute",
    ),
    "executed twice": Attack(
        forge(_executed_by_hand), "document 5 is execute of step r4, but inform of step r6b was due"
    ),
    "executed and informed": Attack(forge(_executed_and_informed), "execute is not due"),
    "withdrawn by the requester": Attack(_withdrawn, "the case is closed (dibatalkan)"),
    "withdrawn, and the withdrawal taken out": Attack(_withdrawal_taken_out, "the ledger knows 4 documents of"),
    "rolled back by git": Attack(_rolled_back, "the ledger knows 4 documents of"),
    "approval of another request": Attack(_approval_of_another_request, "the approval is of another request"),
    "request edited after the approval": Attack(
        forge(_request_edited_afterwards), "the approval is of another request (its bytes differ)"
    ),
    "approval names no request": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"].pop("request")),
        "the approval is of another request",
    ),
    "folder under another number": Attack(_folder_from_the_year_before, "01-request.json is document 1 of"),
    "folder and documents under another number": Attack(_renumbered, "01-request.json was never received by sopctl"),
    "decision of another agency": Attack(forge(_another_agencys_case), "03-decide.json is of another site"),
    "case id climbs out": Attack(
        forge(head(DECIDE, case="../../../etc")), "03-decide.json is document 3 of ../../../etc"
    ),
    "case id is a link's": Attack(forge(head(REQUEST, case="RST-2026-0001/.")), "01-request.json is document 1 of"),
    "side document in a step's place": Attack(
        forge(extra("attach", "pemohon", "pemohon", "r4", file="a.pdf")), "the SOP has no step 'r4' with act attach"
    ),
    "step in a side document's place": Attack(
        forge(head(DECIDE, step="-")), "document 3 is decide of step -, but decide of step r3"
    ),
    "clock set back behind the ledger": Attack(_clock_set_back, "this machine's clock says"),
    "approval ends before it begins": Attack(forge(_valid_in_the_past), "the approval held until"),
    "approval has no validity": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"].pop("valid_until")), "is not a time"
    ),
    "approval's validity is a number": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"].update(valid_until=99999999999)),
        "is not a time",
    ),
    "approval names no code": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"].pop("code")),
        "the code differs from the approved",
    ),
    "approval names no targets": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"].pop("targets")), "does not say what it approves"
    ),
    "approval of an empty list": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"].update(targets=[])),
        "dataset antrean was not approved",
    ),
    "approval's target is a word": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"].update(targets=["antrean"])),
        "does not say what it approves",
    ),
    "approval's backup is a pattern": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"]["targets"][0].update(backup="*")),
        "the approved backup * is in no record",
    ),
    "approval's register entries emptied": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"]["targets"][0].update(register={})),
        "antrean: dataset in the register was changed after the approval",
    ),
    "owner of the data swapped": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"]["targets"][0].update(owner_unit="Bidang Lain")),
        "antrean: owner_unit was approved as Bidang Lain",
    ),
    "classification swapped": Attack(
        forge(lambda _, papers: papers[DECIDE].body["body"]["approval"]["targets"][0].update(classification="terbuka")),
        "antrean: classification was approved as terbuka",
    ),
    "requests a dataset that does not exist": Attack(
        forge(body(REQUEST, datasets=["antrean", "simpeg"])), "dataset simpeg is not in the register"
    ),
    "requests a path": Attack(
        forge(body(REQUEST, datasets=["../antrean"])), "dataset ../antrean is not in the register"
    ),
    "requests another operation": Attack(
        forge(body(REQUEST, operation="backup")), "asks for 'backup', which this flow does not do"
    ),
    "requests an operation nobody knows": Attack(
        forge(body(REQUEST, operation="hapus")), "asks for 'hapus', which this flow does not do"
    ),
    "request gives no reason": Attack(forge(without(REQUEST, "reason")), "01-request.json does not say 'reason'"),
    "request is empty": Attack(
        forge(lambda _, papers: papers[REQUEST].body.update(body={})), "does not say which datasets"
    ),
}
