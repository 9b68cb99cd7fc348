# SPDX-License-Identifier: Apache-2.0
"""The gate before what a restore set aside is dropped: case + plan + trust + now → allowed, or every reason why not.

Pure like the rest of the gate. Dropping needs no approval: the SOP has confirmed the restore, and the time to come back on
it is over. It needs the operator's signature on a document that names each copy.
"""

from __future__ import annotations

from collections.abc import Mapping

from sopctl.approval import operator, targets
from sopctl.case import Case
from sopctl.context import Context
from sopctl.duties import separation
from sopctl.examination import beside, examine
from sopctl.models import Json

#: which copy may be dropped after which result: the other one would be there against what the record says
_FITS = {"berhasil": "before", "gagal_dikembalikan": "shadow", "gagal": "shadow"}


def gate_clean(
    context: Context, case: Case, plan: Json, person: str, role: str, rivals: Mapping[str, list[str]]
) -> list[str]:
    """Why ``plan`` may not be carried out now; empty when it may.

    ``rivals``: dataset → open cases that ask for its restore; what is set aside may be what they need. A plan without an
    ``order`` is one that nobody has signed yet: it is judged as if it were about to be.
    """
    found = examine(context, case) + _closed_well(case)
    found += operator(context, None, person, role, beside(context.profile.profile, case, "clean"))
    found += separation(context, case, (person, role), "clean")
    entry = next((each for each in context.trust.file.people if each.id == person), None)
    if entry and entry.kind == "service":
        found.append(f"{person} is a service identity: it executes what the schedule allows, and drops nothing")
    for item in plan["items"]:
        found += _item(context, case, item, rivals.get(item["dataset"]["id"], []))
    if plan.get("order") is not None:
        found += ordered(case, plan, context.code())
    return list(dict.fromkeys(found + targets(context, plan)))


def _closed_well(case: Case) -> list[str]:
    """Why the case does not say that its restore was right."""
    state = case.state
    found = []
    if case.operation != "restore":
        found.append(f"{case.id} is a {case.operation}; it sets nothing aside")
    if state.flagged:
        found.append("the emergency was not ratified yet")
    if state.due is not None:
        found.append(f"the case is not closed: due is step {state.due.nomor or state.due.id}")
    elif state.outcome != "selesai":
        found.append(f"the case ended {state.outcome}, so nobody has confirmed the restore; what it set aside stays")
    if state.emergency == "censured":
        found.append("the emergency was censured; what it set aside stays")
    if not any(case.last(act) for act in ("confirm", "receive", "decide", "ratify")):
        found.append("nobody but who executed has looked at the restore")
    return found


def _item(context: Context, case: Case, item: Json, rivals: list[str]) -> list[str]:
    """Why one dataset's copy stays."""
    dataset, found = item["dataset"]["id"], []
    if context.now < item["until"]:
        found.append(f"{dataset}: is kept until {item['until']}, now is {context.now}")
    result = case.body("execute").get("result")
    for copy in item["kept"]:
        if _FITS.get(str(result)) != copy["copy"]:
            found.append(
                f"{dataset}: the record says {result}, and yet {copy['name']} is kept; a person must look at it first"
            )
    restored = item["restored"]["place"]
    for key in ("engine", "database", "path"):
        if restored["dataset"].get(key) != item["dataset"].get(key):
            found.append(
                f"{dataset}: was restored with {key} {restored['dataset'].get(key)}, the register says "
                f"{item['dataset'].get(key)} now; drop it by hand, or register the old place until it is dropped"
            )
    if restored["machine_id"] != item["machine_id"]:
        found.append(f"{dataset}: was restored on another machine ({restored['machine_id']}) than is registered now")
    found += [f"{dataset}: {other} asks for its restore and is open; close that first" for other in rivals]
    return found


def drops(plan: Json) -> list[Json]:
    """What the plan drops, as the document that orders it says it."""
    return [
        {"dataset": item["dataset"]["id"], "server": item["server"], "host": item["host"], "name": copy["name"],
         "bytes": item["bytes"], "kept_until": item["until"], "record": item["restored"]["record"]}
        for item in plan["items"]
        for copy in item["kept"]
    ]  # fmt: skip


def ordered(case: Case, plan: Json, code: str) -> list[str]:
    """Why the plan is not what the case's newest document on it says."""
    filed = case.last("clean")
    if filed is None or filed.digest != plan.get("order"):
        return ["nobody has signed that this is dropped"]
    document = filed.document
    found = []
    if document.actor.person != plan.get("by"):
        found.append(f"{filed.path.name} is {document.actor.person}'s, not {plan.get('by')}'s")
    if document.body.get("drops") != drops(plan):
        found.append(f"{filed.path.name} says other copies than would be dropped")
    if document.body.get("code") != code:
        found.append(f"the code differs from that of {filed.path.name}")
    return found
