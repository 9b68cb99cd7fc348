# SPDX-License-Identifier: Apache-2.0
"""The trust's earlier versions, ``trust/history/<serial>.yml(.sig)``: their chain, and what each of them changed."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sopctl import fsio, loading, signing
from sopctl.errors import SopctlError
from sopctl.findings import Finding
from sopctl.models import Anchor, Certificate, Json, Key, PaperSigning, Person, RoleHolding, TrustFile, to_json
from sopctl.roots import RootChain
from sopctl.signing import BadSignature
from sopctl.trust import Trust

FOLDER = "trust/history"


@dataclass(frozen=True)
class Version:
    """One signed trust."""

    file: TrustFile
    digest: str
    signed_by: str


@dataclass(frozen=True)
class Step:
    """One serial and what it changed, one line each."""

    serial: int
    issued: str
    root: str
    changes: list[str]


def path_of(site_root: Path, serial: int) -> Path:
    """Where the version of that serial is kept."""
    return site_root / FOLDER / f"{serial}.yml"


def serials(site_root: Path) -> list[int]:
    """The serials that are kept, in order."""
    names = (path.name for path in (site_root / FOLDER).glob("*.yml"))
    return sorted(int(name.removesuffix(".yml")) for name in names if re.fullmatch(r"[1-9][0-9]{0,8}\.yml", name))


def read_version(site_root: Path, serial: int, chain: RootChain) -> Version:
    """The version of that serial. BadSignature when no root signed it, SopctlError when it cannot be read."""
    path = path_of(site_root, serial)
    data, signature = fsio.read_strict(path), fsio.read_strict(path.with_name(path.name + ".sig"))
    key = signing.verify(data, signature, "sop-trust")
    if key not in chain.keys():  # noqa: SIM118  # a method of the chain, no mapping's
        raise BadSignature("signed by a key that never was a root here")
    file = loading.from_yaml(TrustFile, data, path)
    if file.serial != serial:
        raise BadSignature(f"holds serial {file.serial}")
    return Version(file, fsio.sha256_bytes(data), key)


def walk(site_root: Path, current: Trust, known: Mapping[int, str]) -> tuple[list[Step], list[Finding]]:
    """From the first version that is kept to ``current``: what each changed, and what is wrong with the chain.

    ``known`` is the ledger's: serial → digest of the trust that came into force with it. ``current`` is believed already.
    """
    steps: list[Step] = []
    findings: list[Finding] = []
    last: Version | None = None
    kept = serials(site_root)
    for serial in range(1, current.file.serial + 1):
        if serial not in kept:
            findings.append(_finding("unchecked", serial, "version-missing", "is not kept: nothing can be said of it"))
            last = None
            continue
        try:
            version = read_version(site_root, serial, current.roots)
        except (SopctlError, BadSignature) as error:
            what = error.message if isinstance(error, SopctlError) else str(error)
            findings.append(_finding("broken", serial, "version-signature", what))
            last = None
            continue
        findings += [_finding("broken", serial, rule, what) for rule, what in _breaks(version, last, current, known)]
        before = last.file if last else None
        lines = list(differences(before, version.file)) if before or serial == 1 else ["what it changed is not known"]
        if last and last.signed_by != version.signed_by:
            lines.insert(
                0, f"root key {signing.fingerprint(last.signed_by)} → {signing.fingerprint(version.signed_by)}"
            )
        steps.append(Step(serial, version.file.issued, signing.fingerprint(version.signed_by), lines))
        last = version
    for serial in kept:
        if serial > current.file.serial:
            findings.append(_finding("broken", serial, "version-newer", "is newer than the trust in force"))
    return steps, findings


def _breaks(
    version: Version, last: Version | None, current: Trust, known: Mapping[int, str]
) -> Iterator[tuple[str, str]]:
    serial = version.file.serial
    if last and version.file.prev != last.digest:
        yield "version-chain", f"does not follow serial {last.file.serial} (prev differs)"
    if serial == 1 and version.file.prev is not None:
        yield "version-chain", "is the first and follows another"
    if last and current.roots.replaced(version.signed_by, by=last.signed_by):
        yield "version-root", "is signed by a root that had been replaced"
    if known.get(serial, version.digest) != version.digest:
        yield "version-other", "is not the one that was in force"
    if serial == current.file.serial and version.digest != current.digest:
        yield "version-other", "differs from the trust in force"


def _finding(severity: str, serial: int, rule: str, meaning: str) -> Finding:
    return Finding("broken" if severity == "broken" else "unchecked", "trust", f"{FOLDER}/{serial}.yml", rule, meaning)


def step_json(step: Step) -> Json:
    """Plain JSON value of a step."""
    return {"serial": step.serial, "issued": step.issued, "root": step.root, "changes": step.changes}


# --- what changed ----------------------------------------------------------------------------------------------


def differences(before: TrustFile | None, after: TrustFile) -> Iterator[str]:
    """What ``after`` changes, one line each: people, roles, keys, and what else decides."""
    old = {person.id: person for person in before.people} if before else {}
    new = {person.id: person for person in after.people}
    for person in new.values():
        yield from _person(old.get(person.id), person)
    for gone in old.keys() - new.keys():
        yield f"{gone}: removed"
    names = {"policy": "policy", "profiles": "profile", "settings": "sop.yml", "papers": "papers"}
    for field, word in names.items():
        one, two = (_plain(file, field) for file in (before, after))
        for key in sorted(one.keys() | two.keys()):
            if one.get(key) != two.get(key) and (before or field != "settings"):
                yield f"{word} {key}: {_word(one.get(key))} → {_word(two.get(key))}"
    for field, word in {"run_keys": "run key", "code": "code"}.items():
        was, now = (set(getattr(file, field)) if file else set() for file in (before, after))
        shown = signing.fingerprint if field == "run_keys" else str
        yield from (f"{word} {shown(one)} added" for one in sorted(now - was))
        yield from (f"{word} {shown(one)} removed" for one in sorted(was - now))


def _plain(file: TrustFile | None, field: str) -> Json:
    if field == "papers":  # a trust that does not speak of them has what is usual
        papers = file.papers if file else PaperSigning()
        return {**to_json(papers), "anchors": ", ".join(map(_anchor, papers.anchors)) or None}
    value: Json = to_json(file)[field] if file else {}
    return value


def _anchor(one: Anchor) -> str:
    """An anchor as people compare it: its name, and the digest of its bytes."""
    return f"{one.subject} sha256:{hashlib.sha256(base64.b64decode(one.certificate)).hexdigest()}"


def _word(value: Any) -> str:
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text[:19] if text.startswith("sha256:") else text


def _person(old: Person | None, new: Person) -> Iterator[str]:
    if old is None:
        yield f"{new.id}: added, {new.jabatan}{' (service)' if new.kind == 'service' else ''}"
    else:
        for field in ("jabatan", "name", "unit", "kind"):
            if getattr(old, field) != getattr(new, field):
                yield f"{new.id}: {field} {getattr(old, field)!r} → {getattr(new, field)!r}"
        if old.nip != new.nip:
            yield f"{new.id}: NIP changed"  # which one is nobody's business who reads a list of changes
    yield from _roles(new.id, old.roles if old else [], new.roles)
    yield from _keys(new.id, old.keys if old else [], new.keys)
    yield from _certificates(new.id, old.certificates if old else [], new.certificates)


def _roles(who: str, old: list[RoleHolding], new: list[RoleHolding]) -> Iterator[str]:
    def key(held: RoleHolding) -> tuple[str, str, str, str]:
        return held.role, held.kind, held.acting_for or "", held.since

    was, now = {key(held): held for held in old}, {key(held): held for held in new}
    for one, held in now.items():
        if one not in was:
            kind = "" if held.kind == "definitif" else f" as {held.kind}"
            behalf = f" for {held.acting_for}" if held.acting_for else ""
            yield f"{who}: role {held.role}{kind}{behalf} from {held.since} to {held.until}"
        elif held.until != was[one].until:
            word = "ends" if held.until < was[one].until else "lasts until"
            yield f"{who}: role {held.role} {word} {held.until} (was {was[one].until})"
    yield from (f"{who}: role {held.role} from {held.since} removed" for one, held in was.items() if one not in now)


def _keys(who: str, old: list[Key], new: list[Key]) -> Iterator[str]:
    was, now = {(key.key, key.since): key for key in old}, {(key.key, key.since): key for key in new}
    for one, key in now.items():
        name = f"{who}: key {signing.fingerprint(key.key)}"
        before = was.get(one)
        if before is None:
            yield f"{name} from {key.since} to {key.until}"
        elif key.until != before.until:
            yield f"{name} holds until {key.until} (was {before.until})"
        if key.revoked != (before.revoked if before else None):
            yield f"{name} revoked from {key.revoked} on" if key.revoked else f"{name} is revoked no more"
    yield from (f"{who}: key {signing.fingerprint(key.key)} removed" for one, key in was.items() if one not in now)


def _certificates(who: str, old: list[Certificate], new: list[Certificate]) -> Iterator[str]:
    was, now = ({(one.sha256, one.since): one for one in listed} for listed in (old, new))
    for key, one in now.items():
        name, before = f"{who}: certificate {one.sha256} ({one.subject})", was.get(key)
        if before is None:
            yield f"{name} from {one.since} to {one.until}"
        elif one.until != before.until:
            yield f"{name} holds until {one.until} (was {before.until})"
        if one.revoked != (before.revoked if before else None):
            yield f"{name} revoked from {one.revoked} on" if one.revoked else f"{name} is revoked no more"
    yield from (f"{who}: certificate {one.sha256} removed" for key, one in was.items() if key not in now)
