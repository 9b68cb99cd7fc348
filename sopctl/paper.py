# SPDX-License-Identifier: Apache-2.0
"""Forms as PDF/A-3 (level A): the page that ``form.html`` is, with ``form.json`` inside, readable when we are gone.

The only importer of WeasyPrint. It needs Pango and a serif font of the machine; where they are not, a record is sealed with
its other two forms and this is said: a printer is no reason to lose the evidence.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from functools import cache

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


def pdf(html: str, data: bytes, on: str, name: str = "form.json") -> bytes:
    """``html`` printed, with ``data`` attached under ``name``, dated ``on`` (2026-11-22), as what it was made of. The same
    input gives the same bytes under one version of WeasyPrint. NoPrinter where the machine cannot."""
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
    )
    assert isinstance(made, bytes)  # noqa: S101  # without a target it returns them
    return made
