# SPDX-License-Identifier: Apache-2.0
"""``asset import``: register entries from a table that somebody kept until now; all rows or none.

What people wrote is never overwritten: a row of a server that is registered already must say the same, or is an error.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import yaml

from sopctl import content, fsio, kib, loading
from sopctl.errors import ConfigError, SopctlError, one_line
from sopctl.models import Json, Record, Server, to_json
from sopctl.site import Site

MOST = 16 << 20
FIELDS = (
    "id",
    "inventory_hostname",
    "name",
    "address",
    "machine_id",
    "ssh_host_key",
    "owner_unit",
    "holder",
    "location",
)
#: "Rp 12.500.000,00", "12500000", "2024"
_NUMBER = re.compile(r"(?:Rp\.?\s*)?(\d{1,3}(?:\.\d{3})+|\d+)(?:,0+|,-)?", re.IGNORECASE)


class ColumnMap(Record, frozen=True):
    """A map of columns: ``columns`` and ``defaults`` by field (``id``, ``kib_b.kode_barang`` …), of headings and of values.

    Of several headings the first that the table has is taken; of the fields ``optional`` it may have none. ``shape`` makes a
    ``slug`` (an asset id) or a ``host`` (an address without its prefix length) of what a cell says.
    """

    schema: Literal["sop-import-map/v1"]
    columns: dict[str, str | list[str]]
    optional: list[str] = []  # noqa: RUF012  # msgspec copies mutable defaults
    shape: dict[str, Literal["slug", "host"]] = {}  # noqa: RUF012  # likewise
    defaults: dict[str, str] = {}  # noqa: RUF012  # msgspec copies mutable defaults
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    encoding: Literal["utf-8", "windows-1252"] = "utf-8"


@dataclass
class Imported:
    """What a table came to: entries to write (asset id → bytes), and those that are registered with the same values."""

    new: dict[str, bytes] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)


class RowsWrong(ConfigError):
    """Rows that are no entries; ``rows`` has one line for each."""

    def __init__(self, rows: list[str], where: str) -> None:
        self.rows = rows
        many = f"{len(rows)} errors in its rows" if len(rows) > 1 else rows[0]
        super().__init__(many, where=where, hint="Nothing was written.")


def shipped() -> list[str]:
    """Names of the maps that come with sopctl."""
    return sorted(path.stem for path in (content.package() / "maps").glob("*.yml"))


def read_map(name: str) -> ColumnMap:
    """A shipped map, or that of a file, with every field known. ConfigError names file, line and key."""
    path = content.package() / "maps" / f"{name}.yml" if name in shipped() else Path(name).absolute()
    found = loading.load_yaml(ColumnMap, path)
    known = [*FIELDS, *(f"kib_b.{key}" for key in kib.KEYS)]
    for key in [*found.columns, *found.defaults, *found.optional, *found.shape]:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            raise ConfigError(
                f"{key!r} is no field of a server",
                where=f"{path}:columns",
                hint=f"Did you mean {near[0]!r}?" if near else "",
            )
    for key in ("id", "inventory_hostname"):
        if key not in found.columns:
            raise ConfigError(f"no column is named for {key!r}", where=f"{path}:columns", hint="Each server needs it.")
    return found


def read_table(site: Site, path: Path, columns: ColumnMap) -> Imported:
    """Every row of the table as an entry. RowsWrong with all that is wrong, by row; nothing is written."""
    header, *rows = _cells(path, columns)
    places = _places(path, header, columns)
    result, wrong = Imported(), []
    hosts = {server.inventory_hostname: server.id for server in site.servers.values()}
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, 2):
        if not any(cell.strip() for cell in row):
            continue
        try:
            entry = _entry(row, len(header), places, columns)
            if entry.id in seen:
                raise ConfigError(f"{entry.id!r} stands in row {seen[entry.id]} too")
            seen[entry.id] = number
            _place(site, entry, hosts, result)
        except SopctlError as error:
            wrong.append(f"row {number}: {error.message}")
    if wrong:
        raise RowsWrong(wrong, str(path))
    return result


def write(site: Site, imported: Imported) -> None:
    """Write the new entries, each whole; one that has come to be meanwhile is never replaced."""
    folder = site.root / "register/servers"
    folder.mkdir(parents=True, exist_ok=True)
    for server, data in imported.new.items():
        fsio.write_atomic(folder / f"{server}.yml", data, exclusive=True)


def _cells(path: Path, columns: ColumnMap) -> list[list[str]]:
    data = fsio.read_strict(path, MOST)
    try:
        text = data.decode("utf-8-sig" if columns.encoding == "utf-8" else columns.encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"is not {columns.encoding}", where=f"{path}:{line}", hint="Save it as UTF-8, or set encoding in the map."
        ) from None
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=columns.delimiter, strict=True))
    except csv.Error as error:
        raise ConfigError(f"is not CSV ({error})", where=str(path)) from None
    if not rows:
        raise ConfigError("is empty", where=str(path))
    return rows


def _places(path: Path, header: list[str], columns: ColumnMap) -> dict[str, int]:
    """Field → place of its column."""
    names = [cell.strip() for cell in header]
    found = {}
    for key in columns.columns:
        headings = _headings(columns, key)
        heading = next((one for one in headings if one in names), None)
        if heading is None and key in columns.optional:
            continue
        if heading is None:
            heading = headings[0]
            near = difflib.get_close_matches(heading, names, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(names[:20])}."
            raise ConfigError(f"there is no column {heading!r}", where=f"{path}: row 1", hint=hint)
        if names.count(heading) > 1:
            raise ConfigError(f"two columns are called {heading!r}", where=f"{path}: row 1")
        found[key] = names.index(heading)
    return found


def _headings(columns: ColumnMap, key: str) -> list[str]:
    found = columns.columns.get(key, key)
    return [found] if isinstance(found, str) else found


def _shaped(text: str, shape: str | None) -> str:
    """What a cell says, as the field wants it: "DB01.dc.example" is asset db01-dc-example, "10.1.2.3/24" address 10.1.2.3."""
    if shape == "slug":
        return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:32].rstrip("-")
    if shape == "host":
        return re.split(r"[/,\s]", text, maxsplit=1)[0]
    return text


def _entry(row: list[str], width: int, places: Mapping[str, int], columns: ColumnMap) -> Server:
    """The entry of a row. ConfigError names the column."""
    if len(row) != width:
        raise ConfigError(f"has {len(row)} cells, the heading has {width}; see delimiter and quotes")
    values: Json = {"schema": "sop-server/v1"}
    card: Json = {}
    for key in [*places, *(name for name in columns.defaults if name not in places)]:
        heading = _headings(columns, key)[0]
        text = kib.unguarded(row[places[key]].strip()) if key in places else ""
        text = _shaped(text, columns.shape.get(key)) or columns.defaults.get(key, "")
        if not text.isprintable():
            raise ConfigError(f"{heading}: holds control characters")
        if not text:
            continue
        if key.startswith("kib_b."):
            card[key[6:]] = _number(text, heading) if key[6:] in kib.NUMBERS else text
        else:
            values[key] = text
    for key in ("id", "inventory_hostname"):
        if key not in values:
            raise ConfigError(f"{_headings(columns, key)[0]}: is empty")
    loading.check_id(values["id"], _headings(columns, "id")[0])
    if card:
        values["kib_b"] = card
    try:
        return msgspec.convert(values, Server)
    except msgspec.ValidationError as error:
        raise ConfigError(one_line(str(error))) from None


def _number(text: str, heading: str) -> int:
    found = _NUMBER.fullmatch(text)
    if not found:
        raise ConfigError(f"{heading}: {text!r} is no whole number")
    return int(found.group(1).replace(".", ""))


def _place(site: Site, entry: Server, hosts: dict[str, str], result: Imported) -> None:
    """Enter ``entry`` into ``result``. ConfigError where it contradicts the register or another row."""
    other = hosts.get(entry.inventory_hostname, entry.id)
    if other != entry.id:
        raise ConfigError(f"host {entry.inventory_hostname!r} is {other}'s already")
    hosts[entry.inventory_hostname] = entry.id
    known = site.servers.get(entry.id)
    if known is None:
        values = {key: value for key, value in to_json(entry).items() if value not in ("", None, {}, [])}
        result.new[entry.id] = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=200).encode()
        return
    differ = [key for key in FIELDS if getattr(entry, key) and getattr(entry, key) != getattr(known, key)]
    differ += [f"kib_b.{key}" for key, value in entry.kib_b.items() if known.kib_b.get(key) != value]
    if differ:
        raise ConfigError(
            f"{entry.id!r} is registered with another {', '.join(differ)}; what people wrote is not overwritten: correct "
            f"register/servers/{entry.id}.yml or the row"
        )
    result.same.append(entry.id)
