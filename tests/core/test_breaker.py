"""The breaker: who mostly fails is paused and probed, and the dead letters are not flooded."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openoutcry.core.breaker import (
    GO,
    PROBE,
    UNTIL_CALL_ENDS,
    Breaker,
    BreakerConfig,
    BreakerState,
    Pause,
)
from openoutcry.errors import ConfigError

S = 1_000_000_000


class Life:
    """A subscription as the breaker sees it: a count of handled events and a clock."""

    def __init__(self, **settings):
        self.breaker = Breaker(BreakerConfig(**settings))
        self.handled = 0
        self.now_ns = 0

    def handle(self, count=1):
        self.handled += count

    def bury(self):
        return self.breaker.buried(self.handled, self.now_ns)

    def ask(self, **more):
        return self.breaker.ask(self.handled, self.now_ns, **more)

    def trip(self):
        verdict = GO
        while verdict == GO:
            verdict = self.bury()
        return verdict

    def wait_out(self):
        self.now_ns = self.breaker.until_ns


def test_a_handler_that_always_fails_is_paused_at_the_tenth_dead_letter():
    life = Life()
    assert [life.bury() for _ in range(10)] == [GO] * 9 + [Pause(1 * S)]
    assert life.breaker.state is BreakerState.OPEN


def test_a_few_failures_among_many_successes_pause_nothing():
    life = Life()
    for _ in range(1000):
        life.handle(2)
        assert life.bury() == GO
    assert life.breaker.state is BreakerState.CLOSED


def test_half_of_the_last_events_is_too_much():
    life = Life()
    verdicts = []
    for _ in range(10):
        life.handle()
        verdicts.append(life.bury())
    assert verdicts == [GO] * 9 + [Pause(S)]


def test_old_successes_do_not_outweigh_what_fails_now():
    life = Life()
    life.handle(1_000_000)
    verdicts = [life.bury() for _ in range(10)]
    assert verdicts == [GO] * 9 + [Pause(S)]


def test_old_failures_are_forgotten():
    life = Life()
    for _ in range(4):
        life.bury()
    life.handle(20)
    assert [life.bury() for _ in range(4)] == [GO] * 4


def test_nothing_is_begun_during_the_pause():
    life = Life()
    life.trip()
    assert life.ask() == Pause(S)
    life.now_ns = S - 1
    assert life.ask() == Pause(1)


def test_after_the_pause_one_event_may_try():
    life = Life()
    life.trip()
    life.wait_out()
    assert life.ask() == PROBE
    assert life.breaker.state is BreakerState.HALF_OPEN
    assert life.ask(calls_running=True) == UNTIL_CALL_ENDS


def test_a_probe_that_waits_for_its_retry_is_still_the_probe():
    life = Life()
    life.trip()
    life.wait_out()
    assert [life.ask(), life.ask()] == [PROBE, PROBE]


def test_a_probe_that_is_handled_lets_everything_go_on():
    life = Life()
    life.trip()
    life.wait_out()
    life.ask()
    life.handle()
    assert life.ask() == GO
    assert life.breaker.state is BreakerState.CLOSED
    assert [life.bury() for _ in range(4)] == [GO] * 4


def test_what_was_handled_before_the_pause_is_over_is_no_answer_of_the_probe():
    life = Life()
    life.trip()
    life.handle(3)
    life.wait_out()
    assert life.ask() == PROBE


def test_each_failed_probe_makes_the_pause_longer_up_to_the_limit():
    life = Life(first_pause_s=1, factor=2, max_pause_s=10)
    waits = [life.trip()]
    for _ in range(5):
        life.wait_out()
        assert life.ask() == PROBE
        waits.append(life.bury())
    assert waits == [Pause(s * S) for s in (1, 2, 4, 8, 10, 10)]
    assert life.breaker.trips == 6


def test_one_lucky_probe_does_not_shorten_the_next_pause():
    life = Life()
    life.trip()
    life.wait_out()
    life.ask()
    life.handle()
    assert life.ask() == GO
    assert life.trip() == Pause(2 * S)


def test_a_full_window_without_tripping_makes_the_next_pause_short_again():
    life = Life()
    life.trip()
    life.wait_out()
    life.ask()
    life.handle(20)
    life.ask()
    assert life.trip() == Pause(1 * S)


def test_a_call_that_was_begun_before_the_pause_does_not_lengthen_it():
    life = Life()
    life.trip()
    life.now_ns = S // 4
    assert life.bury() == Pause(3 * S // 4)
    life.now_ns = 2 * S
    assert life.bury() == Pause(0)
    assert life.breaker.trips == 1


def test_a_person_who_resets_it_is_believed():
    life = Life()
    life.trip()
    life.breaker.reset(life.handled)
    assert life.ask() == GO
    assert life.trip() == Pause(S)


@pytest.mark.parametrize("pauses", [2_000])
def test_thousands_of_failed_probes_neither_overflow_nor_pass_the_limit(pauses):
    life = Life(factor=1e6)
    life.trip()
    for _ in range(pauses):
        life.wait_out()
        life.ask()
        assert life.bury() == Pause(60 * S)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"share": 0}, "share is 0"),
        ({"share": 1.5}, "share is 1.5"),
        ({"window": 0}, "window is 0"),
        ({"least": 21}, "not more than window"),
        ({"least": 0}, "least is 0"),
        ({"first_pause_s": 0}, "first_pause_s is 0"),
        ({"factor": 0.5}, "factor is 0.5"),
        ({"max_pause_s": 0.5}, "not below first_pause_s"),
    ],
)
def test_settings_out_of_range_are_refused_with_the_limit(settings, says):
    with pytest.raises(ConfigError, match=says):
        BreakerConfig(**settings)


configs = st.builds(
    lambda window, least, share: BreakerConfig(window=window, least=min(least, window), share=share),
    window=st.integers(1, 30),
    least=st.integers(1, 30),
    share=st.floats(0.05, 1),
)


@given(config=configs, outcomes=st.lists(st.booleans(), max_size=200))
def test_it_opens_exactly_when_the_last_events_say_so(config, outcomes):
    breaker, last, handled = Breaker(config), deque(maxlen=config.window), 0
    for ok in outcomes:
        last.append(ok)
        if ok:
            handled += 1
            continue
        buried = last.count(False)
        too_many = buried >= config.least and buried >= config.share * len(last)
        assert (breaker.buried(handled, 0) != GO) == too_many
        if too_many:
            return


@given(
    config=configs,
    steps=st.lists(st.tuples(st.integers(0, 30 * S), st.booleans()), max_size=100),
)
def test_whatever_happens_dead_letters_come_at_most_one_per_pause_once_it_is_open(config, steps):
    life = Life()
    life.breaker = Breaker(config)
    buried_since_open = pauses = 0
    for wait_ns, ok in steps:
        life.now_ns += wait_ns
        was_closed = life.breaker.is_closed
        verdict = life.ask()
        if isinstance(verdict, Pause):
            assert not was_closed
            assert 0 < verdict.wait_ns <= 60 * S
            continue
        if ok:
            life.handle()
            assert life.ask() == GO
            buried_since_open = pauses = 0
        else:
            after = life.bury()
            if verdict == PROBE:
                assert isinstance(after, Pause)
            if not was_closed:
                buried_since_open += 1
            pauses += isinstance(after, Pause)
            assert buried_since_open <= max(0, pauses)
