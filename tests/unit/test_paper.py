# SPDX-License-Identifier: Apache-2.0
"""Forms as PDF: all that the page says is on the paper, nothing is cut, the data is inside, and the archive can keep it."""

from __future__ import annotations

import html as markup
import io
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pikepdf
import pypdfium2
import pytest

from sopctl import fsio, paper
from sopctl.blanks import BackupForm, CleanForm, PlanForm
from sopctl.forms import Form, form_json, render_html
from tests.support.sample_forms import BACKUP, FORMS, ROW

LONG = "Nama Contoh Yang Sangat Panjang Dengan Gelar Dan Seterusnya Sampai Delapan Puluh"[:80]
MILLIMETRE = 72 / 25.4
ROWS = 200


def printed(form: Form) -> bytes:
    return paper.pdf(render_html(form), fsio.canonical_json(form_json(form)), form.header.date)


def many(form: Form) -> Form:
    """The same with 200 rows, and names of 80 characters wherever somebody signs."""
    more: dict[str, Any] = {
        name: replace(official, name=LONG, jabatan=LONG)
        for name in form.__dataclass_fields__
        if hasattr(official := getattr(form, name), "jabatan")
    }
    if isinstance(form, BackupForm | PlanForm | CleanForm):
        more["rows"] = form.rows[:1] * ROWS
    return replace(form, **more)


def pages(data: bytes) -> Iterator[pypdfium2.PdfPage]:
    document = pypdfium2.PdfDocument(data)
    for number in range(len(document)):
        yield document[number]


def text(data: bytes) -> str:
    """What stands on the paper, without any space: lines are broken elsewhere than in the page."""
    said = "".join(page.get_textpage().get_text_bounded() for page in pages(data))
    return re.sub(r"[\s\ufffe\u00ad-]", "", said)


def words(form: Form) -> list[str]:
    """What stands on the page, in pieces that markup divides."""
    body = re.sub(r"<(style|title|head).*?</\1>", "", render_html(form), flags=re.DOTALL)
    pieces = (markup.unescape(piece) for piece in re.split(r"<[^>]*>", body))
    return [found for piece in pieces if (found := re.sub(r"[\s\u00ad-]", "", piece))]


@pytest.mark.part(3)
@pytest.mark.parametrize("change", [lambda form: form, many], ids=["one row", "200 rows, long names"])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_all_of_the_page_is_on_the_paper_and_nothing_is_cut(form: Form, change: object) -> None:
    form = change(form)  # type: ignore[operator]
    data = printed(form)
    # small letters too: PDF has letters as they are shown, and headings are shown in capitals
    shown = text(data).casefold()
    assert [word for word in words(form) if word.casefold() not in shown] == []
    of = len(pypdfium2.PdfDocument(data))
    for number, page in enumerate(pages(data), 1):
        said = page.get_textpage().get_text_bounded()
        assert f"Halaman {number} dari {of}" in said
        if isinstance(form, BackupForm) and ROW.dataset_name in said:
            assert "hasil" in said.casefold(), "a page that goes on with the table names its columns"
        width, height = page.get_size()
        letters = page.get_textpage()
        margin = 13 * MILLIMETRE
        for at in range(letters.count_rects()):
            box = left, bottom, right, top = letters.get_rect(at)
            assert margin <= left and right <= width - margin, letters.get_text_bounded(*box)
            assert bottom >= 5 * MILLIMETRE and top <= height - margin, letters.get_text_bounded(*box)


@pytest.mark.part(3)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_the_archive_can_keep_it(form: Form) -> None:
    """What ISO 19005-3 asks for, as far as it can be seen without its validator (veraPDF is in no registry that we have):
    fonts are inside, colours are defined, nothing is encrypted or runs, and the data says what it is to the page."""
    wanted = fsio.canonical_json(form_json(form))
    with pikepdf.open(io.BytesIO(printed(form))) as document:
        with document.open_metadata() as said:
            assert (said["pdfaid:part"], said["pdfaid:conformance"]) == ("3", "A")
        assert not document.is_encrypted
        assert document.Root.OutputIntents[0].S == "/GTS_PDFA1"
        assert document.Root.MarkInfo.Marked and document.Root.Lang == "id"
        assert "/OpenAction" not in document.Root and "/AcroForm" not in document.Root
        attached = document.Root.AF[0]
        assert (str(attached.UF), attached.AFRelationship) == ("form.json", "/Source")
        assert document.attachments["form.json"].get_file().read_bytes() == wanted
        fonts = [each for each in document.objects if isinstance(each, pikepdf.Dictionary) and "/FontName" in each]
        assert fonts
        assert all({"/FontFile2", "/FontFile3"} & set(font.keys()) for font in fonts)
        assert not [
            each
            for each in document.objects
            if isinstance(each, pikepdf.Dictionary) and each.get("/S") == "/JavaScript"
        ]
    assert printed(form) == printed(form), "the same form is the same paper"


def test_the_code_names_the_record_and_its_data() -> None:
    page = render_html(BACKUP)
    digest = fsio.sha256_bytes(fsio.canonical_json(form_json(BACKUP)))
    assert f"Kode QR: {BACKUP.header.run_id} {digest}" in page
    assert page.count("data:image/svg+xml") == 1


def test_a_template_reaches_neither_network_nor_files() -> None:
    """An agency's own template is drawn by our process: what it links to is not fetched."""
    data = paper.pdf('<p>a<img src="file:///etc/passwd"><img src="http://127.0.0.1:9/x"></p><link rel="attachment" href="file:///etc/passwd">', b"{}", "2026-11-22")  # fmt: skip
    assert b"root:" not in data
    with pikepdf.open(io.BytesIO(data)) as document:
        assert list(document.attachments) == ["form.json"]


def test_a_machine_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    paper.problem.cache_clear()
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    try:
        with pytest.raises(paper.NoPrinter, match="pip install weasyprint"):
            paper.pdf("<p>", b"{}", "2026-11-22")
    finally:
        paper.problem.cache_clear()
