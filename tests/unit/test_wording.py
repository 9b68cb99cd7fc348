# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.wording: every event has its words in both languages, and what people typed stays words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sopctl
from sopctl import happenings, notifying, wording
from sopctl.blanks import RESULT_TEXT
from sopctl.happenings import NO_FACTS

FOLDER = Path(sopctl.__file__).parent / "templates/notices"
ZONE = "Asia/Jakarta"
FACTS: dict[str, Any] = {
    **NO_FACTS,
    "case": "RST-2026-0001", "datasets": ["antrean", "gaji"], "unit": "Bidang Mutasi", "requester": "Kepala Bidang Mutasi",
    "requester_id": "pemohon", "request_reason": "data terhapus", "actor": "Kepala Bidang Aptika", "reason": "sesuai",
    "text": "silakan diperiksa", "step_number": "4", "step_text": "Mematikan web service", "act": "execute", "by": "pelaksana",
    "until": "2026-11-23T03:00:00Z", "window_since": "2026-11-22T03:00:00Z", "window_until": "2026-11-22T07:00:00Z",
    "result": "gagal", "record": "RST-2026-0001-01", "server": "srv01", "at": "2026-11-22T03:00:00Z",
    "agency": "Dinas Kominfo", "reader": "Pranata Komputer", "concerned_as": "", "command": "sopctl case execute RST-2026-0001",
    "result_text": "Gagal", "attached": True,
}  # fmt: skip


def words(event: str, language: str, **changed: Any) -> wording.Text:
    return wording.write(event, language, {**FACTS, **changed}, ZONE)


@pytest.mark.parametrize("language", wording.LANGUAGES)
@pytest.mark.parametrize("event", happenings.EVENTS)
def test_every_event_says_what_happened_and_what_to_do(event: str, language: str) -> None:
    text = words(event, language)
    subject = "srv01" if event == "review" else "RST-2026-0001"
    assert text.subject.startswith(f"{subject}: ")
    assert 15 < len(text.subject) < 100
    assert "Dinas Kominfo" in text.body
    assert "sopctl " in text.body
    assert "None" not in text.body
    assert text.body != words(event, "en" if language == "id" else "id").body
    # nothing that a hand-made document lacks may stop a notice
    least = words(event, language, **{k: v for k, v in NO_FACTS.items() if k not in {"case", "server"}}, command="")
    assert least.subject


def test_both_languages_have_the_same_templates_and_no_other() -> None:
    wanted = {f"{event}.txt.j2" for event in (*happenings.EVENTS, "test", "_case", "_end")}
    for language in wording.LANGUAGES:
        assert {path.name for path in (FOLDER / language).iterdir()} == wanted
        for path in (FOLDER / language).iterdir():
            other = "en" if language == "id" else "id"
            assert f"notices/{other}/" not in path.read_text(encoding="utf-8"), path


def test_every_result_has_a_word_in_english() -> None:
    assert {*RESULT_TEXT} - {"disetujui", "menunggu", "layak", "tidak_layak"} <= {*notifying.RESULTS_EN}


def test_times_in_both_languages() -> None:
    assert wording.moment_text("2026-11-21T20:00:00Z", "id", ZONE) == "22 November 2026 pukul 03.00 WIB"
    assert wording.moment_text("2026-11-21T20:00:00Z", "en", ZONE) == "22 November 2026, 03:00 WIB"
    assert wording.moment_text("besok", "en", ZONE) == "–"


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=300))
def test_no_value_adds_a_line_or_steers_anything(evil: str) -> None:
    text = words("rejected", "en", reason=evil, request_reason="x")
    assert text.body.count("\n") == words("rejected", "en", reason="x", request_reason="x").body.count("\n")
    assert text.body.replace("\n", "").isprintable()
    assert not {"<", ">", "`", "[", "]"} & set(text.body)
    subject = words("failed", "en", result_text=evil, case=evil).subject
    assert "\n" not in subject
    assert subject.isprintable()
