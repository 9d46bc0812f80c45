"""Expected rates: silence is a symptom only when it should not be silent."""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.rates import Rates
from openoutcry.sessions import Expectation, Session

S = 1_000_000_000
NYSE = Session(start="09:30", end="16:00", days="mon-fri", tz="America/New_York")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("America/New_York")).timestamp()) * S


@dataclass(frozen=True)
class Tick:
    event_type: str = "market_data"
    source_agent: str = "feed"


class Desk:
    """A day at the desk: wall and monotonic time go together."""

    def __init__(self, *expectations: Expectation, begins: str = "2025-11-24T02:00") -> None:
        self.began_ns = at(begins)
        self.rates = Rates(expectations, 0)
        self.now_ns = 0

    def until(self, text: str) -> "Desk":
        self.now_ns = at(text) - self.began_ns
        return self

    def hears(self, *events, mixed=True) -> None:
        self.rates.look(events, self.now_ns, mixed=mixed)

    def silent(self) -> list[str]:
        return [str(s.expectation) for s in self.rates.silences(self.now_ns, self.began_ns + self.now_ns)]


TICKS = Expectation(event_type="market_data", agent="feed", every_s=30, sessions=(NYSE,))


def test_quiet_at_three_in_the_morning_is_fine():
    assert Desk(TICKS).until("2025-11-24T03:00").silent() == []


def test_quiet_at_nine_thirty_one_is_not():
    assert Desk(TICKS).until("2025-11-24T09:31").silent() == ["market_data from feed"]


def test_the_opening_bell_begins_the_first_stretch():
    assert Desk(TICKS).until("2025-11-24T09:30:29").silent() == []


def test_a_feed_that_stops_in_the_session_is_missed_after_its_stretch():
    desk = Desk(TICKS).until("2025-11-24T11:00")
    desk.hears(Tick())
    assert desk.until("2025-11-24T11:00:30").silent() == []
    assert desk.until("2025-11-24T11:00:31").silent() == ["market_data from feed"]
    assert desk.until("2025-11-24T16:00").silent() == []


def test_silence_tells_how_long_within_the_session_and_whether_anything_ever_came():
    desk = Desk(TICKS).until("2025-11-24T09:35")
    (silence,) = desk.rates.silences(desk.now_ns, desk.began_ns + desk.now_ns)
    assert (silence.silent_ns, silence.ever) == (300 * S, False)


def test_another_agent_or_another_type_is_no_answer():
    desk = Desk(TICKS).until("2025-11-24T11:00")
    desk.hears(Tick(source_agent="backup"), Tick(event_type="signal"))
    assert desk.silent() == ["market_data from feed"]
    desk.hears(Tick(source_agent="backup"), mixed=False)
    assert desk.silent() == ["market_data from feed"]


def test_without_an_agent_anybody_will_do():
    desk = Desk(Expectation(event_type="market_data", every_s=30)).until("2025-11-24T04:00")
    assert desk.silent() == ["market_data"]
    desk.hears(Tick(source_agent="backup"), mixed=False)
    assert desk.silent() == []


def test_several_expectations_of_one_source_may_differ_by_session():
    night = Session(start="17:00", end="09:00", days="daily", tz="America/New_York")
    desk = Desk(TICKS, Expectation(event_type="market_data", agent="feed", every_s=7200, sessions=(night,)))
    desk.hears(Tick())
    assert desk.until("2025-11-24T03:59").silent() == []
    assert desk.until("2025-11-24T04:01").silent() == ["market_data from feed"]


def test_a_start_takes_everything_as_met():
    desk = Desk(TICKS).until("2025-11-24T11:00")
    desk.rates.restart(desk.now_ns)
    assert desk.silent() == []


def test_a_batch_is_looked_at_only_when_somebody_is_due():
    class Unread:
        @property
        def event_type(self):
            raise AssertionError("looked at")

    desk = Desk(TICKS)
    desk.hears(Tick())
    desk.now_ns += S
    desk.hears(Unread())
    assert desk.now_ns < desk.rates.due_ns


def test_with_nothing_expected_nothing_is_ever_looked_at():
    rates = Rates((), 0)
    rates.look([object()], 1 << 60)
    assert rates.silences(1 << 60, 1 << 60) == []


@given(
    times=st.lists(st.tuples(st.integers(0, 20), st.sampled_from("abc")), max_size=60),
    mixed=st.booleans(),
    every_s=st.integers(1, 20),
)
def test_nobody_who_speaks_in_time_is_missed_and_nobody_who_does_not_is_not(times, mixed, every_s):
    rates = Rates([Expectation(event_type="t", agent=name, every_s=every_s) for name in "abc"], 0)
    now_ns, heard = 0, dict.fromkeys("abc", 0)
    for wait_s, name in times:
        now_ns += wait_s * S
        rates.look([Tick("t", name)], now_ns, mixed=mixed)
        heard[name] = now_ns
    missed = {s.expectation.agent for s in rates.silences(now_ns, 10**18 + now_ns)}
    late = every_s * S + every_s * S // 16  # a look may be spared for a sixteenth
    assert {n for n in heard if now_ns - heard[n] > late} <= missed
    assert missed <= {n for n in heard if now_ns - heard[n] > every_s * S - every_s * S // 16}
