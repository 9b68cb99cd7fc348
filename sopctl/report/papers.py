# SPDX-License-Identifier: Apache-2.0
"""The forms of the records, to be read from the report: as they were sealed, or printed anew from their data."""

from __future__ import annotations

from dataclasses import dataclass

from sopctl import forms, fsio, vault
from sopctl.errors import SopctlError
from sopctl.report.facts import Record
from sopctl.report.tongue import Tongue

#: how every form of ours begins: a policy that lets nothing run and nothing be fetched, before anything else
_OURS = (
    b'<!DOCTYPE html>\n<html lang="id">\n<head>\n<meta charset="utf-8">\n'
    b"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
)
#: what that policy does not cover: leading away, by itself or at a click
_LEADS_AWAY = (b"<a", b"<area", b"<base", b"<form", b"<link", b"<meta http-equiv", b"<script")


@dataclass(frozen=True)
class Paper:
    """``path`` inside the report; ``title`` as its link says; ``anew``: printed from the form's data, not as sealed."""

    path: str
    title: str
    data: bytes
    anew: bool


def papers(record: Record, tongue: Tongue) -> list[Paper]:
    """The record's forms that can be shown harmlessly; none of a record that is not believed."""
    if record.doubt or not record.plain:
        return []
    found = []
    for stem in record.forms:
        try:
            found.append(_paper(record, stem, tongue))
        except SopctlError:
            continue  # its data is no form: what is in the record is seen by `record show`
    return found


def _paper(record: Record, stem: str, tongue: Tongue) -> Paper:
    sealed = {record.id: record.digest}
    data = vault.sealed_file(record.path, sealed, f"data/{stem}.html")
    if anew := not harmless(data):
        source = f"data/{stem}.json"
        value = fsio.parse_json_strict(vault.sealed_file(record.path, sealed, source), source)
        if not isinstance(value, dict):
            raise SopctlError("is no form", where=source)
        try:
            data = forms.render_html(forms.form_from_json(value, source)).encode("utf-8", "replace")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SopctlError("cannot be printed", where=source) from error
    return Paper(f"papers/{record.id}/{stem}.html", _title(stem, tongue), data, anew)


def harmless(page: bytes) -> bool:
    """Whether a sealed page is one of ours: its policy stands first, and nothing in it leads away."""
    rest = page[len(_OURS) :].lower()
    return page.startswith(_OURS) and not any(word in rest for word in _LEADS_AWAY) and b"http-equiv" not in rest


def _title(stem: str, tongue: Tongue) -> str:
    word, _, number = stem.partition("-")
    known = {
        "form": tongue("formulir", "form"),
        "permintaan": tongue("permintaan", "request"),
        "perencanaan": tongue("perencanaan", "plan"),
    }
    return f"{known.get(word, word)} {number.lstrip('0')}".strip()
