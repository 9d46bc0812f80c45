"""The engine in memory goes wrong as it is asked to, and at no other time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from engine_kit import opened, outcome, read, seated
from link_kit import a_group, a_seat

from openoutcry.errors import Fenced, LogGone, Taken, Unreachable
from openoutcry.links import Fault, MemoryHub, MemoryTransport
from openoutcry.links.wire import pack
from openoutcry.ports import Place, Seat, Transport
from openoutcry.testing import run_virtual

STEPS = ["claim", "claim record", "claim high", "claim normal", "claim tokens"]


class HubFirm:
    def __init__(self) -> None:
        self.hub = MemoryHub()

    def transport(self, desk: str) -> MemoryTransport:
        return MemoryTransport(self.hub, desk)

    async def put(self, *_: Any) -> None:
        raise AssertionError("unused")

    async def delete(self, *_: Any) -> None:
        raise AssertionError("unused")


def in_virtual_time(test: Callable[[HubFirm], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(test(HubFirm()))

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


def uptos(hub: MemoryHub) -> list[int]:
    return [group.upto for group in hub.groups("normal")]


@in_virtual_time
async def test_a_request_that_is_lost_was_not_done_and_is_given_up(firm: HubFirm) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        firm.hub.fail("append")
        began_s = asyncio.get_running_loop().time()
        with pytest.raises(Unreachable, match="1 s"):
            await floor.append(a_group(0, 1), seat.tokens["normal"])
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(firm.hub.answer_s)
        assert uptos(firm.hub) == []
        await floor.append(a_group(0, 1), seat.tokens["normal"])
        assert uptos(firm.hub) == [1]


@in_virtual_time
async def test_a_request_whose_answer_is_lost_was_done(firm: HubFirm) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        firm.hub.fail("append done")
        with pytest.raises(Unreachable):
            await floor.append(a_group(0, 1), seat.tokens["normal"])
        assert uptos(firm.hub) == [1]


@in_virtual_time
async def test_a_request_that_is_late_is_done_after_it_was_given_up(firm: HubFirm) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        firm.hub.fail("append", Fault.LATE)
        with pytest.raises(Unreachable):
            await floor.append(a_group(0, 1), seat.tokens["normal"])
        await floor.append(a_group(0, 1), seat.tokens["normal"])
        await floor.append(a_group(1, 2), seat.tokens["normal"])
        assert uptos(firm.hub) == [1, 2]
        await asyncio.sleep(firm.hub.late_s + 0.1)
        assert uptos(firm.hub) == [1, 2, 1]


async def overtake(firm: HubFirm, old: Transport, new: Transport) -> None:
    """Have a request of the holder be late, and claim its desk meanwhile."""
    before = await seated(old, "floor", "old")
    firm.hub.fail("append", Fault.LATE)
    with pytest.raises(Unreachable):
        await old.append(a_group(0, 1), before.tokens["normal"])
    await new.claim(a_seat("floor", "new"), before)


@in_virtual_time
async def test_a_late_request_of_an_old_holder_is_refused(firm: HubFirm) -> None:
    async with opened(firm, "floor", "floor") as (old, new):
        await overtake(firm, old, new)
        await asyncio.sleep(firm.hub.late_s + 0.1)
        assert uptos(firm.hub) == []


@in_virtual_time
async def test_a_late_request_is_lost_with_the_connection_when_the_power_is_cut(firm: HubFirm) -> None:
    async with opened(firm, "floor", "floor") as (old, new):
        await overtake(firm, old, new)
        firm.hub.forget_newest("normal", 1)  # the claim that would have it refused
        await asyncio.sleep(firm.hub.late_s + 0.1)
        assert uptos(firm.hub) == []


@in_virtual_time
async def test_who_claims_after_a_log_has_lost_its_end_gets_no_place_that_the_last_holder_had(
    firm: HubFirm,
) -> None:
    async with opened(firm, "floor", "floor") as (old, new):
        before = await seated(old, "floor", "old")
        firm.hub.forget_newest("normal", 1)  # the claim, so that its place is given again
        seat = await new.claim(a_seat("floor", "new"), before)
        assert seat.tokens == {"high": before.tokens["high"] + 1, "normal": before.tokens["normal"] + 1}
        with pytest.raises(Fenced):
            await old.append(a_group(0, 1), before.tokens["normal"])
        await new.append(a_group(0, 2), seat.tokens["normal"])
        assert uptos(firm.hub) == [2]


@in_virtual_time
async def test_faults_of_one_desk_are_not_those_of_another(firm: HubFirm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        firm.hub.fail("facts", desk="street")
        assert (await floor.facts()).engine == "memory"
        assert isinstance(await outcome(street.facts()), Unreachable)


@in_virtual_time
async def test_a_desk_that_is_cut_off_reaches_nothing_and_hears_nothing(firm: HubFirm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        heard: list[bytes] = []
        await street.listen("beat", lambda _desk, data: heard.append(data))
        firm.hub.cut("street")
        assert not street.is_connected
        await floor.broadcast("beat", b"1")
        assert isinstance(await outcome(street.facts()), Unreachable)
        assert isinstance(await outcome(street.broadcast("beat", b"2")), Unreachable)
        firm.hub.heal("street")
        await floor.broadcast("beat", b"3")
        await asyncio.sleep(0.1)
        assert heard == [b"3"]
        assert street.is_connected


@in_virtual_time
async def test_messages_go_on_when_the_logs_do_not_answer(firm: HubFirm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        heard: list[bytes] = []
        await street.listen("kill", lambda _desk, data: heard.append(data), urgent=True)
        firm.hub.is_answering = False
        assert isinstance(await outcome(floor.facts()), Unreachable)
        await floor.broadcast("kill", b"1", urgent=True)
        await asyncio.sleep(0.01)
        assert heard == [b"1"]


@in_virtual_time
async def test_what_is_urgent_does_not_wait_for_the_bulk(firm: HubFirm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        heard: list[bytes] = []
        await street.listen("kill", lambda _desk, data: heard.append(data))
        firm.hub.delay_s = 5
        await floor.broadcast("kill", b"bulk")
        await floor.broadcast("kill", b"urgent", urgent=True)
        await asyncio.sleep(1)
        assert heard == [b"urgent"]
        await asyncio.sleep(5)
        assert heard == [b"urgent", b"bulk"]


@in_virtual_time
async def test_a_slow_engine_takes_its_time_both_ways(firm: HubFirm) -> None:
    async with opened(firm, "floor") as (floor,):
        firm.hub.delay_s = 0.2
        began_s = asyncio.get_running_loop().time()
        await floor.facts()
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(0.4)


@in_virtual_time
async def test_what_comes_while_an_answer_travels_is_read(firm: HubFirm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        coming = asyncio.create_task(read(street, "normal", 1))
        firm.hub.delay_s = 1.0
        await asyncio.sleep(0)
        for number in range(40):
            if coming.done():
                break
            await asyncio.sleep(0.1)
            firm.hub.append("normal", "floor", pack(a_group(number, number + 1)), seat.tokens["normal"])
            await asyncio.sleep(2.05)
        assert [group.upto for group in await coming] == [1]


@in_virtual_time
async def test_what_a_process_had_begun_when_it_was_killed_never_comes_back(firm: HubFirm) -> None:
    floor = firm.transport("floor")
    await floor.open()
    seat = await seated(floor, "floor")
    firm.hub.delay_s = 0.1
    task = asyncio.create_task(floor.append(a_group(0, 1), seat.tokens["normal"]))
    await asyncio.sleep(0.15)  # it is done, and its answer is on its way
    floor.die()
    await asyncio.sleep(60)
    assert not task.done()
    assert uptos(firm.hub) == [1]
    task.cancel()
    for call in (floor.facts(), floor.broadcast("beat", b"")):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await call


@pytest.mark.parametrize("step", STEPS + [f"{step} done" for step in STEPS])
def test_a_claim_that_ends_between_any_two_steps_leaves_the_desk_to_another(step: str) -> None:
    """Whoever claims next, after having waited, has the desk whole, and the first one is kept out."""

    async def main() -> None:
        firm = HubFirm()
        async with opened(firm, "floor", "floor", "floor") as (holder, killed, other):
            before = await seated(holder, "floor", "holder")
            firm.hub.fail(step)
            with pytest.raises(Unreachable):
                await killed.claim(a_seat("floor", "killed"), before)
            (seen,) = await other.seats()
            seat = await other.claim(a_seat("floor", "other"), seen)
            for log in ("high", "normal"):
                await other.append(a_group(0, 1, log=log), seat.tokens[log])
                for token in range(1, firm.hub.facts().logs[0].last + 1):
                    if token != seat.tokens[log]:
                        end = await outcome(killed.append(a_group(0, 1, log=log), token))
                        assert isinstance(end, Fenced)

    run_virtual(main())


@pytest.mark.parametrize("step", STEPS + [f"{step} done" for step in STEPS])
def test_a_claim_without_an_answer_is_made_again_by_the_same_process(step: str) -> None:
    async def main() -> None:
        firm = HubFirm()
        async with opened(firm, "floor") as (floor,):
            firm.hub.fail(step)
            with pytest.raises(Unreachable):
                await floor.claim(a_seat("floor"), None)
            seat = await floor.claim(a_seat("floor"), None)
            await floor.append(a_group(0, 1), seat.tokens["normal"])
            assert await floor.seats() == [seat]

    run_virtual(main())


@in_virtual_time
async def test_a_claim_that_was_overtaken_is_taken_from_nobody(firm: HubFirm) -> None:
    async with opened(firm, "floor", "floor") as (slow, quick):
        firm.hub.fail("claim normal", Fault.LATE)
        with pytest.raises(Unreachable):
            await slow.claim(a_seat("floor", "slow"), None)
        (seen,) = await quick.seats()
        seat = await quick.claim(a_seat("floor", "quick"), seen)
        await asyncio.sleep(firm.hub.late_s + 0.1)
        await quick.append(a_group(0, 1), seat.tokens["normal"])
        assert isinstance(await outcome(slow.claim(a_seat("floor", "slow"), None)), Taken)


@in_virtual_time
async def test_records_that_were_lost_are_written_again_by_those_who_hold_the_seats(firm: HubFirm) -> None:
    async with opened(firm, "floor", "floor") as (old, new):
        before = await seated(old, "floor", "old")
        seat = await new.claim(a_seat("floor", "new"), before)
        firm.hub.forget_seats()
        with pytest.raises(Fenced):
            await old.renew(before)
        renewed = await new.renew(seat)
        assert await new.seats() == [renewed]
        assert isinstance(renewed, Seat)


@in_virtual_time
async def test_a_log_that_has_lost_its_end_gives_the_places_again_and_readers_notice(firm: HubFirm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        places = [await floor.append(a_group(n, n + 1), seat.tokens["normal"]) for n in range(4)]
        firm.hub.forget_newest("normal", 2)
        assert (await floor.last("normal", "floor")).upto == 2
        with pytest.raises(LogGone):
            await read(street, "normal", 1, Place("", places[3]))
        assert await floor.append(a_group(2, 9), seat.tokens["normal"]) == places[2]
        assert [group.upto for group in await read(street, "normal", 3)] == [1, 2, 9]


@in_virtual_time
async def test_a_flipped_bit_takes_one_group_away(firm: HubFirm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        places = [await floor.append(a_group(n, n + 1), seat.tokens["normal"]) for n in range(3)]
        firm.hub.flip("normal", places[1])
        assert [group.upto for group in await read(street, "normal", 2)] == [1, 3]
        firm.hub.flip("normal", places[2])
        assert (await floor.last("normal", "floor")).upto == 1


@in_virtual_time
async def test_every_step_is_told_and_may_be_made_to_fail(firm: HubFirm) -> None:
    steps: list[str] = []

    def on_step(desk: str, step: str) -> Fault | None:
        steps.append(f"{desk} {step}")
        return Fault.LOST if step == "trim" else None

    firm.hub.on_step = on_step
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        await floor.append(a_group(0, 1), seat.tokens["normal"])
        assert isinstance(await outcome(floor.trim("normal", "floor", 1)), Unreachable)
    claims = [line for name in STEPS for line in (f"floor {name}", f"floor {name} done")]
    assert steps == [
        "floor open",
        "floor open done",
        *claims,
        "floor append",
        "floor append done",
        "floor trim",
    ]
