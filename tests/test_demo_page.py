"""`openoutcry demo --page`, as a person runs it: a process, an address, Ctrl-C."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.request import HTTPCookieProcessor, build_opener

import msgspec
import pytest
from click.testing import CliRunner

from openoutcry.cli import demo_page, main
from openoutcry.firm import DemoOptions
from openoutcry.firm.demo import build_house

LIMIT_S = 300
ROOT = Path(__file__).resolve().parent.parent


def scratch_folders(under: Path) -> list[Path]:
    return sorted(under.glob("openoutcry-*"))


def test_the_firm_and_its_page_run_until_ctrl_c_and_leave_nothing(tmp_path):
    words = ("-m", "openoutcry", "demo", "--page", "--plain", "--speed", "50", "--symbols", "IBM")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(tmp_path),
    }
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        limit = threading.Timer(LIMIT_S, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            address = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout)))[0]
            browser = build_opener(HTTPCookieProcessor(CookieJar()))
            with browser.open(address) as answer:
                assert b"/static/app.js" in answer.read()
            with browser.open(address.partition("/login")[0] + "/api/me") as answer:
                assert msgspec.json.decode(answer.read())["role"] == "act"
            assert len(scratch_folders(tmp_path)) > 0
            process.send_signal(signal.SIGINT)
            rest = process.communicate()[0]
        finally:
            limit.cancel()
            process.kill()
    assert process.returncode == 0, rest
    assert re.search(r"Closed after [\d,]+ trading days; the journal is removed\.", rest)
    assert scratch_folders(tmp_path) == []
    with pytest.raises(OSError, match="refused"):
        browser.open(address)


def test_after_the_last_day_the_firm_begins_anew_on_a_new_journal(monkeypatch, capsys):
    houses = []

    def build_and_count(options, journal=None):
        house = build_house(options, journal)
        if journal is not None:
            houses.append((house, journal.exists()))
            if len(houses) == 3:
                os.kill(os.getpid(), signal.SIGINT)
        return house

    async def show_nothing(self):
        await asyncio.Event().wait()

    monkeypatch.setattr(demo_page, "build_house", build_and_count)
    monkeypatch.setattr(demo_page._Demonstration, "_show", show_nothing)
    monkeypatch.setattr(demo_page, "REST_S", 0.0)
    assert demo_page.run_demo_page(DemoOptions(days=2, symbols=("IBM",), speed=1000.0, plain=True)) == 0
    assert [existed for _, existed in houses] == [False, False, False]
    assert [house.days_done for house, _ in houses[:2]] == [2, 2]
    assert re.search(r"Closed after [4-6] trading days", capsys.readouterr().out)


def test_a_page_that_ends_by_itself_ends_the_firm_with_what_it_said(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo_page, "_port", lambda: 70_000)  # which the page refuses
    done = CliRunner().invoke(main, ["demo", "--page", "--plain", "--speed", "50", "--symbols", "IBM"])
    assert done.exit_code != 0
    # (Within the tests' own process somebody else may have asked for the code before: then it is 255.)
    assert re.search(r"the page has ended by itself \(exit code (2|255)\)", done.output)
    assert "70000 is not in the range" in done.output
    assert scratch_folders(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--crash",), "--crash cannot be used together with --page: leave one of them out"),
        (("--desks",), "--desks cannot be used together with --page: leave one of them out"),
        (("--report", "x.html"), "--report cannot be used together with --page: leave one of them out"),
        (("--agents", "5"), "a firm takes 6 to 64 strategies"),
    ],
)
def test_what_does_not_go_with_the_page_is_refused(words, said):
    done = CliRunner().invoke(main, ["demo", "--page", *words])
    assert done.exit_code == 2
    assert said in done.output
