# SPDX-License-Identifier: Apache-2.0
"""Checking an archive: records, their signatures and documents, and the ledger that ties them together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sopctl import fixity, fsio, loading, signing
from sopctl.case import Case, Filed
from sopctl.errors import SopctlError, UsageError
from sopctl.examination import examine
from sopctl.findings import Finding
from sopctl.ledger import Ledger, LedgerLine
from sopctl.models import Document, TrustFile
from sopctl.profile import LoadedProfile, Profile
from sopctl.session import Session
from sopctl.signing import BadSignature
from sopctl.trust import Trust, roots


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
    digests = {ref: line.digests.get("tagmanifest", "") for ref, line in sealed.items()}
    records = sorted((archive / "records").glob("*/*/*"))
    trusts = {session.trust.digest: session.trust}
    for path in records:
        trust = _trust_of(session, path, lines)
        if isinstance(trust, Trust):
            trusts[trust.digest] = trust

    def check_signature(data: bytes, signature: bytes) -> list[str]:
        digest = fsio.sha256_bytes(data)
        line = next((line for line in sealed.values() if line.digests.get("tagmanifest") == digest), None)
        try:
            key = signing.verify(data, signature, "sop-record")
        except BadSignature as error:
            return [str(error)]
        at = line.at if line else session.started
        if all(trust.key_holder(key, at) is None for trust in trusts.values()):
            return [f"key {signing.fingerprint(key)} was nobody's at {at}"]
        return []

    known = {path.name for path in records}
    for record_id in only:
        if record_id not in known:
            raise UsageError(f"record {record_id!r} does not exist", hint="See sopctl record list.")
    if only:
        records = [path for path in records if path.name in only]
        for path in records:
            findings += fixity.verify_record(path, check_signature)
            findings += fixity.compare_with_ledger(path, digests)
    else:
        findings += fixity.verify_archive(archive, check_signature, digests)
    for path in records:
        findings += _documents(session, path, lines)
    return findings, len(records)


def _documents(session: Session, record: Path, lines: list[LedgerLine]) -> list[Finding]:
    """The case's documents inside a record: chain, signatures, and their lines in the ledger.

    They are judged by the trust and the profile that were in force, which the record holds: an SOP that was revised or
    an official who left since then does not break what was right.
    """
    found: list[Finding] = []
    filed: list[Filed] = []
    for path in sorted((record / "data/case").glob("*.json")):
        name = str(path.relative_to(record))
        try:
            data, signature = fsio.read_strict(path), fsio.read_strict(path.with_name(path.name + ".sig"))
            filed.append(Filed(path, loading.load_json(Document, data, path), data, signature))
        except SopctlError as error:
            found.append(Finding("broken", record.name, name, "document-unreadable", error.message))
    if not filed or found:
        return found
    trust = _trust_of(session, record, lines)
    if isinstance(trust, Finding):
        return [trust]
    try:
        path = record / "data/profile.yml"
        data = fsio.read_strict(path)
        profile = LoadedProfile(loading.from_yaml(Profile, data, path), fsio.sha256_bytes(data), path)
        first = filed[0].document
        case = Case(
            first.case, record, first.flow, profile.profile.flow(first.flow), filed, profile.profile.break_glass
        )
    except SopctlError as error:
        return [Finding("broken", record.name, "data/profile.yml", "profile-unreadable", error.message)]
    context = replace(session.context(), lines=lines, trust=trust, profile=profile)
    for reason in examine(context, case, whole=False):
        found.append(Finding("broken", record.name, "data/case", "document-refused", reason))
    return found


def _trust_of(session: Session, record: Path, lines: list[LedgerLine]) -> Trust | Finding:
    """The trust that the record was made under, when the root signed it and the ledger saw it come into force."""
    path, name = record / "data/trust/trust.yml", "data/trust/trust.yml"
    try:
        data, signature = fsio.read_strict(path), fsio.read_strict(path.with_name("trust.yml.sig"))
        digest = fsio.sha256_bytes(data)
        if digest == session.trust.digest:
            return session.trust
        if not any(line.kind == "trust" and line.digests.get("trust") == digest for line in lines):
            return Finding("broken", record.name, name, "trust-unknown", "this trust was never in force here")
        if signing.verify(data, signature, "sop-trust") not in roots(session.site.root).keys():  # noqa: SIM118  # no mapping's
            return Finding("unchecked", record.name, name, "trust-root", "signed by a root key that is not pinned here")
        return Trust(loading.from_yaml(TrustFile, data, path), digest, data, signature, session.trust.root_source)
    except (SopctlError, BadSignature) as error:
        return Finding("broken", record.name, name, "trust-unreadable", str(error))
