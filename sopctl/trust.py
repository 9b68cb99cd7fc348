# SPDX-License-Identifier: Apache-2.0
"""Who may do what, and which key is whose: the root-signed ``trust/trust.yml``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sopctl import clock, fsio, loading, signing
from sopctl.errors import ConfigError, GateRefused, UsageError
from sopctl.models import Key, Person, RoleHolding, TrustFile
from sopctl.signing import BadSignature, Namespace

ROOT_PIN = Path("/etc/sopctl/root")
ROOT_ENV = "SOPCTL_ROOT"


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
    keys = set()
    for number, line in enumerate(fsio.read_strict(path).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split()
        kinds = [at for at, part in enumerate(parts) if part.startswith(("ssh-", "ecdsa-", "sk-"))]
        if not kinds or parts[1 : kinds[0]] not in ([], ['namespaces="sop-trust"']):  # no option is passed over unread
            raise ConfigError(
                "not an allowed_signers line",
                where=f"{path}:{number}",
                hint='Write: root namespaces="sop-trust" ssh-ed25519 AAAA…',
            )
        keys.add(signing.public_line(signing.key_blob(" ".join(parts[kinds[0] :]), f"{path}:{number}")))
    if not keys:
        raise ConfigError("holds no key", where=str(path), hint='Write: root namespaces="sop-trust" ssh-ed25519 AAAA…')
    return RootPin(frozenset(keys), str(path) if path == ROOT_PIN else f"${ROOT_ENV}")


@dataclass(frozen=True)
class Trust:
    """A verified trust file."""

    file: TrustFile
    digest: str
    data: bytes
    signature: bytes
    root_source: str

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
        return any(held.role == role and held.since <= at <= held.until for held in person.roles)

    def key_holder(self, key: str, at: str) -> Person | None:
        """Whose key this is at ``at``."""
        for person in self.file.people:
            for entry in person.keys:
                if (
                    signing.public_line(signing.key_blob(entry.key, "trust")) == key
                    and entry.since <= at <= entry.until
                ):
                    return person
        return None

    def reasons(
        self, data: bytes, signature: bytes, namespace: Namespace, person_id: str, roles: list[str], times: list[str]
    ) -> list[str]:
        """Why ``signature`` is not that person's in one of ``roles`` at all of ``times``; empty when it is."""
        try:
            key = signing.verify(data, signature, namespace)
        except BadSignature as error:
            return [f"signature of {person_id} is not valid: {error}"]
        people = [person for person in self.file.people if person.id == person_id]
        if not people:
            return [f"person {person_id!r} is not in the trust"]
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

    def allowed_signers(self) -> str:
        """The same trust as an OpenSSH allowed_signers file, for auditors with ssh-keygen only."""
        lines = []
        for person in self.file.people:
            for entry in person.keys:
                since, until = (value.translate(str.maketrans("", "", "-:T")) for value in (entry.since, entry.until))
                lines.append(
                    f'{person.id} namespaces="sop-document,sop-schedule,sop-register,sop-record",'
                    f'valid-after="{since}",valid-before="{until}" {" ".join(entry.key.split()[:2])}'
                )
        return "".join(line + "\n" for line in lines)


def load_trust(site_root: Path, site_uuid: str, now: str | None, lowest_serial: int = 0) -> Trust:
    """Load ``trust/trust.yml`` and check it: root signature, site, validity, no roll-back, keys and NIPs unique.

    Without ``now`` its validity is not asked: who reads the archive years later acts on nothing.

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
    if key not in pin.keys:
        raise GateRefused(
            "the trust is signed by a key that is not the pinned root",
            where=str(signature_path),
            hint=f"Pinned in {pin.source}.",
        )
    trust = Trust(loading.from_yaml(TrustFile, data, path), fsio.sha256_bytes(data), data, signature, pin.source)
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


def check_trust_file(file: TrustFile, path: Path) -> None:
    """What the schema cannot say: ids, times, and that no key or NIP stands under two persons. ConfigError."""
    keys: dict[str, str] = {}
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
        entries: list[RoleHolding | Key] = [*person.roles, *person.keys]
        for held in entries:
            clock.parse(held.since, where)
            clock.parse(held.until, where)
        for entry in person.keys:
            line = signing.public_line(signing.key_blob(entry.key, where))
            if keys.setdefault(line, person.id) != person.id:
                raise ConfigError(
                    f"one key under two persons ({keys[line]}, {person.id})",
                    where=where,
                    hint="Each person has a key of their own.",
                )
        nip = "".join((person.nip or "").split())
        if nip and nips.setdefault(nip, person.id) != person.id:
            raise ConfigError(
                f"one NIP under two persons ({nips[nip]}, {person.id})",
                where=where,
                hint="Give one human one entry with several roles.",
            )
