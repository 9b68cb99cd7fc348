# SPDX-License-Identifier: Apache-2.0
"""An electronic signature on a sealed record's form, as it lies in a record of its own, and whether it holds.

What it was put on stays the beginning of the file, byte by byte: the sealed form for the first who signs, the form as the one
before left it for the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from sopctl import archive, clock, fsio, loading, signed_pdf
from sopctl.errors import SopctlError
from sopctl.findings import Finding
from sopctl.models import Record
from sopctl.trust import Trust

SCHEMA = "sop-signature/v1"
FILE = "signature.json"
#: seconds between signing and the ledger's line
RECEIVED_WITHIN = 600
_ID = re.compile(r"(.+)T([1-9])")


class SignedForm(Record, frozen=True):
    """``of``: the record whose ``form`` (file name) was signed, ``tagmanifest``: its digest. ``before_in``: the record where the
    form lies as the signer found it, ``before``: its digest. ``level``: of PAdES."""

    schema: str
    of: str
    tagmanifest: str
    form: str
    before_in: str
    before: str
    person: str
    role: str
    certificate: str
    subject: str
    at: str
    level: str
    reason: str = ""


def record_of(record: str) -> str:
    """The record whose form the record ``record`` holds signed; empty when it is none of these."""
    match = _ID.fullmatch(record)
    return match[1] if match else ""


def taken(archive_root: Path, record: str) -> list[Path]:
    """The records that hold its form signed, in the order in which it was signed."""
    found: list[Path] = []
    while (path := archive.record_path(archive_root, f"{record}T{len(found) + 1}")) is not None:
        found.append(path)
    return found


def read(record: Path) -> SignedForm:
    """What a record says of the signature in it. SopctlError when it cannot be read."""
    path = record / "data" / FILE
    return loading.load_json(SignedForm, fsio.read_strict(path), path)


def findings(archive_root: Path, record: Path, trust: Trust, received: str, sealed: Mapping[str, str]) -> list[Finding]:
    """What speaks against the signature in ``record``, which the ledger received at that time. ``sealed``: record → digest of
    its tag manifest, as the ledger has it."""
    try:
        said = read(record)
        pdf = archive.record_file(record, said.form)
    except SopctlError as error:
        return [Finding("broken", record.name, f"data/{FILE}", "signature-unreadable", error.message)]
    number = int(record.name[-1])
    wanted = said.of if number == 1 else f"{said.of}T{number - 1}"
    if (record_of(record.name), said.before_in) != (said.of, wanted):
        return [Finding("broken", record.name, f"data/{FILE}", "signature-place", f"speaks of a form of {said.of}")]
    name = f"data/{said.form}"
    earlier = taken(archive_root, said.of)[: number - 1]
    lies = archive.record_path(archive_root, said.before_in)
    try:
        before = archive.record_file(lies, said.form) if lies and len(earlier) == number - 1 else None
        people = {read(one).person for one in earlier}
    except SopctlError:
        before = None
    if before is None:
        meaning = f"what was signed ({said.before_in}) is not in this archive"
        return [Finding("unchecked", record.name, name, "signature-before", meaning)]
    judged = signed_pdf.judge_form(pdf, before, trust.anchors, said.at, trust.file.papers.revocation == "soft")
    times = [said.at, received]
    found = [*judged.reasons, *trust.certificate_reasons(judged.certificate, said.person, [said.role], times)]
    late = clock.seconds_between(said.at, received)
    facts = {
        "it was put on another form than lies there": fsio.sha256_bytes(before) == said.before,
        "it is of another record than the ledger has": sealed.get(said.of) == said.tagmanifest,
        "its certificate is another than is said": judged.certificate == said.certificate,
        "its signer is called otherwise than is said": judged.subject == said.subject,
        f"it is no PAdES {said.level}": judged.level == said.level,
        f"{said.person} had signed this form before": said.person not in people,
        f"it says {said.at} and was received at {received}": 0 <= late <= RECEIVED_WITHIN,
    }
    found += [meaning for meaning, true in facts.items() if not true]
    return [
        Finding("broken", record.name, name, "signature-form", f"the signature on the form: {one}") for one in found
    ]
