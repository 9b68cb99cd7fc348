# SPDX-License-Identifier: Apache-2.0
"""What is not registered, and what is registered and not there. Pure but for :func:`remembered`, which reads a cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sopctl import fsio
from sopctl.errors import ConfigError
from sopctl.facts import DatabaseServer, FactsFile
from sopctl.models import Dataset, Record, Server, to_json

#: port that an engine has where nothing says another
PORTS = {"postgresql": 5432, "mariadb": 3306, "mysql": 3306}
#: databases that hold nothing of an agency's
EMPTY = {"postgres"}
CACHE = "asset-scan.json"


class Remembered(Record, frozen=True):
    """What scans met that stands in no file of the register; safe to lose.

    ``silent``: server → why it did not answer. ``strangers``: hosts of the inventory that are no server's. ``homeless``:
    servers that the inventory does not have.
    """

    silent: dict[str, str] = {}  # noqa: RUF012  # msgspec copies mutable defaults
    strangers: list[str] = []  # noqa: RUF012
    homeless: list[str] = []  # noqa: RUF012


@dataclass(frozen=True)
class Gap:
    """One thing that is missing: its sort, what it is about, and the next step."""

    kind: str
    about: str
    detail: str
    next: str

    def line(self) -> str:
        """For people."""
        return f"{self.about}: {self.detail}. {self.next}"


def remembered(state: Path) -> Remembered:
    """What the last scans met; nothing where the cache is gone or is none."""
    try:
        return msgspec.json.decode(fsio.read_strict(state / CACHE), type=Remembered)
    except (ConfigError, msgspec.DecodeError):
        return Remembered()


def remember(state: Path, met: Remembered) -> None:
    """Keep what a scan met; written only when it differs."""
    data = fsio.canonical_json(to_json(met))
    path = state / CACHE
    state.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_bytes() != data:
        fsio.write_atomic(path, data)


def find(
    servers: Mapping[str, Server],
    datasets: Mapping[str, Dataset],
    scheduled: set[str] | None,
    found: Mapping[str, FactsFile],
    met: Remembered,
) -> list[Gap]:
    """Everything that is missing, by what it is about. ``scheduled``: datasets of the standing order, None without one."""
    gaps = [gap for server, file in found.items() for gap in _databases(server, file, datasets)]
    for name in datasets:
        if scheduled is None or name not in scheduled:
            gaps.append(
                Gap(
                    "unscheduled",
                    name,
                    "the dataset stands in no schedule",
                    "Add it to schedule.yml and have it signed.",
                )
            )
    for host in met.strangers:
        gaps.append(
            Gap(
                "unregistered-host",
                host,
                "the inventory's host has no register entry",
                f"Register it (register/servers/{_id(host)}.yml), or take it out of the inventory.",
            )
        )
    for server in met.homeless:
        if server in servers:
            step = f"Correct register/servers/{server}.yml:inventory_hostname, or remove the entry."
            gaps.append(Gap("not-in-inventory", server, "the registered server is not in the inventory", step))
    for server, why in met.silent.items():
        if server in servers:
            step = "See that it runs; remove the entry when the server is gone."
            gaps.append(Gap("silent", server, f"the registered server did not answer ({why})", step))
    gaps += [
        Gap("never-scanned", server, "nothing is known of the server", f"Run: sopctl asset scan {server} --as PERSON.")
        for server in servers
        if server not in found and server not in met.silent and server not in met.homeless
    ]
    return sorted(gaps, key=lambda gap: (gap.kind, gap.about, gap.detail))


def _databases(server: str, file: FactsFile, datasets: Mapping[str, Dataset]) -> list[Gap]:
    own = [dataset for dataset in datasets.values() if dataset.server == server]
    return [gap for one in file.facts.databases if (gap := _database(server, one, own))]


def _database(server: str, one: DatabaseServer, own: list[Dataset]) -> Gap | None:
    """The gap of one database server: nothing of it is a dataset, or some of its databases are none."""
    mine = {dataset.database for dataset in own if _fits(dataset, one)}
    place = f"{server}:{one.port or '?'}"
    called = f"{one.engine} {one.version or 'of unknown version'}" + (f" ({one.name})" if one.name else "")
    if not one.running:
        return (
            None
            if mine
            else Gap("stopped-cluster", place, f"{called} is set up, does not run and has no dataset", WHAT)
        )
    if not mine:
        return Gap("unregistered-database", place, f"{called} has no dataset in the register", WHAT)
    names = [database.name for database in one.databases or [] if database.name not in mine | EMPTY]
    if not names:
        return None
    listed = ", ".join(str(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return Gap("unregistered-database", place, f"of {called} these databases are no dataset: {listed}", WHAT)


WHAT = "Register what must be backed up (register/datasets), or remove it there."


def _fits(dataset: Dataset, one: DatabaseServer) -> bool:
    """Whether the dataset is of this database server: by port, which is the engine's own where the register says none."""
    engines = {"mariadb", "mysql"} if dataset.engine == "mariadb" else {dataset.engine}
    if one.engine not in engines:
        return False
    standard = PORTS[one.engine]
    return one.port is None or (dataset.connection.port or standard) == one.port


def _id(host: str) -> str:
    name = "".join(
        char if char.isascii() and char.isalnum() else "-" for char in host.split(".", maxsplit=1)[0].lower()
    )
    return name[:32] if len(name) > 1 else "ID"
