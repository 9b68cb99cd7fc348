# SPDX-License-Identifier: Apache-2.0
"""Who may do what, and which key is whose: the root-signed ``trust/trust.yml``."""

from __future__ import annotations

import base64
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sopctl import clock, fsio, loading, signing
from sopctl import roots as root_chain
from sopctl.errors import ConfigError, GateRefused, UsageError
from sopctl.models import Certificate, Key, Person, RoleHolding, TrustFile
from sopctl.roots import RootChain
from sopctl.signing import BadSignature, Namespace

ROOT_PIN = Path("/etc/sopctl/root")
ROOT_ENV = "SOPCTL_ROOT"
DELEGATE_DAYS = {"plt": 366, "plh": 90}  # the most that one delegation may last
DELEGATE_MARKS = {"definitif": "", "plt": "Plt.", "plh": "Plh."}


@dataclass(frozen=True)
class RootPin:
    """The pinned root keys and where the pin lies; a pin from the environment is weaker and said so in records."""

    keys: frozenset[str]
    source: str


def root_pin() -> RootPin:
    """Read the pin: /etc/sopctl/root, else the file that ``$SOPCTL_ROOT`` names. ConfigError when there is none."""
    path = ROOT_PIN if os.path.lexists(ROOT_PIN) else Path(os.environ.get(ROOT_ENV, ""))
    if not path.name:
        raise ConfigError(
            "no root key is pinned, so no trust file can be believed",
            where=str(ROOT_PIN),
            hint=f"Install the site's root line there (mode 0644), or name it in ${ROOT_ENV}.",
        )
    keys = root_chain.parse_lines(fsio.read_strict(path), str(path))
    return RootPin(frozenset(keys), str(path) if path == ROOT_PIN else f"${ROOT_ENV}")


def roots(site_root: Path) -> RootChain:
    """The pinned roots and those that followed them: ``keys()`` for what was signed once, ``in_force()`` for now."""
    pin = root_pin()
    return root_chain.read_chain(site_root, pin.keys, pin.source)


@dataclass(frozen=True)
class Trust:
    """A verified trust file."""

    file: TrustFile
    digest: str
    data: bytes
    signature: bytes
    root_source: str
    roots: RootChain = field(default_factory=RootChain)

    def person(self, person_id: str) -> Person:
        """The person of that id; UsageError names those that exist."""
        for person in self.file.people:
            if person.id == person_id:
                return person
        known = ", ".join(person.id for person in self.file.people)
        raise UsageError(
            f"person {person_id!r} is not in the trust", where="trust/trust.yml:people", hint=f"Known: {known}."
        )

    def has_role(self, person: Person, role: str, at: str) -> bool:
        """Whether ``person`` holds ``role`` at ``at``."""
        return any(self._held(person, role, at))

    def _held(self, person: Person, role: str, at: str) -> Iterator[RoleHolding]:
        return (held for held in person.roles if held.role == role and held.since <= at <= held.until)

    def persons_behind(self, person_id: str, role: str, at: str) -> set[str]:
        """Ids of whom separation of duties counts: the person, and whom they stand in for in that role at that time."""
        people = {person.id: person for person in self.file.people}
        found: set[str] = set()
        todo = [person_id]
        while todo:
            one = todo.pop()
            if one not in found and one in people:
                todo += [held.acting_for for held in self._held(people[one], role, at) if held.acting_for]
            found.add(one)
        return found

    def delegate_mark(self, person: Person | str, role: str, at: str) -> str:
        """What forms print before the position: ``Plt.``, ``Plh.``, or nothing for the holder (or for nobody)."""
        entry = self.person(person) if isinstance(person, str) else person
        kinds = {held.kind for held in self._held(entry, role, at)}
        return next((mark for kind, mark in DELEGATE_MARKS.items() if kind in kinds), "")

    @cached_property
    def _keys(self) -> dict[str, list[tuple[Person, Key]]]:
        """Every key (``type base64``) with its entries."""
        found: dict[str, list[tuple[Person, Key]]] = {}
        for person in self.file.people:
            for entry in person.keys:
                found.setdefault(signing.public_line(signing.key_blob(entry.key, "trust")), []).append((person, entry))
        return found

    def revoked_from(self, key: str) -> str | None:
        """The time from which on the key counts for nothing; a key is revoked, not one of its entries."""
        return min((entry.revoked for _, entry in self._keys.get(key, []) if entry.revoked), default=None)

    def key_holder(self, key: str, at: str) -> Person | None:
        """Whose key this is at ``at``; nobody's from its revocation on."""
        revoked = self.revoked_from(key)
        if revoked is not None and at >= revoked:
            return None
        return next((person for person, entry in self._keys.get(key, []) if entry.since <= at <= entry.until), None)

    def reasons(
        self, data: bytes, signature: bytes, namespace: Namespace, person_id: str, roles: list[str], times: list[str]
    ) -> list[str]:
        """Why ``signature`` is not that person's in one of ``roles`` at all of ``times``; empty when it is.

        The last of ``times`` is when it was received: a revoked key cannot date its way back behind its revocation.
        """
        try:
            key = signing.verify(data, signature, namespace)
        except BadSignature as error:
            return [f"signature of {person_id} is not valid: {error}"]
        people = [person for person in self.file.people if person.id == person_id]
        if not people:
            return [f"person {person_id!r} is not in the trust"]
        revoked = self.revoked_from(key)
        if revoked is not None and any(at >= revoked for at in times):
            owner = self._keys[key][0][0].id
            return [f"key {signing.fingerprint(key)} of {owner} was revoked from {revoked} on"]
        found = []
        for at in times:
            holder = self.key_holder(key, at)
            if holder is None:
                found.append(f"key {signing.fingerprint(key)} held for nobody at {at}")
            elif holder.id != person_id:
                found.append(f"key {signing.fingerprint(key)} is {holder.id}'s, not {person_id}'s")
            elif not any(self.has_role(people[0], role, at) for role in roles):
                found.append(f"{person_id} did not hold {' or '.join(roles)} at {at}")
        return found

    def certificate_reasons(self, digest: str, person_id: str, roles: list[str], times: list[str]) -> list[str]:
        """Why the certificate of that SHA-256 is not that person's, in one of ``roles`` at all of ``times``; empty when it is.

        The first of ``times`` is when the paper was printed, the last when it was received: it was signed between them, so the
        certificate must hold at the last alone (it may have been renewed since), the role at both.
        """
        pinned = [(person, one) for person in self.file.people for one in person.certificates if one.sha256 == digest]
        mark = digest[:19]
        if not pinned:
            return [f"certificate {mark} is nobody's in the trust (a name in it proves nothing)"]
        owner, _ = pinned[0]
        if owner.id != person_id:
            return [f"certificate {mark} is {owner.id}'s, not {person_id}'s"]
        revoked = min((one.revoked for _, one in pinned if one.revoked), default=None)
        if revoked is not None and times[-1] >= revoked:
            return [f"certificate {mark} of {owner.id} was revoked in the trust from {revoked} on"]
        if not any(one.since <= times[-1] <= one.until for _, one in pinned):
            return [f"certificate {mark} held for nobody at {times[-1]}"]
        return [
            f"{person_id} did not hold {' or '.join(roles)} at {at}"
            for at in times
            if not any(self.has_role(owner, role, at) for role in roles)
        ]

    @cached_property
    def anchors(self) -> tuple[bytes, ...]:
        """DER of the CA certificates that signed PDFs must lead to."""
        return tuple(base64.b64decode(one.certificate) for one in self.file.papers.anchors)

    def allowed_signers(self) -> str:
        """The same trust as an OpenSSH allowed_signers file, for auditors with ssh-keygen only."""
        lines = []
        for person in self.file.people:
            for entry in person.keys:
                revoked = self.revoked_from(signing.public_line(signing.key_blob(entry.key, "trust")))
                # ssh-keygen takes valid-before as the last second that still counts, as our own "until" is
                last = min(entry.until, clock.plus(revoked, seconds=-1)) if revoked else entry.until
                if last <= entry.since:
                    continue  # never valid; ssh-keygen refuses such a line
                since, until = (value.translate(str.maketrans("", "", "-:T")) for value in (entry.since, last))
                lines.append(
                    f'{person.id} namespaces="sop-document,sop-schedule,sop-register,sop-record,sop-checkpoint",'
                    f'valid-after="{since}",valid-before="{until}" {" ".join(entry.key.split()[:2])}'
                )
        return "".join(line + "\n" for line in lines)


def load_trust(site_root: Path, site_uuid: str, now: str | None, lowest_serial: int = 0, known_roots: int = 0) -> Trust:
    """Load ``trust/trust.yml`` and check it: root signature, site, validity, no roll-back, keys and NIPs unique.

    Without ``now`` its validity is not asked: who reads the archive years later acts on nothing. ``known_roots`` is the
    number of the newest root that the ledger knows: a root that was left does not come back by removing files.

    Raises GateRefused (it cannot be believed) or ConfigError (it cannot be read).
    """
    path = site_root / "trust" / "trust.yml"
    pin = root_pin()
    data = fsio.read_strict(path)
    signature_path = path.with_name("trust.yml.sig")
    if not signature_path.exists():
        raise GateRefused("the trust is not signed", where=str(path), hint="Sign it: sopctl trust sign --key ROOT_KEY.")
    signature = fsio.read_strict(signature_path)
    try:
        key = signing.verify(data, signature, "sop-trust")
    except BadSignature as error:
        raise GateRefused(
            f"the trust's signature is not valid: {error}",
            where=str(signature_path),
            hint="Have the root holder look at the change and sign: sopctl trust sign.",
        ) from None
    chain = root_chain.read_chain(site_root, pin.keys, pin.source)
    if len(chain.links) < known_roots:
        raise GateRefused(
            f"root {len(chain.links) + 1} of {known_roots} is gone",
            where=str(site_root / root_chain.FOLDER / f"{len(chain.links) + 1}.pub"),
            hint="Put the file and its signature back.",
        )
    require_root_in_force(chain, key, pin.source, str(signature_path))
    file = loading.from_yaml(TrustFile, data, path)
    trust = Trust(file, fsio.sha256_bytes(data), data, signature, pin.source, chain)
    check_trust_file(trust.file, path)
    if trust.file.site != site_uuid:
        raise GateRefused("the trust is of another site", where=f"{path}:site")
    if trust.file.serial < lowest_serial:
        raise GateRefused(
            f"trust serial {trust.file.serial} is older than {lowest_serial}, which was in force before",
            where=f"{path}:serial",
            hint="Put the newest trust back.",
        )
    if now is not None and not trust.file.issued <= now <= trust.file.valid_until:
        raise GateRefused(
            f"the trust holds from {trust.file.issued} to {trust.file.valid_until}, now is {now}",
            where=f"{path}:valid_until",
            hint="Have the root holder renew it: sopctl trust sign.",
        )
    return trust


def require_root_in_force(chain: RootChain, key: str, source: str, where: str, what: str = "the trust") -> None:
    """GateRefused unless ``key``, which signed ``what``, is a root that may do so now."""
    ever = chain.keys()
    if key in chain.in_force():
        return
    if key in ever:
        raise GateRefused(
            f"{what} is signed by a root that root {len(chain.links)} has replaced",
            where=where,
            hint="Have it signed with the new root key: sopctl trust sign --key ROOT_KEY.",
        )
    raise GateRefused(
        f"{what} is signed by a key that is not the pinned root", where=where, hint=f"Pinned in {source}."
    )


def check_trust_file(file: TrustFile, path: Path) -> None:
    """What the schema cannot say: ids, times, and that no key or NIP stands under two persons. ConfigError."""
    keys: dict[str, str] = {}
    certificates: dict[str, str] = {}
    nips: dict[str, str] = {}
    ids: set[str] = set()
    for stamp in (file.issued, file.valid_until):
        clock.parse(stamp, str(path))
    for person in file.people:
        where = f"{path}:people.{person.id}"
        loading.check_id(person.id, where)
        if person.id in ids:
            raise ConfigError(f"person {person.id!r} stands there twice", where=where)
        ids.add(person.id)
        entries: list[RoleHolding | Key | Certificate] = [*person.roles, *person.keys, *person.certificates]
        for held in entries:
            clock.parse(held.since, where)
            clock.parse(held.until, where)
        for role in person.roles:
            _check_delegate(file, person, role, where)
        for entry in person.keys:
            if entry.revoked is not None:
                clock.parse(entry.revoked, where)
            line = signing.public_line(signing.key_blob(entry.key, where))
            if keys.setdefault(line, person.id) != person.id:
                raise ConfigError(
                    f"one key under two persons ({keys[line]}, {person.id})",
                    where=where,
                    hint="Each person has a key of their own.",
                )
        for pinned in person.certificates:
            _check_certificate(person, pinned, certificates, where)
        nip = nip_digits(person.nip)
        if nip and nips.setdefault(nip, person.id) != person.id:
            raise ConfigError(
                f"one NIP under two persons ({nips[nip]}, {person.id})",
                where=where,
                hint="Give one human one entry with several roles.",
            )
    _check_anchors(file, path)
    for key in file.run_keys:
        line = signing.public_line(signing.key_blob(key, f"{path}:run_keys"))
        if line in keys:
            raise ConfigError(f"the run key is {keys[line]}'s", where=f"{path}:run_keys", hint="It is nobody's key.")


def _check_anchors(file: TrustFile, path: Path) -> None:
    for number, anchor in enumerate(file.papers.anchors, 1):
        try:
            base64.b64decode(anchor.certificate, validate=True)
        except ValueError:
            raise ConfigError(
                "is no certificate in base64",
                where=f"{path}:papers.anchors[{number}]",
                hint="Have it written: sopctl trust anchor FILE.pem.",
            ) from None


def _check_certificate(person: Person, pinned: Certificate, seen: dict[str, str], where: str) -> None:
    """ConfigError unless a certificate is named by its whole digest, and stands under one person alone who is no service."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", pinned.sha256):
        raise ConfigError(
            f"{pinned.sha256!r} is not the SHA-256 of a certificate",
            where=where,
            hint=f"Have it written: sopctl trust certificate {person.id} FILE.",
        )
    if pinned.revoked is not None:
        clock.parse(pinned.revoked, where)
    if seen.setdefault(pinned.sha256, person.id) != person.id:
        raise ConfigError(
            f"one certificate under two persons ({seen[pinned.sha256]}, {person.id})",
            where=where,
            hint="Each person has a certificate of their own.",
        )
    if person.kind == "service":
        raise ConfigError("a service identity signs no papers", where=where, hint="Take its certificate out.")


def nip_digits(nip: str | None) -> str:
    """What of a NIP is compared: its digits, in whatever script and however spaced they are written."""
    return "".join(str(unicodedata.decimal(char)) for char in nip or "" if char.isdecimal())


def _check_delegate(file: TrustFile, person: Person, held: RoleHolding, where: str) -> None:
    """ConfigError when somebody stands in for nobody, for themselves, or for longer than a delegate may."""
    most = DELEGATE_DAYS.get(held.kind)
    if most is None:
        if held.acting_for is not None:
            raise ConfigError(
                f"role {held.role} is held definitif and for {held.acting_for}",
                where=where,
                hint="Only a plt or plh stands in for somebody.",
            )
        return
    if clock.seconds_between(held.since, held.until) > most * 86400:
        raise ConfigError(
            f"{held.kind} of {held.role} from {held.since} to {held.until} is longer than {most} days",
            where=where,
            hint="A delegate's time has an end; name it with --until.",
        )
    if held.acting_for == person.id:
        raise ConfigError(f"{person.id} stands in for themselves", where=where, hint="Name whose role it is.")
    if held.acting_for is not None and held.acting_for not in {one.id for one in file.people}:
        raise ConfigError(f"person {held.acting_for!r}, whom {person.id} acts for, is not in the trust", where=where)
