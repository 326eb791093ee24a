"""The page, in Chromium if it is installed: figures, sorting, filter, dialog, and no network request."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import SCRIPTS, page, policy
from hiri_search.report.tables.results import Results
from tests.report.page.page_results import INJECTED, ablation, early, less_is_better, search

MAX_BYTES = 6_000_000
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
CHROMIUM = shutil.which("chromium")


# ---- without a browser


def test_names_and_reasons_of_a_study_are_never_markup():
    text = page(page_content(ablation()))
    assert INJECTED not in text
    assert text.count("</script>") == 3
    assert "<title>Mixes of blocks</title>" in text


def test_the_policy_allows_two_scripts_and_no_network_request():
    text = policy(live=False)
    assert "default-src 'none'" in text
    assert "connect-src 'none'" in text
    kinds = [source.partition("-")[0] for source in re.findall(r"script-src ([^;]*)", text)[0].split()]
    assert kinds == ["'unsafe", "'sha256", "'sha256"]
    assert "'unsafe-eval'" in text, "Plotly's WebGL code compiles itself"


def test_the_page_of_many_trials_is_small():
    assert len(page(page_content(search(5000))).encode()) < MAX_BYTES


def test_the_same_results_give_the_same_page():
    assert page(page_content(ablation())) == page(page_content(ablation()))


def test_content_is_plain_json():
    for results in (ablation(), search(30), *early().values()):
        assert json.loads(json.dumps(page_content(results), allow_nan=False))


def test_scripts_have_fewer_than_300_lines():
    folder = Path(page_content.__code__.co_filename).parent
    assert {path.stem for path in folder.glob("*.js")} == set(SCRIPTS)
    assert all(len(path.read_text().splitlines()) < 300 for path in folder.glob("*.js"))


# ---- in Chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: chromium)")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def shown(browser: Any, results: Results, folder: Path, **options: Any) -> Iterator[Any]:
    """Open the page of `results`; an error in the console or a network request fails the test."""
    path = folder / "index.html"
    path.write_text(page(page_content(results)), encoding="utf-8")
    window = browser.new_page(**{"viewport": DESKTOP, **options})
    errors: list[str] = []
    requests: list[str] = []
    window.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    window.on("pageerror", lambda error: errors.append(str(error)))
    window.on("request", lambda request: requests.append(request.url))
    window.goto(path.as_uri())
    window.wait_for_function("document.documentElement.dataset.ready")
    yield window
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
    window.close()


def _draw_all(window: Any) -> None:
    """Scroll to every figure, and wait until the visible figures are drawn."""
    window.evaluate("for (const plot of document.querySelectorAll('.plot')) plot.scrollIntoView({behavior: 'instant'})")
    for plot in window.query_selector_all("section:not([hidden]) .plot"):
        plot.scroll_into_view_if_needed()
        window.wait_for_function("plot => plot.dataset.drawn || plot.style.minHeight === '0px'", arg=plot)


def _names(window: Any, table: str = "#networks") -> list[str]:
    return window.eval_on_selector_all(f"{table} tbody th", "cells => cells.map(cell => cell.textContent)")


def test_the_table_of_an_ablation_sorts_filters_and_opens_a_network(browser: Any, tmp_path: Path):
    with shown(browser, ablation(), tmp_path) as window:
        _draw_all(window)
        assert window.title() == "Mixes of blocks"
        study_order = _names(window)
        head = window.locator("#networks thead button", has_text="Top-1 %").first
        head.click()
        assert _names(window) == ["HR-HR-CFFN-T-T", "HR-HR-T-T-T", INJECTED]
        head.press("Enter")
        assert _names(window) == [INJECTED, "HR-HR-T-T-T", "HR-HR-CFFN-T-T"]
        assert head.evaluate("button => button.closest('th').ariaSort") == "ascending"
        head.click()
        assert _names(window) == study_order
        window.fill("#networks input", "hr gflops>5.2")
        assert _names(window) == ["HR-HR-T-T-T"]
        window.fill("#networks input", "")
        window.click("#networks tbody button >> nth=1")
        assert "HR-HR-CFFN-T-T" in window.inner_text("dialog")
        assert "checkpoints/2/last.pt" in window.inner_text("dialog")
        window.keyboard.press("Escape")
        assert not window.is_visible("dialog")


def test_a_score_of_which_less_is_better_is_marked_and_drawn_so(browser: Any, tmp_path: Path):
    with shown(browser, less_is_better(), tmp_path) as window:
        _draw_all(window)
        assert "Best network: test ECE" in window.inner_text(".cards")
        assert window.inner_text("#networks td.best >> nth=0") == "0.0105"
        front = window.eval_on_selector("#cost .plot", "plot => plot.data.find(({mode}) => mode === 'lines').y")
        assert front == [0.021, 0.0105], "a more expensive network is on the front if its score is less"
        assert window.eval_on_selector("#learning .plot", "plot => plot.layout.yaxis.title.text") == "Validation ECE"
        window.click("#networks tbody button >> nth=0")
        assert "Test ECE\n0.0105 ± 0.0005 over 3 seeds" in window.inner_text("dialog")


def test_the_reason_of_a_failure_is_shown_literally(browser: Any, tmp_path: Path):
    with shown(browser, ablation(), tmp_path) as window:
        _draw_all(window)
        assert "</script><img src=x" in window.inner_text("#failures")
        window.click("#failures .link")
        assert INJECTED in window.inner_text("dialog h2")
        assert window.evaluate("document.querySelectorAll('main img, dialog img, main script').length") == 0
        assert window.title() == "Mixes of blocks"


def _point(window: Any, section: str, index: int) -> tuple[float, float]:
    """Return the position of a point of a figure."""
    window.locator(f"{section} .plot").first.scroll_into_view_if_needed()
    box = window.eval_on_selector_all(
        f"{section} .plot .scatterlayer .point", "(points, i) => points[i].getBoundingClientRect().toJSON()", index
    )
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_point_shows_its_spec_and_opens_its_network(browser: Any, tmp_path: Path):
    with shown(browser, ablation(), tmp_path) as window:
        _draw_all(window)
        position = _point(window, "#cost", 1)
        window.mouse.move(*position)
        window.wait_for_selector("#cost .hoverlayer .hovertext")
        assert "hr(32 e=4)*2" in window.text_content("#cost .hoverlayer .hovertext")
        window.mouse.click(*position)
        assert "HR-HR-CFFN-T-T" in window.inner_text("dialog h2")


def test_a_trial_in_the_address_is_opened(browser: Any, tmp_path: Path):
    with shown(browser, ablation(), tmp_path) as window:
        window.goto(window.url + "#trial=3")
        window.reload()
        window.wait_for_selector("dialog[open]")
        assert window.inner_text("dialog .picked th").strip() == "3"


def test_the_theme_follows_the_system_and_the_button(browser: Any, tmp_path: Path):
    background = "getComputedStyle(document.body).backgroundColor"
    with shown(browser, ablation(), tmp_path, color_scheme="dark") as window:
        dark = window.evaluate(background)
        window.click("#theme")
        light = window.evaluate(background)
        window.emulate_media(color_scheme="light")
    assert (dark, light) == ("rgb(19, 20, 21)", "rgb(255, 255, 255)")


@pytest.mark.parametrize("results", [ablation(), search(24)], ids=["ablation", "search"])
def test_the_page_on_a_phone_scrolls_vertically_only(browser: Any, tmp_path: Path, results: Results):
    with shown(browser, results, tmp_path, viewport=PHONE) as window:
        _draw_all(window)
        assert window.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        box = window.query_selector("#networks .scroll")
        box.evaluate("box => box.scrollTo(300, 0)")
        assert box.evaluate("box => box.scrollLeft") > 0
        first = window.query_selector("#networks tbody th")
        assert first.bounding_box()["x"] == pytest.approx(box.bounding_box()["x"], abs=2), (
            "the column of names is fixed"
        )


def test_the_page_of_a_search_has_its_own_sections(browser: Any, tmp_path: Path):
    with shown(browser, search(24), tmp_path) as window:
        _draw_all(window)
        for section in ("confirmation", "short_long", "importance", "parallel", "hypervolume", "zero_cost"):
            assert window.is_visible(f"#{section}"), section
        assert window.query_selector("#parallel .parcoords")
        bars = "document.querySelector('#importance .plot').data[0].x"
        assert window.evaluate(bars) == [30, 70]
        window.select_option("#importance select", "front")
        window.wait_for_function(f"{bars}[0] === 40")


NOT_SLOW = ("begun", "all failed")
EARLY = [pytest.param(name, marks=() if name in NOT_SLOW else pytest.mark.slow) for name in early()]


@pytest.mark.parametrize("name", EARLY)
def test_the_page_works_for_a_study_in_an_early_state(browser: Any, tmp_path: Path, name: str):
    with shown(browser, early()[name], tmp_path, viewport=PHONE) as window:
        _draw_all(window)
        assert window.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert "undefined" not in window.inner_text("main")
        assert "NaN" not in window.inner_text("main")
        assert window.is_visible("#failures") == (name in ("all failed", "without a command, outside git"))


@pytest.mark.slow
def test_five_thousand_trials_create_few_elements(browser: Any, tmp_path: Path):
    """Rows are created only while the user scrolls."""
    with shown(browser, search(5000), tmp_path) as window:
        _draw_all(window)
        assert window.evaluate("document.querySelectorAll('#networks tbody tr').length") <= 200
        top = float(window.inner_text("#networks tbody tr >> nth=0 >> td >> nth=0"))
        assert top == pytest.approx(max(row["top1"] for row in search(5000).first_trainings), abs=0.01)
        box = window.query_selector("#networks .scroll")
        for _ in range(3):
            box.evaluate("box => box.scrollTo(0, box.scrollHeight)")
            window.wait_for_timeout(30)
        rows = window.evaluate("document.querySelectorAll('#networks tbody tr').length")
        assert 300 <= rows <= 600
        window.fill("#networks input", "hr(32 gflops<3")
        count = window.inner_text("#networks .count")
        assert re.fullmatch(r"[\d,]+ of 5,000 networks", count)
        elements = "document.querySelectorAll('*').length"
        assert window.evaluate(elements) < 20_000, "the number of elements does not grow with the trials"
