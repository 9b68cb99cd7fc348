# SPDX-License-Identifier: Apache-2.0
"""One sealed record, all of it: its bag, who signed it, and the case's documents in it.

Documents are judged by the trust and the profile that were in force, which the record holds: an SOP that was revised or an
official who left since then does not break what was right.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sopctl import fixity, fsio, loading, signatures, signing
from sopctl.case import Case, Filed, read_signature
from sopctl.context import Context
from sopctl.errors import SopctlError
from sopctl.examination import examine
from sopctl.findings import Finding
from sopctl.ledger import LedgerLine
from sopctl.models import Document, TrustFile
from sopctl.profile import LoadedProfile, Profile
from sopctl.remembered import RECORDS, Remembered
from sopctl.session import Session
from sopctl.signing import BadSignature
from sopctl.trust import Trust, roots

#: why something cannot be used: severity, rule, meaning
Refusal = tuple[str, str, str]
TRUST, PROFILE = "data/trust/trust.yml", "data/profile.yml"


class RecordCheck:
    """What is to be said of the records of one archive, whose ledger has ``lines``."""

    def __init__(self, session: Session, lines: list[LedgerLine], remembered: Remembered | None) -> None:
        """``remembered``: of an audit of all records; without it each is looked at, and by bagit too."""
        self.session, self.remembered = session, remembered
        self.sealed = {line.ref: line for line in lines if line.kind == "record"}
        self.digests = {ref: line.digests.get("tagmanifest", "") for ref, line in self.sealed.items()}
        self._changes = [line for line in lines if line.kind == "trust"]
        self._trusted = {line.digests.get("trust") for line in self._changes}
        self._lines: defaultdict[str, list[LedgerLine]] = defaultdict(list)
        for line in lines:
            self._lines[line.ref.partition("/")[0]].append(line)
        self._context: Context = session.context()
        # records of years hold the same few trusts and profiles, and each takes longer to read than a record
        self._trusts: dict[tuple[str, str], Trust | Refusal] = {}
        self._profiles: dict[str, LoadedProfile | Refusal] = {}

    def findings(self, record: Path) -> list[Finding]:
        """Everything that speaks against the record at ``record``."""
        line = self.sealed.get(record.name)
        if self.remembered is None:
            return self._findings(record)
        if line is None or signatures.record_of(record.name):  # the last hang on another's bytes
            self.remembered.read += 1
            return self._findings(record)
        about = self._lines.get("-".join(record.name.split("-")[:3]), [line])
        place = f"{RECORDS}{record.parent.parent.name}/{record.parent.name}/{record.name}"
        by = f"{line.digest} {about[-1].digest}"  # its own line, and the last one about its case
        return self.remembered.once(place, by, [record], lambda: self._findings(record))

    def _findings(self, record: Path) -> list[Finding]:
        trust = self._trust(record)
        by_bagit = self.remembered is None
        found = fixity.verify_record(record, self._signature(record.name, trust), by_bagit=by_bagit)
        found += fixity.compare_with_ledger(record, self.digests)
        return found + self._documents(record, trust) + self._signed_form(record, trust)

    def _signature(self, record: str, trust: Trust | Refusal) -> Callable[[bytes, bytes], list[str]]:
        """The record's own trust says whose key it was; where that cannot be used, the one that is in force."""
        said = trust if isinstance(trust, Trust) else self.session.trust

        def check(data: bytes, signature: bytes) -> list[str]:
            try:
                key = signing.verify(data, signature, "sop-record")
            except BadSignature as error:
                return [str(error)]
            at = self.sealed[record].at if record in self.sealed else self.session.started
            if said.key_holder(key, at) is None:
                return [f"key {signing.fingerprint(key)} was nobody's at {at}"]
            return []

        return check

    def _trust(self, record: Path) -> Trust | Refusal:
        """The trust that the record was made under, when the root signed it and the ledger saw it come into force."""
        path = f"{record}/{TRUST}"
        try:
            data, signature = fsio.read_strict(path), fsio.read_strict(f"{path}.sig")
        except SopctlError as error:
            return "broken", "trust-unreadable", str(error)
        key = fsio.sha256_bytes(data), fsio.sha256_bytes(signature)
        if key not in self._trusts:
            self._trusts[key] = self._judged(data, signature, Path(path))
        return self._trusts[key]

    def _judged(self, data: bytes, signature: bytes, path: Path) -> Trust | Refusal:
        digest, now = fsio.sha256_bytes(data), self.session.trust
        if digest == now.digest:
            return now
        if digest not in self._trusted:
            return "broken", "trust-unknown", "this trust was never in force here"
        try:
            if signing.verify(data, signature, "sop-trust") not in roots(self.session.site.root).keys():  # noqa: SIM118  # no mapping's
                return "unchecked", "trust-root", "signed by a root key that is not pinned here"
            return Trust(loading.from_yaml(TrustFile, data, path), digest, data, signature, now.root_source)
        except (SopctlError, BadSignature) as error:
            return "broken", "trust-unreadable", str(error)

    def _profile(self, record: Path, trust: Trust) -> LoadedProfile | Refusal:
        """The record's profile; nothing is judged by what nobody put in force."""
        path = record / PROFILE
        try:
            data = fsio.read_strict(path)
            digest = fsio.sha256_bytes(data)
            if digest not in trust.file.profiles.values():
                return "broken", "profile-unknown", "is no profile that the trust in force names"
            if digest not in self._profiles:
                self._profiles[digest] = LoadedProfile(loading.from_yaml(Profile, data, path), digest, path)
        except SopctlError as error:
            return "broken", "profile-unreadable", error.message
        return self._profiles[digest]

    def _documents(self, record: Path, trust: Trust | Refusal) -> list[Finding]:
        """The case's documents inside the record: chain, signatures, and their lines in the ledger."""
        found: list[Finding] = []
        filed: list[Filed] = []
        for path in _documents(record):
            name = f"data/case/{path.name}"
            try:
                data = fsio.read_strict(path)
                filed.append(Filed(path, loading.load_json(Document, data, path), data, read_signature(path)))
            except SopctlError as error:
                found.append(Finding("broken", record.name, name, "document-unreadable", error.message))
        if not filed or found:
            return found
        if not isinstance(trust, Trust):
            return [_finding(trust, record, TRUST)]
        profile = self._profile(record, trust)
        if not isinstance(profile, LoadedProfile):
            return [_finding(profile, record, PROFILE)]
        first = filed[0].document
        try:
            flow = profile.profile.flow(first.flow)
        except SopctlError as error:
            return [Finding("broken", record.name, PROFILE, "profile-unreadable", error.message)]
        case = Case(first.case, record, first.flow, flow, filed, profile.profile.break_glass)
        context = replace(self._context, lines=self._lines[case.id], trust=trust, profile=profile)
        reasons = examine(context, case, whole=False)
        return [Finding("broken", record.name, "data/case", "document-refused", reason) for reason in reasons]

    def _signed_form(self, record: Path, trust: Trust | Refusal) -> list[Finding]:
        """The electronic signature on a form, where this is the record of one."""
        line = self.sealed.get(record.name)
        if not signatures.record_of(record.name) or line is None:  # what the ledger does not know is named already
            return []
        if not isinstance(trust, Trust):
            return [_finding(trust, record, TRUST)]
        before = [one for one in self._changes if one.seq < line.seq]
        if before and before[-1].digests.get("trust") != trust.digest:
            meaning = "it holds another trust than was in force when it was received: whose certificate it was then is not said"
            return [Finding("broken", record.name, TRUST, "signature-form", meaning)]
        return signatures.findings(record.parents[3], record, trust, line.at, self.digests)


def _documents(record: Path) -> list[Path]:
    folder = record / "data/case"
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))  # noqa: PTH208  (names, for thousands)
    except OSError:
        return []  # a record of no case
    return [folder / name for name in names]


def _finding(refusal: Refusal, record: Path, file: str) -> Finding:
    severity, rule, meaning = refusal
    return Finding("broken" if severity == "broken" else "unchecked", record.name, file, rule, meaning)
