# SPDX-License-Identifier: Apache-2.0
"""Keeping the register: the keeper's signature over all its entries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sopctl import clock, fsio, register
from sopctl.errors import GateRefused, UsageError
from sopctl.models import Json, RegisterIndex
from sopctl.profile import KEEPER
from sopctl.register import Changes, SignedRegister
from sopctl.session import Session


@dataclass(frozen=True)
class Kept:
    """The index as it is now; ``path`` is None when there was nothing to sign."""

    path: Path | None
    serial: int
    changes: Changes


@dataclass(frozen=True)
class Status:
    """What is signed of the register, and why a run would be refused (empty: it would not)."""

    serial: int | None
    issued: str | None
    entries: int
    changes: Changes
    reasons: list[str]


def _reasons(session: Session, signed: SignedRegister | None, files: dict[str, bytes]) -> list[str]:
    lines = session.ledger.lines()
    known = next(
        (
            line.digests.get("register")
            for line in lines
            if signed and (line.kind, line.ref) == ("register", signed.ref)
        ),
        None,
    )
    site = session.site.config.site
    return register.register_reasons(
        signed, session.trust, site, clock.now(), files, list(files), register.highest_serial(lines), known
    )


def register_status(session: Session) -> Status:
    """How the register's files stand to what its keeper signed."""
    files, signed = register.entry_files(session.site.root), register.load_register(session.site.root)
    changes, reasons = register.changes(signed, files), _reasons(session, signed, files)
    reasons += [f"register/{name} is signed, but is gone" for name in changes.gone]
    return Status(
        signed.index.serial if signed else None, signed.index.issued if signed else None, len(files), changes, reasons
    )


def sign_index(session: Session, person: str | None, key: str | None) -> Kept:
    """Sign the register as it lies: every server and dataset, read strictly first. Nothing to sign is no error.

    GateRefused when the person keeps no register, ConfigError for an entry that cannot be read.
    """
    root = session.site.root
    signer = session.signer(person, key)
    session.role(signer.person, [KEEPER], "signing the register")
    register.entry_files(root)
    if not len(session.site.servers) + len(session.site.datasets):  # all are read: what cannot be read is not signed
        raise UsageError("the register is empty", where=str(root / "register"), hint="Register a server first.")
    files, signed = dict(session.site.register_bytes), register.load_register(root)
    changes = register.changes(signed, files)
    if signed and not changes and not _reasons(session, signed, files):
        return Kept(None, signed.index.serial, changes)
    before = register.highest_serial(session.ledger.lines())
    if signed and not _reasons(session, signed, {}):  # the keeper's own, whose line in the ledger was broken off
        before = max(before, signed.index.serial)
    index = RegisterIndex(
        schema="sop-register/v1",
        site=session.site.config.site,
        serial=before + 1,
        issued=clock.now(),
        entries=register.digests_of(files),
    )
    data = register.index_bytes(index)
    made = SignedRegister(index, data, session.sign(data, "sop-register", signer))
    reasons = _reasons(session, made, files)
    path = root / register.INDEX
    if reasons or made.signature is None:
        raise GateRefused(reasons, where=str(path))
    signature_path = path.with_name(path.name + ".sig")
    fsio.write_atomic(signature_path, made.signature)
    fsio.write_atomic(path, data)
    session.ledger.append(register.LEDGER_KIND, made.ref, made.digests, unique=True)
    return Kept(signature_path, index.serial, changes)


def changes_json(changes: Changes) -> Json:
    """Plain JSON value of what changed."""
    return {
        word: [f"register/{name}" for name in names]
        for word, names in (("new", changes.new), ("changed", changes.changed), ("gone", changes.gone))
    }
