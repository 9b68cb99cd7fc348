# SPDX-License-Identifier: Apache-2.0
"""The register as a table: the columns of the *Kartu Inventaris Barang* B, and what the SOP asks of a server besides.

Pure, but for :func:`ods`, which is the only importer of odfdo.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable

from sopctl.assets import Asset, asset_json
from sopctl.indonesian import format_size
from sopctl.models import Json
from sopctl.reviews import BAD

#: keys of an entry's ``kib_b``, in the order of the card
KEYS = (
    "kode_barang", "nama", "nomor_register", "merk_type", "ukuran", "bahan", "tahun_pembelian", "nomor_pabrik", "asal_usul",
    "harga", "keterangan", "kerahasiaan", "keutuhan", "ketersediaan",
)  # fmt: skip
#: of these, those that are whole numbers
NUMBERS = {"tahun_pembelian", "harga", "kerahasiaan", "keutuhan", "ketersediaan"}
#: how a cell begins that a spreadsheet would compute
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def _given(key: str, otherwise: Callable[[Asset], str] = lambda _: "") -> Callable[[Asset], str]:
    """What the entry says, or what the facts say where it says nothing."""

    def value(asset: Asset) -> str:
        said = asset.server.kib_b.get(key)
        return otherwise(asset) if said in {None, ""} else str(said)

    return value


def _type(asset: Asset) -> str:
    machine = asset.facts.facts.machine if asset.facts else None
    return " ".join(filter(None, (machine.maker, machine.model))) if machine else ""


def _size(asset: Asset) -> str:
    if asset.facts is None:
        return ""
    machine = asset.facts.facts.machine
    disks = sum(disk.bytes or 0 for disk in machine.disks)
    parts = [f"{machine.cpu.threads} CPU" if machine.cpu.threads else ""]
    parts += [f"RAM {format_size(machine.memory_mib << 20)}" if machine.memory_mib else ""]
    parts += [f"disk {format_size(disks)}" if disks else ""]
    return ", ".join(filter(None, parts))


def _serial(asset: Asset) -> str:
    return (asset.facts.facts.machine.serial or "") if asset.facts else ""


def _system(asset: Asset) -> str:
    return (asset.facts.facts.system.name or "") if asset.facts else ""


def _addresses(asset: Asset) -> str:
    found = (asset.facts.facts.addresses or []) if asset.facts else []
    return ", ".join((one.address or "").partition("/")[0] for one in found)


def _result(asset: Asset) -> str:
    result = asset.reviewed[2]
    return "tidak sesuai" if result == BAD else result


#: heading → what stands below it
COLUMNS: dict[str, Callable[[Asset], str]] = {
    "Kode Barang": _given("kode_barang"),
    "Nama/Jenis Barang": _given("nama", lambda asset: asset.server.name),
    "Nomor Register": _given("nomor_register"),
    "Merk/Type": _given("merk_type", _type),
    "Ukuran/CC": _given("ukuran", _size),
    "Bahan": _given("bahan"),
    "Tahun Pembelian": _given("tahun_pembelian"),
    "Nomor Pabrik": _given("nomor_pabrik", _serial),
    "Asal Usul": _given("asal_usul"),
    "Harga": _given("harga"),
    "Keterangan": _given("keterangan"),
    "ID Aset": lambda asset: asset.server.id,
    "Hostname": lambda asset: asset.server.inventory_hostname,
    "Unit Pemilik": lambda asset: asset.server.owner_unit,
    "Penanggung Jawab": lambda asset: asset.server.holder,
    "Lokasi": lambda asset: asset.server.location,
    "Sistem Operasi": _system,
    "Dukungan Sampai": lambda asset: asset.support_until or "",
    "Alamat IP": _addresses,
    "Kerahasiaan": _given("kerahasiaan"),
    "Keutuhan": _given("keutuhan"),
    "Ketersediaan": _given("ketersediaan"),
    "Tanggal Ditinjau": lambda asset: asset.reviewed[0],
    "Ditinjau Oleh": lambda asset: asset.reviewed[1],
    "Hasil Peninjauan": _result,
    "Jatuh Tempo": lambda asset: asset.holds or "",
}
HEADINGS = ["Nomor Urut", *COLUMNS]


def rows(assets: Iterable[Asset]) -> list[list[str]]:
    """One row a server, numbered, below :data:`HEADINGS`."""
    return [[str(number), *(cell(asset) for cell in COLUMNS.values())] for number, asset in enumerate(assets, 1)]


def guarded(cell: str) -> str:
    """``cell`` as text for every spreadsheet: what would be computed gets an apostrophe in front."""
    return f"'{cell}" if cell.lstrip(" ").startswith(FORMULA) else cell


def unguarded(cell: str) -> str:
    """What :func:`guarded` was given."""
    return cell[1:] if cell.startswith("'") and guarded(cell[1:]) == cell else cell


def csv_text(assets: Iterable[Asset]) -> str:
    """The table as CSV (RFC 4180, UTF-8), no cell of which is a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerows([[guarded(cell) for cell in row] for row in [HEADINGS, *rows(assets)]])
    return stream.getvalue()


def ods(assets: Iterable[Asset], title: str) -> bytes:
    """The table as an OpenDocument spreadsheet; every cell is text, so that none is a formula."""
    from odfdo import Cell, Document, Row, Table

    document = Document("spreadsheet")
    document.body.clear()
    table = Table("KIB B")
    for line in [[title], [], HEADINGS, *rows(assets)]:
        row = Row()
        for at, text in enumerate(line):
            row.set_cell(at, Cell(text, cell_type="string", text=text))
        table.append_row(row)
    document.body.append(table)
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def json_rows(assets: Iterable[Asset]) -> list[Json]:
    """Everything that is known of each server, with its row of the table."""
    every = list(assets)
    return [
        {**asset_json(asset), "kib_b": dict(zip(HEADINGS, row, strict=True))}
        for asset, row in zip(every, rows(every), strict=True)
    ]
