"""Every state has an address: back works, Escape closes, / searches, and the tail waits for whoever reads."""

from browser_kit import expect, needs_browser

pytestmark = needs_browser


def focused(tab) -> str:
    return tab.page.evaluate(
        "() => document.activeElement.textContent.trim() || document.activeElement.name || ''"
    )


def test_a_subscription_is_opened_closed_and_gone_back_to_by_keyboard(shared_page, open_tab):
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.look)
    link = page.get_by_role("table").get_by_role("link", name="oracle")
    link.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(tab.origin + "/s/oracle")
    expect(page.get_by_role("heading", name="oracle")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page).to_have_url(tab.origin + "/")
    page.wait_for_function("() => document.activeElement.getAttribute('href') === '/s/oracle'")
    page.go_back()
    expect(page).to_have_url(tab.origin + "/s/oracle")
    expect(page.get_by_role("heading", name="oracle")).to_be_visible()


def test_a_group_is_unfolded_in_its_node_and_leads_to_its_members(shared_page, open_tab):
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.look)
    group = page.locator(".map a[aria-expanded=false]").first
    group.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/?open=*")
    member = page.locator(".map a[href='/s/laggard']")
    member.click()
    expect(page).to_have_url(tab.origin + "/s/laggard")


def test_a_slash_leads_to_the_search_and_escape_leaves_the_field(shared_page, open_tab):
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.look)
    page.keyboard.press("/")
    expect(page.get_by_label("text", exact=True)).to_be_focused()
    page.keyboard.type("risk")
    tab.wait_for_another_pulse()  # which leaves alone what is being written
    page.keyboard.press("Enter")
    expect(page).to_have_url(tab.origin + "/events?text=risk")
    page.get_by_label("text", exact=True).focus()
    page.keyboard.press("Escape")
    expect(page.get_by_label("text", exact=True)).not_to_be_focused()


def test_the_newest_events_wait_for_whoever_reads_further_down(shared_page, open_tab):
    tab = open_tab(shared_page)
    page = tab.log_in(shared_page.look)
    tab.open("/events")
    first = page.get_by_role("table", name="Events").locator("tbody tr").first
    before = first.inner_text()
    page.wait_for_function("(before) => document.querySelector('tbody tr').innerText !== before", arg=before)
    pane = page.get_by_role("region", name="Events, newest first")
    pane.evaluate("(pane) => { pane.scrollTop = 120; }")
    button = page.get_by_role("button", name="back to the newest")
    expect(button).to_contain_text("newer")
    held = first.inner_text()
    count = int(button.inner_text().split()[0])
    page.wait_for_function(
        "(least) => parseInt(document.querySelector('.newer').innerText) > least", arg=count
    )
    assert first.inner_text() == held
    button.click()
    expect(button).to_have_count(0)
    assert first.inner_text() != held
