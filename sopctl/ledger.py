# SPDX-License-Identifier: Apache-2.0
"""The ledger: a line for every accepted document, started run, record and trust change, chained to the line before.

``prev`` is the SHA-256 of the bytes of the line before (without its newline), so a line cannot be changed, removed or
put in between without breaking every later one. No personal data stands in it: only ids, digests and times. It can be
checked with ``jq`` and ``sha256sum`` alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sopctl.errors import ConfigError, EvidenceError, GateRefused
from sopctl.findings import Finding
from sopctl.fsio import fsync_dir, sha256_bytes, write_atomic

NO_LINE = "sha256:" + "0" * 64  # "prev" of the first line
CLOCK_TOLERANCE = timedelta(minutes=2)
TORN = "torn-line"  # kind of the line that explains a fragment set aside after a crash

_AT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_KIND = re.compile(r"[a-z][a-z-]{1,31}")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,199}")
_DIGEST_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class LedgerLine:
    """One line, and ``digest``, the SHA-256 of its bytes."""

    seq: int
    at: str  # UTC, 2026-11-22T03:00:00Z: when sopctl received it
    kind: str
    ref: str
    prev: str
    digests: Mapping[str, str] = field(default_factory=dict)
    serial: int | None = None  # of the trust file, kind "trust" only
    digest: str = ""

    def raw(self) -> bytes:
        """The line's bytes, without the newline: JSON, keys sorted, no spaces. No value needs an escape (see _problem)."""
        digests = ",".join(f'"{name}":"{value}"' for name, value in sorted(self.digests.items()))
        serial = "" if self.serial is None else f',"serial":{self.serial}'
        return (
            f'{{"at":"{self.at}","digests":{{{digests}}},"kind":"{self.kind}","prev":"{self.prev}",'
            f'"ref":"{self.ref}","seq":{self.seq}{serial}}}'
        ).encode()


@dataclass(frozen=True)
class Head:
    """Where the ledger ends: printed on every form, countersigned by a witness."""

    seq: int  # 0 when empty
    digest: str
    at: str | None

    def __str__(self) -> str:
        return f"{self.seq}@{self.digest}"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """The ledger file at ``path``; ``clock`` is the time source (UTC)."""

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self.path = path
        self._clock = clock

    # -- reading -----------------------------------------------------------------------------------------------------

    def lines(self) -> list[LedgerLine]:
        """Every line, the chain checked; a break is an EvidenceError. A torn tail is no line and is left out."""
        return self._checked(self._bytes())

    def head(self) -> Head:
        """The last line's number and digest."""
        return _head(self.lines())

    def find(self, kind: str, ref: str) -> list[LedgerLine]:
        """The lines of ``kind`` about ``ref``, oldest first; EvidenceError when the chain is broken."""
        return [line for line in self.lines() if line.kind == kind and line.ref == ref]

    def highest_trust_serial(self) -> int:
        """The highest serial of a trust file ever accepted; 0 when none was."""
        return max((line.serial or 0 for line in self.lines() if line.kind == "trust"), default=0)

    def extends(self, seq: int, digest: str) -> bool:
        """Whether the ledger still holds the head ``seq``, ``digest`` that a form or a witness shows."""
        if seq == 0:
            return digest == NO_LINE
        lines = self.lines()
        return 0 < seq <= len(lines) and lines[seq - 1].digest == digest

    def verify(self) -> list[Finding]:
        """Everything wrong with the file; empty when the chain holds from the first byte to the last. Never repairs."""
        if not self.path.exists() and not self.path.is_symlink():
            return [self._finding("unchecked", 0, "ledger-missing", "there is no ledger: nothing can be said about it")]
        try:
            data = self._bytes()
        except ConfigError as error:
            return [self._finding("broken", 0, "ledger-unreadable", error.message)]
        findings: list[Finding] = []
        held = self._held(data)
        lines = list(held.lines)
        for outcome in self._walk(data[len(held.data) :], lines[-1] if lines else None):
            if isinstance(outcome, Finding):
                findings.append(outcome)
            else:
                lines.append(outcome)
        if not findings:
            _HELD[self.path] = _Held(data[: data.rfind(b"\n") + 1], lines)
        findings += self._check_fragments(lines)
        if _fragment(data):
            findings.append(
                self._finding(
                    "unchecked",
                    data.count(b"\n") + 1,
                    "ledger-torn",
                    "the last line was cut off while it was written (a crash or a full disk); "
                    "the next entry sets it aside and says so",
                )
            )
        return findings

    # -- writing -----------------------------------------------------------------------------------------------------

    def append(
        self,
        kind: str,
        ref: str,
        digests: Mapping[str, str] | None = None,
        *,
        serial: int | None = None,
        unique: bool = False,
    ) -> LedgerLine:
        """Add a line and wait until it is on disk.

        With ``unique`` a second line of the same kind and ref is a GateRefused (an approval is used once; two
        operators at the same second included). A clock more than two minutes behind the last line is a GateRefused.
        """
        with self._locked() as descriptor:
            data = _read_all(descriptor)
            last = self._last(data)
            now = self._now(last)
            if unique and any(self._matching(data, kind, ref)):
                raise GateRefused(f"{ref} has its {kind} entry already", where=str(self.path))
            new: list[LedgerLine] = []
            for name, digest in self._set_aside(descriptor, data, last):
                last = _chained(last, LedgerLine(0, now, TORN, name, "", {"fragment": digest}))
                new.append(last)
            new.append(_chained(last, LedgerLine(0, now, kind, ref, "", digests or {}, serial)))
            self._write(descriptor, b"".join(line.raw() + b"\n" for line in new))
        return new[-1]

    def _last(self, data: bytes) -> LedgerLine | None:
        """The last whole line. A new line needs only this one; the chain before it is for verify() and lines()."""
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            return None
        raw = whole[whole.rfind(b"\n", 0, -1) + 1 : -1]
        line, number = _parse(raw, sha256_bytes(raw)), whole.count(b"\n")
        if isinstance(line, str) or line.seq != number:
            raise self._broken(f"{self.path.name}:{number}", "the last line does not fit the ledger")
        return line

    def _matching(self, data: bytes, kind: str, ref: str) -> Iterator[bytes]:
        needles = (f'"kind":"{kind}"'.encode(), f'"ref":"{ref}"'.encode())
        return (raw for raw in data.split(b"\n")[:-1] if all(needle in raw for needle in needles))

    def _broken(self, file: str, meaning: str) -> EvidenceError:
        return EvidenceError(
            meaning,
            where=str(self.path.parent / file),
            hint="Nothing is added to a broken ledger: compare it with a witness or a backup",
        )

    def _now(self, last: LedgerLine | None) -> str:
        now = self._clock().astimezone(UTC).replace(microsecond=0)
        if last is None:
            return _stamp(now)
        reached = datetime.fromisoformat(last.at)
        if now < reached - CLOCK_TOLERANCE:
            raise GateRefused(
                f"this machine's clock says {_stamp(now)}, but the ledger already reached {last.at}",
                where=str(self.path),
                hint="Set the clock (timedatectl), then try again",
            )
        return _stamp(max(now, reached))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        created = not self.path.exists()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(f"cannot open the ledger: {error.strerror}", where=str(self.path)) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if created:
                fsync_dir(self.path.parent)
            yield descriptor
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, data: bytes) -> None:
        before = os.fstat(descriptor).st_size
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, before)
            raise ConfigError(f"cannot append to the ledger: {error.strerror}", where=str(self.path)) from error

    # -- a crash in the middle of a line -------------------------------------------------------------------------------

    def _set_aside(self, descriptor: int, data: bytes, last: LedgerLine | None) -> list[tuple[str, str]]:
        """Move a torn tail into a file of its own; returns (file name, digest) of each fragment not yet explained."""
        if fragment := _fragment(data):
            digest = sha256_bytes(fragment)
            aside = self.path.with_name(f"{self.path.name}.torn-{last.seq + 1 if last else 1}-{digest[7:15]}")
            write_atomic(aside, fragment)  # first kept, then cut: a crash in between loses nothing
            os.ftruncate(descriptor, len(data) - len(fragment))
            os.fsync(descriptor)
        return [
            (file.name, sha256_bytes(file.read_bytes()))
            for file in self._fragment_files()
            if not any(self._matching(data, TORN, file.name))
        ]

    def _fragment_files(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}.torn-*"))

    def _check_fragments(self, lines: list[LedgerLine]) -> list[Finding]:
        files = {file.name: file for file in self._fragment_files()}
        findings = []
        for line in lines:
            if line.kind != TORN:
                continue
            file = files.pop(line.ref, None)
            if file is None:
                findings.append(self._finding("broken", line.seq, "fragment-missing", f"{line.ref} is gone"))
            elif file.is_symlink() or sha256_bytes(file.read_bytes()) != line.digests.get("fragment"):
                findings.append(self._finding("broken", line.seq, "fragment-altered", f"{line.ref} was changed"))
        for name in files:
            findings.append(self._finding("unchecked", 0, "fragment-unexplained", f"no line explains {name}"))
        return findings

    # -- the chain -----------------------------------------------------------------------------------------------------

    def _bytes(self) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise ConfigError(f"cannot read the ledger: {error.strerror}", where=str(self.path)) from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError("is not a regular file", where=str(self.path))
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            return _read_all(descriptor)
        finally:
            os.close(descriptor)

    def _checked(self, data: bytes) -> list[LedgerLine]:
        """The lines, if the chain holds."""
        held = self._held(data)
        lines = list(held.lines)
        for outcome in self._walk(data[len(held.data) :], lines[-1] if lines else None):
            if isinstance(outcome, Finding):
                raise self._broken(outcome.file, outcome.meaning)
            lines.append(outcome)
        _HELD[self.path] = _Held(data[: data.rfind(b"\n") + 1], lines)
        return list(lines)

    def _held(self, data: bytes) -> _Held:
        """What was checked of it already. A command reads its ledger many times: what begins with the very bytes that were
        checked before is checked from there on."""
        held = _HELD.get(self.path)
        return held if held and data.startswith(held.data) else _Held(b"", [])

    def _walk(self, data: bytes, after: LedgerLine | None = None) -> Iterator[LedgerLine | Finding]:
        """The lines in ``data``, which come ``after`` that one."""
        prev, at, first = (after.digest, after.at, after.seq + 1) if after else (NO_LINE, "", 1)
        for number, raw in enumerate(data.split(b"\n")[:-1], start=first):
            digest = sha256_bytes(raw)
            line = _parse(raw, digest)
            if isinstance(line, str):
                yield self._finding("broken", number, "ledger-line", line)
            elif line.seq != number:
                yield self._finding("broken", number, "ledger-sequence", f"line {number} says it is number {line.seq}")
            elif line.prev != prev:
                yield self._finding(
                    "broken", number, "ledger-chain", f"line {number} does not follow the line before it"
                )
            elif line.at < at:
                yield self._finding("broken", number, "ledger-time", f"line {number} is earlier than the line before")
            else:
                yield line
            prev = digest
            at = at if isinstance(line, str) else max(at, line.at)

    def _finding(self, severity: str, number: int, rule: str, meaning: str) -> Finding:
        place = f"{self.path.name}:{number}" if number else self.path.name
        return Finding("broken" if severity == "broken" else "unchecked", "ledger", place, rule, meaning)


@dataclass(frozen=True)
class _Held:
    """Whole lines of a ledger, and what they say."""

    data: bytes
    lines: list[LedgerLine]


#: what this process has checked, by the ledger's path
_HELD: dict[Path, _Held] = {}


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        return stream.read()


def _fragment(data: bytes) -> bytes:
    return data[data.rfind(b"\n") + 1 :]


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _head(lines: list[LedgerLine]) -> Head:
    return Head(lines[-1].seq, lines[-1].digest, lines[-1].at) if lines else Head(0, NO_LINE, None)


def _chained(last: LedgerLine | None, line: LedgerLine) -> LedgerLine:
    line = replace(line, seq=last.seq + 1 if last else 1, prev=last.digest if last else NO_LINE)
    if problem := _problem(line):
        raise ValueError(f"not a ledger line: {problem}: {line}")
    return replace(line, digest=sha256_bytes(line.raw()))


def _parse(raw: bytes, digest: str) -> LedgerLine | str:
    """The line, or what is wrong with it. Written again it must give the same bytes: that rules out every ambiguity."""
    try:
        value = json.loads(raw)
        line = LedgerLine(**value, digest=digest)
        if (problem := _problem(line)) is not None:
            return problem
        if line.raw() != raw:
            return "is not written in the ledger's own form"
    except (ValueError, TypeError, AttributeError, RecursionError):
        return "is not a ledger line"
    return line


def _problem(line: LedgerLine) -> str | None:
    if type(line.seq) is not int or (line.serial is not None and type(line.serial) is not int):
        return "a number is not a whole number"
    if not _AT.fullmatch(line.at):
        return "its time is not UTC in seconds"
    datetime.fromisoformat(line.at)  # ValueError: no such day or hour
    if not _KIND.fullmatch(line.kind) or not _REF.fullmatch(line.ref):
        return "its kind or ref has characters that are not allowed"
    if not _DIGEST.fullmatch(line.prev):
        return "its prev is not a sha256 digest"
    if not all(_DIGEST_NAME.fullmatch(name) and _DIGEST.fullmatch(value) for name, value in line.digests.items()):
        return "a digest is not sha256:<64 hex digits>"
    return None
