# SPDX-License-Identifier: Apache-2.0
"""A case whose restore was executed, as its sealed record tells: no server was touched, every signature is real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sopctl import archive, clock, forms, fsio, run_forms, targeting, workflow
from sopctl.case import due_step
from sopctl.execution import Run
from sopctl.runner import RunOutcome
from sopctl.session import Session
from tests.support.case_site import CaseSite

Json = dict[str, Any]
PLACE = "/srv/app/antrean.db"


def name_of(case: str, copy: str = "before") -> str:
    """Name of the case's kept copy."""
    return f"{PLACE}__{copy}_{case.lower().replace('-', '')}"


def evidence_of(case: str, result: str, size: int | None = 4096) -> list[Json]:
    """What the restore's steps left as evidence, by its result."""
    common: Json = {"dataset": "antrean", "host": "srv01", "failed": False, "before": name_of(case), "shadow": name_of(case, "shadow")}  # fmt: skip
    kept = {"kept": {"name": name_of(case, "before" if result == "berhasil" else "shadow"), "bytes": size}}
    steps: dict[str, list[tuple[str, str, Json]]] = {
        "berhasil": [("stage", "staged", {}), ("swap", "swapped", {}), ("finalise", "finalised", kept)],
        "gagal_dikembalikan": [
            ("stage", "staged", {}), ("swap", "swapped", {}), ("revert", "reverted", {"identity": {}, "changed": True} | kept),
        ],
        "gagal": [("stage", "staged", {}), ("swap", "swapped", {})],
    }  # fmt: skip
    return [{**common, "kind": kind, "state": state, **more} for kind, state, more in steps[result]]


def seal_restore(session: Session, case_id: str, run: str, evidence: list[Json], by: str = "pelaksana") -> Json:
    """Enter and seal a run with this evidence; what its ``execute`` document says of it."""
    case = session.case(case_id)
    plan = targeting.case_plan(session, case)
    started, finished = clock.now(), clock.now()
    session.ledger.append("run-started", f"{case_id}/{run}", {"plan": fsio.sha256_bytes(fsio.canonical_json(plan))})
    signer = session.signer(by, None)
    outcome = RunOutcome(rc=0, evidence=evidence)
    done = Run(run, plan, None, outcome, session.site.root, started, finished, False, b"", "")
    [form] = run_forms.restore_forms(session, case, done, signer)
    files: dict[str, bytes | Path] = {
        "evidence.json": json.dumps(evidence).encode(),
        "plan.json": fsio.canonical_json(plan),
        "run/result.json": fsio.canonical_json({"started": started, "finished": finished, "check": False}),
        "form.json": fsio.canonical_json(forms.form_json(form)),
    }
    bag = archive.seal_record(
        session.site.archive,
        run,
        "run",
        files,
        {"Sop-Case": case_id, "Sop-Operator": by},
        sign=lambda data: session.sign(data, "sop-record", signer),
    )
    digest = fsio.sha256_file(bag / "tagmanifest-sha256.txt")
    session.ledger.append("record", run, {"tagmanifest": digest}, unique=True)
    return {"run": run, "record": run, "record_digest": digest, "started": started, "finished": finished}


def executed(
    site: CaseSite, result: str = "berhasil", by: str = "pelaksana", evidence: list[Json] | None = None
) -> None:
    """The case's restore, executed with that result."""
    session = site.session
    case = session.case(site.case)
    told = evidence_of(site.case, result) if evidence is None else evidence
    body = seal_restore(session, site.case, f"{site.case}-{len(case.all('execute')) + 1:02d}", told, by)
    step = due_step(case, "execute")
    role = session.role(session.trust.person(by), step.actors, "execution")
    session.file(
        case, step, session.signer(by, None), role, {**body, "result": result, "datasets": {"antrean": result}}
    )


def informed(site: CaseSite) -> None:
    """The requester is told."""
    workflow.act(site.session, site.case, "inform", "pelaksana", None, workflow.informing(""))


def received(site: CaseSite, by: str = "pemohon") -> None:
    """The requester has received it; the case is closed."""
    workflow.act(site.session, site.case, "receive", by, None, lambda *_: {"note": ""})


def restored(site: CaseSite, result: str = "berhasil") -> None:
    """Executed, informed, received: closed."""
    executed(site, result)
    informed(site)
    received(site)
