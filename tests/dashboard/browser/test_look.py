"""What the page looks like can be read: at least 4.5 to 1 between any text and what is behind it, light and dark."""

import pytest
from browser_kit import needs_browser

pytestmark = needs_browser
RATIO_MIN = 4.5
MEASURE = """() => {
  const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z + 0.05;
  };
  const behind = (element) => {
    const node = element.closest("g.node");
    if (node) return rgba(getComputedStyle([...node.querySelectorAll("rect:not(.line-of)")].pop()).fill);
    for (; element; element = element.parentElement) {
      const colour = rgba(getComputedStyle(element).backgroundColor);
      if (colour[3] > 200) return colour;
    }
    return rgba(getComputedStyle(document.body).backgroundColor);
  };
  const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest("title, datalist, noscript, option")) continue;
    if (!element.getBoundingClientRect().width) continue;
    const style = getComputedStyle(element), front = light(rgba(element.ownerSVGElement ? style.fill : style.color));
    const ground = light(behind(element));
    found.push([Math.max(front, ground) / Math.min(front, ground), texts.currentNode.data.trim().slice(0, 40)]);
  }
  return found;
}"""


def assert_readable(tab) -> None:
    found = tab.page.evaluate(MEASURE)
    assert len(found) > 10
    assert [one for one in found if one[0] < RATIO_MIN] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(scheme, shared_page, open_tab):
    tab = open_tab(shared_page, scheme=scheme)
    tab.log_in(shared_page.act)
    for address in ("/?open=strategies", "/s/oracle", "/rounds", "/events", "/dead", "/journal"):
        tab.move(address)
        tab.wait_for_another_pulse()
        tab.page.locator("main table, main .facts").first.wait_for()
        assert_readable(tab)


def test_what_is_halted_or_old_can_be_read_too(firm, page, open_tab):
    tab = open_tab(page)
    tab.log_in(page.act)
    tab.page.get_by_role("button", name="Halt", exact=True).focus()
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("button", name="Enter again").press("Enter")
    for state in (".state.halt", "main.old"):
        tab.page.locator(state).wait_for()
        for scheme in ("light", "dark"):
            tab.page.emulate_media(color_scheme=scheme)
            assert_readable(tab)
        firm.kill()


def test_a_text_that_does_not_stand_out_is_found(shared_page, open_tab):
    tab = open_tab(shared_page)
    tab.log_in(shared_page.look)
    tab.page.evaluate("document.documentElement.style.setProperty('--quiet', '#999')")
    assert any(ratio < RATIO_MIN for ratio, _ in tab.page.evaluate(MEASURE))
