# SPDX-License-Identifier: Apache-2.0
"""Checking the vault from the admin host: its files, restic's own check, and what the records say should lie there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sopctl import access, clock, fsio, locks, vault
from sopctl import scrub as scrubs
from sopctl.errors import ConfigError, ExitCode, GateRefused, SopctlError, UsageError
from sopctl.models import Json
from sopctl.restic import Restic
from sopctl.sealing import seal_maintenance
from sopctl.session import Session, Signer
from sopctl.settings import CopyConfig
from sopctl.vault import CHECK, Backup

#: the ledger's kind of line for a check, by the digest of its result
LEDGER_KIND = "vault-checked"
#: held by maintenance of the vault, beside the locks of all datasets in the repositories it works on
LOCK = "vault"
SHARE = re.compile(r"all|1/[1-9][0-9]{0,2}|(100|[1-9][0-9]?)%")
_PACK = re.compile(r"\bpack (?:id does not match, want )?([0-9a-f]{64})", re.IGNORECASE)
_BLOB = re.compile(r"blob ([0-9a-f]{64}) not found in index")
_MOST = 20


@dataclass(frozen=True)
class Checked:
    """What checking came to: one row a repository, its record, and the exit code it deserves."""

    rows: list[Json]
    record: Path
    code: ExitCode


def check(
    session: Session,
    person: str | None,
    key: str | None,
    *,
    servers: Sequence[str],
    share: str,
    quarantine: bool,
    copy: str | None = None,
    say: Callable[[str], None],
) -> Checked:
    """Check the repositories of ``servers`` (default: all that hold a dataset), or their copies in another vault.

    SopctlError when none could be looked at.
    """
    if not SHARE.fullmatch(share):
        raise UsageError(f"{share!r} is no share", where="--read-share", hint="Say 1/12, 10% or all.")
    signer = maintainer(session, person, key, "checking the vault", services=True)
    if copy is not None:
        another(session, copy)
    names = repositories(session, servers)
    with maintenance(session, names if copy is None else [], signer) as number:
        backups = seen(vault.catalogue(session.site), copy)
        rows: list[Json] = []
        errors: list[SopctlError] = []
        for name in names:
            say(f"{place(name, copy)}: checking")
            own = [backup for backup in backups if backup.server == name and not backup.forgotten]
            if copy is not None and not own:
                say(f"{place(name, copy)}: nothing was copied there")
                continue
            row = {"server": name} | ({"copy": copy} if copy else {})
            try:
                part = _part(session, place(name, copy), share)
                rows.append(row | _check(restic_of(session, name, copy), own, part, quarantine))
            except SopctlError as error:
                errors.append(error)
                rows.append({"kind": "vault-unchecked", **row, "error": str(error), "finished": clock.now()})
        if not rows:
            raise UsageError(f"nothing was copied to {copy} yet", where="--copy", hint="Run: sopctl vault copy.")
        if len(errors) == len(rows):
            raise errors[0]
        evidence = (json.dumps(rows, ensure_ascii=False, indent=1, sort_keys=True) + "\n").encode()
        said = f"vault check {', '.join(place(name, copy) for name in names)}"
        bag = seal_maintenance(session, number, {"evidence.json": evidence}, signer, said)
        for row in rows:
            if row["kind"] == CHECK:
                session.ledger.append(
                    LEDGER_KIND,
                    f"{place(row['server'], copy)}/{number}",
                    {"result": fsio.sha256_bytes(fsio.canonical_json(row))},
                    unique=True,
                )
        broken = any(row["kind"] == CHECK and not row["clean"] for row in rows)
        code = ExitCode.EVIDENCE_BROKEN if broken else ExitCode.PARTIAL if errors else ExitCode.OK
        return Checked(rows, bag, code)


def last_checked(session: Session) -> dict[str, str]:
    """Server, or server@copy → when that repository was last checked, by the ledger."""
    return {line.ref.split("/")[0]: line.at for line in session.ledger.lines() if line.kind == LEDGER_KIND}


# what all maintenance shares -----------------------------------------------------------------------------------------


def maintainer(session: Session, person: str | None, key: str | None, what: str, *, services: bool) -> Signer:
    """Who maintains the vault: somebody who executes backups. GateRefused when they may not, or sop.yml is not as signed."""
    session.read_what_decides()
    if reasons := session.context().settings():
        raise GateRefused(reasons, where=str(session.site.root / "sop.yml"))
    signer = session.signer(person, key)
    profile = session.site.profile.profile
    step = profile.flow(profile.schedule_flow() or profile.flow_for("backup")).first("execute")
    session.role(signer.person, step.actors if step else [], what)
    if signer.person.kind == "service" and not services:
        raise GateRefused(f"{signer.person.id} is a service identity: {what} is ordered by a person")
    return signer


def repositories(session: Session, servers: Sequence[str]) -> list[str]:
    """The servers whose repositories are worked on, in order. UsageError for one that there is not."""
    known = {dataset.server for dataset in session.site.datasets.values()}
    known |= {backup.server for backup in vault.catalogue(session.site) if backup.server}
    for name in servers:
        if name not in known:
            raise UsageError(
                f"server {name!r} has no dataset", where="--server", hint=f"There are: {', '.join(sorted(known))}."
            )
    if not known:
        raise UsageError("no dataset is registered", where="register/datasets", hint="Register one first.")
    return sorted(set(servers) or known)


@contextmanager
def maintenance(session: Session, servers: Sequence[str], signer: Signer) -> Iterator[str]:
    """Hold off backups, restores and other maintenance of these repositories; yields the number under which it is recorded."""
    for dead in locks.let_go_of_maintenance(session.site.state):
        session.ledger.append("locks-cleared", dead)
        session.say(f"{dead}: maintenance of the vault died without letting go; its locks are cleared")
    datasets = [f"dataset-{one.id}" for one in session.site.datasets.values() if one.server in servers]
    number = _number(session)
    with locks.held(session.site.state, [LOCK, *datasets], signer.person.id, case=number), session.vault_open():
        if number != _number(session):
            raise GateRefused("other maintenance of the vault ended just now", where=number, hint="Run it again.")
        yield number


def _number(session: Session) -> str:
    year = clock.parse(clock.now()).astimezone(session.site.tz).strftime("%Y")
    begin = f"{locks.MAINTENANCE}{year}-"
    taken = {
        line.ref.split("/")[0]
        for line in session.ledger.lines()
        if line.kind in {"record", "destruction"} and line.ref.startswith(begin)
    }
    return f"{begin}{len(taken) + 1:04d}"


def restic_of(session: Session, server: str, copy: str | None = None) -> Restic:
    """restic against the server's repository, with what maintenance may do; ``copy``: against that in another vault."""
    reached = access.to_copy(session.site, copy, server) if copy else session.vault_access(server, admin=True)
    return Restic(reached, place(server, copy), session.site.state)


def place(server: str, copy: str | None) -> str:
    """How a repository is called in messages and in the ledger."""
    return f"{server}@{copy}" if copy else server


def another(session: Session, name: str) -> CopyConfig:
    """The other vault of that name. UsageError when there is none."""
    copies = {one.name: one for one in session.site.config.vault.copies}
    if name not in copies:
        raise UsageError(
            f"there is no copy {name!r}",
            where=f"{session.site.root / 'sop.yml'}:vault.copies",
            hint=f"There are: {', '.join(copies) or 'none'}.",
        )
    return copies[name]


def seen(backups: list[Backup], copy: str | None) -> list[Backup]:
    """The backups as they lie in the vault, or in another one: those that were copied there."""
    return backups if copy is None else [there for backup in backups if (there := backup.within(copy))]


# one repository ------------------------------------------------------------------------------------------------------


def _part(session: Session, server: str, share: str) -> list[str]:
    """What restic is told to read; of a share 1/12 each check takes the next twelfth."""
    if share == "all":
        return ["--read-data"]
    if share.startswith("1/"):
        whole = int(share[2:])
        before = [
            line for line in session.ledger.lines() if line.kind == LEDGER_KIND and line.ref.startswith(f"{server}/")
        ]
        share = f"{len(before) % whole + 1}/{whole}"
    return [f"--read-data-subset={share}"]


def _check(restic: Restic, backups: list[Backup], part: list[str], quarantine: bool) -> Json:
    folder, stamp = restic.folder, clock.now().replace("-", "").replace(":", "")
    misfits: list[scrubs.Misfit] = []
    files, moved = 0, None
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(
                "there is no repository", where=restic.label, hint="Set vault.admin_url in sop.yml to where it is."
            )
        misfits, files = scrubs.scrub(folder)
        if quarantine:  # packs stay for now: restic still has to tell whose they are
            moved = scrubs.quarantine(folder, [one for one in misfits if not one.pack], stamp)
    if quarantine and any(one.path.startswith("index/") for one in misfits):
        restic.run("rebuild-index")
    with suppress(ConfigError):  # an append-only vault takes a lock away only for who made it
        restic.run("unlock")
    there = {str(one["id"]) for one in restic.json("snapshots") or []}
    done = restic.run("check", *part, may_fail=True)
    packs = sorted({one.pack for one in misfits if one.pack} | (set(_PACK.findall(done.err)) if done.code else set()))
    blobs = sorted(set(_BLOB.findall(done.err))) if done.code else []
    unreadable = any(one.path.startswith("index/") for one in misfits) and not quarantine
    hit = _hit(restic, packs, blobs, backups, there) if (packs or blobs or done.code) and not unreadable else set()
    if quarantine and folder is not None and packs:
        moved = scrubs.quarantine(folder, [one for one in misfits if one.pack], stamp) or moved
        restic.run("rebuild-index")
    known = {one for backup in backups for one in backup.lies}
    damaged = [each for each in backups if set(each.lies) & hit]
    missing = [each for each in backups if not set(each.lies) <= there]
    return {
        "kind": CHECK,
        "finished": clock.now(),
        "scrubbed": "could not scrub: no folder" if folder is None else f"{files} files",
        "read": " ".join(part),
        "misfits": [{"path": one.path, "why": one.why, "damaged": one.damaged} for one in misfits],
        "quarantine": str(moved) if moved else None,
        "packs": packs,
        "damaged": [_named(each) for each in damaged],
        "missing": [_named(each) for each in missing],
        "unknown": sorted(there - known),
        "problems": [line.strip() for line in done.err.splitlines() if line.strip()][:_MOST] if done.code else [],
        "clean": not (misfits or done.code or damaged or missing),
    }


def _named(backup: Backup) -> Json:
    return {"dataset": backup.dataset, "name": backup.name, "snapshot": backup.lies[0]}


def _hit(restic: Restic, packs: list[str], blobs: list[str], backups: list[Backup], there: set[str]) -> set[str]:
    """The snapshots that damaged packs or lost blobs belong to; where restic cannot tell, those it cannot list."""
    found: set[str] = set()
    told = True
    for option, ids in (("--pack", packs), ("--blob", blobs)):
        if not ids:
            continue
        answer = restic.run("find", option, *ids, "--json", may_fail=True)
        try:
            found |= {str(one["snapshot"]) for one in json.loads(answer.out or "[]") if "snapshot" in one}
        except ValueError:
            told = False
        told = told and answer.code == 0
    if told and (packs or blobs):
        return found
    known = {one for backup in backups for one in backup.lies}
    return found | {one for one in known & there if restic.run("ls", one, may_fail=True).code != 0}
