# SPDX-License-Identifier: Apache-2.0
"""Making checkpoints, having them stamped, and telling the site's witnesses. None of it fails the run that it follows."""

from __future__ import annotations

import time

from sopctl import checkpoints, clock, register, stamping, witnesses
from sopctl.checkpoints import Checkpoint
from sopctl.errors import ConfigError, EvidenceError, SopctlError
from sopctl.session import Session, Signer
from sopctl.settings import Witness
from sopctl.witnesses import Told

#: seconds in which a witness that did not answer is not asked again by every command
PATIENCE = 60


def checkpoint(session: Session, signer: Signer) -> Checkpoint | None:
    """Sign how far the ledger has come; None when a checkpoint says so already. EvidenceError: an older one contradicts."""
    archive, lines = session.site.archive, session.ledger.lines()
    if not lines:
        return None
    known = checkpoints.sizes(archive)
    if known and known[-1] == len(lines):
        return None
    if known and known[-1] > len(lines):
        raise EvidenceError(
            f"a checkpoint saw {known[-1]} lines, the ledger has {len(lines)}: its end was cut off",
            where=str(session.ledger.path),
            hint="Put the lines back from a witness's copy, then sopctl audit verify",
        )
    stamping.before_checkpoint(session)
    lines = session.ledger.lines()
    point = Checkpoint(session.site.config.site, len(lines), lines[-1].digest, max(clock.now(), lines[-1].at))
    signature = session.sign(point.data, "sop-checkpoint", signer)
    kept = checkpoints.keep(checkpoints.path_of(archive, point.size), point.data, signature)
    return point if kept else None


def after_sealing(session: Session, signer: Signer) -> None:
    """Time stamps of the record and of a checkpoint over its line, and every witness told. What goes wrong is said; the record
    stays sealed."""
    asked = stamp(session)
    try:
        checkpoint(session, signer)
        if asked:
            stamp(session)
        catch_up(session, patient=False)
    except (SopctlError, OSError) as error:
        why = error.message if isinstance(error, SopctlError) else error.strerror
        session.say(f"no checkpoint was made ({why}); make one: sopctl audit checkpoint")


def stamp(session: Session) -> bool:
    """Ask the authorities for what they have not stamped; False when they could not be asked. What goes wrong is said, and
    hinders nothing. Ctrl-C ends the waiting alone: what was sealed has still to be filed."""
    try:
        stamping.catch_up(session)
    except KeyboardInterrupt:
        session.say("time stamps: interrupted. Nothing is lost: the next command asks again")
        return False
    except (SopctlError, OSError) as error:
        session.say(str(error))
        return False
    return True


def behind(session: Session, witness: Witness) -> int:
    """Checkpointed lines that the witness has not seen, by what lies in the archive."""
    points = checkpoints.sizes(session.site.archive)
    seen = checkpoints.sizes(session.site.archive, witness.name)
    return max(0, (points[-1] if points else 0) - (seen[-1] if seen else 0))


def catch_up(session: Session, *, patient: bool = True) -> list[SopctlError]:
    """Tell each witness of the newest checkpoint that it has not seen; what went wrong is said and returned.

    ``patient``: one that did not answer within the last minute is left alone.
    """
    entries, failures = session.site.config.witnesses, list[SopctlError]()
    if not entries:
        return failures
    require_signed(session)
    for witness in entries:
        silent = session.site.state / "witnesses" / f"{witness.name}.silent"
        if not behind(session, witness) or (patient and _recent(silent.stat().st_mtime if silent.exists() else 0)):
            continue
        try:
            tell(session, witness)
            silent.unlink(missing_ok=True)
        except SopctlError as error:
            silent.parent.mkdir(parents=True, exist_ok=True)
            silent.touch()
            session.say(str(error))
            failures.append(error)
    return failures


def require_signed(session: Session) -> None:
    """ConfigError unless sop.yml's witnesses are whole and those that the trust was signed over: who may edit sop.yml could
    name a command for a password, and a witness of their own."""
    where = f"{session.site.root / 'sop.yml'}:witnesses"
    witnesses.check(session.site.config.witnesses, where)
    if reason := register.setting_reason(session.trust.file, session.site.config, register.WITNESSES):
        raise ConfigError(reason, where=where, hint="Have the root holder sign: sopctl trust sign.")


def tell(session: Session, witness: Witness) -> None:
    """Tell one witness of the newest checkpoint and file its word. SopctlError when it could not be told."""
    archive = session.site.archive
    require_signed(session)
    try:
        newest = checkpoints.newest(archive)
    except ValueError as error:
        raise EvidenceError(f"the newest checkpoint {error}", where=str(archive / checkpoints.FOLDER)) from None
    if newest is None:
        return
    point, signature = newest
    lines = session.ledger.lines()
    if point.size > len(lines) or lines[point.size - 1].digest != point.head:
        raise EvidenceError(
            "the newest checkpoint and the ledger contradict each other: no witness is told",
            where=str(checkpoints.path_of(archive, point.size)),
            hint="See sopctl audit verify",
        )
    where = f"{session.site.root / 'sop.yml'}:witnesses.{witness.name}.password"
    told = Told(
        site_root=session.site.root,
        state=session.site.state / "witnesses",
        checkpoint=point,
        signature=signature,
        lines=[line.raw() for line in lines[: point.size]],
        password=session.site.secret(witness.password, where),
    )
    word, own = witnesses.tell(witness, told)
    checkpoints.keep(checkpoints.path_of(archive, point.size, witness.name), word, own)


def _recent(moment: float) -> bool:
    return 0 <= time.time() - moment < PATIENCE
