# SPDX-License-Identifier: Apache-2.0
"""Who may not be the same person, and who may decide on whose data. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from sopctl.case import Case, due_act
from sopctl.context import Context, key_digest
from sopctl.models import Document
from sopctl.profile import RESERVED


def separation(
    context: Context, case: Case, acting: tuple[str, str] | None = None, act: str | None = None
) -> list[str]:
    """Roles that must be different persons but are not; ``acting`` is (person, role) of who is about to act (``act``, where
    it is none of the SOP's steps).

    Persons are compared by NIP where the trust knows it, and a delegate counts as themselves and as whom they stand in
    for. The requester counts as the person named in the request, also where the desk signed for them. Whatever the SOP
    says, who executes neither decides nor confirms.
    """
    holders: dict[str, set[str]] = {}
    executed: set[str] = set()
    judged: set[str] = set()
    cleaned: set[str] = set()
    for what, person, role, at in [
        *_signers(case),
        *_starters(context, case),
        *_about_to_act(context, case, acting, act),
    ]:
        people = identities(context, person, role, at)
        holders.setdefault(role, set()).update(people)
        if what in {"execute", "emergency"}:
            executed |= people
        elif what in {"decide", "confirm", "ratify"}:
            judged |= people
        elif what == "clean":
            executed |= people
            cleaned |= people
    found = [
        f"{person} acts as {first} and as {second}; the SOP needs two persons"
        for rule in context.profile.profile.sod
        for first, second in combinations(rule.differ, 2)
        for person in sorted(holders.get(first, set()) & holders.get(second, set()))
    ]
    glass = [
        identities(context, one.document.actor.person, one.document.actor.role, one.document.at)
        for one in case.all("emergency")
    ]
    found += [
        f"{person} signs an emergency twice; it needs two persons"
        for first_signer, second_signer in combinations(glass, 2)
        for person in sorted(first_signer & second_signer)
    ]
    if found := found or [
        f"{person} executes and also decides or confirms; that takes two persons"
        for person in sorted(executed & judged)
    ]:
        return found
    return [
        f"{person} drops what the restore set aside and is who took it as done; that takes two persons"
        for person in sorted(cleaned & _accepted(context, case))
    ]


def _accepted(context: Context, case: Case) -> set[str]:
    """Who said last that the restore was done well: the inspector, or whoever received it where the SOP has none."""
    said = case.last("confirm") or case.last("receive")
    if said is None:
        return set()
    document = said.document
    people = identities(context, document.actor.person, document.actor.role, document.at)
    requester = case.request.get("requester")
    if document.act == "receive" and isinstance(requester, str):  # the desk signs for the requester
        people |= identities(context, requester, case.flow.steps[0].actors[0], document.at)
    return people


def _signers(case: Case) -> Iterator[tuple[str, str, str, str]]:
    """(act, person, role, time) of everybody who counts; the desk stands aside for the requester it signed for."""
    requester_role = case.flow.steps[0].actors[0]
    for filed in case.filed:
        document = filed.document
        actor = document.actor
        if document.act == "request" and isinstance(requester := document.body.get("requester"), str):
            yield document.act, requester, requester_role, document.at
            yield (
                document.act,
                actor.person,
                requester_role,
                document.at,
            )  # the desk too: whoever enters does not decide
        if document.act != "takeover" and actor.role not in RESERVED:
            yield document.act, actor.person, actor.role, document.at


def _starters(context: Context, case: Case) -> Iterator[tuple[str, str, str, str]]:
    """Whoever started a run, also one that never came to its document."""
    execution = case.flow.first("execute")
    started = [line for line in context.lines if line.kind == "run-started" and line.ref.startswith(f"{case.id}/")]
    keys = {line.digests.get("operator"): line.at for line in started if execution}
    for person in context.trust.file.people if keys else []:
        for entry in person.keys:
            if (at := keys.get(key_digest(" ".join(entry.key.split()[:2])))) and execution:
                yield "execute", person.id, execution.actors[0], at


def _about_to_act(
    context: Context, case: Case, acting: tuple[str, str] | None, act: str | None
) -> Iterator[tuple[str, str, str, str]]:
    due = case.state.due
    if acting and acting[1] not in RESERVED:
        yield act or (due_act(due) if due and acting[1] in due.actors else ""), *acting, context.now


def identities(context: Context, person_id: str, role: str, at: str) -> set[str]:
    """Who stands behind a signature, each under one name, whatever account they used."""
    found = set()
    for behind in context.trust.persons_behind(person_id, role, at):
        person = next((each for each in context.trust.file.people if each.id == behind), None)
        nip = "".join(char for char in (person.nip or "") if char.isdigit()) if person else ""
        same = [each.id for each in context.trust.file.people if nip and _digits(each.nip) == nip]
        found.add(min(same, default=behind))
    return found


def _digits(nip: str | None) -> str:
    return "".join(char for char in (nip or "") if char.isdigit())


def authority(context: Context, case: Case) -> list[str]:
    """Why an approval oversteps: its decider may not decide on such data, or the data's owner has not consented."""
    found: list[str] = []
    consents: set[str] = set()
    for filed in case.filed:
        document = filed.document
        if document.act == "consent":
            if reason := _consent(context, case, document):
                found.append(f"{filed.path.name} {reason}")
            elif document.body.get("decision") == "approve":
                consents.add(str(document.body["dataset"]))
            else:
                consents.discard(str(document.body["dataset"]))
        elif document.act == "decide" and document.body.get("decision") == "approve":
            found += [
                f"{filed.path.name}: {reason}" for reason in overstepped(context, case, document.actor.role, consents)
            ]
    return found


def overstepped(context: Context, case: Case, role: str, consents: set[str]) -> list[str]:
    """Why ``role`` may not approve this case's request, with these datasets' owners consenting."""
    found = []
    gate = next((step.gate for step in case.flow.steps if step.act == "decide" and step.gate), None)
    for dataset_id in case.request.get("datasets", []):
        dataset = context.datasets.get(dataset_id)
        if dataset is None:
            found.append(f"dataset {dataset_id} is not in the register")
            continue
        own = [gate.decide] if gate else []
        allowed = context.profile.profile.authority.get(dataset.classification, own)
        tighter = context.policy.authority.get(dataset.classification, allowed)
        allowed = [each for each in allowed if each in tighter]
        if role not in allowed:
            who = " or ".join(allowed) or "nobody"
            found.append(f"{dataset_id} is {dataset.classification}: {who} may approve it, {role} may not")
        unit = case.request.get("unit")
        if unit != dataset.owner_unit and dataset_id not in consents:
            found.append(
                f"{dataset_id} belongs to {dataset.owner_unit}, asked for by {unit}; its owner has not consented"
            )
    return found


def requester_now(context: Context, case: Case) -> list[str]:
    """Why the requester does not speak for the unit that the request names."""
    if not (asked := case.request):
        return []
    person = next((each for each in context.trust.file.people if each.id == asked.get("requester")), None)
    if person is None or person.unit == asked.get("unit"):
        return []
    name = case.filed[0].path.name
    return [f"{name} asks for unit {asked.get('unit')!r}, but the trust says {person.id} is of {person.unit!r}"]


def taken_back(context: Context, case: Case) -> list[str]:
    """Datasets of another unit whose owner has consented to this case no more, each named."""
    agreed = consented(case)
    lent = [context.datasets[one] for one in case.request.get("datasets", []) if one in context.datasets]
    return [
        f"{one.id} belongs to {one.owner_unit}; its owner has not consented any more"
        for one in lent
        if one.owner_unit != case.request.get("unit") and one.id not in agreed
    ]


def consented(case: Case) -> set[str]:
    """Datasets whose owner's last word in the case is yes."""
    said = {
        str(filed.document.body.get("dataset")): filed.document.body.get("decision") for filed in case.all("consent")
    }
    return {dataset for dataset, decision in said.items() if decision == "approve"}


def _consent(context: Context, case: Case, document: Document) -> str | None:
    dataset = context.datasets.get(str(document.body.get("dataset")))
    person = next((each for each in context.trust.file.people if each.id == document.actor.person), None)
    if dataset is None:
        return f"consents for dataset {document.body.get('dataset')}, which is not in the register"
    if person is None or person.unit != dataset.owner_unit:
        unit = person.unit if person else ""
        return f"consents for data of {dataset.owner_unit}, but {document.actor.person} is of {unit!r}"
    if document.body.get("request") != case.filed[0].digest:
        return "consents to another request (its bytes differ)"
    return None
