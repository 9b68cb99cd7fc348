# SPDX-License-Identifier: Apache-2.0
"""People come and go: editing ``trust/trust.yml``, which the root holder signs afterwards.

Nobody is ever taken out: a role ends, a key is revoked, and what was signed before stays judgeable.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from sopctl import clock, fsio, loading, signing
from sopctl.bootstrap import read_unsigned, write_trust
from sopctl.errors import UsageError
from sopctl.models import Certificate, Key, Person, RoleHolding, TrustFile
from sopctl.profile import RESERVED
from sopctl.site import Site

Kind = Literal["definitif", "plt", "plh"]
Held = TypeVar("Held", Key, Certificate)


@dataclass(frozen=True)
class NewPerson:
    """What ``trust add`` is told; empty words leave what is there. ``since`` and ``until`` are of the roles."""

    id: str
    roles: list[str]
    jabatan: str = ""
    key: Path | None = None
    name: str = ""
    unit: str = ""
    nip: str | None = None
    service: bool = False
    days: int = 366
    kind: Kind = "definitif"
    acting_for: str | None = None
    since: str | None = None
    until: str | None = None


def add_person(site: Site, new: NewPerson) -> Path:
    """Add a person, or roles and key to one that is there; the trust must be signed again afterwards."""
    file = read_unsigned(site)
    loading.check_id(new.id, "person id")
    known = [*site.profile.profile.roles, *RESERVED]
    for role in new.roles:
        if role not in known:
            raise UsageError(f"role {role!r} is not in the profile", where="--role", hint=f"Roles: {', '.join(known)}.")
    people = {person.id: person for person in file.people}
    old = people.get(new.id)
    if old is None and not new.jabatan:
        raise UsageError(f"what is {new.id}'s position?", where="--jabatan", hint="Forms print it.")
    if new.kind != "definitif" and new.until is None:
        raise UsageError(f"a {new.kind} has an end", where="--until", hint="Write it as 2026-12-31T00:00:00Z.")
    now = clock.now()
    since = clock.stamp(clock.parse(new.since, "--from")) if new.since else now
    until = clock.stamp(clock.parse(new.until, "--until")) if new.until else clock.plus(since, days=new.days)
    if until <= since:
        raise UsageError(f"the role would end at {until}, before it begins", where="--until")
    roles = list(old.roles) if old else []
    for role in new.roles:
        roles = _with_role(roles, RoleHolding(role, since, until, new.kind, new.acting_for))
    keys = list(old.keys) if old else []
    if new.key:
        keys = _with_key(new, keys, now)
    kind: Literal["person", "service"] = "service" if new.service else old.kind if old else "person"
    people[new.id] = Person(
        id=new.id,
        jabatan=new.jabatan or (old.jabatan if old else ""),
        roles=roles,
        keys=keys,
        certificates=list(old.certificates) if old else [],
        name=new.name or (old.name if old else ""),
        unit=new.unit or (old.unit if old else ""),
        nip=new.nip or (old.nip if old else None),
        kind=kind,
    )
    return write_trust(site.root, msgspec.structs.replace(file, people=list(people.values())))


def _with_role(roles: list[RoleHolding], new: RoleHolding) -> list[RoleHolding]:
    """``roles`` with ``new``: one that is held already is prolonged, one that has ended begins anew."""
    for at, held in enumerate(roles):
        same = (held.role, held.kind, held.acting_for) == (new.role, new.kind, new.acting_for)
        if same and held.since <= new.since <= held.until:
            longer = msgspec.structs.replace(held, until=max(held.until, new.until))
            return [*roles[:at], longer, *roles[at + 1 :]]
    return [*roles, new]


def _with_key(new: NewPerson, keys: list[Key], now: str) -> list[Key]:
    if new.key is None or not new.key.is_file():
        raise UsageError("the public key file does not exist", where=f"--key {new.key}")
    text = fsio.read_strict(new.key).decode("utf-8", "replace")
    line = signing.public_line(signing.key_blob(text, str(new.key)))
    until = clock.plus(now, days=new.days)
    for at, held in enumerate(keys):
        if signing.public_line(signing.key_blob(held.key, "trust")) != line:
            continue
        if held.revoked:
            raise UsageError(
                f"key {signing.fingerprint(line)} was revoked from {held.revoked} on",
                where=f"--key {new.key}",
                hint="Make a new one.",
            )
        if held.since <= now <= held.until:
            return [*keys[:at], msgspec.structs.replace(held, until=max(held.until, until)), *keys[at + 1 :]]
    return [*keys, Key(line, now, until)]


@dataclass(frozen=True)
class Edited:
    """What ``trust revoke`` and ``trust end`` did, one line each."""

    path: Path
    lines: list[str]


def revoke(site: Site, person_id: str, mark: str | None, since: str | None) -> Edited:
    """Revoke the person's key of fingerprint ``mark``, or certificate of that SHA-256 (all of them, without), from ``since`` on
    (now, without)."""
    file, person = find(site, person_id)
    moment = clock.stamp(clock.parse(since, "--from")) if since else clock.now()
    marks = {signing.fingerprint(key.key) for key in person.keys} | {one.sha256 for one in person.certificates}
    if not marks or (mark is not None and mark not in marks):
        raise UsageError(
            f"{person_id} has no key {mark}" if marks else f"{person_id} has no key",
            where="--key",
            hint=f"Keys: {', '.join(sorted(marks))}." if marks else "",
        )
    lines: list[str] = []

    def revoked(held: Held, one: str, word: str) -> Held:
        if mark not in (None, one) or (held.revoked is not None and moment >= held.revoked):
            return held
        lines.append(f"{word} {one} of {person_id} is revoked from {moment} on")
        return msgspec.structs.replace(held, revoked=moment)

    keys = [revoked(key, signing.fingerprint(key.key), "key") for key in person.keys]
    pinned = [revoked(one, one.sha256, "certificate") for one in person.certificates]
    if not lines:
        raise UsageError(f"{person_id}'s keys are revoked already", where="trust/trust.yml")
    return Edited(put_back(site, file, msgspec.structs.replace(person, keys=keys, certificates=pinned)), lines)


def end(site: Site, person_id: str, role: str | None, since: str | None) -> Edited:
    """End the person's ``role`` (all of them, without) from ``since`` on (now, without). The entry stays."""
    file, person = find(site, person_id)
    moment = clock.stamp(clock.parse(since, "--from")) if since else clock.now()
    last = clock.plus(moment, seconds=-1)  # "until" is the last second that counts
    lines, roles = [], []
    for held in person.roles:
        if role in (None, held.role) and held.until > last:
            roles.append(msgspec.structs.replace(held, until=last))
            lines.append(f"{person_id} holds {held.role} until {last}")
        else:
            roles.append(held)
    if not lines:
        names = ", ".join(sorted({held.role for held in person.roles})) or "none"
        raise UsageError(
            f"{person_id} holds no {role or 'role'} at {moment}", where="--role", hint=f"Roles there: {names}."
        )
    return Edited(put_back(site, file, msgspec.structs.replace(person, roles=roles)), lines)


def find(site: Site, person_id: str) -> tuple[TrustFile, Person]:
    """The trust as it lies, and the person of that id; UsageError names who is there."""
    file = read_unsigned(site)
    for person in file.people:
        if person.id == person_id:
            return file, person
    known = ", ".join(person.id for person in file.people) or "nobody"
    raise UsageError(
        f"person {person_id!r} is not in the trust", where="trust/trust.yml:people", hint=f"Known: {known}."
    )


def put_back(site: Site, file: TrustFile, person: Person) -> Path:
    """Write the trust with ``person`` in the place of who has that id; it must be signed again."""
    people = [person if one.id == person.id else one for one in file.people]
    return write_trust(site.root, msgspec.structs.replace(file, people=people))
