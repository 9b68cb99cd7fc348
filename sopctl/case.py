# SPDX-License-Identifier: Apache-2.0
"""A case: a folder of signed, chained documents; its state is a fold over them."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sopctl import clock, fsio, loading
from sopctl.errors import ConfigError, SopctlError, UsageError
from sopctl.models import CASE_PATTERN, Document
from sopctl.profile import Flow, Profile, Step

_NAME = re.compile(r"(\d\d)-([a-z]+)\.json")
MAX_DOCUMENTS = 99


@dataclass(frozen=True)
class Filed:
    """A document as it lies: its bytes, its signature's bytes, and what they say."""

    path: Path
    document: Document
    data: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the document's bytes."""
        return fsio.sha256_bytes(self.data)

    @property
    def signature_digest(self) -> str:
        """SHA-256 of the signature's bytes."""
        return fsio.sha256_bytes(self.signature)

    @property
    def link(self) -> str:
        """What the next document's ``prev`` must be: SHA-256 of document and signature."""
        return fsio.sha256_bytes(self.data + self.signature)


@dataclass(frozen=True)
class State:
    """Where a case stands. ``due`` is the step that comes next (None when closed)."""

    due: Step | None
    outcome: str  # berjalan | selesai | ditolak
    reasons: list[str] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        """Whether nothing is due any more."""
        return self.due is None and not self.reasons


@dataclass(frozen=True)
class Case:
    """One case: id, folder, flow and documents in order."""

    id: str
    folder: Path
    flow_name: str
    flow: Flow
    filed: list[Filed]

    def last(self, act: str) -> Filed | None:
        """The newest document of that act."""
        return next((item for item in reversed(self.filed) if item.document.act == act), None)

    def body(self, act: str) -> dict[str, Any]:
        """Body of the newest document of that act; empty when there is none."""
        filed = self.last(act)
        return filed.document.body if filed else {}

    @property
    def request(self) -> dict[str, Any]:
        """Body of the request (empty for a scheduled case)."""
        return self.body("request")

    @property
    def state(self) -> State:
        """Fold the documents over the flow."""
        return fold(self.flow, [item.document for item in self.filed])


def fold(flow: Flow, documents: list[Document]) -> State:
    """State after ``documents``; ``reasons`` name documents that do not fit the SOP's order."""
    due: Step | None = flow.steps[0]
    rejected = False
    for document in documents:
        if due is None:
            return State(None, "berjalan", [f"document {document.seq} lies behind the end of the flow"])
        if (document.step, document.act) != (due.id, due.act):
            return State(
                due,
                "berjalan",
                [
                    f"document {document.seq} is {document.act} of step {document.step}, but {due.act} of step {due.id} was due"
                ],
            )
        last = flow.group(due)[-1]
        if due.gate:
            decision = document.body.get("decision")
            if decision not in ("approve", "reject"):  # a list is not hashable, and a document may hold one
                return State(due, "berjalan", [f"document {document.seq} decides neither approve nor reject"])
            target: str | None = due.gate.approve if decision == "approve" else due.gate.reject
            rejected = rejected or (decision == "reject" and due.act != "confirm")
        elif last.end:
            rejected = rejected or last.end == "rejected"
            target = "closed"
        else:
            at = flow.steps.index(last) + 1
            target = last.next or (flow.steps[at].id if at < len(flow.steps) else "closed")
        due = None if target == "closed" or target is None else flow.start_of(flow.step(target))
    if due is not None:
        return State(due, "berjalan")
    return State(None, "ditolak" if rejected else "selesai")


def read_filed(path: Path) -> Filed:
    """Read one document and its signature. ConfigError when either cannot be read or says another thing than its name."""
    match = _NAME.fullmatch(path.name)
    data = fsio.read_strict(path)
    document = loading.load_json(Document, data, path)
    clock.parse(document.at, f"{path}:at")
    if not match or (int(match.group(1)), match.group(2)) != (document.seq, document.act):
        raise ConfigError(f"the file's name does not fit document {document.seq} ({document.act})", where=str(path))
    signature_path = path.with_name(path.name + ".sig")
    if not signature_path.exists():
        raise ConfigError(
            "the document is not signed",
            where=str(path),
            hint="Remove it if a broken-off command left it, and act again.",
        )
    return Filed(path, document, data, fsio.read_strict(signature_path))


def load_case(folder: Path, profile: Profile) -> Case:
    """Read a case. ConfigError for anything in the folder that is not a document, a signature or ``attachments``."""
    if not re.fullmatch(CASE_PATTERN, folder.name):
        raise ConfigError("not a case folder", where=str(folder))
    filed = []
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if path.name == "attachments" and stat.S_ISDIR(mode):
            continue
        if path.name.endswith(".json.sig") and stat.S_ISREG(mode):
            continue
        if not stat.S_ISREG(mode) or not _NAME.fullmatch(path.name):
            raise ConfigError("does not belong into a case folder", where=str(path), hint="Move it away.")
        filed.append(read_filed(path))
    flows = {item.document.flow for item in filed}
    if len(flows) > 1:
        raise ConfigError(f"documents of several flows ({', '.join(sorted(flows))})", where=str(folder))
    name = flows.pop() if flows else (profile.schedule_flow() or next(iter(profile.flows)))
    return Case(folder.name, folder, name, profile.flow(name), filed)


def case_folders(root: Path) -> Iterator[Path]:
    """Folders of all cases, oldest id first."""
    for year in sorted(root.glob("[0-9][0-9][0-9][0-9]")):
        for folder in sorted(year.iterdir()):
            if re.fullmatch(CASE_PATTERN, folder.name) and not folder.is_symlink() and folder.is_dir():
                yield folder


def find_case(root: Path, case_id: str, profile: Profile) -> Case:
    """The case of that id; UsageError when there is none."""
    if not re.fullmatch(CASE_PATTERN, case_id):
        raise UsageError(f"{case_id!r} is not a case id", hint="They look like RST-2026-0001: sopctl case list.")
    folder = root / case_id.split("-")[1] / case_id
    if folder.is_symlink() or not folder.is_dir():
        raise UsageError(f"case {case_id} does not exist", where=str(root), hint="See sopctl case list.")
    return load_case(folder, profile)


def new_case_id(root: Path, operation: str, year: str) -> str:
    """Next free id of that operation and year (folders are made by the caller, exclusively)."""
    prefix = {"restore": "RST", "backup": "BKP"}.get(operation, "SOP")
    numbers = [int(path.name[-4:]) for path in (root / year).glob(f"{prefix}-{year}-[0-9][0-9][0-9][0-9]")]
    number = max(numbers, default=0) + 1
    if number > 9999:
        raise SopctlError(f"no case numbers left for {prefix}-{year}")
    return f"{prefix}-{year}-{number:04d}"


def create_folder(root: Path, operation: str, year: str) -> Path:
    """Make the folder of a new case; two at once get two numbers."""
    while True:
        folder = root / year / new_case_id(root, operation, year)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        fsio.fsync_dir(folder.parent)
        return folder
