"""The report in a browser: it opens without a network and without an error, by keyboard and on a phone, and shows what was marked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, sync_playwright

from monai_jdt.report.run_page import write_run_report
from tests.report.run_folders import HOSTILE, change_scores, write_list, write_run_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

#: What a red, green or blue pixel in the middle of a canvas is.
PIXEL = """([id, across, down]) => {
  const canvas = document.getElementById(id);
  return [...canvas.getContext("2d").getImageData(canvas.width * across, canvas.height * down, 1, 1).data].slice(0, 3);
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models in one run, one of them in a second run, with curves of a training; named raters; two regions."""
    folder = tmp_path_factory.mktemp("report")
    datalist = write_list(folder)
    first = write_run_of(folder, "first", datalist, {"net": 0, "late<i>": 2}, "--regions", '{"cord<b>": [1, 2]}')
    lines = [f"{epoch},{name},{1 / epoch}" for epoch in range(1, 6) for name in ("train_loss", "val_mean_dice")]
    (first / "training.csv").write_text("\n".join(["epoch,name,value", *lines, ""]))
    second = write_run_of(folder, "second", datalist, {"net": 1}, "--regions", '{"cord<b>": [1, 2]}')
    change_scores(second, lambda row: {**row, "value": "inf"} if (row["case"], row["score"]) == ("one", "nll") else row)
    dest = folder / "report.html"
    assert write_run_report([first, second], dest, progress=False) == {}
    return dest


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def opened_at(browser: Browser, report: Path, width: int, seen: list[str]) -> Page:
    """Open the page, and collect what it must not do: errors, dialogs, and requests for anything but the file itself."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.set_default_timeout(60_000)
    page.on("console", lambda message: seen.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.append(str(error)))

    def dismiss(dialog: Dialog) -> None:
        seen.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.on("request", lambda request: None if request.url.startswith(("data:", report.as_uri())) else seen.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_function("document.getElementById('viewer').dataset.open")
    return page


@pytest.fixture(scope="module")
def desktop(browser: Browser, report: Path) -> Iterator[tuple[Page, list[str]]]:
    seen: list[str] = []
    page = opened_at(browser, report, 1000, seen)
    yield page, seen
    page.close()


@pytest.fixture
def page(desktop: tuple[Page, list[str]]) -> Iterator[Page]:
    """The page on a desk. Opening takes a second, so that tests share it."""
    yield desktop[0]
    assert desktop[1] == []


def show(page: Page, number: int, name: str) -> None:
    page.select_option("#case", str(number))
    page.wait_for_function("name => document.getElementById('viewer').dataset.open === name", arg=name)


def test_the_slider_moves_by_keyboard_through_the_slices(page: Page) -> None:
    # cases in the order of the first model's Dice: three's second rater marks nothing
    assert page.eval_on_selector_all("#case option", "all => all.map(one => one.textContent)")[0].startswith("1. three (0.500)")
    show(page, 2, HOSTILE)
    before, text = page.evaluate("document.getElementById('image').toDataURL()"), page.text_content("#at")
    page.focus("#slice")
    page.keyboard.press("ArrowRight")
    assert page.text_content("#at") != text
    assert page.evaluate("document.getElementById('image').toDataURL()") != before
    page.keyboard.press("End")
    assert page.text_content("#at") == "slice 8 of 9"
    # two slices beyond the last mark there is neither a probability nor a disagreement: the darkest colours of their maps
    assert page.evaluate(PIXEL, ["raters", 0.5, 0.5]) == [68, 1, 84]
    page.keyboard.press("Home")
    assert page.text_content("#at") == "slice 1 of 9"


def test_pictures_show_probability_disagreement_and_contours(page: Page) -> None:
    show(page, 2, HOSTILE)
    # Anna marks 6 rows, Ben 9, along the x axis, whose right is shown on the left; the model's .8 is Anna's
    size = page.evaluate("JSON.parse(document.getElementById('case-2').textContent).slices.size")
    assert size[1] >= 9
    colours = {tuple(page.evaluate(PIXEL, ["raters", (column + 0.5) / size[1], 0.5])) for column in range(size[1])}
    assert len(colours) == 2  # agreed, and split in half
    assert (253, 231, 37) in colours
    inside = {tuple(page.evaluate(PIXEL, ["probability", (column + 0.5) / size[1], 0.5])) for column in range(size[1])}
    assert any(red > 200 for red, *_ in inside)
    with_contours = page.evaluate("document.getElementById('image').toDataURL()")
    page.locator("#marks input").first.uncheck()
    assert page.evaluate("document.getElementById('image').toDataURL()") != with_contours
    page.select_option("#map", "difference")
    assert page.text_content("#low") == "\u22121"
    page.select_option("#model", "late<i>")
    assert "Dice with Anna" in str(page.text_content("#scores"))


def test_an_infinite_score_is_shown(page: Page) -> None:
    show(page, 1, "one")
    page.select_option("#model", "second: net")
    assert "negative log-likelihood\u221e" in str(page.text_content("#scores"))


def test_names_are_text(page: Page, report: Path) -> None:
    text = report.read_text()
    assert "<script>alert" not in text
    assert "Ben<b>" not in text
    assert "cord<b>" not in text
    assert HOSTILE in str(page.text_content("table >> text=<script>"))


def test_on_a_phone_charts_are_drawn_when_they_come_near_and_nothing_scrolls_sideways(browser: Browser, report: Path) -> None:
    seen: list[str] = []
    page = opened_at(browser, report, 360, seen)
    assert page.locator(".chart").count() == 7
    # the last one waits for the reader
    assert page.locator(".chart >> nth=6 >> .main-svg").count() == 0
    for number in range(7):
        page.locator(f".chart >> nth={number}").scroll_into_view_if_needed()
        page.locator(f".chart >> nth={number} >> .main-svg").first.wait_for()
    assert "late<i>" in str(page.locator(".chart >> nth=0").text_content())
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("document.getElementById('image').getBoundingClientRect().right") <= 360
    page.close()
    assert seen == []


def test_everything_is_reached_by_the_tab_key(page: Page) -> None:
    show(page, 0, "three")
    page.focus("#previous")
    reached = []
    for _ in range(14):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
        page.keyboard.press("Tab")
    assert [name for name in reached if name in ("previous", "case", "next", "model", "slice", "map")] == [
        "previous",
        "case",
        "next",
        "model",
        "slice",
        "map",
    ]
    assert {"0", "1", "prediction"} <= set(reached)
    page.focus("#next")
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('case').selectedIndex === 1")


def test_a_worst_case_opens_in_the_viewer(page: Page) -> None:
    page.locator("a[data-case='1']").click()
    page.wait_for_function("document.getElementById('viewer').dataset.open === 'one'")
    assert page.evaluate("location.hash") == "#cases"
