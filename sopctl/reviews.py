# SPDX-License-Identifier: Apache-2.0
"""The yearly review of the register: signed documents over the entries as they were, and what they say of a server now.

``register/reviews/TNJ-2026-0001.json`` with its signature beside it; the ledger says when it was received. A document that the
ledger knows and that is gone or altered is no "was never reviewed": it could have said that an entry is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec

from sopctl import clock, fsio, loading
from sopctl.errors import ConfigError
from sopctl.models import Actor, Record, to_json
from sopctl.profile import KEEPER, Profile
from sopctl.register import Line
from sopctl.trust import Trust

FOLDER = "register/reviews"
LEDGER_KIND = "reviewed"
#: what a review can come to, in the words of the register's form
GOOD, BAD = "sesuai", "tidak-sesuai"
#: days after which an entry is to be looked at again
DAYS = 366
#: days before that by which it is announced
SOON = 30
#: bytes of one document; 5,000 entries are a megabyte
MOST = 8 << 20

Digest = Annotated[str, msgspec.Meta(pattern=r"\Asha256:[0-9a-f]{64}\Z")]


class Reviewed(Record, frozen=True):
    """What was found of one server: digests of its entry and of its facts (null where there were none)."""

    entry: Digest
    facts: Digest | None
    result: Literal["sesuai", "tidak-sesuai"]
    remarks: Annotated[str, msgspec.Meta(max_length=2000)] = ""


class ReviewDocument(Record, frozen=True):
    """One signed review of one or many servers (by asset id)."""

    schema: Literal["sop-review/v1"]
    site: str
    id: Annotated[str, msgspec.Meta(pattern=r"\ATNJ-[0-9]{4}-[0-9]{4}\Z")]
    at: str
    actor: Actor
    servers: dict[str, Reviewed]


class ReceivedLine(Line, Protocol):
    """What is asked of a ledger line here."""

    @property
    def at(self) -> str:
        """When it was entered."""


@dataclass(frozen=True)
class Last:
    """The newest review of a server: by whom, when received, and what it said of which bytes."""

    document: str
    by: str
    at: str
    said: Reviewed


@dataclass(frozen=True)
class Reviews:
    """The newest review of each server, and why documents that the ledger knows cannot be believed."""

    last: Mapping[str, Last] = field(default_factory=dict)
    problems: Sequence[str] = ()


def roles(profile: Profile) -> list[str]:
    """Who may review: the register's keeper, and whoever decides requests."""
    deciders = [
        role for flow in profile.flows.values() for step in flow.steps if step.act == "decide" for role in step.actors
    ]
    return list(dict.fromkeys([KEEPER, *deciders]))


def document_bytes(document: ReviewDocument) -> bytes:
    """The bytes that are signed."""
    return fsio.canonical_json(to_json(document))


def paths(root: Path, review: str) -> tuple[Path, Path]:
    """Where a review and its signature lie."""
    path = root / FOLDER / f"{review}.json"
    return path, path.with_name(path.name + ".sig")


def load(
    root: Path,
    site: str,
    trust: Trust,
    allowed: list[str],
    lines: Iterable[ReceivedLine],
    known: dict[str, ReviewDocument],
) -> Reviews:
    """Every review that the ledger received, examined. ``known`` keeps what was examined before in this command.

    The signature must be of a person who holds one of ``allowed`` both when the document says and when it was received.
    """
    last: dict[str, Last] = {}
    problems = []
    for line in lines:
        if line.kind != LEDGER_KIND:
            continue
        document = known.get(line.ref)
        if document is None:
            try:
                document = _examined(root, site, trust, allowed, line)
            except ConfigError as error:
                problems.append(f"review {line.ref} cannot be believed: {error.message}")
                continue
            known[line.ref] = document
        for server, said in document.servers.items():
            last[server] = Last(document.id, document.actor.person, line.at, said)
    return Reviews(last, problems)


def _examined(root: Path, site: str, trust: Trust, allowed: list[str], line: ReceivedLine) -> ReviewDocument:
    """The document of a ledger line. ConfigError with what is wrong with it."""
    path, signature_path = paths(root, line.ref)
    data, signature = fsio.read_strict(path, MOST), fsio.read_strict(signature_path)
    digests = {"document": fsio.sha256_bytes(data), "signature": fsio.sha256_bytes(signature)}
    if digests != dict(line.digests):
        raise ConfigError("it is not the one that the ledger received", where=str(path))
    document = loading.load_json(ReviewDocument, data, path)
    if (document.site, document.id) != (site, line.ref):
        raise ConfigError("it is of another site or number", where=str(path))
    clock.parse(document.at, f"{path}:at")
    if document.at > line.at:
        raise ConfigError(f"it says {document.at}, but was received at {line.at}", where=str(path))
    person = next((one for one in trust.file.people if one.id == document.actor.person), None)
    if person is None or person.kind != "person":
        raise ConfigError(f"{document.actor.person} is no person of the trust", where=str(path))
    if document.actor.role not in allowed:
        raise ConfigError(f"role {document.actor.role} reviews nothing", where=str(path))
    times = [document.at, line.at]
    if reasons := trust.reasons(data, signature, "sop-register", person.id, [document.actor.role], times):
        raise ConfigError("; ".join(reasons), where=str(path))
    return document


def due(last: Last | None, reviewed_at: str | None) -> str | None:
    """Day (``YYYY-MM-DD``) until which the newest review holds; None where there is none that says the entry is right.

    ``reviewed_at``: what the signed entry itself says of its last review.
    """
    signed = last.at[:10] if last else ""
    claimed = (reviewed_at or "")[:10]
    if last and last.said.result != GOOD and signed >= claimed:
        return None
    newest = max(signed, claimed)
    return clock.plus(f"{newest}T00:00:00Z", days=DAYS)[:10] if newest else None


def changed_since(last: Last | None, entry: str, facts: str | None) -> list[str]:
    """What of a server is not as it was reviewed: ``entry``, ``facts``; empty where nothing was reviewed."""
    if last is None:
        return []
    now = {"entry": entry, "facts": facts}
    return [name for name, digest in now.items() if digest != getattr(last.said, name)]
