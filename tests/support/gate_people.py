# SPDX-License-Identifier: Apache-2.0
"""People of both SOPs, right ones and others, with real Ed25519 keys made once; the trust that knows them.

Signatures are SSHSIG as ``ssh-keygen -Y sign`` makes them, armoured here because a process each would cost 9 ms.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sopctl import clock
from sopctl.models import Key, Person, RoleHolding, TrustFile, TrustPolicy
from sopctl.profile import LoadedProfile, load_profile, shipped
from sopctl.settings import Calendar
from sopctl.trust import Trust
from sopctl.worktime import WorkTime, work_time

HOUR = 3600
DAY = 24 * HOUR
NOON = int(datetime(2026, 11, 23, 5, tzinfo=UTC).timestamp())
EVER, NEVER = NOON - 300 * DAY, NOON + 300 * DAY
SITE = "7d7f9d2c-0c0e-4a52-8c3b-000000000001"
CODE = "sha256:" + "c0" * 32
OWN, OTHER = "Bidang Mutasi", "Badan Keuangan"
#: who decides, who executes, and the people of the SOP besides
CAST = {
    "trenggalek": ("kabid", "pelaksana", ["pemohon", "kadis"]),
    "kaltim": ("administrator", "pengelola", ["pemohon", "pengawas", "pemeriksa"]),
}


def stamp(moment: int) -> str:
    """Seconds since 1970 as documents write them."""
    return clock.stamp(datetime.fromtimestamp(moment, UTC))


@dataclass(frozen=True)
class Held:
    """A role held by somebody, perhaps standing in for somebody else."""

    role: str
    since: int = EVER
    until: int = NEVER
    stands_for: str | None = None


@dataclass(frozen=True)
class Somebody:
    """An entry of the trust; two with one ``nip`` are one human."""

    roles: tuple[Held, ...]
    unit: str = ""
    nip: str = ""
    key_since: int = EVER
    key_until: int = NEVER
    revoked: int | None = None
    kind: Any = "person"


@cache
def people(sop: str) -> dict[str, Somebody]:
    """Right people under their roles' names, and all the others who try."""
    decider, operator, others = CAST[sop]
    judge = "pemeriksa" if sop == "kaltim" else decider
    found = {role: Somebody((Held(role),), OWN if role == "pemohon" else "Kominfo") for role in others}
    return found | {
        decider: Somebody((Held(decider),)),
        operator: Somebody((Held(operator),), nip="19800101"),
        "kedua": Somebody((Held(operator),)),
        # one account more of the operator's: the loader of trust files would not have it
        "kembar": Somebody((Held(decider), Held(judge), Held(operator), Held("pemohon")), OWN, nip="1980 0101"),
        "rangkap": Somebody(tuple(Held(role) for role in [decider, operator, *others]), OWN),
        "wakil": Somebody((Held(decider, stands_for="kedua"), Held(judge, stands_for="kedua"))),
        "pengganti": Somebody((Held(operator, stands_for=decider),)),
        "lampau": Somebody((Held(decider, until=NOON + 2 * HOUR), Held(operator, until=NOON + 2 * HOUR))),
        "kelak": Somebody((Held(decider, since=NOON + 2 * HOUR), Held(operator, since=NOON + 2 * HOUR))),
        "dicabut": Somebody((Held(decider), Held(operator)), revoked=NOON + HOUR),
        "usang": Somebody((Held(decider), Held(operator)), key_until=NOON + HOUR),
        "robot": Somebody((Held(decider), Held(operator)), kind="service"),
        "meja": Somebody((Held("loket"),)),
        "pemilik": Somebody((Held("pemilik-data"),), OTHER),
        "bukan-pemilik": Somebody((Held("pemilik-data"),), OWN),
    }


DATASETS = {"antrean": (OWN, "terbatas"), "keuangan": (OTHER, "rahasia")}


@cache
def key_of(person: str) -> Ed25519PrivateKey:
    """A person's key, the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(person.encode()).digest())


def _packed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _blob(person: str) -> bytes:
    return _packed(b"ssh-ed25519", key_of(person).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def sign(data: bytes, person: str, namespace: bytes = b"sop-document") -> bytes:
    """An armoured SSHSIG."""
    message = b"SSHSIG" + _packed(namespace, b"", b"sha512", hashlib.sha512(data).digest())
    signature = _packed(b"ssh-ed25519", key_of(person).sign(message))
    whole = b"SSHSIG" + (1).to_bytes(4, "big") + _packed(_blob(person), namespace, b"", b"sha512", signature)
    return b"-----BEGIN SSH SIGNATURE-----\n" + base64.b64encode(whole) + b"\n-----END SSH SIGNATURE-----\n"


@cache
def loaded(sop: str) -> LoadedProfile:
    """The shipped profile."""
    return load_profile(shipped()[sop])


@cache
def work() -> WorkTime:
    days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    always = Calendar(hours={day: ["00:00-24:00"] for day in days}, holidays="")
    return work_time(always, ZoneInfo("Asia/Jakarta"), "calendar")


@cache
def trust(sop: str, glass: bool) -> Trust:
    entries = [
        Person(
            id=name,
            jabatan="Staf",
            roles=[
                RoleHolding(held.role, stamp(held.since), stamp(held.until), "plh" if held.stands_for else "definitif", held.stands_for)
                for held in one.roles
            ],
            keys=[
                Key(
                    "ssh-ed25519 " + base64.b64encode(_blob(name)).decode(),
                    stamp(one.key_since),
                    stamp(one.key_until),
                    stamp(one.revoked) if one.revoked else None,
                )
            ],
            unit=one.unit,
            nip=one.nip or None,
            kind=one.kind,
        )
        for name, one in people(sop).items()
    ]  # fmt: skip
    profile = loaded(sop)
    file = TrustFile(
        schema="sop-trust/v1",
        site=SITE,
        serial=1,
        prev=None,
        issued=stamp(EVER),
        valid_until=stamp(NEVER),
        people=entries,
        profiles={profile.profile.id: profile.digest},
        policy=TrustPolicy(break_glass=glass),
    )
    return Trust(file, "sha256:" + "1" * 64, b"", b"", "pin")
