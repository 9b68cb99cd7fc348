# SPDX-License-Identifier: Apache-2.0
"""Checking an archive: records, their signatures and documents, and the ledger that ties them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sopctl import archive as archives
from sopctl import (
    checkpoints,
    clock,
    completeness,
    fixity,
    fsio,
    history,
    loading,
    register,
    signing,
    stamp_check,
    stamps,
    witness_copies,
    witnesses,
)
from sopctl.case import Case, Filed, read_signature
from sopctl.checkpoints import Checkpoint
from sopctl.context import Context
from sopctl.errors import SopctlError, UsageError
from sopctl.examination import examine
from sopctl.findings import Finding
from sopctl.fixity import Digest
from sopctl.hashes import Hashes
from sopctl.ledger import Ledger, LedgerLine
from sopctl.models import Document, TrustFile
from sopctl.profile import LoadedProfile, Profile
from sopctl.session import Session
from sopctl.signing import BadSignature
from sopctl.stamps import Pins
from sopctl.trust import Trust, roots
from sopctl.witness_copies import Copy


def verify(
    session: Session,
    archive: Path,
    only: list[str],
    digest: Digest | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[list[Finding], int]:
    """Findings over the archive (or the records ``only``), and how many records were looked at. Never repairs."""
    findings, count = _verify(session, archive, only, digest, progress)
    try:
        lines = Ledger(archive / "ledger.jsonl").lines()
    except SopctlError:
        return findings, count  # what is wrong with it is found already
    return findings + _stamps(session, archive, lines, set(only) or None).findings, count


def _verify(
    session: Session, archive: Path, only: list[str], digest: Digest | None, progress: Callable[[int, int], None]
) -> tuple[list[Finding], int]:
    """The same without time stamps."""
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
    by_manifest = {line.digests.get("tagmanifest", ""): line for line in sealed.values()}
    records = sorted((archive / "records").glob("*/*/*"))
    trusts = {session.trust.digest: session.trust}
    for path in records:
        trust = _trust_of(session, path, lines)
        if isinstance(trust, Trust):
            trusts[trust.digest] = trust

    def check_signature(data: bytes, signature: bytes) -> list[str]:
        line = by_manifest.get(fsio.sha256_bytes(data))
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
            findings += fixity.verify_record(path, check_signature, digest)
            findings += fixity.compare_with_ledger(path, digests)
    else:
        findings += fixity.verify_archive(archive, check_signature, digests, digest, progress)
    context = session.context()
    for path in records:
        findings += _documents(session, context, path, lines)
    return findings, len(records)


def _stamps(
    session: Session, archive: Path, lines: list[LedgerLine], records: set[str] | None, *, whole: bool = False
) -> stamp_check.Examined:
    """The time stamps of ``records`` (None: all); ``whole``: of checkpoints too, and what belongs to nothing. Nothing is read
    where no authority was ever named."""
    ever = (archive / stamps.FOLDER).exists() or any(line.kind == stamps.LEDGER_KIND for line in lines)
    if not ever and not session.trust.file.settings.get(register.TIMESTAMPS):
        return stamp_check.Examined([], 0)
    known = known_trusts(session, archive)
    settings = {digest: trust.file.settings.get(register.TIMESTAMPS) for digest, trust in known.items()}
    config = session.site.config
    own = fsio.sha256_bytes(stamps.authorities_bytes(config)), config.timestamps
    everything = stamps.subjects(archive, lines)
    chosen = [
        one for one in everything if (whole if one.kind == "checkpoint" else records is None or one.name in records)
    ]
    return stamp_check.examine(Pins(archive, lines, settings, own), chosen, everything, whole=whole)


def _documents(session: Session, now: Context, record: Path, lines: list[LedgerLine]) -> list[Finding]:
    """The case's documents inside a record: chain, signatures, and their lines in the ledger.

    They are judged by the trust and the profile that were in force, which the record holds: an SOP that was revised or
    an official who left since then does not break what was right.
    """
    found: list[Finding] = []
    filed: list[Filed] = []
    for path in sorted((record / "data/case").glob("*.json")):
        name = str(path.relative_to(record))
        try:
            data = fsio.read_strict(path)
            filed.append(Filed(path, loading.load_json(Document, data, path), data, read_signature(path)))
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
        if fsio.sha256_bytes(data) not in trust.file.profiles.values():  # nothing is judged by what nobody put in force
            meaning = "is no profile that the trust in force names"
            return [Finding("broken", record.name, "data/profile.yml", "profile-unknown", meaning)]
        profile = LoadedProfile(loading.from_yaml(Profile, data, path), fsio.sha256_bytes(data), path)
        first = filed[0].document
        case = Case(
            first.case, record, first.flow, profile.profile.flow(first.flow), filed, profile.profile.break_glass
        )
    except SopctlError as error:
        return [Finding("broken", record.name, "data/profile.yml", "profile-unreadable", error.message)]
    context = replace(now, lines=lines, trust=trust, profile=profile)
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


# --- the whole archive -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Audit:
    """What was found; how many records were looked at; how many lines the ledger has, and how many of them a checkpoint
    and a witness (its signature, or its copy that was given) cover; how many time stamps hold; files whose bytes were read,
    and those remembered."""

    findings: list[Finding]
    records: int
    lines: int
    covered: int
    witnessed: int
    stamped: int
    read: int
    reused: int


def verify_all(
    session: Session,
    archive: Path,
    *,
    copies: Sequence[Path] = (),
    since: str = "",
    full: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Audit:
    """Records (with ``since``: a date or a record, those received from then on), ledger, checkpoints, and witnesses' copies;
    of the site's own archive also whether cases, records and months are all there.

    Files that did not change since the last time are not read again, unless ``full``. Never repairs. UsageError when a copy
    is none, or ``since`` neither date nor record.
    """
    own = archive.resolve() == session.site.archive.resolve()
    hashes = Hashes(archive, session.site.state / "audit" if own and not full else None)
    given = [witness_copies.read_copy(path, session.site.config.site) for path in copies]
    ledger = Ledger(archive / "ledger.jsonl")
    try:
        lines = ledger.lines()
    except SopctlError:
        lines = []  # verify() names the break
    if hashes.remark:
        session.say(hashes.remark)
    only = _since(lines, since) if since else []
    if since and not only:
        findings, count = ledger.verify(), 0
    else:
        there = {path.name for path in archives.list_records(archive)}
        findings, count = _verify(session, archive, [name for name in only if name in there], hashes.digest, progress)
        findings += [
            Finding("broken", name, "", "record-missing", "the ledger names this record, but it is gone")
            for name in only
            if name not in there
        ]
    covered = witnessed = stamped = 0
    if lines:
        covered, witnessed, more = _ends(session, archive, lines, given)
        findings += more
        looked = _stamps(session, archive, lines, set(only) if since else None, whole=True)
        findings, stamped = findings + looked.findings, looked.good
        findings += completeness.missing(session, lines) if own else [_copy_only()]
    try:
        hashes.save()
    except (SopctlError, OSError):  # an auditor may read the site and not write to it
        session.say("what was read could not be remembered: the next audit reads every file again")
    return Audit(findings, count, len(lines), covered, witnessed, stamped, hashes.read, hashes.reused)


def _copy_only() -> Finding:
    meaning = "a copy of the archive alone: whether each case and month is there is seen from the site's own archive"
    return Finding("unchecked", "archive", "", "copy-only", meaning)


def _since(lines: list[LedgerLine], since: str) -> list[str]:
    """Records whose line was received on that day or later, or from the line of that record on."""
    records = [line for line in lines if line.kind == "record"]
    for at, line in enumerate(records):
        if line.ref == since:
            return [one.ref for one in records[at:]]
    if clock.is_time(f"{since}T00:00:00Z"):
        return [line.ref for line in records if line.at[:10] >= since]
    raise UsageError(
        f"{since!r} is neither a date nor a record of the ledger", where="--since", hint="2026-11-01, say."
    )


def _ends(
    session: Session, archive: Path, lines: list[LedgerLine], given: Sequence[Copy]
) -> tuple[int, int, list[Finding]]:
    """Checkpoints and witnesses: lines covered by each, and what they contradict or leave open."""
    trusts = known_trusts(session, archive)

    def check(key: str, point: Checkpoint) -> list[str]:
        in_force = [line for line in lines[: point.size] if line.kind == "trust"]
        digest = in_force[-1].digests.get("trust", "") if in_force else session.trust.digest
        if digest not in trusts:
            serial = in_force[-1].serial
            raise UsageError(f"trust {serial}, in force then, is neither in trust/history nor in a record")
        if trusts[digest].key_holder(key, point.at) is None:
            return [f"key {signing.fingerprint(key)} was nobody's at {point.at}, by the trust in force then"]
        return []

    entries = session.site.config.witnesses
    findings: list[Finding] = []
    if reason := register.setting_reason(session.trust.file, session.site.config, register.WITNESSES):
        findings.append(Finding("unchecked", "ledger", "sop.yml", "witness-unsigned-setting", reason))
        entries = []  # whoever may edit sop.yml could name a witness of their own
    done = checkpoints.examine(archive, lines, session.site.config.site, check, witnesses.keys_of(entries))
    findings += done.findings
    witnessed = max(done.witnessed.values(), default=0)
    for copy in given:
        more, reach = witness_copies.compare(copy, lines)
        findings += more
        witnessed = max(witnessed, min(reach, len(lines)))
    findings += _open_ends(len(lines), done.covered, witnessed, bool(entries or given))
    return done.covered, witnessed, findings


def _open_ends(lines: int, covered: int, witnessed: int, watched: bool) -> Iterator[Finding]:
    def span(first: int) -> str:
        return f"line {lines}" if first == lines else f"lines {first} to {lines}"

    if covered < lines:
        meaning = f"no checkpoint covers {span(covered + 1)}: make one with sopctl audit checkpoint"
        yield Finding("unchecked", "ledger", f"ledger.jsonl:{covered + 1}", "checkpoint-tail", meaning)
    if not watched:
        meaning = "no witness is named in sop.yml and no witness's copy was given: who holds the keys could have rewritten all"
        yield Finding("unchecked", "ledger", "ledger.jsonl", "witness-none", meaning)
    elif witnessed < lines:
        meaning = f"no witness has shown {span(witnessed + 1)}: who holds the keys could have rewritten or cut that"
        yield Finding("unchecked", "ledger", f"ledger.jsonl:{witnessed + 1}", "witness-tail", meaning)


def known_trusts(session: Session, archive: Path) -> dict[str, Trust]:
    """Every trust that a root signed and that can be found: the one in force, its history, and what records hold."""
    now = session.trust
    found = {now.digest: now}
    folder = session.site.root / history.FOLDER
    places = [folder / f"{serial}.yml" for serial in history.serials(session.site.root)]
    places += [path / "data/trust/trust.yml" for path in archives.list_records(archive)]
    ever = now.roots.keys()
    for path in places:
        try:
            data = fsio.read_strict(path)
            digest = fsio.sha256_bytes(data)
            if digest in found:
                continue
            signature = fsio.read_strict(path.with_name(path.name + ".sig"))
            if signing.verify(data, signature, "sop-trust") in ever:
                file = loading.from_yaml(TrustFile, data, path)
                found[digest] = Trust(file, digest, data, signature, now.root_source, now.roots)
        except (SopctlError, BadSignature):
            continue  # the record's own check, or `trust verify`, names it
    return found
