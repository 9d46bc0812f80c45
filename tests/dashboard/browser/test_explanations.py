"""Why: somebody follows a fill to its quote, reads who was late, and goes on from there."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lineage_kit
import pytest
from browser_kit import ENVIRONMENT, LIMIT_S, SIZES, expect, needs_browser

pytestmark = needs_browser


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal, made by another process: beside the browser no loop can run in this one."""
    path = tmp_path_factory.mktemp("firm") / "firm.db"
    subprocess.run([sys.executable, lineage_kit.__file__, path], check=True, env=ENVIRONMENT, timeout=LIMIT_S)
    return path


def test_a_fill_is_followed_to_its_quote_and_to_who_was_late(
    journal: Path, start_page: Callable, open_tab: Callable
) -> None:
    served = start_page(journal)
    tab = open_tab(served)
    page = tab.open(served.look)
    tab.go("Why")
    page.get_by_label(re.compile("order, execution")).fill("o-1")
    page.keyboard.press("Enter")
    expect(page).to_have_url(tab.origin + "/why/o-1")
    expect(page.get_by_role("heading", name=re.compile("^Why 90 AAPL were bought at 100.00"))).to_be_focused()
    chain = page.get_by_role("table", name="What led to it").locator("tbody tr")
    expect(chain).to_have_count(6)
    expect(chain.first).to_contain_text("AAPL at 100.00")
    expect(chain.nth(1)).to_contain_text("the loudest of 3 votes")
    expect(chain.last).to_contain_text("filled 90 at 100.00")
    held = page.get_by_label("Round", exact=True)
    expect(held).to_contain_text("For buying (2)")
    expect(held).to_contain_text("llm (by 250.0 ms, would have said short AAPL -0.90)")
    expect(held).to_contain_text("quiet (alive 50.0 ms before)")
    came = page.get_by_role("table", name="What came of it").locator("tbody tr")
    expect(came).to_have_count(1)  # of the order
    held.get_by_role("link", name="AAPL@1").click()
    expect(page.get_by_role("table", name="When each agent answered")).to_be_visible()
    page.get_by_role("link", name="What was decided, and why").click()
    expect(page.get_by_role("heading", name=re.compile("^Why cio decided to buy 100 AAPL"))).to_be_visible()
    expect(came.last).to_contain_text("filled 90 at 100.00")
    page.go_back()
    page.go_back()
    expect(page.get_by_role("heading", name=re.compile("^Why 90 AAPL"))).to_be_visible()


def test_an_event_leads_to_why_it_is_there(journal: Path, start_page: Callable, open_tab: Callable) -> None:
    served = start_page(journal)
    tab = open_tab(served)
    page = tab.open(served.look)
    tab.move("/events?type=fill")
    page.get_by_role("table", name="Events").locator("tbody tr a").first.click()
    page.get_by_label("Event", exact=True).get_by_role("link", name="explain").click()
    expect(page).to_have_url(re.compile("/why/%23[0-9]+$"))
    expect(page.get_by_role("heading", name=re.compile("^Why 90 AAPL"))).to_be_visible()


def test_what_the_journal_does_not_have_is_said(
    journal: Path, start_page: Callable, open_tab: Callable
) -> None:
    served = start_page(journal)
    tab = open_tab(served)
    tab.expects("404")
    page = tab.open(served.look)
    tab.move("/why/nothing")
    expect(page.get_by_role("alert")).to_contain_text("has no event, order, execution")


@pytest.mark.parametrize("size", SIZES)
def test_no_explanation_scrolls_sideways(
    journal: Path, start_page: Callable, open_tab: Callable, size: str
) -> None:
    served = start_page(journal)
    tab = open_tab(served, size=size)
    page = tab.open(served.look)
    for ref in ("o-1", "AAPL@1", "AAPL", "%233"):
        tab.move(f"/why/{ref}")
        expect(page.get_by_role("table", name="What led to it")).to_be_visible()
        tab.assert_nothing_scrolls_sideways()
    tab.move("/why")
    expect(page.get_by_text("Name something that happened")).to_be_visible()
    tab.assert_nothing_scrolls_sideways()
