# SPDX-License-Identifier: Apache-2.0
"""sopctl.forms: every field of the SOP's forms, printed safely and the Indonesian way."""

from __future__ import annotations

import html
import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sopctl import fsio
from sopctl.errors import ConfigError
from sopctl.forms import (
    RESULT_TEXT,
    CheckResult,
    Form,
    Official,
    form_from_json,
    form_json,
    render_html,
)
from tests.support.sample_forms import BACKUP, DIGEST, FORMS, HEADER, HEX, REQUEST, RESTORE, ROW, STEP


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
        if tag not in ("meta", "br", "col", "img"):
            self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.depth.pop() == tag


def without_pictures(page: str) -> str:
    """The page without its QR code, in which any two digits may stand."""
    return re.sub(r"<img[^>]*>", "", page)


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
    page = without_pictures(render_html(_evil(form)))
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "{{ 7*7 }}" in html.unescape(page)
    assert "49" not in page
    style = page[page.index("<style>") : page.index("</style>")]
    assert "alert" not in style.replace("\\", "").split("content:")[0]
    assert "\\00003c" in style  # "<" of the attack, as a CSS escape inside its string


def plain_page(form: Form) -> str:
    """The page, once it is seen to be well-formed and to need no network."""
    whole = render_html(form)
    tags = _Tags()
    tags.feed(whole)
    assert tags.depth == []
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "link", "iframe", "object", "form", "a"})
    pictures = [attributes["src"] or "" for tag, attributes in tags.found if tag == "img"]
    assert all(picture.startswith("data:image/svg+xml") for picture in pictures)
    page = without_pictures(whole)
    assert not re.search(r"https?://|url\(|@import|\bon[a-z]+=", page)
    return page


@pytest.mark.parametrize("form", FORMS, ids=WANTED.keys())
def test_the_page_is_well_formed_and_needs_no_network(form: Form) -> None:
    page = plain_page(form)
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


def test_a_restore_that_did_not_come_to_its_end_says_what_is_live_and_what_to_do() -> None:
    text = visible(replace(RESTORE, header=replace(RESTORE.header, result="sebagian")))
    assert "Berhasil sebagian" in text
    assert "Data hasil pemulihan sudah berjalan, tetapi pelaksanaan belum sampai akhir dan harus dijalankan" in text
    assert "Data lama kembali berjalan" not in text


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
    beside = visible(replace(REQUEST, overwrite=False, other_place="simpeg_uji di server db02"))
    assert "lokasi lain: simpeg_uji di server db02" in beside
    assert "akan disisihkan" not in beside
    assert "tidak ada data yang disisihkan; data yang berjalan dan layanannya tidak disentuh" in beside


def test_a_request_says_how_much_is_set_aside_and_where_it_stays() -> None:
    text = visible(
        replace(REQUEST, backup_age_s=3 * 86400 + 4 * 3600, kept_as="simpeg__before_rst20260001", kept_days=7)
    )
    assert "akan disisihkan (tidak dihapus); backup berumur 3 hari 4 jam saat disetujui" in text
    assert "seluruh data lama disimpan sebagai simpeg__before_rst20260001, sekurangnya 7 hari setelah restore" in text
    in_place = visible(
        replace(REQUEST, in_place=True, kept_as="back up pengaman di vault, periode rst-2026-0001-safety")
    )
    assert "menimpa data yang berjalan di tempat (tanpa salinan di sampingnya)" in in_place
    assert "seluruh data lama disimpan sebagai back up pengaman di vault" in in_place
    assert "layanan mati selama back up pengaman dan pemuatan" in in_place


def test_a_restore_to_another_place_touched_nothing() -> None:
    done = replace(
        RESTORE, other_place="/srv/salinan di server srv02", data_set_aside_since=None, safety_copy="",
        safety_copy_until=None, service="", service_down_at=None, service_up_at=None, downtime_s=None, max_downtime_s=None,
    )  # fmt: skip
    text = visible(done)
    assert "Dipulihkan ke lokasi lain; data yang berjalan dan layanannya tidak disentuh." in text
    for words in ("Lokasi lain /srv/salinan di server srv02", "Layanan tidak dihentikan", "Lama layanan mati tidak ada",
                  "Salinan pengaman tidak diperlukan", "Data yang disisihkan tidak ada"):  # fmt: skip
        assert words in text, words
    failed = visible(replace(done, header=replace(done.header, result="gagal")))
    assert "Data yang berjalan dan layanannya tidak disentuh." in failed
    assert "Dipulihkan ke lokasi lain" not in failed
    assert "Cara di tempat: back up pengaman ke vault" in visible(replace(RESTORE, in_place=True))


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
