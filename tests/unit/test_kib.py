# SPDX-License-Identifier: Apache-2.0
"""The register as a table: out to CSV, ODS and JSON, no cell a formula; in from CSV, all rows or none."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.diskominfo.sop.plugins.module_utils.asset_gathering import gather

from sopctl import assets, importing, keeping, kib, loading
from sopctl.assets import Asset
from sopctl.cli import run
from sopctl.errors import ConfigError
from sopctl.facts import file_bytes, from_evidence, path_of
from sopctl.models import Server
from sopctl.site import Site
from tests.support.case_site import CaseSite
from tests.support.recorded_host import RecordedHost

NASTY = '=HYPERLINK("http://example.invalid";"klik")'
TABLE = "urn:oasis:names:tc:opendocument:xmlns:table:1.0"
OFFICE = "urn:oasis:names:tc:opendocument:xmlns:office:1.0"


@pytest.fixture
def listed(site: CaseSite) -> list[Asset]:
    """srv01 has facts and an owner who is no friend of spreadsheets; srv02 has nothing."""
    entry = site.root / "register/servers/srv01.yml"
    entry.write_text(json.dumps({**json.loads(entry.read_text(encoding="utf-8")), "name": NASTY}), encoding="utf-8")
    site.change_yaml(
        "register/servers/srv01.yml", holder="+62 811", owner_unit="Bidang Aptika, ruang \"2\"",
        kib_b={"kode_barang": "1.3.2.10", "tahun_pembelian": 2024, "harga": 12500000, "kerahasiaan": 3},
    )  # fmt: skip
    host = RecordedHost("rocky-9")
    file = from_evidence({"facts": gather(host), "unread": []}, "srv01", "AST-2026-0001", None, "2026-01-01T00:00:00Z")
    path = path_of(site.root, "srv01")
    path.parent.mkdir(parents=True)
    path.write_bytes(file_bytes(file))
    keeping.sign_index(site.session, "pengurus", None)
    return assets.everything(site.session)


def by_heading(row: list[str]) -> dict[str, str]:
    return dict(zip(kib.HEADINGS, row, strict=True))


def test_entry_first_then_facts(listed: list[Asset]) -> None:
    one, two = map(by_heading, kib.rows(listed))
    assert (one["Nomor Urut"], one["Kode Barang"], one["Tahun Pembelian"], one["Harga"]) == (
        "1",
        "1.3.2.10",
        "2024",
        "12500000",
    )
    assert (one["Merk/Type"], one["Nomor Pabrik"]) == ("Dell Inc. PowerEdge R740", "7XK2Q03")
    assert one["Ukuran/CC"].startswith("8 CPU, RAM ")
    assert (one["Sistem Operasi"], one["Dukungan Sampai"]) == ("Rocky Linux 9.4 (Blue Onyx)", "2032-05-31")
    assert one["Hasil Peninjauan"] == "sesuai" and one["Jatuh Tempo"]
    assert (two["Merk/Type"], two["Hostname"]) == ("", "srv02")


def test_no_cell_of_the_csv_is_a_formula(listed: list[Asset]) -> None:
    table = list(csv.reader(io.StringIO(kib.csv_text(listed))))
    assert table[0] == kib.HEADINGS
    assert table[1][kib.HEADINGS.index("Nama/Jenis Barang")] == f"'{NASTY}"
    assert table[1][kib.HEADINGS.index("Penanggung Jawab")] == "'+62 811"
    assert table[1][kib.HEADINGS.index("Unit Pemilik")] == 'Bidang Aptika, ruang "2"'
    assert not [cell for row in table for cell in row if cell.lstrip(" ").startswith(kib.FORMULA)]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "\n=1"])
def test_guarding_is_undone_by_the_import(cell: str) -> None:
    assert kib.guarded(cell) == f"'{cell}"
    assert kib.unguarded(kib.guarded(cell)) == cell


@pytest.mark.parametrize("cell", ["", "abc", "1-2", "Jum'at", "'kutip'", "10.0.0.1"])
def test_what_is_no_formula_stays(cell: str) -> None:
    assert kib.guarded(cell) == cell
    assert kib.unguarded(cell) == cell


def test_the_spreadsheet_is_text_only(listed: list[Asset]) -> None:
    """Looked at without the library that wrote it."""
    data = kib.ods(listed, "KIB B")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.read("mimetype") == b"application/vnd.oasis.opendocument.spreadsheet"
        root = ET.fromstring(archive.read("content.xml"))  # noqa: S314  # our own
    cells = [cell for cell in root.iter(f"{{{TABLE}}}table-cell") if "".join(cell.itertext())]
    texts = ["".join(cell.itertext()) for cell in cells]
    assert texts[: 1 + len(kib.HEADINGS)] == ["KIB B", *kib.HEADINGS]
    assert NASTY in texts and "12500000" in texts
    assert {cell.get(f"{{{OFFICE}}}value-type") for cell in cells} == {"string"}
    assert not [cell for cell in cells if cell.get(f"{{{TABLE}}}formula")]


def test_export_by_command(listed: list[Asset], site: CaseSite, tmp_path: Path, capsysbinary: Any) -> None:
    assert run(["-C", str(site.root), "asset", "export", "json"]) == 0
    shown = json.loads(capsysbinary.readouterr().out)
    assert shown[0]["kib_b"]["Nomor Pabrik"] == "7XK2Q03" and shown[0]["facts"]["scan"] == "AST-2026-0001"
    assert run(["-C", str(site.root), "asset", "export", "ods", "--to", str(tmp_path / "k.ods")]) == 0
    assert zipfile.is_zipfile(tmp_path / "k.ods")
    assert run(["-C", str(site.root), "asset", "export", "ods"]) == 2
    assert b"needs a file" in capsysbinary.readouterr().err


# in ------------------------------------------------------------------------------------------------------------------

MAP: dict[str, Any] = {
    "schema": "sop-import-map/v1",
    "columns": {
        "id": "Kode", "inventory_hostname": "Hostname", "name": "Nama", "holder": "PJ", "kib_b.harga": "Harga",
        "kib_b.tahun_pembelian": "Tahun",
    },
    "defaults": {"owner_unit": "Diskominfo"},
}  # fmt: skip
HEADER = "Kode,Hostname,Nama,PJ,Harga,Tahun\n"


def table(site: CaseSite, text: str | bytes, **changed: Any) -> importing.Imported:
    """Read a table with :data:`MAP`."""
    data = text.encode() if isinstance(text, str) else text
    path, columns = site.root.parent / "aset.csv", site.root.parent / "map.yml"
    path.write_bytes(data)
    columns.write_text(yaml.safe_dump({**MAP, **changed}), encoding="utf-8")
    return importing.read_table(Site(site.root), path, importing.read_map(str(columns)))


def test_rows_become_entries(site: CaseSite) -> None:
    text = HEADER + 'db11,db11.example,"Basis data, utama",\'+62 811,"Rp 12.500.000,00",2024\n\ndb12,db12,,,,\n'
    found = table(site, text)
    importing.write(Site(site.root), found)
    assert sorted(found.new) == ["db11", "db12"]
    entry = Site(site.root).servers["db11"]
    assert (entry.name, entry.holder, entry.owner_unit) == ("Basis data, utama", "+62 811", "Diskominfo")
    assert entry.kib_b == {"harga": 12500000, "tahun_pembelian": 2024}
    again = table(site, text)
    assert (again.new, again.same) == ({}, ["db11", "db12"])


def test_every_wrong_row_is_told_and_nothing_is_written(site: CaseSite) -> None:
    rows = [
        "DB 1,h1,,,,", "db2,,,,,", "db3,h3,,,mahal,", "db4,h4,,,", "db5,h5,,,,", "db5,h6,,,,", "db7,h5,,,,",
        "srv01,srv01,lain,,,", "db8,srv02,,,,", "db9,h9,a\x1b[2J,,,", "db10,h10,,,,2024.5",
    ]  # fmt: skip
    before = sorted((site.root / "register/servers").iterdir())
    with pytest.raises(importing.RowsWrong) as caught:
        table(site, HEADER + "\n".join(rows) + "\n")
    told = {line.partition(":")[0]: line for line in caught.value.rows}
    assert list(told) == [f"row {number}" for number in (2, 3, 4, 5, 7, 8, 9, 10, 11, 12)]
    for number, word in ((3, "Hostname: is empty"), (4, "Harga: 'mahal'"), (5, "5 cells"), (7, "row 6 too"), (8, "db5's already"),
                         (9, "not overwritten"), (10, "srv02's already"), (11, "control"), (12, "Tahun")):  # fmt: skip
        assert word in told[f"row {number}"], told
    assert sorted((site.root / "register/servers").iterdir()) == before


@pytest.mark.parametrize(
    ("text", "changed", "why"),
    [
        ("", {}, "is empty"),
        ("Kode,Host,Nama,PJ,Harga,Tahun\n", {}, "Did you mean 'Host'"),
        ("Kode,Kode,Hostname,Nama,PJ,Harga,Tahun\n", {}, "two columns are called 'Kode'"),
        (HEADER + '"db1,h1,,,,\n', {}, "is not CSV"),
        (HEADER.encode() + b"db1,h\xff,,,,\n", {}, "is not utf-8"),
        (b"\xff\xfe" + HEADER.encode("utf-16-le"), {}, "is not utf-8"),
        (HEADER, {"columns": {"id": "Kode"}}, "no column is named for 'inventory_hostname'"),
        (HEADER, {"columns": {**MAP["columns"], "kib_b.haga": "Harga"}}, "Did you mean 'kib_b.harga'"),
        (HEADER, {"columns": {**MAP["columns"], "reviewed": "Harga"}}, "is no field"),
        (HEADER, {"delimiter": ";;"}, "delimiter"),
        (HEADER, {"encoding": "utf-16"}, "encoding"),
        (HEADER, {"bogus": 1}, "bogus"),
    ],
)
def test_what_is_no_table_or_no_map(site: CaseSite, text: str | bytes, changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        table(site, text, **changed)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_windows_and_semicolons(site: CaseSite) -> None:
    text = (HEADER.replace(",", ";") + "db1;h1;Caf\xe9;;;\n").encode("windows-1252")
    found = table(site, text, encoding="windows-1252", delimiter=";")
    assert "Café" in found.new["db1"].decode()


def test_a_byte_order_mark_is_no_part_of_the_heading(site: CaseSite) -> None:
    assert list(table(site, b"\xef\xbb\xbf" + (HEADER + "db1,h1,,,,\n").encode()).new) == ["db1"]


def test_import_by_command(site: CaseSite, capsys: pytest.CaptureFixture[str]) -> None:
    table(site, HEADER + "db1,h1,,,,\n")
    words = [
        "-C",
        str(site.root),
        "asset",
        "import",
        str(site.root.parent / "aset.csv"),
        "--map",
        str(site.root.parent / "map.yml"),
    ]
    assert run([*words, "--check"]) == 0
    assert not (site.root / "register/servers/db1.yml").exists()
    assert run(words) == 0
    assert (site.root / "register/servers/db1.yml").exists()
    (site.root.parent / "aset.csv").write_text(HEADER + "a b,h1,,,,\nc d,h2,,,,\n", encoding="utf-8")
    capsys.readouterr()
    assert run(words) == 2
    told = capsys.readouterr().err
    assert "row 2: " in told and "row 3: " in told and "Nothing was written" in told


NETBOX = """Name,Status,Tenant,Site,Rack,Role,Manufacturer,Type,IP Address,Serial number,Asset tag
DB01.dc.example,Active,Bidang Aptika,DC Utama,R3,Server,Dell,PowerEdge R650,10.1.2.11/24,ABC123,000123
web_02,Active,,DC Utama,,Server,Dell,PowerEdge R650,2001:db8::7/64,,
"""
GLPI = """"Name";"Entity";"Status";"Manufacturers";"Serial number";"Types";"Models";"Operating System - Name";"Locations";"Network - IP"
"SRV-01";"Diskominfo";"";"HPE";"CZ1";"Server";"DL380";"Debian";"Gedung A > Lantai 2";"10.0.0.5"
"""


@pytest.mark.parametrize(
    ("name", "text", "ids"), [("netbox", NETBOX, ["db01-dc-example", "web-02"]), ("glpi", GLPI, ["srv-01"])]
)
def test_exports_of_others(site: CaseSite, tmp_path: Path, name: str, text: str, ids: list[str]) -> None:
    path = tmp_path / "export.csv"
    path.write_text(text, encoding="utf-8")
    found = importing.read_table(Site(site.root), path, importing.read_map(name))
    assert list(found.new) == ids
    first = loading.from_yaml(Server, found.new[ids[0]], path)
    assert first.address in {"10.1.2.11", "10.0.0.5"}
    assert first.location in {"R3", "Gedung A > Lantai 2"}
    assert first.kib_b["nomor_pabrik"] in {"ABC123", "CZ1"}
    if name == "netbox":
        assert first.inventory_hostname == "DB01.dc.example" and first.kib_b["nomor_register"] == "000123"
        assert loading.from_yaml(Server, found.new["web-02"], path).address == "2001:db8::7"
