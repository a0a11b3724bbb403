"""A report in headless Chromium: nothing on the console, every figure drawn, nothing too wide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segsweep import report
from tests.report import browser
from tests.report.synthetic import small
from tests.report.test_trust import calibrated

pytestmark = pytest.mark.skipif(
    browser.CHROMIUM is None, reason="chromium is not installed (Debian: apt-get install chromium)"
)
MODES = [(1280, False), (1280, True), (400, False), (400, True)]

FIGURES = """
[...document.querySelectorAll('[data-figure]')].map(place => ({
  name: place.dataset.figure,
  wide: place.parentElement.classList.contains('wide'),
  width: place.getBoundingClientRect().width,
  drawn: place.querySelectorAll('.main-svg').length,
  marks: place.querySelectorAll('.trace, .heatmaplayer image, .points path, .lines path').length,
  // what leaves the drawing is cut off
  outside: [...place.querySelectorAll('.main-svg text')].filter(text => {
    const own = text.getBoundingClientRect(), all = place.getBoundingClientRect();
    return own.width && (own.left < all.left - 1 || own.right > all.right + 1
      || own.top < all.top - 1 || own.bottom > all.bottom + 1);
  }).map(text => text.textContent),
}))
"""
TICKS = """
[...document.querySelectorAll('[data-figure]')].flatMap(place =>
  ['.xtick text', '.ytick text'].flatMap(kind => {
    const boxes = [...place.querySelectorAll(kind)].map(t => [t.getBoundingClientRect(), t]);
    const turned = boxes.some(b => /rotate\\((?!0[,)])/.test(b[1].getAttribute('transform') || ''));
    const found = [];
    for (let i = 0; i < boxes.length && !turned; i++) for (let j = 0; j < i; j++) {
      const a = boxes[i][0], b = boxes[j][0];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 3) {
        found.push([place.dataset.figure, boxes[i][1].textContent, boxes[j][1].textContent]);
      }
    }
    return found;
  }))
"""
# everything that sticks out to the right, unless it can be scrolled to inside its own box
WIDE = """
[...document.querySelectorAll('body *')].filter(element =>
  element.getBoundingClientRect().right > innerWidth + 1
  && !element.closest('.scroll, .wide, nav > div, pre, svg')
).map(element => element.tagName + '.' + element.className)
"""
SMALL_TEXT = """
[...document.querySelectorAll('p, td, th, dt, dd, a, figcaption, summary, .figure text')].filter(
  element => element.textContent.trim() && parseFloat(getComputedStyle(element).fontSize) < 10
).length
"""
CONTRAST = """
(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = colour => numbers(colour).map(v => v / 255).map(
    v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  ).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const ratio = value => (Math.max(value, paper) + 0.05) / (Math.min(value, paper) + 0.05);
  const html = [...document.querySelectorAll('h1, h2, p, td, th, dt, dd, nav a, .badge, li')];
  const drawn = [...document.querySelectorAll('.xtick text, .ytick text, .legendtext')];
  return Math.min(
    ...html.map(e => ratio(light(getComputedStyle(e).color))),
    ...drawn.map(e => ratio(light(getComputedStyle(e).fill))),
  );
})()
"""


@pytest.fixture(scope="module")
def page() -> Iterator[browser.Page]:
    with browser.open_page() as opened:
        yield opened


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, large_report: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("browser")
    run, _ = calibrated(folder)
    return {"small": report.write(run)[0], "large": large_report}


@pytest.mark.parametrize(("width", "dark"), MODES)
@pytest.mark.parametrize("name", ["small", "large"])
def test_drawn_and_readable(
    page: browser.Page, reports: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    page.console.clear()
    page.requests.clear()
    page.show(reports[name], width=width, dark=dark)
    figures: list[dict[str, Any]] = page.value(FIGURES)
    assert len(figures) > 8
    for figure in figures:
        assert figure["drawn"], figure
        assert figure["marks"], figure
        assert figure["width"] > 200, figure
        assert figure["wide"] or figure["width"] <= width, figure
        assert figure["outside"] == [], figure
    assert page.value(TICKS) == []
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(WIDE) == []
    assert page.value(SMALL_TEXT) == 0
    assert page.value(CONTRAST) >= 4.5  # WCAG 2.1, AA
    paper = page.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")
    images = "[...document.images].filter(image => !image.naturalWidth).length"
    assert page.value(images) == 0
    assert page.console == []
    assert [url for url in page.requests if not url.startswith("data:")] == [
        reports[name].resolve().as_uri()
    ]


def test_colours_follow_the_scheme_while_the_page_is_open(
    page: browser.Page, reports: dict[str, Path]
) -> None:
    page.show(reports["small"], width=1280, dark=False)
    ink = "getComputedStyle(document.querySelector('[data-figure=ranking] .xtick text')).fill"
    before = page.value(ink)
    page.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    wait = "new Promise(done => setTimeout(() => done(1), 300))"
    page.call("Runtime.evaluate", expression=wait, awaitPromise=True)
    assert page.value(ink) != before


def test_a_name_that_is_a_script_runs_nowhere(page: browser.Page, tmp_path: Path) -> None:
    hostile = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
    made = small(tmp_path, description=hostile)
    for event in made.events:
        if event["event"] == "config":
            event["cell"] = f"{hostile}/{event['cell']}"
            event["levels"] = {**event["levels"], "model": f"{hostile}{event['levels']['model']}"}
        if event["event"] == "champion":
            event["cell"] = f"{hostile}/{event['cell']}"
        if event["event"] == "end" and event["status"] == "stopped":
            event |= {"status": "failed", "error": hostile}
    page.console.clear()
    page.show(report.write(made.write())[0], width=1280, dark=False)
    assert page.value("typeof window.hit") == "undefined"
    assert page.value("document.querySelectorAll('img[src=x], .figure image[href=x]').length") == 0
    assert page.console == []
