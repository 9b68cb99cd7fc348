# SPDX-License-Identifier: Apache-2.0
"""Having records and checkpoints stamped. A silent authority never fails what it follows: what it owes is asked for again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from sopctl import authorities, fsio, history, loading, register, stamps, tokens
from sopctl.errors import ConfigError, GateRefused, SopctlError
from sopctl.ledger import LedgerLine
from sopctl.models import TrustFile
from sopctl.session import Session
from sopctl.settings import TimestampAuthority
from sopctl.stamps import Pins, Subject
from sopctl.tokens import Anchors

#: seconds in which an authority that did not answer is not asked again by every command
PATIENCE = 60
#: time stamps that one command asks an authority for besides what it has made itself: nobody waits for a backlog
BATCH = 20


def pins_of(session: Session, lines: Sequence[LedgerLine]) -> Pins:
    """Which authorities the trust named when, by the trust in force and the earlier ones that are kept.

    It decides only what is asked for. What is believed, ``audit`` finds by trusts whose signatures it has checked.
    """
    now = session.trust
    settings = {now.digest: now.file.settings.get(register.TIMESTAMPS)}
    for serial in history.serials(session.site.root):
        path = history.path_of(session.site.root, serial)
        with contextlib.suppress(SopctlError):
            data = fsio.read_strict(path)
            settings[fsio.sha256_bytes(data)] = loading.from_yaml(TrustFile, data, path).settings.get(
                register.TIMESTAMPS
            )
    config = session.site.config
    own = fsio.sha256_bytes(stamps.authorities_bytes(config)), config.timestamps
    return Pins(session.site.archive, lines, settings, own)


def waiting(session: Session) -> dict[str, list[Subject]]:
    """Authority of sop.yml → what it should have stamped and did not, newest first; nothing of it is checked."""
    missing = _open(session).missing
    return {name: list(found) for name, found in missing.items()}


def _open(session: Session) -> stamps.Open:
    names = [one.name for one in session.site.config.timestamps]
    return stamps.open_ends(pins_of(session, session.ledger.lines()), names)


def require_signed(session: Session) -> None:
    """ConfigError unless sop.yml's authorities are those that the trust was signed over."""
    reason = register.setting_reason(session.trust.file, session.site.config, register.TIMESTAMPS)
    if reason:
        where = f"{session.site.root / 'sop.yml'}:{register.TIMESTAMPS}"
        raise ConfigError(reason, where=where, hint="Have the root holder sign: sopctl trust sign.")


def catch_up(session: Session, *, patient: bool = True, only: str = "") -> list[SopctlError]:
    """Ask each authority (or ``only`` one) for what it has not stamped; what went wrong is said, once each, and returned.

    ``patient``: one that gave none within the last minute is left alone, and a backlog is worked off in parts.
    """
    failures = list[SopctlError]()
    if not session.site.config.timestamps:
        return failures
    require_signed(session)
    found = _open(session)
    _enter_kept(session, [(subject, name) for subject, name in found.unlisted if subject.kind == "record"])
    missing = found.missing
    for entry in session.site.config.timestamps:
        silent = session.site.state / "timestamps" / f"{entry.name}.silent"
        todo = missing[entry.name]
        if (only and entry.name != only) or not todo or (patient and _recent(silent)):
            continue
        try:
            _stamp(session, entry, todo[:BATCH] if patient else todo)
            silent.unlink(missing_ok=True)
        except SopctlError as error:
            silent.parent.mkdir(parents=True, exist_ok=True)
            silent.touch()
            session.say(str(error))
            failures.append(error)
    return failures


def _stamp(session: Session, entry: TimestampAuthority, todo: Sequence[Subject]) -> None:
    """Have each stamped; a record's enters the ledger. SopctlError at the first that fails: the next would wait as long."""
    archive = session.site.archive
    roots = tokens.anchors(entry, f"{session.site.root / 'sop.yml'}:{register.TIMESTAMPS}.{entry.name}.anchors")
    digest = stamps.keep_authorities(archive, session.site.config)
    for subject in todo:
        try:
            signature = fsio.read_strict(subject.signature)
        except ConfigError:
            continue  # a damaged record or checkpoint, which `audit verify` names; the others need not wait for it
        stamps.keep(archive, subject, entry.name, authorities.ask(entry, signature, roots))
        if subject.kind == "record":
            _enter(session, subject, entry.name, digest)


def _enter(session: Session, subject: Subject, name: str, digest: str) -> None:
    """The ledger's line of a time stamp as it lies there."""
    digests = {
        "token": fsio.sha256_file(subject.path(session.site.archive, name)),
        "signature": fsio.sha256_file(subject.signature),
        "authorities": digest,
    }
    with contextlib.suppress(GateRefused):  # another command was faster
        session.ledger.append(stamps.LEDGER_KIND, subject.ref(name), digests, unique=True)


def before_checkpoint(session: Session) -> None:
    """Enter the earlier checkpoints' time stamps into the ledger, so that the new checkpoint covers that they are there.

    Not sooner: a line after each checkpoint would never be covered by one. SopctlError when the ledger cannot be written.
    """
    if session.site.config.timestamps:
        _enter_kept(session, [(one, name) for one, name in _open(session).unlisted if one.kind == "checkpoint"])


def _enter_kept(session: Session, found: Sequence[tuple[Subject, str]]) -> None:
    """A line for each good time stamp without one; what is not good is left for `audit verify` to name."""
    if not found:
        return
    lines, archive = session.ledger.lines(), session.site.archive
    pins = pins_of(session, lines)
    for subject, name in found:
        with contextlib.suppress(LookupError, ConfigError):
            answer = fsio.read_strict(subject.path(archive, name), tokens.MAX_ANSWER)
            signature = fsio.read_strict(subject.signature)
            for digest in pins.between(subject.seq, len(lines)):
                entry = pins.named(digest).get(name)
                if entry and _holds(answer, signature, entry, pins.roots(digest, entry)):
                    _enter(session, subject, name, digest)
                    break


def _holds(answer: bytes, data: bytes, entry: TimestampAuthority, roots: Anchors) -> bool:
    try:
        tokens.verify(answer, data, entry, roots)
    except tokens.BadToken:
        return False
    return True


def _recent(silent: Path) -> bool:
    return silent.exists() and 0 <= time.time() - silent.stat().st_mtime < PATIENCE
