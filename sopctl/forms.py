# SPDX-License-Identifier: Apache-2.0
"""The SOP's paper forms: frozen values in, ``form.json`` and ``form.html`` out.

Both are made from the same value and hold the same fields (DOMAIN: forms table). Times are UTC
(``2026-11-22T03:00:00Z``), dates ``2026-11-22``, durations whole seconds, sizes bytes, time limits ISO 8601; the HTML
prints them the Indonesian way in the form's time zone. What is our reading and not the SOP's text carries
``inferred`` and is printed with the mark [tafsiran].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sopctl import indonesian
from sopctl.errors import ConfigError

Result = Literal[
    "berhasil",
    "sebagian",
    "gagal",
    "gagal_dikembalikan",
    "gagal_layanan_mati",
    "disetujui",
    "ditolak",
    "menunggu",
]
RESULT_TEXT: dict[str, str] = {
    "berhasil": "Berhasil",
    "sebagian": "Berhasil sebagian",
    "gagal": "Gagal",
    "gagal_dikembalikan": "Gagal, dikembalikan",
    "gagal_layanan_mati": "Gagal, layanan masih mati",
    "disetujui": "Disetujui",
    "ditolak": "Ditolak",
    "menunggu": "Menunggu keputusan",
}
RESULT_TONE: dict[str, str] = {
    "berhasil": "good",
    "disetujui": "good",
    "sebagian": "fair",
    "menunggu": "fair",
    "gagal_dikembalikan": "fair",
}  # every other result: "bad"

Verification = Literal["belum", "berhasil", "tidak_berhasil"]
VERIFICATION_TEXT: dict[str, str] = {
    "belum": "belum diverifikasi",
    "berhasil": "berhasil",
    "tidak_berhasil": "tidak berhasil",
}


@dataclass(frozen=True, kw_only=True)
class Letterhead:
    """The agency on top of the form; ``city`` stands before the date of the signatures."""

    agency: str
    government: str = ""
    address: str = ""
    city: str = ""


@dataclass(frozen=True, kw_only=True)
class Official:
    """A person in a duty. ``at`` is when they signed (UTC); None prints an empty place for a signature.

    ``delegate`` is ``Plt.`` or ``Plh.`` where the person stands in for the office.
    """

    role_title: str
    jabatan: str = ""
    name: str = ""
    nip: str | None = None
    person: str = ""
    at: str | None = None
    delegate: str = ""
    key_fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One line of the SOP's table and how it went. ``number`` and ``text`` are the SOP's own, letter for letter."""

    number: str
    text: str
    by: str = ""  # role titles, as the SOP prints them
    person: str = ""  # who did it
    at: str | None = None  # when it was done
    duration_s: int | None = None  # how long it took
    limit: str | None = None  # mutu baku, ISO 8601 (P1D); None where the SOP gives none
    inferred: bool = False  # the whole line is our reading
    by_inferred: bool = False  # the actor is our reading
    remark: str = ""

    @property
    def late(self) -> bool:
        """Whether it took longer than the SOP allows."""
        return (
            self.limit is not None
            and self.duration_s is not None
            and self.duration_s > indonesian.iso_duration_seconds(self.limit)
        )


@dataclass(frozen=True, kw_only=True)
class FormHeader:
    """What every form carries."""

    form_title: str  # as the SOP names the form
    number: str
    date: str  # 2026-11-22
    sop_name: str
    sop_number: str
    profile_id: str
    profile_digest: str
    run_id: str
    case_id: str
    ledger_head: str
    result: Result
    timezone: str
    check_mode: bool = False
    form_inferred: bool = False  # the SOP does not name this form
    mode: str = ""  # guard rail or control, in words
    notes: tuple[str, ...] = ()  # printed as they are
    inferred_notes: tuple[str, ...] = ()  # printed with [tafsiran]


@dataclass(frozen=True, kw_only=True)
class BackupRow:
    """One dataset's backup."""

    dataset: str
    dataset_name: str
    schedule: str
    jenis: str
    method: str
    started: str | None
    finished: str | None
    name: str
    bytes: int | None
    sha256: str
    location: str
    encryption: str
    verification: Verification
    verified_at: str | None
    tables: int | None
    rows: int | None
    result: Result
    remark: str = ""
    server: str = ""
    database: str = ""
    snapshot: str = ""


@dataclass(frozen=True, kw_only=True)
class BackupForm:
    """Formulir Pelaksanaan Back Up Data."""

    letterhead: Letterhead
    header: FormHeader
    rows: tuple[BackupRow, ...]
    steps: tuple[Step, ...]
    operator: Official
    checker: Official
    period: str = ""  # "November 2026"


@dataclass(frozen=True, kw_only=True)
class RestoreRequestForm:
    """Formulir Permintaan Restore Data."""

    letterhead: Letterhead
    header: FormHeader
    steps: tuple[Step, ...]
    unit: str
    letter_number: str
    letter_date: str | None
    asset_ids: tuple[str, ...]
    dataset: str
    dataset_name: str
    database: str
    point: str
    reason: str
    classification: str
    data_owner: str
    overwrite: bool
    requester: Official
    decider: Official
    point_time: str | None = None
    exact_data: str = ""
    other_place: str = ""  # where to restore when not over the live data
    deadline: str | None = None  # UTC time or date
    letter_sha256: str = ""
    contact: str = ""
    validator: str = ""  # who on the requester's side checks the restored data
    data_set_aside_since: str | None = None
    decision_reason: str = ""
    disposer: Official | None = None


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One check after the restore (hasil uji)."""

    name: str
    ok: bool
    expected: str = ""
    actual: str = ""


@dataclass(frozen=True, kw_only=True)
class RestoreForm:
    """Formulir Pelaksanaan Restore Data."""

    letterhead: Letterhead
    header: FormHeader
    steps: tuple[Step, ...]
    dataset: str
    dataset_name: str
    database: str
    server: str
    backup_id: str
    backup_name: str
    backup_sha256: str
    backup_time: str | None
    data_set_aside_since: str | None
    safety_copy: str
    service: str
    service_down_at: str | None
    service_up_at: str | None
    downtime_s: int | None
    max_downtime_s: int | None
    tests: tuple[CheckResult, ...]
    rollback: str  # what was done to go back; empty: not needed
    verification: Verification
    operator: Official
    checker: Official
    validator: Official | None = None
    decider: Official | None = None
    backup_verified_at: str | None = None
    safety_copy_until: str | None = None
    started: str | None = None
    finished: str | None = None
    tables: int | None = None
    rows: int | None = None
    request_number: str = ""
    requester_unit: str = ""
    failure: str = ""  # why it failed, one sentence
    remark: str = ""


Form = BackupForm | RestoreRequestForm | RestoreForm

_KINDS: dict[str, type[BackupForm] | type[RestoreRequestForm] | type[RestoreForm]] = {
    "backup": BackupForm,
    "restore-request": RestoreRequestForm,
    "restore": RestoreForm,
}
SCHEMA = "sop-form/v1"


def form_kind(form: Form) -> str:
    """``backup``, ``restore-request`` or ``restore``."""
    return next(kind for kind, cls in _KINDS.items() if isinstance(form, cls))


def form_json(form: Form) -> dict[str, Any]:
    """The form as a JSON value; ``fsio.canonical_json`` writes it."""
    plain: dict[str, Any] = msgspec.to_builtins(asdict(form))
    return {"schema": SCHEMA, "form": form_kind(form), **plain}


def form_from_json(value: Mapping[str, Any], where: str = "form.json") -> Form:
    """The form again, unknown and missing fields refused: a printed form can be made anew from the record."""
    kind = _KINDS.get(value.get("form", ""))
    if kind is None or value.get("schema") != SCHEMA:
        raise ConfigError("is not a form of this program", where=where)
    fields = {key: inner for key, inner in value.items() if key not in ("schema", "form")}
    unknown = sorted(set(fields) - set(kind.__dataclass_fields__))
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r}", where=where)
    try:
        return msgspec.convert(fields, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), where=where) from error


def render_html(form: Form, templates_dir: Path | None = None) -> str:
    """The form as one HTML page that needs no network.

    ``templates_dir`` may hold an agency's own ``backup.html.j2`` and so on; they run in Jinja's sandbox, and what is
    not there comes from the package. ConfigError names the template and line of a mistake.
    """
    environment = _environment(templates_dir)
    name = f"{form_kind(form)}.html.j2"
    context = {
        "form": form,
        "header": form.header,
        "letterhead": form.letterhead,
        "result_text": RESULT_TEXT,
        "result_tone": RESULT_TONE,
        "verification_text": VERIFICATION_TEXT,
    }
    zone_name = form.header.timezone
    environment.filters |= {
        "waktu": lambda text: _unbroken(indonesian.format_time(text, zone_name)),
        "waktu_detik": lambda text: _unbroken(indonesian.format_time(text, zone_name, seconds=True)),
        "batas": lambda text: _deadline(text, zone_name),
    }
    try:
        return environment.get_template(name).render(context)
    except jinja2.TemplateSyntaxError as error:
        place = f"{error.filename or error.name}:{error.lineno}"
        raise ConfigError(f"template: {error.message}", where=place) from error
    except jinja2.TemplateError as error:
        raise ConfigError(f"template: {error.message}", where=f"{templates_dir or 'templates'}/{name}") from error


def _environment(templates_dir: Path | None) -> ImmutableSandboxedEnvironment:
    loaders: list[jinja2.BaseLoader] = [jinja2.PackageLoader("sopctl", "templates")]
    if templates_dir is not None:
        loaders.insert(0, jinja2.FileSystemLoader(templates_dir))
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,  # every value: names, reasons and remarks come from people
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "tanggal": indonesian.format_date,
        "lama": indonesian.format_duration,
        "mutu_baku": indonesian.format_iso_duration,
        "angka": indonesian.format_number,
        "ukuran": indonesian.format_size,
        "selang": _seconds_between,
        "css": _css_string,
        "removeprefix": str.removeprefix,
    }
    return environment


def _unbroken(text: str) -> str:
    """The clock and its zone stay on one line."""
    day, pukul, clock = text.partition(" pukul ")
    return f"{day} pukul\u00a0{clock.replace(' ', chr(0xA0))}" if pukul else text


def _deadline(text: str | None, zone_name: str) -> str:
    return indonesian.format_date(text) if text and len(text) == 10 else indonesian.format_time(text, zone_name)


def _seconds_between(start: str | None, end: str | None) -> int | None:
    if not start or not end:
        return None
    return int((indonesian.parse_utc(end) - indonesian.parse_utc(start)).total_seconds())


def _css_string(text: str) -> str:
    """``text`` inside a CSS string: HTML's escapes mean nothing there."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in text)
