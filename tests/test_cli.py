"""The command line, as a user meets it."""

import importlib.metadata
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from process_kit import finish, finish_at_once, read_line, start_python

import openoutcry
from openoutcry.cli import main
from openoutcry.cli.bench import find_benchmarks
from openoutcry.cli.demo import demo
from openoutcry.cli.mistakes import Mistake
from openoutcry.firm.crash import CrashOptions
from openoutcry.firm.demo import DemoOptions
from openoutcry.firm.desks import DesksOptions
from openoutcry.firm.desks.demo import KILLS

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 300

FIRM = """
from openoutcry.runtime.api.bus import EventBus
from openoutcry.trading import MarketDataEvent

TICK = MarketDataEvent(symbol="ES", price=5000.25)

def wired(bus):
    bus.subscribe(MarketDataEvent, seen)
    bus.publish_nowait(TICK)

def seen(tick):
    print("tick", tick.symbol, flush=True)

async def program(bus):
    wired(bus)
    await bus.join()

async def stops_itself(bus):
    wired(bus)
    await bus.stop()

async def fails(bus):
    raise KeyError("no such book")

def fails_early(bus):
    raise KeyError("no such book")

def factory():
    bus = EventBus(max_queue_size=7)
    wired(bus)
    return bus

class Desk:
    async def open(self, bus):
        await program(bus)

desk = Desk()
ready_made = EventBus()
number = 7

def two(bus, book):
    pass

def nothing():
    pass

async def shows_size(bus):
    print("room for", bus.metrics.capacity)
"""


@pytest.fixture
def firm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with firm.py, as the current one; what the command imports is forgotten afterwards."""
    (tmp_path / "firm.py").write_text(FIRM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if not name.startswith(("openoutcry", "uvloop", "rich")):
            del sys.modules[name]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def one_line(result: Result) -> str:
    assert result.stderr.count("\n") == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


# -- the command as a whole --------------------------------------------------------------------------


def test_the_version_is_that_of_the_package() -> None:
    assert call("--version").stdout == f"openoutcry, version {importlib.metadata.version('openoutcry')}\n"


def test_the_version_is_written_in_one_place() -> None:
    assert openoutcry.__version__ == importlib.metadata.version("openoutcry")
    assert call("--version").stdout.split()[-1] == openoutcry.__version__


def test_python_m_openoutcry_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "openoutcry", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("openoutcry, version ")


@pytest.mark.parametrize("verb", [(), ("demo",), ("run",)])
def test_help_needs_no_bus(verb: tuple[str, ...]) -> None:
    result = call(*verb, "-h")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    script = f"{sys.executable} -m openoutcry run --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=LIMIT_S
    )
    assert done.stderr == ""


# -- run: the forms of an app ------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
@pytest.mark.parametrize("app", ["program", "desk.open"])
def test_a_coroutine_function_is_the_firms_main_program(firm: Path, app: str, loop: str) -> None:
    result = call("run", f"firm:{app}", "--loop", loop)
    assert result.exit_code == 0, result.output
    assert "tick ES" in result.stdout
    assert f"firm:{app}: the app ended" in result.stdout
    assert "balances: nothing was lost" in result.stdout


def test_a_firm_that_stops_its_own_bus_has_ended(firm: Path) -> None:
    result = call("run", "firm:stops_itself", "--loop", "asyncio")
    assert result.exit_code == 0, result.output
    assert "tick ES" in result.stdout


def test_an_app_that_raises_shows_its_own_traceback_and_fails(firm: Path) -> None:
    result = call("run", "firm:fails", "--loop", "asyncio")
    assert result.exit_code == 1
    assert "KeyError: 'no such book'" in result.stderr
    assert "firm.py" in result.stderr
    assert "openoutcry/cli" not in result.stderr
    assert result.stderr.rstrip().endswith("Error: firm:fails failed")


def test_an_app_that_raises_while_it_subscribes_fails_before_it_runs(firm: Path) -> None:
    result = call("run", "firm:fails_early", "--loop", "asyncio")
    assert result.exit_code == 1
    assert "Error: firm:fails_early raised while it was set up" in result.stderr
    assert "openoutcry/cli" not in result.stderr


def test_settings_from_a_file_reach_the_bus(firm: Path) -> None:
    (firm / "bus.toml").write_text("[bus]\nmax_queue_size = 123\n", encoding="utf-8")
    result = call("run", "firm:shows_size", "--config", "bus.toml", "--loop", "asyncio")
    assert result.exit_code == 0, result.output
    assert "room for 123" in result.stdout


# -- run: mistakes are one line with a remedy --------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("firm", "write MODULE:APP"),
        ("firm.py:program", "is a file name: write the module's name, firm:program"),
        ("frm:program", "did you mean firm?"),
        ("no.such.module:app", "there is no module 'no'"),
        ("firm:progam", "did you mean program?"),
        ("firm:desk.close", "has no 'close'"),
        ("firm:number", "'firm:number' is int; an app is"),
        ("firm:two", "needs bus, book"),
        ("firm:nothing", "returned NoneType"),
    ],
)
def test_a_target_that_is_no_app_says_what_to_write(firm: Path, target: str, said: str) -> None:
    result = call("run", target, "--loop", "asyncio")
    assert result.exit_code == 2
    assert said in one_line(result)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import absent_package\n", "imports 'absent_package', which is not installed"),
        ("def f(:\n", "line 1: invalid syntax"),
    ],
)
def test_a_module_that_cannot_be_read_says_why(firm: Path, code: str, said: str) -> None:
    (firm / "broken.py").write_text(code, encoding="utf-8")
    result = call("run", "broken:app")
    assert result.exit_code == 2
    assert said in one_line(result)


def test_a_module_that_raises_shows_its_own_traceback(firm: Path) -> None:
    (firm / "broken.py").write_text("1 / 0\n", encoding="utf-8")
    result = call("run", "broken:app")
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stderr
    assert "openoutcry/cli" not in result.stderr
    assert "importlib" not in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[bus", "is not valid TOML"),
        ("[bus]\nmax_queue = 1\n", "unknown settings ['max_queue']"),
        ("[bus]\nmax_queue_size = 0\n", "max_queue_size is 0"),
    ],
)
def test_a_bad_settings_file_says_what_is_wrong(firm: Path, text: str, said: str) -> None:
    (firm / "bus.toml").write_text(text, encoding="utf-8")
    result = call("run", "firm:program", "--config", "bus.toml")
    assert result.exit_code == 2
    assert said in one_line(result)
    assert one_line(result).startswith("Error: ConfigError: ")


def test_a_missing_settings_file_is_named(firm: Path) -> None:
    result = call("run", "firm:program", "--config", "absent.toml")
    assert result.exit_code == 2
    assert "absent.toml" in one_line(result)


@pytest.mark.parametrize("app", ["factory", "ready_made"])
def test_settings_for_an_app_that_makes_its_own_bus_are_refused(firm: Path, app: str) -> None:
    (firm / "bus.toml").write_text("[bus]\n", encoding="utf-8")
    result = call("run", f"firm:{app}", "--config", "bus.toml", "--loop", "asyncio")
    assert result.exit_code == 2
    assert "--config has nothing to set" in one_line(result)


def test_asking_for_a_loop_that_is_not_installed_says_how_to_get_it(
    firm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    result = call("run", "firm:program", "--loop", "uvloop")
    assert result.exit_code == 2
    assert "pip install 'openoutcry[speed]'" in one_line(result)
    assert call("run", "firm:program").exit_code == 0


# -- run: stopping, in processes of their own --------------------------------------------------------


def start(firm: Path, code: str, *options: str) -> subprocess.Popen[str]:
    """Run `app` of this code, and return once it has printed `ready`."""
    (firm / "live.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return start_python(firm, "-m", "openoutcry", "run", "live:app", *options)


SLOW = """
    import asyncio
    from openoutcry.trading import MarketDataEvent

    def app(bus):
        @bus.on(MarketDataEvent)
        async def slow(tick: MarketDataEvent) -> None:
            print("ready", flush=True)
            await asyncio.sleep({seconds})
            print("handled", flush=True)
        for _ in range({count}):
            bus.publish_nowait(MarketDataEvent(symbol="ES", price=1.0))
"""


@pytest.mark.parametrize("loop", ["asyncio", "auto"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_firm_after_what_is_queued(firm: Path, number: signal.Signals, loop: str) -> None:
    process = start(firm, SLOW.format(seconds=0.05, count=3), "--loop", loop)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 0, err
    assert out.count("handled\n") == 3
    assert f"live:app: stopped by {number.name}" in out
    assert "stopping: draining for up to 10 s" in err


def test_a_drain_that_takes_too_long_ends_with_its_own_code(firm: Path) -> None:
    process = start(firm, SLOW.format(seconds=60, count=3), "--drain-timeout", "0.05")
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 3, err
    assert "deliveries waiting" in out
    assert "raise --drain-timeout" in err
    assert "Traceback" not in err


def test_the_program_of_a_stopped_app_is_cancelled_and_may_clean_up(firm: Path) -> None:
    code = """
        import asyncio

        async def app(bus):
            print("ready", flush=True)
            try:
                await asyncio.sleep(60)
            finally:
                print("cleaned up", flush=True)
    """
    process = start(firm, code)
    process.send_signal(signal.SIGTERM)
    exit_code, out, err = finish(process)
    assert exit_code == 0, err
    assert "cleaned up\n" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_even_a_firm_whose_loop_is_blocked(firm: Path, number: signal.Signals) -> None:
    code = """
        from openoutcry.trading import MarketDataEvent

        def app(bus):
            @bus.on(MarketDataEvent)
            async def never_yields(tick: MarketDataEvent) -> None:
                print("ready", flush=True)
                while True:
                    pass
            bus.publish_nowait(MarketDataEvent(symbol="ES", price=1.0))
    """
    exit_code, _, err = finish_at_once(start(firm, code), number)
    assert exit_code == 128 + number
    assert "forced" in err


@pytest.mark.parametrize("app", ["factory", "ready_made"])
def test_a_bus_of_the_apps_own_is_run_until_it_is_stopped(firm: Path, app: str) -> None:
    code = f"""
        from firm import factory, ready_made, wired
        if {app == "ready_made"}:
            wired(ready_made)
        print("ready", flush=True)
        app = {app}
    """
    process = start(firm, code)
    assert read_line(process.stdout) == "tick ES\n"
    process.send_signal(signal.SIGINT)
    exit_code, out, err = finish(process)
    assert exit_code == 0, err
    assert "deliveries handled" in out


# -- demo --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FakeOptions:
    speed: float | None = None
    symbols: tuple[str, ...] = ("ALL",)
    agents: int = 8
    chaos: int | None = None
    days: int | None = None
    report: Path = Path("report.html")
    plain: bool = False


@pytest.fixture
def demo_calls(monkeypatch: pytest.MonkeyPatch) -> list[FakeOptions]:
    """What the demo was run with; it ends with exit code 5."""
    calls: list[FakeOptions] = []
    fake = types.ModuleType("openoutcry.firm.demo")
    fake.__dict__.update(DemoOptions=FakeOptions, run_demo=lambda options: calls.append(options) or 5)
    monkeypatch.setitem(sys.modules, "openoutcry.firm.demo", fake)
    return calls


def test_the_demo_keeps_its_own_defaults(demo_calls: list[FakeOptions]) -> None:
    assert call("demo").exit_code == 5
    assert demo_calls == [FakeOptions()]


def test_the_demo_gets_every_option(demo_calls: list[FakeOptions]) -> None:
    options = (
        "--speed 20 --symbols aapl,IBM --symbols AAPL --agents 3 --chaos 0 --days 9 --report r.html --plain"
    )
    assert call("demo", *options.split()).exit_code == 5
    assert demo_calls == [FakeOptions(20.0, ("AAPL", "IBM"), 3, 0, 9, Path("r.html"), plain=True)]


def test_the_demo_has_an_option_for_every_setting_and_states_the_real_defaults() -> None:
    settings = {field.name: field.default for field in fields(DemoOptions)}
    options = {option.name: option for option in demo.params if isinstance(option, click.Option)}
    assert set(options) == {*settings, "crash", "desks", "kill", "kills", "page", "seed"}
    for name in ("agents", "report"):
        assert f"[default: {settings[name]}]" in (options[name].help or "")
    crash = {field.name: field.default for field in fields(CrashOptions)}
    assert f"[default: {crash['kills']}]" in (options["kills"].help or "")
    assert f"[{crash['seed']}]" in (options["crash"].help or "")
    assert crash["agents"] == settings["agents"]
    desks = {field.name: field.default for field in fields(DesksOptions)}
    assert (KILLS, desks["agents"]) == (crash["kills"], settings["agents"])
    assert f"[default: {desks['seed']}]" in (options["seed"].help or "")


@pytest.fixture
def crash_calls(monkeypatch: pytest.MonkeyPatch) -> list[CrashOptions]:
    """What the crash demo was run with; it ends with exit code 6."""
    calls: list[CrashOptions] = []
    monkeypatch.setattr("openoutcry.firm.crash.run_crash_demo", lambda options: calls.append(options) or 6)
    return calls


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--crash", CrashOptions()),
        ("--crash 11 --plain", CrashOptions(seed=11, plain=True)),
        ("--crash --kills 3 --days 90", CrashOptions(kills=3, days=90)),
        ("--symbols IBM --agents 6 --speed 2 --crash", CrashOptions(symbols=("IBM",), agents=6, speed=2.0)),
    ],
)
def test_crash_needs_no_seed_and_takes_what_fits_it(
    crash_calls: list[CrashOptions], options: str, expected: CrashOptions
) -> None:
    assert call("demo", *options.split()).exit_code == 6
    assert crash_calls == [expected]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--desks", DesksOptions()),
        ("--desks --kill --seed 3 --plain", DesksOptions(seed=3, kills=KILLS, plain=True)),
        ("--desks --kills 3 --days 90", DesksOptions(kills=3, days=90)),
    ],
)
def test_desks_are_killed_when_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, options: str, expected: DesksOptions
) -> None:
    calls: list[DesksOptions] = []
    monkeypatch.setattr("openoutcry.firm.desks.run_desks_demo", lambda options: calls.append(options) or 7)
    assert call("demo", *options.split()).exit_code == 7
    assert calls == [expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--kills 3", "add one of them"),
        ("--kill", "add --desks"),
        ("--seed 3", "add --desks"),
        ("--desks --crash", "--crash cannot be used together with --desks"),
        ("--desks --chaos 7", "--chaos cannot be used together with --desks"),
        ("--crash --chaos 7", "--chaos cannot be used together with --crash"),
        ("--crash 3 --report r.html", "--report cannot be used together with --crash"),
    ],
)
def test_options_that_do_not_go_together_are_a_mistake(
    crash_calls: list[CrashOptions], options: str, said: str
) -> None:
    result = call("demo", *options.split())
    assert result.exit_code == 2
    assert said in result.output
    assert crash_calls == []


@pytest.mark.parametrize("options", ["--speed 0", "--agents 0", "--days 0", "--chaos x"])
def test_the_demo_refuses_numbers_out_of_range(demo_calls: list[FakeOptions], options: str) -> None:
    assert call("demo", *options.split()).exit_code == 2
    assert demo_calls == []


def test_an_interrupted_verb_ends_silently_with_130(
    monkeypatch: pytest.MonkeyPatch, demo_calls: list[FakeOptions]
) -> None:
    def interrupted(_options: FakeOptions) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["openoutcry.firm.demo"], "run_demo", interrupted)
    result = call("demo")
    assert (result.exit_code, result.output) == (130, "")


# -- bench -------------------------------------------------------------------------------------------


def test_bench_runs_the_script_of_the_checkout_with_all_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "run.py").write_text(
        "import sys; print(sys.argv[1:]); sys.exit(4)\n", encoding="utf-8"
    )
    (tmp_path / "src" / "openoutcry").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "src")
    assert call("bench", "--quick", "--help").exit_code == 4
    assert capfd.readouterr().out == "['--quick', '--help']\n"


def test_bench_finds_the_checkout_that_the_package_is_installed_from(tmp_path: Path) -> None:
    assert find_benchmarks(tmp_path) == ROOT / "benchmarks" / "run.py"


def test_bench_without_a_checkout_says_where_the_benchmarks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openoutcry, "__file__", str(tmp_path / "site" / "openoutcry" / "__init__.py"))
    with pytest.raises(Mistake, match="clone the repository"):
        find_benchmarks(tmp_path)
