# SPDX-License-Identifier: Apache-2.0
"""The SOP's paper forms: frozen values in (``blanks``), ``form.json`` and ``form.html`` out.

Both are made from the same value and hold the same fields (DOMAIN: forms table). The HTML prints times, durations and
sizes the Indonesian way in the form's time zone, and what is our reading with the mark [tafsiran].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sopctl import fsio, indonesian
from sopctl.asset_blanks import ReviewForm
from sopctl.blanks import (
    RESULT_TEXT,
    RESULT_TONE,
    VERIFICATION_TEXT,
    BackupForm,
    BackupRow,
    CheckResult,
    CleanForm,
    CleanRow,
    Expectation,
    FormHeader,
    Letterhead,
    Official,
    PlanForm,
    PlanRow,
    RestoreForm,
    RestoreRequestForm,
    Result,
    Step,
    Verification,
)
from sopctl.errors import ConfigError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = [
    "RESULT_TEXT",
    "RESULT_TONE",
    "SCHEMA",
    "VERIFICATION_TEXT",
    "BackupForm",
    "BackupRow",
    "CheckResult",
    "CleanForm",
    "CleanRow",
    "Expectation",
    "Form",
    "FormHeader",
    "Letterhead",
    "Official",
    "PlanForm",
    "PlanRow",
    "RestoreForm",
    "RestoreRequestForm",
    "Result",
    "ReviewForm",
    "Step",
    "Verification",
    "form_from_json",
    "form_json",
    "form_kind",
    "render_html",
    "render_page",
]

Form = BackupForm | RestoreRequestForm | RestoreForm | PlanForm | CleanForm | ReviewForm

_KINDS: dict[str, type[Form]] = {
    "backup": BackupForm,
    "restore-request": RestoreRequestForm,
    "restore": RestoreForm,
    "plan": PlanForm,
    "clean": CleanForm,
    "review": ReviewForm,
}
SCHEMA = "sop-form/v1"


def form_kind(form: Form) -> str:
    """``backup``, ``restore-request``, ``restore``, ``plan``, ``clean`` or ``review``."""
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
    digest = fsio.sha256_bytes(fsio.canonical_json(form_json(form)))
    seal_text = f"{form.header.run_id or form.header.case_id} {digest}"
    name = f"{form_kind(form)}.html.j2"
    context = {
        "form": form,
        "header": form.header,
        "seal": _qr(seal_text),
        "seal_text": seal_text,
        "letterhead": form.letterhead,
        "result_text": RESULT_TEXT,
        "result_tone": RESULT_TONE,
        "verification_text": VERIFICATION_TEXT,
    }
    return render_page(name, context, form.header.timezone, templates_dir)


def render_page(name: str, context: Mapping[str, Any], zone_name: str, templates_dir: Path | None = None) -> str:
    """The template ``name`` with ``context``, times in the zone; the agency's own template goes before ours, as above."""
    import jinja2

    environment = _environment(templates_dir)
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


def _qr(text: str) -> str:
    """A QR code as a data: URI of an SVG picture."""
    import segno

    return str(segno.make(text, error="m", micro=False).svg_data_uri(scale=4, border=2, dark="#000", light="#fff"))


@lru_cache(maxsize=4)  # reading the templates takes longer than filling one in, and a closing case makes three papers
def _environment(templates_dir: Path | None) -> ImmutableSandboxedEnvironment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

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
