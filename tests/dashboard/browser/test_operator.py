"""What an operator does on the page: finds the culprit, halts, releases, has dead letters delivered again; by keyboard too."""

import re

from browser_kit import Tab, expect, needs_browser
from small_firm import HOSTILE

pytestmark = needs_browser
HEARD = re.compile(r"heard by 7 of 7 in ")
HALTED = re.compile("Halted")


def bar(tab: Tab):
    return tab.page.get_by_role("banner")


def hold_halt(tab: Tab) -> None:
    """Press the button until the firm is halted, as one does with the mouse."""
    tab.page.get_by_role("button", name="Halt", exact=True).hover()
    tab.page.mouse.down()
    expect(bar(tab).locator(".state b")).to_have_text(HALTED)
    tab.page.mouse.up()


def release(tab: Tab, reason: str) -> None:
    """Release what is halted, for a reason that is typed."""
    bar(tab).get_by_role("button", name="Release", exact=True).click()
    dialog = tab.page.get_by_role("dialog")
    button = dialog.get_by_role("button", name="Release")
    expect(button).to_be_disabled()
    dialog.get_by_label("Reason").fill(reason)
    button.click()
    expect(dialog).to_have_count(0)
    expect(bar(tab).locator(".state b")).not_to_have_text(HALTED)


def test_the_stuck_agent_is_found_from_the_bar_in_three_clicks(shared_page, open_tab):
    tab = open_tab(shared_page)
    tab.log_in(shared_page.look)
    tab.open("/journal")
    expect(bar(tab)).to_contain_text("oracle")  # it is the worst, and named there
    tab.go("Floor")
    tab.page.get_by_role("region", name="What is wrong").get_by_role(
        "link", name="Look at oracle"
    ).first.click()
    drawer = tab.page.get_by_label("Subscription oracle")
    expect(drawer.get_by_role("heading", name="oracle")).to_be_visible()
    expect(drawer).to_contain_text(re.compile(r"With market_data for \d"))


def test_every_agent_hears_a_halt_and_its_release_is_recorded_with_the_reason(firm, page, open_tab):
    tab = open_tab(page)
    tab.log_in(page.act)
    hold_halt(tab)
    expect(bar(tab)).to_contain_text(HEARD)
    release(tab, f"checked with the broker {HOSTILE}")
    tab.go("Journal")
    rows = tab.page.get_by_role("table", name="Actions of operators").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text(re.compile("release .*checked with the broker"))
    expect(rows.last).to_contain_text("halt firm")
    firm.assert_well()


def test_who_may_only_look_can_neither_halt_nor_release(firm, page, open_tab):
    looking, acting = open_tab(page), open_tab(page)
    looking.log_in(page.look)
    acting.log_in(page.act)
    looking.expects("403")
    expect(looking.page.get_by_role("button", name="Halt", exact=True)).to_be_disabled()
    for verb, body in (
        ("halt", {"reason": "x"}),
        ("release", {"reason": "x"}),
        ("pause", {"subscription": "trend"}),
    ):
        assert looking.page.evaluate(POST, [f"/api/{verb}", body]) == 403
    hold_halt(acting)
    expect(bar(looking).locator(".state b")).to_have_text(HALTED)
    expect(looking.page.get_by_role("button", name="Release", exact=True).first).to_be_disabled()
    assert looking.page.evaluate(POST, ["/api/release", {"reason": "x"}]) == 403
    expect(bar(acting).locator(".state b")).to_have_text(HALTED)


POST = """async ([address, body]) => {
  const { csrf } = await (await fetch("/api/me")).json();
  const headers = { "content-type": "application/json", "x-openoutcry": csrf };
  return (await fetch(address, { method: "POST", headers, body: JSON.stringify(body) })).status;
}"""


def test_dead_letters_are_tried_delivered_again_and_dropped(firm, page, open_tab):
    tab = open_tab(page)
    shown = tab.log_in(page.act)
    tab.go("Dead letters")
    groups = shown.get_by_role("table", name="Dead letters by subscription and error").locator("tbody tr")
    expect(groups).to_have_count(2)
    groups.first.click()
    one = shown.get_by_label("Dead letters of one kind")
    expect(one).to_contain_text("in handle")  # the traceback
    one.get_by_role("button", name="Try one first").click()
    expect(one.get_by_role("status")).to_contain_text("4 before, 4 now")
    firm.mend()
    one.get_by_role("button", name="Redrive all 3").click()
    shown.get_by_role("dialog").get_by_role("button", name="Redrive").click()
    expect(one.get_by_role("status")).to_contain_text("4 before, 1 now")
    shown.go_back()
    expect(groups).to_have_count(1)
    groups.first.click()
    one.get_by_role("button", name="Drop all 1").click()
    dialog = shown.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Drop")).to_be_disabled()
    dialog.get_by_label("Reason").fill("EURUSD is not traded any more")
    dialog.get_by_role("button", name="Drop").click()
    expect(one.get_by_role("status")).to_contain_text("1 before, 0 now")
    expect(shown.get_by_text("Nothing was given up.")).to_have_count(1)
    firm.assert_well()


SHOWS_FOCUS = """() => {
    const it = document.activeElement, box = it.closest(".node") && it.querySelector("rect");
    const has_frame = box && getComputedStyle(box).strokeWidth === "3px";  // a box of the topology
    return it === document.body || has_frame || getComputedStyle(it).outlineStyle !== "none";
}"""


def focused(tab: Tab) -> str:
    return tab.page.evaluate(
        "() => (document.activeElement.ariaLabel || document.activeElement.textContent).trim()"
    )


def tab_to(tab: Tab, name: str) -> None:
    """Press the tabulator until the focus is there, and see that it is visible on the way."""
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        assert tab.page.evaluate(SHOWS_FOCUS), focused(tab)
        if focused(tab) == name:
            return
    raise AssertionError(f"the tabulator does not lead to {name}")


def test_all_of_it_is_done_by_keyboard(firm, page, open_tab):
    tab = open_tab(page)
    shown = tab.log_in(page.act)
    shown.keyboard.press("Tab")
    assert focused(tab) == "To the content"
    shown.keyboard.press("Enter")
    assert shown.evaluate("() => document.activeElement.id") == "main"
    expect(shown.get_by_role("link", name="Look at oracle").first).to_be_visible()
    tab_to(tab, "Look at oracle")
    shown.keyboard.press("Enter")
    expect(shown.get_by_label("Subscription oracle")).to_be_visible()
    shown.keyboard.press("Escape")
    expect(shown.get_by_label("Subscription oracle")).to_have_count(0)
    shown.keyboard.press("/")
    expect(shown).to_have_url(re.compile("/events"))
    shown.reload()
    expect(
        shown.get_by_role("button", name="Halt", exact=True)
    ).to_be_enabled()  # else the tabulator passes it
    tab_to(tab, "Halt")
    shown.keyboard.press("Enter")
    shown.keyboard.press("Enter")
    expect(bar(tab).locator(".state b")).to_have_text(HALTED)
    expect(bar(tab)).to_contain_text(HEARD)
    shown.reload()
    expect(bar(tab).get_by_role("button", name="Release", exact=True)).to_be_enabled()
    tab_to(tab, "Release")
    shown.keyboard.press("Enter")
    dialog = shown.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Reason").focus()
    shown.keyboard.type("checked")
    shown.keyboard.press("Enter")
    expect(bar(tab).locator(".state b")).not_to_have_text(HALTED)


def test_a_single_enter_or_a_short_press_halts_nothing(shared_page, open_tab):
    tab = open_tab(shared_page)
    tab.log_in(shared_page.act)
    halt = tab.page.get_by_role("button", name="Halt", exact=True)
    halt.focus()
    tab.page.keyboard.press("Enter")
    tab.page.keyboard.press("Tab")
    halt.click()
    expect(tab.page.get_by_label("Halt", exact=True).last).to_be_visible()
    for _ in range(3):
        tab.wait_for_another_pulse()
    assert tab.page.evaluate("() => seen.changes.some((c) => c.state === 'Halted')") is False
