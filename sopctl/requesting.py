# SPDX-License-Identifier: Apache-2.0
"""Opening a case: the request with its letter and specification list. Nothing is written unless all of it is good."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sopctl import case as cases
from sopctl import clock, letters, models, places, vault
from sopctl.case import Case
from sopctl.errors import GateRefused, UsageError
from sopctl.examination import SPECIFIED, unsaid_fields
from sopctl.loading import load_yaml
from sopctl.models import Json, Person, Record
from sopctl.profile import DESK
from sopctl.session import Session
from sopctl.site import Site


class Specified(Record, frozen=True):
    """One line of the specification list, in the requester's words."""

    dataset: str
    server: str
    application: str
    data: str
    size: str


class Specification(Record, frozen=True):
    """The list of server, application and data that comes with a request."""

    schema: str
    items: list[Specified]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request says."""

    operation: str
    datasets: list[str]
    unit: str
    letter: Path
    letter_number: str
    reason: str
    letter_date: str | None = None
    point: str = "latest"
    deadline: str | None = None
    contact: str | None = None
    specification: Path | None = None
    requester: str | None = None
    to: Sequence[str] = ()
    in_place: bool = False


def request(session: Session, asked: Asked, person: str | None, key: str | None) -> Case:
    """Open a case with its letter."""
    site = session.site
    profile = site.profile.profile
    flow_name = profile.flow_for(asked.operation)
    flow = profile.flow(flow_name)
    step = flow.steps[0]
    if step.act != "request":
        raise UsageError(
            f"{asked.operation} is not requested in this SOP; its schedule starts it", hint="sopctl schedule run --due"
        )
    to = _check(session, asked)
    data = letters.read(asked.letter)
    signer = session.signer(person, key)
    desk_first = asked.requester not in {None, signer.person.id}
    roles = [DESK, *step.actors] if desk_first else [*step.actors, DESK]
    role = session.role(signer.person, roles, f"{step.act} (step {step.nomor})")
    requester = _requester(session, asked, signer.person, role, step.actors)
    year = clock.parse(clock.now()).astimezone(site.tz).strftime("%Y")
    folder = cases.create_folder(site.cases, asked.operation, year, session.known_cases())
    case = Case(folder.name, folder, flow_name, flow, [], profile.break_glass)
    try:
        body: Json = {
            "operation": asked.operation,
            "unit": asked.unit,
            "datasets": asked.datasets,
            "point": asked.point,
            "reason": asked.reason,
            "requester": requester.id,
            "letter": {
                "number": asked.letter_number,
                "date": asked.letter_date,
                **letters.keep(folder, f"surat{asked.letter.suffix.lower()}", data),
            },
        }
        body |= {name: value for name, value in (("deadline", asked.deadline), ("contact", asked.contact)) if value}
        body |= {"to": to} if to else {}
        body |= {"in_place": True} if asked.in_place else {}
        if asked.specification:
            body["specification"] = [models.to_json(item) for item in _specification(session, asked)]
        if missing := unsaid_fields(profile, case, body):
            raise GateRefused(
                [f"the request lacks {what}" for what in missing],
                hint=f"Give --specification FILE, with {', '.join(SPECIFIED)} for each dataset."
                if "specification" in " ".join(missing)
                else "",
            )
        case = session.file(case, step, signer, role, body)
    except BaseException:
        remove_empty(folder)
        raise
    if asked.operation == "restore" and not to:
        _offer(session, asked, case.id)
    return case


def _offer(session: Session, asked: Asked, case_id: str) -> None:
    """Say what most requests need instead: the data beside, and nothing set aside."""
    words = ["sopctl", "case", "request", "restore"]
    for dataset in asked.datasets:
        words += ["--dataset", dataset]
    for dataset in asked.datasets:
        beside = places.suggestion(session.site.dataset(dataset))
        words += ["--to", f"{dataset}={beside}" if len(asked.datasets) > 1 else beside]
    given = {
        "--unit": asked.unit,
        "--letter": str(asked.letter),
        "--letter-number": asked.letter_number,
        "--reason": asked.reason,
        "--point": asked.point if asked.point != "latest" else None,
        "--specification": str(asked.specification) if asked.specification else None,
        "--requester": asked.requester,
    }
    words += [word for option, value in given.items() if value for word in (option, value)]
    session.say(
        f"{case_id} is to replace live data. Most requests need one table or a few files: restored beside the live data, "
        "nothing is set aside and no service stops"
    )
    session.say(f"  to ask for that instead: sopctl case withdraw {case_id} --reason REASON, then {shlex.join(words)}")


def _check(session: Session, asked: Asked) -> dict[str, Json]:
    """Look at what is asked before anything is written; returns where to restore, by dataset."""
    site = session.site
    if not asked.datasets:
        raise UsageError(
            "no dataset named", where="--dataset", hint=f"Registered: {', '.join(site.datasets) or 'none'}."
        )
    for name, value in (("--unit", asked.unit), ("--reason", asked.reason), ("--letter-number", asked.letter_number)):
        if not value.strip():
            raise UsageError("must not be empty", where=name)
    for dataset in asked.datasets:
        site.dataset(dataset)
    if len(set(asked.datasets)) != len(asked.datasets):
        raise UsageError("a dataset is named twice", where="--dataset")
    if asked.letter_date and not clock.is_time(f"{asked.letter_date}T00:00:00Z"):
        raise UsageError(f"{asked.letter_date!r} is not a date", where="--letter-date", hint="Write it as 2026-11-22.")
    if asked.operation == "restore":
        for dataset in asked.datasets:
            for remark in vault.choose(vault.catalogue(site), dataset, asked.point)[1]:
                session.say(f"{dataset}: {remark}")
    return _to(site, asked)


def _to(site: Site, asked: Asked) -> dict[str, Json]:
    if not asked.to and not asked.in_place:
        return {}
    if asked.operation != "restore":
        raise UsageError(
            f"a {asked.operation} has no target", where="--to" if asked.to else "--in-place", hint="Leave it away."
        )
    if asked.to and asked.in_place:
        raise UsageError(
            "--to touches no live data, --in-place replaces it", where="--in-place", hint="Give one of the two."
        )
    found = places.parse(asked.to, [site.dataset(dataset) for dataset in asked.datasets])
    reasons = places.clashes([(name, one["server"], one["place"]) for name, one in found.items()])
    for name, one in found.items():
        reasons += places.problems(site.dataset(name), one["server"], one["place"], site.datasets, site.servers)
    if reasons:
        raise UsageError("; ".join(reasons), where="--to")
    return found


def _requester(session: Session, asked: Asked, signer: Person, role: str, roles: list[str]) -> Person:
    """Whom the request is from: who signs it, or the person without a key for whom the desk signs."""
    if role != DESK:
        if asked.requester not in {None, signer.id}:
            raise GateRefused(
                f"{signer.id} is not the desk and cannot ask for {asked.requester}",
                where="--requester",
                hint=f"The receiving desk (role {DESK}) enters requests of people without a key.",
            )
        return signer
    if not asked.requester:
        raise UsageError("whose request is it?", where="--requester", hint="The desk names the person who asks.")
    found = session.trust.person(asked.requester)
    session.role(found, roles, "asking (step 1)")
    return found


def _specification(session: Session, asked: Asked) -> list[Specified]:
    assert asked.specification is not None  # noqa: S101  # the caller has one
    if not asked.specification.exists():
        raise UsageError("the specification file does not exist", where=f"--specification {asked.specification}")
    listed = load_yaml(Specification, asked.specification)
    if listed.schema != "sop-specification/v1":
        raise UsageError(
            f"schema {listed.schema!r} is unknown",
            where=f"{asked.specification}:schema",
            hint="It is sop-specification/v1.",
        )
    for item in listed.items:
        session.site.dataset(item.dataset)
    return listed.items


def remove_empty(folder: Path) -> None:
    if not list(folder.glob("*.json")):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()
