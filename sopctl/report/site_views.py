# SPDX-License-Identifier: Apache-2.0
"""Tables of what the site is and what was found: the register, datasets, findings of `audit verify`, controls."""

from __future__ import annotations

from sopctl import approval
from sopctl.report import standards
from sopctl.report.casework import limit_seconds
from sopctl.report.facts import Facts
from sopctl.report.rules import RULES
from sopctl.report.tables import Cell, Column, Row, Table
from sopctl.report.tongue import NOTHING, Tongue
from sopctl.report.views import state_cell


def servers_table(tongue: Tongue, facts: Facts) -> Table:
    """The asset register's servers and their reviews."""
    rows = []
    for server in facts.session.site.servers.values():
        seen = server.reviewed
        overdue = approval.review_overdue(server, facts.at)
        kib = "; ".join(f"{key}: {value}" for key, value in server.kib_b.items() if value not in (None, ""))
        rows.append(
            Row(
                (
                    Cell(server.id, sub=server.name),
                    Cell(server.inventory_hostname, mono=True),
                    Cell(server.owner_unit or NOTHING, sub=server.holder),
                    Cell(server.location or NOTHING),
                    Cell(kib or NOTHING),
                    Cell(
                        tongue.day(seen.at) if seen else NOTHING,
                        sort=seen.at if seen else "",
                        sub=seen.by if seen else "",
                    ),
                    Cell(seen.result if seen else NOTHING),
                    Cell(tongue("lewat waktu", "overdue"), "bad")
                    if overdue
                    else Cell(tongue("berlaku", "current"), "good"),
                ),
                anchor=f"server-{server.id}",
            )
        )
    return Table(
        "servers",
        tongue("Register server", "Servers"),
        (
            Column(tongue("Id aset", "Asset")),
            Column("Hostname"),
            Column(tongue("Unit pemilik, pemegang", "Owner, holder"), choices=True),
            Column(tongue("Lokasi", "Location")),
            Column("KIB B"),
            Column(tongue("Ditinjau", "Reviewed")),
            Column(tongue("Hasil peninjauan", "Result of the review")),
            Column(tongue("Peninjauan tahunan", "Yearly review"), choices=True),
        ),
        rows,
        tongue("Register belum berisi server.", "The register has no server."),
    )


def datasets_table(tongue: Tongue, facts: Facts) -> Table:
    """The registered datasets, with the standing order's period."""
    order = facts.orders[-1].entries if facts.orders else []
    every = {entry.dataset: f"{entry.jenis} ({entry.every})" for entry in order}
    return Table(
        "datasets",
        tongue("Kumpulan data", "Datasets"),
        (
            Column(tongue("Kumpulan data", "Dataset")),
            Column(tongue("Unit pemilik", "Owner"), choices=True),
            Column(tongue("Klasifikasi", "Classification"), choices=True),
            Column(tongue("Mesin", "Engine"), choices=True),
            Column("Server"),
            Column(tongue("Jadwal", "Schedule"), choices=True),
            Column(tongue("Layanan mati paling lama", "Longest downtime"), number=True, raw=tongue("detik", "seconds")),
            Column(tongue("Diuji di", "Proven on")),
        ),
        [
            Row(
                (
                    Cell(one.id, sub=one.name),
                    Cell(one.owner_unit),
                    Cell(one.classification),
                    Cell(one.engine),
                    Cell(one.server, href=f"#server-{one.server}"),
                    Cell(
                        every.get(one.id) or tongue("tidak dijadwalkan", "not scheduled"),
                        "" if one.id in every else "fair",
                    ),
                    Cell(tongue.limit(one.max_downtime), sort=str(limit_seconds(one.max_downtime))),
                    Cell(facts.session.site.drill(one) or one.server),
                )
            )
            for one in facts.session.site.datasets.values()
        ],
        tongue("Register belum berisi kumpulan data.", "The register has no dataset."),
    )


def findings_table(tongue: Tongue, facts: Facts) -> Table:
    """What `audit verify` found."""
    names = {record.id for record in facts.records if record.plain}
    rows = []
    for one in facts.findings:
        text = RULES.get(one.rule, "")
        meaning = Cell(text, sub=one.meaning) if text and tongue.lang == "id" else Cell(one.meaning)
        rows.append(
            Row(
                (
                    state_cell(tongue, one.severity),
                    Cell(one.record, href=f"records.html#{one.record}" if one.record in names else ""),
                    Cell(one.file or NOTHING, mono=True),
                    meaning,
                    Cell(one.rule, mono=True),
                )
            )
        )
    return Table(
        "findings",
        tongue("Temuan", "Findings"),
        (
            Column(tongue("Tingkat", "Severity"), choices=True),
            Column(tongue("Tentang", "About")),
            Column(tongue("Berkas", "File")),
            Column(tongue("Arti", "Meaning")),
            Column(tongue("Aturan", "Rule"), choices=True),
        ),
        rows,
        tongue("Tidak ada temuan.", "Nothing was found.")
        if facts.audit
        else tongue("Tidak diperiksa: laporan dibuat dengan --no-verify.", "Not checked: made with --no-verify."),
    )


def controls_table(tongue: Tongue, facts: Facts) -> Table:
    """Each control, and how many records of the period answer it."""
    counts: dict[str, int] = {}
    for record in facts.records:
        for control in standards.answered(record):
            counts[control] = counts.get(control, 0) + 1
    servers = len(facts.session.site.servers)
    rows = []
    for one in standards.CONTROLS:
        count = counts.get(one.id, 0)
        shown = tongue.counted(count, "rekaman", "record", "records")
        if one.id == "A.5.9":
            count = servers
            shown = tongue.counted(servers, "server terdaftar", "server registered", "servers registered")
        rows.append(
            Row(
                (
                    Cell(one.standard),
                    Cell(one.id, sort=one.id),
                    Cell(tongue.pick(one.asks)),
                    Cell(tongue.pick(one.answer), href=one.page),
                    Cell(shown, "" if count else "fair", sort=str(count)),
                )
            )
        )
    return Table(
        "controls",
        tongue("Kendali", "Controls"),
        (
            Column(tongue("Standar", "Standard"), choices=True),
            Column(tongue("Kendali", "Control")),
            Column(tongue("Yang diminta", "What it asks")),
            Column(tongue("Jawaban dalam laporan ini", "Answer in this report")),
            Column(tongue("Bukti", "Evidence"), number=True),
        ),
        rows,
    )
