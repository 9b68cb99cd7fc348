# SPDX-License-Identifier: Apache-2.0
"""Checking an archive: records, their signatures and documents, and the ledger that ties them together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sopctl import approval, fixity, fsio, models, signing
from sopctl.case import Case, Filed
from sopctl.errors import SopctlError, UsageError
from sopctl.findings import Finding
from sopctl.ledger import Ledger, LedgerLine
from sopctl.models import Document
from sopctl.session import Session
from sopctl.signing import BadSignature


def verify(session: Session, archive: Path, only: list[str]) -> tuple[list[Finding], int]:
    """Findings over the archive (or the records ``only``), and how many records were looked at. Never repairs."""
    if not archive.is_dir():
        raise UsageError("the archive does not exist", where=str(archive))
    ledger = Ledger(archive / "ledger.jsonl")
    findings = ledger.verify()
    try:
        lines = ledger.lines()
    except SopctlError:
        lines = []  # verify() has named the break; what hangs on the ledger is then compared with nothing
    sealed = {line.ref: line for line in lines if line.kind == "record"}
    digests = {ref: line.digests["tagmanifest"] for ref, line in sealed.items()}

    def check_signature(data: bytes, signature: bytes) -> list[str]:
        line = next((line for line in sealed.values() if line.digests["tagmanifest"] == fsio.sha256_bytes(data)), None)
        try:
            key = signing.verify(data, signature, "sop-record")
        except BadSignature as error:
            return [str(error)]
        at = line.at if line else session.started
        if session.trust.key_holder(key, at) is None:
            return [f"key {signing.fingerprint(key)} was nobody's at {at}"]
        return []

    records = sorted((archive / "records").glob("*/*/*"))
    known = {path.name for path in records}
    for record_id in only:
        if record_id not in known:
            raise UsageError(f"record {record_id!r} does not exist", hint="See sopctl record list.")
    if only:
        records = [path for path in records if path.name in only]
        for path in records:
            findings += fixity.verify_record(path, check_signature)
    else:
        findings += fixity.verify_archive(archive, check_signature, digests)
    for path in records:
        findings += _documents(session, path, lines)
    return findings, len(records)


def _documents(session: Session, record: Path, lines: list[LedgerLine]) -> list[Finding]:
    """The case's documents inside a record: chain, signatures, and their lines in the ledger."""
    found: list[Finding] = []
    filed: list[Filed] = []
    for path in sorted((record / "data/case").glob("*.json")):
        name = str(path.relative_to(record))
        try:
            data, signature = fsio.read_strict(path), fsio.read_strict(path.with_name(path.name + ".sig"))
            filed.append(Filed(path, models.load_json(Document, data, path), data, signature))
        except SopctlError as error:
            found.append(Finding("broken", record.name, name, "document-unreadable", error.message))
    if not filed or found:
        return found
    profile = session.site.profile.profile
    first = filed[0].document
    if first.flow not in profile.flows:
        return [Finding("unchecked", record.name, "data/case", "other-profile", f"made under profile {first.profile}")]
    case = Case(first.case, record, first.flow, profile.flow(first.flow), filed)
    context = replace(session.context(), lines=lines)
    for reason in approval.examine(context, case, whole=False):
        found.append(Finding("broken", record.name, "data/case", "document-refused", reason))
    return found
