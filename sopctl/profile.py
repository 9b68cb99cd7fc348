# SPDX-License-Identifier: Apache-2.0
"""An agency's SOP as data. Code knows acts; only this data knows steps."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sopctl import clock, flowchart, fsio, loading
from sopctl.errors import ConfigError
from sopctl.models import Act, Record


class Gate(Record, frozen=True):
    """A decision: who decides, where approval and rejection lead (a step id or ``closed``).

    ``forward``: roles that pass an approved request on; their document (``dispose``) belongs to the same step.
    """

    decide: str
    approve: str
    reject: str
    checks: list[str] = []
    forward: list[str] = []
    source: str | None = None


class Step(Record, frozen=True):
    """One row of the SOP's table. ``text`` is the SOP's own, never ours, unless ``source`` says inferred."""

    id: str
    act: Act
    text: str
    by: list[str]
    nomor: str | None = None
    needs: list[str] = []
    needs_inferred: list[str] = []
    out: list[str] = []
    out_source: str | None = None
    sla: str | None = None
    gate: Gate | None = None
    informs: list[str] = []
    params: dict[str, str] = {}
    run: dict[str, list[str]] = {}
    run_source: str | None = None
    on_failure: dict[str, list[str]] = {}
    source: str | None = None
    next: str | None = None
    end: str | None = None

    @property
    def actors(self) -> list[str]:
        """Roles that may file this step's document."""
        return [self.gate.decide] if self.gate else self.by


class Trigger(Record, frozen=True):
    """A flow started by a schedule (the paper's id, and how often at the least)."""

    schedule: str
    at_least_every: str


#: roles that no SOP's table has a column for, held by people of every site's trust; their titles
RESERVED = {
    "loket": "Petugas penerima surat",
    "pemilik-data": "Pejabat unit pemilik data",
    "pengurus-aset": "Pengurus register aset",
}
DESK, OWNER, KEEPER = RESERVED
#: what a request paper can be asked to say (``must_have``) → what it is in words
FIELDS = {
    "daftar_spesifikasi": "the specification list: for each dataset server, application, database or folder, and size",
    "jenis": "backup or restore",
    "target": "the datasets",
    "alasan": "the reason",
    "titik_pemulihan": "the point to restore to",
    "batas_waktu": "the deadline",
    "kontak": "whom to reach",
}


class Flow(Record, frozen=True):
    """One procedure table."""

    trigger: str | Trigger
    steps: list[Step]
    variants: list[str] = []
    actors_source: str | None = None

    def step(self, step_id: str) -> Step:
        """The step of that id; KeyError when there is none (profiles are checked at load)."""
        return next(step for step in self.steps if step.id == step_id)

    def group(self, first: Step) -> list[Step]:
        """``first`` and the steps right behind it that are parts of the same execution."""
        if first.act != "execute":
            return [first]
        at = self.steps.index(first)
        end = at + 1
        while not self.steps[end - 1].end and end < len(self.steps) and self.steps[end].act == "execute":
            end += 1
        return self.steps[at:end]

    def start_of(self, step: Step) -> Step:
        """The first step of the execution that ``step`` is part of (itself for every other act)."""
        if step.act != "execute":
            return step
        at = self.steps.index(step)
        while at and self.steps[at - 1].act == "execute":
            at -= 1
        return self.steps[at]

    def following(self, step: Step) -> str:
        """Id of the step behind ``step`` (the last of its execution), or ``closed``."""
        last = self.group(step)[-1]
        if last.end:
            return "closed"
        if last.next:
            return last.next
        at = next(number for number, each in enumerate(self.steps) if each.id == last.id) + 1
        return self.steps[at].id if at < len(self.steps) else "closed"

    def first(self, act: Act) -> Step | None:
        """The first step of that act, if the flow has one."""
        return next((step for step in self.steps if step.act == act), None)

    def paper(self, act: Act) -> str | None:
        """The last paper that a step of that act leaves."""
        return next((step.out[-1] for step in reversed(self.steps) if step.act == act and step.out), None)

    def operation(self) -> str:
        """``backup`` or ``restore`` for a flow with one variant; flows with variants say it in the request."""
        for step in self.steps:
            for kind in step.run:
                if kind != "any":
                    return kind
        return self.variants[0] if self.variants else "restore"


def forwarding(step: Step) -> Step:
    """What is due behind an approving ``step`` with ``gate.forward``: passing it on, still the same row of the table."""
    assert step.gate is not None  # noqa: S101  # only called for such steps
    return msgspec.structs.replace(
        step, act="dispose", by=step.gate.forward, gate=None, next=step.gate.approve, end=None
    )


class Separation(Record, frozen=True):
    """Roles that must be different persons in one case."""

    differ: list[str]
    source: str | None = None


class Role(Record, frozen=True):
    """A column of the SOP's table."""

    title: str
    column: str | None = None


class Paper(Record, frozen=True):
    """A paper the SOP names."""

    title: str
    must_have: list[str] = []
    source: str | None = None
    alias: str | None = None


class Approver(Record, frozen=True):
    """Who signed the SOP itself."""

    jabatan: str
    nama: str
    pangkat: str | None = None


class BreakGlass(Record, frozen=True):
    """Emergencies: two different holders of ``by`` sign, for ``hours`` at the most; ``ratify`` looks at it afterwards."""

    by: list[str]
    hours: Annotated[int, msgspec.Meta(ge=1, le=72)]
    ratify: str
    source: str | None = None


class Heading(Record, frozen=True):
    """The SOP's identity block."""

    nama_sop: str
    nomor_sop: str
    instansi: str
    disahkan_oleh: Approver
    unit: str | None = None
    tanggal_pembuatan: str | None = None
    tanggal_revisi: str | None = None
    tanggal_efektif: str | None = None
    dasar_hukum: list[str] = []
    kualifikasi: list[str] = []
    keterkaitan: list[str] = []
    peralatan: list[str] = []
    peringatan: list[str] = []
    pencatatan: list[str] = []
    catatan: list[str] = []


class Profile(Record, frozen=True):
    """One SOP."""

    schema: str
    id: str
    document: Heading
    roles: dict[str, Role]
    records: dict[str, Paper]
    flows: dict[str, Flow]
    preflight: list[Literal["asset_registered", "asset_review_current", "capacity_checked"]] = []
    sod: list[Separation] = []
    #: classification → roles that may approve requests for such data (none named: the gate's own decider)
    authority: dict[str, list[str]] = {}
    break_glass: BreakGlass | None = None

    def title(self, role: str) -> str:
        """Title of a role, the SOP's own or a reserved one."""
        return self.roles[role].title if role in self.roles else RESERVED[role]

    def flow(self, name: str) -> Flow:
        """The flow of that name; ConfigError names those that exist."""
        if name not in self.flows:
            raise ConfigError(
                f"profile {self.id} has no flow {name!r}", where="profile", hint=f"It has {', '.join(self.flows)}."
            )
        return self.flows[name]

    def flow_for(self, operation: str) -> str:
        """Name of the flow that does ``operation`` on request (``restore``) or by schedule (``backup``)."""
        for name, flow in self.flows.items():
            if operation in flow.variants or any(operation in step.run for step in flow.steps):
                return name
        raise ConfigError(f"profile {self.id} has no flow for {operation}", where="profile")

    def schedule_flow(self) -> str | None:
        """Name of the flow that the signed schedule starts, if the SOP has one."""
        return next((name for name, flow in self.flows.items() if isinstance(flow.trigger, Trigger)), None)

    def schedule_signers(self) -> list[str]:
        """Roles that may sign the schedule: those who check the backups it leads to."""
        name = self.schedule_flow()
        return [step.gate.decide for step in self.flows[name].steps if step.gate] if name else []


class LoadedProfile(msgspec.Struct, frozen=True):
    """A profile, the digest of its bytes, and where they lie."""

    profile: Profile
    digest: str
    path: Path

    @property
    def reference(self) -> str:
        """``id@sha256:…`` as documents cite it."""
        return f"{self.profile.id}@{self.digest}"


def load_profile(path: Path) -> LoadedProfile:
    """Load and check a profile. ConfigError names file, line and key."""
    data = fsio.read_strict(path)
    profile = loading.from_yaml(Profile, data, path)
    _check(profile, path)
    return LoadedProfile(profile, fsio.sha256_bytes(data), path)


def _check(profile: Profile, path: Path) -> None:
    """What the schema cannot say: that everything named exists. ConfigError names the key."""
    if profile.schema != "sop-profile/v1":
        raise _wrong(f"schema {profile.schema!r} is unknown", f"{path}:schema")
    if profile.id != path.stem:
        raise _wrong(f"id {profile.id!r} differs from the file's name", f"{path}:id")
    for rule in profile.sod:
        _exist(rule.differ, profile.roles, "role", f"{path}:sod")  # a misspelt role would separate nobody
    for name, flow in profile.flows.items():
        ids = [step.id for step in flow.steps]
        if len(set(ids)) != len(ids):
            raise _wrong("two steps have one id", f"{path}:flows.{name}.steps")
        for step in flow.steps:
            where = f"{path}:flows.{name}.{step.id}"
            gate = step.gate
            _exist(
                [step.next or "closed", *([gate.approve, gate.reject] if gate else [])], [*ids, "closed"], "step", where
            )
            _exist([*step.by, *step.informs, *([gate.decide] if gate else [])], profile.roles, "role", where)
            _exist([*step.needs, *step.needs_inferred, *step.out], profile.records, "paper", where)
            if step.sla is not None:
                clock.duration_seconds(step.sla, f"{where}.sla")
        if not any(step.end for step in flow.steps):
            raise _wrong("has no step that ends it", f"{path}:flows.{name}")
        _check_order(profile, flow, f"{path}:flows.{name}")
    for paper, record in profile.records.items():
        _exist(record.must_have, FIELDS, "field", f"{path}:records.{paper}.must_have")
    _exist(list(profile.authority), CLASSIFICATIONS, "classification", f"{path}:authority")
    for classification, approvers in profile.authority.items():
        _exist(approvers, profile.roles, "role", f"{path}:authority.{classification}")
    if profile.break_glass:
        _exist([*profile.break_glass.by, profile.break_glass.ratify], profile.roles, "role", f"{path}:break_glass")


CLASSIFICATIONS = ("terbuka", "terbatas", "rahasia")
RUN_KEYS = ("backup", "restore", "any")
RUN_WORDS = (
    *("backup", "verify", "name", "secure", "stop_service", "safety_backup", "restore"),
    *("start_service", "health_check", "archive"),
)
ENDS = ("closed", "rejected")


def _check_order(profile: Profile, flow: Flow, where: str) -> None:
    """What a flow's steps must be to each other. ConfigError names the step."""
    papers: set[str] = set()
    if isinstance(flow.trigger, Trigger):
        _exist([flow.trigger.schedule], profile.records, "paper", f"{where}.trigger.schedule")
        _exist([flow.trigger.at_least_every], ("P1M", "P1W", "P1D"), "period", f"{where}.trigger.at_least_every")
        papers.add(flow.trigger.schedule)
    elif flow.trigger != "request":
        raise _wrong(f"trigger {flow.trigger!r} is neither 'request' nor a schedule", f"{where}.trigger")
    elif flow.steps[0].act != "request":
        raise _wrong("a flow on request must begin with act 'request'", f"{where}.{flow.steps[0].id}.act")
    _exist(flow.variants, RUN_KEYS[:2], "operation", f"{where}.variants")
    acts = [step.act for step in flow.steps]
    if "plan" in acts and "execute" in acts and acts.index("plan") > acts.index("execute"):
        raise _wrong("is planned after it was executed", f"{where}.{flow.steps[acts.index('plan')].id}.act")
    for step in flow.steps:
        _check_step(profile, step, f"{where}.{step.id}")
        for paper in (*step.needs, *step.needs_inferred):
            if paper not in papers:
                raise _wrong(f"needs paper {paper!r}, which no earlier step leaves", f"{where}.{step.id}.needs")
        papers.update(step.out)
    unreached, endless = flowchart.lost(flow.steps[0].id, {step.id: successors(flow, step) for step in flow.steps})
    for lost, problem in ((unreached, "cannot be reached from the first step"), (endless, "never comes to an end")):
        if lost:
            raise _wrong(problem, f"{where}.{lost[0]}")


def _check_step(profile: Profile, step: Step, here: str) -> None:
    if not step.by:
        raise _wrong("names nobody who does it", f"{here}.by")
    if step.gate and step.act not in ("decide", "confirm"):
        raise _wrong(f"act {step.act!r} cannot have a gate, only decide and confirm can", f"{here}.gate")
    if step.act == "decide" and not step.gate:
        raise _wrong("decides, but has no gate that says where approval and rejection lead", f"{here}.act")
    _exist(step.gate.forward if step.gate else [], profile.roles, "role", f"{here}.gate.forward")
    _exist([step.end or ENDS[0]], ENDS, "end", f"{here}.end")
    for key, words in (("run", step.run), ("on_failure", step.on_failure)):
        _exist(list(words), RUN_KEYS, "operation", f"{here}.{key}")
        known = RUN_WORDS if key == "run" else (*RUN_WORDS, "rollback")
        _exist([word for several in words.values() for word in several], known, "run word", f"{here}.{key}")


def successors(flow: Flow, step: Step) -> dict[str, str]:
    """Where ``step`` leads, row by row: ``approve`` and ``reject`` of a gate, ``next`` else; ``closed`` ends."""
    if step.gate:
        return {"approve": step.gate.approve, "reject": step.gate.reject}
    if step.end:
        return {"next": "closed"}
    at = flow.steps.index(step) + 1
    return {"next": step.next or (flow.steps[at].id if at < len(flow.steps) else "closed")}


def _exist(names: list[str], known: Collection[str], what: str, where: str) -> None:
    for name in names:
        if name not in known:
            raise _wrong(f"names {what} {name!r}, which does not exist", where)


def _wrong(problem: str, where: str) -> ConfigError:
    return ConfigError(problem, where=where, hint="See docs/reference/profile.md.")


def shipped() -> dict[str, Path]:
    """Profiles that come with sopctl, by id and by short name (``trenggalek``)."""
    folder = Path(str(resources.files("sopctl"))) / "profiles"
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.yml")):
        found[path.stem] = path
        found[path.stem.split("-")[0]] = path
    return found


def paper_title(profile: Profile, paper: str) -> str:
    """Title of a paper, marked when we inferred it."""
    record: Any = profile.records[paper]
    return f"{record.title} [tafsiran]" if record.source == "inferred" else str(record.title)
