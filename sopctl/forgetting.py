# SPDX-License-Identifier: Apache-2.0
"""Forgetting backups by retention: shown first, ordered by a signed plan, then done and recorded. It is a destruction."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sopctl import clock, fsio, kept, retention, signing, upkeep, vault
from sopctl.context import key_digest
from sopctl.errors import ConfigError, GateRefused, VaultFailed
from sopctl.models import Json, Keep
from sopctl.retention import Verdict, Wanted
from sopctl.sealing import seal_maintenance
from sopctl.session import Session
from sopctl.vault import FORGET

SCHEMA = "sop-forget/v1"


@dataclass(frozen=True)
class Forgotten:
    """What went, by its signed plan, and the record."""

    plan: Json
    record: Path


def look(session: Session, datasets: list[str], copy: str | None = None) -> list[Verdict]:
    """What would become of the backups of ``datasets`` (default: all) in the vault, or of their copies in another one.

    From records alone: nothing is signed, nothing asked.
    """
    if copy is not None:
        upkeep.another(session, copy)
    for dataset in datasets:
        session.site.dataset(dataset)
    with session.deciding():
        return _verdicts(session, datasets, copy)


def _verdicts(session: Session, datasets: list[str], copy: str | None) -> list[Verdict]:
    site, lines = session.site, session.ledger.lines()
    default = site.config.vault.keep
    keep = {one.id: _keeps(one.keep or default, one.id) for one in site.datasets.values()}
    cases: dict[str, list[str]] = {}
    for case in session.all_cases():
        if not case.state.closed and case.operation == "restore":
            for dataset in case.request.get("datasets") or list(site.datasets):
                cases.setdefault(str(dataset), []).append(case.id)
    held: dict[str, str] = {}
    for case_id, holding in kept.everything(site, lines, session.policy.keep_days).items():
        for one in holding.kept:
            held |= dict.fromkeys(
                (one.snapshot, case_id.lower()), f"{case_id} still keeps data: sopctl case clean {case_id}"
            )
    backups = upkeep.seen(vault.catalogue(site), copy)
    return [
        each
        for each in retention.verdicts(
            backups,
            {line.ref: line.at for line in lines if line.kind == "record"},
            keep,
            Wanted(cases, held),
            clock.now(),
            session.policy.keep_days,
            site.tz,
        )
        if not datasets or each.backup.dataset in datasets
    ]


def _keeps(keep: Keep | None, dataset: str) -> Keep | None:
    if keep is not None and keep == Keep():
        raise ConfigError(
            "a retention that keeps nothing is none",
            where=f"{dataset}: keep",
            hint="Say how many, e.g. keep: {daily: 7, monthly: 13}.",
        )
    return keep


def forget(
    session: Session,
    person: str | None,
    key: str | None,
    datasets: list[str],
    *,
    copy: str | None = None,
    say: Callable[[str], None],
) -> Forgotten | None:
    """Forget what may go. The plan is signed and in the ledger before anything is deleted; None when nothing may go."""
    signer = upkeep.maintainer(session, person, key, "forgetting backups", services=False)
    servers = sorted({each.backup.server for each in look(session, datasets, copy) if each.goes})
    if not servers:
        return None
    with upkeep.maintenance(session, servers if copy is None else [], signer) as number:
        with session.deciding():
            going = [each for each in _verdicts(session, datasets, copy) if each.goes and each.backup.server in servers]
            if reasons := session.context().register(
                sorted(
                    {
                        f"datasets/{each.backup.dataset}.yml"
                        for each in going
                        if each.backup.dataset in session.site.datasets
                    }
                )
            ):
                raise GateRefused(reasons, where="vault forget", hint="Nothing was forgotten.")
        if not going:
            return None
        resticks = {server: upkeep.restic_of(session, server, copy) for server in servers}
        there = {
            server: {str(one["id"]) for one in one_of.json("snapshots") or []} for server, one_of in resticks.items()
        }
        plan = {
            "schema": SCHEMA,
            "site": session.site.config.site,
            "number": number,
            "copy": copy,
            "at": clock.now(),
            "by": signer.person.id,
            "code": session.code,
            "forgets": [_row(each) for each in going],
        }
        data = fsio.canonical_json(plan)
        signature = session.sign(data, "sop-document", signer)
        digests = {
            "plan": fsio.sha256_bytes(data),
            "operator": key_digest(signing.verify(data, signature, "sop-document")),
        }
        session.ledger.append("destruction", f"{number}/{number}", digests, unique=True)
        evidence: list[Json] = []
        try:
            for server, restic in resticks.items():
                say(f"{upkeep.place(server, copy)}: forgetting")
                own = [each.backup for each in going if each.backup.server == server]
                ids = {one for backup in own for one in backup.lies}
                if present := sorted(ids & there[server]):
                    restic.run("forget", *present)
                    if left := set(present) & {str(one["id"]) for one in restic.json("snapshots") or []}:
                        raise VaultFailed(
                            f"restic forget left {len(left)} of {len(present)} snapshots",
                            where=restic.label,
                            hint="See to the vault, then run it again.",
                        )
                evidence.append(
                    {
                        "kind": FORGET,
                        "server": server,
                        "finished": clock.now(),
                        "forgotten": [
                            {"dataset": each.dataset, "name": each.name, "snapshot": each.lies[0]} for each in own
                        ],
                    }
                )
                restic.run("prune")
        finally:  # what went is recorded, whatever came after it
            record = seal_maintenance(
                session,
                number,
                {
                    "plan.json": data,
                    "plan.json.sig": signature,
                    "evidence.json": (json.dumps(evidence, indent=1, sort_keys=True) + "\n").encode(),
                },
                signer,
                f"vault forget {', '.join(upkeep.place(server, copy) for server in servers)}",
            )
        return Forgotten(plan, record)


def _row(verdict: Verdict) -> Json:
    backup = verdict.backup
    return {
        "dataset": backup.dataset,
        "server": backup.server,
        "name": backup.name,
        "snapshot": backup.lies[0],
        "manifest_snapshot": backup.lies[1],
        "bytes": backup.bytes,
        "received": verdict.received,
        "record": backup.record,
    }
