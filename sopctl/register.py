# SPDX-License-Identifier: Apache-2.0
"""What decides beside the trust: the register's signed index, sop.yml's settings, and the strictest of all policies.

The keeper of the register (role ``pengurus-aset``) signs one index of all entries. Entries are named as the index names
them, by their file below ``register/``: ``servers/db01.yml``, ``datasets/simpeg.yml``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import yaml

from sopctl import clock, fsio, loading
from sopctl.errors import ConfigError
from sopctl.models import ID_PATTERN, RegisterIndex, TrustFile, TrustPolicy, to_json
from sopctl.profile import KEEPER, Profile
from sopctl.settings import Policy, SiteConfig
from sopctl.trust import Trust

FOLDERS = ("servers", "datasets")
INDEX = "register/index.yml"
LEDGER_KIND = "register"
#: begin of the numbers of scans of servers, and of reviews of the register; no case has such a number
SCAN, REVIEW = "AST-", "TNJ-"
#: keys of sop.yml that the trust is signed over
SETTINGS = ("profile", "timezone", "calendar", "vault", "inventory", "archive", "naming")
#: signed besides where sop.yml has it: where backups are opened decides who could read them
DRILL = "policy.drill"
#: likewise: who could exchange a witness could witness for himself
WITNESSES = "witnesses"
#: likewise: who could exchange the certificates that time stamps lead to could stamp what he likes, when he likes
TIMESTAMPS = "timestamps"
#: likewise: who could exchange a channel could have forms sent elsewhere, or name a command for its address
CHANNELS = "notices.channels"
_OPTIONAL = (DRILL, WITNESSES, TIMESTAMPS, CHANNELS)
#: keys of ``vault`` that came later: without a value they change no digest, so that a trust signed before them holds
_LATER = ("admin_url", "keep", "door", "copies")
_ENTRY = re.compile(rf"(?:{'|'.join(FOLDERS)})/{ID_PATTERN.strip('^$')}\.ya?ml")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class SignedRegister:
    """The index as it lies; ``signature`` is None where there is none. Nothing of it is believed yet."""

    index: RegisterIndex
    data: bytes
    signature: bytes | None

    @property
    def ref(self) -> str:
        """How the ledger names it (kind ``register``)."""
        return f"register/{self.index.serial}"

    @property
    def digests(self) -> dict[str, str]:
        """What the ledger keeps of it."""
        return {"register": fsio.sha256_bytes(self.data), "signature": fsio.sha256_bytes(self.signature or b"")}


class Line(Protocol):
    """What is asked of a ledger line."""

    @property
    def kind(self) -> str:
        """The line's kind."""

    @property
    def ref(self) -> str:
        """What it is about."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Digests of that."""


# --- the index -------------------------------------------------------------------------------------------------


def entry_files(site_root: Path) -> dict[str, bytes]:
    """Every entry's bytes as they lie. ConfigError for a link, or for a name that is no entry's."""
    found = {}
    for folder in FOLDERS:
        place = site_root / "register" / folder
        if (site_root / "register").is_symlink() or place.is_symlink():
            raise ConfigError("is a link", where=str(place), hint="Put the folder itself there.")
        for path in sorted(place.glob("*.y*ml")):
            name = f"{folder}/{path.name}"
            if not _ENTRY.fullmatch(name):
                raise ConfigError("is not the name of an entry", where=str(path), hint="Name it <id>.yml.")
            found[name] = fsio.read_strict(path)
    return found


def load_register(site_root: Path) -> SignedRegister | None:
    """``register/index.yml`` read strictly, with its signature; None when there is none."""
    path = site_root / INDEX
    if not os.path.lexists(path):
        return None
    data = fsio.read_strict(path)
    index = _index(data, path)
    signature_path = path.with_name("index.yml.sig")
    return SignedRegister(index, data, fsio.read_strict(signature_path) if os.path.lexists(signature_path) else None)


@lru_cache(maxsize=4)  # the gate asks for it again and again, and it may name thousands
def _index(data: bytes, path: Path) -> RegisterIndex:
    index = loading.from_yaml(RegisterIndex, data, path)
    clock.parse(index.issued, f"{path}:issued")
    for name, digest in index.entries.items():
        if not _ENTRY.fullmatch(name) or not _DIGEST.fullmatch(digest):
            raise ConfigError("is not an entry with its digest", where=f"{path}:entries.{name}")
    return index


def index_bytes(index: RegisterIndex) -> bytes:
    """The bytes that the keeper signs."""
    return yaml.safe_dump(to_json(index), sort_keys=False, allow_unicode=True, width=200).encode()


def digests_of(files: Mapping[str, bytes]) -> dict[str, str]:
    """The index's entries for these files, sorted by name."""
    return {name: fsio.sha256_bytes(files[name]) for name in sorted(files)}


def wanted(files: Iterable[str], servers: Iterable[str], datasets: Iterable[str]) -> list[str]:
    """Names of these servers' and datasets' entries; ``<id>.yml`` for one that has no file."""
    known = set(files)
    names = [f"{folder}/{one}" for folder, ids in zip(FOLDERS, (servers, datasets), strict=True) for one in ids]
    return [f"{name}.yaml" if f"{name}.yaml" in known else f"{name}.yml" for name in names]


def highest_serial(lines: Iterable[Line]) -> int:
    """The highest serial of an index that the ledger knows; 0 when it knows none."""
    return max((int(line.ref.removeprefix("register/")) for line in lines if line.kind == LEDGER_KIND), default=0)


def register_reasons(
    signed: SignedRegister | None,
    trust: Trust,
    site_uuid: str,
    now: str,
    files: Mapping[str, bytes],
    wanted: Sequence[str],
    highest_serial: int,
    known: str | None = None,
) -> list[str]:
    """Why the entries ``wanted`` are not what the register's keeper signed; empty when they are.

    ``files`` are the entries' bytes as the caller uses them. ``highest_serial`` is the highest that the ledger knows,
    ``known`` the digest that it has of the index of this serial, if any.
    """
    if signed is None:
        return [f"the register is not signed by its keeper ({KEEPER}): {INDEX} is missing"]
    index, found = signed.index, []
    if index.site != site_uuid:
        found.append(f"{INDEX} is of another site")
    if index.serial < highest_serial:
        found.append(f"{INDEX} has serial {index.serial}, older than {highest_serial}, which was in force before")
    elif known is not None and known != fsio.sha256_bytes(signed.data):
        found.append(f"{INDEX} is not the one of serial {index.serial} that was in force before")
    if index.issued > now:
        found.append(f"{INDEX} was issued at {index.issued}, now is {now}")
    found += _signature_reasons(signed, trust, now)
    for name in wanted:
        if name not in index.entries:
            found.append(f"register/{name} is not in the register's signed index")
        elif name not in files:
            found.append(f"register/{name} is gone")
        elif fsio.sha256_bytes(files[name]) != index.entries[name]:
            found.append(f"register/{name} is not as its keeper signed it")
    return found


def _signature_reasons(signed: SignedRegister, trust: Trust, now: str) -> list[str]:
    """Why the signature is not one of a keeper, now and when the index was issued."""
    if signed.signature is None:
        return [f"{INDEX} is not signed by the register's keeper ({KEEPER})"]
    # a service identity runs what the schedule allows and keeps no register
    keepers = [
        person for person in trust.file.people if person.kind == "person" and trust.has_role(person, KEEPER, now)
    ]
    times = [min(signed.index.issued, now), now]
    reasons = [
        trust.reasons(signed.data, signed.signature, "sop-register", keeper.id, [KEEPER], times) for keeper in keepers
    ]
    if [] in reasons:
        return []
    why = reasons[0][0] if len(reasons) == 1 else "it is none of the keepers'" if reasons else "nobody holds that role"
    return [f"the signature of {INDEX} is not one of {KEEPER}: {why}"]


@dataclass(frozen=True)
class Changes:
    """How the entries differ from an index."""

    new: list[str]
    changed: list[str]
    gone: list[str]

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone)

    def lines(self) -> list[str]:
        """One line an entry."""
        words = (("new", self.new), ("changed", self.changed), ("gone", self.gone))
        return [f"{word:<8} register/{name}" for word, names in words for name in names]


def changes(signed: SignedRegister | None, files: Mapping[str, bytes]) -> Changes:
    """How ``files`` differ from the index, signed rightly or not; everything is new when there is none."""
    before, after = (signed.index.entries if signed else {}), digests_of(files)
    return Changes(
        new=sorted(after.keys() - before.keys()),
        changed=sorted(name for name in after.keys() & before.keys() if after[name] != before[name]),
        gone=sorted(before.keys() - after.keys()),
    )


# --- sop.yml ---------------------------------------------------------------------------------------------------


def settings_digests(config: SiteConfig) -> dict[str, str]:
    """Key of sop.yml that decides → SHA-256 of its value as canonical JSON, defaults filled in."""
    values = to_json(config)
    values["vault"] = {key: value for key, value in values["vault"].items() if key not in _LATER or value}
    if config.policy.drill:
        values[DRILL] = config.policy.drill
    for key in (WITNESSES, TIMESTAMPS):
        if not values[key]:
            del values[key]
    if config.notices.channels:
        values[CHANNELS] = values["notices"]["channels"]
    return {
        key: fsio.sha256_bytes(fsio.canonical_json(values[key])) for key in (*SETTINGS, *_OPTIONAL) if key in values
    }


def settings_reasons(trust_file: TrustFile, config: SiteConfig) -> list[str]:
    """Which keys of sop.yml differ from what the trust was signed over; empty when none does."""
    found = []
    for key, digest in settings_digests(config).items():
        signed = trust_file.settings.get(key)
        if signed is None and key in _OPTIONAL:
            found.append(f"sop.yml: {key}: the trust was signed without it; sign it anew: sopctl trust sign")
        elif signed is None:
            found.append(f"sop.yml: {key}: the trust says nothing of sop.yml; sign it anew: sopctl trust sign")
        elif signed != digest:
            found.append(f"sop.yml: {key} differs from what the trust was signed over")
    optional = {
        DRILL: config.policy.drill,
        WITNESSES: config.witnesses,
        TIMESTAMPS: config.timestamps,
        CHANNELS: config.notices.channels,
    }
    for key, value in optional.items():
        if key in trust_file.settings and not value:
            found.append(f"sop.yml: {key} differs from what the trust was signed over")
    for key in sorted(trust_file.settings.keys() - {*SETTINGS, *_OPTIONAL}):
        found.append(f"sop.yml: {key}: the trust was signed over it by another sopctl; sign it anew: sopctl trust sign")
    return found


def setting_reason(trust_file: TrustFile, config: SiteConfig, key: str) -> str:
    """Why ``key`` of sop.yml is not what the trust was signed over; empty when it is."""
    wanted = f"sop.yml: {key}"
    return next((reason for reason in settings_reasons(trust_file, config) if reason.startswith(wanted)), "")


def effective_policy(trust: TrustPolicy, profile: Profile, site: Policy) -> Policy:
    """The strictest of what the root, the SOP and the site demand.

    ``authority``: where SOP and site name roles for a classification, a role must stand in both lists; an empty list
    means that nobody may approve.
    """
    review = {trust.asset_review, site.asset_review}
    if "asset_review_current" in profile.preflight:
        review.add("block")
    authority = {}
    for classification in [*profile.authority, *(name for name in site.authority if name not in profile.authority)]:
        lists = [one[classification] for one in (profile.authority, site.authority) if classification in one]
        authority[classification] = [role for role in lists[0] if all(role in roles for roles in lists)]
    return Policy(
        asset_review=_block(review),
        verify="restore" if "restore" in {trust.verify, site.verify} else "read",
        sla=_block({trust.sla, site.sla}),
        authority=authority,
        approval_days=min(trust.approval_days_max, site.approval_days),
        keep_days=max(trust.keep_days, site.keep_days),
    )


def _block(words: set[Literal["warn", "block"]]) -> Literal["warn", "block"]:
    return "block" if "block" in words else "warn"
