# SPDX-License-Identifier: Apache-2.0
"""The auditor's site as people open it: from the disk, in headless Chromium, light and dark, on a phone, a screen and paper."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from sopctl import cli
from sopctl.report.pages import PAGES
from tests.support import report_site
from tests.support.case_site import at_home, build

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a site with a year, a case and hostile records behind it."""
    base = build(tmp_path_factory.mktemp("base"))
    out = tmp_path_factory.mktemp("out") / "laporan"
    with at_home(base.builder):
        report_site.year(base)
        report_site.hostile(base)
        assert cli.run(["-C", str(base.root), "audit", "report", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page, and what it complained of or asked for beyond the report."""

    def __init__(self, browser: Browser, report: Path, width: int = 1280, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.report = report
        self.said: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda asked: self._asked(asked.url))

    def _asked(self, url: str) -> None:
        if not url.startswith(f"file://{self.report}/"):
            self.said.append(f"asked for {url}")

    def open(self, name: str) -> Page:
        self.page.goto(f"file://{self.report}/{name}")
        return self.page

    def silent(self) -> None:
        assert self.said == []
        assert self.page.evaluate("typeof window.hacked") == "undefined"


@pytest.fixture
def watched(browser: Browser, report: Path) -> Iterator[Watched]:
    made = Watched(browser, report)
    yield made
    made.silent()
    made.context.close()


@pytest.mark.parametrize(
    ("width", "scheme", "axe"),
    [(390, "dark", True), (1280, "light", True), (390, "light", False), (1280, "dark", False)],
)
def test_every_page_is_quiet_fits_and_can_be_used_by_everybody(
    width: int, scheme: str, axe: bool, browser: Browser, report: Path
) -> None:
    """No message, no request, nothing runs of what people wrote, no overflow, and axe finds nothing serious."""
    watched = Watched(browser, report, width, scheme)
    # axe is ours and comes over the debugger's line, which no policy of the page covers
    problems = []
    for name in PAGES:
        page = watched.open(name)
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, f"{name} is {wider} pixels wider than the window"
        assert page.locator("h1").count() == 1
        problems += [f"{name}: {one}" for one in serious(page)] if axe else []
    assert problems == []
    watched.silent()
    watched.context.close()


def serious(page: Page) -> list[str]:
    """What axe finds that keeps people from using the page."""
    page.evaluate(AXE.read_text(encoding="utf-8") + "; 1")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]


def test_axe_finds_what_is_wrong(watched: Watched) -> None:
    page = watched.open("index.html")
    page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<button></button>')")
    assert [one for one in serious(page) if one.startswith("button-name")]


def shown(page: Page, table: str) -> int:
    return page.locator(f"#{table} tbody tr:visible").count()


def test_search_and_filters(watched: Watched) -> None:
    page = watched.open("records.html")
    everything = shown(page, "records")
    assert everything > 15
    page.get_by_label("Cari").fill("bkp-2025-0003 BERHASIL")
    assert shown(page, "records") == 1
    assert page.locator("output").inner_text() == f"1 dari {everything} baris"
    page.get_by_role("button", name="Hapus saringan").click()
    assert shown(page, "records") == everything
    page.get_by_label("Hasil").select_option("gagal")
    assert shown(page, "records") == 1
    page.get_by_label("Jenis").select_option("kasus")
    assert shown(page, "records") == 0


def test_hostile_choices_filter_by_themselves(watched: Watched) -> None:
    page = watched.open("calendar.html")
    select = page.get_by_role("combobox", name="Kumpulan data")
    [hostile] = [one for one in select.locator("option").all_text_contents() if one.startswith("<script>")]
    select.select_option(hostile)
    assert shown(page, "months") == 1


def test_sorting(watched: Watched) -> None:
    page = watched.open("durations.html")
    head = page.get_by_role("columnheader", name="Lama", exact=True)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    values = page.evaluate(
        "[...document.querySelectorAll('#durations tbody tr')].map(r => Number(r.cells[3].dataset.sort))"
    )
    assert values == sorted(values) and len(set(values)) > 3
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"


def test_the_keyboard_alone(watched: Watched) -> None:
    page = watched.open("records.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type("0006/")
    assert page.get_by_label("Cari").input_value() == "0006/", "typed there, it is a letter"
    page.keyboard.press("Escape")
    assert page.get_by_label("Cari").input_value() == ""
    page.keyboard.type("0006")
    assert shown(page, "records") == 1
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('th') !== null"):
            break
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"


def test_a_link_to_a_row_that_is_filtered_away_shows_it(watched: Watched) -> None:
    page = watched.open("records.html")
    page.get_by_label("Cari").fill("tidak ada yang seperti ini")
    assert shown(page, "records") == 0
    page.evaluate("location.hash = 'BKP-2025-0002-01'")
    page.wait_for_function("document.querySelectorAll('#records tbody tr:not([hidden])').length > 1")
    assert page.locator("#BKP-2025-0002-01").is_visible()


def test_every_link_leads_somewhere(report: Path) -> None:
    ids = {name: set(re.findall(r'\sid="([^"]*)"', (report / name).read_text("utf-8"))) for name in PAGES}
    for name in PAGES:
        text = (report / name).read_text(encoding="utf-8")
        assert len(re.findall(r'\sid="', text)) == len(ids[name]), f"{name}: an id stands twice"
        for target in re.findall(r'href="([^"]*)"', text):
            page, _, fragment = target.partition("#")
            assert not page or (report / page).is_file(), f"{name}: {target}"
            assert not fragment or fragment in ids[page or name], f"{name}: {target}"


def test_without_script_everything_is_there(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{report}/records.html")
    assert page.locator("#records tbody tr").count() > 15
    assert page.locator(".tool:visible").count() == 0
    context.close()


def test_a_planted_script_does_not_run(watched: Watched, tmp_path: Path) -> None:
    """If a text ever came through as markup, the page's own policy would still hold."""
    copy = Path(shutil.copytree(watched.report, tmp_path / "r"))
    page = copy / "records.html"
    planted = "<script>window.hacked=1</script><img src=x onerror='window.hacked=1'></main>"
    page.write_text(page.read_text("utf-8").replace("</main>", planted), encoding="utf-8")
    watched.page.goto(f"file://{page}")
    assert any("Content Security Policy" in said for said in watched.said)
    assert watched.page.evaluate("typeof window.hacked") == "undefined"
    watched.said.clear()


@pytest.mark.parametrize("name", PAGES)
def test_it_prints_on_a4(name: str, watched: Watched) -> None:
    data = watched.open(name).pdf(prefer_css_page_size=True)
    boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", data)}
    sizes = {(round(right), round(top)) for _, _, right, top in boxes}
    assert data.startswith(b"%PDF-") and sizes <= {(595, 842), (842, 595)} and len(sizes) == 1
    watched.page.emulate_media(media="print")
    watched.page.set_viewport_size({"width": 1032 if (842, 595) in sizes else 703, "height": 900})
    wider = watched.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0, f"{name} is {wider} pixels wider than the sheet"
