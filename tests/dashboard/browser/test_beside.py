"""Who may come in, who may not, and who is beside: other pages, a `top`, tabs that never read, other sites."""

import http.client
import http.server
import json
import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from browser_kit import ENVIRONMENT, LIMIT_S, PageProcess, Tab, expect, needs_browser

pytestmark = needs_browser
UNREAD_TABS = 3
PULSES = 12


def test_a_wrong_token_is_refused_in_a_sentence(shared_page, open_tab):
    tab = open_tab(shared_page)
    tab.expects("403", "401", "/favicon.ico")
    answer = tab.page.goto(f"{shared_page.origin}/login?token={'x' * 32}")
    assert answer.status == 403
    expect(tab.page.locator("body")).to_contain_text("token is wrong")
    tab.open("/")
    expect(tab.page.get_by_role("heading", name="Not logged in")).to_be_visible()


def test_a_token_and_a_cookie_of_an_earlier_start_are_refused(shared_firm, open_tab):
    before = PageProcess(shared_firm.journal, "--act")
    tab = open_tab(before)
    tab.expects(
        "403",
        "401",
        "/favicon.ico",
        "ERR_CONNECTION_REFUSED",
        "ERR_INCOMPLETE_CHUNKED_ENCODING",
        "ERR_CONNECTION_RESET",
    )
    try:
        tab.log_in(before.look)
        expect(tab.page.locator("svg.graph")).to_be_visible()  # so that nothing is being loaded
    finally:
        before.close()
    after = PageProcess(shared_firm.journal, "--act", "--port", str(urlsplit(before.origin).port))
    try:
        assert after.origin == before.origin
        expect(tab.page.get_by_role("heading", name="Not logged in")).to_be_visible()
        assert tab.page.goto(before.look).status == 403
        tab.log_in(after.look)
    finally:
        tab.close()
        after.close()


def test_no_token_stays_in_the_address(shared_page, open_tab):
    tab = open_tab(shared_page)
    tab.log_in(shared_page.look)
    assert tab.page.url == f"{shared_page.origin}/"


@contextmanager
def other_site() -> Iterator[str]:
    """Serve an empty page of another origin on this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<link rel=icon href=data:,><p>elsewhere")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_another_site_in_the_same_browser_can_do_nothing(shared_page, open_tab):
    tab = open_tab(shared_page)
    tab.log_in(shared_page.act)
    with other_site() as site:
        other = tab.context.new_page()
        other.goto(site)
        for kind in ("text/plain", "application/json"):
            said = other.evaluate(
                """([address, kind]) => fetch(address, { method: "POST", credentials: "include", mode: kind === "text/plain" ? "no-cors" : "cors",
                headers: { "content-type": kind }, body: '{"scope": "firm", "reason": "x"}' }).then((r) => r.type, () => "refused")""",
                [f"{shared_page.origin}/api/halt", kind],
            )
            assert said in ("opaque", "refused")
        assert (
            other.evaluate(
                "(address) => fetch(address).then(() => 'read', () => 'refused')",
                f"{shared_page.origin}/api/me",
            )
            == "refused"
        )
        other.close()
    for _ in range(3):
        tab.wait_for_another_pulse()
    assert tab.page.evaluate("() => seen.changes.some((c) => c.state === 'Halted')") is False


def cookies_of(tab: Tab) -> str:
    return "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in tab.context.cookies())


def test_a_post_without_an_origin_is_refused_even_with_cookie_and_secret(firm, page, open_tab):
    tab = open_tab(page)
    tab.log_in(page.act)
    csrf = tab.page.evaluate("() => fetch('/api/me').then((r) => r.json()).then((me) => me.csrf)")
    body = json.dumps({"scope": "firm", "reason": "x"})
    whole = {
        "cookie": cookies_of(tab),
        "content-type": "application/json",
        "x-openoutcry": csrf,
        "origin": page.origin,
    }
    for missing, status in (("origin", 403), ("x-openoutcry", 403), ("cookie", 401), ("", 200)):
        line = http.client.HTTPConnection(urlsplit(page.origin).netloc, timeout=LIMIT_S)
        line.request(
            "POST", "/api/halt", body, {name: value for name, value in whole.items() if name != missing}
        )
        assert line.getresponse().status == status, missing
        line.close()


@contextmanager
def unread_tab(page: PageProcess, cookies: str) -> Iterator[None]:
    """Ask for the stream, and read nothing of it."""
    address = urlsplit(page.origin)
    with socket.create_connection((address.hostname, address.port)) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.sendall(
            f"GET /api/stream?tail=1 HTTP/1.1\r\nHost: {address.netloc}\r\nCookie: {cookies}\r\n\r\n".encode()
        )
        yield


def test_tabs_that_never_read_hold_up_nobody(shared_firm, shared_page, open_tab):
    tab = open_tab(shared_page)
    tab.log_in(shared_page.look)
    with unread_tab(shared_page, cookies_of(tab)), unread_tab(shared_page, cookies_of(tab)):
        for _ in range(PULSES):
            tab.wait_for_another_pulse()
    shared_firm.assert_well()


def test_two_pages_and_a_top_look_at_once_and_nobody_asks_for_the_status(shared_firm, shared_page, open_tab):
    second = PageProcess(shared_firm.journal, "--act")
    master, terminal = pty.openpty()
    top = subprocess.Popen(
        [sys.executable, "-m", "openoutcry", "top", str(shared_firm.journal)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(terminal)
    try:
        first_tab, second_tab = open_tab(shared_page), open_tab(second)
        first_tab.log_in(shared_page.look)
        second_tab.log_in(second.act)
        seen = b""
        while b"oracle" not in seen:
            seen += os.read(master, 65536)
        for _ in range(PULSES):
            first_tab.wait_for_another_pulse()
            second_tab.wait_for_another_pulse()
        shared_firm.assert_well()
    finally:
        top.kill()
        top.wait()
        os.close(master)
        second_tab.close()
        second.close()


def test_the_firm_of_these_tests_ends_when_somebody_asks_for_its_status(firm):
    subprocess.run(
        [sys.executable, "-m", "openoutcry", "status", str(firm.journal)],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    firm.process.it.wait(LIMIT_S)
    with pytest.raises(AssertionError, match="asked for its status"):
        firm.assert_well()


def test_a_planted_inline_script_is_found(shared_page, browser):
    tab = Tab(browser, shared_page.origin)
    try:

        def plant(route):
            answer = route.fetch()
            text = answer.text().replace("</head>", "<script>document.title = 'owned'</script></head>")
            route.fulfill(response=answer, body=text)

        tab.page.route(f"{shared_page.origin}/journal", plant)
        tab.log_in(shared_page.look)
        tab.open("/journal")
        expect(tab.page.get_by_role("table", name="Cursors")).to_be_visible()
        with pytest.raises(AssertionError, match="script-src"):
            tab.assert_no_complaint()
        assert tab.page.title() != "owned"
    finally:
        tab.close()


HIDE = """(is_hidden) => {
  Object.defineProperty(document, "hidden", { value: is_hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_tabs_in_the_background_leave_the_connections_to_the_one_that_is_looked_at(shared_page, open_tab):
    """A browser has six to a page, and a stream takes one for as long as it is open."""
    tab = open_tab(shared_page)
    first = tab.log_in(shared_page.look)
    tab.go("Events")
    others = []
    for _ in range(6):
        first.evaluate(HIDE, True)
        others.append(tab.page)
        tab.page = tab.context.new_page()
        tab.open("/")
        tab.wait_for_pulse()
        first = tab.page
    tab.page = others[0]
    tab.page.evaluate(HIDE, False)
    expect(tab.page.locator("header .state b")).not_to_have_text("Page lost")
    tab.wait_for_another_pulse()
    expect(tab.page.get_by_role("table", name="Events")).to_contain_text("signal")
