# SPDX-License-Identifier: Apache-2.0
"""The SOP's blank forms: what stands on each, as frozen values. ``forms`` reads, writes and prints them.

Times are UTC (``2026-11-22T03:00:00Z``), dates ``2026-11-22``, durations whole seconds, sizes bytes, time limits ISO
8601. What is our reading and not the SOP's text carries ``inferred``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sopctl import indonesian

Result = Literal[
    "berhasil",
    "sebagian",
    "gagal",
    "gagal_dikembalikan",
    "gagal_layanan_mati",
    "disetujui",
    "ditolak",
    "menunggu",
    "layak",
    "tidak_layak",
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
    "layak": "Layak dilaksanakan",
    "tidak_layak": "Tidak layak dilaksanakan",
}
RESULT_TONE: dict[str, str] = {
    "berhasil": "good",
    "disetujui": "good",
    "layak": "good",
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

    ``delegate`` is ``Plt.`` or ``Plh.`` where the person stands in for the office. ``on_paper``: they signed a PDF, which was
    printed ``at`` that time.
    """

    role_title: str
    jabatan: str = ""
    name: str = ""
    nip: str | None = None
    person: str = ""
    at: str | None = None
    delegate: str = ""
    key_fingerprint: str = ""
    on_paper: bool = False


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
    until: str | None = None  # when the limit ended, in the agency's working time

    @property
    def late(self) -> bool:
        """Whether it took longer than the SOP allows."""
        if self.until is not None:
            return self.at is not None and self.at > self.until
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
    emergency: str = ""  # why this went before approval, and what the decider said of it


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the plan expected and what came of it (perkiraan / kenyataan). ``unit`` says what the numbers count."""

    label: str  # "Lama pelaksanaan"
    unit: Literal["detik", "byte"]
    predicted: int | None
    actual: int | None
    dataset: str = ""
    basis: str = ""  # what the prediction rests on

    @property
    def exceeded(self) -> bool:
        """Whether it came to more than was expected."""
        return self.predicted is not None and self.actual is not None and self.actual > self.predicted


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
    expected: tuple[Expectation, ...] = ()  # the plan against what came, where there was a plan


@dataclass(frozen=True, kw_only=True)
class Specified:
    """One line of a request's specification list, in the requester's words."""

    dataset: str
    server: str
    application: str
    data: str
    size: str


@dataclass(frozen=True, kw_only=True)
class RestoreRequestForm:
    """Formulir Permintaan Restore Data, or the request letter's data where the SOP has no form for it."""

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
    in_place: bool = False  # replaced where it lies: the old data goes to the vault first
    backup_age_s: int | None = None  # how old the backup was when that was decided
    kept_as: str = ""  # where the data that is set aside will lie
    kept_days: int | None = None
    decision_reason: str = ""
    disposer: Official | None = None
    operation: Literal["backup", "restore"] = "restore"
    specification: tuple[Specified, ...] = ()  # the requester's own list
    consent: Official | None = None  # the owner of the data, where another unit asks for it


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
    expected: tuple[Expectation, ...] = ()  # the plan against what came, where there was a plan
    other_place: str = ""  # where it was restored, when not over the live data
    in_place: bool = False  # replaced where it lay, after a safety backup


@dataclass(frozen=True, kw_only=True)
class CleanRow:
    """One kept copy that was to be dropped. ``bytes`` is None where nothing tells its size."""

    dataset: str
    dataset_name: str
    server: str
    copy: str  # what it was, in words
    name: str
    bytes: int | None
    kept_until: str
    record: str  # of the restore that set it aside
    result: Result
    remark: str = ""


@dataclass(frozen=True, kw_only=True)
class CleanForm:
    """Berita acara penghapusan salinan pengaman: what was dropped, by whom, after whose confirmation."""

    letterhead: Letterhead
    header: FormHeader
    rows: tuple[CleanRow, ...]
    operator: Official
    checker: Official  # who had taken the restore as done
    started: str | None = None
    finished: str | None = None
    ordered: str = ""  # file name and digest of the document that ordered it


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One dataset of a plan. ``place`` is where its copy is staged (restore) or proven (backup); ``needs`` must fit
    there beside ``reserve``. None is what could not be looked at."""

    dataset: str
    dataset_name: str
    operation: Literal["backup", "restore"]
    server: str
    bytes: int | None
    place: str
    free: int | None
    needs: int | None
    predicted_s: int | None
    basis: str  # what the prediction rests on
    reserve: int = 0
    vault_free: int | None = None
    predicted_downtime_s: int | None = None
    max_downtime_s: int | None = None
    database: str = ""
    backup_name: str = ""
    backup_time: str | None = None
    services: tuple[str, ...] = ()  # what depends on it
    remark: str = ""

    @property
    def fits(self) -> bool | None:
        """Whether the copy fits; None where the room is not known."""
        if self.free is None or self.needs is None:
            return None
        return self.free >= self.needs + self.reserve


@dataclass(frozen=True, kw_only=True)
class PlanForm:
    """Perencanaan: target, ukuran, kapasitas tersedia, perkiraan lama, jendela waktu, personil, risiko."""

    letterhead: Letterhead
    header: FormHeader
    steps: tuple[Step, ...]
    rows: tuple[PlanRow, ...]
    window_start: str | None
    window_end: str | None
    personnel: tuple[Official, ...]
    risks: tuple[str, ...]
    planner: Official
    approver: Official | None = None
    window_note: str = ""
    vault: str = ""  # where the vault lies
    reasons: tuple[str, ...] = ()  # why it does not fit
    request_number: str = ""
    requester_unit: str = ""

    @property
    def predicted_s(self) -> int | None:
        """All datasets one after the other; None when one of them is not predicted."""
        known = [row.predicted_s for row in self.rows if row.predicted_s is not None]
        return sum(known) if known and len(known) == len(self.rows) else None
