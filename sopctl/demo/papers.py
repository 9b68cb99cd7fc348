# SPDX-License-Identifier: Apache-2.0
"""The papers of the demo's agency: people, register, schedule, letters and the files that are a dataset."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from sopctl import clock
from sopctl.demo.place import Place

DATABASE, FILES = "pelayanan", "berkas"
UNIT = "Dinas Kependudukan dan Pencatatan Sipil"
#: id, name (invented), jabatan, unit, role
PEOPLE = (
    ("pemohon", "Pemohon Contoh", "Kepala Seksi Pelayanan", UNIT, "pemohon"),
    ("kadis", "Kadis Contoh", "Kepala Dinas Kominfo", "Dinas Kominfo", "kadis"),
    ("kabid", "Kabid Contoh", "Kepala Bidang Aptika", "Dinas Kominfo", "kabid"),
    ("pelaksana", "Pelaksana Contoh", "Pranata Komputer", "Dinas Kominfo", "pelaksana"),
    ("pengurus", "Pengurus Contoh", "Pengurus Barang", "Dinas Kominfo", "pengurus-aset"),
)

INVENTORY = """---
# An ordinary Ansible inventory. Here the one server is this machine.
all:
  hosts:
    localhost:
      ansible_connection: local
"""

SERVER = """schema: sop-server/v1
id: srv-demo                        # asset id
inventory_hostname: localhost       # its name in the inventory
name: Server aplikasi pelayanan
machine_id: {machine}   # from {source}: a name is not a target
owner_unit: Dinas Kominfo
holder: Pranata Komputer
location: Ruang server
kib_b: {{nomor_register: "0001", tahun_pembelian: 2024}}
reviewed: {{at: "{today}", by: kabid}}
"""

DATABASE_SET = """schema: sop-dataset/v1
id: pelayanan
name: Basis data layanan publik
{engine}
server: srv-demo
owner_unit: {unit}
classification: terbatas
max_downtime: PT30M
state_dir: {state}
services:   # what writes to it: stopped for a restore, then started and asked how it is
  - name: web-pelayanan
    server: srv-demo
    manager: command
    start: {start}
    stop: {stop}
    status: {status}
    health: {{url: "http://127.0.0.1:{port}/health", timeout: 30}}
"""

POSTGRESQL = """engine: postgresql
database: pelayanan
connection:
  socket: {sockets}
  port: {port}
  user: postgres
  bin_dir: {programs}{os_user}"""

FILES_SET = """schema: sop-dataset/v1
id: berkas
name: Berkas pindaian layanan
engine: files
path: {path}
server: srv-demo
owner_unit: {unit}
classification: terbatas
state_dir: {state}
"""

SCHEDULE = """schema: sop-schedule/v1
site: {site}
profile: {profile}
valid: {{since: "{since}", until: "{until}"}}
entries:
  - {{dataset: pelayanan, every: P1M, jenis: bulanan}}
  - {{dataset: berkas, every: P1M, jenis: bulanan}}
"""

LETTER = """{unit}

Nomor   : {number}
Tanggal : {date}
Hal     : Permohonan restore data

Kepada Yth. Kepala Dinas Komunikasi dan Informatika

{text}

Demikian permohonan kami. Terima kasih.

Kepala Seksi Pelayanan
"""


def register(
    place: Place, machine: tuple[str, str], postgres: tuple[str, int, str, str | None] | None
) -> dict[str, str]:
    """The register's files by path; ``postgres`` is (socket folder, port, folder of programs, OS account)."""

    def service(action: str) -> str:
        return json.dumps([sys.executable, "-P", "-m", "sopctl.demo.app", action, str(place.app)])

    if postgres is None:
        engine = f"engine: sqlite\npath: {json.dumps(str(place.sqlite))}"
    else:
        sockets, port, programs, account = postgres
        engine = POSTGRESQL.format(
            sockets=sockets,
            port=port,
            programs=json.dumps(programs),
            os_user=f"\n  os_user: {account}" if account else "",
        )
    state = json.dumps(str(place.state))
    database = DATABASE_SET.format(
        engine=engine,
        unit=UNIT,
        state=state,
        port=place.port,
        start=service("start"),
        stop=service("stop"),
        status=service("status"),
    )
    return {
        "inventory/hosts.yml": INVENTORY,
        "register/servers/srv-demo.yml": SERVER.format(machine=machine[0], source=machine[1], today=clock.now()[:10]),
        f"register/datasets/{DATABASE}.yml": database,
        f"register/datasets/{FILES}.yml": FILES_SET.format(path=json.dumps(str(place.files)), unit=UNIT, state=state),
    }


def schedule(site: str, profile: str) -> str:
    """The Jadwal Back Up, a year long."""
    now = clock.now()
    return SCHEDULE.format(site=site, profile=profile, since=now, until=clock.plus(now, days=366))


def letter(number: str, text: str) -> str:
    """A request letter of today."""
    return LETTER.format(unit=UNIT, number=number, date=clock.now()[:10], text=text)


def write_files(folder: Path, count: int = 200) -> None:
    """Fill the folder of files: invented scans in twelve folders."""
    for number in range(1, count + 1):
        path = folder / f"2026-{number % 12 + 1:02d}" / f"akta-{number:04d}.txt"
        path.parent.mkdir(exist_ok=True)
        noise = hashlib.sha256(str(number).encode()).hexdigest()
        path.write_text(f"Akta nomor {number:04d}\n" + f"{noise}\n" * (number % 40 + 10))


def fingerprint(folder: Path) -> tuple[int, str]:
    """Count and SHA-256 of all files below ``folder``, names included."""
    digest, count = hashlib.sha256(), 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
            count += 1
    return count, digest.hexdigest()
