# SPDX-License-Identifier: Apache-2.0
"""One form of each kind with every field filled, for tests of how forms look."""

from __future__ import annotations

from dataclasses import replace

from sopctl.forms import (
    BackupForm,
    BackupRow,
    CheckResult,
    Form,
    FormHeader,
    Letterhead,
    Official,
    RestoreForm,
    RestoreRequestForm,
    Step,
)

HEX = "3f" * 32
DIGEST = f"sha256:{HEX}"
LETTERHEAD = Letterhead(
    agency="Dinas Contoh", government="Pemerintah Contoh", address="Jalan Contoh 1", city="Contohan"
)
HEADER = FormHeader(
    form_title="Formulir Pelaksanaan Back Up Data",
    number="001/BKP/XI/2026",
    date="2026-11-22",
    sop_name="Back Up/Restore Data",
    sop_number="060/ 017 /406.020/2023",
    profile_id="trenggalek-060-017-2023",
    profile_digest=DIGEST,
    run_id="RUN-2026-0011",
    case_id="BKP-2026-0011",
    ledger_head=f"42@{DIGEST}",
    result="berhasil",
    timezone="Asia/Jakarta",
    mode="pagar pengaman",
)
OPERATOR = Official(
    role_title="Pelaksana",
    jabatan="Pranata Komputer",
    name="Petugas Contoh",
    nip="199001012015011001",
    person="petugas",
    at="2026-11-21T20:11:00Z",
    key_fingerprint="SHA256:abcdef",
)
CHECKER = Official(role_title="Kabid Aptika", jabatan="Kepala Bidang", name="Kabid Contoh", delegate="Plt.")
STEP = Step(
    number="6",
    text="Mengaktifkan kembali web service",
    by="Pelaksana",
    person="Petugas Contoh",
    at="2026-11-21T20:05:00Z",
    duration_s=123,
    limit="P1D",
    remark="sesuai",
)
ROW = BackupRow(
    dataset="simpeg",
    dataset_name="Kepegawaian",
    schedule="bulanan",
    jenis="penuh",
    method="pg_dump -Fc -Z0 | restic",
    started="2026-11-21T20:00:00Z",
    finished="2026-11-21T20:02:03Z",
    name="contoh_db01_simpeg_202611",
    bytes=1_234_500_000,
    sha256=DIGEST,
    location="vault01",
    encryption="AES-256",
    verification="berhasil",
    verified_at="2026-11-21T20:05:00Z",
    tables=84,
    rows=1_234_567,
    result="berhasil",
    remark="catatan baris",
    server="db01",
    database="simpegdb",
    snapshot="a1b2c3",
)
BACKUP = BackupForm(
    letterhead=LETTERHEAD,
    header=HEADER,
    rows=(ROW,),
    steps=(STEP,),
    operator=OPERATOR,
    checker=CHECKER,
    period="November 2026",
)
REQUEST = RestoreRequestForm(
    letterhead=LETTERHEAD,
    header=replace(HEADER, form_title="Formulir Permintaan Restore Data", result="disetujui"),
    steps=(STEP,),
    unit="Badan Contoh",
    letter_number="800/123",
    letter_date="2026-11-20",
    asset_ids=("srv-a", "srv-b"),
    dataset="simpeg",
    dataset_name="Kepegawaian",
    database="simpegdb",
    point="data terbaru",
    reason="baris terhapus",
    classification="terbatas",
    data_owner="Pemilik Contoh",
    overwrite=True,
    requester=OPERATOR,
    decider=CHECKER,
    point_time="2026-11-21T20:00:00Z",
    exact_data="tabel riwayat",
    deadline="2026-11-24",
    letter_sha256=DIGEST,
    contact="pesawat 104",
    validator="Validator Contoh",
    data_set_aside_since="2026-11-21T20:00:00Z",
    decision_reason="kewenangan sesuai",
    disposer=OPERATOR,
)
RESTORE = RestoreForm(
    letterhead=LETTERHEAD,
    header=replace(HEADER, form_title="Formulir Pelaksanaan Restore Data"),
    steps=(STEP,),
    dataset="simpeg",
    dataset_name="Kepegawaian",
    database="simpegdb",
    server="db01",
    backup_id="a1b2c3",
    backup_name="contoh_db01_simpeg_202611",
    backup_sha256=DIGEST,
    backup_time="2026-11-21T20:00:00Z",
    data_set_aside_since="2026-11-21T20:00:00Z",
    safety_copy="simpeg__before_rst20260001",
    service="simpeg-web",
    service_down_at="2026-11-22T03:00:12Z",
    service_up_at="2026-11-22T03:00:15Z",
    downtime_s=3,
    max_downtime_s=1800,
    tests=(CheckResult(name="jumlah baris", ok=True, expected="84", actual="84"),),
    rollback="",
    verification="berhasil",
    operator=OPERATOR,
    checker=CHECKER,
    validator=CHECKER,
    decider=CHECKER,
    backup_verified_at="2026-11-21T20:05:00Z",
    safety_copy_until="2026-11-29T03:00:00Z",
    started="2026-11-22T02:58:00Z",
    finished="2026-11-22T03:01:00Z",
    tables=84,
    rows=1_234_567,
    request_number="001/RST",
    requester_unit="Badan Contoh",
    remark="keterangan pulih",
)
FORMS: list[Form] = [BACKUP, REQUEST, RESTORE]
