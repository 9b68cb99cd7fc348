# SPDX-License-Identifier: Apache-2.0
"""An SOP as its own procedure table: checked, and as data.

Everything that is our reading and not the SOP's text carries the mark [tafsiran]; step texts are never touched.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from sopctl import fsio, indonesian, loading
from sopctl.errors import ConfigError
from sopctl.profile import Flow, LoadedProfile, Profile, Step, load_profile, paper_title

INFERRED = "inferred"
MARK = "[tafsiran]"
Part = Literal["does", "decides", "told"]
PREFLIGHT = {
    "asset_registered": "server terdaftar dalam register aset",
    "asset_review_current": "peninjauan register aset masih berlaku",
    "capacity_checked": "kapasitas diperiksa",
}


@dataclass(frozen=True)
class Checked:
    """A profile that holds, and what its author may still want to look at."""

    loaded: LoadedProfile
    warnings: list[str]

    @property
    def summary(self) -> str:
        """One line."""
        profile = self.loaded.profile
        steps = sum(len(flow.steps) for flow in profile.flows.values())
        flows = ", ".join(profile.flows)
        return f"{profile.id} holds: {len(profile.flows)} flow(s) ({flows}), {steps} steps, {len(profile.roles)} roles; {self.loaded.digest}"


def check(path: Path) -> Checked:
    """Load a profile strictly and look at it. ConfigError names file, line and key of the first mistake."""
    data = fsio.read_strict(path)
    try:
        loaded = load_profile(path)
        loading.check_profile_id(loaded.profile.id, f"{path}:id")
    except ConfigError as error:
        raise _with_line(error, path, data) from None
    heading = loaded.profile.document
    warnings = [
        f"document.{key} is blank" for key in ("tanggal_efektif", "tanggal_revisi") if not getattr(heading, key)
    ]
    count = inferred_parts(loaded.profile)
    if count:
        warnings.append(f"{count} parts are inferred: printed with {MARK}, never as the SOP's text")
    return Checked(loaded, warnings)


def inferred_parts(profile: Profile) -> int:
    """How many parts of the profile are our reading."""

    def count(value: Any) -> int:
        if isinstance(value, dict):
            own = sum(1 for key, inner in value.items() if key.endswith("source") and inner == INFERRED)
            return own + len(value.get("needs_inferred", [])) + sum(count(inner) for inner in value.values())
        return sum(count(inner) for inner in value) if isinstance(value, list) else 0

    return count(msgspec.to_builtins(profile))


def _with_line(error: ConfigError, path: Path, data: bytes) -> ConfigError:
    """The same error with the line of its key, where the error names a key only."""
    place, _, rest = error.where.partition(f"{path}:")
    if place or not rest or rest[0].isdigit():
        return error
    node, line = yaml.compose(data.decode(), Loader=yaml.SafeLoader), 0
    for key in rest.split("."):
        found = _child(node, key)
        if found is None:
            break
        node, line = found
    return ConfigError(error.message, where=f"{path}:{line}:{rest}" if line else error.where, hint=error.hint)


def _child(node: yaml.Node | None, key: str) -> tuple[yaml.Node, int] | None:
    """The node below ``key``, which may be a step's id, and its line."""
    if isinstance(node, yaml.MappingNode):
        inner = {name.value: (name, value) for name, value in node.value}
        if key in inner:
            return inner[key][1], inner[key][0].start_mark.line + 1
        return _child(inner["steps"][1], key) if "steps" in inner else None
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if isinstance(item, yaml.MappingNode) and any((k.value, v.value) == ("id", key) for k, v in item.value):
                return item, item.start_mark.line + 1
    return None


# --- the table -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Actor:
    """Somebody in a row: ``column`` counts from 0; ``name`` tells roles apart that share the column, else empty."""

    column: int
    role: str
    part: Part
    name: str = ""


@dataclass(frozen=True)
class Row:
    """One row: the SOP's number and text as they are; papers and remarks with their marks."""

    step: str
    nomor: str
    kegiatan: str
    inferred: bool
    pelaksana: list[Actor]
    kelengkapan: list[str]
    waktu: str
    output: list[str]
    keterangan: list[str]


@dataclass(frozen=True)
class Procedure:
    """One flow's table."""

    flow: str
    title: str
    columns: list[str]
    columns_inferred: bool
    rows: list[Row]


def procedures(profile: Profile) -> list[Procedure]:
    """The SOP's tables."""
    return [procedure(profile, name) for name in profile.flows]


def procedure(profile: Profile, name: str) -> Procedure:
    """The table of one flow. ConfigError when there is no such flow."""
    flow = profile.flow(name)
    columns = _columns(profile, flow)
    rows = [_row(profile, flow, step, columns) for step in flow.steps]
    title = f"Prosedur {name.replace('_', ' / ')}"
    return Procedure(name, title, columns, flow.actors_source == INFERRED, rows)


def _column(profile: Profile, role: str) -> str:
    return profile.roles[role].column or profile.roles[role].title


def _columns(profile: Profile, flow: Flow) -> list[str]:
    """Headings in the order in which the actors first act; those who are only told come last."""
    doing = [role for step in flow.steps for role in acting(step)]
    told = [role for step in flow.steps for role in step.informs]
    return list(dict.fromkeys(_column(profile, role) for role in [*doing, *told]))


def acting(step: Step) -> list[str]:
    """Roles of a row in the order in which they act: others, who decides, who passes it on."""
    if not step.gate:
        return step.by
    behind = [role for role in step.by if role in step.gate.forward]
    before = [role for role in step.by if role != step.gate.decide and role not in behind]
    return list(dict.fromkeys([*before, step.gate.decide, *behind, *step.gate.forward]))


def _row(profile: Profile, flow: Flow, step: Step, columns: list[str]) -> Row:
    shared = Counter(_column(profile, role) for role in profile.roles)

    def actor(role: str, part: Part) -> Actor:
        column = _column(profile, role)
        return Actor(columns.index(column), role, part, profile.roles[role].title if shared[column] > 1 else "")

    does = [actor(role, "decides" if step.gate and role == step.gate.decide else "does") for role in acting(step)]
    told = [actor(role, "told") for role in step.informs if role not in acting(step)]
    out = [paper_title(profile, paper) for paper in step.out]
    return Row(
        step=step.id,
        nomor=step.nomor or "",
        kegiatan=step.text,
        inferred=step.source == INFERRED,
        pelaksana=[*does, *told],
        kelengkapan=[
            *(paper_title(profile, paper) for paper in step.needs),
            *(_marked(profile.records[paper].title, True) for paper in step.needs_inferred),
        ],
        waktu=indonesian.format_iso_duration(step.sla),
        output=[_marked(title, step.out_source == INFERRED and MARK not in title) for title in out],
        keterangan=_remarks(flow, step),
    )


def _remarks(flow: Flow, step: Step) -> list[str]:
    """What the symbols say, in words: where approval and rejection lead, and what is looked at."""
    gate = step.gate
    if gate is None:
        return []
    found = [f"periksa: {', '.join(word.replace('_', ' ') for word in gate.checks)}"] if gate.checks else []
    found += [
        f"{word}: {_place(flow, target, step)}" for word, target in (("Ya", gate.approve), ("Tidak", gate.reject))
    ]
    return [*found, MARK] if gate.source == INFERRED else found


def _place(flow: Flow, target: str, step: Step) -> str:
    if target == "closed":
        return "selesai"
    aim = flow.step(target)
    at = flow.steps.index(aim)
    if at == flow.steps.index(step) + 1 and not aim.nomor:
        return "baris berikutnya"
    if not aim.nomor:
        return f"baris ke-{at + 1}"
    twice = sum(1 for other in flow.steps if other.nomor == aim.nomor) > 1
    return f"langkah {aim.nomor}" + (f" (baris ke-{at + 1})" if twice else "")


def _marked(text: str, inferred: bool) -> str:
    return f"{text} {MARK}" if inferred else text


def rules(profile: Profile) -> list[tuple[str, str]]:
    """What holds beside the table, in words: (rule, its content), marked where the SOP does not say it."""
    found = [("Prasyarat", "; ".join(PREFLIGHT[word] for word in profile.preflight))] if profile.preflight else []
    for rule in profile.sod:
        names = " dan ".join(profile.title(role) for role in rule.differ)
        found.append(("Orang yang berbeda", _marked(names, rule.source == INFERRED)))
    for classification, roles in profile.authority.items():
        found.append((f"Data {classification}", f"disetujui oleh {', '.join(profile.title(role) for role in roles)}"))
    glass = profile.break_glass
    if glass:
        names = " / ".join(profile.title(role) for role in glass.by)
        text = f"dua orang {names}, paling lama {glass.hours} jam, disahkan kemudian oleh {profile.title(glass.ratify)}"
        found.append(("Keadaan darurat", _marked(text, glass.source == INFERRED)))
    return found


def identity(profile: Profile) -> list[tuple[str, list[str]]]:
    """The identity block: (heading, lines); no line where the SOP leaves it blank."""
    heading = profile.document
    approver = heading.disahkan_oleh
    dates = (heading.tanggal_pembuatan, heading.tanggal_revisi, heading.tanggal_efektif)
    made, revised, effective = ([indonesian.format_date(day)] if day else [] for day in dates)
    return [
        ("Nama SOP", [heading.nama_sop]),
        ("Nomor SOP", [heading.nomor_sop]),
        ("Instansi", [heading.instansi]),
        *([("Unit", [heading.unit])] if heading.unit else []),
        ("Tanggal Pembuatan", made),
        ("Tanggal Revisi", revised),
        ("Tanggal Efektif", effective),
        ("Disahkan Oleh", [part for part in (approver.jabatan, approver.nama, approver.pangkat) if part]),
        ("Dasar Hukum", heading.dasar_hukum),
        ("Kualifikasi Pelaksana", heading.kualifikasi),
        ("Keterkaitan", heading.keterkaitan),
        ("Peralatan / Perlengkapan", heading.peralatan),
        ("Peringatan", heading.peringatan),
        ("Pencatatan dan Pendataan", heading.pencatatan),
        *([("Catatan pada SOP aslinya", heading.catatan)] if heading.catatan else []),
    ]


def as_data(loaded: LoadedProfile) -> dict[str, Any]:
    """Everything that the table shows, for programs."""
    profile = loaded.profile
    return {
        "profile": profile.id,
        "digest": loaded.digest,
        "identity": dict(identity(profile)),
        "flows": [asdict(table) for table in procedures(profile)],
        "rules": [list(rule) for rule in rules(profile)],
    }
