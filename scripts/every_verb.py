"""Use every verb of an installed `openoutcry` once, on a real journal, in an empty folder.

    ENVIRONMENT/bin/python every_verb.py FOLDER

A verb works, or ends with 2 and says what it misses and how to get it. Needs only the standard library beside
what is installed, and ends with 1 at the first verb that does neither, or that is not tried here.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

import openoutcry
from openoutcry.cli import main
from openoutcry.journals import SqliteJournal
from openoutcry.ports import Changes, Entry, Header, Snapshot

COMMAND = Path(sys.executable).with_name("openoutcry")
LIMIT_S = 300
APP = """
from openoutcry import NO_RETRY, KillSwitchEvent, SignalEvent


def fail(event):
    raise ValueError("no account")


async def app(bus):
    bus.subscribe("signal", lambda event: None, name="desk")
    bus.subscribe("signal", fail, name="books", retry=NO_RETRY)
    bus.subscribe("kill_switch", lambda event: None, name="risk")
    yield
    for number in range(10):
        await bus.publish(SignalEvent(symbol="AAPL", direction="long", strategy_name="trend", confidence=0.5))
    await bus.publish(KillSwitchEvent(scope="ES", reason="drill", source_agent="risk", activated=True))


async def waiting(bus):
    bus.subscribe("signal", lambda event: None, name="desk")
    bus.subscribe("kill_switch", lambda event: None, name="risk")
    yield
    print("ready", flush=True)
    await bus.run_until_signal()
"""
SETTINGS = '[bus]\ncontrol_releaser = "operator"\n\n[persistence]\npath = "firm.db"\n'
FIRM = f'firm = "alpha"\n[desks.floor]\nkey = "U{"A" * 55}"\n'
BARS = "time,symbol,open,high,low,close,volume\n2026-01-02T21:00:00Z,AAPL,1,3,1,2,10\n"
HAS_OTEL = all(importlib.util.find_spec(name) for name in ("opentelemetry", "opentelemetry.sdk"))
HAS_MCP = importlib.util.find_spec("mcp") is not None
HAS_PAGE = importlib.util.find_spec("starlette") is not None
HAS_NATS = all(importlib.util.find_spec(name) for name in ("nats", "nkeys"))
HAS_ARROW = importlib.util.find_spec("pyarrow") is not None

CALLS: dict[str, list[list[str]]] = {
    "run": [["firm:app", "--config", "firm.toml"]],
    "stats": [["firm.db"], ["firm.db", "--json"]],
    "tail": [["firm.db"]],
    "rounds": [["firm.db"]],
    "index": [["firm.db"]],
    "explain": [["firm.db", "#1"], ["firm.db", "#1", "--forward", "--json"]],
    "history": [["firm.db", "--type", "signal", "--json"]],
    "pending": [["firm.db", "--list"]],
    "cursors list": [["firm.db"]],
    "dlq list": [["firm.db"]],
    "dlq show": [["firm.db", "1"]],
    "halts": [["firm.db"], ["firm.db", "--release-scope", "ES", "--reason", "reviewed"]],
    "verify": [["firm.db"]],
    "anchor": [["firm.db"]],
    "export": [["firm.db", "-o", "firm.jsonl"], ["firm.db", "-o", "firm.csv"]],
    "backup": [["firm.db", "copy.db"]],
    "restore": [["copy.db", "firm.db"]],
    "recover": [["firm.db", "--dry-run"], ["firm.db", "new.db"]],
    "doctor": [[], ["firm.db"], ["firm.db", "--app", "firm:app"]],
    "dlq redrive": [["firm.db", "--id", "1"]],
    "redrive": [["firm.db", "--subscription", "books", "--yes"]],
    "dlq drop": [["firm.db", "--all"]],
    "cursors reassign": [["firm.db", "books", "ledger"]],
    "cursors drop": [["firm.db", "ledger"]],
    "retire": [["firm.db", "--keep-count", "2"]],
    "vacuum": [["firm.db"]],
    "firm audit": [["desks"], ["desks", "--json"]],
    "firm permissions": [["FIRM.toml"]],
    "demo": [
        ["--days", "60", "--plain", "--report", "report.html"],
        ["--days", "5", "--plain", "--record", "day.db"],
        ["--crash", "--days", "30", "--kills", "2", "--plain"],
    ],
    "replay": [
        ["day.db"],
        ["day.db", "--json"],
        [
            "bars.csv",
            "--app",
            "openoutcry.firm:app",
            "--broker",
            "openoutcry.firm:venue",
            "--into",
            "again.db",
        ],
    ],
}
"""What each verb is called with, in an order in which each finds what it needs."""
BESIDE_A_BUS: dict[str, list[str]] = {
    "status": ["firm.db"],
    "top": ["firm.db", "--count", "1", "--every", "0.1"],
    "metrics": ["firm.db", "--once"],
    "pause": ["firm.db", "desk", "--yes"],
    "resume": ["firm.db", "desk", "--yes"],
    "halt": ["firm.db", "--scope", "NQ", "--reason", "drill", "--yes"],
    "release": ["firm.db", "--scope", "NQ", "--reason", "reviewed", "--yes"],
}
MISSING: dict[str, tuple[list[str], str]] = {
    "bench": (["--help"], "the benchmarks are not part of the installed package: clone the repository"),
}
"""What does not work from a wheel, and what it says."""
NO_SERVER = ["--firm", "alpha", "--server", "nats://127.0.0.1:9"]
UNREACHED: dict[str, tuple[list[str], int]] = {
    "firm status": (NO_SERVER, 3),
    "firm lag": (NO_SERVER, 3),
    "firm doctor": (NO_SERVER, 1),
    "firm trim": ([*NO_SERVER, "--yes"], 3),
    "firm drop": (["street", *NO_SERVER, "--yes"], 3),
    "firm release": ([*NO_SERVER, "--at", "firm.db", "--reason", "reviewed", "--yes"], 3),
}
"""What asks servers, of which there are none here, and what it ends with then."""
if not HAS_NATS:
    doctor = UNREACHED.pop("firm doctor")
    MISSING |= {verb: (words, "pip install 'openoutcry[nats]'") for verb, (words, _) in UNREACHED.items()}
    UNREACHED = {"firm doctor": doctor}  # it says so as well, among what it finds
TRACES = ["firm.db", "--otlp", "http://127.0.0.1:9", "--since", "2100-01-01"]
if HAS_OTEL:
    CALLS["traces"] = [TRACES]
else:
    MISSING["traces"] = (TRACES, "pip install 'openoutcry[otel]'")
if HAS_MCP:
    CALLS["mcp"] = [["firm.db"]]  # it ends with its input, of which there is none
else:
    MISSING["mcp"] = (["firm.db"], "pip install 'openoutcry[mcp]'")
if not HAS_PAGE:
    MISSING["page"] = (["firm.db"], "pip install 'openoutcry[page]'")
if not HAS_ARROW:
    MISSING["export"] = (["firm.db", "-o", "firm.parquet"], "pip install 'openoutcry[arrow]'")
else:
    CALLS["export"].append(["firm.db", "-o", "firm.parquet"])


def fail(what: str, done: "subprocess.CompletedProcess[str] | None" = None) -> NoReturn:
    """End with 1."""
    sys.exit(f"{what}\n{done.stdout}{done.stderr}" if done is not None else what)


def call(*words: str, code: int = 0) -> str:
    """Call the command, which must end with a code; return what it printed."""
    done = subprocess.run(
        [COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != code:
        fail(f"openoutcry {' '.join(words)} ended with {done.returncode} instead of {code}:", done)
    if (
        "Traceback (most recent call last)" in done.stderr and words[0] != "run"
    ):  # which logs what handlers raise
        fail(f"openoutcry {' '.join(words)} printed a traceback:", done)
    print("ok", "openoutcry", *words, flush=True)
    return done.stdout + done.stderr


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield every verb that does something."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield " ".join(path)


def make_desks(folder: Path) -> None:
    """Make the journals of two desks, one of which has imported what the other one made."""
    folder.mkdir()
    made = Entry("e-1", b'{"event_id":"e-1","event_type":"order"}')
    with SqliteJournal(folder / "floor.db") as floor, SqliteJournal(folder / "street.db") as street:
        floor.write([made], Changes(snapshots=[state("(link)", desk="floor")]))
        come: dict[str, Any] = {"run": f"{floor.origin}:1:0", "position": 1}
        taken = Entry(made.event_id, made.payload, header=Header(desk="floor"))
        notes = [
            state("(link)", desk="street", imports=["*"]),
            *(state(f"(link:floor:{log})", **come) for log in ("high", "normal")),
        ]
        street.write([taken], Changes(snapshots=notes))


def state(name: str, **of: Any) -> Snapshot:
    """Return what a link notes in a journal."""
    text = json.dumps(of).encode()
    return Snapshot(subscription=name, form="json", is_needed=False, lanes={}, state=text)


def check_version() -> None:
    """See that the version is the same wherever it is read."""
    installed = importlib.metadata.version("openoutcry")
    if not openoutcry.__version__ == installed == call("--version").split()[-1]:
        fail(f"__version__ is {openoutcry.__version__}, the metadata say {installed}")
    if "site-packages" not in (openoutcry.__file__ or ""):
        fail(f"this is not an installed openoutcry: {openoutcry.__file__}")


def look_at_the_page() -> None:
    """Serve the page, log in, and load the first screen with all that it names."""
    page: subprocess.Popen[Any] = subprocess.Popen(
        [COMMAND, "page", "firm.db", "--port", "0", "--no-open"], stdout=subprocess.PIPE, text=True
    )
    try:
        address = "" if page.stdout is None else page.stdout.readline().partition(": ")[2].strip()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with browser.open(address, timeout=LIMIT_S) as answer:
            shown, there = answer.read().decode(), answer.geturl()
        names = re.findall(r'(?:src|href)="(/static/[^"]+)"', shown)
        for name in ("/api/me", "/api/journal", *names):
            with browser.open(urllib.parse.urljoin(there, name), timeout=LIMIT_S) as answer:
                answer.read()
        if not names:
            fail(f"the page has no script: {shown[:500]}")
        page.send_signal(signal.SIGTERM)
        page.communicate(timeout=LIMIT_S)
    finally:
        page.kill()
    if page.returncode:
        fail(f"the page ended with {page.returncode} after SIGTERM")
    print("ok openoutcry page", flush=True)


def beside_a_bus() -> None:
    """Try what asks a running bus, and end that with SIGTERM."""
    firm: subprocess.Popen[Any] = subprocess.Popen(
        [COMMAND, "run", "firm:waiting", "--config", "firm.toml"], stdout=subprocess.PIPE, text=True
    )
    try:
        if firm.stdout is None or "ready" not in firm.stdout.readline():
            fail("the firm has not started")
        for verb, words in BESIDE_A_BUS.items():
            call(verb, *words)
        if HAS_PAGE:
            look_at_the_page()
        firm.send_signal(signal.SIGTERM)
        firm.communicate(timeout=LIMIT_S)
    finally:
        firm.kill()
    if firm.returncode:
        fail(f"the firm ended with {firm.returncode} after SIGTERM")


def try_all(folder: Path) -> None:
    """Try every verb in a folder."""
    os.chdir(folder)
    Path("firm.py").write_text(APP, encoding="utf-8")
    Path("firm.toml").write_text(SETTINGS, encoding="utf-8")
    Path("FIRM.toml").write_text(FIRM, encoding="utf-8")
    Path("bars.csv").write_text(BARS, encoding="utf-8")
    make_desks(Path("desks"))
    check_version()
    verbs = set(leaves(main))
    if untried := verbs - CALLS.keys() - BESIDE_A_BUS.keys() - MISSING.keys() - UNREACHED.keys() - {"page"}:
        fail(f"these verbs are not tried: {', '.join(sorted(untried))}")
    call("--help")
    for verb, calls in CALLS.items():
        for words in calls if verb in verbs else ():
            call(*verb.split(), *words)
        if verb == "run":
            beside_a_bus()
    for verb, (words, code) in UNREACHED.items():
        call(*verb.split(), *words, code=code)
    for verb, (words, said) in MISSING.items():
        if said not in call(*verb.split(), *words, code=2):
            fail(f"openoutcry {verb} does not say what it misses: {said}")


if __name__ == "__main__":
    try_all(Path(sys.argv[1]).resolve())
