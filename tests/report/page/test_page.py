"""The page, in a real browser where there is one: it draws, sorts, filters, opens, and lets nothing in or out."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hiri_search.report.page.page_data import page_content
from hiri_search.report.page.render import SCRIPTS, page, policy
from hiri_search.report.tables.results import Results
from tests.report.page.shown import INJECTED, ablation, early, search

MOST_BYTES = 6_000_000
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
CHROMIUM = shutil.which("chromium")
Open = Callable[..., Any]


# ---- without a browser


def test_nothing_of_a_study_is_markup():
    text = page(page_content(ablation()))
    assert INJECTED not in text
    assert text.count("</script>") == 3
    assert "<title>Mixes of blocks</title>" in text


def test_the_policy_names_what_may_run_and_lets_nothing_be_fetched():
    text = policy(live=False)
    assert "default-src 'none'" in text
    assert "connect-src 'none'" in text
    kinds = [source.partition("-")[0] for source in re.findall(r"script-src ([^;]*)", text)[0].split()]
    assert kinds == ["'unsafe", "'sha256", "'sha256"]
    assert "'unsafe-eval'" in text, "by these two scripts alone: WebGL's drawing is compiled"


def test_the_page_of_many_trials_is_small():
    assert len(page(page_content(search(5000))).encode()) < MOST_BYTES


def test_the_same_results_give_the_same_page():
    assert page(page_content(ablation())) == page(page_content(ablation()))


def test_content_is_plain_json():
    for results in (ablation(), search(30), *early().values()):
        assert json.loads(json.dumps(page_content(results), allow_nan=False))


def test_each_script_is_short_enough_to_read():
    folder = Path(page_content.__code__.co_filename).parent
    assert {path.stem for path in folder.glob("*.js")} == set(SCRIPTS)
    assert all(len(path.read_text().splitlines()) < 300 for path in folder.glob("*.js"))


# ---- in Chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium here; apt-get install chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextmanager
def shown(browser: Any, results: Results, folder: Path, **how: Any) -> Iterator[Any]:
    """The page of some results in a window; errors in its console fail the test."""
    path = folder / "index.html"
    path.write_text(page(page_content(results)), encoding="utf-8")
    window = browser.new_page(**{"viewport": DESK, **how})
    errors: list[str] = []
    asked: list[str] = []
    window.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    window.on("pageerror", lambda error: errors.append(str(error)))
    window.on("request", lambda request: asked.append(request.url))
    window.goto(path.as_uri())
    window.wait_for_function("document.documentElement.dataset.ready")
    yield window
    assert errors == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    window.close()


def _draw_all(window: Any) -> None:
    """Bring every figure near, and wait until all that are to be drawn are."""
    window.evaluate("for (const one of document.querySelectorAll('.plot')) one.scrollIntoView({behavior: 'instant'})")
    for plot in window.query_selector_all("section:not([hidden]) .plot"):
        plot.scroll_into_view_if_needed()
        window.wait_for_function("one => one.dataset.drawn || one.style.minHeight === '0px'", arg=plot)


def _names(window: Any, table: str = "#networks") -> list[str]:
    return window.eval_on_selector_all(f"{table} tbody th", "all => all.map(one => one.textContent)")


def test_an_ablation_is_drawn_sorted_filtered_and_opened(browser: Any, tmp_path: Path):
    with shown(browser, ablation(), tmp_path) as window:
        _draw_all(window)
        assert window.title() == "Mixes of blocks"
        before = _names(window)
        head = window.locator("#networks thead button", has_text="Top-1 %").first
        head.click()
        assert _names(window) == ["HR-HR-CFFN-T-T", "HR-HR-T-T-T", INJECTED]
        head.press("Enter")
        assert _names(window) == [INJECTED, "HR-HR-T-T-T", "HR-HR-CFFN-T-T"]
        assert head.evaluate("one => one.closest('th').ariaSort") == "ascending"
        head.click()
        assert _names(window) == before
        window.fill("#networks input", "hr gflops>5.2")
        assert _names(window) == ["HR-HR-T-T-T"]
        window.fill("#networks input", "")
        window.click("#networks tbody button >> nth=1")
        assert "HR-HR-CFFN-T-T" in window.inner_text("dialog")
        assert "checkpoints/2/last.pt" in window.inner_text("dialog")
        window.keyboard.press("Escape")
        assert not window.is_visible("dialog")


def test_a_failure_says_its_reason_as_it_was_written(browser: Any, tmp_path: Path):
    with shown(browser, ablation(), tmp_path) as window:
        _draw_all(window)
        assert "</script><img src=x" in window.inner_text("#failures")
        window.click("#failures .link")
        assert INJECTED in window.inner_text("dialog h2")
        assert window.evaluate("document.querySelectorAll('main img, dialog img, main script').length") == 0
        assert window.title() == "Mixes of blocks"


def _point(window: Any, section: str, index: int) -> tuple[float, float]:
    """Where a point of a figure is drawn."""
    window.locator(f"{section} .plot").first.scroll_into_view_if_needed()
    box = window.eval_on_selector_all(
        f"{section} .plot .scatterlayer .point", "(all, at) => all[at].getBoundingClientRect().toJSON()", index
    )
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_a_point_tells_its_spec_and_opens_its_trials(browser: Any, tmp_path: Path):
    with shown(browser, ablation(), tmp_path) as window:
        _draw_all(window)
        place = _point(window, "#cost", 1)
        window.mouse.move(*place)
        window.wait_for_selector("#cost .hoverlayer .hovertext")
        assert "hr(32 e=4)*2" in window.text_content("#cost .hoverlayer .hovertext")
        window.mouse.click(*place)
        assert "HR-HR-CFFN-T-T" in window.inner_text("dialog h2")


def test_a_trial_can_be_pointed_to_by_the_address(browser: Any, tmp_path: Path):
    with shown(browser, ablation(), tmp_path) as window:
        window.goto(window.url + "#trial=3")
        window.reload()
        window.wait_for_selector("dialog[open]")
        assert window.inner_text("dialog .picked th").strip() == "3"


def test_light_and_dark_follow_the_system_and_the_button(browser: Any, tmp_path: Path):
    ground = "getComputedStyle(document.body).backgroundColor"
    with shown(browser, ablation(), tmp_path, color_scheme="dark") as window:
        dark = window.evaluate(ground)
        window.click("#theme")
        light = window.evaluate(ground)
        window.emulate_media(color_scheme="light")
    assert (dark, light) == ("rgb(19, 20, 21)", "rgb(255, 255, 255)")


@pytest.mark.parametrize("results", [ablation(), search(24)], ids=["ablation", "search"])
def test_a_phone_scrolls_down_only(browser: Any, tmp_path: Path, results: Results):
    with shown(browser, results, tmp_path, viewport=PHONE) as window:
        _draw_all(window)
        assert window.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        box = window.query_selector("#networks .scroll")
        box.evaluate("one => one.scrollTo(300, 0)")
        assert box.evaluate("one => one.scrollLeft") > 0
        first = window.query_selector("#networks tbody th")
        assert first.bounding_box()["x"] == pytest.approx(box.bounding_box()["x"], abs=2), "the names stay in sight"


def test_a_search_shows_what_only_a_search_has(browser: Any, tmp_path: Path):
    with shown(browser, search(24), tmp_path) as window:
        _draw_all(window)
        for section in ("second", "importance", "parallel", "found", "zero_cost"):
            assert window.is_visible(f"#{section}"), section
        assert window.query_selector("#parallel .parcoords")
        bars = "document.querySelector('#importance .plot').data[0].x"
        assert window.evaluate(bars) == [30, 70]
        window.select_option("#importance select", "front")
        window.wait_for_function(f"{bars}[0] === 40")


OFTEN = ("begun", "all failed")
EARLY = [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in early()]


@pytest.mark.parametrize("name", EARLY)
def test_a_study_that_has_come_to_little_is_shown_all_the_same(browser: Any, tmp_path: Path, name: str):
    with shown(browser, early()[name], tmp_path, viewport=PHONE) as window:
        _draw_all(window)
        assert window.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        assert "undefined" not in window.inner_text("main")
        assert "NaN" not in window.inner_text("main")
        assert window.is_visible("#failures") == (name in ("all failed", "without a command, outside git"))


@pytest.mark.slow
def test_five_thousand_trials_stay_smooth(browser: Any, tmp_path: Path):
    """A sort makes as many lines as one of thirty networks does, and no more than a scroll asks for."""
    with shown(browser, search(5000), tmp_path) as window:
        _draw_all(window)
        assert window.evaluate("document.querySelectorAll('#networks tbody tr').length") <= 200
        top = float(window.inner_text("#networks tbody tr >> nth=0 >> td >> nth=0"))
        assert top == pytest.approx(max(row["top1"] for row in search(5000).first_trainings), abs=0.01)
        box = window.query_selector("#networks .scroll")
        for _ in range(3):
            box.evaluate("one => one.scrollTo(0, one.scrollHeight)")
            window.wait_for_timeout(30)
        lines = window.evaluate("document.querySelectorAll('#networks tbody tr').length")
        assert 300 <= lines <= 600
        window.fill("#networks input", "hr(32 gflops<3")
        kept = window.inner_text("#networks .count")
        assert re.fullmatch(r"[\d,]+ of 5,000 networks", kept)
        drawn = "document.querySelectorAll('*').length"
        assert window.evaluate(drawn) < 20_000, "what is drawn does not grow with the trials"
