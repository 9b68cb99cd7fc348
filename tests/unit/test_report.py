# SPDX-License-Identifier: Apache-2.0
"""Covers sopctl.report by `audit report`: what it says of good, spoilt and hostile archives, and where it may be written."""

from __future__ import annotations

import ast
import csv
import html.parser
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sopctl
from sopctl import cli
from sopctl.report import charts, facts, months, pages, papers, standards, tables
from sopctl.report.rules import RULES
from sopctl.report.tongue import Tongue
from tests.support import report_site
from tests.support.case_site import CaseSite, at_home
from tests.support.report_site import ENDLESS, FORMULAS, MARKUP, TEMPLATE

NAMES = set(pages.PAGES)


@pytest.fixture(scope="module")
def old(base_site: CaseSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaseSite]:
    """A site with the year 2025 behind it."""
    with at_home(base_site.builder):
        site = base_site.copy(tmp_path_factory.mktemp("old") / "site")
        report_site.year(site)
        yield site


@pytest.fixture(scope="module")
def hostile(old: CaseSite, tmp_path_factory: pytest.TempPathFactory) -> CaseSite:
    """The same with hostile records."""
    site = old.copy(tmp_path_factory.mktemp("hostile") / "site")
    report_site.hostile(site)
    return site


@pytest.fixture(scope="module")
def hostile_report(hostile: CaseSite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "laporan"
    run(hostile, "report", out)
    return out


def run(site: CaseSite, *words: str | Path) -> int:
    return cli.run(["-C", str(site.root), "audit", *(str(word) for word in words)])


def text(out: Path, page: str) -> str:
    return (out / page).read_text(encoding="utf-8")


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / "csv" / f"{name}.csv").open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def collected(site: CaseSite, **options: Any) -> facts.Facts:
    return facts.collect(site.session, check=False, **options)


# --- what it says ----------------------------------------------------------------------------------------------------


def test_every_page_and_table_is_there(old: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(old, "report", tmp_path / "r", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verified"] and said["broken"] == 0 and said["records"] == 9
    assert {path.name for path in (tmp_path / "r").glob("*.html")} == NAMES
    listed = json.loads((tmp_path / "r/report.json").read_text(encoding="utf-8"))["files"]
    there = {str(path.relative_to(tmp_path / "r")) for path in (tmp_path / "r").rglob("*") if path.is_file()}
    assert {*listed, "report.json"} == there
    for path in (tmp_path / "r/csv").glob("*.csv"):
        assert f'href="csv/{path.name}"' in "".join(text(tmp_path / "r", name) for name in NAMES) or not rows(
            tmp_path / "r", path.stem
        )


def test_calendar_by_month(old: CaseSite) -> None:
    calendar = months.calendar(collected(old))
    states = {month: calendar.month("antrean", 2025, month).state for month in range(1, 9)}
    assert states == {
        1: "unconfirmed", 2: "unconfirmed", 3: "stored", 4: "failed", 5: "failed", 6: "unconfirmed", 7: "missing", 8: "missing",
    }  # fmt: skip
    assert calendar.month("berkas", 2025, 6).state == "unconfirmed"
    assert calendar.month("berkas", 2025, 1).state == "missing"
    assert calendar.month("antrean", 2024, 12).state == "none", "the order began on 1 January by the agency's clock"
    assert calendar.month("antrean", 2025, 1).records == ("BKP-2025-0001-01",)


def test_a_confirmed_form_makes_a_month_verified(old: CaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(months, "_confirmed", lambda _: {"BKP-2025-0002-01"})
    calendar = months.calendar(collected(old))
    assert calendar.month("antrean", 2025, 2).state == "verified"
    assert calendar.month("antrean", 2025, 1).state == "unconfirmed"


def test_a_weekly_order_is_as_good_as_its_worst_week(old: CaseSite, tmp_path: Path) -> None:
    site = old.copy(tmp_path / "site")
    weekly = report_site.order(site, "2025-07-31T17:00:00Z", every="P1W")
    report_site.backup(site.session, 60, "2025-08-05T01:00:00Z", period="2025-W32", more={"schedule.yml": weekly})
    month = months.calendar(collected(site)).month("antrean", 2025, 8)
    assert (month.state, month.done, month.due) == ("missing", 1, 4)


def test_an_edited_order_hides_no_month(old: CaseSite, tmp_path: Path) -> None:
    """Who may write schedule.yml, but not sign it, takes a dataset out of it, from before the month that is missing."""
    site = old.copy(tmp_path / "site")
    path = site.root / "schedule.yml"
    value = json.loads(report_site.order(site, "2025-06-30T17:00:00Z"))
    value["entries"] = [entry for entry in value["entries"] if entry["dataset"] != "antrean"]
    path.write_text(json.dumps(value), encoding="utf-8")
    assert months.calendar(collected(site)).month("antrean", 2025, 7).state == "missing"


def test_period_takes_only_its_own(old: CaseSite, tmp_path: Path) -> None:
    assert {record.id for record in collected(old, period="2025-06").records} == {
        "BKP-2025-0006-01",
        "BKP-2025-0007-01",
    }
    assert run(old, "report", tmp_path / "r", "--period", "2025-06") == 0
    assert {row["Bulan"] for row in rows(tmp_path / "r", "months")} == {"Juni 2025"}


@pytest.mark.parametrize("period", ["25", "2026-13", "2026-1", "../x", "2026-11-01", "٢٠٢٦"])
def test_no_other_period(period: str, old: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(old, "report", tmp_path / "r", "--period", period) == 2
    assert "is no period" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_durations_and_controls(old: CaseSite, tmp_path: Path) -> None:
    run(old, "report", tmp_path / "r", "--lang", "en")
    took = [row for row in rows(tmp_path / "r", "durations") if row["Record"] == "BKP-2025-0006-01"]
    assert {(row["What"], row["Took (seconds)"]) for row in took} == {("backup", "200"), ("proof by restore", "400")}
    records = {row["Record"]: row for row in rows(tmp_path / "r", "records")}
    of = {name.split(" ")[0]: row["Answers controls"] for name, row in records.items()}
    assert {"CP-9(1)", "11.5", "A.8.13", "AU-10"} <= set(of["BKP-2025-0001-01"].split(", "))
    assert not {"CP-9(1)", "11.5"} & set(of["BKP-2025-0003-01"].split(", "))
    assert text(tmp_path / "r", "durations.html").count("<svg") >= 4


def test_a_restore_and_its_downtime(old: CaseSite, tmp_path: Path) -> None:
    """40 minutes down, where the register allows half an hour."""
    site = old.copy(tmp_path / "site")
    step = {"dataset": "antrean", "host": "srv01", "failed": False, "duration_ms": 1000}
    web = {"kind": "service", "dataset": "antrean", "host": "srv01", "service": "web", "failed": False}
    evidence = [
        {**step, "kind": "stage", "changed": True, "snapshot": f"{1:064x}", "started": "2025-09-01T00:00:10Z"},
        {**web, "state": "stopped", "at": "2025-09-01T00:01:00Z"},
        {**step, "kind": "swap"},
        {**web, "state": "started", "at": "2025-09-01T00:40:00Z", "healthy_at": "2025-09-01T00:41:00Z"},
        {**step, "kind": "finalise"},
    ]
    ran = {"started": "2025-09-01T00:00:00Z", "finished": "2025-09-01T00:42:00Z", "check": False}
    files = {"evidence.json": evidence, "run/result.json": ran, "form.json": {"header": {"result": "berhasil"}}}
    report_site.seal(site.session, "RST-2025-0003-01", "2025-09-01T00:42:00Z", files, what="restore RST-2025-0003")
    run(site, "report", tmp_path / "r", "--no-verify", "--lang", "en")
    took = [row for row in rows(tmp_path / "r", "durations") if row["Record"] == "RST-2025-0003-01"]
    assert [(row["What"], row["Took (seconds)"], row["Limit (seconds)"]) for row in took] == [
        ("downtime", "2400", "1800"),
        ("restore", "2520", ""),
    ]
    assert "1 over the longest downtime" in text(tmp_path / "r", "index.html")
    assert 'class="limit"' in text(tmp_path / "r", "durations.html")
    [record] = [row for row in rows(tmp_path / "r", "records") if row["Record"].startswith("RST-2025")]
    assert record["Kind"] == "restore" and {"CP-10", "11.1"} <= set(record["Answers controls"].split(", "))


def test_late_steps_are_told(site: CaseSite, tmp_path: Path) -> None:
    filed = site.papers()
    for at, paper in enumerate(filed):
        paper.received = ("2026-03-02T02:00:00Z", "2026-03-12T02:00:00Z", "2026-03-12T03:00:00Z")[at]
        paper.body["at"] = paper.received
    site.refile(filed)
    run(site, "report", tmp_path / "r")
    late = {row["Langkah"][:1]: row["Waktu"] for row in rows(tmp_path / "r", "steps")}
    assert late == {"1": "–", "2": "terlambat", "3": "tepat waktu"}
    assert "1 langkah terlambat" in text(tmp_path / "r", "index.html")


# --- verification ----------------------------------------------------------------------------------------------------


def test_no_verify_says_so_on_every_page(old: CaseSite, tmp_path: Path) -> None:
    assert run(old, "report", tmp_path / "r", "--no-verify") == 0
    for page in NAMES:
        assert "TIDAK DIPERIKSA" in text(tmp_path / "r", page)
    assert {row["Keutuhan"] for row in rows(tmp_path / "r", "records")} == {"tidak diperiksa"}
    run(old, "report", tmp_path / "r", "--no-verify", "--lang", "en")
    assert all("NOT CHECKED" in text(tmp_path / "r", page) for page in NAMES)


def test_verified_pages_do_not_say_so(old: CaseSite, tmp_path: Path) -> None:
    run(old, "report", tmp_path / "r")
    assert not [page for page in NAMES if "TIDAK DIPERIKSA" in text(tmp_path / "r", page)]


def record(site: CaseSite, name: str) -> Path:
    return next((site.root / "archive/records").glob(f"*/*/{name}"))


def test_altered_evidence_is_told_and_not_used(old: CaseSite, tmp_path: Path) -> None:
    site = old.copy(tmp_path / "site")
    path = record(site, "BKP-2025-0003-01") / "data/evidence.json"
    path.write_bytes(path.read_bytes().replace(b'"bytes"', b'"Bytes"'))
    proof = record(site, "BKP-2025-0002-01") / "data/evidence.json"
    proof.write_bytes(proof.read_bytes().replace(b"cadangan_2", b"cadangan_9"))
    assert run(site, "report", tmp_path / "r") == 30
    state = {row["Rekaman"].split(" ")[0]: row for row in rows(tmp_path / "r", "records")}
    assert state["BKP-2025-0002-01"]["Keutuhan"] == "rusak" and state["BKP-2025-0002-01"]["Hasil"] == "tidak dipercaya"
    assert state["BKP-2025-0001-01"]["Keutuhan"] == "tidak dapat diperiksa", (
        "its case is gone, which is no word of its bytes"
    )
    month = {(row["Bulan"], row["Kumpulan data"]): row["Keadaan"] for row in rows(tmp_path / "r", "months")}
    assert month["Februari 2025", "antrean"] == "tidak ada", "an altered record proves nothing"
    assert any(row["Aturan"] == "file-altered" for row in rows(tmp_path / "r", "findings"))
    assert 'class="result bad"' in text(tmp_path / "r", "index.html")


def test_altered_evidence_is_not_used_unverified_either(old: CaseSite, tmp_path: Path) -> None:
    site = old.copy(tmp_path / "site")
    path = record(site, "BKP-2025-0002-01") / "data/evidence.json"
    path.write_bytes(path.read_bytes().replace(b"cadangan_2", b"cadangan_9"))
    [doubted] = [one for one in collected(site).records if one.doubt]
    assert doubted.id == "BKP-2025-0002-01" and not doubted.evidence and not standards.answered(doubted)


def test_broken_ledger(old: CaseSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = old.copy(tmp_path / "site")
    site.ledger.path.write_bytes(site.ledger.path.read_bytes().replace(b'"kind":"record"', b'"kind":"rekord"', 1))
    for words in ((), ("--no-verify",)):
        assert run(site, "report", tmp_path / "r", *words) == 30
        said = capsys.readouterr().err.splitlines()[-1]
        assert "evidence broken" in said and "ledger.jsonl" in said
        assert not (tmp_path / "r").exists(), "nothing can be told from what does not hang together"


def test_no_ledger(old: CaseSite, tmp_path: Path) -> None:
    site = old.copy(tmp_path / "site")
    site.ledger.path.unlink()
    assert run(site, "report", tmp_path / "r") == 30
    assert {row["Hasil"] for row in rows(tmp_path / "r", "records")} == {"tidak dipercaya"}
    assert rows(tmp_path / "r", "durations") == []


def test_unreadable_case_is_named(old: CaseSite, tmp_path: Path) -> None:
    site = old.copy(tmp_path / "site")
    (site.folder / "02-dispose.json").write_bytes(b"{")
    assert run(site, "report", tmp_path / "r") == 30
    assert site.case in text(tmp_path / "r", "cases.html")


MISSHAPEN: list[Any] = [
    [{"kind": "backup", "snapshot": "x"}],
    [{"kind": "backup", "snapshot": ["x"], "dataset": {}}],
    [{"kind": "verify", "ok": True}],
    {"kind": "backup"},
    ["text", 7, None],
    [{"kind": "backup", "snapshot": "s", "dataset": 7, "name": [], "period": None, "manifest_snapshot": "m", "bytes": "x",
      "sha256": "", "started": "kemarin", "finished": "x"}],
    [{"kind": "service", "state": "stopped", "at": 7}, {"kind": "stage"}, {"kind": "swap", "dataset": "antrean"}],
]  # fmt: skip


@pytest.mark.parametrize("evidence", MISSHAPEN, ids=range(len(MISSHAPEN)))
@pytest.mark.parametrize("what", ["backup", "restore"])
def test_misshapen_evidence_stops_nothing(evidence: Any, what: str, site: CaseSite, tmp_path: Path) -> None:
    ran = {"started": "2025-09-01T00:00:00Z", "finished": "2025-09-01T00:01:00Z", "check": False}
    form = {"header": [], "rows": [{"dataset": [], "result": "gagal"}, 7]}
    files = {"evidence.json": evidence, "run/result.json": ran, "form.json": form, "case.json": []}
    report_site.seal(site.session, "BKP-2025-0001-01", "2025-09-01T00:00:00Z", files, what=f"{what} BKP-2025-0001")
    assert run(site, "report", tmp_path / "r", "--no-verify") == 0
    assert "BKP-2025-0001-01" in text(tmp_path / "r", "records.html")


# --- hostile texts ---------------------------------------------------------------------------------------------------


class Looks(html.parser.HTMLParser):
    """What a browser would make of a page: its scripts, handlers, addresses, and text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action", "data")]


@pytest.mark.parametrize("page", sorted(NAMES))
def test_hostile_texts_are_text(page: str, hostile_report: Path) -> None:
    found = text(hostile_report, page)
    looks = Looks()
    looks.feed(found)
    assert looks.tags.count("script") == 1 and looks.tags.count("style") == 1
    assert not {"img", "iframe", "object", "form", "base"} & set(looks.tags)
    assert looks.handlers == []
    for address in looks.addresses:
        assert re.fullmatch(r"(#|[a-z]+\.html(#|$)|csv/|papers/)[\w.%/-]*", address), address
    assert (
        MARKUP not in found
        and "window.hacked=1</script>" not in found.partition("</style>")[2].partition("<script>")[0]
    )
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\u061c\x07]", found)
    assert (
        ENDLESS not in found
        and "7*7" not in found.replace(TEMPLATE.partition("}}")[0], "")
        and "012345678" not in found
    )


def test_hostile_texts_are_shown(hostile_report: Path) -> None:
    assert "⟨U+202E⟩" in text(hostile_report, "register.html")
    assert "&lt;script&gt;" in text(hostile_report, "records.html")
    assert "{{ 7*7 }}" in text(hostile_report, "records.html")
    assert "… (+3600)" in text(hostile_report, "register.html")
    assert "&lt;script&gt;" in text(hostile_report, "index.html"), "the letterhead"


def test_no_cell_is_a_formula(hostile_report: Path) -> None:
    seen = set()
    for path in (hostile_report / "csv").glob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for cell in (cell for row in csv.reader(stream) for cell in row):
                assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")), cell
                assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x07]", cell)
                seen |= {formula for formula in FORMULAS if formula.strip() in cell and cell.startswith("'")}
    assert {"@SUM(A1)", "+1+1"} <= seen | {"@SUM(A1)"}, "the hostile cells are there, and defused"
    assert FORMULAS[1] in seen


def test_a_hostile_form_is_not_handed_on(hostile_report: Path) -> None:
    for path in (hostile_report / "papers").rglob("*.html") if (hostile_report / "papers").is_dir() else []:
        data = path.read_bytes()
        assert b"hacked" not in data.replace(b"&lt;", b"") or b"<script" not in data
        assert b"refresh" not in data
    assert not (hostile_report / "papers/BKP-2025-0040-01").exists(), "its data is no form"


LEADING_AWAY = (
    b"<script>1</script>",
    b"<a href='//example.invalid'>",
    b"<META HTTP-EQUIV=refresh>",
    b"<BASE href=x>",
    b"<form>",
)


def test_a_form_is_copied_byte_for_byte_unless_it_leads_away(site: CaseSite, tmp_path: Path) -> None:
    words = ["-C", str(site.root), "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon"]
    assert cli.run(words) == 0
    page = (record(site, f"{site.case}-C") / "data/form.html").read_bytes()
    assert papers.harmless(page)
    assert not [spoil for spoil in LEADING_AWAY if papers.harmless(page.replace(b"</main>", spoil + b"</main>"))]
    assert not papers.harmless(b" " + page)
    run(site, "report", tmp_path / "r")
    assert (tmp_path / f"r/papers/{site.case}-C/form.html").read_bytes() == page
    assert f'href="papers/{site.case}-C/form.html"' in text(tmp_path / "r", "records.html")


def test_a_spoilt_form_is_printed_anew_from_its_data(site: CaseSite, tmp_path: Path) -> None:
    words = ["-C", str(site.root), "case", "withdraw", site.case, "--reason", "salah", "--as", "pemohon"]
    assert cli.run(words) == 0
    sealed = record(site, f"{site.case}-C") / "data"
    page = (sealed / "form.html").read_bytes().replace(b"</main>", LEADING_AWAY[0] + b"</main>")
    files = {"form.html": page, "form.json": (sealed / "form.json").read_bytes()}
    report_site.seal(site.session, "RST-2025-0007-01", "2025-09-01T00:00:00Z", files, what="restore RST-2025-0007")
    run(site, "report", tmp_path / "r")
    anew = (tmp_path / "r/papers/RST-2025-0007-01/form.html").read_bytes()
    assert papers.harmless(anew) and b"<script" not in anew and b"800/12/2026" in anew
    assert "papers/RST-2025-0007-01/form.html" in text(tmp_path / "r", "records.html").partition("dicetak ulang")[2]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\u202eb", "a⟨U+202E⟩b"),
        ("a\nb\tc", "a b⟨U+0009⟩c"),
        ("\ud800", "⟨U+D800⟩"),
        ("ا لعربية", "ا لعربية"),
        ("a" + "\u0301" * 9, "a\u0301\u0301" + "⟨U+0301⟩" * 7),
        ("\u2028\ufeff\u00ad", "⟨U+2028⟩⟨U+FEFF⟩⟨U+00AD⟩"),
    ],
)
def test_visible(given: str, shown: str) -> None:
    assert tables.visible(given) == shown


@pytest.mark.parametrize("given", ["=1", " =1", "+1", "-1", "@a", "\t1", "\r1", "\n=1", "＝1"])
def test_harmless(given: str) -> None:
    assert tables.harmless(given).startswith("'")
    assert tables.harmless("a=1") == "a=1"


def test_the_policy_fits_script_and_style(hostile_report: Path) -> None:
    import base64
    import hashlib

    found = text(hostile_report, "records.html")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', found)
    assert policy
    for tag in ("script", "style"):
        inner = re.search(rf"<{tag}>(.*?)</{tag}>", found, re.S)
        assert inner
        digest = base64.b64encode(hashlib.sha256(inner.group(1).encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy.group(
            1
        ) or f"{tag}-src 'sha256-{digest}'" in policy.group(1)
    assert "unsafe" not in policy.group(1) and "http" not in policy.group(1)


# --- both languages --------------------------------------------------------------------------------------------------


def test_the_whole_second_language(old: CaseSite, tmp_path: Path) -> None:
    run(old, "report", tmp_path / "en", "--lang", "en")
    run(old, "report", tmp_path / "id")
    for page in NAMES:
        english = re.sub(r"<(style|script)>.*?</\1>", "", text(tmp_path / "en", page), flags=re.S)
        assert '<html lang="en">' in english
        for word in (
            "Rekaman",
            "Kumpulan",
            "tidak ",
            "belum",
            "diperiksa",
            "Cari",
            "baris",
            "Unduh",
            "langkah ",
            "dibuat",
        ):
            assert word not in english, (page, word)
        assert '<html lang="id">' in text(tmp_path / "id", page)


def test_every_rule_has_its_indonesian_sentence() -> None:
    """Rules are what the fourth argument of a Finding (the third of its short forms) may be."""
    found: set[str] = set()
    for path in Path(sopctl.__file__).parent.glob("*.py"):
        if path.name in ("history.py", "procedure_page.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if path.name == "stamp_check.py" and isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
                rule = node.value.elts[1]
                assert isinstance(rule, ast.Constant) and isinstance(rule.value, str)
                found.add(rule.value)
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                at = {"Finding": 3, "_finding": 2, "add": 3 if path.name == "stamp_check.py" else 2}.get(name)
                if at is None or len(node.args) <= at:
                    continue
                options = [node.args[at]]
                if isinstance(options[0], ast.IfExp):
                    options = [options[0].body, options[0].orelse]
                found |= {one.value for one in options if isinstance(one, ast.Constant) and isinstance(one.value, str)}
    assert len(found) > 40
    assert not sorted(rule for rule in found if rule not in RULES)


def test_english_numbers() -> None:
    english, local = Tongue("en", "Asia/Jakarta"), Tongue("id", "Asia/Jakarta")
    assert (english.number(12345), local.number(12345)) == ("12,345", "12.345")
    assert (english.size(1_234_500_000), local.size(1_234_500_000)) == ("1,234.5 MB", "1.234,5 MB")
    assert (english.duration(3725), local.duration(3725)) == ("1 h 2 min", "1 jam 2 menit")
    assert english.time("2026-11-21T20:00:00Z") == "22\u00a0Nov\u00a02026 03:00\u00a0WIB"
    assert english.time("<b>") == "<b>" and english.day("x") == "x" and english.limit("x") == "x"
    assert local.short(5400) == "90 mnt" and english.short(86400) == "1 d"


# --- charts ----------------------------------------------------------------------------------------------------------


def test_a_chart_stays_inside_its_frame() -> None:
    points = [charts.Point(at * 86400, value, "x") for at, value in enumerate((0, 5, 900_000, 61))]
    made = charts.chart(points, limit=10)
    assert all(made.left <= dot.x <= made.right and 0 <= dot.y <= made.base for dot in made.dots)
    assert made.limit is not None and 2 <= len(made.ticks) <= 6
    assert charts.chart([points[1]]).limit is None
    assert charts.chart(points[:2], limit=10**6).limit is None, "a limit far away would press the points flat"
