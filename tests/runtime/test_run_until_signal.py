"""`run_until_signal`: a bus that runs until SIGINT or SIGTERM, with real signals."""

import asyncio
import os
import signal
import subprocess
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from bus_helpers import Desk, a_tick, virtual
from process_kit import finish, finish_at_once, start_python

from openoutcry import ConfigError, EventBus, OpenOutcryError, WrongThread

NUMBERS = (signal.SIGINT, signal.SIGTERM)


def run_on(loop: str, coroutine: Any) -> Any:
    factory = None if loop == "asyncio" else pytest.importorskip(loop).new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(coroutine)


def signal_soon(number: signal.Signals) -> None:
    """Send this process a signal from the loop, a moment from now."""
    asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", NUMBERS)
def test_it_starts_the_bus_and_returns_the_signal_when_the_bus_has_drained(
    loop: str, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        bus, handled = EventBus(), []

        async def slow(tick: Any) -> None:
            signal_soon(number) if not handled else None
            await asyncio.sleep(0.03)
            handled.append(tick)

        bus.subscribe("market_data", slow)
        for price in range(1, 4):
            bus.publish_nowait(a_tick(price))
        assert await bus.run_until_signal() is number
        assert len(handled) == 3
        assert bus.get_status()["state"] == "stopped"

    before = [signal.getsignal(number) for number in NUMBERS]
    run_on(loop, main())
    assert [signal.getsignal(number) for number in NUMBERS] == before
    assert "stopping: draining for up to 10 s; again to end at once" in capfd.readouterr().err


def test_within_async_with_it_stops_the_running_bus() -> None:
    async def main() -> None:
        async with EventBus() as bus:
            signal_soon(signal.SIGTERM)
            assert await bus.run_until_signal() is signal.SIGTERM
            assert not bus.is_running

    asyncio.run(main())


@virtual
async def test_it_returns_none_when_somebody_else_stops_the_bus():
    bus = EventBus()
    asyncio.get_running_loop().call_later(3, lambda: asyncio.ensure_future(bus.stop()))
    assert await bus.run_until_signal() is None
    assert asyncio.get_running_loop().time() == pytest.approx(3, abs=1)


def test_the_drain_ends_at_its_time_out() -> None:
    async def main() -> None:
        bus = EventBus()

        async def stuck(_: Any) -> None:
            signal_soon(signal.SIGINT)
            await asyncio.sleep(600)

        bus.subscribe("market_data", stuck)
        bus.publish_nowait(a_tick())
        assert await bus.run_until_signal(drain_timeout_s=0.05) is signal.SIGINT
        assert bus.ledger().total("waiting") + bus.ledger().total("in_flight") == 1

    asyncio.run(main())


def test_several_buses_of_a_loop_stop_at_one_signal() -> None:
    async def main() -> None:
        buses = [EventBus() for _ in range(3)]
        signal_soon(signal.SIGTERM)
        got = await asyncio.gather(*(bus.run_until_signal() for bus in buses))
        assert got == [signal.SIGTERM] * 3
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    asyncio.run(main())


@virtual
async def test_cancelled_it_gives_the_signals_back_and_leaves_the_bus_running():
    before = [signal.getsignal(number) for number in NUMBERS]
    bus = EventBus()
    waiting = asyncio.create_task(bus.run_until_signal())
    await asyncio.sleep(1)
    assert [signal.getsignal(number) for number in NUMBERS] != before
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bus.is_running
    assert [signal.getsignal(number) for number in NUMBERS] == before
    await bus.stop()


@virtual
async def test_a_handler_set_meanwhile_by_the_program_stays():
    def own(*_: object) -> None:
        raise AssertionError

    before = signal.getsignal(signal.SIGTERM)
    bus = EventBus()
    waiting = asyncio.create_task(bus.run_until_signal())
    await asyncio.sleep(1)
    signal.signal(signal.SIGTERM, own)
    try:
        await bus.stop()
        assert await waiting is None
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_it_says_that_no_signal_arrives_there() -> None:
    errors: list[BaseException] = []

    async def main() -> None:
        bus = EventBus()
        try:
            await bus.run_until_signal()
        except WrongThread as error:
            errors.append(error)
        assert not bus.is_running

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    assert "in another thread than the main one, where no signal arrives" in str(errors[0])


@virtual
async def test_called_by_a_handler_it_raises():
    errors: list[Exception] = []
    async with EventBus() as bus:

        async def waits(_: Any) -> None:
            try:
                await bus.run_until_signal()
            except OpenOutcryError as error:
                errors.append(error)

        bus.subscribe("market_data", waits)
        await bus.publish(a_tick())
        await bus.join()
    assert "called by a handler" in str(errors[0])


@virtual
async def test_a_negative_drain_time_is_refused_before_anything_starts():
    bus = EventBus()
    with pytest.raises(ConfigError, match="drain_timeout_s"):
        await bus.run_until_signal(drain_timeout_s=-1)
    assert not bus.is_running


@virtual
async def test_a_stopped_bus_is_started_again():
    bus, desk = EventBus(), Desk()
    bus.subscribe("market_data", desk.on_event)
    async with bus:
        pass
    asyncio.get_running_loop().call_later(3, lambda: bus.publish_nowait(a_tick()))
    asyncio.get_running_loop().call_later(4, lambda: asyncio.ensure_future(bus.stop()))
    assert await bus.run_until_signal() is None
    assert len(desk.handled) == 1


# -- in processes of their own -----------------------------------------------------------------------


def start(tmp_path: Path, code: str) -> subprocess.Popen[str]:
    """Run this code, and return once it has printed `ready`."""
    (tmp_path / "script.py").write_text(textwrap.dedent(code), encoding="utf-8")
    return start_python(tmp_path, "script.py")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_second_signal_ends_the_process_even_when_the_loop_is_blocked(
    tmp_path: Path, number: signal.Signals
) -> None:
    code = """
        import asyncio
        from openoutcry import EventBus, MarketDataEvent

        async def never_yields(tick):
            print("ready", flush=True)
            while True:
                pass

        bus = EventBus()
        bus.subscribe(MarketDataEvent, never_yields)
        bus.publish_nowait(MarketDataEvent(symbol="ES", price=1.0))
        asyncio.run(bus.run_until_signal())
    """
    exit_code, _, err = finish_at_once(start(tmp_path, code), number)
    assert exit_code == 128 + number
    assert "forced" in err


def test_a_signal_ends_a_forked_child_at_once_and_leaves_the_bus_of_the_parent(tmp_path: Path) -> None:
    code = """
        import asyncio, os, signal, time
        from openoutcry import EventBus

        async def main():
            async with EventBus() as bus:
                waiting = asyncio.create_task(bus.run_until_signal())
                await asyncio.sleep(0.05)
                is_up, up = os.pipe()
                child = os.fork()
                if not child:
                    os.write(up, b"x")  # a signal that comes while Python forks is lost
                    time.sleep(600)
                    os._exit(0)
                os.read(is_up, 1)
                os.kill(child, signal.SIGTERM)
                print("ready", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), bus.is_running)
                os.kill(os.getpid(), signal.SIGTERM)
                assert await waiting is signal.SIGTERM

        print("ready", flush=True)
        asyncio.run(main())
    """
    exit_code, out, err = finish(start(tmp_path, code))
    assert (exit_code, out) == (0, f"ready -{signal.SIGTERM} True\n"), err


def test_a_signal_during_the_start_ends_the_start(tmp_path: Path) -> None:
    code = """
        import asyncio, os, signal
        from openoutcry import EventBus, FillEvent
        from openoutcry.journals import MemoryJournal

        journal, seen = MemoryJournal(), []

        def slow(fill):
            if not seen:
                os.kill(os.getpid(), signal.SIGTERM)
            seen.append(fill)

        async def main():
            for life in (1, 2):
                bus = EventBus(journal=journal)
                bus.subscribe(FillEvent, print_nothing, name="book", restore=slow if life == 2 else None)
                if life == 1:
                    async with bus:
                        for n in range(3_000):
                            await bus.publish(FillEvent(
                                order_id=str(n), symbol="ES", side="buy", filled_quantity=1, fill_price=1.0
                            ))
                        await bus.join()
                else:
                    assert await bus.run_until_signal() is signal.SIGTERM
                    print(len(seen) < 3_000, bus.get_status()["state"])

        async def print_nothing(fill):
            pass

        print("ready", flush=True)
        asyncio.run(main())
    """
    exit_code, out, err = finish(start(tmp_path, code))
    assert (exit_code, out) == (0, "True stopped\n"), err
