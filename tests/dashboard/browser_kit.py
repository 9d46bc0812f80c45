"""A firm, a page and a browser, each a real process; whatever the browser complains of fails the test."""

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIRM = Path(__file__).with_name("small_firm.py")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LIMIT_S = 300
"""No test waits for less: a machine that is slow fails nothing, and one that hangs is found."""
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "laptop": (1280, 800), "wall": (1920, 1080)}
SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

sync_api: Any = None
with suppress(ImportError):
    from playwright import sync_api
expect: Any = None if sync_api is None else sync_api.expect
if expect is not None:
    expect.set_options(timeout=LIMIT_S * 1000)

MISSING = [name for name, it in (("chromium", CHROMIUM), ("playwright", sync_api)) if it is None]
needs_browser = pytest.mark.skipif(
    bool(MISSING) and not os.environ.get("OPENOUTCRY_TESTS_NEED_ALL"),
    reason=f"the browser tests need {' and '.join(MISSING)}",
)

# In every document, before anything of the page: what the policy has stopped, when pulses came, and how late a
# timer is on this machine, which is no fault of the page.
WATCH = """
window.seen = { violations: [], pulseAt: 0, changes: [], timerLateBy: 0 };
document.addEventListener("securitypolicyviolation", (e) => seen.violations.push(e.violatedDirective + " " + e.blockedURI));
const add = EventSource.prototype.addEventListener;
EventSource.prototype.addEventListener = function (type, listener, ...rest) {
  if (type !== "pulse") return add.call(this, type, listener, ...rest);
  return add.call(this, type, function (event) { seen.pulseAt = performance.now(); return listener.call(this, event); }, ...rest);
};
let due = performance.now() + 50;
setInterval(() => { const now = performance.now(); seen.timerLateBy = Math.max(seen.timerLateBy, now - due); due = now + 50; }, 50);
const look = () => {
  const state = document.querySelector("header .state b")?.textContent;
  if (state && state !== seen.changes.at(-1)?.state) seen.changes.push({ state, at: performance.now(), pulseAt: seen.pulseAt });
};
new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
"""

MOVE = """(address) => {
  history.pushState(null, "", address);
  dispatchEvent(new Event("popstate"));
}"""
SIDEWAYS = """
() => [...document.querySelectorAll("*")]
  .filter((e) => e === document.documentElement || ["auto", "scroll"].includes(getComputedStyle(e).overflowX))
  .filter((e) => e.clientWidth && e.scrollWidth > e.clientWidth + 1)
  .map((e) => `${e.tagName}.${e.className}: ${e.scrollWidth} > ${e.clientWidth}`)
"""


class Process:
    """A program that prints what others wait for, and is ended with the test."""

    def __init__(self, *words: str | Path, cwd: Path) -> None:
        self.said = ""
        self.errors = cwd / f"stderr-{time.monotonic_ns()}.txt"
        with self.errors.open("w") as errors:
            self.it = subprocess.Popen(
                [sys.executable, "-W", "error", *map(str, words)],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=ENVIRONMENT,
            )

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read what it prints until this is found."""
        assert self.it.stdout is not None
        deadline = time.monotonic() + LIMIT_S
        while (found := re.search(pattern, self.said)) is None:
            ready, _, _ = select.select([self.it.stdout], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self.it.stdout.fileno(), 65536) if ready else b""
            if not more:
                raise AssertionError(f"no {pattern!r} in {self.said!r}; {self.errors.read_text()[-4000:]}")
            self.said += more.decode()
        return found

    def send(self, number: signal.Signals) -> None:
        self.it.send_signal(number)

    def kill(self) -> None:
        """End it as the out-of-memory killer does."""
        self.it.kill()
        self.it.wait(LIMIT_S)

    def close(self) -> None:
        self.kill()
        if self.it.stdout is not None:
            self.it.stdout.close()


class Firm:
    """The small firm in a folder: one life after another."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder, self.journal, self.options = folder, folder / "firm.db", options
        self.process: Process | None = None

    def start(self) -> "Firm":
        self.process = Process(FIRM, self.folder, *self.options, cwd=self.folder)
        self.process.wait_for("ready\n")
        return self

    def wait_for_rounds(self) -> None:
        """Wait until three rounds are over."""
        assert self.process is not None
        self.process.wait_for("three rounds\n")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None

    def mend(self) -> None:
        """Let the booker's database come back."""
        (self.folder / "mended").touch()

    def assert_well(self) -> None:
        """Fail if it has ended, as it does when somebody asks for its status."""
        assert self.process is not None
        assert self.process.it.poll() is None, self.process.errors.read_text()[-2000:]


class PageProcess:
    """`openoutcry page` beside a journal, with the addresses that it prints."""

    def __init__(self, journal: Path, *options: str) -> None:
        words: tuple[str | Path, ...] = (
            "-m",
            "openoutcry",
            "page",
            journal,
            "--port",
            "0",
            "--no-open",
            *options,
        )
        self.process = Process(*words, cwd=journal.parent)
        self.look, self.act = self.process.wait_for(
            r"(?s)(http://\S+/login\?token=\S+).*?(http://\S+/login\?token=\S+)"
        ).groups()
        self.origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.look))

    def close(self) -> None:
        self.process.close()


class Tab:
    """A tab of a browser of its own, logged in or not, and what there is to complain of."""

    def __init__(self, browser: "Browser", origin: str, size: str = "laptop", scheme: str = "light") -> None:
        width, height = SIZES[size]
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(LIMIT_S * 1000)
        self.context.add_init_script(WATCH)
        self.origin, self.complaints, self.expected = origin, [], []
        self.page: Page = self.context.new_page()
        watch: Any = self.page.on
        watch("console", self._console)
        watch("pageerror", lambda error: self.complaints.append(f"raised: {error}"))
        watch("request", self._request)
        watch("requestfailed", self._failed)
        watch("response", self._response)
        watch("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def _console(self, message: Any) -> None:
        said = f"{message.text} ({message.location.get('url', '')})"
        if message.type in ("error", "warning") and not self._is_expected(said):
            self.complaints.append(f"console: {said}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.origin + "/", "data:")):
            self.complaints.append(f"request to elsewhere: {request.url}")

    def _failed(self, request: Any) -> None:
        # A stream ends with its document; a request that a newer one has made pointless is given up.
        if request.failure != "net::ERR_ABORTED" and not self._is_expected(request.url, request.failure):
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def _response(self, response: Any) -> None:
        if response.status >= 400 and not self._is_expected(response.url, str(response.status)):
            self.complaints.append(f"answered {response.status}: {response.url}")

    def _is_expected(self, *texts: str) -> bool:
        return any(pattern in text for pattern in self.expected for text in texts)

    def expects(self, *patterns: str) -> None:
        """Let what says one of these pass: it is what the test is about."""
        self.expected += patterns

    def open(self, address: str) -> "Page":
        self.page.goto(address if address.startswith("http") else self.origin + address)
        return self.page

    def move(self, address: str) -> None:
        """Go to a screen as a link of the page does, without loading the page again."""
        self.page.evaluate(MOVE, address)

    def log_in(self, address: str) -> "Page":
        """Log in, and wait for the first pulse."""
        self.open(address)
        self.wait_for_pulse()
        return self.page

    def go(self, screen: str) -> None:
        """Click on the link of a screen below the bar."""
        self.page.get_by_role("navigation", name="Screens").get_by_role("link", name=screen).click()

    def wait_for_pulse(self) -> None:
        self.page.wait_for_function("() => window.seen.pulseAt > 0")

    def wait_for_another_pulse(self) -> None:
        """Wait until what the page shows is newer than now."""
        before = self.page.evaluate("() => window.seen.pulseAt")
        self.page.wait_for_function("(before) => window.seen.pulseAt > before", arg=before)

    def assert_nothing_scrolls_sideways(self) -> None:
        wide = self.page.evaluate(SIDEWAYS)
        assert not wide, f"{self.page.url}: {wide}"

    def assert_no_complaint(self) -> None:
        if not self.page.is_closed():
            self.complaints += self.page.evaluate("() => window.seen ? window.seen.violations : []")
        assert not self.complaints, "\n".join(self.complaints)

    def close(self) -> None:
        self.context.close()


@contextmanager
def opened(browser: "Browser", page: PageProcess, **how: str) -> Iterator[Tab]:
    """Open a tab, and hold it to having nothing to complain of."""
    tab = Tab(browser, page.origin, **how)
    try:
        yield tab
        tab.assert_no_complaint()
    finally:
        tab.close()


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Start the browser of this machine, without a network of its own."""
    assert not MISSING, f"CI has everything: {MISSING}"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        try:
            yield browser
        finally:
            browser.close()


def text_of(place: "Locator") -> str:
    return re.sub(r"\s+", " ", place.inner_text())
