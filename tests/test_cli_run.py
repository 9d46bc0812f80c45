"""`openoutcry run`: the form of an app, what becomes of everything that it raises, signals at every stage, logging."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from process_kit import LIMIT_S, ROOT, finish, start_python

from openoutcry.cli import main
from openoutcry.journals import JournalReader

HEAD = """
import asyncio, contextlib, logging, os, signal, sys, threading
from openoutcry import BusClosed, EventBus, FillEvent, MarketDataEvent

kept = []

def tick(price=1.0):
    return MarketDataEvent(symbol="ES", price=price)

def wired(bus):
    bus.subscribe(MarketDataEvent, lambda event: print("tick", event.price, flush=True), name="screen")

async def fails_soon(text="no feed"):
    await asyncio.sleep(0.01)
    raise ConnectionError(text)
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory, as the current one; what the command imports is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if not name.startswith(("openoutcry", "uvloop", "rich")):
            del sys.modules[name]


def run(here: Path, code: str, *options: str, loop: str = "asyncio") -> Result:
    """Run `app` of this code in this process."""
    (here / "made.py").write_text(HEAD + textwrap.dedent(code), encoding="utf-8")
    return CliRunner().invoke(main, ["run", "made:app", "--loop", loop, *options])


def start(here: Path, code: str, *options: str) -> subprocess.Popen[str]:
    """Run `app` of this code in a process of its own, and return once it has printed `ready`."""
    (here / "made.py").write_text(HEAD + textwrap.dedent(code), encoding="utf-8")
    return start_python(here, "-m", "openoutcry", "run", "made:app", *options)


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_a_firm_runs_without_standard_files_and_none_of_its_own_takes_their_place(
    here: Path, loop: str
) -> None:
    code = """
        async def app(bus):
            with open("kept", "w") as kept:
                wired(bus)
                yield
                await bus.publish(tick())
                await bus.join()
                kept.write(str(kept.fileno()))
    """
    (here / "made.py").write_text(HEAD + textwrap.dedent(code), encoding="utf-8")
    command = [sys.executable, "-m", "openoutcry", "run", "made:app", "--loop", loop]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command],
        cwd=here, env=environment, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert closed.returncode == 0
    assert int((here / "kept").read_text()) > 2


# -- the form ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_an_async_generator_subscribes_starts_and_is_the_main_program(here: Path, loop: str) -> None:
    code = """
        async def app(bus):
            wired(bus)
            print("before", bus.is_running)
            try:
                yield
                print("after", bus.is_running)
                for price in (1.0, 2.0):
                    await bus.publish(tick(price))
                    await asyncio.sleep(0)
            finally:
                print("cleaned up")
    """
    result = run(here, code, loop=loop)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == ["before False", "after True"]
    assert {"tick 1.0", "tick 2.0", "cleaned up"} < set(lines)
    assert "made:app: the app ended" in result.stdout


@pytest.mark.parametrize("app", ["Firm", "firm", "AsyncFirm"])
def test_a_class_has_a_setup_and_perhaps_a_main(here: Path, app: str) -> None:
    code = f"""
        class Firm:
            def setup(self, bus):
                wired(bus)
                assert not bus.is_running

            async def main(self, bus):
                assert bus.is_running
                await bus.publish(tick())
                await asyncio.sleep(0)

        class AsyncFirm(Firm):
            async def setup(self, bus):
                await asyncio.sleep(0)
                wired(bus)

        firm = Firm()
        app = {app}
    """
    result = run(here, code)
    assert result.exit_code == 0, result.output
    assert "tick 1.0" in result.stdout


WITHOUT_MAIN = {
    "function": "def app(bus):\n    wired(bus)\n    asyncio.get_running_loop().call_later(0.05, ready)",
    "class": (
        "class app:\n    def setup(self, bus):\n"
        "        wired(bus)\n        asyncio.get_running_loop().call_later(0.05, ready)"
    ),
    "run_until_signal": (
        "async def app(bus):\n    wired(bus)\n    yield\n    ready()\n    print(repr(await bus.run_until_signal()))"
    ),
}


@pytest.mark.parametrize("form", WITHOUT_MAIN)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_firm_without_a_main_program_runs_until_it_is_stopped(
    here: Path, form: str, number: signal.Signals
) -> None:
    code = "\ndef ready():\n    print('ready', flush=True)\n\n" + WITHOUT_MAIN[form]
    exit_code, out, err = finish(start(here, code), number)
    assert exit_code == 0, err
    assert f"stopped by {number.name}" in out
    assert "ERROR" not in err


def test_what_handlers_need_stays_open_until_the_drain_is_over_with_run_until_signal(here: Path) -> None:
    code = """
        class Broker:
            is_open = False

        async def app(bus):
            broker = Broker()

            async def order(event):
                await asyncio.sleep(0.05)
                print("sent" if broker.is_open else "LOST", flush=True)

            bus.subscribe(MarketDataEvent, order)
            broker.is_open = True
            try:
                yield
                for price in (1.0, 2.0, 3.0):
                    await bus.publish(tick(price))
                print("ready", flush=True)
                await bus.run_until_signal()
            finally:
                broker.is_open = False
    """
    exit_code, out, err = finish(start(here, code), signal.SIGTERM)
    assert exit_code == 0, err
    assert out.count("sent") == 3
    assert "LOST" not in out


def test_a_failure_elsewhere_lets_run_until_signal_drain_before_the_clean_up(here: Path) -> None:
    code = """
        async def app(bus):
            wired(bus)
            yield
            kept.append(asyncio.create_task(fails_soon()))
            try:
                print("got", await bus.run_until_signal())
            finally:
                print("cleaned up, running:", bus.is_running)
    """
    result = run(here, code)
    assert result.exit_code == 1, result.output
    assert "got None\ncleaned up, running: False\n" in result.stdout
    assert "ConnectionError: no feed" in result.stderr


def test_the_commands_drain_time_out_is_the_limit_of_run_until_signal(here: Path) -> None:
    code = """
        async def app(bus):
            async def stuck(event):
                print("ready", flush=True)
                await asyncio.sleep(600)

            bus.subscribe(MarketDataEvent, stuck)
            yield
            await bus.publish(tick())
            await bus.run_until_signal(drain_timeout_s=500)
    """
    exit_code, _, err = finish(start(here, code, "--drain-timeout", "0.1"), signal.SIGTERM)
    assert exit_code == 3, err
    assert "draining for up to 0.1 s" in err


def test_set_up_and_main_program_are_one_task_so_a_task_group_may_span_the_yield(here: Path) -> None:
    code = """
        async def app(bus):
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                group.create_task(fails_soon())
                yield
                await asyncio.sleep(600)
    """
    result = run(here, code)
    assert result.exit_code == 1
    assert "ConnectionError: no feed" in result.stderr


def test_a_coroutine_function_still_works_and_is_deprecated(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = run(
        here, "async def app(bus):\n    wired(bus)\n    await bus.publish(tick())\n    await bus.join()\n"
    )
    assert result.exit_code == 0, result.output
    assert "tick 1.0" in result.stdout
    assert "made:app is a coroutine function" in caplog.text
    assert "deprecated" in caplog.text


MISTAKES = {
    "a second yield": ("async def app(bus):\n    yield\n    yield\n", "yields a second time, in line"),
    "no yield is reached": (
        "async def app(bus):\n    if bus is None:\n        yield\n",
        "returned before its yield",
    ),
    "a value": (
        "async def app(bus):\n    yield asyncio.sleep(1)\n",
        "yields coroutine: write a bare `yield`",
    ),
    "a forgotten yield": ("async def app(bus):\n    wired(bus)\n", "has no main program"),
    "nothing after it": (
        "async def app(bus):\n    wired(bus)\n    yield\n",
        "`await bus.run_until_signal()`",
    ),
    "a plain generator": ("def app(bus):\n    yield\n", "write `async def`"),
    "a context manager": (
        "@contextlib.asynccontextmanager\nasync def app(bus):\n    yield\n",
        "leave @asynccontextmanager out",
    ),
    "another bus": ("def app(bus):\n    return EventBus()\n", "returned another one, which would never run"),
    "a function": ("def app(bus):\n    return wired\n", "returned the function wired, which nobody calls"),
    "no setup": ("class app:\n    async def main(self, bus): ...\n", "is a class without setup(bus)"),
    "nothing": ("class app:\n    pass\n", "is a class without setup(bus)"),
    "an object without setup": (
        "class Firm:\n    async def main(self, bus): ...\n\napp = Firm()\n",
        "Firm has main but no setup(bus)",
    ),
    "setup without a bus": ("class app:\n    def setup(self): ...\n", "setup takes no argument"),
    "setup with a yield": (
        "class app:\n    async def setup(self, bus):\n        yield\n",
        "setup has a yield",
    ),
    "a plain main": (
        "class app:\n    def setup(self, bus): ...\n    def main(self, bus): ...\n",
        "write async def main(self, bus)",
    ),
    "a class that needs more": (
        "class app:\n    def __init__(self, broker): ...\n    def setup(self, bus): ...\n",
        "needs broker to be made",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistaken_app_is_told_in_one_line(here: Path, what: str) -> None:
    code, said = MISTAKES[what]
    result = run(here, code)
    assert result.exit_code == 2, result.output
    assert said in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert "never awaited" not in result.stderr


# -- what it raises ----------------------------------------------------------------------------------

RAISES = {
    "before the yield": (
        "async def app(bus):\n    raise KeyError('no book')\n    yield\n",
        "KeyError: 'no book'",
    ),
    "after the yield": (
        "async def app(bus):\n    yield\n    raise KeyError('no book')\n",
        "KeyError: 'no book'",
    ),
    "in setup": ("class app:\n    def setup(self, bus):\n        raise OSError('no db')\n", "OSError: no db"),
    "in the constructor": (
        "class app:\n    def __init__(self):\n        raise OSError('no db')\n    def setup(self, bus): ...\n",
        "OSError: no db",
    ),
    "in main": (
        "class app:\n    def setup(self, bus): ...\n    async def main(self, bus):\n        await fails_soon()\n",
        "ConnectionError: no feed",
    ),
    "in a group": (
        """
        async def app(bus):
            yield
            async with asyncio.TaskGroup() as group:
                group.create_task(fails_soon())
        """,
        "ConnectionError: no feed",
    ),
    "a BaseException": (
        "class Odd(BaseException): ...\n\nasync def app(bus):\n    yield\n    raise Odd('odd')\n",
        "Odd: odd",
    ),
    "a cancellation of its own": (
        "async def app(bus):\n    yield\n    raise asyncio.CancelledError('mine')\n",
        "CancelledError: mine",
    ),
    "in a task that is kept": (
        "def app(bus):\n    kept.append(asyncio.create_task(fails_soon()))\n",
        "ConnectionError: no feed",
    ),
    "in a task that nobody keeps": (
        "async def app(bus):\n    yield\n    asyncio.create_task(fails_soon())\n    await asyncio.sleep(600)\n",
        "ConnectionError: no feed",
    ),
    "in a callback": (
        "def app(bus):\n    asyncio.get_running_loop().call_later(0.01, [].pop)\n",
        "IndexError: pop from empty list",
    ),
}


@pytest.mark.parametrize("what", RAISES)
@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_whatever_the_app_raises_ends_the_run_with_its_traceback_and_1(
    here: Path, what: str, loop: str
) -> None:
    code, shown = RAISES[what]
    result = run(here, code, loop=loop)
    assert result.exit_code == 1, result.output
    assert shown in result.stderr
    assert "openoutcry/cli" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: made:app ")


def test_a_failing_program_is_logged_at_once_and_the_bus_drains_all_the_same(here: Path) -> None:
    code = """
        async def app(bus):
            async def slow(event):
                await asyncio.sleep(0.1)
                print("handled", event.price, flush=True)

            bus.subscribe(MarketDataEvent, slow)
            yield
            for price in (1.0, 2.0):
                await bus.publish(tick(price))
            print("ready", flush=True)
            raise KeyError("no book")
    """
    exit_code, out, err = finish(start(here, code))
    assert exit_code == 1
    assert out.count("handled 1.0\nhandled 2.0\n") == 1
    assert err.count("KeyError: 'no book'") == 1, "it is shown where it is logged, and not again"
    assert re.search(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ERROR openoutcry: made:app failed\nTraceback", err
    )
    assert err.splitlines()[-1] == "Error: made:app failed"


def test_a_thread_that_fails_ends_the_run(here: Path) -> None:
    code = """
        async def app(bus):
            wired(bus)
            yield
            print("ready", flush=True)
            threading.Thread(target=[].pop, name="feed").start()
            await asyncio.sleep(600)
    """
    exit_code, _, err = finish(start(here, code))
    assert exit_code == 1
    assert "the thread 'feed' failed" in err
    assert "IndexError" in err


def test_a_task_whose_error_somebody_asks_for_later_does_not_end_the_run(here: Path) -> None:
    code = """
        async def app(bus):
            yield
            task = asyncio.create_task(fails_soon())
            await asyncio.sleep(0.3)
            try:
                await task
            except ConnectionError:
                print("mine")
            print(await asyncio.gather(fails_soon("two"), return_exceptions=True))
            await asyncio.sleep(1.5)
            print("went on")
    """
    result = run(here, code)
    assert result.exit_code == 0, result.output
    assert "mine" in result.stdout
    assert "went on" in result.stdout
    assert "two" not in result.stderr


def test_a_task_that_a_handler_has_made_is_logged_and_harms_nobody_else(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = """
        async def app(bus):
            async def spawns(event):
                kept.append(asyncio.create_task(fails_soon()))

            bus.subscribe(MarketDataEvent, spawns)
            yield
            await bus.publish(tick())
            await asyncio.sleep(1.5)
            print("went on")
    """
    result = run(here, code)
    assert result.exit_code == 0, result.output
    assert "went on" in result.stdout
    assert "failed, and nobody waits for it" in caplog.text
    assert "ConnectionError: no feed" in caplog.text


def test_a_feed_in_a_task_of_its_own_that_meets_the_closed_bus_has_not_failed(here: Path) -> None:
    code = """
        async def app(bus):
            wired(bus)

            async def feed():
                while True:
                    await bus.publish(tick())
                    await asyncio.sleep(0)

            kept.append(asyncio.create_task(feed()))
            yield
            print("ready", flush=True)
            await bus.run_until_signal()
    """
    exit_code, _, err = finish(start(here, code), signal.SIGTERM)
    assert exit_code == 0, err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("ends", "exit_code"),
    [
        ("sys.exit(7)", 7),
        ("sys.exit()", 0),
        ("sys.exit('the feed is closed')", 1),
        ("raise KeyboardInterrupt", 130),
    ],
)
@pytest.mark.parametrize("where", ["main", "task", "set-up"])
@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_an_exit_drains_the_bus_and_keeps_its_code(
    here: Path, ends: str, exit_code: int, where: str, loop: str
) -> None:
    code = f"""
        async def app(bus):
            wired(bus)

            async def ends():
                {ends}

            if {where == "set-up"}:
                await ends()
            yield
            await bus.publish(tick())
            await (ends() if {where == "main"} else asyncio.create_task(ends()))
    """
    result = run(here, code, loop=loop)
    assert result.exit_code == exit_code, result.output
    assert ("tick 1.0" in result.stdout) == (where != "set-up")
    assert ("the feed is closed" in result.stderr) == ("feed" in ends)
    assert "Traceback" not in result.stderr


# -- signals at every stage --------------------------------------------------------------------------

STAGES = {
    "set-up": ("print('ready', flush=True); await asyncio.sleep(600)", "pass", "before it was started"),
    "main": ("pass", "print('ready', flush=True); await asyncio.sleep(600)", "after"),
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("loop", ["asyncio", "auto"])
def test_ctrl_c_at_any_stage_lets_the_app_clean_up_and_ends_with_0(here: Path, stage: str, loop: str) -> None:
    first, second, said = STAGES[stage]
    code = f"""
        async def app(bus):
            wired(bus)
            try:
                {first}
                yield
                {second}
            finally:
                print("cleaned up", flush=True)
    """
    exit_code, out, err = finish(start(here, code, "--loop", loop), signal.SIGINT)
    assert exit_code == 0, err
    assert "cleaned up" in out
    assert f"stopped by SIGINT{' ' if said.startswith('before') else ', '}{said}" in out


def test_ctrl_c_while_the_bus_starts_ends_the_start(here: Path) -> None:
    code = """
        from openoutcry.journals import MemoryJournal

        async def print_nothing(event):
            pass

        seen = []

        def slow(fill):
            if not seen:
                print("ready", flush=True)
                os.kill(os.getpid(), signal.SIGINT)
            seen.append(fill)

        async def app():
            journal = MemoryJournal()
            earlier = EventBus(journal=journal)
            earlier.subscribe(FillEvent, print_nothing, name="book")
            async with earlier:
                for n in range(3_000):
                    await earlier.publish(FillEvent(
                        order_id=str(n), symbol="ES", side="buy", filled_quantity=1, fill_price=1.0
                    ))
                await earlier.join()
            bus = EventBus(journal=journal)
            bus.subscribe(FillEvent, print_nothing, name="book", restore=slow)
            return bus
    """
    exit_code, out, err = finish(start(here, code))
    assert exit_code == 0, err
    assert "stopped by SIGINT before it was started" in out


def test_what_the_clean_up_raises_after_ctrl_c_is_shown_and_is_a_failure(here: Path) -> None:
    code = """
        async def app(bus):
            async def cleans_up():
                try:
                    await asyncio.sleep(600)
                finally:
                    raise OSError("no goodbye")

            kept.append(asyncio.create_task(cleans_up()))
            yield
            print("ready", flush=True)
            try:
                await asyncio.sleep(600)
            finally:
                raise ValueError("the file is gone")
    """
    exit_code, _, err = finish(start(here, code), signal.SIGINT)
    assert exit_code == 1
    assert err.count("ValueError: the file is gone") == 1
    assert err.count("OSError: no goodbye") == 1


def test_a_program_that_will_not_end_is_named_and_abandoned(here: Path) -> None:
    code = """
        async def app(bus):
            yield
            print("ready", flush=True)
            while True:
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    pass
    """
    exit_code, _, err = finish(start(here, code, "--drain-timeout", "0.1"), signal.SIGTERM)
    assert exit_code == 1
    assert "did not end within 2 s of being cancelled, and is abandoned" in err
    assert "TimeoutError: the app did not end" in err


def test_an_app_that_stops_its_bus_finishes_what_it_does_after_that(here: Path) -> None:
    code = """
        async def app(bus):
            wired(bus)
            yield
            await bus.publish(tick())
            await bus.stop()
            await asyncio.sleep(0.5)
            print("goodbye")
    """
    result = run(here, code)
    assert result.exit_code == 0, result.output
    assert "goodbye" in result.stdout
    assert "the app stopped its bus" in result.stdout


def test_a_journal_that_is_locked_is_one_line_and_the_app_cleans_up(here: Path) -> None:
    code = """
        from openoutcry import PersistenceConfig

        async def app(bus):
            other = EventBus(persistence_config=PersistenceConfig(path="firm.db"))
            other.subscribe(FillEvent, print, name="book")
            await other.start()
            try:
                yield
            finally:
                await other.stop()
                print("cleaned up")
    """
    (here / "bus.toml").write_text('[persistence]\npath = "firm.db"\n', encoding="utf-8")
    result = run(here, code, "--config", "bus.toml")
    assert result.exit_code == 2, result.output
    assert "cleaned up" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("Error: JournalLocked: ")


SEALED = """
    async def app(bus):
        bus.subscribe(FillEvent, lambda fill: print("filled", fill.order_id), name="book")
        yield
        await bus.publish(FillEvent(order_id="o-1", symbol="ES", side="buy", filled_quantity=1, fill_price=1))
"""


def test_a_sealed_journal_is_written_with_the_key_in_a_file(here: Path) -> None:
    (here / "bus.toml").write_text('[persistence]\npath = "firm.db"\n', encoding="utf-8")
    (here / "key").write_bytes(b"k" * 32)
    (here / "short").write_bytes(b"k")
    result = run(here, SEALED, "--config", "bus.toml", "--key-file", "key")
    assert result.exit_code == 0, result.output
    assert "filled o-1" in result.stdout
    with JournalReader(here / "firm.db", key=b"k" * 32) as reader:
        assert not reader.verify().problems
        assert reader.anchor().serial
    for said, options in {
        "is sealed with a key": ["--config", "bus.toml"],
        "key must be 16 to 64 bytes": ["--config", "bus.toml", "--key-file", "short"],
        "there is no journal to seal with it: without --config": ["--key-file", "key"],
    }.items():
        result = run(here, SEALED, *options)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
    (here / "bus.toml").write_text("[bus]\n", encoding="utf-8")
    result = run(here, SEALED, "--config", "bus.toml", "--key-file", "key")
    assert "bus.toml has no [persistence]" in result.stderr


# -- logging -----------------------------------------------------------------------------------------

LOGS = """
async def app(bus):
    {first}
    yield
    print("ready", flush=True)
    for level in ("debug", "info", "warning"):
        getattr(logging.getLogger("desk"), level)("%s of %s", level, "a\\x1b[31m\\nb")
    {second}
"""
STAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z "


@pytest.mark.parametrize(
    ("level", "shown"),
    [(None, ["INFO", "WARNING"]), ("debug", ["DEBUG", "INFO", "WARNING"]), ("warning", ["WARNING"])],
)
@pytest.mark.parametrize("by", ["option", "environment"])
def test_records_have_their_time_in_utc_and_are_safe_to_show(
    here: Path, monkeypatch: pytest.MonkeyPatch, level: str | None, shown: list[str], by: str
) -> None:
    options: tuple[str, ...] = ()
    if level is not None and by == "option":
        options = ("--log-level", level)
    elif level is not None:
        monkeypatch.setenv("OPENOUTCRY_LOG_LEVEL", level)
    exit_code, _, err = finish(start(here, LOGS.format(first="pass", second="pass"), *options))
    assert exit_code == 0, err
    assert re.findall(STAMP + r"(\w+) desk: \w+ of a\\x1b\[31m\\nb$", err, flags=re.MULTILINE) == shown


@pytest.mark.parametrize("where", ["first", "second"])
def test_an_app_that_configures_logging_itself_has_its_own_way(here: Path, where: str) -> None:
    own = "logging.basicConfig(format='OWN %(message)s', level='WARNING'); logging.warning('mine')"
    code = LOGS.format(**{"first": "pass", "second": "pass", where: own})
    exit_code, _, err = finish(start(here, code))
    assert exit_code == 0, err
    assert "OWN mine" in err
    assert not re.search(STAMP + "WARNING root", err, flags=re.MULTILINE)


def test_logging_is_as_before_when_the_run_is_over(here: Path) -> None:
    before = (logging.lastResort, logging.getLogger().level, asyncio.get_event_loop_policy())
    assert run(here, "async def app(bus):\n    yield\n").exit_code == 0
    assert (logging.lastResort, logging.getLogger().level, asyncio.get_event_loop_policy()) == before
