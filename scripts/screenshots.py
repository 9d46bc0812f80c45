"""Take the pictures of the page that the docs show, from the demonstration with chaos.

    python -m scripts.screenshots [FOLDER] [--chromium PROGRAM]

Runs `openoutcry demo --page --chaos 7`, waits until an agent hangs, and writes a PNG for each of the SHOTS
into FOLDER (docs/assets). Needs what ./test installs, and a chromium.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, sync_playwright

ROOT: Final = Path(__file__).resolve().parent.parent
DEMO: Final = ("-m", "openoutcry", "demo", "--page", "--plain", "--chaos", "7", "--speed", "6")
SIZES: Final = {"laptop": (1280, 800), "phone": (390, 844)}
HANGS: Final = "volume-60"
"""Who hangs with this seed, from the 27th day on."""
SHOTS: Final = (
    ("page-floor", "/", "laptop", "light"),
    ("page-floor-dark", "/", "laptop", "dark"),
    ("page-subscription", f"/s/{HANGS}", "laptop", "light"),
    ("page-rounds", "/rounds", "laptop", "light"),
    ("page-events", "/events", "laptop", "light"),
    ("page-phone", "/", "phone", "light"),
)
LIMIT_MS: Final = 120_000


@contextmanager
def demonstration() -> Iterator[str]:
    """Run the demonstration, and yield the address with which one may act. It ends with the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, *DEMO], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            found = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout)))
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def shoot(browser: Browser, login: str, folder: Path) -> None:
    """Take every picture, each in a browser of its own, as soon as the bar names who hangs."""
    origin = login.partition("/login")[0]
    for name, address, size, scheme in SHOTS:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(login)
        page.goto(origin + address)
        page.locator(".bar .why", has_text=HANGS).wait_for(timeout=LIMIT_MS)
        page.wait_for_timeout(3_000)  # rates and charts need some pulses
        path = folder / f"{name}.png"
        page.screenshot(path=path)
        context.close()
        print(f"{path}: {path.stat().st_size:,} bytes")


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of the page that the docs show.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "assets")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with demonstration() as login, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        shoot(browser, login, given.folder)
        browser.close()


if __name__ == "__main__":
    main()
