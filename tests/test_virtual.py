"""The loop whose time is virtual."""

import asyncio
import concurrent.futures
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from openoutcry.errors import ConfigError
from openoutcry.testing import Deadlock, VirtualClock, VirtualLoop, run_virtual


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def never() -> None:
    await asyncio.Event().wait()


def test_an_hour_of_sleep_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(3600)
        return loop_time()

    began_s = time.monotonic()
    assert run_virtual(main()) == 3600
    assert time.monotonic() - began_s < 1800


def test_sleeps_add_up_exactly() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for _ in range(1_000):
            await asyncio.sleep(0.001)
        return loop.clock.now_ns()

    assert run_virtual(main()) == 1_000_000_000


def test_timers_still_fire_after_thirty_years() -> None:
    async def main() -> float:
        await asyncio.sleep(1e9)
        before_s = loop_time()
        await asyncio.sleep(0.001)
        return loop_time() - before_s

    assert run_virtual(main()) == pytest.approx(0.001, rel=0.01)


def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()
        for name, delay_s in (("c", 3), ("a", 1), ("b", 2)):
            loop.call_later(delay_s, lambda name=name: seen.append((name, loop.time())))  # type: ignore[misc]
        await asyncio.sleep(10)
        return seen

    assert run_virtual(main()) == [("a", 1), ("b", 2), ("c", 3)]


def test_a_timeout_ends_a_wait_at_its_virtual_deadline() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await never()
        return loop_time()

    assert run_virtual(main()) == 5


def test_ready_work_runs_before_time_moves() -> None:
    async def main() -> float:
        timer = asyncio.get_running_loop().call_later(0.001, lambda: None)
        for _ in range(100):
            await asyncio.sleep(0)
        timer.cancel()
        return loop_time()

    assert run_virtual(main()) == 0


def test_the_same_program_takes_the_same_path_every_time() -> None:
    async def worker(name: int, log: list[tuple[int, float]]) -> None:
        for step in range(20):
            await asyncio.sleep((name * 7 + step * 3) % 5 / 10)
            log.append((name, loop_time()))

    async def main() -> list[tuple[int, float]]:
        log: list[tuple[int, float]] = []
        async with asyncio.TaskGroup() as group:
            for name in range(10):
                group.create_task(worker(name, log))
        return log

    assert run_virtual(main()) == run_virtual(main())


@pytest.mark.parametrize("start", [datetime(2024, 3, 1, tzinfo=UTC), 1_709_251_200_000_000_000])
def test_the_wall_clock_starts_where_it_is_told(start: datetime | int) -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        await asyncio.sleep(1)
        return loop.clock.wall_ns()

    assert run_virtual(main(), start=start) == 1_709_251_201_000_000_000


def test_a_start_without_a_time_zone_is_refused() -> None:
    coro = never()
    with pytest.raises(ConfigError, match="no time zone"):
        run_virtual(coro, start=datetime(2024, 3, 1))  # noqa: DTZ001
    coro.close()


def test_a_clock_can_be_shared_and_advanced_by_hand() -> None:
    clock = VirtualClock()
    loop = VirtualLoop(clock)
    fired: list[float] = []
    loop.call_later(5, lambda: (fired.append(loop.time()), loop.stop()))
    clock.advance(7_000_000_000)
    loop.run_forever()
    loop.close()
    assert fired == [7]


def test_a_deadlock_names_every_waiting_task_and_its_line() -> None:
    async def inner() -> None:
        await never()

    async def main() -> None:
        await asyncio.create_task(inner(), name="strategy-7")

    with pytest.raises(Deadlock) as caught:
        run_virtual(main())
    text = str(caught.value)
    assert "nothing is ready" in text
    assert "strategy-7 waits in never (" in text
    assert "test_virtual.py" in text
    assert ", in Event.wait" in text


def test_a_deadlock_still_runs_the_clean_up_of_the_tasks() -> None:
    cleaned: list[str] = []

    async def main() -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(1)
            cleaned.append("main")

    with pytest.raises(Deadlock):
        run_virtual(main())
    assert cleaned == ["main"]


@pytest.mark.parametrize("delay_s", [0, 1])
def test_a_program_that_never_ends_is_stopped_after_its_real_time(delay_s: float) -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - an endless wait is the point
            await asyncio.sleep(delay_s)

    with pytest.raises(Deadlock, match="still running after"):
        run_virtual(main(), limit_s=0.05)


def test_a_timeout_waits_for_a_running_thread() -> None:
    gate = threading.Event()

    async def main() -> bool:
        threading.Timer(0.05, gate.set).start()
        async with asyncio.timeout(1):
            return await asyncio.to_thread(gate.wait, 10)

    assert run_virtual(main()) is True


def test_without_patience_a_timeout_does_not_wait_for_a_thread() -> None:
    gate = threading.Event()

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.to_thread(gate.wait, 10)
        gate.set()
        return loop_time()

    assert run_virtual(main(), patience_s=0) == 30


def test_a_call_from_another_thread_wakes_the_loop() -> None:
    async def main() -> int:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        thread = threading.Timer(0.02, loop.call_soon_threadsafe, (answer.set_result, 42))
        thread.start()
        return await answer

    assert run_virtual(main()) == 42


def test_a_thread_that_ends_without_a_word_is_a_deadlock() -> None:
    async def main() -> None:
        threading.Timer(0.02, lambda: None).start()
        await never()

    with pytest.raises(Deadlock, match="nothing is ready"):
        run_virtual(main())


def test_idle_workers_of_a_pool_are_not_a_reason_to_wait() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(int)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            await loop.run_in_executor(pool, int)
            await never()

    with pytest.raises(Deadlock, match="nothing is ready"):
        run_virtual(main())


def test_a_coroutine_can_be_handed_in_from_another_thread() -> None:
    async def double(value: int) -> int:
        await asyncio.sleep(100)
        return value * 2

    async def main() -> int:
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(double(21), loop).result(10))

    # The thread waits for a timer, so time must not wait for the thread.
    assert run_virtual(main(), patience_s=0) == 42


def test_a_child_process_is_waited_for_in_real_time() -> None:
    async def main() -> bytes:
        async with asyncio.timeout(1):
            program = "import time; time.sleep(0.05); print('done')"
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-S", "-c", program, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await child.communicate()
        return out

    assert run_virtual(main()).strip() == b"done"


def test_sockets_work() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> bytes:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"bid\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

    assert run_virtual(main()) == b"bid\n"


def test_what_the_coroutine_raises_comes_out_as_it_is() -> None:
    async def main() -> None:
        raise KeyError("AAPL")

    with pytest.raises(KeyError, match="AAPL"):
        run_virtual(main())


def test_an_error_in_a_task_that_nobody_awaited_is_raised_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails() -> None:
        raise KeyError("AAPL")

    async def main() -> None:
        task = asyncio.create_task(fails())
        await asyncio.sleep(1)
        assert task.done()

    with caplog.at_level(logging.CRITICAL, "asyncio"), pytest.raises(ExceptionGroup) as caught:
        run_virtual(main())
    assert [repr(error) for error in caught.value.exceptions] == ["KeyError('AAPL')"]


def test_an_error_in_a_callback_is_raised_at_the_end() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1, int, "x")
        await asyncio.sleep(2)

    with pytest.raises(ExceptionGroup) as caught:
        run_virtual(main())
    assert isinstance(caught.value.exceptions[0], ValueError)


def test_a_handler_set_by_the_coroutine_gets_the_errors_instead() -> None:
    seen: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: seen.append(context["exception"]))
        loop.call_later(1, int, "x")
        await asyncio.sleep(2)

    run_virtual(main())
    assert len(seen) == 1


def test_leftover_tasks_are_cancelled_and_generators_closed() -> None:
    ended: list[str] = []

    async def leftover() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append("task")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    kept = numbers()

    async def main() -> None:
        task = asyncio.create_task(leftover())
        await anext(kept)
        assert not task.done()

    run_virtual(main())
    assert sorted(ended) == ["generator", "task"]


def test_debug_mode_is_passed_on() -> None:
    async def main() -> bool:
        return asyncio.get_running_loop().get_debug()

    assert run_virtual(main(), debug=True) is True
