# SPDX-License-Identifier: Apache-2.0
"""Copying backups to another vault, and bringing back from it what the own one has lost.

restic names a snapshot by its encrypted bytes, so a copy has other ids; it is the same when it says which snapshot it was made
from and has the same tree, which is named by the content of all that it holds. *Verified* is a copy that was read back whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sopctl import clock, upkeep, vault
from sopctl.errors import ConfigError, ExitCode, SopctlError, VaultFailed
from sopctl.models import Json
from sopctl.restic import Restic
from sopctl.sealing import seal_maintenance
from sopctl.session import Session
from sopctl.settings import CopyConfig
from sopctl.site import Site
from sopctl.vault import COPY, Backup


def three_two_one(site: Site, backup: Backup) -> Json:
    """Three copies of the data (the live ones count), on two media, one of them off-site: what of it holds for this backup."""
    good = [one for one in site.config.vault.copies if (there := backup.within(one.name)) and there.verified]
    places, media = ["live"], {"disk"}
    if backup.verified and not backup.forgotten:
        places.append("vault")
        media.add(site.config.vault.media)
    places += [one.name for one in good]
    media |= {one.media for one in good}
    offsite = sum(one.offsite for one in good)
    return {
        "places": places,
        "media": len(media),
        "offsite": offsite,
        "kept": len(places) >= 3 and len(media) >= 2 and offsite >= 1,
    }


@dataclass(frozen=True)
class Made:
    """What copying came to: one row a repository and other vault, the record (None when there was nothing to do), the exit code."""

    rows: list[Json]
    record: Path | None
    code: ExitCode


def copy(
    session: Session,
    person: str | None,
    key: str | None,
    *,
    servers: Sequence[str],
    names: Sequence[str],
    back: bool,
    read_back: bool,
    say: Callable[[str], None],
) -> Made:
    """Copy what the vault holds to the other vaults ``names`` (default: all), or bring ``back`` from them what it has lost.

    ``read_back``: read each new copy whole; without that it is *stored*. SopctlError when nothing could be copied at all.
    """
    what = "bringing backups back" if back else "copying the vault"
    signer = upkeep.maintainer(session, person, key, what, services=not back)
    others = [upkeep.another(session, name) for name in names] or session.site.config.vault.copies
    if not others:
        raise ConfigError(
            "no other vault is set",
            where=f"{session.site.root / 'sop.yml'}:vault.copies",
            hint="Name one: copies: [{name: offsite, url: …, media: …}].",
        )
    # only other maintenance is held off: backups add to the vault, restores read it, and neither hinders a copy
    with upkeep.maintenance(session, [], signer) as number:
        backups = vault.catalogue(session.site)
        works: list[_Work] = []
        for other in others:
            for server in upkeep.repositories(session, servers):
                own = [backup for backup in backups if backup.server == server and not backup.forgotten]
                work = _Work(session, server, other, back, read_back, say)
                work.all_of(own)
                works.append(work)
        errors = [work.error for work in works if work.error]
        done = [work for work in works if work.copied or work.failed]
        if errors and not done:
            raise errors[0]
        rows = [work.row() for work in works]
        record = None
        if done:
            evidence = (
                json.dumps([work.row() for work in done], ensure_ascii=False, indent=1, sort_keys=True) + "\n"
            ).encode()
            said = f"vault copy {', '.join(sorted({upkeep.place(work.server, work.other.name) for work in done}))}"
            record = seal_maintenance(session, number, {"evidence.json": evidence}, signer, said)
    damaged = any(one["verified"] is False for work in works for one in work.copied)
    partial = errors or any(work.failed for work in works)
    return Made(rows, record, ExitCode.EVIDENCE_BROKEN if damaged else ExitCode.PARTIAL if partial else ExitCode.OK)


@dataclass
class _Work:
    """One repository and one other vault."""

    session: Session
    server: str
    other: CopyConfig
    back: bool
    read_back: bool
    say: Callable[[str], None]
    copied: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    error: SopctlError | None = None

    @property
    def place(self) -> str:
        return upkeep.place(self.server, self.other.name)

    def row(self) -> Json:
        """What came of it, as evidence."""
        return {
            "kind": COPY,
            "server": self.server,
            "copy": self.other.name,
            "back": self.back,
            "finished": clock.now(),
            "copied": self.copied,
            "failed": self.failed,
            "error": str(self.error) if self.error else None,
        }

    def all_of(self, backups: list[Backup]) -> None:
        """Copy what of ``backups`` is wanted and not there yet. What happens is kept, whatever comes after it."""
        wanted = [backup for backup in backups if self._wanted(backup)]
        if not wanted:
            return
        try:
            own, other = (
                upkeep.restic_of(self.session, self.server),
                upkeep.restic_of(self.session, self.server, self.other.name),
            )
            source, target = (other, own) if self.back else (own, other)
            _one_pair_of_keys(source, target)
            if target.absent():
                target.run("init", "--copy-chunker-params", source=source)
            with suppress(ConfigError):  # an append-only vault takes a lock away only for who made it
                target.run("unlock")
            trees, there = _trees(source), _trees(target)
            for backup in wanted:
                if self.back and not backup.flaw and set(backup.lies) <= there.keys():
                    continue
                self._one(backup, source, target, trees)
        except SopctlError as error:
            self.error = error

    def _wanted(self, backup: Backup) -> bool:
        copied = backup.copies.get(self.other.name)
        if self.back:  # what the vault has lost is then seen there
            return copied is not None and copied.good
        if copied is None or (copied.flaw and not copied.forgotten):
            return not backup.refuted
        return self.read_back and not copied.verified and not copied.forgotten and not copied.flaw

    def _one(self, backup: Backup, source: Restic, target: Restic, trees: dict[str, str]) -> None:
        copied = backup.copies.get(self.other.name)
        ids = (copied.snapshot, copied.manifest_snapshot) if self.back and copied else backup.lies
        about: Json = {"dataset": backup.dataset, "name": backup.name, "snapshot": backup.snapshot}
        if not set(ids) <= trees.keys():
            self.failed.append(about | {"error": f"not in {source.label}; sopctl vault check tells what is"})
            return
        names = (backup.snapshot, backup.manifest_snapshot)
        wanted = [(name, trees[one]) for name, one in zip(names, ids, strict=True)]
        found = _find(target, wanted)
        lost = (backup.flaw if self.back else copied.flaw if copied else "") != ""
        if found and lost:  # restic would take what is damaged for a copy, and copy nothing
            target.run("forget", *found)
            found = None
        if found is None:
            self.say(f"{self.place}: {backup.name}")
            done = target.run("copy", *ids, source=source, may_fail=True)
            found = _find(target, wanted) if done.code == 0 else None
            if found is None:
                said = next((line for line in done.err.splitlines() if line.startswith("Fatal:")), "no copy came of it")
                self.failed.append(about | {"error": said.removeprefix("Fatal: ")})
                return
        verified = None
        if self.read_back:
            self.say(f"{self.place}: {backup.name}: reading back")
            verified = all(target.run("dump", one, "/", may_fail=True, discard=True).code == 0 for one in found)
        self.copied.append(about | {"copy": found[0], "copy_manifest": found[1], "verified": verified})


def _trees(restic: Restic) -> dict[str, str]:
    """Id of each snapshot → its tree."""
    return {str(one["id"]): str(one["tree"]) for one in restic.json("snapshots") or []}


def _find(target: Restic, wanted: list[tuple[str, str]]) -> tuple[str, str] | None:
    """The ids under which snapshots (name, tree) lie in ``target``, when all of them do."""
    there = {
        (str(name), str(one["tree"])): str(one["id"])
        for one in target.json("snapshots") or []
        for name in (one.get("original"), one["id"])
        if name
    }
    found = [there.get(one) for one in wanted]
    return (found[0], found[1]) if found[0] and found[1] else None


def _one_pair_of_keys(source: Restic, target: Restic) -> None:
    keys = {end.access.get("s3_key") for end in (source, target) if end.access["repository"].startswith("s3:")}
    if len(keys) > 1:
        raise VaultFailed(
            "restic knows one pair of S3 keys, and these two need different ones",
            where=f"{source.label} to {target.label}",
            hint="Give one account the right to both, or reach one of them by rclone: or sftp:.",
        )
