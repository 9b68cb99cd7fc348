# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: signed sentences about how far the ledger had come, and what witnesses said of them.

``<archive>/checkpoints/00000042.txt`` holds four lines (form and site, number of lines, digest of the last one, time) and
``.txt.sig`` its SSHSIG, namespace ``sop-checkpoint``. ``00000042.NAME.txt`` is the word of the witness NAME: with ``.sig``
its own (``sop-witness``), without it no more than our note that it was told. Nothing here is ever repaired.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sopctl import clock, fsio, signing
from sopctl.errors import AlreadyExistsError, SopctlError
from sopctl.findings import Finding, Severity
from sopctl.ledger import LedgerLine
from sopctl.signing import BadSignature

FOLDER = "checkpoints"
CLOCKS_APART = 10  # minutes by which the witness's clock and ours may differ
_AT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"
NOTE = re.compile(rf"sop-checkpoint/v1 ([0-9a-f-]{{8,64}})\n([1-9][0-9]{{0,11}})\n(sha256:[0-9a-f]{{64}})\n({_AT})\n")
WORD = re.compile(
    rf"sop-(witness|told)/v1 ([a-z0-9-]{{2,32}})\n(sha256:[0-9a-f]{{64}})\n([1-9][0-9]{{0,11}})\n({_AT})\n"
)
_NAME = re.compile(r"([0-9]{8,12})(?:\.([a-z0-9-]{2,32}))?\.txt(\.sig)?")

#: the signer's key and the checkpoint → what is wrong with it; a SopctlError means "could not decide"
CheckSigner = Callable[[str, "Checkpoint"], list[str]]
#: (name, judged by what, its files, what looks at it) → what was found; :meth:`sopctl.remembered.Remembered.once` is one
Once = Callable[[str, str, Sequence[Path], Callable[[], list[Finding]]], list[Finding]]


@dataclass(frozen=True)
class Checkpoint:
    """At ``at`` the ledger of ``site`` had ``size`` lines, the last of digest ``head``."""

    site: str
    size: int
    head: str
    at: str

    @property
    def data(self) -> bytes:
        """The four lines that are signed."""
        return f"sop-checkpoint/v1 {self.site}\n{self.size}\n{self.head}\n{self.at}\n".encode()


@dataclass(frozen=True)
class Word:
    """What a witness said (``signed``), or what we noted of one that signs nothing."""

    witness: str
    checkpoint: str  # digest of the checkpoint's four lines
    size: int
    at: str
    signed: bool

    @property
    def data(self) -> bytes:
        """Its four lines."""
        kind = "witness" if self.signed else "told"
        return f"sop-{kind}/v1 {self.witness}\n{self.checkpoint}\n{self.size}\n{self.at}\n".encode()


def parse(data: bytes) -> Checkpoint:
    """Exactly the four lines. ValueError when ``data`` is anything else."""
    match = NOTE.fullmatch(data.decode("ascii", "replace"))
    if match is None or not clock.is_time(match[4]):
        raise ValueError("is not a checkpoint")
    return Checkpoint(match[1], int(match[2]), match[3], match[4])


def parse_word(data: bytes) -> Word:
    """A witness's four lines. ValueError when ``data`` is anything else."""
    match = WORD.fullmatch(data.decode("ascii", "replace"))
    if match is None or not clock.is_time(match[5]):
        raise ValueError("is not a witness's word")
    return Word(match[2], match[3], int(match[4]), match[5], match[1] == "witness")


# --- writing ---------------------------------------------------------------------------------------------------


def path_of(archive: Path, size: int, witness: str = "") -> Path:
    """Where the checkpoint over ``size`` lines lies, or a witness's word on it."""
    return archive / FOLDER / f"{size:08d}{'.' if witness else ''}{witness}.txt"


def keep(path: Path, data: bytes, signature: bytes | None) -> bool:
    """Write a checkpoint or a word with its signature; False when one is there already. ConfigError when it cannot."""
    path.parent.mkdir(mode=0o750, exist_ok=True)
    if path.exists():
        return False
    if signature is not None:  # first: a text without signature would be a broken one
        fsio.write_atomic(path.with_name(path.name + ".sig"), signature)
    try:
        fsio.write_atomic(path, data, exclusive=True)
    except AlreadyExistsError:
        return False
    return True


# --- reading ---------------------------------------------------------------------------------------------------


def sizes(archive: Path, witness: str = "") -> list[int]:
    """Over how many lines there are checkpoints (or words of ``witness``), in order; nothing of them is believed."""
    found = []
    for path in (archive / FOLDER).glob("*.txt"):
        match = _NAME.fullmatch(path.name)
        if match and (match[2] or "") == witness:
            found.append(int(match[1]))
    return sorted(found)


def newest(archive: Path) -> tuple[Checkpoint, bytes] | None:
    """The newest checkpoint and its signature; SopctlError or ValueError when it cannot be read."""
    known = sizes(archive)
    if not known:
        return None
    path = path_of(archive, known[-1])
    return parse(fsio.read_strict(path)), fsio.read_strict(path.with_name(path.name + ".sig"))


@dataclass(frozen=True)
class Examined:
    """What is wrong, and how many lines from the first are covered by a checkpoint and by a witness's signature."""

    findings: list[Finding]
    covered: int
    witnessed: Mapping[str, int]


def examine(
    archive: Path,
    lines: Sequence[LedgerLine],
    site: str,
    check: CheckSigner,
    witnesses: Mapping[str, Sequence[str]],
    once: Once = lambda _name, _by, _places, look: look(),
) -> Examined:
    """Every checkpoint and every word against the ledger. ``witnesses``: name → keys (``type base64``), none for those
    that sign nothing. ``once``: what looks at a signature, unless it is remembered to be good."""
    look = _Look(archive / FOLDER, lines, site, check, witnesses, once)
    look.run()
    return Examined(look.findings, look.covered, look.witnessed)


def _unreadable(name: str, error: Exception) -> Finding:
    what = error.message if isinstance(error, SopctlError) else str(error)
    return Finding("broken", FOLDER, name, "checkpoint", f"does not hold: {what}")


class _Look:
    def __init__(
        self,
        folder: Path,
        lines: Sequence[LedgerLine],
        site: str,
        check: CheckSigner,
        witnesses: Mapping[str, Sequence[str]],
        once: Once,
    ) -> None:
        self.folder, self.lines, self.site, self.check, self.witnesses = folder, lines, site, check, witnesses
        self.once = once
        self.findings: list[Finding] = []
        self.covered = 0
        self.witnessed: dict[str, int] = {}
        self.at = ""

    def add(self, severity: Severity, name: str, rule: str, meaning: str) -> None:
        self.findings.append(Finding(severity, FOLDER, name, rule, meaning))

    def run(self) -> None:
        names = sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []
        there = set(names)  # a checkpoint for each record: there are thousands
        words: list[str] = []
        good: dict[str, Checkpoint] = {}
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None:
                self.add("broken", name, "stray", "is no checkpoint and no witness's word")
            elif match[3]:
                if name.removesuffix(".sig") not in there:
                    meaning = (
                        "is a signature without its text: a command was killed here, or somebody took the text away"
                    )
                    self.add("unchecked", name, "checkpoint-torn", meaning)
            elif match[2]:
                words.append(name)
            elif (found := self.checkpoint(name, int(match[1]))) is not None:
                good[fsio.sha256_bytes(found.data)] = found
        for name in words:
            self.word(name, good)

    def checkpoint(self, name: str, size: int) -> Checkpoint | None:
        try:
            data = fsio.read_strict(self.folder / name)
            found = parse(data)
        except (SopctlError, ValueError) as error:
            self.findings.append(_unreadable(name, error))
            return None
        by = self.lines[size - 1].digest if 0 < size <= len(self.lines) else ""
        places = [self.folder / name, self.folder / f"{name}.sig"]
        signed = self.once(f"checkpoints/{name}", by, places, lambda: self.signature(name, data, found))
        self.findings += signed
        if any(finding.rule == "checkpoint" for finding in signed):
            return None
        reasons = list(self.contradictions(found, size))
        for rule, meaning in reasons:
            self.add("broken", name, rule, meaning)
        self.at = max(self.at, found.at)
        if not signed and not reasons:
            self.covered = max(self.covered, found.size)
        return found

    def signature(self, name: str, data: bytes, found: Checkpoint) -> list[Finding]:
        """What is wrong with the signature on a checkpoint, or with whose it is."""
        try:
            key = signing.verify(data, fsio.read_strict(self.folder / f"{name}.sig"), "sop-checkpoint")
        except (SopctlError, BadSignature) as error:
            return [_unreadable(name, error)]
        try:
            problems = self.check(key, found)
        except SopctlError as error:
            meaning = f"whose signature this is could not be checked: {error.message}"
            return [Finding("unchecked", FOLDER, name, "checkpoint-signer", meaning)]
        return [Finding("broken", FOLDER, name, "checkpoint-signer", problem) for problem in problems]

    def contradictions(self, found: Checkpoint, size: int) -> Iterator[tuple[str, str]]:
        if found.size != size:
            yield "checkpoint-name", f"speaks of {found.size} lines"
        if found.site != self.site:
            yield "checkpoint-site", "is of another site"
        if found.at < self.at:
            yield "checkpoint-time", f"is dated {found.at}, before one over fewer lines ({self.at})"
        if found.size > len(self.lines):
            gone = found.size - len(self.lines)
            yield "ledger-cut", f"saw {found.size} lines, the ledger has {len(self.lines)}: {gone} were cut off its end"
            return
        line = self.lines[found.size - 1]
        if line.digest != found.head:
            yield (
                "ledger-rewritten",
                f"saw another line {found.size} than the ledger has: it was rewritten at or before it",
            )
        elif found.at < line.at:
            yield "checkpoint-time", f"is dated {found.at}, before its last line was received ({line.at})"

    def word(self, name: str, good: Mapping[str, Checkpoint]) -> None:
        path = self.folder / name
        try:
            data = fsio.read_strict(path)
            word = parse_word(data)
            key = ""
            if word.signed:
                key = signing.verify(data, fsio.read_strict(path.with_name(f"{name}.sig")), "sop-witness")
        except (SopctlError, ValueError, BadSignature) as error:
            what = error.message if isinstance(error, SopctlError) else str(error)
            self.add("broken", name, "witness", f"does not hold: {what}")
            return
        if name != f"{word.size:08d}.{word.witness}.txt":
            self.add("broken", name, "witness", f"is {word.witness}'s word on {word.size} lines")
            return
        seen = good.get(word.checkpoint)
        if seen is None or seen.size != word.size:
            meaning = f"{word.witness} saw another checkpoint over {word.size} lines at {word.at} than lies here: it was exchanged"
            self.add("broken", name, "checkpoint-exchanged", meaning)
        elif word.at < clock.plus(seen.at, minutes=-CLOCKS_APART):
            meaning = f"{word.witness} says it saw at {word.at} what is dated {seen.at}: one of the two clocks is wrong"
            self.add("unchecked", name, "witness-clock", meaning)
        elif word.witness not in self.witnesses:
            self.add("unchecked", name, "witness-unknown", f"{word.witness} is not (or no more) named in sop.yml")
        elif not word.signed:
            meaning = (
                f"says that {word.witness} was told of {word.size} lines; only its own copy can show it (--witness)"
            )
            self.add("unchecked", name, "witness-unsigned", meaning)
        elif key not in self.witnesses[word.witness]:
            meaning = f"is signed with {signing.fingerprint(key)}, which is not {word.witness}'s key in sop.yml"
            self.add("broken", name, "witness", meaning)
        else:
            self.witnessed[word.witness] = max(word.size, self.witnessed.get(word.witness, 0))
