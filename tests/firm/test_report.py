import asyncio
import os
import re
import shutil
import subprocess
from datetime import date, timedelta
from html.parser import HTMLParser

import pytest

from openoutcry.firm.bars import load_history
from openoutcry.firm.chaos import draw_plan
from openoutcry.firm.house import CALM, STORMY, House
from openoutcry.firm.report import render, write_report
from openoutcry.firm.report.html import facts, table
from openoutcry.firm.report.svg import linear, logarithmic, nice_ticks, ratio_ticks, thinned, time_ticks
from openoutcry.firm.results import gather
from openoutcry.firm.strategies import recipes
from openoutcry.testing import run_virtual

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)
VOID = {"meta", "link", "br", "img", "hr", "input"}


def results_of(*, chaos):
    history = load_history(("AAPL", "MSFT"), days=60)
    chosen = recipes(14)
    plan = draw_plan(7, [recipe.name for recipe in chosen], 60) if chaos else None

    async def run():
        clock = asyncio.get_running_loop().clock  # type: ignore[attr-defined]
        house = House(history, chosen, timing=STORMY if chaos else CALM, plan=plan, clock=clock)
        await house.run()
        return house

    return gather(run_virtual(run()))


@pytest.fixture(scope="module", params=[False, True], ids=["calm", "chaos"])
def results(request):
    return results_of(chaos=request.param)


@pytest.fixture(scope="module")
def page(results):
    return render(results)


class Outline(HTMLParser):
    """Checks that tags are closed in order, and collects ids, references and roles."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references, self.links, self.texts = [], [], [], [], {}

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.references += given.get("aria-labelledby", "").split()
        self.links += [given[name] for name in ("src", "href") if name in given]

    def handle_startendtag(self, tag, attrs):
        """An SVG element without content."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def outlined(page):
    outline = Outline()
    outline.feed(page)
    outline.close()
    return outline


def test_the_page_is_well_formed_and_its_charts_are_named(page):
    outline = outlined(page)
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert set(outline.references) <= set(outline.ids)
    assert page.count("<svg") * 2 == len(outline.references)


def test_the_page_loads_nothing_and_runs_nothing(page):
    assert outlined(page).links == ["data:,"]
    assert "<script" not in page
    assert "@import" not in page
    assert not re.search(r"https?://|url\(", page)
    assert "default-src 'none'" in page


def test_the_page_says_plainly_who_won(results, page):
    heading = outlined(page).texts["h1"]
    word = "beat" if results.firm.end > results.held.end else "lost to"
    assert word in "".join(heading)
    assert "not advice" in page
    assert "Costs are included" in page


def test_the_page_has_no_figure_that_is_not_a_number(page):
    assert not re.search(r"\b(nan|inf)\b", page)


def test_only_chaos_has_a_section_on_what_went_wrong(results, page):
    assert ("What went wrong on purpose" in page) is (results.house.plan is not None)
    assert ("kill switch" in page) is (results.house.plan is not None)


def test_every_strategy_symbol_and_subscription_has_its_row(results, page):
    for name in [one.name for one in results.strategies] + [one.symbol for one in results.symbols]:
        assert f'<th scope="row">{name}</th>' in page
    assert {
        f'<th scope="row">{row.subscription}</th>' in page for row in results.ledger.rows if row.accepted
    } == {True}


def test_words_from_outside_are_escaped():
    assert "&lt;b&gt;" in table("<b>", ("", "x"), [("<b>", "1")])
    assert "<b>" not in facts([("<b>", "<b>", "<b>", "")])


def test_the_folder_of_the_report_is_made(results, tmp_path):
    path = tmp_path / "deep" / "er" / "report.html"
    write_report(results, path)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no chromium on this machine")
def test_a_real_browser_opens_the_page_without_a_complaint(page, tmp_path):
    assert CHROMIUM is not None, "CI installs chromium: the report must be opened by a real browser there"
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") == page.count("<svg")


def test_scales_and_ticks_by_hand():
    assert [linear(0, 10, 100, 200)(value) for value in (0, 5, 10)] == [100, 150, 200]
    assert [round(logarithmic(1, 100, 0, 10)(value), 9) for value in (1, 10, 100)] == [0, 5, 10]
    assert nice_ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert nice_ticks(-0.35, 0, 4) == [-0.3, -0.2, -0.1, 0]
    assert ratio_ticks(0.9, 25) == [1, 2, 5, 10, 20]
    assert len(ratio_ticks(1.0, 1.2)) >= 2


def test_thinning_keeps_the_first_and_the_last_value_and_what_was_picked():
    values = list(range(100))
    points = thinned(values, 10, max)
    assert points[0] == (0, 0)
    assert points[-1] == (99, 99)
    assert len(points) <= 11
    assert thinned([5.0, 1.0, 7.0], 10, min) == [(0, 5.0), (1, 1.0), (2, 7.0)]


def test_time_is_labelled_by_month_or_by_year():
    days = [date(2001, 1, 1) + timedelta(days=number) for number in range(3_000)]
    assert [words for _, words in time_ticks(days, 14)] == [str(year) for year in range(2001, 2010)]
    assert [words for _, words in time_ticks(days[:120], 14)] == ["2001", "Feb", "Mar", "Apr"]
    assert len(time_ticks(days, 4)) <= 4
