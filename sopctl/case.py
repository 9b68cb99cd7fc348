# SPDX-License-Identifier: Apache-2.0
"""A case: a folder of signed, chained documents; its state is a fold over them."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from sopctl import clock, fsio, loading, signed_pdf
from sopctl.errors import ConfigError, GateRefused, SopctlError, UsageError
from sopctl.models import CASE_PATTERN, Document, SideAct
from sopctl.profile import BreakGlass, Flow, Gate, Profile, Step, forwarding

_NAME = re.compile(r"(\d\d)-([a-z]+)\.json")
#: what a writer that was killed left of a document or signature that never came to be (fsio.write_atomic)
_UNFINISHED = re.compile(r"\.\d\d-[a-z]+\.(json(\.sig)?|pdf)\.[0-9a-f]{12}\.tmp")
_SIGNED_PAPER = re.compile(r"\d\d-[a-z]+\.pdf")
MAX_DOCUMENTS = 99
SIDE_ACTS: tuple[str, ...] = get_args(SideAct)
#: "step" of a side document
BESIDE = "-"
RATIFY = "ratify"


@dataclass(frozen=True)
class Filed:
    """A document as it lies: its bytes, its signature's bytes, and what they say."""

    path: Path
    document: Document
    data: bytes
    signature: bytes

    @property
    def on_paper(self) -> bool:
        """Whether an official signed a PDF with the document inside; the signature is then that PDF."""
        return signed_pdf.is_pdf(self.signature)

    @property
    def signature_path(self) -> Path:
        """Where the signature lies: ``03-decide.json.sig``, or ``03-decide.pdf``."""
        return self.path.with_suffix(".pdf") if self.on_paper else self.path.with_name(self.path.name + ".sig")

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
    """Where a case stands. ``due`` is the step that comes next (None when closed).

    ``emergency``: empty, ``asked`` (one operator signed), ``open`` (two did; goes before approval), ``ratified`` or
    ``censured``.
    """

    due: Step | None
    outcome: str  # berjalan | selesai | ditolak | dibatalkan
    reasons: list[str] = field(default_factory=list)
    emergency: str = ""

    @property
    def closed(self) -> bool:
        """Whether nothing is due any more."""
        return self.due is None and not self.reasons

    @property
    def flagged(self) -> bool:
        """Whether an emergency still waits for the decider's word."""
        return self.emergency in {"asked", "open"}


@dataclass(frozen=True)
class Case:
    """One case: id, folder, flow and documents in order."""

    id: str
    folder: Path
    flow_name: str
    flow: Flow
    filed: list[Filed]
    break_glass: BreakGlass | None = None

    def last(self, act: str) -> Filed | None:
        """The newest document of that act."""
        return next((item for item in reversed(self.filed) if item.document.act == act), None)

    def all(self, act: str) -> list[Filed]:
        """Every document of that act, oldest first."""
        return [item for item in self.filed if item.document.act == act]

    def body(self, act: str) -> dict[str, Any]:
        """Body of the newest document of that act; empty when there is none."""
        filed = self.last(act)
        return filed.document.body if filed else {}

    @property
    def request(self) -> dict[str, Any]:
        """Body of the request (empty for a scheduled case)."""
        return self.body("request")

    @property
    def operation(self) -> str:
        """``backup`` or ``restore``."""
        asked = self.request.get("operation")
        return asked if isinstance(asked, str) else self.flow.operation()

    @property
    def state(self) -> State:
        """Fold the documents over the flow."""
        return fold(self.flow, [item.document for item in self.filed], self.break_glass)

    def with_filed(self, filed: list[Filed]) -> Case:
        """The same case holding these documents."""
        return replace(self, filed=filed)


def fold(flow: Flow, documents: list[Document], break_glass: BreakGlass | None = None) -> State:
    """State after ``documents``; ``reasons`` name documents that do not fit the SOP's order."""
    walk = _Walk(flow, break_glass)
    for document in documents:
        problem = walk.beside(document) if document.act in SIDE_ACTS else walk.step(document)
        if problem:
            return State(walk.due, "berjalan", [f"document {document.seq} {problem}"], walk.emergency)
    return State(walk.due, walk.outcome if walk.due is None else "berjalan", [], walk.emergency)


class _Walk:
    """Takes one document after the other; a document that does not fit is named and nothing moves."""

    def __init__(self, flow: Flow, break_glass: BreakGlass | None) -> None:
        self._flow, self._glass = flow, break_glass
        self.due: Step | None = flow.steps[0]
        self.outcome = "selesai"
        self.emergency = ""
        self._first_operator = ""
        self._begun = self._executed = False
        self._before: Step | None = None  # what was due when the glass was broken
        self._spent = False  # an emergency was judged before anything came of it
        self._renewable: set[str] = set()  # acts that may be done anew while execution is due
        self._standing = False  # an execution that no inspector has sent back

    def step(self, document: Document) -> str:
        """A document of one of the SOP's steps; empty when it fits, else why not."""
        due = self.due
        if due is None:
            return "lies behind the end of the flow"
        if due.act == "execute" and self.emergency != "open" and document.act in self._renewable:
            return self._renewed(document)
        if (document.step, document.act) != (due.id, due.act):
            return f"is {document.act} of step {document.step}, but {due.act} of step {due.id} was due"
        self._begun = True
        if due.gate:
            return self._decided(document, due, due.gate)
        if due.act == "plan":
            self._renewable.add("plan")
        if due.act == "execute":
            self._executed = self._standing = True
        if self._flow.group(due)[-1].end == "rejected":
            self.outcome = "ditolak"
        self._go(self._flow.following(due) if due.act == "execute" or not due.next else due.next)
        return ""

    def _decided(self, document: Document, due: Step, gate: Gate) -> str:
        decision = document.body.get("decision")
        if decision not in ("approve", "reject"):  # a list is not hashable, and a document may hold one
            return "decides neither approve nor reject"
        if due.act == "decide":
            self._renewable.add("decide")
        if decision == "reject" and due.act == "confirm":
            self._standing = False
        elif decision == "reject":
            self.outcome = "ditolak"
        if decision == "approve" and gate.forward:
            self.due = forwarding(due)
        else:
            self._go(gate.approve if decision == "approve" else gate.reject)
        return ""

    def _go(self, target: str) -> None:
        if target != "closed":
            self.due = self._flow.start_of(self._flow.step(target))
        elif self.emergency == "open" and self._glass:
            self.due = ratification(self._flow, self._glass)
        else:
            self.due = None
            self.emergency = "" if self.emergency == "asked" else self.emergency

    def beside(self, document: Document) -> str:
        """A document beside the SOP's steps; empty when it fits, else why not."""
        scheduled = self._flow.steps[0].act != "request"
        if document.act == "takeover" and (self._begun or scheduled):
            return ""  # a scheduled run may die before its first document
        if document.act == "clean" and self._begun:
            return self._clean()
        if not self._begun or self.due is None:
            return "lies behind the end of the flow" if self._begun else "lies before the case's first step"
        return self._inside(document)

    def _inside(self, document: Document) -> str:
        if document.act == "emergency":
            return self._emergency(document)
        if document.act == "ratify":
            return self._ratify(document)
        if document.act == "withdraw":
            return self._withdraw()
        return ""

    def _renewed(self, document: Document) -> str:
        """A plan made anew when its window has passed, or an approval when its time is over; execution stays due."""
        step = self._flow.first("plan" if document.act == "plan" else "decide")
        if step is None or step.id != document.step:
            return f"is {document.act} of step {document.step}, which the SOP does not have"
        if document.act == "decide" and document.body.get("decision") != "approve":
            return "takes back an approval; the requester withdraws, or the inspector sends back"
        return ""

    def _withdraw(self) -> str:
        if self._standing:
            return "withdraws what was executed already"
        if self.emergency == "open" and self._executed:
            return "withdraws an emergency that nobody has judged yet"
        if self.outcome == "ditolak":
            return "withdraws what was rejected already"
        self.due, self.outcome = None, "dibatalkan"
        self.emergency = "" if self.emergency in {"asked", "open"} else self.emergency
        return ""

    def _clean(self) -> str:
        if self.due is not None:
            return "drops what the case keeps before the case is closed"
        if not self._executed or self.outcome != "selesai":
            return f"drops what is kept by a case that ended {self.outcome}, not confirmed"
        return "drops what a censured emergency set aside" if self.emergency == "censured" else ""

    def _ratify(self, document: Document) -> str:
        if self.emergency != "open":
            return "ratifies where no emergency waits for it"
        decision = document.body.get("decision")
        if decision not in ("approve", "reject"):
            return "decides neither approve nor reject"
        self.emergency = "ratified" if decision == "approve" else "censured"
        if self.due is not None and self.due.id == RATIFY:
            self.due = None
        elif not self._executed:  # nothing came of it: the SOP's own step is due again
            self.due, self.emergency, self._spent = self._before, "", True
        return ""

    def _emergency(self, document: Document) -> str:
        if self._glass is None or self._spent:
            return "breaks the glass a second time" if self._spent else "breaks the glass, which this SOP does not have"
        if self._executed or self.outcome == "ditolak" or self.emergency in {"open", "ratified", "censured"}:
            return "breaks the glass of a case that was decided or executed already"
        if not self.emergency:
            self.emergency, self._first_operator = "asked", document.actor.person
            return ""
        if document.actor.person == self._first_operator:
            return f"is {document.actor.person}'s second signature; an emergency needs two persons"
        execution = self._flow.first("execute")
        if execution is None:
            return "breaks the glass of a flow that executes nothing"
        self._before, self.emergency, self.due = self.due, "open", execution
        return ""


def due_act(step: Step) -> str:
    """The act that completes ``step``, as the command line calls it."""
    return RATIFY if step.id == RATIFY else step.act


def due_step(case: Case, act: str) -> Step:
    """The step that is due, when it is ``act``; GateRefused names what is due instead, and by whom."""
    due = case.state.due
    if case.state.reasons:
        raise GateRefused(case.state.reasons, where=case.id)
    if due and due.act == "execute" and case.state.emergency != "open" and act in {"plan", "decide"} and case.last(act):
        step = case.flow.first("plan" if act == "plan" else "decide")
        if step:
            return step  # a plan whose window has passed, or an approval whose time is over, is made anew
    if due is None:
        raise GateRefused(f"the case is closed ({case.state.outcome}); nothing is due", where=case.id)
    if due_act(due) != act:
        by = " or ".join(due.actors)
        raise GateRefused(
            f"{act} is not due",
            where=case.id,
            hint=f"Due is step {due.nomor or due.id}: {due_act(due)}, by {by}: sopctl case {due_act(due)} {case.id} --as {by}.",
        )
    return due


def ratification(flow: Flow, glass: BreakGlass) -> Step:
    """What is due when all else is done and the emergency was not looked at yet."""
    text = "Menilai tindakan darurat: meratifikasi atau menegur"
    decided = flow.first("decide") or flow.steps[-1]
    return Step(id=RATIFY, act="decide", text=text, by=[glass.ratify], nomor=decided.nomor, source="inferred")


def read_filed(path: Path) -> Filed:
    """Read one document and its signature. ConfigError when either cannot be read or says another thing than its name."""
    match = _NAME.fullmatch(path.name)
    data = fsio.read_strict(path)
    document = loading.load_json(Document, data, path)
    clock.parse(document.at, f"{path}:at")
    if not match or (int(match.group(1)), match.group(2)) != (document.seq, document.act):
        raise ConfigError(f"the file's name does not fit document {document.seq} ({document.act})", where=str(path))
    return Filed(path, document, data, read_signature(path))


def read_signature(path: Path) -> bytes:
    """What signs the document at ``path``: the SSH signature or the signed PDF beside it. ConfigError unless it is one of them."""
    beside, paper = path.with_name(path.name + ".sig"), path.with_suffix(".pdf")
    there = [one for one in (beside, paper) if one.exists() or one.is_symlink()]
    if not there:
        raise ConfigError(
            "the document is not signed",
            where=str(path),
            hint="Remove it if a broken-off command left it, and act again.",
        )
    if len(there) > 1:
        raise ConfigError("the document has two signatures, one on paper", where=str(path), hint="Move one away.")
    signature = fsio.read_strict(there[0], signed_pdf.MAX_BYTES if there[0] == paper else fsio.MAX_BYTES)
    if signed_pdf.is_pdf(signature) != (there[0] == paper):
        raise ConfigError("is not what its name says", where=str(there[0]), hint="Put the right file there.")
    return signature


def load_case(folder: Path, profile: Profile) -> Case:
    """Read a case. ConfigError for anything in the folder that is not a document, a signature or ``attachments``."""
    if not re.fullmatch(CASE_PATTERN, folder.name):
        raise ConfigError("not a case folder", where=str(folder))
    filed = []
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if path.name == "attachments" and stat.S_ISDIR(mode):
            continue
        known = (
            path.name.endswith(".json.sig") or _SIGNED_PAPER.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name)
        )
        if stat.S_ISREG(mode) and known:
            continue
        if not stat.S_ISREG(mode) or not _NAME.fullmatch(path.name):
            raise ConfigError("does not belong into a case folder", where=str(path), hint="Move it away.")
        filed.append(read_filed(path))
    flows = {item.document.flow for item in filed}
    if len(flows) > 1:
        raise ConfigError(f"documents of several flows ({', '.join(sorted(flows))})", where=str(folder))
    name = flows.pop() if flows else (profile.schedule_flow() or next(iter(profile.flows)))
    return Case(folder.name, folder, name, profile.flow(name), filed, profile.break_glass)


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
    for place in (folder.parent, folder):
        if place.is_symlink():
            raise ConfigError("is a link, not a folder", where=str(place), hint="Put the folder itself there.")
    if not folder.is_dir():
        raise UsageError(f"case {case_id} does not exist", where=str(root), hint="See sopctl case list.")
    return load_case(folder, profile)


def new_case_id(root: Path, operation: str, year: str, known: Iterable[str] = ()) -> str:
    """Next free id of that operation and year (folders are made by the caller, exclusively).

    ``known``: ids that the ledger has seen; a folder that was lost gives its number to nobody.
    """
    prefix = {"restore": "RST", "backup": "BKP"}.get(operation, "SOP")
    names = [*(path.name for path in (root / year).glob(f"{prefix}-{year}-*")), *known]
    numbers = [int(name[-4:]) for name in names if re.fullmatch(rf"{prefix}-{year}-[0-9]{{4}}", name)]
    number = max(numbers, default=0) + 1
    if number > 9999:
        raise SopctlError(f"no case numbers left for {prefix}-{year}")
    return f"{prefix}-{year}-{number:04d}"


def create_folder(root: Path, operation: str, year: str, known: Iterable[str] = ()) -> Path:
    """Make the folder of a new case; two at once get two numbers."""
    while True:
        folder = root / year / new_case_id(root, operation, year, known)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        fsio.fsync_dir(folder.parent)
        return folder
