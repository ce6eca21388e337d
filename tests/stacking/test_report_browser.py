"""The page in a real Chromium: it draws, sorts, searches, plays, and asks no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.chromium import Browser, chromium
from support.run_folder import HOSTILE, Wanted, make_run

from birdstack.stacking.report import ReportConfig, make_report
from birdstack.stacking.report_page import render_page
from birdstack.stacking.report_run import read_run

TABLE = "document.querySelector('.domain:not([hidden]) table')"
ROWS = f"[...{TABLE}.tBodies[0].rows].filter(row => !row.hidden)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on two domains with a truth, sound beside the worst errors."""
    folder = tmp_path_factory.mktemp("page")
    wanted = replace(Wanted(), fresh_truth=True)
    report = make_report(
        read_run(make_run(folder / "run", wanted)), ReportConfig(resamples=50, clips=3)
    )
    path = folder / "report.html"
    path.write_text(render_page(report), "utf-8")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of this file."""
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def tab(browser: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened; at the end nothing may have gone wrong in it."""
    browser.problems.clear()
    browser.view(1400, 900)
    browser.open(page)
    yield browser
    assert browser.problems == []


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("dark", [False, True])
def test_page_renders_without_errors(tab: Browser, page: Path, width: int, dark: bool) -> None:
    """Charts are there and visible, and nothing is wider than the screen."""
    tab.view(width, 900, dark=dark)
    tab.open(page)
    sizes = tab.evaluate(
        "[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().width)"
    )
    assert len(sizes) > 10
    assert min(sizes) > 200
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark


def test_column_heads_sort_both_ways(tab: Browser) -> None:
    """A click sorts by figure, the largest first; a second one turns it round; empty ones last."""
    column = f"{ROWS}.map(row => row.cells[1].dataset.v)"
    head = f"{TABLE}.tHead.rows[0].cells[1]"
    tab.evaluate(f"{head}.querySelector('button').click()")
    down = [float(v) for v in tab.evaluate(column) if v]
    assert down == sorted(down, reverse=True)
    assert tab.evaluate(f"{head}.getAttribute('aria-sort')") == "descending"
    tab.evaluate(f"{head}.querySelector('button').click()")
    values = tab.evaluate(column)
    known = [float(v) for v in values if v]
    assert known == sorted(known) != down
    assert values[len(known) :] == [""] * (len(values) - len(known))


def test_keyboard_alone_sorts(tab: Browser) -> None:
    """Heads are reached with the tab key and pressed with enter."""
    tab.evaluate(f"{TABLE}.tHead.rows[0].cells[0].querySelector('button').focus()")
    tab.press("Enter", 13, "\r")
    assert tab.evaluate(f"{TABLE}.tHead.rows[0].cells[0].getAttribute('aria-sort')") == "ascending"
    names = tab.evaluate(f"{ROWS}.map(row => row.cells[0].dataset.v)")
    assert len(names) == 12
    tab.press("Tab", 9)
    focused = "document.activeElement.closest('th').cellIndex"
    assert tab.evaluate(focused) == 1


def test_search_shows_matching_rows(tab: Browser) -> None:
    """What is typed is found in any case, counted, and hostile names are found as they are."""
    typed = "{const s = document.getElementById('search'); s.value = %r; s.dispatchEvent(new Event('input'))}"
    tab.evaluate(typed % "BIRD00")
    names = tab.evaluate(f"{ROWS}.map(row => row.cells[0].dataset.v)")
    assert 0 < len(names) < 12
    assert all(name.startswith("bird00") for name in names)
    said = tab.evaluate("document.getElementById('shown').textContent")
    assert said == f"{len(names)} of 12 classes"
    tab.evaluate(typed % "<script>")
    assert tab.evaluate(f"{ROWS}.map(row => row.cells[0].dataset.v)") == [HOSTILE]


def test_domains_and_classes_are_chosen(tab: Browser) -> None:
    """Another domain shows its table; a class's button draws its two curves."""
    choose = "{const d = document.getElementById('domain'); d.value = 'soundscapes'; d.dispatchEvent(new Event('change'))}"
    tab.evaluate(choose)
    shown = "[...document.querySelectorAll('.domain')].filter(d => !d.hidden).map(d => d.dataset.domain)"
    assert tab.evaluate(shown) == ["soundscapes"]
    name = tab.evaluate(f"{TABLE}.querySelectorAll('button.pick')[1].dataset.class")
    tab.evaluate(f"{TABLE}.querySelectorAll('button.pick')[1].click()")
    assert tab.evaluate("document.getElementById('class').value") == name
    assert tab.evaluate("document.querySelectorAll('#roc path.ours').length") == 2
    assert "average precision" in tab.evaluate(
        "document.querySelector('#pr svg').getAttribute('aria-label')"
    )
    tab.evaluate("document.getElementById('next').click()")
    assert tab.evaluate("document.getElementById('class').value") != name


def test_every_picture_has_words(tab: Browser) -> None:
    """What is drawn is named for readers who do not see it, and ids are not given twice."""
    unnamed = """[...document.querySelectorAll('[role=img]')].filter(e => {
        const by = e.getAttribute('aria-labelledby');
        return !(by ? document.getElementById(by)?.textContent : e.getAttribute('aria-label'));
    }).length"""
    assert tab.evaluate(unnamed) == 0
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_sound_plays(tab: Browser) -> None:
    """A clip is decoded, has the length it should have, and runs."""
    played = tab.evaluate("""(async () => {
        const audio = document.querySelector('audio');
        await audio.play();
        await new Promise(done => setTimeout(done, 500));
        const line = audio.closest('article').querySelector('.playhead');
        const found = [audio.readyState, audio.duration, audio.currentTime, line.style.visibility];
        audio.pause();
        return found;
    })()""")
    ready, duration_s, now_s, line = played
    assert ready >= 2
    assert 9.9 < duration_s < 15.2
    assert now_s > 0
    assert line == "visible"
    loudest = tab.evaluate("""(async () => {
        const data = document.querySelector('audio').src.split(',')[1];
        const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
        const sound = await new OfflineAudioContext(1, 1, 32000).decodeAudioData(bytes.buffer);
        return Math.max(...sound.getChannelData(0).slice(0, 100000));
    })()""")
    assert loudest > 0.1
