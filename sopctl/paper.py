# SPDX-License-Identifier: Apache-2.0
"""Forms as PDF/A-3 (level A): the page that ``form.html`` is, with ``form.json`` inside, readable when we are gone.

The only importer of WeasyPrint. It needs Pango and a serif font of the machine; where they are not, a record is sealed with
its other two forms and this is said: a printer is no reason to lose the evidence.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sopctl.errors import SopctlError

PACKAGES = "apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-liberation"
VARIANT = "pdf/a-3a"


class NoPrinter(SopctlError):
    """This machine lacks what makes a PDF."""


@cache
def problem() -> str:
    """Why no PDF can be made on this machine; empty when one can."""
    try:
        import weasyprint  # noqa: F401  # it loads the libraries
    except ImportError:
        return "WeasyPrint is not installed (pip install weasyprint)"
    except OSError as error:
        return f"{str(error).splitlines()[0][:120]} ({PACKAGES})"
    return ""


def pdf(html: str, data: bytes, on: str, name: str = "form.json", places: Sequence[str] = ()) -> bytes:
    """``html`` printed, with ``data`` attached under ``name``, dated ``on`` (2026-11-22), as what it was made of. ``places``:
    names of empty signature fields in the margin of the last page. The same input gives the same bytes under one version of
    WeasyPrint. NoPrinter where the machine cannot."""
    if said := problem():
        raise NoPrinter(f"no PDF can be made: {said}")
    import weasyprint
    from weasyprint.urls import URLFetcher

    logging.getLogger("weasyprint").disabled = True  # what it says of CSS is for whoever writes a template
    dated = datetime.fromisoformat(on).replace(tzinfo=UTC)
    attachment = weasyprint.Attachment(
        string=data,
        name=name,
        description="Isi formulir sebagai data",
        relationship="Source",
        created=dated,
        modified=dated,
    )
    made = weasyprint.HTML(string=html, url_fetcher=URLFetcher(allowed_protocols={"data"})).write_pdf(
        pdf_variant=VARIANT,
        pdf_identifier=hashlib.sha256(data).digest()[:16],
        attachments=[attachment],
        finisher=lambda _document, file: _make_places(file, places),
    )
    assert isinstance(made, bytes)  # noqa: S101  # without a target it returns them
    return made


#: a place in the margin, in points: in the strip between the page's text and its foot
WIDTH, HEIGHT, LEFT, BOTTOM, GAP = 168, 22, 40, 38, 5


def _make_places(file: Any, names: Sequence[str]) -> None:
    """Empty signature fields on the last page. They must be there when the form is sealed: who signs first says that nothing
    may be added but signatures, and a program that compares revisions wants a form to have been one before."""
    import pydyf  # type: ignore[import-untyped]  # it has no stubs

    if not names:
        return
    page = next(
        one for one in reversed(file.objects) if isinstance(one, pydyf.Dictionary) and one.get("Type") == "/Page"
    )
    fields = []
    for number, name in enumerate(names):
        left = LEFT + number * (WIDTH + GAP)
        face = pydyf.Stream(extra={"Type": "/XObject", "Subtype": "/Form", "BBox": pydyf.Array([0, 0, WIDTH, HEIGHT])})
        file.add_object(face)
        field = pydyf.Dictionary(
            {
                "Type": "/Annot",
                "Subtype": "/Widget",
                "FT": "/Sig",
                "T": pydyf.String(name),
                "TU": pydyf.String(f"Tanda tangan elektronik {number + 1}"),
                "Rect": pydyf.Array([left, BOTTOM, left + WIDTH, BOTTOM + HEIGHT]),
                "F": 4,  # printed
                "P": page.reference,
                "AP": pydyf.Dictionary({"N": face.reference}),
            }
        )
        file.add_object(field)
        fields.append(field.reference)
    page["Annots"] = pydyf.Array([*page.get("Annots", ()), *fields])
    # 3: there are signatures, and the file is only added to
    file.catalog["AcroForm"] = pydyf.Dictionary({"Fields": pydyf.Array(fields), "SigFlags": 3})


def picture(html: str) -> bytes:
    """``html`` as a PDF of its own page size, to be shown on another one. NoPrinter where the machine cannot."""
    if said := problem():
        raise NoPrinter(f"no PDF can be made: {said}")
    import weasyprint
    from weasyprint.urls import URLFetcher

    logging.getLogger("weasyprint").disabled = True
    made = weasyprint.HTML(string=html, url_fetcher=URLFetcher(allowed_protocols={"data"})).write_pdf()
    assert isinstance(made, bytes)  # noqa: S101  # without a target it returns them
    return made
