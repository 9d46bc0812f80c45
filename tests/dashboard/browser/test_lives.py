"""What the page says when the firm, or its own process, is killed, stopped, and started again."""

import re
import signal

import pytest
from browser_kit import PageProcess, Tab, expect, needs_browser

pytestmark = needs_browser
NOTICED_MS = 2_000


def state_of(tab: Tab):
    return tab.page.locator("header .state b")


def wait_until_old(tab: Tab, words: str) -> dict:
    """Wait until the bar says that what is shown is old, and return when it did and when the last pulse had come."""
    expect(state_of(tab)).to_have_text(re.compile(words))
    expect(tab.page.locator("main")).to_have_class(re.compile(r"\bold\b"))
    return tab.page.evaluate(
        "(words) => seen.changes.find((c) => new RegExp(words).test(c.state))", f"^(?:{words})$"
    )


def assert_noticed_in_time(tab: Tab, change: dict) -> None:
    """Fail if the page took too long, by its own clock; a timer that is late is the machine's doing."""
    late_ms = tab.page.evaluate("() => seen.timerLateBy")
    assert change["at"] - change["pulseAt"] <= NOTICED_MS + late_ms


def wait_until_well(tab: Tab) -> None:
    tab.wait_for_another_pulse()
    expect(state_of(tab)).not_to_have_text(re.compile("Gone|Silent|Connecting|Not running"))
    expect(tab.page.locator("main")).not_to_have_class(re.compile(r"\bold\b"))


def test_a_killed_firm_is_noticed_within_two_seconds_and_goes_on_after_its_next_start(firm, page, open_tab):
    tab = open_tab(page)
    tab.log_in(page.look)
    wait_until_well(tab)
    firm.kill()
    assert_noticed_in_time(tab, wait_until_old(tab, "Gone|Silent"))
    expect(state_of(tab)).to_have_text("Gone")
    expect(tab.page.get_by_role("button", name="Halt", exact=True)).to_be_disabled()
    firm.start()
    wait_until_well(tab)
    tab.go("Journal")
    expect(tab.page.get_by_role("table", name="Starts").locator("tbody tr")).to_have_count(2)


def test_a_stopped_firm_is_noticed_within_two_seconds_and_goes_on_when_continued(firm, page, open_tab):
    tab = open_tab(page)
    tab.log_in(page.look)
    wait_until_well(tab)
    firm.send(signal.SIGSTOP)
    try:
        assert_noticed_in_time(tab, wait_until_old(tab, "Silent"))
    finally:
        firm.send(signal.SIGCONT)
    wait_until_well(tab)


def test_the_journal_of_a_firm_that_does_not_run_is_shown(firm, start_page, open_tab):
    firm.wait_for_rounds()
    firm.kill()
    page = start_page(firm.journal)
    tab = open_tab(page)
    tab.open(page.act)
    expect(state_of(tab)).to_have_text("Not running")
    tab.go("Dead letters")
    expect(tab.page.get_by_role("heading", name="4 dead letters")).to_be_visible()
    tab.page.get_by_role("link", name="KeyError").click()
    expect(tab.page.get_by_role("button", name="Try one first")).to_be_disabled()
    tab.go("Rounds")
    expect(tab.page.get_by_role("table", name="Rounds").locator("tbody th").first).to_be_visible()
    tab.go("Journal")
    expect(tab.page.get_by_text("not while it is stopped").first).to_be_visible()
    tab.page.get_by_role("button", name="Verify").click()
    expect(tab.page.get_by_text("Intact:")).to_be_visible()


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_a_page_whose_own_process_is_gone_says_so(is_killed, shared_firm, open_tab):
    page = PageProcess(shared_firm.journal, "--act")
    tab = open_tab(page)
    tab.expects(
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
        "ERR_EMPTY_RESPONSE",
    )
    try:
        tab.log_in(page.look)
        expect(tab.page.locator("svg.graph")).to_be_visible()  # so that nothing is being loaded
        if is_killed:
            page.close()
        else:
            page.process.send(signal.SIGSTOP)
        assert_noticed_in_time(tab, wait_until_old(tab, "Page lost|Silent"))
        assert tab.page.evaluate("() => document.title") != "owned"
    finally:
        tab.close()
        page.close()
