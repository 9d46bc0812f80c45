"""A backtest: the same agents on virtual time, a venue that fills, and a journal like that of any other day."""

import contextvars
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backtested_firm import BrokenTrend, FailingTrend, SlowTrend, Trend, Venue, write_bars
from click.testing import CliRunner

from openoutcry import RiskAlertEvent
from openoutcry.cli import main
from openoutcry.errors import ConfigError, InvalidRow
from openoutcry.events import decode
from openoutcry.firm import DemoOptions, run_demo
from openoutcry.journals import JournalReader
from openoutcry.ports import Filter
from openoutcry.replay import Backtested, backtest
from openoutcry.replay.backtest import Cast, backtest_here, manifest_like, settings_in
from openoutcry.replay.day import read_day
from openoutcry.replay.engine import replay_here
from openoutcry.replay.feed import Feed
from openoutcry.replay.tables import Rules

HERE = str(Path(__file__).parent)


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    write_bars(tmp_path / "bars.csv")
    return tmp_path / "bars.csv"


def run(bars: Path, into: Path, app: Any = Trend, **named: Any) -> Backtested:
    cast = Cast(app=app, target=app.__name__, broker=Venue, broker_target="Venue", **named)
    return backtest_here(Feed([bars], Rules()), [str(bars)], cast, into)


def of_type(journal: Path, *types: str) -> Iterator[Any]:
    with JournalReader(journal) as reader:
        for stored in reader.read(0, 10_000, Filter(types=frozenset(types))):
            yield decode(stored.payload)


def test_the_same_backtest_has_the_same_hashes_and_its_journal_is_replayed(
    bars: Path, tmp_path: Path
) -> None:
    first, second = (run(bars, tmp_path / name) for name in ("one.db", "two.db"))
    assert first.published == second.published
    assert first.counts == {"fill": 76, "order": 78}
    assert first.is_sound
    again = replay_here(read_day(tmp_path / "one.db"), Trend, "Trend", broker=Venue)
    assert again.identical
    assert again.limits == ()
    assert again.replayed == first.published


def test_orders_are_filled_by_the_venue_at_the_opening_of_the_next_bar(bars: Path, tmp_path: Path) -> None:
    run(bars, tmp_path / "out.db")
    order = next(of_type(tmp_path / "out.db", "order"))
    fill = next(of_type(tmp_path / "out.db", "fill"))
    openings = [bar.open for bar in of_type(tmp_path / "out.db", "market_data") if bar.symbol == order.symbol]
    assert (fill.order_id, fill.fill_price) == (order.order_id, openings[2])
    assert (fill.timestamp - order.timestamp).total_seconds() == 60


def test_who_thinks_for_two_minutes_is_two_minutes_late_on_the_market(bars: Path, tmp_path: Path) -> None:
    told = [run(bars, tmp_path / name, SlowTrend) for name in ("one.db", "two.db")]
    assert told[0].published == told[1].published
    assert told[0].is_sound
    assert told[0].ended_wall_ns > told[0].data.last_ns  # it was behind, and has finished all the same
    first_order = next(of_type(tmp_path / "one.db", "order"))
    bar = next(
        bar for bar in of_type(tmp_path / "one.db", "market_data") if bar.event_id == first_order.causation_id
    )
    assert (first_order.timestamp - bar.timestamp).total_seconds() >= 120
    again = replay_here(read_day(tmp_path / "one.db"), SlowTrend, "SlowTrend", broker=Venue)
    assert again.identical
    assert again.replayed == told[0].published


def test_the_clock_is_the_rows_time_to_the_nanosecond_after_years(tmp_path: Path) -> None:
    seen = []

    class Clock:
        def setup(self, bus: Any) -> None:
            bus.subscribe("market_data", lambda bar: seen.append(bus._bus.clock.wall_ns() - bar.timestamp_ns))

    path = tmp_path / "years.csv"
    years = range(1985, 2026)
    path.write_text("time,symbol,price\n" + "".join(f"{y}-03-01T00:00:00.000000001Z,ES,1\n" for y in years))
    cast = Cast(app=Clock, target="Clock")
    backtest_here(Feed([path], Rules()), [str(path)], cast, tmp_path / "out.db")
    assert seen == [0] * len(years)


def test_what_follows_from_a_row_at_once_has_happened_before_the_next_row(tmp_path: Path) -> None:
    heard: list[str] = []

    class Reacts:
        def setup(self, bus: Any) -> None:
            self.bus = bus
            bus.subscribe("market_data", self.first, name="first")
            bus.subscribe("risk_alert", self.second, name="second")

        async def first(self, bar: Any) -> None:
            heard.append(bar.symbol)
            await self.bus.publish(RiskAlertEvent(alert_type="x", severity="info", message=bar.symbol))

        async def second(self, alert: Any) -> None:
            heard.append(alert.message.lower())

    path = tmp_path / "bars.csv"
    path.write_text("time,symbol,price\n" + "".join(f"2026-01-02T00:00:00Z,{s},1\n" for s in "ABC"))
    cast = Cast(app=Reacts, target="Reacts")
    assert backtest_here(Feed([path], Rules()), [str(path)], cast, tmp_path / "out.db").is_sound
    assert heard == ["A", "a", "B", "b", "C", "c"]


def test_an_agent_that_fails_makes_it_unsound_and_is_named(bars: Path, tmp_path: Path) -> None:
    told = run(bars, tmp_path / "out.db", FailingTrend)
    assert not told.is_sound
    assert {one.agent for one in told.buried} == {"trend"}
    assert "no view on ES" in told.buried[0].why
    assert told.to_dict()["sound"] is False


def test_what_cannot_be_run_leaves_no_journal(bars: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyError):
        run(bars, tmp_path / "out.db", BrokenTrend)
    with bars.open("a") as file:
        file.write("2026-01-02T14:00:00Z,ES,1,1,1,1,1\n")
    with pytest.raises(InvalidRow, match="line 82"):
        run(bars, tmp_path / "out.db")
    assert sorted(tmp_path.iterdir()) == before
    write_bars(bars)
    (tmp_path / "out.db").write_text("mine")
    with pytest.raises(ConfigError, match="there is such a file"):
        run(bars, tmp_path / "out.db")
    assert (tmp_path / "out.db").read_text() == "mine"


def test_a_backtest_can_be_like_another_day(bars: Path, tmp_path: Path) -> None:
    run(bars, tmp_path / "one.db", settings={"signal_timeout": 7.0, "seed": 5})
    like = manifest_like(tmp_path / "one.db")
    assert (like.seed, like.settings["signal_timeout"], like.broker) == (5, 7.0, "Venue")
    told = run(bars, tmp_path / "two.db", like=like)
    assert manifest_like(tmp_path / "two.db").origin == like.origin
    assert manifest_like(tmp_path / "two.db").settings["signal_timeout"] == 7.0
    assert told.published.events_count == 154


def test_settings_come_from_a_file(bars: Path, tmp_path: Path) -> None:
    (tmp_path / "bus.toml").write_text(
        "[bus]\nsignal_timeout = 3.5\n[backpressure]\nrate_limit_burst = 7\n"
        "[persistence]\npath = 'mine.db'\nrecord = 'off'\n"
    )
    told = run(bars, tmp_path / "out.db", settings=settings_in(tmp_path / "bus.toml"))
    settings = manifest_like(tmp_path / "out.db").settings
    assert (settings["signal_timeout"], settings["backpressure"]["rate_limit_burst"]) == (3.5, 7)
    assert settings["persistence"]["path"] == str(tmp_path / "out.db")
    assert told.is_sound
    assert not (tmp_path / "mine.db").exists()


def test_a_process_of_its_own_denies_what_goes_out(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    into = tmp_path / "out.db"
    told = CliRunner().invoke(
        main,
        ["replay", str(bars), "--app", "backtested_firm:WritingTrend", "--broker", "backtested_firm:Venue"],
    )
    assert told.exit_code == 1
    assert "trend could not handle market_data" in told.output
    assert "which a backtest does not: have something stand in for it" in told.output
    assert not Path("/tmp/openoutcry-must-not-be").exists()
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    found = backtest(bars, "backtested_firm:SlowTrend", broker=Venue, into=into)
    assert found.published == run(bars, tmp_path / "here.db", SlowTrend).published
    with bars.open("a") as file:
        file.write("2026-01-02T14:59:00Z,ES,1,1,1,x,1\n")
    with pytest.raises(InvalidRow, match="line 82, column close: 'x'") as caught:
        backtest(bars, Trend)
    assert (caught.value.row, caught.value.column, caught.value.value) == (82, "close", "'x'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bars.csv", "--from", "2026-01-02"], "--from is for a journal"),
        (["bars.csv", "bars.db"], "is no CSV or Parquet file"),
        (["bars.db", "--broker", "my:venue"], "--broker is for a backtest"),
        (["bars.db", "--map", "a=b"], "--map is for a backtest"),
        (["bars.csv", "--map", "a"], "write COLUMN=FIELD"),
        (["bars.csv", "--set", "symbol=A", "--set", "symbol=B"], "is given twice"),
        (["bars.csv"], "which app is not said"),
        (["bars.csv", "--app", "nowhere:app"], "there is no module"),
        (["bars.csv", "--app", "backtested_firm:Trend", "--like", "bars.csv"], "bars.csv"),
    ],
)
def test_a_mistake_in_the_command_is_told(
    bars: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(bars.parent)
    monkeypatch.setattr(sys, "path", [HERE, *sys.path])
    told = CliRunner().invoke(main, ["replay", *arguments])
    assert told.exit_code == 2
    assert said in told.output
    assert "Traceback" not in told.output


def test_live_backtested_and_replayed_the_demos_firm_does_the_same(tmp_path: Path) -> None:
    day, table, again = (tmp_path / name for name in ("day.db", "bars.parquet", "again.db"))
    options = DemoOptions(days=45, speed=400, plain=True, record=day, report=tmp_path / "report.html")
    assert contextvars.copy_context().run(run_demo, options) == 0

    def call(*arguments: object) -> Any:
        told = CliRunner().invoke(main, [*map(str, arguments)])
        assert (told.exit_code, told.exception) == (0, None), told.output
        return told.stdout

    call("export", day, "--type", "market_data,session_opened,market_closed", "-o", table)
    broker = ("--broker", "openoutcry.firm:venue")
    tested = json.loads(call("replay", table, "--like", day, *broker, "--into", again, "--json"))
    replayed = [json.loads(call("replay", path, "--json")) for path in (day, again)]
    assert tested["counts"]["fill"] > 10
    for found in replayed:
        assert found["identical"]
        assert found["replayed"]["decisions"] == tested["published"]["decisions"]
        assert found["replayed"]["what"] == tested["published"]["what"]
