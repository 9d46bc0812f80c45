"""Take the pictures of the page that the docs show, from the demonstration with chaos.

    python -m scripts.screenshots [FOLDER] [--chromium PROGRAM]

Runs `openoutcry demo --page --chaos 7`, waits until an agent hangs, and writes a PNG for each of the SHOTS
into FOLDER (docs/images). Needs what ./test installs, and a chromium.
"""

import argparse
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, sync_playwright

ROOT: Final = Path(__file__).resolve().parent.parent
DEMO: Final = ("-m", "openoutcry", "demo", "--page", "--plain", "--chaos", "7", "--speed", "6")
SIZES: Final = {"laptop": (1280, 800), "phone": (390, 844)}
HANGS: Final = "volume-60"
"""Who hangs with this seed, from the 27th day on."""
SHOTS: Final = (
    ("page-overview", "/", "laptop", "light"),
    ("page-overview-dark", "/", "laptop", "dark"),
    ("page-subscription", f"/s/{HANGS}", "laptop", "light"),
    ("page-rounds", "/rounds", "laptop", "light"),
    ("page-phone", "/", "phone", "light"),
)
LIMIT_MS: Final = 120_000
REDUCE: Final = """async (picture) => {
  const image = await createImageBitmap(await (await fetch("data:image/png;base64," + picture)).blob());
  const brush = new OffscreenCanvas(image.width, image.height).getContext("2d");
  brush.drawImage(image, 0, 0);
  const { data } = brush.getImageData(0, 0, image.width, image.height), counts = new Map(), keys = [];
  for (let i = 0; i < data.length; i += 4) {
    const key = [0, 1, 2].reduce((sum, c) => (sum << 4) | Math.round(data[i + c] / 17), 0);
    counts.set(key, (counts.get(key) || 0) + 1);
    keys.push(key);
  }
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([key]) => key);
  const away = (a, b) => [8, 4, 0].reduce((sum, s) => sum + Math.abs(((a >> s) & 15) - ((b >> s) & 15)), 0);
  const nearest = new Map([...counts.keys()].map((k) =>
    [k, palette.reduce((best, p, i) => (away(p, k) < away(palette[best], k) ? i : best), 0)]));
  return { width: image.width, height: image.height, palette, pixels: keys.map((k) => nearest.get(k)) };
}"""
"""Gives a picture at most 256 colours, which is enough for text on flat grounds."""


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
        path.write_bytes(small_png(browser, page.screenshot()))
        context.close()
        print(f"{path}: {path.stat().st_size:,} bytes")


def small_png(browser: Browser, picture: bytes) -> bytes:
    """Return a PNG again with a palette, which makes it three times smaller."""
    page = browser.new_page()  # of its own: the policy of the firm's page forbids this
    found: dict[str, Any] = page.evaluate(REDUCE, b64encode(picture).decode())
    page.close()
    width, height = found["width"], found["height"]
    pixels = bytes(found["pixels"])
    rows = b"".join(b"\0" + pixels[at : at + width] for at in range(0, width * height, width))
    colours = bytes((key >> shift & 15) * 17 for key in found["palette"] for shift in (8, 4, 0))
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"PLTE", colours), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of the page that the docs show.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with demonstration() as login, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        shoot(browser, login, given.folder)
        browser.close()


if __name__ == "__main__":
    main()
