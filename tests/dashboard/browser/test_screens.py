"""Every screen at four sizes, light and dark: nothing scrolls sideways, nothing is complained of, text of others is text."""

import re
from urllib.parse import quote, urlencode

import pytest
from browser_kit import expect, needs_browser
from small_firm import HOSTILE, HOSTILE_NAME, HOSTILE_ROUND

pytestmark = needs_browser
FULL_TEXT = "9" * 5_000
SCREENS = {
    "/": "Subscriptions by lag",
    "/s/oracle": "oracle",
    f"/s/{quote(HOSTILE_NAME, safe='')}": HOSTILE_NAME,
    "/rounds": "Rounds, newest first",
    "/rounds?agent=laggard&status=quorate": "Rounds, newest first",
    f"/rounds/{quote(HOSTILE_ROUND, safe='')}": "When each agent answered",
    "/events": "Events",
    "/events?type=risk_alert": "Events",
    "/why": "Why",
    f"/why/{quote(HOSTILE_ROUND, safe='')}": "What led to it",
    "/dead": "Dead letters by subscription and error",
    "/dead?subscription=booker": "Dead letters by subscription and error",
    "/journal": "Cursors",
    "/desks": "Desks",
}


@pytest.mark.parametrize(
    ("size", "scheme"), [("phone", "dark"), ("tablet", "light"), ("laptop", "dark"), ("wall", "light")]
)
def test_no_screen_scrolls_sideways_or_complains(size, scheme, shared_firm, shared_page, open_tab):
    shared_firm.wait_for_rounds()
    tab = open_tab(shared_page, size=size, scheme=scheme)
    tab.log_in(shared_page.look)
    for address, what in SCREENS.items():
        tab.move(address)
        shown = tab.page.locator("main").get_by_label(what).or_(tab.page.locator("main h1", has_text=what))
        expect(shown.first).to_be_visible()
        tab.wait_for_another_pulse()
        tab.assert_nothing_scrolls_sideways()
        assert_hostile_text_is_inert(tab)
    shared_firm.assert_well()


def assert_hostile_text_is_inert(tab):
    assert tab.page.locator("img, iframe, object, main script, main b[onclick]").count() == 0
    assert "owned" not in tab.page.title()


def test_hostile_text_is_shown_as_it_is_and_a_long_one_in_part(shared_page, open_tab):
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.look)
    tab.open("/events?type=risk_alert")
    rows = page.get_by_role("table", name="Events").locator("tbody tr")
    expect(rows).to_have_count(2)  # however many pieces the search takes
    expect(rows.last).to_contain_text(HOSTILE)
    rows.first.click()
    detail = page.get_by_label("Event", exact=True)
    expect(detail).to_contain_text("the first 4 kB are shown")
    expect(detail.locator("pre")).to_contain_text("\\u202egnp.exe")
    assert FULL_TEXT not in detail.inner_text()
    detail.get_by_role("button", name="Show all of it").click()
    page.wait_for_function(
        "(text) => document.querySelector('aside pre').textContent.includes(text)", arg=FULL_TEXT
    )
    tab.assert_nothing_scrolls_sideways()
    assert_hostile_text_is_inert(tab)


def test_an_agent_that_is_always_late_or_never_answers_is_a_column(shared_firm, shared_page, open_tab):
    shared_firm.wait_for_rounds()
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.look)
    tab.go("Rounds")
    table = page.get_by_role("table", name="Rounds, newest first")
    expect(table.locator("tbody tr")).not_to_have_count(0)
    names = [head.get_attribute("title") for head in table.locator("thead .names th.cell").all()]
    late, missing = table.locator("thead tr.sum").all()
    expect(late.locator("td.cell").nth(names.index("laggard"))).to_have_text(re.compile(r"\d"))
    expect(missing.locator("td.cell").nth(names.index("mute"))).to_have_text(re.compile(r"\d"))
    for name in set(names) - {"laggard", "mute"}:
        expect(late.locator("td.cell").nth(names.index(name))).to_have_text("·")
        expect(missing.locator("td.cell").nth(names.index(name))).to_have_text("·")


def test_a_round_is_explained_with_its_arrivals_and_both_deadlines(shared_firm, shared_page, open_tab):
    shared_firm.wait_for_rounds()
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.look)
    tab.open(f"/rounds/{quote(HOSTILE_ROUND, safe='')}")
    timeline = page.get_by_role("table", name="When each agent answered")
    expect(timeline.get_by_role("row", name=re.compile("laggard"))).to_contain_text("late by")
    expect(timeline.get_by_role("row", name=re.compile("mute"))).to_contain_text("missing")
    expect(timeline.get_by_role("row", name=re.compile("carry"))).to_contain_text("abstained: no view on ES")
    expect(timeline).to_contain_text("signal time-out 200 ms")
    expect(timeline).to_contain_text("barrier time-out 400 ms")
    assert timeline.get_by_role("row", name=re.compile("laggard")).locator("circle").count() == 1
    expect(page.locator("main pre")).to_contain_text("mute")
    page.get_by_role("link", name="Back to the rounds").click()
    expect(page).to_have_url(re.compile("/rounds$"))
    page.go_back()
    expect(page.get_by_role("table", name="When each agent answered")).to_be_visible()


def test_the_journal_is_verified_beside_the_firm(shared_firm, shared_page, open_tab):
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.act)
    tab.go("Journal")
    expect(page.get_by_role("table", name="Starts").locator("tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_text("Intact:")).to_be_visible()
    shared_firm.assert_well()


def test_events_are_searched_for_by_the_time_that_the_field_names(shared_page, open_tab):
    tab = open_tab(shared_page)
    tab.log_in(shared_page.look)
    rows = tab.page.get_by_role("table", name="Events").locator("tbody tr")
    for before, after in (("2020-01-01 00:00", "2100-01-01"), ("2020-01-01T00:00Z", "2100-01-01 12:30:15")):
        tab.open("/events?" + urlencode({"type": "risk_alert", "since": before, "until": after}))
        expect(rows.first).to_be_visible()
        tab.open("/events?" + urlencode({"type": "risk_alert", "until": before}))
        expect(tab.page.get_by_text("No event fits")).to_be_visible()
