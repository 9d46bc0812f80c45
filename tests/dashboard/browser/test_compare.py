"""Compare: somebody finds what two journals decided otherwise, opens one difference, and turns the pages."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import compare_kit
import pytest
from browser_kit import ENVIRONMENT, LIMIT_S, SIZES, expect, needs_browser

pytestmark = needs_browser
MANY = 10_000


def made(folder: Path, *more: object) -> Path:
    """Return the journal of two that were made by another process: beside the browser none runs a loop here."""
    words = [sys.executable, compare_kit.__file__, str(folder), *map(str, more)]
    subprocess.run(words, check=True, env=ENVIRONMENT, timeout=LIMIT_S)
    return folder / "day.db"


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("days"))


def test_a_difference_is_found_opened_and_led_back_to_why(
    day: Path, start_page: Callable, open_tab: Callable
) -> None:
    served = start_page(day, "--compare", str(day.with_name("again.db")))
    tab = open_tab(served)
    page = tab.open(served.look)
    tab.go("Compare")
    expect(
        page.get_by_role("heading", name=re.compile("7 decisions: 1 the same, 2 another size"))
    ).to_be_visible()
    rows = page.get_by_role("table", name="What differs").locator("tbody tr")
    expect(rows).to_have_count(6)
    expect(rows.first).to_contain_text("another size quantity 100 → 60")
    page.locator("select[name=symbol]").select_option("MSFT")
    expect(rows).to_have_count(2)
    page.locator("select[name=kind]").select_option("size")
    expect(page).to_have_url(re.compile(r"kind=size"))
    expect(rows).to_have_count(1)
    rows.first.get_by_role("link", name="MSFT").press("Enter")
    one = page.get_by_label("One difference")
    expect(one.get_by_role("heading", name=re.compile("MSFT"))).to_be_focused()
    fields = one.get_by_role("table", name="Fields that differ").locator("tbody tr")
    expect(fields.first).to_contain_text("quantity")
    expect(fields.last).to_contain_text("s-1, 1 in both")
    page.reload()
    expect(one).to_be_visible()  # each state has an address
    page.keyboard.press("Escape")
    expect(one).to_be_hidden()
    page.go_back()
    one.get_by_role("link", name="why").click()
    expect(page.get_by_role("heading", name=re.compile("^Why cio decided to buy 100 MSFT"))).to_be_visible()


def test_the_later_steps_and_the_other_way_round_are_chosen(
    day: Path, start_page: Callable, open_tab: Callable
) -> None:
    served = start_page(day, "--compare", str(day.with_name("again.db")))
    tab = open_tab(served)
    page = tab.open(served.look)
    tab.move("/compare?a=again.db&b=day.db&type=fill")
    row = page.get_by_role("table", name="What differs").locator("tbody tr")
    expect(row).to_contain_text(re.compile("buy 9 at 3.*buy 9 at 2"))
    page.locator("select[name=type]").select_option("order")
    expect(page.get_by_text("Nothing of this kind differs.")).to_be_visible()


def test_ten_thousand_differences_are_turned_a_page_at_a_time(
    tmp_path: Path, start_page: Callable, open_tab: Callable
) -> None:
    served = start_page(made(tmp_path, MANY), "--compare", str(tmp_path / "again.db"))
    tab = open_tab(served)
    page = tab.open(served.look)
    tab.go("Compare")
    rows = page.get_by_role("table", name="What differs").locator("tbody tr")
    expect(rows).to_have_count(100)
    expect(page.get_by_text("1 to 100 of 10,000")).to_be_visible()
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("101 to 200 of 10,000")).to_be_visible()
    tab.move("/compare?skip=9900")
    expect(page.get_by_text("9,901 to 10,000 of 10,000")).to_be_visible()
    expect(page.get_by_role("link", name="Next")).to_be_hidden()
    page.get_by_role("link", name="Before").click()
    expect(page.get_by_text("9,801 to 9,900 of 10,000")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_no_comparison_scrolls_sideways_and_hostile_text_is_text(
    day: Path, start_page: Callable, open_tab: Callable, size: str, scheme: str
) -> None:
    served = start_page(day, "--compare", str(day.with_name("again.db")))
    tab = open_tab(served, size=size, scheme=scheme)
    page = tab.open(served.look)
    for address in (
        "/compare",
        "/compare?kind=new",
        "/compare?kind=other",
        "/compare?type=validated_decision",
    ):
        tab.move(address)
        row = page.get_by_role("table", name="What differs").locator("tbody tr").first
        expect(row).to_be_visible()
        tab.assert_nothing_scrolls_sideways()
        row.locator("a").first.click()
        expect(page.get_by_label("One difference")).to_be_visible()
        tab.assert_nothing_scrolls_sideways()
        assert page.locator("main img").count() == 0
        assert "owned" not in page.title()


def test_a_page_without_another_journal_says_how_to_name_one(
    day: Path, start_page: Callable, open_tab: Callable
) -> None:
    served = start_page(day)
    tab = open_tab(served)
    tab.expects("404")
    page = tab.open(served.look)
    expect(page.get_by_role("navigation").get_by_role("link", name="Compare")).to_be_hidden()
    tab.move("/compare")
    expect(page.get_by_role("alert")).to_contain_text("--compare FILE")
