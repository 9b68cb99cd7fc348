# SPDX-License-Identifier: Apache-2.0
"""What a look at a server found, as ``register/facts/<id>.json`` keeps it: typed, merged with what was known, compared.

People write ``register/servers``, which their keeper signs; machines write here, and nobody's signature is spoilt by a package
that was upgraded (docs/adr/0013-facts-beside-the-register.md). A server may have been taken over, so what it says is read as
strictly as a file, and nothing of it decides anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sopctl import fsio
from sopctl.errors import ConfigError
from sopctl.models import Json, Port, Record, to_json

FOLDER = "register/facts"
#: shares of a number, in hundredths, by which it may differ before it is written anew: sizes move all the time
TOLERANCE = {"bytes": 10, "memory_mib": 2}
#: what tells one entry of a list from another
IDENTITY = {
    "disks": ("name",),
    "addresses": ("interface", "address"),
    "databases": ("engine", "port", "data_dir", "name"),
    "web": ("server",),
    "sites": ("names", "listen"),
    "backup_clients": ("name",),
}
#: changes that a keeper wants to see before all others, by the end of their name
NOTABLE = ("serial", "version", "machine_id", "addresses")

#: no control characters, nor what turns the direction of text: it is shown in terminals and tables
PLAIN = r"\A[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]*\Z"
Plain = Annotated[str, msgspec.Meta(max_length=300, pattern=PLAIN)]
Text = Plain | None
Whole = Annotated[int, msgspec.Meta(ge=0, le=fsio.MAX_INT)] | None


class Cpu(Record, frozen=True):
    """Model, and numbers over all sockets."""

    model: Text
    sockets: Whole
    cores: Whole
    threads: Whole


class Disk(Record, frozen=True):
    """One disk as the kernel names it."""

    name: Text
    bytes: Whole
    model: Text
    serial: Text
    rotational: bool | None


class Machine(Record, frozen=True):
    """The hardware, or what stands for it."""

    machine_id: Text
    maker: Text
    model: Text
    serial: Text
    kind: Literal["physical", "virtual", "container"] | None
    platform: Text
    cpu: Cpu
    memory_mib: Whole
    disks: list[Disk]


class System(Record, frozen=True):
    """The operating system; ``support_until`` as ``YYYY-MM-DD``."""

    id: Text
    version: Text
    name: Text
    kernel: Text
    hostname: Text
    support_until: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")] | None


class Address(Record, frozen=True):
    """One lasting address, with its prefix length."""

    interface: Text
    address: Text
    mac: Text


class Database(Record, frozen=True):
    """One database of a server."""

    name: Text
    owner: Text
    bytes: Whole


class DatabaseServer(Record, frozen=True):
    """One database server; ``databases`` is None where they could not be listed."""

    engine: Literal["postgresql", "mariadb", "mysql"]
    name: Text
    version: Text
    port: Port | None
    data_dir: Text
    running: bool
    container: bool
    databases: list[Database] | None


class WebSite(Record, frozen=True):
    """One site of a web server."""

    names: list[Text]
    listen: list[Text]


class WebServer(Record, frozen=True):
    """One web server."""

    server: Text
    version: Text
    sites: list[WebSite]


class TimeKeeping(Record, frozen=True):
    """How the clock is kept."""

    client: Text
    synchronized: bool | None
    timezone: Text


class BackupClient(Record, frozen=True):
    """A backup program that is installed."""

    name: Text
    version: Text


class Facts(Record, frozen=True):
    """Everything that module ``asset_facts`` tells."""

    machine: Machine
    system: System
    addresses: list[Address] | None
    services: list[Text] | None
    databases: list[DatabaseServer]
    web: list[WebServer]
    time: TimeKeeping
    backup_clients: list[BackupClient]


class Unread(Record, frozen=True):
    """What could not be read, and why."""

    what: Plain
    why: Plain


class FactsFile(Record, frozen=True):
    """``register/facts/<id>.json``: ``since`` (UTC) and ``scan`` are when these facts were first found, and by which scan."""

    schema: Literal["sop-facts/v1"]
    id: str
    since: str
    scan: str
    facts: Facts
    unread: list[Unread]


@dataclass(frozen=True)
class Change:
    """One fact that differs; ``before`` or ``after`` is None where it was or is not there."""

    name: str
    before: str | None
    after: str | None

    @property
    def notable(self) -> bool:
        """Whether it is a serial, a version, an address or the machine's identity."""
        return any(part.split("[")[0] in NOTABLE for part in self.name.split("."))

    def line(self) -> str:
        """For people."""
        if self.before is None:
            return f"+ {self.name}: {self.after}" if self.after else f"+ {self.name}"
        if self.after is None:
            return f"- {self.name}: {self.before}" if self.before else f"- {self.name}"
        return f"~ {self.name}: {self.before} → {self.after}"


# reading and writing -------------------------------------------------------------------------------------------------


def path_of(root: Path, server: str) -> Path:
    """Where the facts of a server lie."""
    return root / FOLDER / f"{server}.json"


@dataclass(frozen=True)
class Known:
    """Facts as they lie, and the SHA-256 of their file."""

    file: FactsFile
    digest: str


def load(root: Path, server: str) -> Known | None:
    """The facts of a server read strictly; None where it was never looked at. ConfigError for a file that is not its."""
    path = path_of(root, server)
    if not os.path.lexists(path):
        return None
    data = fsio.read_strict(path)
    try:
        found = msgspec.json.decode(data, type=FactsFile)
    except msgspec.DecodeError as error:  # ours to write: thousands are read by `asset list`, in C
        raise ConfigError(
            f"is not a file of facts ({error})",
            where=str(path),
            hint=f"Remove it, and run: sopctl asset scan {server}.",
        ) from None
    if found.id != server:
        raise ConfigError(f"id {found.id!r} differs from the file's name", where=f"{path}:id")
    return Known(found, fsio.sha256_bytes(data))


def load_all(root: Path, servers: Iterable[str]) -> dict[str, Known]:
    """The facts of all these servers that have some."""
    names = {path.stem for path in (root / FOLDER).glob("*.json")}
    found = {server: load(root, server) for server in servers if server in names}
    return {server: one for server, one in found.items() if one is not None}


def file_bytes(found: FactsFile) -> bytes:
    """The file's bytes: the same for the same facts."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n"


def from_evidence(evidence: Json, server: str, scan: str, known: FactsFile | None, now: str) -> FactsFile:
    """What a server said, merged with what was known. ConfigError when it is not facts."""
    try:
        facts = msgspec.convert(evidence.get("facts"), Facts)
        unread = msgspec.convert(evidence.get("unread"), list[Unread])
    except msgspec.ValidationError as error:
        raise ConfigError(f"what it said is not facts ({error})", where=server, hint="Look at that server.") from None
    if known is None:
        return FactsFile(schema="sop-facts/v1", id=server, since=now, scan=scan, facts=facts, unread=unread)
    merged = msgspec.convert(settled(to_json(known.facts), to_json(facts)), Facts)
    if merged == known.facts:  # what a program complains of differs each time, and is no fact
        return known
    return FactsFile(schema="sop-facts/v1", id=server, since=now, scan=scan, facts=merged, unread=unread)


def unread_of(evidence: Json) -> list[Json]:
    """What a server could not read this time; :func:`from_evidence` has seen that it is fit to be shown."""
    return [{"what": one["what"], "why": one["why"]} for one in evidence["unread"]]


# merging and comparing -----------------------------------------------------------------------------------------------


def settled(known: Any, found: Any, key: str = "") -> Any:
    """``found``, with what was known where it says nothing, or where a size differs by no more than sizes do."""
    if found is None:
        return known
    if isinstance(found, dict) and isinstance(known, dict):
        return {name: settled(known.get(name), value, name) for name, value in found.items()}
    if isinstance(found, list) and isinstance(known, list) and key in IDENTITY:
        before = {_identity(one, key): one for one in known}
        return [settled(before.get(_identity(one, key)), one, key) for one in found]
    if isinstance(found, int) and isinstance(known, int) and key in TOLERANCE:
        return known if abs(found - known) * 100 <= known * TOLERANCE[key] else found
    return found


def _identity(entry: Any, key: str) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    values = [entry[name] for name in IDENTITY.get(key, ()) if entry.get(name) is not None]
    return " ".join(",".join(map(str, value)) if isinstance(value, list) else str(value) for value in values)


def compare(before: Facts | None, after: Facts) -> list[Change]:
    """How ``after`` differs, name by name; a server that was never looked at has everything new."""
    old = dict(_flat(to_json(before))) if before else {}
    new = dict(_flat(to_json(after)))
    return [
        Change(name, old.get(name), new.get(name)) for name in sorted({*old, *new}) if old.get(name) != new.get(name)
    ]


def _flat(value: Any, name: str = "", key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for inner, one in value.items():
            yield from _flat(one, f"{name}.{inner}" if name else inner, inner)
    elif isinstance(value, list):
        for one in value:
            place = f"{name}[{_identity(one, key)}]"
            if key in IDENTITY and isinstance(one, dict):
                rest = {inner: each for inner, each in one.items() if inner not in IDENTITY[key]}
                yield place, ""
                yield from _flat(rest, place, key)
            else:
                yield place, ""
    elif value is not None:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)


def changes_json(changes: list[Change]) -> list[Json]:
    """Plain JSON value of changes."""
    return [{"name": one.name, "before": one.before, "after": one.after} for one in changes]
