"""The screen of desks: who is heard, who is behind, and what is said when this desk is cut off."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_kit import SIZES, PageProcess, Process, expect, needs_browser
from small_firm import HOSTILE
from two_desks import AWAY, CUT, JOURNAL, SILENT, WORDS

pytestmark = needs_browser
PROGRAM = Path(__file__).parents[1] / "two_desks.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("desks")
    process = Process(PROGRAM, made, cwd=made)
    try:
        process.wait_for("ready\n")
        yield made
    finally:
        process.close()


@pytest.fixture(scope="module")
def desks_page(folder: Path) -> Iterator[PageProcess]:
    page = PageProcess(folder / JOURNAL, "--act")
    try:
        yield page
    finally:
        page.close()


@pytest.mark.parametrize(("size", "scheme"), list(zip(SIZES, ("light", "dark") * 2, strict=True)))
def test_the_other_desks_are_shown_and_nothing_scrolls_sideways(size, scheme, desks_page, open_tab):
    tab = open_tab(desks_page, size=size, scheme=scheme)
    page = tab.log_in(desks_page.look)
    tab.go("Desks")
    rows = page.get_by_role("table", name="Other desks").locator("tbody tr")
    expect(rows).to_have_count(4 + len(WORDS))
    said = {word: word for word in WORDS} | {"street": "up", "evil": "behind", SILENT: "silent", AWAY: "away"}
    for name, word in said.items():
        row = rows.filter(has=page.get_by_text(name, exact=True).and_(page.locator("b *, b")))
        link = row.locator("td").nth(1)
        expect(link).to_contain_text(word)
        assert link.evaluate("cell => cell.scrollWidth <= cell.clientWidth"), f"{word} is cut short"
    expect(page.get_by_role("table", name="Logs").locator("tbody tr")).to_have_count(2)
    expect(page.get_by_label("This desk")).to_contain_text("floor of alpha")
    tab.assert_nothing_scrolls_sideways()
    assert page.locator("img, iframe, main script").count() == 0
    assert "owned" not in page.title()


def test_what_another_desk_says_is_text(desks_page, open_tab):
    tab = open_tab(desks_page, size="wall")
    page = tab.log_in(desks_page.look)
    tab.go("Desks")
    expect(page.get_by_role("table", name="Other desks")).to_contain_text(HOSTILE)


def test_a_desk_that_is_cut_off_says_so_in_the_bar_and_is_up_again_when_it_is_not(
    folder, desks_page, open_tab
):
    tab = open_tab(desks_page)
    page = tab.log_in(desks_page.look)
    tab.go("Desks")
    (folder / CUT).touch()
    expect(page.get_by_label("This desk")).to_contain_text("no node answers")
    expect(
        page.get_by_role("table", name="Other desks").locator("tbody tr").filter(has_text="street")
    ).to_contain_text("silent")
    expect(page.locator("header .state .why")).to_have_text(re.compile("link|desk"))
    (folder / CUT).unlink()
    expect(
        page.get_by_role("table", name="Other desks").locator("tbody tr").filter(has_text="street")
    ).to_contain_text("up")
    expect(page.get_by_label("This desk")).not_to_contain_text("no node answers")


def test_a_firm_of_one_process_has_no_such_screen(shared_page, open_tab):
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.look)
    expect(page.get_by_role("navigation", name="Screens").get_by_role("link", name="Desks")).to_have_count(0)
    tab.open("/desks")
    expect(page.locator("main")).to_contain_text("This firm runs in one process")
