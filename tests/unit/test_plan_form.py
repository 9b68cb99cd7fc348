# SPDX-License-Identifier: Apache-2.0
"""Covers the form Perencanaan, and "perkiraan / kenyataan" on the execution forms: every field printed, safely."""

from __future__ import annotations

from dataclasses import fields, replace
from html import unescape

import pytest

from sopctl import fsio
from sopctl.errors import ConfigError
from sopctl.forms import (
    BackupForm,
    Expectation,
    Form,
    PlanForm,
    PlanRow,
    RestoreForm,
    form_from_json,
    form_json,
    render_html,
)
from tests.support.sample_forms import BACKUP, CHECKER, HEADER, LETTERHEAD, OPERATOR, RESTORE, STEP
from tests.unit.test_forms import _evil, plain_page, visible, without_pictures

ROW = PlanRow(
    dataset="simpeg",
    dataset_name="Kepegawaian",
    operation="restore",
    server="db01",
    bytes=1_234_500_000,
    place="/var/lib/postgresql",
    free=40_000_000_000,
    needs=2_716_000_000,
    predicted_s=754,
    basis="rata-rata 3 catatan terakhir, 35,2 MB/detik",
    reserve=268_000_000,
    vault_free=900_000_000_000,
    predicted_downtime_s=4,
    max_downtime_s=1800,
    database="simpegdb",
    backup_name="contoh_db01_simpeg_202611",
    backup_time="2026-11-21T20:00:00Z",
    services=("web01/simpeg-web",),
    remark="catatan baris",
)
PLAN = PlanForm(
    letterhead=LETTERHEAD,
    header=replace(HEADER, form_title="Perencanaan", result="layak", run_id=""),
    steps=(STEP,),
    rows=(ROW,),
    window_start="2026-11-22T11:00:00Z",
    window_end="2026-11-22T13:00:00Z",
    personnel=(OPERATOR, CHECKER),
    risks=("data sejak 22 November 2026 akan disisihkan",),
    planner=OPERATOR,
    approver=CHECKER,
    window_note="di luar jam layanan",
    vault="vault01:/srv/vault",
    reasons=(),
    request_number="800/12/2026",
    requester_unit="Badan Contoh",
)
EXPECTED = (
    Expectation(label="Lama pelaksanaan", unit="detik", predicted=754, actual=812, dataset="simpeg", basis="3 catatan"),
    Expectation(label="Layanan mati", unit="detik", predicted=5, actual=3),
    Expectation(label="Ukuran data", unit="byte", predicted=20_000, actual=20_000),
    Expectation(label="Lama salinan", unit="detik", predicted=None, actual=7),
)
FORMS: list[Form] = [PLAN, replace(RESTORE, expected=EXPECTED), replace(BACKUP, expected=EXPECTED)]
NAMES = ["plan", "restore", "backup"]


def test_every_field_of_the_paper_form_is_printed() -> None:
    text = visible(PLAN).lower()
    wanted = [
        "PERENCANAAN", "Dinas Contoh", "Kepegawaian", "simpegdb", "server db01", "1.234,5 MB", "/var/lib/postgresql",
        "tersedia 40,0 GB", "perlu 2.716,0 MB", "harus tersisa 268,0 MB", "muat", "900,0 GB", "web01/simpeg-web",
        "12 menit 34 detik", "layanan mati 4 detik, batas 30 menit", "35,2 MB/detik", "catatan baris",
        "contoh_db01_simpeg_202611", "22 November 2026 pukul 03.00 WIB", "22 November 2026 pukul 18.00 WIB",
        "22 November 2026 pukul 20.00 WIB (lama 2 jam)", "di dalam jendela waktu", "di luar jam layanan",
        "Petugas Contoh", "Pranata Komputer", "Plt. Kepala Bidang", "akan disisihkan", "vault01:/srv/vault",
        "Layak dilaksanakan", "1 dari 1 objek muat", "800/12/2026, Badan Contoh", "Penyusun rencana", "Mengetahui",
        "Mengaktifkan kembali web service", "mutu baku 1 hari", "Contohan, 22 November 2026", "SHA256:abcdef",
    ]  # fmt: skip
    assert [want for want in wanted if want.lower() not in text] == []


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_json_holds_every_field_and_gives_the_same_page_again(form: Form) -> None:
    value = form_json(form)
    assert {field.name for field in fields(form)} <= set(value)
    again = form_from_json(fsio.parse_json_strict(fsio.canonical_json(value), "form.json"))
    assert again == form
    assert render_html(again) == render_html(form)


def test_forms_from_before_there_were_plans_are_still_read() -> None:
    for form in (RESTORE, BACKUP):
        value = form_json(form)
        del value["expected"]
        assert form_from_json(value) == form
        assert "Perkiraan" not in visible(form)


def test_an_altered_plan_is_refused() -> None:
    value = form_json(PLAN)
    for broken, why in [
        ({**value, "rows": [{**value["rows"][0], "operation": "drop"}]}, "drop"),
        ({**value, "rows": [{**value["rows"][0], "needs": "much"}]}, "int"),
        ({key: inner for key, inner in value.items() if key != "planner"}, "planner"),
        ({**value, "personil": []}, "unknown key 'personil'"),
    ]:
        with pytest.raises(ConfigError, match=why):
            form_from_json(broken)


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_no_text_becomes_markup_script_or_style(form: Form) -> None:
    value = form_json(_evil_but_choices(form))
    page = without_pictures(render_html(form_from_json(value)))
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert "{{ 7*7 }}" in unescape(page)
    assert "49" not in page


def _evil_but_choices(form: Form) -> Form:
    """The attack of the other forms; an operation and a unit are choices and no free text."""
    if isinstance(form, PlanForm):
        base = _evil(replace(form, rows=()))
        assert isinstance(base, PlanForm)
        text = base.planner.name
        return replace(base, rows=(replace(ROW, dataset_name=text, basis=text, place=text, services=(text,)),))
    assert isinstance(form, BackupForm | RestoreForm)
    other = _evil(replace(form, expected=()))
    assert isinstance(other, BackupForm | RestoreForm)
    return replace(other, expected=tuple(replace(one, label=LT, basis=LT) for one in EXPECTED))


LT = "<script>alert(1)</script>"


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_the_page_is_well_formed_and_needs_no_network(form: Form) -> None:
    plain_page(form)


# -- what must be seen -------------------------------------------------------------------------------------------------


def test_a_plan_that_does_not_fit_says_so_with_its_numbers() -> None:
    short = replace(ROW, free=400_000_000, needs=1_200_000_000)
    form = replace(
        PLAN,
        header=replace(PLAN.header, result="tidak_layak"),
        rows=(ROW, short),
        reasons=("simpeg: ruang perlu 1,2 GB, tersedia 0,4 GB",),
    )
    text = visible(form)
    assert "Tidak layak dilaksanakan simpeg: ruang perlu 1,2 GB, tersedia 0,4 GB" in text
    assert "1 dari 2 objek muat" in text
    assert "tidak muat" in text
    assert 'class="result bad"' in render_html(form)
    assert short.fits is False
    assert replace(short, free=short.needs).fits is False  # the reserve must stay


def test_what_is_not_known_prints_so_and_never_fails() -> None:
    bare = replace(
        ROW, bytes=None, free=None, needs=None, vault_free=None, predicted_s=None, predicted_downtime_s=None,
        max_downtime_s=None, place="", basis="", services=(), backup_name="", backup_time=None, remark="",
    )  # fmt: skip
    form = replace(
        PLAN, rows=(bare,), window_start=None, window_end=None, personnel=(), risks=(), approver=None, vault="",
        window_note="", request_number="", requester_unit="",
    )  # fmt: skip
    text = visible(form)
    assert "None" not in text
    for want in ("tidak dapat diperiksa", "tidak diketahui", "Belum ada personil", "Tidak ada risiko khusus"):
        assert want in text
    assert "0 dari 1 objek muat dalam kapasitas yang tersedia; 1 tidak dapat diperiksa" in text
    assert "Mengetahui" not in text
    assert bare.fits is None
    assert form.predicted_s is None
    assert "Tidak ada objek" in visible(replace(PLAN, rows=()))


def test_times_that_are_too_long_are_shown() -> None:
    slow = replace(ROW, predicted_s=7201, predicted_downtime_s=1801)
    text = visible(replace(PLAN, rows=(slow,)))
    assert "lebih lama dari jendela waktu" in text
    assert "batas 30 menit terlampaui" in text
    both = replace(PLAN, rows=(ROW, replace(ROW, predicted_s=6447)))
    assert both.predicted_s == 7201
    assert "lebih lama dari jendela waktu" in visible(both)


@pytest.mark.parametrize("form", FORMS[1:], ids=NAMES[1:])
def test_expected_and_actual_stand_side_by_side(form: Form) -> None:
    text = visible(form)
    assert "Perkiraan dan kenyataan No. Hal Perkiraan Kenyataan Selisih" in text
    assert "1 Lama pelaksanaan simpeg 12 menit 34 detik 3 catatan 13 menit 32 detik lebih 58 detik" in text
    assert "2 Layanan mati 5 detik 3 detik kurang 2 detik" in text
    assert "3 Ukuran data 20,0 kB 20,0 kB sesuai perkiraan" in text
    assert "4 Lama salinan – 7 detik –" in text
    steps = "E. Langkah SOP" if form_json(form)["form"] == "restore" else "C. Langkah SOP"
    assert steps in text
    assert [one.exceeded for one in EXPECTED] == [True, False, False, False]
