# SPDX-License-Identifier: Apache-2.0
"""sopctl.forms and sopctl.indonesian: every field of the SOP's forms, printed safely and the Indonesian way."""

from __future__ import annotations

import html
import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sopctl import fsio, indonesian
from sopctl.errors import ConfigError
from sopctl.forms import (
    RESULT_TEXT,
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
    form_from_json,
    form_json,
    render_html,
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


def visible(form: Form, templates: Path | None = None) -> str:
    """The page's text as a reader sees it, spaces normalised."""
    page = re.sub(r"<(style|title).*?</\1>", "", render_html(form, templates), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


# -- fields ------------------------------------------------------------------------------------------------------------

EVERYWHERE = [
    "PEMERINTAH CONTOH", "Dinas Contoh", "Nomor: 001/BKP/XI/2026", "22 November 2026", "060/ 017 /406.020/2023",
    "trenggalek-060-017-2023", DIGEST, "RUN-2026-0011", "BKP-2026-0011", f"42@{DIGEST}", "Petugas Contoh", "Pranata Komputer",
    "NIP 199001012015011001", "Kabid Contoh", "Plt. Kepala Bidang", "Contohan, 22 November 2026", "pagar pengaman",
    "Mengaktifkan kembali web service", "2 menit 3 detik", "mutu baku 1 hari", "SHA256:abcdef",
]  # fmt: skip
WANTED = {
    "backup": [
        "FORMULIR PELAKSANAAN BACK UP DATA", "Kepegawaian", "simpegdb", "db01", "bulanan", "penuh", "pg_dump -Fc -Z0 | restic",
        "22 November 2026 pukul 03.00 WIB", "22 November 2026 pukul 03.02 WIB", "contoh_db01_simpeg_202611", "1.234,5 MB",
        "1.234.500.000 byte", HEX, "vault01", "AES-256", "verifikasi: berhasil", "84 tabel", "1.234.567 baris", "catatan baris",
        "Petugas", "Pemeriksa", "1 dari 1 objek berhasil", "Periode", "November 2026",
    ],
    "restore-request": [
        "Badan Contoh", "800/123", "20 November 2026", "srv-a, srv-b", "simpegdb", "data terbaru", "baris terhapus", "terbatas",
        "Pemilik Contoh", "menimpa data yang berjalan", "24 November 2026", "Disetujui", "kewenangan sesuai", "pesawat 104",
        "tabel riwayat", "Validator Contoh", "data sejak 22 November 2026 pukul 03.00 WIB akan disisihkan", "Disposisi", HEX,
    ],
    "restore": [
        "a1b2c3", "contoh_db01_simpeg_202611", HEX, "simpeg__before_rst20260001", "29 November 2026 pukul 10.00 WIB",
        "22 November 2026 pukul 10.00.12 WIB", "22 November 2026 pukul 10.00.15 WIB", "3 detik", "30 menit", "jumlah baris",
        "tidak diperlukan", "ata sejak 22 November 2026 pukul 03.00 WIB disisihkan", "simpeg-web", "Validasi", "001/RST",
        "Badan Contoh", "keterangan pulih", "Petugas validasi", "Pemberi persetujuan",
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=WANTED.keys())
def test_every_field_of_the_paper_form_is_printed(form: Form) -> None:
    text = visible(form).lower()
    kind = form_json(form)["form"]
    missing = [want for want in EVERYWHERE + WANTED[kind] if want.lower() not in text]
    assert missing == []


@pytest.mark.parametrize("form", FORMS, ids=WANTED.keys())
def test_json_holds_every_field_and_gives_the_same_page_again(form: Form) -> None:
    value = form_json(form)
    assert {field.name for field in fields(form)} <= set(value)
    written = fsio.canonical_json(value)
    again = form_from_json(fsio.parse_json_strict(written, "form.json"))
    assert again == form
    assert render_html(again) == render_html(form)


def test_a_foreign_or_altered_form_is_refused() -> None:
    value = form_json(BACKUP)
    for broken, why in [
        ({**value, "extra": 1}, "unknown key 'extra'"),
        ({**value, "schema": "x"}, "is not a form"),
        ({**value, "form": "other"}, "is not a form"),
        ({**value, "rows": 5}, "Expected"),
        ({key: inner for key, inner in value.items() if key != "rows"}, "rows"),
        ({**value, "header": {**value["header"], "result": "mungkin"}}, "mungkin"),
    ]:
        with pytest.raises(ConfigError, match=why):
            form_from_json(broken)


# -- safety ------------------------------------------------------------------------------------------------------------


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.depth: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "col"):
            self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.depth.pop() == tag


EVIL = "</style><script>alert(1)</script>{{ 7*7 }}\"'&\\ }"


def _evil(form: Form) -> Form:
    """Every free text replaced by an attack."""

    def swap(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {name: swap(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [swap(inner, key) for inner in value]
        kept = {
            "schema",
            "form",
            "result",
            "verification",
            "timezone",
            "date",
            "limit",
            "deadline",
            "letter_date",
            "operation",
        }
        is_time = isinstance(value, str) and re.fullmatch(r"\d{4}-.*Z", value)
        return value if key in kept or is_time or not isinstance(value, str) else EVIL

    changed = swap(json.loads(json.dumps(form_json(form))))
    assert isinstance(changed, dict)
    return form_from_json(changed)


@pytest.mark.parametrize("form", FORMS, ids=WANTED.keys())
def test_no_text_becomes_markup_script_or_style(form: Form) -> None:
    page = render_html(_evil(form))
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "{{ 7*7 }}" in html.unescape(page)
    assert "49" not in page
    style = page[page.index("<style>") : page.index("</style>")]
    assert "alert" not in style.replace("\\", "").split("content:")[0]
    assert "\\00003c" in style  # "<" of the attack, as a CSS escape inside its string


@pytest.mark.parametrize("form", FORMS, ids=WANTED.keys())
def test_the_page_is_well_formed_and_needs_no_network(form: Form) -> None:
    page = render_html(form)
    tags = _Tags()
    tags.feed(page)
    assert tags.depth == []
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "link", "img", "iframe", "object", "form", "a"})
    assert not re.search(r"https?://|url\(|@import|\bon[a-z]+=", page)
    assert "default-src 'none'" in page
    assert 'lang="id"' in page
    assert "size: A4" in page


# -- what must be seen -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", RESULT_TEXT)
def test_the_result_is_said_in_words_not_only_in_colour(result: str) -> None:
    value = form_json(RESTORE)
    value["header"]["result"] = result
    assert RESULT_TEXT[result] in visible(form_from_json(value))


def test_a_restore_that_went_back_sets_no_data_aside() -> None:
    form = replace(
        RESTORE, header=replace(RESTORE.header, result="gagal_dikembalikan"), failure="layanan tidak sehat",
        rollback="data lama dikembalikan", verification="tidak_berhasil",
        tests=(CheckResult(name="sehat", ok=False, expected="200", actual="503"),),
    )  # fmt: skip
    text = visible(form)
    for want in (
        "Gagal, dikembalikan",
        "layanan tidak sehat",
        "data lama dikembalikan",
        "Data lama kembali berjalan",
        "503",
    ):
        assert want in text
    assert "disisihkan." in text
    assert "Data sejak" not in text
    assert text.count("tidak berhasil") == 2


def test_broken_time_limits_are_shown() -> None:
    assert "melewati batas waktu" not in visible(RESTORE)
    late = replace(RESTORE, steps=(replace(STEP, duration_s=86_401),), downtime_s=1801)
    assert "melewati batas waktu" in visible(late)
    assert visible(late).count("terlampaui") == 2
    assert not replace(STEP, limit=None, duration_s=10**6).late


def test_our_reading_is_marked_and_the_sops_text_is_not() -> None:
    assert visible(BACKUP).count("[tafsiran]") == 1  # the legend at the foot
    marked = replace(
        BACKUP,
        header=replace(HEADER, form_inferred=True, notes=("catatan biasa",), inferred_notes=("diisi pada langkah 6",)),
        steps=(STEP, replace(STEP, text="Langkah tambahan", inferred=True, by_inferred=True)),
    )
    text = visible(marked)
    assert "FORMULIR PELAKSANAAN BACK UP DATA [TAFSIRAN]" in text.upper()
    assert "[tafsiran] Langkah tambahan" in text
    assert "Pelaksana [tafsiran]" in text
    assert "[tafsiran] diisi pada langkah 6" in text
    assert "[tafsiran] catatan biasa" not in text


def test_a_form_not_yet_checked_has_an_empty_place() -> None:
    text = visible(replace(BACKUP, checker=Official(role_title="Kabid Aptika")))
    assert "Pemeriksa Kabid Aptika" in text
    assert text.count("belum ditandatangani") == 1
    assert visible(BACKUP).count("belum ditandatangani") == 1  # a name without a time is no signature


def test_a_simulation_says_so_and_is_no_evidence() -> None:
    assert "SIMULASI" not in visible(BACKUP)
    text = visible(replace(BACKUP, header=replace(HEADER, check_mode=True), rows=()))
    assert "SIMULASI (check mode)" in text
    assert "Simulasi: Berhasil" in text
    assert 'class="result good"' not in render_html(replace(BACKUP, header=replace(HEADER, check_mode=True)))


def test_unknown_values_print_a_dash_and_never_fail() -> None:
    bare = replace(
        ROW,
        started=None,
        finished=None,
        bytes=None,
        tables=None,
        rows=None,
        verified_at=None,
        verification="belum",
        result="gagal",
        name="",
        sha256="",
        remark="pg_dump berakhir dengan kode 1",
    )
    text = visible(replace(BACKUP, rows=(bare,), header=replace(HEADER, result="gagal")))
    assert "belum diverifikasi" in text
    assert "Tidak berhasil: simpeg." in text
    assert "None" not in text
    empty = replace(
        RESTORE,
        backup_time=None,
        data_set_aside_since=None,
        service_down_at=None,
        service_up_at=None,
        downtime_s=None,
        max_downtime_s=None,
        tests=(),
        validator=None,
        decider=None,
        safety_copy_until=None,
        backup_verified_at=None,
        started=None,
        finished=None,
        tables=None,
        rows=None,
    )
    assert "None" not in visible(empty)
    assert "Belum ada uji" in visible(empty)


def test_forty_rows_with_long_names_are_all_there() -> None:
    rows = tuple(replace(ROW, dataset=f"d{n}", dataset_name="N" * 80, name=f"{n}-" + "x" * 80) for n in range(40))
    text = visible(replace(BACKUP, rows=rows))
    assert "40 dari 40 objek berhasil" in text
    assert all(f"{n}-{'x' * 80}" in text for n in range(40))


def test_a_rejected_request_sets_nothing_aside() -> None:
    text = visible(
        replace(REQUEST, header=replace(REQUEST.header, result="ditolak"), decision_reason="bukan pemilik data")
    )
    assert "Keputusan Ditolak bukan pemilik data" in text
    assert "akan disisihkan" not in text
    beside = visible(replace(REQUEST, overwrite=False, other_place="simpeg_uji"))
    assert "lokasi lain: simpeg_uji" in beside
    assert "disisihkan" not in beside


# -- an agency's own templates -----------------------------------------------------------------------------------------


def test_an_agencys_template_replaces_ours_and_runs_in_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "backup.html.j2").write_text("{% extends '_base.html.j2' %}{% block why %}punya kami{% endblock %}")
    assert "punya kami" in visible(BACKUP, tmp_path)
    assert "Hasil uji" in visible(RESTORE, tmp_path)
    for text, why in [
        ("{{ ''.__class__.__mro__ }}", "template"),
        ("{{ form.nothing }}", "template: .*nothing"),
        ("a\n{% if %}", r"backup.html.j2:2"),
        ("{{ header.__init__.__globals__ }}", "template"),
    ]:
        (tmp_path / "backup.html.j2").write_text(text)
        with pytest.raises(ConfigError, match=why):
            render_html(BACKUP, tmp_path)


# -- the Indonesian way ------------------------------------------------------------------------------------------------


def test_times_in_the_three_zones_and_elsewhere() -> None:
    at = "2026-12-31T17:30:05Z"
    assert indonesian.format_time(at, "Asia/Jakarta") == "1 Januari 2027 pukul 00.30 WIB"
    assert indonesian.format_time(at, "Asia/Makassar") == "1 Januari 2027 pukul 01.30 WITA"
    assert indonesian.format_time(at, "Asia/Jayapura", seconds=True) == "1 Januari 2027 pukul 02.30.05 WIT"
    assert indonesian.format_time(at, "UTC") == "31 Desember 2026 pukul 17.30 UTC"
    assert indonesian.format_time(None, "UTC") == "–"
    for name in ("Asia/Nowhere", "../etc/passwd", "/etc/passwd", ""):
        with pytest.raises(ConfigError, match="time zone"):
            indonesian.format_time(at, name)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "kurang dari 1 detik"), (1, "1 detik"), (123, "2 menit 3 detik"), (3600, "1 jam"),
     (3661, "1 jam 1 menit"), (90_061, "1 hari 1 jam"), (86_400 * 1500, "1.500 hari")],
)  # fmt: skip
def test_durations(seconds: int | None, text: str) -> None:
    assert indonesian.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds", "printed"),
    [("P1D", 86_400, "1 hari"), ("PT15M", 900, "15 menit"), ("PT1H30M", 5400, "1 jam 30 menit"), ("P1M", 2_592_000, "1 bulan"),
     ("P1W", 604_800, "1 minggu")],
)  # fmt: skip
def test_time_limits(text: str, seconds: int, printed: str) -> None:
    assert indonesian.iso_duration_seconds(text) == seconds
    assert indonesian.format_iso_duration(text) == printed


@pytest.mark.parametrize("text", ["", "P", "PT", "1D", "P1Y", "P1.5D", "P-1D"])
def test_what_is_no_time_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        indonesian.iso_duration_seconds(text)


@pytest.mark.parametrize(
    ("octets", "text"),
    [(None, "–"), (0, "0 byte"), (9999, "9.999 byte"), (10_000, "10,0 kB"), (1_234_500_000, "1.234,5 MB"),
     (9_999_949_999, "9.999,9 MB"), (9_999_950_000, "10,0 GB"), (10**13, "10,0 TB")],
)  # fmt: skip
def test_sizes(octets: int | None, text: str) -> None:
    assert indonesian.format_size(octets) == text
