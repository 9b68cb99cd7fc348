# SPDX-License-Identifier: Apache-2.0
"""An agency's SOP as data. Code knows acts; only this data knows steps."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sopctl import clock, fsio, loading
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
        at = self.steps.index(first)
        end = at + 1
        while first.act == "execute" and not self.steps[end - 1].end and end < len(self.steps):
            if self.steps[end].act != "execute":
                break
            end += 1
        return self.steps[at:end]

    def start_of(self, step: Step) -> Step:
        """The first step of the execution that ``step`` is part of (itself for every other act)."""
        at = self.steps.index(step)
        while step.act == "execute" and at and self.steps[at - 1].act == "execute":
            at -= 1
        return self.steps[at]

    def operation(self) -> str:
        """``backup`` or ``restore`` for a flow with one variant; flows with variants say it in the request."""
        for step in self.steps:
            for kind in step.run:
                if kind != "any":
                    return kind
        return self.variants[0] if self.variants else "restore"


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


def _exist(names: list[str], known: Collection[str], what: str, where: str) -> None:
    for name in names:
        if name not in known:
            raise _wrong(f"names {what} {name!r}, which does not exist", where)


def _wrong(problem: str, where: str) -> ConfigError:
    return ConfigError(problem, where=where, hint="See docs/reference/site-files.md#profile.")


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
