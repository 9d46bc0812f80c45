"""The watchdog: a handler that never yields is named, an idle loop is left alone, and threads do not starve."""

import asyncio
import itertools
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from openoutcry.runtime.health import gil_yield, loop_watchdog
from openoutcry.runtime.health.gil_yield import GilYield
from openoutcry.runtime.health.loop_watchdog import Watchdog
from openoutcry.testing import run_virtual

LONGEST_SUM = 3_000_000_000
LIMIT_S = 300.0  # by which a test has failed, on any machine


def spin_until(is_done: Callable[[], bool]) -> None:
    """Hold the loop as a handler does that never yields."""
    deadline_s = time.monotonic() + LIMIT_S
    while not is_done():
        assert time.monotonic() < deadline_s, "the watchdog has not noticed"


async def turn_until(is_done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not is_done():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.005)


class Listened(Watchdog):
    """A watchdog whose reports can be read."""

    def __init__(self, **options):
        self.reports: queue.SimpleQueue = queue.SimpleQueue()
        super().__init__(asyncio.get_running_loop(), on_blocked=self.reports.put, **options)


@contextmanager
def watching(**options):
    dog = Listened(**options)
    assert dog.start()
    try:
        yield dog
    finally:
        dog.stop()


class ByHand(Listened):
    """A watchdog that looks when it is told to, and a time that passes when it is told to.

    What happens on a machine with real threads depends on who gets the processor, and for how long.
    """

    def __init__(self, monkeypatch, **options):
        super().__init__(**options)
        self.now_ns = 1
        self._loop_thread = threading.get_ident()
        monkeypatch.setattr(loop_watchdog, "time", SimpleNamespace(monotonic_ns=lambda: self.now_ns))

    def look_after(self, passed_s: float) -> None:
        self.now_ns += int(passed_s * 1e9)
        self._look()


async def stuck(dog: Listened) -> None:
    spin_until(lambda: not dog.reports.empty())


def in_task(coro, name="openoutcry:trend.on_tick"):
    return asyncio.get_running_loop().create_task(coro, name=name)


def test_a_handler_that_never_yields_is_named_with_its_stack_while_it_holds_the_loop():
    async def main():
        with watching() as dog:
            await in_task(stuck(dog))
            report = dog.reports.get_nowait()
        assert report.handler == "trend.on_tick"
        assert not report.is_over
        assert any("in stuck" in line for line in report.stack)
        assert any("in spin_until" in line for line in report.stack)
        return report

    report = asyncio.run(main())
    assert report.held_ns >= 0.18e9


def test_many_blockages_by_one_handler_make_as_many_reports_and_one_stack_in_the_log(caplog, monkeypatch):
    async def main():
        dog = ByHand(monkeypatch, limit_s=0.02)

        async def handler():
            for _ in range(20):
                dog.look_after(0.002)

        for _ in range(15):
            await in_task(handler())
            await asyncio.sleep(0)
            dog.look_after(0.002)
        assert (dog.reports.qsize(), len(dog.episodes)) == (15, 15)

    with caplog.at_level(logging.WARNING, "openoutcry"):
        asyncio.run(main())
    assert len([record for record in caplog.records if "has blocked the loop" in record.message]) == 1
    assert len([record for record in caplog.records if "it runs again" in record.message]) == 1


def test_one_blockage_makes_one_report_and_one_line_however_long_it_lasts(caplog, monkeypatch):
    async def main():
        dog = ByHand(monkeypatch, limit_s=0.02)

        async def handler():
            for _ in range(100):
                dog.look_after(0.002)

        await in_task(handler())
        await asyncio.sleep(0)
        dog.look_after(0.002)
        assert dog.episodes[-1].is_over
        assert (dog.reports.qsize(), len(dog.episodes)) == (1, 1)

    with caplog.at_level(logging.ERROR, "openoutcry"):
        asyncio.run(main())
    assert [record.message.partition(" for ")[0] for record in caplog.records] == [
        "trend.on_tick has blocked the loop"
    ]


def test_a_callback_that_is_no_task_is_named_by_its_function():
    async def main():
        with watching() as dog:
            asyncio.get_running_loop().call_soon(hold_in_a_callback, dog)
            await turn_until(lambda: bool(dog.episodes) and dog.episodes[-1].is_over)
            return dog.episodes[-1]

    episode = asyncio.run(main())
    assert any("in hold_in_a_callback" in line for line in episode.stack)


def hold_in_a_callback(dog):
    spin_until(lambda: not dog.reports.empty())


def test_health_learns_who_held_the_loop_and_for_how_long_once(monkeypatch):
    async def main():
        dog = ByHand(monkeypatch, limit_s=0.02)
        during = []

        async def handler():
            dog.look_after(0)
            dog.look_after(0.03)
            during.append(dog.vitals())

        await in_task(handler())
        await asyncio.sleep(0)
        dog.look_after(0.01)
        assert dog.blocked_ns == 0
        return during[0], dog.vitals(), dog.vitals()

    during, after, later = asyncio.run(main())
    assert during.handler == "trend.on_tick"
    assert during.blocked_ns >= 0.02e9
    assert (after.handler, after.blocked_ns, after.blockages) == ("trend.on_tick", 0, 1)
    assert after.lag_ns >= 0.02e9
    assert after.longest_ns == after.lag_ns
    assert (later.handler, later.blockages) == ("", 0)


def test_a_call_in_c_that_lets_no_thread_run_is_named_afterwards():
    async def main():
        loop = asyncio.get_running_loop()
        moved_ns = [0]
        with watching(limit_s=0.02, tick_s=0.002, moved_ns=lambda: moved_ns[0]) as dog:
            await turn_until(lambda: dog._looked_ns > 0)

            async def handler(count):
                sum(range(count))  # one call, and no look at who waits for the lock

            def named():
                return [episode for episode in dog.episodes if episode.handler == "risk.on_order"]

            count = 20_000_000
            while not named() and count < LONGEST_SUM:
                await loop.create_task(handler(count), name="openoutcry:risk.on_order")
                await asyncio.sleep(0.1)
                count *= 2
            await turn_until(lambda: bool(named()))
            return named()[0]

    episode = asyncio.run(main())
    assert episode.is_over


def test_a_loop_that_is_busy_with_short_slices_is_not_blocked(monkeypatch):
    async def main():
        dog = ByHand(monkeypatch)
        for _ in range(100):
            dog.look_after(0.025)
            await asyncio.sleep(0)
        return dog.episodes, dog.vitals()

    episodes, vitals = asyncio.run(main())
    assert episodes == ()
    assert vitals.blockages == 0


def test_an_idle_loop_is_never_asked():
    """A thread looks as the watchdog does, while the loop waits in its selector with no timer set."""

    async def main():
        loop = asyncio.get_running_loop()
        dog = Watchdog(loop)
        dog._loop_thread = threading.get_ident()
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=look_at_the_idle, args=(dog, theirs))
        reader, writer = await asyncio.open_connection(sock=ours)
        thread.start()
        await reader.read(1)
        thread.join()
        writer.close()
        return dog._ping

    assert asyncio.run(main()) is None


def look_at_the_idle(dog, wake):
    deadline_s = time.monotonic() + LIMIT_S
    while dog._frame().f_code.co_name != "select" and time.monotonic() < deadline_s:
        time.sleep(0.001)
    for _ in range(100):
        dog._look()
    wake.sendall(b"x")
    wake.close()


def test_on_virtual_time_no_thread_is_started():
    async def main():
        before = threading.active_count()
        dog = Watchdog(asyncio.get_running_loop())
        assert not dog.start()
        assert threading.active_count() == before
        assert not dog.is_watching
        dog.stop()

    run_virtual(main())


def test_it_ends_when_stopped_and_can_be_started_again():
    def dogs():
        return {t for t in threading.enumerate() if t.name == "openoutcry:watchdog"} - before

    before = set(threading.enumerate())  # such as one of a test before, that ends just now

    async def main():
        dog = Watchdog(asyncio.get_running_loop(), tick_s=10)
        dog.stop()
        for _ in range(2):
            dog.start()
            dog.start()
            assert len(dogs()) == 1
            dog.stop()
            assert not dog.is_watching
            assert dogs() == set()

    asyncio.run(main())


def test_it_ends_by_itself_when_the_loop_is_gone():
    async def main():
        dog = Watchdog(asyncio.get_running_loop(), tick_s=0.001)
        dog.start()
        return dog

    dog = asyncio.run(main())
    dog._seems_busy = lambda: True
    dog._thread.join(LIMIT_S)
    assert not dog.is_watching


def test_it_ends_by_itself_when_the_loop_is_gone_before_it_has_answered():
    async def main():
        dog: Any = Watchdog(asyncio.get_running_loop(), tick_s=0.001)
        dog._seems_busy = lambda: True
        dog._pong = lambda ping: None
        dog.start()
        while dog._ping is None:
            time.sleep(0)  # noqa: ASYNC251 - the loop is not to run meanwhile
        return dog

    dog = asyncio.run(main())
    dog._thread.join(LIMIT_S)
    assert not dog.is_watching
    assert dog.blocked_ns == 0


def test_a_callback_that_raises_is_logged_and_the_watching_goes_on(caplog):
    async def main():
        calls = []

        def bad(blockage):
            calls.append(blockage)
            raise ValueError("of the user's")

        dog = Watchdog(asyncio.get_running_loop(), on_blocked=bad, limit_s=0.02, tick_s=0.002)
        dog.start()
        for count in (1, 2):
            spin_until(lambda count=count: len(calls) >= count)  # type: ignore[misc]
            await turn_until(lambda: dog.episodes[-1].is_over)
        dog.stop()

    with caplog.at_level(logging.ERROR, "openoutcry"):
        asyncio.run(main())
    assert "of the user's" in caplog.text


def test_beside_a_busy_loop_a_thread_gets_its_turn():
    """Without a breath the thread wakes a few times; with it, it has made its rounds before the test ends."""

    async def main():
        loop = asyncio.get_running_loop()
        rounds = 0
        done = threading.Event()

        def feed():
            nonlocal rounds
            for _ in range(100):
                time.sleep(0.001)
                rounds += 1
            done.set()

        breath = GilYield(loop)
        thread = threading.Thread(target=feed)
        thread.start()
        breath.begin()
        deadline_s = time.monotonic() + LIMIT_S
        while not done.is_set() and time.monotonic() < deadline_s:
            sum(range(3000))
            await asyncio.sleep(0)
        breath.stop()
        thread.join()
        return rounds, breath

    rounds, breath = asyncio.run(main())
    assert rounds == 100
    assert not breath.is_on


def a_clock(share, pauses):
    """A stand-in for `time`: a millisecond passes at each look, and the loop uses a share of its processor."""
    passed = itertools.count(1)
    now_ns = 0

    def monotonic_ns():
        nonlocal now_ns
        now_ns = next(passed) * 1_000_000
        return now_ns

    def used_ns():
        return int(now_ns * share)

    return SimpleNamespace(
        monotonic_ns=monotonic_ns, thread_time_ns=used_ns, process_time_ns=used_ns, sleep=pauses.append
    )


def test_a_loop_that_uses_its_processor_is_paused(monkeypatch):
    pauses = []
    monkeypatch.setattr(gil_yield, "time", a_clock(1, pauses))

    async def main():
        breath = GilYield(asyncio.get_running_loop())
        breath.begin()
        await turn_until(lambda: breath.count >= 3)
        breath.stop()

    asyncio.run(main())
    assert set(pauses) == {gil_yield.PAUSE_S}


def test_a_loop_with_time_to_spare_does_not_pause_and_is_left_alone_after_a_while(monkeypatch):
    pauses = []
    monkeypatch.setattr(gil_yield, "time", a_clock(0.05, pauses))
    monkeypatch.setattr(gil_yield, "OVER_S", 0.005)

    async def main():
        breath = GilYield(asyncio.get_running_loop())
        breath.begin()
        breath.begin()
        await turn_until(lambda: not breath.is_on)
        breath.stop()
        return breath.count

    assert asyncio.run(main()) == 0
    assert pauses == []


@pytest.mark.parametrize("kind", ["stop", "never begun"])
def test_a_breath_that_is_stopped_leaves_no_timer(kind):
    async def main():
        breath = GilYield(asyncio.get_running_loop())
        if kind == "stop":
            breath.begin()
        breath.stop()
        assert not breath.is_on

    asyncio.run(main())
