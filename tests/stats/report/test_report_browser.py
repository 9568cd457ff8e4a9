"""The report in Chromium: accessible in both schemes, quiet, silent on the network, usable by keyboard and on paper.

Needs ``pip install 'dualproto-wsi[browser]'`` and a Chromium of the system.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dualproto_wsi.stats.cohort.model import Cohort
from dualproto_wsi.stats.report import render_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

MakeCohort = Callable[..., Cohort]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: browser)")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium is installed (looked for {', '.join(NAMES)})")
    with api.sync_playwright() as player:
        browser = player.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page, and what it said and asked for."""

    page: Page
    address: str
    said: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)


Open = Callable[..., Opened]


@pytest.fixture
def open_report(browser: Browser, tmp_path: Path, overlay: bytes) -> Iterator[Open]:
    contexts = []

    def open_(cohort: Cohort, width: int = 1280, **options: Any) -> Opened:
        file = tmp_path / "report.html"
        file.write_text(render_report(cohort, lambda slide: overlay), encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        opened = Opened(contexts[-1].new_page(), file.as_uri())
        opened.page.on("console", lambda message: opened.said.append(message.text))
        opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.page.on("dialog", lambda dialog: (opened.said.append(dialog.message), dialog.dismiss()))
        opened.page.on("request", lambda request: opened.requested.append(request.url))
        opened.page.goto(opened.address)
        return opened

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("n", "scheme", "width"),
    [
        (0, "dark", 1280),
        (1, "light", 390),
        (12, "light", 1280),
        (12, "dark", 1280),
        (12, "light", 390),
        (12, "dark", 390),
        (60, "dark", 390),
    ],
)
def test_axe_finds_nothing(make_cohort: MakeCohort, open_report: Open, n: int, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra: browser)")
    page = open_report(make_cohort(n), width, color_scheme=scheme, reduced_motion="reduce").page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    found = axe.Axe().run(page).response
    told = [
        (v["id"], v["impact"], v["nodes"][0]["html"][:200], v["nodes"][0]["failureSummary"])
        for v in found["violations"]
    ]
    assert not told
    assert {"color-contrast", "document-title", "skip-link"} <= {rule["id"] for rule in found["passes"]}


def test_it_asks_for_nothing_and_says_nothing(make_cohort: MakeCohort, open_report: Open) -> None:
    opened = open_report(make_cohort(12))
    opened.page.wait_for_load_state("networkidle")
    assert [url for url in opened.requested if not url.startswith("data:")] == [opened.address]
    assert opened.said == []
    drawn = opened.page.evaluate("[...document.images].map((image) => image.complete && image.naturalWidth)")
    assert drawn == [320] * 10


def test_injected_scripts_do_not_run(make_cohort: MakeCohort, open_report: Open) -> None:
    cohort = make_cohort(12)
    nasty = "</script></title><script>alert(1)</script><img src=x onerror=alert(2)>"
    opened = open_report(replace(cohort, title=nasty, slides=tuple(replace(s, name=nasty) for s in cohort.slides)))
    assert opened.said == []
    assert opened.page.locator("h1").inner_text() == nasty
    opened.page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.ran = true'>");
    }""")
    opened.page.wait_for_timeout(200)
    assert opened.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in text for text in opened.said)


def _column(page: Page, index: int) -> list[str]:
    cells = page.locator(f"#slides tbody tr > :nth-child({index})")
    return [text.split(" (")[0].replace("–not defined", "") for text in cells.all_text_contents()]


def test_tables_are_sorted_by_keyboard(make_cohort: MakeCohort, open_report: Open) -> None:
    page = open_report(make_cohort(12)).page
    button = page.get_by_role("group", name="Table: Slides", exact=True).get_by_role(
        "button", name="tumor share of tissue"
    )
    heading = button.locator("xpath=..")
    before = _column(page, 5)
    page.locator("#slides input").focus()
    for _ in range(20):  # tabs from the filter through the box and the headings
        page.keyboard.press("Tab")
        if button.evaluate("(each) => each === document.activeElement"):
            break
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = _column(page, 5)
    defined = [float(text) for text in rising if text]
    assert defined == sorted(defined)
    assert len(defined) == 10
    assert rising[-2:] == ["", ""]
    assert sorted(rising) == sorted(before)
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "descending"
    falling = _column(page, 5)
    assert [float(text) for text in falling if text] == defined[::-1]
    assert falling[-2:] == ["", ""]
    assert "sorted by tumor share of tissue, descending" in page.locator("#slides [role=status]").inner_text()
    page.get_by_role("group", name="Table: Slides", exact=True).get_by_role("button", name="Slide", exact=True).press(
        "Enter"
    )
    assert heading.get_attribute("aria-sort") is None
    assert _column(page, 1) == [f"slide-{i:03d}.svs" for i in range(12)]


def test_tables_are_filtered_and_links_find_hidden_rows(make_cohort: MakeCohort, open_report: Open) -> None:
    page = open_report(make_cohort(12)).page
    page.locator("#slides input").fill("HER2 failed")
    assert page.locator("#slides tbody tr:visible").count() == 1
    assert page.locator("#slides [role=status]").inner_text() == "1 of 12 rows"
    page.locator("#quality tbody a", has_text="slide-011.svs").first.click()
    page.wait_for_function("document.querySelectorAll('#slides tbody tr:not([hidden])').length === 12")
    assert page.locator("#slide-11").is_visible()


def test_without_scripts_all_is_there_and_no_button_is_dead(make_cohort: MakeCohort, open_report: Open) -> None:
    page = open_report(make_cohort(12), java_script_enabled=False).page
    assert page.get_by_role("button").count() == 0
    assert page.locator("input").count() == 0
    assert page.locator("#slides tbody tr").count() == 12
    assert page.locator("summary").first.is_visible()


def test_the_first_key_skips_to_the_content(make_cohort: MakeCohort, open_report: Open) -> None:
    page = open_report(make_cohort(1)).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    box = page.locator(".skip").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


@pytest.mark.parametrize("n", [0, 12, 60])
def test_a_narrow_screen_never_scrolls_sideways(make_cohort: MakeCohort, open_report: Open, n: int) -> None:
    cohort = make_cohort(n, prefix="a-very-long-name-of-a-slide-as-archives-give-them-" + "0123456789" * 6)
    page = open_report(cohort, 360).page
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_it_prints(make_cohort: MakeCohort, open_report: Open) -> None:
    page = open_report(make_cohort(12), color_scheme="dark").page
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#slides input").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#slides table").evaluate("(table) => table.offsetWidth") <= 1280
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000
