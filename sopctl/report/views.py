# SPDX-License-Identifier: Apache-2.0
"""The report's tables: facts in, cells out, in one language. Each is a table on a page and a CSV beside it."""

from __future__ import annotations

from collections.abc import Mapping

from sopctl.blanks import RESULT_TEXT, RESULT_TONE
from sopctl.models import Json
from sopctl.report import measures, standards
from sopctl.report.casework import CaseFacts, late_step, limit_seconds
from sopctl.report.facts import Facts, Record
from sopctl.report.papers import Paper
from sopctl.report.tables import Cell, Column, Link, Row, Table, Tone
from sopctl.report.tongue import NOTHING, Pair, Tongue

STATES: dict[str, tuple[Pair, Tone]] = {
    "verified": (("utuh", "holds"), "good"),
    "broken": (("rusak", "broken"), "bad"),
    "unchecked": (("tidak dapat diperiksa", "could not check"), "fair"),
    "unverified": (("tidak diperiksa", "not checked"), "mute"),
}
OUTCOMES: dict[str, tuple[str, Tone]] = {
    "selesai": ("completed", "good"),
    "ditolak": ("rejected", "fair"),
    "dibatalkan": ("withdrawn", "mute"),
    "berjalan": ("open", "fair"),
}
RESULTS_EN = {
    "berhasil": "succeeded",
    "sebagian": "partly succeeded",
    "gagal": "failed",
    "gagal_dikembalikan": "failed, old state restored",
    "gagal_layanan_mati": "failed, service still down",
    "disetujui": "approved",
    "ditolak": "rejected",
    "menunggu": "awaits a decision",
}
ACTS: dict[str, Pair] = {
    "request": ("permohonan", "request"),
    "dispose": ("disposisi", "disposition"),
    "decide": ("keputusan", "decision"),
    "plan": ("perencanaan", "plan"),
    "execute": ("pelaksanaan", "execution"),
    "confirm": ("konfirmasi", "confirmation"),
    "inform": ("pemberitahuan", "notice"),
    "receive": ("penerimaan", "receipt"),
    "consent": ("persetujuan pemilik data", "owner's consent"),
    "attach": ("lampiran", "attachment"),
    "withdraw": ("pembatalan", "withdrawal"),
    "emergency": ("tindakan darurat", "emergency"),
    "ratify": ("penilaian darurat", "judgement of the emergency"),
    "takeover": ("pengambilalihan", "takeover"),
    "clean": ("perintah hapus salinan", "order to drop copies"),
}
OPERATIONS: dict[str, Pair] = {
    "backup": ("back up", "backup"),
    "restore": ("restore", "restore"),
    "clean": ("penghapusan salinan", "drop kept copies"),
    "case": ("kasus", "case"),
    "vault": ("pemeliharaan vault", "vault maintenance"),
    "check": ("simulasi", "check mode"),
}
Papers = Mapping[str, list[Paper]]


def word(tongue: Tongue, pairs: Mapping[str, Pair], key: str) -> str:
    """The word for ``key``; the key itself where there is none, since a hand-made document may hold any."""
    return tongue.pick(pairs[key]) if key in pairs else key


def state_cell(tongue: Tongue, state: str, href: str = "") -> Cell:
    """Whether a record or case holds."""
    text, tone = STATES[state]
    return Cell(tongue.pick(text), tone, href=href)


def result(tongue: Tongue, name: str) -> tuple[str, Tone]:
    """A run's result, or a case's outcome, as a word with its tone."""
    if name in OUTCOMES:
        english, tone = OUTCOMES[name]
        return tongue(name, english), tone
    if name in RESULT_TEXT:
        tone = RESULT_TONE.get(name, "bad")  # type: ignore[assignment]  # the forms' tones are ours
        return tongue(RESULT_TEXT[name].lower(), RESULTS_EN.get(name, name)), tone
    return name or NOTHING, ""


def links(found: list[Paper]) -> tuple[Link, ...]:
    """A record's papers."""
    return tuple(Link(paper.title, paper.path) for paper in found)


def cases_table(tongue: Tongue, found: list[CaseFacts], papers: Papers) -> Table:
    """One line a case."""
    rows = []
    for one in found:
        outcome, tone = result(tongue, one.outcome)
        letter = one.case.request.get("letter")
        number = str(letter.get("number", "")) if isinstance(letter, dict) else ""
        shown = [
            Link(f"{paper.title} ({name.removeprefix(one.case.id).lstrip('-')})", paper.path)
            for name in one.records
            for paper in papers.get(name, [])
        ]
        rows.append(
            Row(
                (
                    Cell(one.case.id, sub=number, keep=True),
                    Cell(word(tongue, OPERATIONS, one.case.operation)),
                    Cell(", ".join(one.datasets) or NOTHING, sub=str(one.case.request.get("unit", ""))),
                    Cell(tongue.time(one.opened), sort=one.opened),
                    Cell(tongue.time(one.ended), sort=one.ended),
                    Cell(outcome, tone, sub=tongue("darurat", "emergency") if one.emergency else ""),
                    Cell(str(one.late), "bad" if one.late else "", sort=str(one.late)),
                    state_cell(tongue, one.state),
                    Cell("" if shown else NOTHING, links=tuple(shown)),
                ),
                anchor=one.case.id,
            )
        )
    return Table(
        "cases",
        tongue("Kasus", "Cases"),
        (
            Column(tongue("Nomor kasus", "Case")),
            Column(tongue("Jenis", "Kind"), choices=True),
            Column(tongue("Kumpulan data, pemohon", "Datasets, requester")),
            Column(tongue("Dibuka", "Opened"), raw="UTC"),
            Column(tongue("Ditutup", "Closed"), raw="UTC"),
            Column(tongue("Hasil", "Outcome"), choices=True),
            Column(tongue("Langkah terlambat", "Late steps"), number=True),
            Column(tongue("Keutuhan", "Integrity"), choices=True),
            Column(tongue("Berkas", "Papers")),
        ),
        rows,
        tongue("Tidak ada kasus pada periode ini.", "No case in this period."),
    )


def steps_table(tongue: Tongue, found: list[CaseFacts]) -> Table:
    """One line a step: who, when, and how long against mutu baku."""
    on_time, late, none = (
        tongue("tepat waktu", "in time"),
        tongue("terlambat", "late"),
        NOTHING,
    )
    rows = []
    for one in found:
        for step in one.steps:
            state: tuple[str, Tone] = (on_time, "good")
            if late_step(step):
                state = late, "bad"
            elif step["took"] is None or not step["limit"]:
                state = none, "mute"
            rows.append(Row(_step_cells(tongue, one, step, Cell(*state, sub=str(step["late_reason"] or "")))))
    return Table(
        "steps",
        tongue("Langkah dan mutu baku", "Steps and time limits (mutu baku)"),
        (
            Column(tongue("Kasus", "Case")),
            Column(tongue("Langkah", "Step")),
            Column(tongue("Tindakan", "Act"), choices=True),
            Column(tongue("Oleh", "By")),
            Column(tongue("Diterima", "Received"), raw="UTC"),
            Column(tongue("Lama", "Took"), number=True, raw=tongue("detik", "seconds")),
            Column(tongue("Mutu baku", "Limit"), number=True, raw=tongue("detik", "seconds")),
            Column(tongue("Waktu", "In time"), choices=True),
            Column(tongue("Keputusan atau hasil", "Decision or result")),
        ),
        rows,
        tongue("Tidak ada langkah pada periode ini.", "No step in this period."),
    )


def _step_cells(tongue: Tongue, one: CaseFacts, step: Json, state: Cell) -> tuple[Cell, ...]:
    official: Json = step["official"]
    decision = {"approve": tongue("disetujui", "approved"), "reject": tongue("ditolak", "rejected")}
    said = decision.get(str(step["decision"]), str(step["decision"] or ""))
    if step["result"]:
        said = result(tongue, str(step["result"]))[0]
    mark = tongue("[tafsiran] ", "[our reading] ") if step["inferred"] else ""
    return (
        Cell(one.case.id, href=f"#{one.case.id}", keep=True),
        Cell(str(step["step"] or NOTHING), sub=f"{mark}{step['text']}" if step["text"] else ""),
        Cell(word(tongue, ACTS, str(step["act"]))),
        Cell(
            " ".join(part for part in (step["delegate"], official["jabatan"] or official["id"]) if part),
            sub=official["name"],
        ),
        Cell(tongue.time(step["received"]), sort=step["received"]),
        Cell(tongue.duration(step["took"]), sort="" if step["took"] is None else str(step["took"])),
        Cell(tongue.limit(step["limit"]), sort=str(limit_seconds(step["limit"]) or "")),
        state,
        Cell(said or NOTHING, sub=str(step["reason"] or step["note"] or "")),
    )


def records_table(tongue: Tongue, facts: Facts, papers: Papers) -> Table:
    """One line a record, with its verification state and what it answers."""
    rows = []
    for record in facts.records:
        text, tone = result(tongue, record.result)
        if record.doubt:
            text, tone = tongue("tidak dipercaya", "not believed"), "bad"
        state = facts.state(record.id)
        rows.append(
            Row(
                (
                    Cell(record.id, sub=record.doubt or _what(record), keep=record.plain),
                    Cell(word(tongue, OPERATIONS, record.operation) or NOTHING),
                    Cell(tongue.time(record.sealed), sort=record.sealed),
                    Cell(record.operator or NOTHING),
                    Cell(text, tone),
                    state_cell(tongue, state, "findings.html" if state in ("broken", "unchecked") else ""),
                    Cell(", ".join(standards.answered(record)) or NOTHING),
                    Cell("" if papers.get(record.id) else NOTHING, links=links(papers.get(record.id, []))),
                ),
                anchor=record.id if record.plain else "",
            )
        )
    return Table(
        "records",
        tongue("Rekaman", "Records"),
        (
            Column(tongue("Rekaman", "Record")),
            Column(tongue("Jenis", "Kind"), choices=True),
            Column(tongue("Disegel", "Sealed"), raw="UTC"),
            Column(tongue("Petugas", "Operator"), choices=True),
            Column(tongue("Hasil", "Result"), choices=True),
            Column(tongue("Keutuhan", "Integrity"), choices=True),
            Column(tongue("Menjawab kendali", "Answers controls")),
            Column(tongue("Berkas", "Papers")),
        ),
        rows,
        tongue("Tidak ada rekaman pada periode ini.", "No record in this period."),
    )


def _what(record: Record) -> str:
    return record.what if record.operation in ("vault", "") else ""


def durations_table(tongue: Tongue, found: list[measures.Measure]) -> Table:
    """One line a measure."""
    return Table(
        "durations",
        tongue("Lama pelaksanaan", "Durations"),
        (
            Column(tongue("Mulai", "Began"), raw="UTC"),
            Column(tongue("Kumpulan data", "Dataset"), choices=True),
            Column(tongue("Yang diukur", "What"), choices=True),
            Column(tongue("Lama", "Took"), number=True, raw=tongue("detik", "seconds")),
            Column(tongue("Batas", "Limit"), number=True, raw=tongue("detik", "seconds")),
            Column(tongue("Ukuran", "Size"), number=True, raw="byte"),
            Column(tongue("Rekaman", "Record")),
        ),
        [
            Row(
                (
                    Cell(tongue.time(one.at), sort=one.at),
                    Cell(one.dataset),
                    Cell(tongue.pick(measures.KINDS[one.kind])),
                    Cell(tongue.duration(one.seconds), "bad" if one.over else "", sort=str(one.seconds)),
                    Cell(tongue.duration(one.limit), sort=str(one.limit or "")),
                    Cell(tongue.size(one.bytes), sort=str(one.bytes or "")),
                    Cell(one.record, href=f"records.html#{one.record}", keep=True),
                )
            )
            for one in found
        ],
        tongue("Belum ada pelaksanaan yang dapat diukur.", "Nothing was measured yet."),
    )
