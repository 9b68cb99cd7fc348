# Copyright: sopctl contributors
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt)
"""Restoring a dataset under another name, beside the live data or on another server: compared, or not there at all."""

from __future__ import annotations

import time

from ansible_collections.diskominfo.sop.plugins.module_utils.compare import mismatches
from ansible_collections.diskominfo.sop.plugins.module_utils.engine import Json, SopError
from ansible_collections.diskominfo.sop.plugins.module_utils.host import Failed, Job, evidence
from ansible_collections.diskominfo.sop.plugins.module_utils.hoststate import SIGNALS, utc_now


def place(job: Job) -> Json:
    """Have the planned backup at ``to``; the live data is neither read nor written.

    The journal says how far it came: ``placing`` before the copy gets its name, ``compared`` after it was found equal.
    """
    target = job.params["to"]
    if not target:
        raise SopError(f"{job.name}: state placed needs a target in 'to'; correct the play")
    started, begin = utc_now(), time.monotonic()
    journal, snapshot = job.journal("placed"), job.params["snapshot"]
    known = journal.read() or {}
    there = job.engine.placed(target, job.case)
    if there and (known.get("snapshot"), known.get("to")) != (snapshot, target):
        raise SopError(
            f"{job.name}: {target} is of {job.case}, but this host does not know it as the planned backup; "
            "look at it, then move it away or ask for another place"
        )
    if there and known.get("step") == "compared":
        return _result(job, False, known["tables"], started, begin)
    manifest = job.planned_manifest()
    if job.check_mode:
        return _result(job, True, {}, started, begin)
    if there:
        job.engine.unplace(target, job.case)  # named by a run that ended before it was compared
    mark = {"snapshot": snapshot, "to": target}
    journal.write({**mark, "step": "placing"})
    content = job.engine.place(target, job.case, job.source(manifest), manifest)
    _require_equal(job, target, manifest, content)
    with SIGNALS.deferred():
        journal.write({**mark, "step": "compared", "tables": content["tables"], "at": utc_now()})
        return _result(job, True, content["tables"], started, begin, data_of=manifest["started"])


def _require_equal(job: Job, target: str, manifest: Json, content: Json) -> None:
    named = mismatches(manifest["content"], content)
    named += mismatches(job.params["expected"] or content, content)
    if not named:
        return
    why = "; ".join(dict.fromkeys(named))
    proof = evidence("place", dataset=job.dataset["id"], state="absent", to=target, mismatches=named)
    message = f"{job.name}: the copy at {target} differs from the verified backup ({why})"
    try:
        job.engine.unplace(target, job.case)
    except SopError as error:
        raise Failed(f"{message}, and could not be dropped ({error})", {**proof, "state": "differs"}) from error
    job.journal("placed").remove()
    raise Failed(f"{message}; it was dropped, choose another backup", proof)


def _result(job: Job, changed: bool, tables: Json, started: str, begin: float, **more: str) -> Json:
    proof = evidence(
        "place",
        dataset=job.dataset["id"],
        snapshot=job.params["snapshot"],
        state="placed",
        to=job.params["to"],
        tables=tables,
        started=started,
        finished=utc_now(),
        duration_ms=int((time.monotonic() - begin) * 1000),
        **more,
    )
    line = f"{job.params['to']}\n"
    return {"changed": changed, "diff": {"before": "" if changed else line, "after": line}, "sop_evidence": proof}
