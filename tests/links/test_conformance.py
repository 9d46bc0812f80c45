"""What every engine does for a firm: logs in order, fenced by seats, and messages that nobody keeps."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest
from engine_kit import Engine, Firm, eventually, made_of, opened, outcome, read, reading, seated
from link_kit import a_group, a_seat, an_entry
from msgspec.structs import replace

from openoutcry.errors import Fenced, GroupTooLarge, LogFull, LogGone, Taken, Unreachable
from openoutcry.links import wire
from openoutcry.ports import LOGS, Ended, Group, Place, Seat, Transport

MIB = 2**20


def on_an_engine(test: Callable[[Firm], Coroutine[Any, Any, None]]) -> Callable[[Engine], None]:
    """Run a test with a firm of its own."""

    def run(link_engine: Engine) -> None:
        link_engine.run(lambda: test(link_engine.firm(most_bytes=8 * MIB)))

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


async def trimmed(transport: Transport, upto: int, wanted: int) -> int:
    """How many go, if it is tried until so many are gone: a node that is behind leaves some for the next time."""
    count = await transport.trim("normal", "floor", upto)
    for _ in range(500):
        if count >= wanted:
            break
        await asyncio.sleep(0.01)
        count += await transport.trim("normal", "floor", upto)
    return count


async def appended(transport: Transport, group: Group, token: int) -> int:
    """Append as one does: again after `Unreachable`. A cluster may not answer while a log of it is deleted."""
    for _ in range(4):
        try:
            return await transport.append(group, token)
        except Unreachable:
            continue
    return await transport.append(group, token)


# -- logs


@on_an_engine
async def test_a_group_is_read_as_it_was_appended(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        group = a_group(0, 5)
        place = await floor.append(group, seat.tokens["normal"])
        assert await read(street, "normal", 1) == [replace(group, place=place)]
        assert place > 0


@on_an_engine
async def test_groups_are_read_in_the_order_in_which_they_were_appended(firm: Firm) -> None:
    async with opened(firm, "floor", "street", "desk") as (floor, street, desk):
        seats = {"floor": await seated(floor, "floor"), "street": await seated(street, "street")}
        places = []
        for number in range(20):
            for name, transport in (("floor", floor), ("street", street)):
                group = a_group(number, number + 1, desk=name)
                places.append(await transport.append(group, seats[name].tokens["normal"]))
        assert sorted(set(places)) == places
        for number, name in enumerate(seats):
            groups = await read(desk, "normal", 20, desk=name)
            assert [group.upto for group in groups] == list(range(1, 21))
            assert [group.place for group in groups] == places[number::2]


@on_an_engine
async def test_the_logs_are_apart(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        await floor.append(a_group(0, 3, log="normal"), seat.tokens["normal"])
        await floor.append(a_group(0, 1, log="high"), seat.tokens["high"])
        assert [group.upto for group in await read(street, "high", 1)] == [1]
        assert [group.upto for group in await read(street, "normal", 1)] == [3]


@on_an_engine
async def test_a_reader_goes_on_behind_its_place_and_gets_what_comes_later(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        places = [await floor.append(a_group(n, n + 1), seat.tokens["normal"]) for n in range(3)]
        after = Place(await made_of(street, "normal"), places[1])
        coming = asyncio.create_task(read(street, "normal", 3, after))
        await asyncio.sleep(0.05)
        for number in (3, 4):
            await floor.append(a_group(number, number + 1), seat.tokens["normal"])
        assert [group.upto for group in await coming] == [3, 4, 5]


@on_an_engine
async def test_two_readers_of_one_transport_do_not_meet(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        coming = [asyncio.create_task(read(street, "normal", 4)) for _ in range(2)]
        for number in range(4):
            await floor.append(a_group(number, number + 1), seat.tokens["normal"])
        for task in coming:
            assert [group.upto for group in await task] == [1, 2, 3, 4]


@on_an_engine
async def test_a_group_that_was_appended_twice_stands_there_twice(firm: Firm) -> None:
    """Who got no answer appends the same group again."""
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        first = await floor.append(a_group(0, 5), seat.tokens["normal"])
        second = await floor.append(a_group(0, 5), seat.tokens["normal"])
        longer = await floor.append(a_group(0, 9), seat.tokens["normal"])
        assert first < second < longer
        assert [group.upto for group in await read(street, "normal", 3)] == [5, 5, 9]


@on_an_engine
async def test_groups_that_are_appended_at_once_are_all_there(firm: Firm) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        groups = [a_group(number, number + 1, log=log) for log in LOGS for number in range(20)]
        places = await asyncio.gather(*(floor.append(group, seat.tokens[group.log]) for group in groups))
        for log in LOGS:
            mine = [place for place, group in zip(places, groups, strict=True) if group.log == log]
            assert [group.place for group in await read(floor, log, 20)] == sorted(mine)


@on_an_engine
async def test_a_reader_is_given_the_desk_that_the_engine_vouches_for(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        forged = replace(a_group(0, 1), desk="desk")
        await firm.put("normal", "floor", wire.pack(forged), seat.tokens["normal"])
        assert [group.desk for group in await read(street, "normal", 1)] == ["floor"]


@on_an_engine
async def test_a_group_that_is_damaged_is_left_out(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        token = seat.tokens["normal"]
        place = await floor.append(a_group(0, 1), token)
        damaged = bytearray(wire.pack(a_group(1, 2)))
        damaged[-3] ^= 1
        for data in (bytes(damaged), b"", b"anything"):
            await firm.put("normal", "floor", data, token)
        assert await floor.last("normal", "floor") == Ended("j1", 1, place, 1, "e1")
        await floor.append(a_group(2, 3), token)
        assert [group.upto for group in await read(street, "normal", 2)] == [1, 3]


@on_an_engine
async def test_the_largest_groups_go_through(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        token = seat.tokens["normal"]
        many = a_group(0, wire.ENTRIES_MOST, size_bytes=250)
        assert len(wire.pack(many)) > wire.BYTES_MOST * 0.7
        await floor.append(many, token)
        large = replace(a_group(512, 513), entries=(an_entry(513, size_bytes=700_000),))
        await floor.append(large, token)
        found = await read(street, "normal", 2)
        assert [group.entries for group in found] == [many.entries, large.entries]


@on_an_engine
async def test_a_group_that_the_engine_does_not_take_is_an_error_and_nothing_of_it_is_there(
    firm: Firm,
) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        facts = await floor.facts()
        large = replace(a_group(0, 1), entries=(an_entry(1, size_bytes=facts.most_bytes),))
        with pytest.raises(GroupTooLarge, match=r"\d"):
            await floor.append(large, seat.tokens["normal"])
        assert await floor.last("normal", "floor") is None
        await floor.append(a_group(0, 1), seat.tokens["normal"])


@on_an_engine
async def test_where_exports_end_is_known_at_once(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seats = {"floor": await seated(floor, "floor"), "street": await seated(street, "street")}
        assert await floor.last("normal", "floor") is None
        for number in range(30):
            place = await floor.append(a_group(number, number + 1), seats["floor"].tokens["normal"])
            expected = Ended("j1", number + 1, place, number + 1, f"e{number + 1}")
            assert await street.last("normal", "floor") == expected
            await street.append(a_group(number, number + 1, desk="street"), seats["street"].tokens["normal"])
        assert await floor.last("high", "floor") is None
        assert await floor.last("normal", "nobody") is None


@on_an_engine
async def test_what_is_appended_is_in_the_facts(firm: Firm) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        place = await floor.append(a_group(0, 1), seat.tokens["normal"])
        facts = await floor.facts()
        (normal,) = (one for one in facts.logs if one.log == "normal")
        assert normal.last >= place
        assert normal.size_bytes > 0
        assert normal.first <= place
        assert facts.replicas == normal.replicas >= 1
        assert facts.most_bytes >= wire.BYTES_MOST
        assert {one.log for one in facts.logs} == set(LOGS)
        assert facts.engine


# -- a log that is full, trimmed, lost


def test_a_full_log_refuses_and_takes_again_when_it_was_trimmed(link_engine: Engine) -> None:
    async def main() -> None:
        firm = link_engine.firm(most_bytes=MIB)
        async with opened(firm, "floor", "street") as (floor, street):
            seat = await seated(floor, "floor")
            token = seat.tokens["normal"]
            upto = 0
            while not isinstance(
                await outcome(floor.append(a_group(upto, upto + 1, size_bytes=200_000), token)), LogFull
            ):
                upto += 1
            assert 3 <= upto <= 5
            assert (await floor.last("normal", "floor")).upto == upto
            assert await floor.append(a_group(0, 1, log="high"), seat.tokens["high"])
            assert await trimmed(street, upto - 1, upto - 1) == upto - 1
            await floor.append(a_group(upto, upto + 1, size_bytes=200_000), token)
            assert [group.upto for group in await read(street, "normal", 2)] == [upto, upto + 1]

    link_engine.run(main)


@on_an_engine
async def test_trimming_removes_what_a_desk_no_longer_needs_and_nothing_else(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seats = {"floor": await seated(floor, "floor"), "street": await seated(street, "street")}
        for name, transport in (("floor", floor), ("street", street)):
            for number in range(0, 10, 2):
                await transport.append(a_group(number, number + 2, desk=name), seats[name].tokens["normal"])
                await transport.append(
                    a_group(number, number + 2, desk=name, log="high"), seats[name].tokens["high"]
                )
        assert await trimmed(street, 5, 2) == 2
        assert await street.trim("normal", "floor", 5) == 0
        assert await street.trim("normal", "nobody", 5) == 0
        assert [group.upto for group in await read(street, "normal", 3)] == [6, 8, 10]
        assert await trimmed(floor, 7, 1) == 1
        await floor.append(a_group(10, 12), seats["floor"].tokens["normal"])
        assert await floor.trim("normal", "floor", 7) == 0
        assert [group.upto for group in await read(street, "normal", 3)] == [8, 10, 12]
        others = await read(floor, "normal", 5, desk="street")
        assert [group.upto for group in others] == [2, 4, 6, 8, 10]
        assert len(await read(street, "high", 5)) == 5


@on_an_engine
async def test_trimming_keeps_the_newest_group_so_that_it_is_known_where_exports_end(firm: Firm) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        for number in range(3):
            await floor.append(a_group(number, number + 1), seat.tokens["normal"])
        assert await trimmed(floor, 1_000, 2) == 2
        assert (await floor.last("normal", "floor")).upto == 3


@on_an_engine
async def test_a_desk_trims_what_it_has_appended_in_an_earlier_life_and_what_it_exported_again(
    firm: Firm,
) -> None:
    async with opened(firm, "floor", "floor") as (before, floor):
        seat = await seated(before, "floor")
        for number in range(4):
            await before.append(a_group(number, number + 1), seat.tokens["normal"])
        await floor.append(a_group(4, 5), seat.tokens["normal"])
        await floor.append(a_group(5, 9), seat.tokens["normal"])
        await floor.append(a_group(2, 5), seat.tokens["normal"])  # somebody has asked for it
        await floor.append(a_group(5, 9), seat.tokens["normal"])
        assert await trimmed(floor, 3, 3) == 3
        assert [group.upto for group in await read(floor, "normal", 5)] == [4, 5, 9, 5, 9]
        gone = await trimmed(floor, 5, 2)
        left = [9, 5, 9] if gone == 2 else [9, 9]  # what stands behind one that is needed may wait
        assert [group.upto for group in await read(floor, "normal", len(left))] == left
        await floor.append(a_group(9, 12), seat.tokens["normal"])
        assert await trimmed(floor, 9, len(left)) == len(left)
        assert [group.upto for group in await read(floor, "normal", 1)] == [12]
        assert await floor.trim("normal", "floor", 99) == 0


@on_an_engine
async def test_trimming_keeps_the_claims_so_that_nobody_is_locked_out_or_let_in(firm: Firm) -> None:
    async with opened(firm, "floor", "floor", "street") as (old, new, street):
        before = await seated(old, "floor", "old")
        await old.append(a_group(0, 1), before.tokens["normal"])
        seat = await new.claim(a_seat("floor", "new"), before)
        for number in range(1, 5):
            await new.append(a_group(number, number + 1), seat.tokens["normal"])
            await street.trim("normal", "floor", number + 1)
        with pytest.raises(Fenced):
            await old.append(a_group(1, 2), before.tokens["normal"])
        await new.append(a_group(5, 6), seat.tokens["normal"])
        assert (await street.last("normal", "floor")).upto == 6


@on_an_engine
async def test_a_log_that_was_deleted_is_made_anew_and_everybody_notices(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        token = seat.tokens["normal"]
        place = await floor.append(a_group(0, 1), token)
        made = await made_of(street, "normal")
        coming = asyncio.create_task(outcome(read(street, "normal", 1, Place(made, place))))
        await asyncio.sleep(0.05)
        await firm.delete("normal")
        with pytest.raises(LogGone):
            await appended(floor, a_group(1, 2), token)
        with pytest.raises(LogGone):
            await floor.last("normal", "floor")
        await floor.open()
        assert await made_of(floor, "normal") != made
        with pytest.raises(LogGone):  # the claim of the desk was in it
            await appended(floor, a_group(1, 2), token)
        seat = await floor.claim(seat, seat)
        await floor.append(a_group(0, 2), seat.tokens["normal"])
        assert isinstance(await coming, LogGone)
        with pytest.raises(LogGone):
            await read(street, "normal", 1, Place(made, place))
        assert [group.upto for group in await read(street, "normal", 1)] == [2]
        await floor.append(a_group(0, 1, log="high"), seat.tokens["high"])


@on_an_engine
async def test_a_claim_of_a_log_that_was_deleted_lets_nobody_into_the_next_one(firm: Firm) -> None:
    async with opened(firm, "floor", "floor") as (old, new):
        before = await seated(old, "floor", "old")
        for log in LOGS:
            await firm.delete(log)
        await new.open()
        seat = await new.claim(a_seat("floor", "new"), before)
        for log in LOGS:
            with pytest.raises(Fenced):
                await old.append(a_group(0, 1, log=log), before.tokens[log])
            await new.append(a_group(0, 1, log=log), seat.tokens[log])


@on_an_engine
async def test_a_place_that_the_log_has_not_reached_is_one_of_another_log(firm: Firm) -> None:
    """After a power cut a log may lack its end, and gives the places again."""
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        place = await floor.append(a_group(0, 1), seat.tokens["normal"])
        with pytest.raises(LogGone):
            await read(street, "normal", 1, Place(await made_of(street, "normal"), place + 1_000))


@on_an_engine
async def test_opening_again_changes_nothing(firm: Firm) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        await floor.append(a_group(0, 1), seat.tokens["normal"])
        made = await made_of(floor, "normal")
        assert (await floor.open()).logs
        assert await made_of(floor, "normal") == made
        assert floor.is_connected
        await floor.append(a_group(1, 2), seat.tokens["normal"])


# -- seats


@on_an_engine
async def test_a_desk_that_was_never_held_is_claimed_and_found(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        assert await street.seats() == []
        seat = await seated(floor, "floor")
        assert (seat.desk, seat.holder, seat.host, seat.journal) == ("floor", "process-1", "h1", "j1")
        assert set(seat.tokens) == set(LOGS)
        other = await seated(street, "street")
        assert await street.seats() == [seat, other]


@on_an_engine
async def test_who_has_not_claimed_appends_nothing(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(street, "street")
        for token in (0, seat.tokens["normal"], 999):
            assert isinstance(await outcome(floor.append(a_group(0, 1), token)), Fenced | LogGone)
        assert await floor.last("normal", "floor") is None


@on_an_engine
async def test_an_old_holder_is_refused_in_both_logs_for_good(firm: Firm) -> None:
    async with opened(firm, "floor", "floor") as (old, new):
        before = await seated(old, "floor", "old")
        await old.append(a_group(0, 1), before.tokens["normal"])
        seat = await new.claim(a_seat("floor", "new"), before)
        for upto in (2, 3):
            for log in LOGS:
                with pytest.raises(Fenced, match="floor"):
                    await old.append(a_group(1, upto, log=log), before.tokens[log])
            await new.append(a_group(upto - 1, upto), seat.tokens["normal"])
        assert [group.upto for group in await read(old, "normal", 3)] == [1, 2, 3]
        with pytest.raises(Fenced):
            await old.renew(before)
        await old.leave(before)
        assert [one.holder for one in await new.seats()] == ["new"]


@on_an_engine
async def test_a_desk_whose_record_has_changed_is_not_claimed(firm: Firm) -> None:
    async with opened(firm, "floor", "floor") as (holder, other):
        seat = await seated(holder, "floor", "holder")
        (seen,) = await other.seats()
        renewed = await holder.renew(seat)
        assert renewed.renewal != seen.renewal
        for outdated in (seen, None):
            with pytest.raises(Taken):
                await other.claim(a_seat("floor", "other"), outdated)
        await holder.append(a_group(0, 1), seat.tokens["normal"])
        assert [one.holder for one in await other.seats()] == ["holder"]


@on_an_engine
async def test_a_seat_that_was_given_back_is_claimed_with_new_tokens(firm: Firm) -> None:
    async with opened(firm, "floor", "floor") as (first, second):
        seat = await seated(first, "floor", "first")
        await first.leave(seat)
        (seen,) = await second.seats()
        assert seen.holder == ""
        claimed = await second.claim(a_seat("floor", "second"), seen)
        for log in LOGS:
            assert claimed.tokens[log] != seat.tokens[log]
            assert isinstance(await outcome(first.append(a_group(0, 1, log=log), seat.tokens[log])), Fenced)


@on_an_engine
async def test_a_holder_whose_answers_were_lost_renews_and_claims_again(firm: Firm) -> None:
    async with opened(firm, "floor") as (floor,):
        seat = await seated(floor, "floor")
        await floor.renew(seat)
        renewed = await floor.renew(seat)
        assert renewed.renewal != seat.renewal
        again = await floor.claim(a_seat("floor"), None)
        with pytest.raises(Fenced):
            await floor.append(a_group(0, 1), seat.tokens["normal"])
        await floor.append(a_group(0, 1), again.tokens["normal"])
        assert (await floor.renew(again)).tokens == again.tokens


@pytest.mark.parametrize("is_held", [False, True], ids=["new", "held"])
def test_of_two_who_claim_at_once_one_has_the_desk_in_both_logs(link_engine: Engine, is_held: bool) -> None:
    async def claim_at_once(transports: list[Transport], desk: str, seen: Seat | None) -> list[Any]:
        return await asyncio.gather(
            *(
                outcome(transport.claim(a_seat(desk, f"process-{number}"), seen))
                for number, transport in enumerate(transports)
            )
        )

    async def main() -> None:
        async with opened(link_engine.firm(most_bytes=8 * MIB), "floor", "floor", "floor") as transports:
            for number in range(8):
                desk = f"desk-{number}"
                seen = await seated(transports[0], desk, "before") if is_held else None
                ends = await claim_at_once(transports, desk, seen)
                (winner,) = (end for end in ends if isinstance(end, Seat))
                assert sum(isinstance(end, Taken) for end in ends) == len(transports) - 1
                (record,) = (one for one in await transports[0].seats() if one.desk == desk)
                assert record == winner
                assert (await transports[0].renew(winner)).holder == winner.holder

    link_engine.run(main)


@on_an_engine
async def test_who_wins_of_two_appends_in_both_logs(firm: Firm) -> None:
    async with opened(firm, "floor", "floor") as transports:
        ends = await asyncio.gather(
            *(
                outcome(transport.claim(a_seat("floor", f"process-{number}"), None))
                for number, transport in enumerate(transports)
            )
        )
        for transport, end in zip(transports, ends, strict=True):
            if isinstance(end, Seat):
                for log in LOGS:
                    assert await transport.append(a_group(0, 1, log=log), end.tokens[log]) > 0
        assert sum(isinstance(end, Seat) for end in ends) == 1


@on_an_engine
async def test_a_desk_that_was_dropped_is_forgotten_and_its_last_holder_stays_out(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        other = await seated(street, "street")
        await floor.append(a_group(0, 1), seat.tokens["normal"])
        await street.append(a_group(0, 7, desk="street"), other.tokens["normal"])
        await street.drop("floor")
        assert [one.desk for one in await street.seats()] == ["street"]
        assert await street.last("normal", "floor") is None
        assert isinstance(await outcome(floor.append(a_group(1, 2), seat.tokens["normal"])), Fenced)
        assert [group.upto for group in await read(floor, "normal", 1, desk="street")] == [7]
        again = await floor.claim(a_seat("floor", "anew"), None)
        await floor.append(a_group(0, 2), again.tokens["normal"])


# -- messages that nobody keeps


def hear(heard: list[tuple[str, bytes]], desk: str, data: bytes) -> None:
    heard.append((desk, data))


@pytest.mark.parametrize("urgent", [False, True], ids=["bulk", "urgent"])
def test_a_message_reaches_every_other_desk_once_and_in_order(link_engine: Engine, urgent: bool) -> None:
    async def main() -> None:
        async with opened(link_engine.firm(), "floor", "street", "desk") as transports:
            heard: dict[str, list[tuple[str, bytes]]] = {"floor": [], "street": [], "desk": []}
            for name, transport in zip(heard, transports, strict=True):
                await transport.listen("beat", partial(hear, heard[name]), urgent=urgent)
            messages = [b"%d" % number for number in range(50)]
            for message in messages:
                await transports[0].broadcast("beat", message, urgent=urgent)
            await eventually(lambda: len(heard["street"]) >= 50 and len(heard["desk"]) >= 50)
            await transports[1].broadcast("beat", b"end", urgent=urgent)
            await eventually(lambda: heard["floor"] and len(heard["desk"]) >= 51)
            expected = [("floor", message) for message in messages]
            assert heard["street"] == expected
            assert heard["desk"] == [*expected, ("street", b"end")]
            assert heard["floor"] == [("street", b"end")]

    link_engine.run(main)


@on_an_engine
async def test_a_message_is_heard_under_its_topic_alone(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        heard: list[tuple[str, bytes]] = []
        await street.listen("kill", lambda _desk, data: heard.append(("kill", data)))
        await street.listen("md", lambda _desk, data: heard.append(("md", data)))
        await floor.broadcast("beat", b"1")
        await floor.broadcast("md", b"2")
        await floor.broadcast("kill", b"3")
        await eventually(lambda: len(heard) == 2)
        assert sorted(heard) == [("kill", b"3"), ("md", b"2")]


@on_an_engine
async def test_two_functions_hear_the_same_topic(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        first: list[bytes] = []
        second: list[bytes] = []
        await street.listen("beat", lambda _desk, data: first.append(data))
        await street.listen("beat", lambda _desk, data: second.append(data), urgent=True)
        await floor.broadcast("beat", b"1")
        await floor.broadcast("beat", b"2", urgent=True)
        await eventually(lambda: len(first) == len(second) == 2)
        assert sorted(first) == sorted(second) == [b"1", b"2"]


@on_an_engine
async def test_who_looks_on_hears_every_desk_and_holds_none(firm: Firm) -> None:
    async with opened(firm, "floor", "") as (floor, onlooker):
        heard: list[tuple[str, bytes]] = []
        await onlooker.listen("beat", lambda desk, data: heard.append((desk, data)))
        seat = await seated(floor, "floor")
        await floor.append(a_group(0, 1), seat.tokens["normal"])
        await floor.broadcast("beat", b"1")
        await eventually(lambda: heard)
        assert heard == [("floor", b"1")]
        assert await onlooker.seats() == [seat]
        assert (await onlooker.last("normal", "floor")).upto == 1


# -- the end


@on_an_engine
async def test_closing_ends_the_reads_and_what_is_heard_and_is_harmless_twice(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        heard: list[bytes] = []
        await street.listen("beat", lambda _desk, data: heard.append(data))
        coming = asyncio.create_task(outcome(read(street, "normal", 1)))
        await asyncio.sleep(0.05)
        await street.close()
        await street.close()
        assert isinstance(await coming, Unreachable)
        assert not street.is_connected
        await floor.broadcast("beat", b"1")
        assert isinstance(await outcome(street.facts()), Unreachable)
        assert isinstance(await outcome(street.append(a_group(0, 1, desk="street"), 1)), Unreachable)
        await floor.append(a_group(0, 1), seat.tokens["normal"])
        assert heard == []


@on_an_engine
async def test_a_read_that_is_given_up_leaves_nothing_behind(firm: Firm) -> None:
    async with opened(firm, "floor", "street") as (floor, street):
        seat = await seated(floor, "floor")
        for number in range(3):
            await floor.append(a_group(number, number + 1), seat.tokens["normal"])
            async with aclosing(reading(street, "normal")) as groups:
                found: Group = await anext(groups)
            assert found.upto == 1
            waiting = asyncio.create_task(read(street, "normal", 100))
            await asyncio.sleep(0.01)
            waiting.cancel()
            assert isinstance(
                (await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError
            )
        assert len(await read(street, "normal", 3)) == 3
