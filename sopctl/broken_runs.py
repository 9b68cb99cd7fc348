# SPDX-License-Identifier: Apache-2.0
"""Runs that were killed before their record was sealed: what they left is sealed by the next command that holds the case.

What Ansible had told until then lies in ``.state/runs/<run>-…``, redacted as it was written. It becomes a record of its own,
``<run>R``: no run's record, for nobody knows how it ended, but nothing that it did is lost.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from sopctl import archive, clock, fsio, sealing
from sopctl.models import Json
from sopctl.session import Session, Signer

SCHEMA = "sop-broken-run/v1"
ARTIFACTS = ("events.jsonl.zst", "stdout.txt")


def record_of(run: str) -> str:
    """The record of what a broken-off run left."""
    return f"{run}R"


def seal(session: Session, case_id: str, signer: Signer) -> None:
    """Seal what killed runs of the case left, and say so. The caller holds the case's lock, so none of them is at work."""
    runs = session.site.state / "runs"
    for folder in sorted(runs.glob(f"{case_id}-*")) if runs.is_dir() else []:
        run = folder.name.rpartition("-")[0]
        lines = session.ledger.lines()
        known = {line.ref for line in lines if line.kind == "record"}
        if not {run, record_of(run)} & known and not sealing.adopt(session, run):
            begun = next((line for line in lines if line.ref == f"{case_id}/{run}"), None)
            said: Json = {
                "schema": SCHEMA,
                "case": case_id,
                "run": run,
                "begun": begun.at if begun else None,
                "plan": begun.digests.get("plan") if begun else None,
                "found": clock.now(),
            }
            if not sealing.adopt(session, record_of(run)):
                what: dict[str, bytes | Path] = {"broken.json": fsio.canonical_json(said)}
                what |= {f"run/{name}": folder / name for name in ARTIFACTS if (folder / name).is_file()}
                sealing.seal_maintenance(session, record_of(run), what, signer, f"{run}, broken off")
            session.say(f"{run} had been broken off; what it left is record {record_of(run)}")
        shutil.rmtree(folder)
        for rest in archive.unfinished(session.site.archive):
            if rest.name.rpartition(".")[0] in {run, record_of(run)}:
                shutil.rmtree(rest)  # a bag of the same that a crash left half made
