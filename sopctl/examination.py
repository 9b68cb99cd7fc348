# SPDX-License-Identifier: Apache-2.0
"""Can a case's documents be believed? Signatures, chain, order, what they must say, and who may not be the same person.

Pure like the gate it serves: documents, trust, profile, register and ledger lines in; reasons out.
"""

from __future__ import annotations

import re
from typing import Any

from sopctl import clock, places, signed_pdf
from sopctl.case import BESIDE, SIDE_ACTS, Case, Filed
from sopctl.context import Context, deadline, papers_of, received_at
from sopctl.duties import authority, requester_now, separation
from sopctl.models import Document, Json
from sopctl.profile import DESK, FIELDS, OWNER, RESERVED, Profile

RECEIVED_WITHIN = 600  # seconds between a document's own time and its acceptance


def examine(context: Context, case: Case, *, pending: bool = False, whole: bool = True) -> list[str]:
    """Why the case's documents cannot be believed; empty when they can.

    With ``pending`` the last document may still lack its ledger line (it is being accepted now); then register, policy
    and people as they are now are asked too, as far as they concern it. What was right stays right when they change.
    Without ``whole`` the case is a record's copy: the ledger may know later documents.
    """
    found: list[str] = []
    if context.trust.file.profiles.get(context.profile.profile.id) != context.profile.digest:
        found.append(f"profile {context.profile.profile.id} is not the one in the trust (its bytes differ)")
    prev: str | None = None
    for number, filed in enumerate(case.filed, 1):
        document, name = filed.document, filed.path.name
        if (document.case, document.seq) != (case.id, number):
            found.append(f"{name} is document {document.seq} of {document.case}, not {number} of {case.id}")
        if document.site != context.site:
            found.append(f"{name} is of another site")
        if document.prev != prev:
            found.append(f"{name} does not follow the document before it (prev differs)")
        if document.profile != context.profile.reference and not _leads_out(case, pending):
            found.append(
                f"{name} was made under profile {document.profile}, now {context.profile.reference} is in force"
            )
        prev = filed.link
        found += examine_one(context, case, filed, pending and number == len(case.filed))
    found += case.state.reasons
    found += separation(context, case)
    if pending:
        found += _unproven(case)
    if pending and not _leads_out(case, pending):
        found += lateness(context, case)
        found += authority(context, case)
        found += requester_now(context, case)
    if whole:
        known = sum(1 for line in context.lines if line.kind == "document" and line.ref.startswith(f"{case.id}/"))
        if known > len(case.filed):
            found.append(f"the ledger knows {known} documents of {case.id}, the folder holds {len(case.filed)}")
    return found


#: documents that can be filed whatever was changed since: nothing is executed by them
_OUT = {"takeover", "attach", "withdraw", "ratify", "inform", "receive"}


def _unproven(case: Case) -> list[str]:
    """Why the desk's word that the requester has received the result does not stand: their own signed letter is not there.

    Asked when it is filed: what was received without one before stays as right as it was.
    """
    last = case.filed[-1] if case.filed else None
    if last is None or last.document.act != "receive" or last.document.actor.role != DESK:
        return []
    if last.document.body.get("letter"):
        return []
    requester = case.request.get("requester")
    return [f"{last.path.name}: the desk receives for {requester} with their signed letter: --letter FILE"]


def _leads_out(case: Case, pending: bool) -> bool:
    """Whether nothing more can be executed by what the case says now, or by the document that is being filed.

    Such a case is brought to its end also after the SOP, the register or the policy were changed.
    """
    if case.state.closed or (pending and case.filed and case.filed[-1].document.act in _OUT):
        return True
    last = next((filed.document for filed in reversed(case.filed) if filed.document.act not in SIDE_ACTS), None)
    return last is not None and (
        last.act in {"inform", "receive"} or (last.act == "decide" and last.body.get("decision") == "reject")
    )


def examine_one(context: Context, case: Case, filed: Filed, pending: bool = False) -> list[str]:
    """Why one document cannot be believed, chain and order aside."""
    document, name = filed.document, filed.path.name
    received = received_at(context, case, filed)
    if received is None:
        if not pending:
            return [f"{name} was never received by sopctl in this form (no ledger line fits it)"]
        received = context.now
    late = clock.seconds_between(document.at, received)
    days = context.trust.file.papers.days
    if late < -RECEIVED_WITHIN or late > (days * 86400 if filed.on_paper else RECEIVED_WITHIN):
        within = f" (a paper is good for {days} days)" if filed.on_paper else ""
        return [f"{name} says {document.at} but was received at {received}{within}"]
    allowed = may_file(context.profile.profile, case, document)
    if not allowed:
        return [f"{name}: the SOP has no step {document.step!r} with act {document.act}"]
    if problem := _by_service(context, case, document) or _unsaid(context, case, document):
        return [f"{name} {problem}"]
    if document.actor.role not in allowed:
        return [f"{name}: step {document.step} is for {' or '.join(allowed)}, not {document.actor.role}"]
    who = document.actor.person, [document.actor.role], sorted({document.at, received})
    if filed.on_paper:
        reasons = _on_paper(context, case, filed, received) or context.trust.certificate_reasons(
            judged(context, case, filed, received).certificate, *who
        )
    else:
        reasons = context.trust.reasons(filed.data, filed.signature, "sop-document", *who)
    return [f"{name}: {reason}" for reason in reasons]


#: acts that officials sign on paper; whoever plans or executes signs more than a document, and has a key
ON_PAPER = ("dispose", "decide", "confirm", "inform", "receive")


def _on_paper(context: Context, case: Case, filed: Filed, received: str) -> list[str]:
    """Why the signed PDF is not a good signature on the document, whoever signed it."""
    if filed.document.act not in ON_PAPER:
        return [f"an act of {filed.document.act} is not signed on paper"]
    if not context.trust.anchors:
        return ["is signed on paper, and the trust names no CA for that (papers.anchors)"]
    return list(judged(context, case, filed, received).reasons)


def judged(context: Context, case: Case, filed: Filed, received: str) -> signed_pdf.Judgement:
    """What is to be said of a document's signed PDF at the time it was received, by what lies in it."""
    papers = papers_of(context.lines, case.id, filed.document, filed.digest)
    size = signed_pdf.paper_size(filed.signature, papers)
    if size is None:
        return signed_pdf.Judgement(("is not signed on a paper that sopctl printed for it",))
    soft = context.trust.file.papers.revocation == "soft"
    return signed_pdf.judge(
        filed.signature, size, filed.path.name, filed.data, context.trust.anchors, received, soft=soft
    )


def _by_service(context: Context, case: Case, document: Document) -> str | None:
    signer = next((person for person in context.trust.file.people if person.id == document.actor.person), None)
    if signer and signer.kind == "service" and (case.request or document.act != "execute"):
        return f"is signed by {signer.id}, a service identity: it executes what the schedule allows and nothing else"
    return None


def may_file(profile: Profile, case: Case, document: Document) -> list[str]:
    """Roles that may sign this document; empty when the SOP knows no such document."""
    if document.act in SIDE_ACTS:
        return beside(profile, case, document.act) if document.step == BESIDE else []
    step = next((step for step in case.flow.steps if step.id == document.step), None)
    if step is None:
        return []
    if step.gate and step.gate.forward and document.act == "dispose" and step.act != "dispose":
        return step.gate.forward
    if step.act != document.act:
        return []
    if step.act == "decide" and step.gate:
        return deciders(profile, step.gate.decide)
    return step.actors + ([DESK] if step.act in {"request", "receive"} else [])


def deciders(profile: Profile, decider: str) -> list[str]:
    """The gate's decider, and whoever the SOP's authority over a class of data names besides."""
    return list(dict.fromkeys([decider, *(role for roles in profile.authority.values() for role in roles)]))


def beside(profile: Profile, case: Case, act: str) -> list[str]:
    """Roles that may sign a side document of that act."""
    execution = case.flow.first("execute")
    everybody = [role for step in case.flow.steps for role in [*step.by, *(step.gate.forward if step.gate else [])]]
    allowed = {
        "consent": [OWNER],
        "attach": [*everybody, *RESERVED],
        "withdraw": [*case.flow.steps[0].actors, DESK],
        "emergency": profile.break_glass.by if profile.break_glass else [],
        "ratify": [profile.break_glass.ratify] if profile.break_glass else [],
        "takeover": execution.actors if execution else [],
        "clean": execution.actors if execution else [],
    }[act]
    return list(dict.fromkeys(allowed))


# --- what a body must say -----------------------------------------------------------------------------------------


def _unsaid(context: Context, case: Case, document: Document) -> str | None:
    """What a body must say and does not: a document signed by hand may hold anything."""
    body = document.body
    problem = None
    if document.act == "request":
        problem = _request(context, case, document)
    elif document.act == "decide" and body.get("decision") == "approve":
        problem = _approval(body.get("approval"))
    elif document.act == "emergency" and not str(body.get("reason") or "").strip():
        problem = "gives no reason"
    elif document.act == "consent" and not isinstance(body.get("dataset"), str):
        problem = "does not say which dataset"
    elif document.act == "plan":
        problem = _approval(body)
    elif document.act == "attach" and not _names_a_file(body):
        problem = "does not name a plain file"
    elif document.act == "clean":
        problem = _drops(case, body)
    elif document.act == "receive" and "letter" in body and not _names_a_file(body["letter"]):
        problem = "does not name a plain file as its letter"
    elif document.act in {"receive", "withdraw"} and document.actor.role != DESK:
        requester = case.request.get("requester")
        if document.actor.person != requester:
            problem = f"is {requester}'s to sign, not {document.actor.person}'s"
    return problem


def _request(context: Context, case: Case, document: Document) -> str | None:
    body = document.body
    datasets = body.get("datasets")
    if not isinstance(datasets, list) or not datasets or not all(isinstance(one, str) for one in datasets):
        return "does not say which datasets"
    letter = body["letter"] if isinstance(body.get("letter"), dict) else {}
    said = {key: body.get(key) for key in ("operation", "point", "requester", "unit", "reason")}
    said |= {f"letter.{key}": letter.get(key) for key in ("number", "file", "sha256")}
    if unsaid := [key for key, value in said.items() if not isinstance(value, str)]:
        return f"does not say {unsaid[0]!r}"
    if document.actor.role != DESK and body["requester"] != document.actor.person:
        return f"names {body['requester']} as requester, but {document.actor.person} signed it, who is not the desk"
    if not any(person.id == body["requester"] for person in context.trust.file.people):
        return f"names a requester who is not in the trust ({body['requester']})"
    missing = unsaid_fields(context.profile.profile, case, body)
    return _unfit(case, body) or places.unfit(body) or (f"lacks {'; '.join(missing)}" if missing else None)


def _unfit(case: Case, body: Json) -> str | None:
    flow = case.flow
    if body["operation"] not in {*flow.variants, *(kind for step in flow.steps for kind in step.run)} - {"any"}:
        return f"asks for {body['operation']!r}, which this flow does not do"
    if not _names_a_file(body["letter"]):
        return "does not name a plain file as its letter"
    return None


def _names_a_file(paper: Any) -> bool:
    """Whether ``file`` is a name inside the case's attachments, and nothing that leads out of them."""
    name = paper.get("file") if isinstance(paper, dict) else None
    return isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) is not None


def unsaid_fields(profile: Profile, case: Case, body: Json) -> list[str]:
    """What the SOP's request paper must say and this request does not, in words."""
    wanted = [field for paper in case.flow.steps[0].out for field in profile.records[paper].must_have]
    found = []
    for field in dict.fromkeys(wanted):
        if field == "daftar_spesifikasi":
            found += _unspecified(body)
        elif not body.get(_BODY_KEY[field]):
            found.append(FIELDS[field])
    return found


_BODY_KEY = {
    "jenis": "operation",
    "target": "datasets",
    "alasan": "reason",
    "titik_pemulihan": "point",
    "batas_waktu": "deadline",
    "kontak": "contact",
}
#: what the specification list says of each dataset
SPECIFIED = ("server", "application", "data", "size")


def _unspecified(body: Json) -> list[str]:
    listed = body.get("specification")
    by_dataset = {
        item["dataset"]: item
        for item in (listed if isinstance(listed, list) else [])
        if isinstance(item, dict) and isinstance(item.get("dataset"), str)
    }
    found = []
    for dataset in body["datasets"]:
        item = by_dataset.get(dataset, {})
        missing = [key for key in SPECIFIED if not str(item.get(key) or "").strip()]
        if missing:
            found.append(f"the specification of {dataset} ({', '.join(missing)})")
    return found


def _approval(approval: Any) -> str | None:
    targets = approval.get("targets") if isinstance(approval, dict) else None
    if not isinstance(targets, list) or not all(isinstance(one, dict) and _is_target(one) for one in targets):
        return "does not say what it approves"
    return None


def _drops(case: Case, body: Json) -> str | None:
    """What a document that orders destruction must say: each copy by name, and of this case alone."""
    listed = body.get("drops")
    if not isinstance(listed, list) or not listed or not all(_is_copy(one) for one in listed):
        return "does not say what it drops, on which host and under which name"
    suffix = re.sub(r"[^a-z0-9]", "", case.id.lower())
    for one in listed:
        if one["dataset"] not in case.request.get("datasets", []):
            return f"drops data of {one['dataset']}, which the case did not ask for"
        if not re.search(rf"__(before|shadow)_{suffix}$", one["name"]):
            return f"drops {one['name']}, which is not what this case set aside"
    return None


def _is_copy(one: Any) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(key), str) for key in ("dataset", "host", "name"))


def _is_target(target: Json) -> bool:
    return isinstance(target.get("dataset"), str) and isinstance(target.get("backup"), str | None)


# --- time ---------------------------------------------------------------------------------------------------------


def lateness(context: Context, case: Case) -> list[str]:
    """Documents that came after their time without giving a reason, where the policy wants one."""
    if context.policy.sla != "block":
        return []
    found = []
    for number, filed in enumerate(case.filed):
        if filed.document.act in SIDE_ACTS or (limit := deadline(context, case, number)) is None:
            continue
        received = received_at(context, case, filed) or context.now
        late = filed.document.body.get("late")
        if received > limit[1] and not (isinstance(late, dict) and str(late.get("reason") or "").strip()):
            found.append(f"{filed.path.name} came after its time ({limit[1]}) without a reason; the policy wants one")
    return found
