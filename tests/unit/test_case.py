# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.case: the fold over documents, and folders that are not what they should be."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sopctl import case as cases
from sopctl import cli, fsio
from sopctl.case import State, fold
from sopctl.errors import ConfigError, UsageError
from sopctl.models import Act, Actor, Document, Json
from sopctl.profile import Flow, load_profile, shipped
from tests.support.case_site import CaseSite, refused

PROFILE = load_profile(shipped()["trenggalek"]).profile
RESTORE, BACKUP = PROFILE.flow("restore"), PROFILE.flow("backup")
APPROVE: Json = {"decision": "approve"}
REJECT: Json = {"decision": "reject"}


def document(seq: int, step: str, act: Act, body: Json | None = None) -> Document:
    return Document(
        schema="sop/document/v1", site="s", case="RST-2026-0001", seq=seq, flow="restore", step=step, act=act,
        actor=Actor("p", "r"), at="2026-11-22T03:00:00Z", profile="p", prev=None, body=body or {},
    )  # fmt: skip


def after(flow: Flow, *steps: tuple[str, Act, Json | None]) -> State:
    return fold(flow, [document(seq, *step) for seq, step in enumerate(steps, 1)])


ASKED: tuple[str, Act, Json | None] = ("r1", "request", None)
DISPOSED: tuple[str, Act, Json | None] = ("r2", "dispose", None)
APPROVED: tuple[str, Act, Json | None] = ("r3", "decide", APPROVE)
REJECTED: tuple[str, Act, Json | None] = ("r3", "decide", REJECT)
DONE: tuple[str, Act, Json | None] = ("r4", "execute", None)
TOLD: tuple[str, Act, Json | None] = ("r6b", "inform", None)
RECEIVED: tuple[str, Act, Json | None] = ("r7", "receive", None)


@pytest.mark.parametrize(
    ("steps", "due", "outcome"),
    [
        ([], "r1", "berjalan"),
        ([ASKED], "r2", "berjalan"),
        ([ASKED, DISPOSED], "r3", "berjalan"),
        ([ASKED, DISPOSED, APPROVED], "r4", "berjalan"),
        ([ASKED, DISPOSED, APPROVED, DONE], "r6b", "berjalan"),
        ([ASKED, DISPOSED, APPROVED, DONE, TOLD], "r7", "berjalan"),
        ([ASKED, DISPOSED, APPROVED, DONE, TOLD, RECEIVED], None, "selesai"),
        ([ASKED, DISPOSED, REJECTED], "r6b", "berjalan"),
        ([ASKED, DISPOSED, REJECTED, TOLD, RECEIVED], None, "ditolak"),
    ],
)
def test_restore(steps: list[tuple[str, Act, Json | None]], due: str | None, outcome: str) -> None:
    state = after(RESTORE, *steps)
    assert (state.due.id if state.due else None, state.outcome, state.reasons) == (due, outcome, [])
    assert state.closed is (due is None)


def test_backup_sent_back_is_executed_again() -> None:
    made: tuple[str, Act, Json | None] = ("b1", "execute", None)
    sent_back: tuple[str, Act, Json | None] = ("b6", "confirm", REJECT)
    state = after(BACKUP, made, sent_back)
    assert (state.due.id if state.due else None, state.outcome) == ("b1", "berjalan")
    state = after(BACKUP, made, sent_back, made, ("b6", "confirm", APPROVE))
    assert (state.due, state.outcome) == (None, "selesai")


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([DISPOSED], "document 1 is dispose of step r2, but request of step r1 was due"),
        ([ASKED, APPROVED], "document 2 is decide of step r3, but dispose of step r2 was due"),
        ([ASKED, DISPOSED, APPROVED, ("r5", "execute", None)], "but execute of step r4 was due"),
        ([ASKED, DISPOSED, ("r3", "decide", {})], "document 3 decides neither approve nor reject"),
        ([ASKED, DISPOSED, ("r3", "decide", {"decision": ["approve"]})], "decides neither approve nor reject"),
        ([ASKED, DISPOSED, ("r3", "decide", {"decision": True})], "decides neither approve nor reject"),
        ([ASKED, DISPOSED, REJECTED, TOLD, RECEIVED, TOLD], "document 6 lies behind the end of the flow"),
    ],
)
def test_documents_that_do_not_fit(steps: list[tuple[str, Act, Json | None]], reason: str) -> None:
    state = after(RESTORE, *steps)
    assert reason in state.reasons[0]
    assert not state.closed


# --- folders ---------------------------------------------------------------------------------------------------------


def _unsigned(site: CaseSite) -> None:
    (site.folder / "03-decide.json.sig").unlink()


def _stray(site: CaseSite) -> None:
    (site.folder / "catatan.txt").write_text("x")


def _linked_document(site: CaseSite) -> None:
    path = site.folder / "03-decide.json"
    path.rename(site.root / "elsewhere.json")
    path.symlink_to(site.root / "elsewhere.json")


def _linked_signature(site: CaseSite) -> None:
    path = site.folder / "03-decide.json.sig"
    path.rename(site.root / "elsewhere.sig")
    path.symlink_to(site.root / "elsewhere.sig")


def _folder_as_document(site: CaseSite) -> None:
    (site.folder / "04-execute.json").mkdir()


def _fifo(site: CaseSite) -> None:
    os.mkfifo(site.folder / "04-execute.json")


def _wrong_name(site: CaseSite) -> None:
    for end in ("", ".sig"):
        (site.folder / f"03-decide.json{end}").rename(site.folder / f"04-decide.json{end}")


def _two_of_one_number(site: CaseSite) -> None:
    for end in ("", ".sig"):
        (site.folder / f"03-reject.json{end}").write_bytes((site.folder / f"03-decide.json{end}").read_bytes())


def _unknown_key(site: CaseSite) -> None:
    site.edit(f"cases/{site.case[4:8]}/{site.case}/03-decide.json", '"seq": 3', '"seq": 3,\n  "sequence": 3')


def _no_time(site: CaseSite) -> None:
    papers = site.papers()
    papers[-1].body["at"] = "2026-11-22"
    site.refile(papers)


def _other_flow(site: CaseSite) -> None:
    papers = site.papers()
    papers[-1].body["flow"] = "backup"
    site.refile(papers)


def _unknown_flow(site: CaseSite) -> None:
    papers = site.papers()
    for paper in papers:
        paper.body["flow"] = "hapus"
    site.refile(papers)


def _huge(site: CaseSite) -> None:
    (site.folder / "03-decide.json").write_bytes(b" " * (fsio.MAX_BYTES + 1))


def _linked_folder(site: CaseSite) -> None:
    site.folder.rename(site.root / "elsewhere")
    site.folder.symlink_to(site.root / "elsewhere")


FOLDERS: list[tuple[Callable[[CaseSite], None], str]] = [
    (_unsigned, "03-decide.json: the document is not signed"),
    (_stray, "catatan.txt: does not belong into a case folder"),
    (_linked_document, "03-decide.json: does not belong into a case folder"),
    (_linked_signature, "03-decide.json.sig: is a link, not a regular file"),
    (_folder_as_document, "04-execute.json: does not belong into a case folder"),
    (_fifo, "04-execute.json: does not belong into a case folder"),
    (_wrong_name, "the file's name does not fit document 3 (decide)"),
    (_two_of_one_number, "the file's name does not fit document 3 (decide)"),
    (_unknown_key, "unknown key 'sequence'"),
    (_no_time, "03-decide.json:at: '2026-11-22' is not a time"),
    (_other_flow, "documents of several flows (backup, restore)"),
    (_unknown_flow, "has no flow 'hapus'"),
    (_huge, "is larger than 1048576 bytes"),
    (_linked_folder, "is a link, not a folder"),
]


@pytest.mark.parametrize(("spoil", "problem"), FOLDERS)
def test_folder_that_cannot_be_read(
    spoil: Callable[[CaseSite], None],
    problem: str,
    site: CaseSite,
    capsys: pytest.CaptureFixture[str],
    nothing_starts: None,
) -> None:
    """What cannot be read is refused: the file named, one line."""
    spoil(site)
    code = cli.run(["-C", str(site.root), "case", "execute", site.case, "--as", "pelaksana"])
    said = capsys.readouterr().err
    assert code == 10
    assert problem in said
    assert said.count("\n") == 1
    assert refused(site, capsys)[0] == 10


def test_attachments_belong_into_the_folder(site: CaseSite) -> None:
    assert (site.folder / "attachments").is_dir()
    assert len(cases.load_case(site.folder, PROFILE).filed) == 3
    shutil.rmtree(site.folder / "attachments")
    (site.folder / "attachments").symlink_to(site.root)
    with pytest.raises(ConfigError, match="does not belong"):
        cases.load_case(site.folder, PROFILE)


def test_chain_is_by_document_and_signature(site: CaseSite) -> None:
    filed = cases.load_case(site.folder, PROFILE).filed
    for before, item in itertools.pairwise(filed):
        assert item.document.prev == fsio.sha256_bytes(before.data + before.signature) == before.link


@pytest.mark.parametrize("case_id", ["RST-2026-1", "../../etc", "rst-2026-0001", "RST-2026-0001\n", ""])
def test_not_a_case_id(case_id: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a case id"):
        cases.find_case(tmp_path, case_id, PROFILE)


def test_numbers(tmp_path: Path) -> None:
    assert cases.new_case_id(tmp_path, "restore", "2026") == "RST-2026-0001"
    assert cases.create_folder(tmp_path, "restore", "2026").name == "RST-2026-0001"
    assert cases.create_folder(tmp_path, "restore", "2026").name == "RST-2026-0002"
    assert cases.create_folder(tmp_path, "backup", "2026").name == "BKP-2026-0001"
    assert cases.create_folder(tmp_path, "restore", "2027").name == "RST-2027-0001"
    (tmp_path / "2026/RST-2026-9999").mkdir()
    with pytest.raises(Exception, match="no case numbers left"):
        cases.create_folder(tmp_path, "restore", "2026")
    assert next(folder.name for folder in cases.case_folders(tmp_path)) == "BKP-2026-0001"
