# SPDX-License-Identifier: Apache-2.0
"""Do the archive's time stamps hold? Each against its signature, the authority that the trust pinned, and the ledger."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sopctl import clock, fsio, stamps, tokens
from sopctl.errors import ConfigError, SopctlError
from sopctl.findings import Finding, Severity
from sopctl.ledger import LedgerLine
from sopctl.settings import TimestampAuthority
from sopctl.stamps import Pins, Subject
from sopctl.tokens import Anchors, BadToken, Token

CLOCKS_APART = 10  # minutes by which the authority's clock and ours may differ
LATE = 24  # hours after which a time stamp says nothing of when a record was made
_NAME = re.compile(rf"({stamps.NAME})\.([a-z0-9-]{{2,32}})\.tsr")
_REF = re.compile(rf"(record|checkpoint)/({stamps.NAME})@([a-z0-9-]{{2,32}})")


@dataclass(frozen=True)
class Examined:
    """What is wrong or open, and how many time stamps hold."""

    findings: list[Finding]
    good: int


def examine(pins: Pins, chosen: Sequence[Subject], everything: Sequence[Subject], *, whole: bool) -> Examined:
    """Each time stamp of ``chosen`` against its signature, the authority that the trust pinned then, and the ledger.
    ``whole``: also what lies there, or is in the ledger, of nothing among ``everything``."""
    look = _Look(pins, everything)
    for subject in chosen:
        look.subject(subject)
    if whole:
        look.rest()
    return Examined(look.findings, look.good)


class _Look:
    def __init__(self, pins: Pins, everything: Sequence[Subject]) -> None:
        self.pins, self.everything, self.archive = pins, everything, pins.archive
        self.received = stamps.received(pins.lines)
        self.findings: list[Finding] = []
        self.good = 0
        self.lying: dict[tuple[str, str], list[str]] = {}  # (kind, name) → authorities
        self.lined: dict[tuple[str, str], list[str]] = {}
        for ref in self.received:
            if match := _REF.fullmatch(ref):
                self.lined.setdefault((match[1], match[2]), []).append(match[3])
        self.strays: list[str] = []
        for kind in ("record", "checkpoint"):
            self._list(kind)

    def _list(self, kind: str) -> None:
        for name in self.names(f"{kind}s"):
            match = _NAME.fullmatch(name)
            if match is None:
                self.strays.append(f"{kind}s/{name}")
            else:
                self.lying.setdefault((kind, match[1]), []).append(match[2])

    def names(self, folder: str) -> list[str]:
        """What lies in a folder of the time stamps; nothing where it is not there."""
        try:
            return sorted(path.name for path in (self.archive / stamps.FOLDER / folder).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            meaning = f"cannot be read: {error.strerror}"
            self.findings.append(Finding("unchecked", stamps.FOLDER, folder, "unreadable", meaning))
            return []

    def add(self, severity: Severity, subject: Subject, authority: str, rule: str, meaning: str) -> None:
        record = subject.name if subject.kind == "record" else stamps.FOLDER
        name = f"{stamps.FOLDER}/{subject.kind}s/{subject.name}.{authority}.tsr" if authority else stamps.FOLDER
        self.findings.append(Finding(severity, record, name, rule, meaning))

    def subject(self, subject: Subject) -> None:
        there, lined = (found.get((subject.kind, subject.name), []) for found in (self.lying, self.lined))
        for authority in sorted({*there, *lined, *self.owed(subject)}):
            line = self.received.get(subject.ref(authority))
            if authority in there:
                self.token(subject, authority, line)
            elif line is not None:
                meaning = f"the ledger received {authority}'s time stamp of it at {line.at}; it is gone"
                self.add("broken", subject, authority, "timestamp-gone", meaning)
            else:
                meaning = f"has no time stamp of {authority} yet: ask for it with sopctl audit timestamp {authority}"
                self.add("unchecked", subject, authority, "timestamp-missing", meaning)

    def owed(self, subject: Subject) -> list[str]:
        try:
            digest = self.pins.digest(subject.seq)
            return list(self.pins.named(digest)) if digest else []
        except LookupError as error:
            meaning = f"whether it should have a time stamp could not be checked: {error.args[0]}"
            self.add("unchecked", subject, "", "timestamp-authority", meaning)
        except ConfigError as error:
            self.add("broken", subject, "", "timestamp-authority", f"{error.where}: {error.message}")
        return []

    def token(self, subject: Subject, authority: str, line: LedgerLine | None) -> None:
        try:
            answer = fsio.read_strict(subject.path(self.archive, authority), tokens.MAX_ANSWER)
            signature = fsio.read_strict(subject.signature)
        except SopctlError as error:
            self.add("broken", subject, authority, "timestamp", f"does not hold: {error.where}: {error.message}")
            return
        if line is not None and line.digests.get("token") != fsio.sha256_bytes(answer):
            meaning = f"is not the time stamp that the ledger received at {line.at}{self.whose(answer, subject)}"
            self.add("broken", subject, authority, "timestamp-exchanged", meaning)
            return
        try:
            pinned = self.pinned(subject, authority, line)
        except LookupError as error:
            meaning = f"{authority}'s certificates are not known: {error.args[0]}"
            self.add("unchecked", subject, authority, "timestamp-authority", meaning)
            return
        except ConfigError as error:
            meaning = f"{authority}'s certificates: {error.where}: {error.message}"
            self.add("broken", subject, authority, "timestamp-authority", meaning)
            return
        if not pinned:
            meaning = f"the trust in force then names no authority {authority}"
            self.add("unchecked", subject, authority, "timestamp-unknown", meaning)
            return
        why = ""
        for entry, roots in pinned:
            try:
                token = tokens.verify(answer, signature, entry, roots)
            except BadToken as error:
                why = str(error)
            else:
                problems = list(_times(subject, authority, token, line))
                for severity, rule, meaning in problems:
                    self.add(severity, subject, authority, rule, meaning)
                self.good += not problems
                return
        self.add("broken", subject, authority, "timestamp", f"does not hold: {why}{self.whose(answer, subject)}")

    def pinned(
        self, subject: Subject, authority: str, line: LedgerLine | None
    ) -> list[tuple[TimestampAuthority, Anchors]]:
        """The authority as trusts named it since the signature was made; by the one that the line names, where there is one."""
        digests = self.pins.between(subject.seq, line.seq if line else len(self.pins.lines))
        if line is not None:
            digests = [digest for digest in digests if digest == line.digests.get("authorities")]
        named = [(digest, self.pins.named(digest).get(authority)) for digest in digests]
        return [(entry, self.pins.roots(digest, entry)) for digest, entry in named if entry]

    def whose(self, answer: bytes, subject: Subject) -> str:
        """``: it is that of …`` where the token is another signature's."""
        try:
            token = tokens.read(answer)
        except BadToken:
            return ""
        for other in self.everything:
            if other == subject:
                continue
            try:
                data = fsio.read_strict(other.signature)
            except SopctlError:
                continue
            if hashlib.new(token.kind, data).digest() == token.imprint:
                return f": it is that of {other.kind} {other.name}"
        return ""

    def rest(self) -> None:
        """What belongs to nothing that is there."""
        self.strays += [name for name in self.names("") if name not in ("records", "checkpoints", stamps.AUTHORITIES)]
        here = {(one.kind, one.name) for one in self.everything}
        for (kind, name), there in self.lying.items():
            if (kind, name) not in here:
                self.strays += [f"{kind}s/{name}.{one}.tsr" for one in there]
        for name in sorted(self.strays):
            if name.rpartition("/")[2].startswith(".") and name.endswith(".tmp"):
                finding = Finding(
                    "unchecked", stamps.FOLDER, name, "timestamp-torn", "was left by a command that was killed"
                )
            else:
                finding = Finding("broken", stamps.FOLDER, name, "stray", "is no time stamp of anything that is here")
            self.findings.append(finding)
        for line in self.pins.lines:
            if line.kind == stamps.LEDGER_KIND and line is not (first := self.received[line.ref]):
                meaning = f"the ledger received a time stamp of {line.ref.partition('@')[0]} at {first.at} already"
                self.findings.append(
                    Finding("broken", stamps.FOLDER, f"ledger.jsonl:{line.seq}", "timestamp-twice", meaning)
                )
        for ref, line in self.received.items():
            match = _REF.fullmatch(ref)
            if match is None or (match[1], match[2]) not in here:
                meaning = (
                    f"the ledger received a time stamp of {ref.partition('@')[0]} at {line.at}; there is no such thing"
                )
                self.findings.append(
                    Finding("broken", stamps.FOLDER, f"ledger.jsonl:{line.seq}", "timestamp-subject", meaning)
                )


def _times(
    subject: Subject, authority: str, token: Token, line: LedgerLine | None
) -> Iterator[tuple[Severity, str, str]]:
    """What the token's time says against the times that subject and ledger claim."""
    claimed = "was received" if subject.kind == "record" else "was made"
    if token.at < clock.plus(subject.at, minutes=-CLOCKS_APART):
        meaning = (
            f"{authority} saw it at {token.at}, and it says that it {claimed} at {subject.at}: it is older than it says, "
            "or this machine's clock was wrong"
        )
        yield "broken", "timestamp-before", meaning
    elif token.at > clock.plus(subject.at, hours=LATE):
        meaning = (
            f"says that it {claimed} at {subject.at}, and {authority} saw it first at {token.at}: the authority was silent, "
            "or it was made later than it says"
        )
        yield "unchecked", "timestamp-late", meaning
    latest = line.at if line else clock.now()
    if token.at > clock.plus(latest, minutes=CLOCKS_APART):
        meaning = f"{authority} dates it {token.at}, " + (
            f"and the ledger received it at {line.at}: one of the two is forged" if line else f"and now is {latest}"
        )
        yield ("broken" if line else "unchecked"), "timestamp-after", meaning
