# SPDX-License-Identifier: Apache-2.0
"""How far the ledger's end is covered: by checkpoints of the site's own keys, and by witnesses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sopctl import archive as archives
from sopctl import checkpoints, fsio, history, loading, register, signing, witness_copies, witnesses
from sopctl.checkpoints import Checkpoint
from sopctl.errors import SopctlError, UsageError
from sopctl.findings import Finding
from sopctl.ledger import LedgerLine
from sopctl.models import TrustFile
from sopctl.remembered import Remembered
from sopctl.session import Session
from sopctl.signing import BadSignature
from sopctl.trust import Trust
from sopctl.witness_copies import Copy


@dataclass(frozen=True)
class Coverage:
    """What checkpoints and witnesses contradict or leave open, and how many lines each of them cover."""

    findings: list[Finding]
    covered: int
    witnessed: int


def examine(
    session: Session, archive: Path, lines: list[LedgerLine], given: Sequence[Copy], remembered: Remembered
) -> Coverage:
    """All of the archive's checkpoints and its witnesses' words, and the copies of witnesses that were ``given``."""
    trusts = known_trusts(session, archive, lines)
    changes = [line for line in lines if line.kind == "trust"]

    def check(key: str, point: Checkpoint) -> list[str]:
        in_force = [line for line in changes if line.seq <= point.size]
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
    keys = witnesses.keys_of(entries)
    known = " ".join(sorted(trusts))

    def once(name: str, by: str, places: Sequence[Path], look: Callable[[], list[Finding]]) -> list[Finding]:
        return remembered.once(name, f"{by} {known}", places, look)

    done = checkpoints.examine(archive, lines, session.site.config.site, check, keys, once)
    findings += done.findings
    witnessed = max(done.witnessed.values(), default=0)
    for copy in given:
        more, reach = witness_copies.compare(copy, lines)
        findings += more
        witnessed = max(witnessed, min(reach, len(lines)))
    findings += _open_ends(len(lines), done.covered, witnessed, bool(entries or given))
    return Coverage(findings, done.covered, witnessed)


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


def known_trusts(session: Session, archive: Path, lines: list[LedgerLine]) -> dict[str, Trust]:
    """Every trust that came into force by the ledger, that a root signed, and that can be found: the one in force now, its
    history, and what records hold."""
    now = session.trust
    found = {now.digest: now}
    ever_in_force = {line.digests.get("trust", "") for line in lines if line.kind == "trust"}
    folder = session.site.root / history.FOLDER
    places = [folder / f"{serial}.yml" for serial in history.serials(session.site.root)]
    places += [path / "data/trust/trust.yml" for path in archives.list_records(archive)]
    roots = now.roots.keys()
    for path in places:
        if ever_in_force <= found.keys():
            break  # records of years hold the same few
        try:
            data = fsio.read_strict(path)
            digest = fsio.sha256_bytes(data)
            if digest in found:
                continue
            signature = fsio.read_strict(path.with_name(path.name + ".sig"))
            if signing.verify(data, signature, "sop-trust") in roots:
                file = loading.from_yaml(TrustFile, data, path)
                found[digest] = Trust(file, digest, data, signature, now.root_source, now.roots)
        except (SopctlError, BadSignature):
            continue  # the record's own check, or `trust verify`, names it
    return found
