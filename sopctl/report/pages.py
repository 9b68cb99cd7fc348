# SPDX-License-Identifier: Apache-2.0
"""The report's pages: tables and figures in, files out. Nothing is written here."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from typing import TYPE_CHECKING, Any

from sopctl import __version__, approval, clock
from sopctl.ledger import NO_LINE
from sopctl.report import measures, months, site_views, standards, views
from sopctl.report.casework import CaseFacts, case_facts
from sopctl.report.facts import Facts
from sopctl.report.measures import Measure
from sopctl.report.months import Calendar
from sopctl.report.papers import papers
from sopctl.report.tables import Cell, Column, Link, Row, Table, Tone, clipped, csv_bytes, visible
from sopctl.report.tongue import Lang, Pair, Tongue

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

PAGES: dict[str, Pair] = {
    "index.html": ("Ringkasan", "Summary"),
    "calendar.html": ("Kalender", "Calendar"),
    "cases.html": ("Kasus", "Cases"),
    "records.html": ("Rekaman", "Records"),
    "durations.html": ("Lama", "Durations"),
    "register.html": ("Register aset", "Asset register"),
    "findings.html": ("Temuan", "Findings"),
    "standards.html": ("Standar", "Standards"),
}
MONTHS: dict[str, tuple[Pair, str, Tone]] = {
    "verified": (("terverifikasi", "verified"), "✓", "good"),
    "unconfirmed": (("terverifikasi, formulir belum dikonfirmasi", "verified, form not confirmed"), "◐", "fair"),
    "stored": (("tersimpan, belum diverifikasi", "stored, not verified"), "○", "fair"),
    "failed": (("gagal", "failed"), "✕", "bad"),
    "missing": (("tidak ada", "missing"), "!", "bad"),
    "open": (("periode masih berjalan", "period still open"), "…", "mute"),
    "none": (("tidak dijadwalkan", "not scheduled"), "·", "mute"),
}
#: CIS 11.2 and 11.5 ask for more than a monthly SOP
_DAYS_OF_QUARTER = 92


@dataclass(frozen=True)
class Tables:
    """Every table of the report, by the name that its CSV has."""

    months: Table
    cases: Table
    steps: Table
    records: Table
    durations: Table
    servers: Table
    datasets: Table
    findings: Table
    controls: Table


@dataclass(frozen=True)
class Part:
    """A few words of the summary."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Line:
    """A line of the summary, and the page that tells more."""

    subject: str
    page: str
    count: int
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the check came to, in a word and a sentence."""

    tone: Tone
    word: str
    why: str


def pages(facts: Facts, lang: Lang) -> dict[str, bytes]:
    """The report's files by their path inside it."""
    tongue = Tongue(lang, facts.tz_name)
    known = {record.id: papers(record, tongue) for record in facts.records}
    found, calendar, took = case_facts(facts), months.calendar(facts), measures.measure(facts)
    tables = Tables(
        months=_months_table(tongue, facts, calendar),
        cases=views.cases_table(tongue, found, known),
        steps=views.steps_table(tongue, found),
        records=views.records_table(tongue, facts, known),
        durations=views.durations_table(tongue, took),
        servers=site_views.servers_table(tongue, facts),
        datasets=site_views.datasets_table(tongue, facts),
        findings=site_views.findings_table(tongue, facts),
        controls=site_views.controls_table(tongue, facts),
    )
    files = {paper.path: paper.data for shown in known.values() for paper in shown}
    for field in fields(tables):
        table: Table = getattr(tables, field.name)
        files[f"csv/{table.name}.csv"] = csv_bytes(table)
    values = {
        "t": tongue,
        "facts": facts,
        "agency": facts.session.site.config.agency,
        "pages": [(file, tongue.pick(title)) for file, title in PAGES.items()],
        "version": __version__,
        "head": f"{len(facts.lines)}@{facts.lines[-1].digest if facts.lines else NO_LINE}",
        "tables": tables,
        "calendar": calendar,
        "registered": set(facts.session.site.datasets),
        "glyphs": {state: glyph for state, (_, glyph, _) in MONTHS.items()},
        "month_words": {state: words for state, (words, _, _) in MONTHS.items()},
        "legend": list(MONTHS),
        "plain": {record.id for record in facts.records if record.plain},
        "charts": measures.drawn(took, tongue),
        "kinds": measures.KINDS,
        "unread": facts.unread,
        "anew": [paper.path for shown in known.values() for paper in shown if paper.anew],
        "gaps": _gaps(tongue, facts, calendar, took),
        "verdict": verdict(tongue, facts),
        "summary": _summary(tongue, facts, found, calendar, took),
        "sop": facts.session.site.profile.profile.document,
        "profile": facts.session.context().profile.reference if facts.lines else facts.session.site.config.profile,
        "ledger": _ledger(tongue, facts),
        "trust": _trust(tongue, facts),
    }
    return files | _rendered(values)


def _rendered(values: Mapping[str, Any]) -> dict[str, bytes]:
    from markupsafe import Markup

    css, script = (_source(name) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    environment = _environment()
    shared = {**values, "policy": policy, "css": Markup(css), "script": Markup(script), "scripted": True}  # noqa: S704  # ours
    return {
        page: environment.get_template(f"{page}.j2").render(shared | {"page": page}).encode("utf-8", "replace")
        for page in PAGES
    }


def _source(name: str) -> str:
    return resources.files("sopctl").joinpath("templates/report", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _environment() -> ImmutableSandboxedEnvironment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from markupsafe import Markup

    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.PackageLoader("sopctl", "templates/report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    environment.filters["clip"] = clipped
    return environment


# --- figures -----------------------------------------------------------------------------------------------------


def verdict(tongue: Tongue, facts: Facts) -> Verdict:
    """What `audit verify` came to."""
    if facts.audit is None:
        why = tongue("Laporan dibuat dengan --no-verify.", "The report was made with --no-verify.")
        return Verdict("fair", tongue("Tidak diperiksa", "Not checked"), why)
    counts = Counter(one.severity for one in facts.findings)
    broken, unsure = counts["broken"], counts["unchecked"]
    records = tongue.counted(facts.audit.records, "rekaman", "record", "records")
    lines = tongue.counted(facts.audit.lines, "baris buku besar", "line of the ledger", "lines of the ledger")
    looked = tongue(f"{records} dan {lines} diperiksa", f"{records} and {lines} were checked")
    rest = tongue.counted(
        unsure, "hal tidak dapat diperiksa", "thing could not be checked", "things could not be checked"
    )
    if broken:
        word = tongue(f"{broken} bukti rusak", f"{broken} broken")
        return Verdict("bad", word, f"{looked}; {rest}.")
    if unsure:
        return Verdict("fair", tongue("Tidak ada yang bertentangan", "Nothing contradicts"), f"{looked}; {rest}.")
    return Verdict("good", tongue("Semua utuh", "Everything holds"), f"{looked}.")


def _ledger(tongue: Tongue, facts: Facts) -> str:
    lines = tongue.number(len(facts.lines))
    if not facts.lines:
        return tongue("tidak dapat dipercaya, atau kosong", "cannot be believed, or is empty")
    if facts.audit is None:
        return tongue(f"{lines} baris, tidak diperiksa", f"{lines} lines, not checked")
    covered, seen = tongue.number(facts.audit.covered), tongue.number(facts.audit.witnessed)
    return tongue(
        f"{lines} baris; {covered} tercakup titik periksa, {seen} disaksikan",
        f"{lines} lines; {covered} under a checkpoint, {seen} witnessed",
    )


def _trust(tongue: Tongue, facts: Facts) -> str:
    trust = facts.session.trust.file
    until = tongue.time(trust.valid_until)
    return tongue(f"seri {trust.serial}, berlaku sampai {until}", f"serial {trust.serial}, holds until {until}")


def _summary(
    tongue: Tongue, facts: Facts, found: list[CaseFacts], calendar: Calendar, took: list[Measure]
) -> list[Line]:
    states = Counter(month.state for month in calendar.months.values())
    kept = Counter(facts.state(record.id) for record in facts.records)
    outcomes = Counter(one.outcome for one in found)
    late = sum(one.late for one in found)
    over = sum(one.over for one in took)
    servers = facts.session.site.servers.values()
    overdue = sum(1 for server in servers if approval.review_overdue(server, facts.at))
    severities = Counter(one.severity for one in facts.findings)
    month_parts = tuple(
        Part(f"{states[state]} {tongue.pick(words)}", tone)  # type: ignore[index]  # MONTHS has the states as its keys
        for state, (words, _, tone) in MONTHS.items()
        if states[state]  # type: ignore[index]
    )
    record_parts = tuple(
        Part(f"{kept[state]} {tongue.pick(words)}", tone)
        for state, (words, tone) in views.STATES.items()
        if kept[state]
    )
    case_parts = [
        Part(f"{count} {views.result(tongue, name)[0]}", views.result(tongue, name)[1])
        for name, count in outcomes.items()
    ]
    if late:
        case_parts.append(Part(tongue.counted(late, "langkah terlambat", "step late", "steps late"), "bad"))
    if facts.unread:
        case_parts.append(Part(tongue(f"{len(facts.unread)} tidak terbaca", f"{len(facts.unread)} unreadable"), "bad"))
    finding_parts = tuple(
        Part(f"{severities[name]} {tongue.pick(views.STATES[name][0])}", views.STATES[name][1])
        for name in ("broken", "unchecked")
        if severities[name]
    )
    took_parts = (
        (Part(tongue(f"{over} melewati batas layanan mati", f"{over} over the longest downtime"), "bad"),)
        if over
        else ()
    )
    review = tongue.counted(overdue, "peninjauan lewat waktu", "review overdue", "reviews overdue")
    return [
        Line(
            tongue("Bulan dan kumpulan data", "Months and datasets"), "calendar.html", len(calendar.months), month_parts
        ),
        Line(tongue("Kasus", "Cases"), "cases.html", len(found) + len(facts.unread), tuple(case_parts)),
        Line(tongue("Rekaman", "Records"), "records.html", len(facts.records), record_parts),
        Line(tongue("Pengukuran lama", "Durations measured"), "durations.html", len(took), took_parts),
        Line(
            tongue("Server terdaftar", "Registered servers"),
            "register.html",
            len(servers),
            (Part(review, "bad"),) if overdue else (),
        ),
        Line(tongue("Temuan", "Findings"), "findings.html", len(facts.findings), finding_parts),
    ]


def _gaps(tongue: Tongue, facts: Facts, calendar: Calendar, took: list[Measure]) -> list[str]:
    """Where the records show less than CIS asks for, which is more than the SOP does: told, never a failure."""
    found = []
    order = facts.orders[-1].entries if facts.orders else []
    monthly = sorted(entry.dataset for entry in order if entry.every == "P1M")
    if monthly:
        names = ", ".join(monthly)
        found.append(
            tongue(
                f"CIS 11.2 meminta back up mingguan; dijadwalkan bulanan: {names}.",
                f"CIS 11.2 asks for weekly backups; scheduled monthly: {names}.",
            )
        )
    untested = []
    for dataset in facts.session.site.datasets:
        proofs = [one.at for one in took if one.kind == "drill" and one.dataset == dataset]
        if not proofs or _days(max(proofs), facts.at) > _DAYS_OF_QUARTER:
            untested.append(dataset)
    if untested and not facts.period:
        names = ", ".join(untested)
        found.append(
            tongue(
                f"CIS 11.5 meminta uji pulih tiap triwulan; tidak ada dalam {_DAYS_OF_QUARTER} hari terakhir: {names}.",
                f"CIS 11.5 asks for a restore test each quarter; none in the last {_DAYS_OF_QUARTER} days: {names}.",
            )
        )
    if not any("11.4" in standards.answered(record) for record in facts.records):
        found.append(
            tongue(
                "CIS 11.4 meminta salinan terpisah; tidak ada rekaman penyalinan ke vault lain.",
                "CIS 11.4 asks for an isolated copy; no record tells of copying to another vault.",
            )
        )
    bad = sum(1 for month in calendar.months.values() if month.state in ("missing", "failed", "stored"))
    if bad:
        found.append(
            tongue(
                f"A.8.13 dan CP-9: {bad} bulan tanpa backup yang terverifikasi penuh (lihat kalender).",
                f"A.8.13 and CP-9: {bad} months without verified backups (see the calendar).",
            )
        )
    return found


def _days(first: str, last: str) -> int:
    return clock.seconds_between(first, last) // 86400


def _months_table(tongue: Tongue, facts: Facts, calendar: Calendar) -> Table:
    plain = {record.id for record in facts.records if record.plain}
    rows = []
    for (dataset, month), one in sorted(
        calendar.months.items(), key=lambda item: (item[0][1], item[0][0]), reverse=True
    ):
        words, _, tone = MONTHS[one.state]
        rows.append(
            Row(
                (
                    Cell(f"{tongue.month(int(month[5:]))} {month[:4]}", sort=month),
                    Cell(dataset),
                    Cell(tongue.pick(words), tone),
                    Cell(f"{one.done}/{one.due}" if one.due else "–", sort=str(one.done)),
                    Cell(
                        ", ".join(name for name in one.records if name not in plain) or ("" if one.records else "–"),
                        links=tuple(Link(name, f"records.html#{name}") for name in one.records if name in plain),
                    ),
                )
            )
        )
    return Table(
        "months",
        tongue("Bulan demi bulan", "Month by month"),
        (
            Column(tongue("Bulan", "Month")),
            Column(tongue("Kumpulan data", "Dataset"), choices=True),
            Column(tongue("Keadaan", "State"), choices=True),
            Column(tongue("Periode terverifikasi", "Periods verified"), number=True),
            Column(tongue("Rekaman", "Records")),
        ),
        rows,
        tongue("Belum ada yang dijadwalkan atau disimpan.", "Nothing was scheduled or stored yet."),
    )
