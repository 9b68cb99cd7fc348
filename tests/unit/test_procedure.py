# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.procedure, procedure_page and flowchart: a profile checked, printed whole, and drawn with true arrows."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sopctl import cli, flowchart, procedure, procedure_page
from sopctl.errors import ConfigError
from sopctl.flowchart import Edge, Node, Row, Shape
from sopctl.profile import LoadedProfile, load_profile, shipped

TRENGGALEK, KALTIM = shipped()["trenggalek"], shipped()["kaltim"]
NAMES = ["trenggalek", "kaltim"]


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest) -> LoadedProfile:
    return load_profile(shipped()[request.param])


# check ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "old", "new", "problem", "place"),
    [
        (KALTIM, "approve: k3", "approve: k4", "cannot be reached from the first step", "flows.backup_restore.k3"),
        (KALTIM, "reject: k2r", "reject: closed", "cannot be reached from the first step", "flows.backup_restore.k2r"),
        (KALTIM, "approve: closed, reject: k4", "approve: k4, reject: k4", "never comes to an end", "backup_restore.k3"),
        (KALTIM, "needs: [laporan]", "needs: [laporan_konfirmasi]", "no earlier step leaves", "k5.needs"),
        (KALTIM, "needs_inferred: [perencanaan]", "needs_inferred: [laporan]", "no earlier step leaves", "k4.needs"),
        (KALTIM, "alasan]}", "alasan, tanda_tangan]}", "names field 'tanda_tangan'", "records.surat_permohonan.must_have"),
        (KALTIM, "ratify: administrator", "ratify: kepala", "names role 'kepala'", "break_glass"),
        (KALTIM, "by: [pengelola], hours", "by: [operator], hours", "names role 'operator'", "break_glass"),
        (KALTIM, "flows:", "authority: {internal: [pengawas]}\nflows:", "names classification 'internal'", "authority"),
        (KALTIM, "flows:", "authority: {rahasia: [bupati]}\nflows:", "names role 'bupati'", "authority.rahasia"),
        (KALTIM, "forward: [pengawas]", "forward: [kepala]", "names role 'kepala'", "k2.gate.forward"),
        (KALTIM, "act: plan", "act: execute\n        gate: {decide: pengelola, approve: k4, reject: k4}", "only decide and confirm", "k3.gate"),
        (KALTIM, "act: request", "act: receive", "must begin with act 'request'", "k1.act"),
        (KALTIM, "trigger: request", "trigger: surat", "neither 'request' nor a schedule", "backup_restore.trigger"),
        (KALTIM, "variants: [backup, restore]", "variants: [backup, hapus]", "names operation 'hapus'", "variants"),
        (KALTIM, "backup: [backup, verify", "backup: [cadangkan, verify", "names run word 'cadangkan'", "k4.run"),
        (KALTIM, "on_failure: {restore: [rollback", "on_failure: {migrate: [rollback", "names operation 'migrate'", "k4.on_failure"),
        (KALTIM, "          restore: [stop_service", "          restore: [rollback", "names run word 'rollback'", "k4.run"),
        (KALTIM, "end: rejected", "end: ditolak", "names end 'ditolak'", "k2r.end"),
        (KALTIM, "by: [pemeriksa]", "by: []", "names nobody", "k5.by"),
        (TRENGGALEK, "{schedule: jadwal,", "{schedule: kalender,", "names paper 'kalender'", "backup.trigger.schedule"),
        (TRENGGALEK, "at_least_every: P1M", "at_least_every: P1Y", "names period 'P1Y'", "trigger.at_least_every"),
        (TRENGGALEK, "        gate: {decide: kabid, approve: r4, reject: r6b, checks: [jenis_data, kewenangan_data]}\n", "", "has no gate", "r3.act"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_line(
    source: Path, old: str, new: str, problem: str, place: str, tmp_path: Path
) -> None:
    text = source.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / source.name
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        procedure.check(path)
    assert problem in caught.value.message
    assert place in caught.value.where
    match = re.fullmatch(re.escape(str(path)) + r":(\d+):(.*)", caught.value.where)
    assert match, caught.value.where
    named = match.group(2).split(".")
    shown = path.read_text(encoding="utf-8").splitlines()[int(match.group(1)) - 1]
    assert any(re.search(rf"\b{word}\b", shown) for word in named), (named, shown)


def test_a_plan_comes_before_the_execution(tmp_path: Path) -> None:
    text = KALTIM.read_text(encoding="utf-8")
    path = tmp_path / KALTIM.name
    swapped = text.replace("act: plan", "act: X").replace("act: execute", "act: plan").replace("act: X", "act: execute")
    path.write_text(swapped, encoding="utf-8")
    with pytest.raises(ConfigError, match="is planned after it was executed"):
        procedure.check(path)


def test_check_counts_what_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    checked = procedure.check(KALTIM)
    text = KALTIM.read_text(encoding="utf-8")
    marks = len(re.findall(r"source: inferred", text)) + len(re.findall(r"needs_inferred: \[\w+\]", text))
    assert checked.warnings[:2] == ["document.tanggal_efektif is blank", "document.tanggal_revisi is blank"]
    assert checked.warnings[2].startswith(f"{marks} parts are inferred")
    assert cli.run(["profile", "check", str(KALTIM), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == checked.warnings
    assert cli.run(["profile", "check", str(KALTIM.parent / "none.yml")]) == 2
    assert cli.run(["profile", "show", "--profile", "none"]) == 2


# the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [80, 100, 160, 240])
def test_printed_whole_at_any_width(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrapped, never cut: the cells of a row put together again are the SOP's words, and no word was broken."""
    monkeypatch.setenv("COLUMNS", str(width))
    assert cli.run(["profile", "show", "--profile", name]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("├"):
            rows.append([])
        elif line.startswith("│"):
            cells = [cell.strip() for cell in line.strip("│").split("│")]
            if not rows or not rows[-1]:
                rows = [*rows[:-1], cells] if rows else [cells]
            else:
                rows[-1] = [f"{one} {two}".strip() for one, two in zip(rows[-1], cells, strict=True)]
        elif line.startswith("└"):
            rows.append([])
    found = [(row[0], row[1]) for row in rows if row and row[0] != "No."]
    profile = load_profile(shipped()[name]).profile
    steps = [step for flow in profile.flows.values() for step in flow.steps]
    mark = {True: "[tafsiran] ", False: ""}
    assert found == [(step.nomor or "", mark[step.source == "inferred"] + step.text) for step in steps]
    assert all(len(line) <= width for line in lines if line[:1] in "┌├│└")


def test_table_says_who_and_marks_what_is_ours() -> None:
    profile = load_profile(KALTIM).profile
    table = procedure.procedure(profile, "backup_restore")
    assert table.columns == [
        "SKPD / OPD",
        "Administrator Bidang TIK",
        "Pengawas Infrastruktur TIK",
        "Personil DC (Pengelola & Pemeriksa TIK)",
    ]
    rows = {row.step: row for row in table.rows}
    assert [(a.column, a.part, a.name) for a in rows["k2"].pelaksana] == [(1, "decides", ""), (2, "does", "")]
    assert [(a.column, a.part) for a in rows["k5"].pelaksana] == [(3, "decides"), (2, "told"), (0, "told")]
    assert rows["k5"].pelaksana[0].name == "Pemeriksa TIK"
    assert rows["k4"].kelengkapan == ["Surat permohonan", "disposisi", "perencanaan [tafsiran]"]
    assert (rows["k5"].output, rows["k5"].waktu) == (["laporan [tafsiran]"], "15 menit")
    assert rows["k2r"].inferred
    assert rows["k2"].keterangan[-1] == "[tafsiran]"
    assert not table.columns_inferred


def test_two_rows_are_numbered_six() -> None:
    table = procedure.procedure(load_profile(TRENGGALEK).profile, "restore")
    assert [row.nomor for row in table.rows] == ["1", "2", "3", "4", "5", "6", "6", "7"]
    assert table.columns_inferred
    assert "Tidak: langkah 6 (baris ke-7)" in table.rows[2].keterangan
    assert all("[tafsiran]" in paper for paper in table.rows[1].kelengkapan)


# the drawing ---------------------------------------------------------------------------------------------------

COLUMNS = 4


@st.composite
def charts(draw: st.DrawFn) -> tuple[list[Node], list[Edge]]:
    rows = draw(st.integers(2, 7))
    places = draw(st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, COLUMNS - 1)), min_size=2, unique=True))
    shapes: st.SearchStrategy[Shape] = st.sampled_from(("terminator", "process", "decision"))
    nodes = [Node(str(at), row, column, draw(shapes)) for at, (row, column) in enumerate(places)]
    ends = st.integers(0, len(nodes) - 1)
    pairs = draw(st.lists(st.tuples(ends, ends).filter(lambda pair: pair[0] != pair[1]), max_size=8, unique=True))
    return nodes, [Edge(str(one), str(other)) for one, other in pairs]


def _draw(nodes: list[Node], edges: list[Edge]) -> list[Row]:
    rows = 1 + max(node.row for node in nodes)
    return flowchart.draw(nodes, edges, [100 / COLUMNS] * COLUMNS, rows)


def _ends(drawn: list[Row]) -> list[tuple[float, float]]:
    """Places (x, rows from the top) where lines of one arrow have an end that no other line continues."""
    seen: dict[tuple[float, float], int] = {}
    for at, row in enumerate(drawn):
        for line in row.lines:
            for x, y in ((line.x1, line.y1), (line.x2, line.y2)):
                place = (round(x, 3), round(at + y / 100, 5))
                seen[place] = seen.get(place, 0) + 1
    return sorted(place for place, count in seen.items() if count % 2)


@settings(max_examples=100, deadline=None)
@given(charts())
def test_arrows_join_their_symbols_and_pass_no_other(chart: tuple[list[Node], list[Edge]]) -> None:
    nodes, edges = chart
    drawn = _draw(nodes, edges)
    centres = {
        node.id: (round(x, 3), round(at + y / 100, 5)) for at, row in enumerate(drawn) for x, y, node in row.symbols
    }
    for at, row in enumerate(drawn):
        for line in row.lines:
            assert line.x1 == line.x2 or line.y1 == line.y2, "lines are level or upright"
            (left, right), (top, bottom) = sorted((line.x1, line.x2)), sorted((line.y1, line.y2))
            assert 0 <= left <= right <= 100
            assert 0 <= top <= bottom <= 100
            for x, y, _ in row.symbols:
                inside = (left < x < right and y == top == bottom) or (top < y < bottom and x == left == right)
                assert not inside, f"row {at}: an arrow runs through a symbol"
    for edge in edges:
        assert _ends(_draw(nodes, [edge])) == sorted((centres[edge.source], centres[edge.target]))
    heads = sum(len(row.heads) for row in drawn)
    assert len({edge.target for edge in edges}) <= heads <= len(edges)


def _shared(row: Row) -> bool:
    """Whether two arrows run over each other in this row."""
    level = [(line.y1, *sorted((line.x1, line.x2))) for line in row.lines if line.y1 == line.y2]
    upright = [(line.x1, *sorted((line.y1, line.y2))) for line in row.lines if line.x1 == line.x2]
    return any(
        one[0] == other[0] and max(one[1], other[1]) < min(one[2], other[2])
        for lines in (level, upright)
        for at, one in enumerate(lines)
        for other in lines[:at]
    )


@pytest.mark.parametrize(
    ("name", "flow", "joined"),
    [("kaltim", "backup_restore", []), ("trenggalek", "restore", ["r6b"]), ("trenggalek", "backup", [])],
)
def test_arrows_of_the_shipped_sops(name: str, flow: str, joined: list[str]) -> None:
    """Arrows run over each other only where both lead to the same symbol; every decision has a Ya and a Tidak."""
    profile = load_profile(shipped()[name]).profile
    table = procedure.procedure(profile, flow)
    drawn = procedure_page.chart(profile, table)
    assert [row.step for row, lines in zip(table.rows, drawn, strict=True) if _shared(lines)] == joined
    symbols = [node for row in drawn for _, _, node in row.symbols]
    labels = [label.text for row in drawn for label in row.labels]
    assert labels.count("Ya") == labels.count("Tidak") == sum(node.shape == "decision" for node in symbols)
    assert symbols[0].shape == "terminator"
    assert "terminator" in {node.shape for node in symbols if node.row == len(drawn) - 1}


def test_rejection_leads_back_up() -> None:
    """k5's Tidak ends at k4's side in the row above, by a lane of its own."""
    profile = load_profile(KALTIM).profile
    drawn = procedure_page.chart(profile, procedure.procedure(profile, "backup_restore"))
    k4 = drawn[4]
    (x, _, node) = next(symbol for symbol in k4.symbols if symbol[2].id == "k4.pengelola")
    assert [head.turn for head in k4.heads if head.x == x] in ([90, 180], [180, 90]), "from above, and from its right"
    lane = [line for line in k4.lines if line.x1 == line.x2 != x and line.y2 == 100]
    assert len(lane) == 1
    assert node.name == "Pengelola TIK"


class Page(HTMLParser):
    """Tags must nest and close; texts and addresses are kept."""

    VOID = frozenset({"meta", "col", "br", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.shapes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "img", "iframe"}
        assert not {"src", "href"} & {name for name, _ in attrs}
        self.shapes.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href"} & {name for name, _ in attrs}
        self.shapes.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def _page(loaded: LoadedProfile) -> Page:
    page = Page()
    page.feed(procedure_page.page(loaded))
    page.close()
    assert not page.open
    return page


def test_page_holds_every_word_and_needs_no_network(loaded: LoadedProfile) -> None:
    page = _page(loaded)
    text = " ".join(page.words)
    for flow in loaded.profile.flows.values():
        for step in flow.steps:
            assert step.text in text
    for _, lines in procedure.identity(loaded.profile):
        assert all(line in text for line in lines)
    assert "[tafsiran]" in text
    assert {"polygon", "rect", "line"} <= set(page.shapes)
    assert "size: A4 landscape" in procedure_page.page(loaded)


def test_page_prints_texts_as_texts(tmp_path: Path) -> None:
    text = KALTIM.read_text(encoding="utf-8")
    path = tmp_path / KALTIM.name
    path.write_text(text.replace("title: SKPD / OPD", "title: '<script>alert(1)</script> \"&'"), encoding="utf-8")
    page = _page(load_profile(path))
    assert any("<script>alert(1)" in word for word in page.words)


@pytest.mark.parametrize("name", NAMES)
def test_page_is_written(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "sop.html"
    assert cli.run(["profile", "show", "--profile", name, "--html", str(file)]) == 0
    assert str(file) in capsys.readouterr().out
    assert file.read_text(encoding="utf-8") == procedure_page.page(load_profile(shipped()[name]))
