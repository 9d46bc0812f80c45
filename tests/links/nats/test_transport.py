"""The transport over NATS: what the conformance suite cannot ask of every transport."""

import asyncio
from typing import Any

import pytest
from link_kit import a_group, a_seat
from msgspec.structs import replace
from nats_kit import a_firm, a_link, eventually, opened

from openoutcry.errors import Fenced, LogGone, Unreachable
from openoutcry.links.nats.servers import Servers
from openoutcry.links.nats.subjects import Subjects
from openoutcry.links.nats.transport import NatsTransport
from openoutcry.ports import Group, Place


def raw(transport: NatsTransport, verb: str, **body: Any) -> Any:
    """A request of the API as an administrator makes it."""
    return transport._jetstream.call(verb, body)


async def take(transport: NatsTransport, count: int, after: Place | None = None) -> list[Group]:
    found: list[Group] = []
    groups = transport.read("normal", "floor", after or Place())
    async for group in groups:
        found.append(group)
        if len(found) == count:
            break
    await groups.aclose()  # type: ignore[attr-defined]
    return found


def test_a_log_that_was_deleted_is_made_again_and_wants_a_new_claim(one_node: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(one_node, firm)) as (floor,):
            seat = await floor.claim(a_seat(), None)
            await floor.append(a_group(0, 2), seat.tokens["normal"])
            await raw(floor, f"STREAM.DELETE.{Subjects(firm).stream('normal')}")
            with pytest.raises((LogGone, Unreachable)):
                await floor.append(a_group(2, 3), seat.tokens["normal"])
            with pytest.raises(LogGone):
                await floor.last("normal", "floor")
            await floor.open()
            with pytest.raises(LogGone, match="Claim the desk again"):
                await floor.append(a_group(2, 3), seat.tokens["normal"])
            seat = await floor.claim(a_seat(), seat)
            await floor.append(a_group(2, 3), seat.tokens["normal"])
            assert (await floor.last("normal", "floor")).upto == 3

    asyncio.run(main())


def test_no_claim_has_the_place_that_the_last_holder_had(one_node: Servers) -> None:
    """As a power cut leaves it, when a log has lost its end: the record names the place that comes next."""

    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(one_node, firm), a_link(one_node, firm)) as (old, new):
            seat = await old.claim(a_seat("floor", "old"), None)
            next_one = seat.tokens["normal"] + 1
            seat = await old.renew(replace(seat, tokens={**seat.tokens, "normal": next_one}))
            claimed = await new.claim(a_seat("floor", "new"), seat)
            assert claimed.tokens["normal"] == next_one + 1
            with pytest.raises(Fenced):
                await old.append(a_group(0, 1), next_one)
            await new.append(a_group(0, 2), claimed.tokens["normal"])

    asyncio.run(main())


def test_a_reader_of_a_log_that_is_made_anew_is_told_so(one_node: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(one_node, firm), a_link(one_node, firm, "street")) as (floor, street):
            seat = await floor.claim(a_seat(), None)
            await floor.append(a_group(0, 2), seat.tokens["normal"])
            made = {log.log: log.made for log in (await street.facts()).logs}["normal"]
            groups = await take(street, 1)
            await raw(floor, f"STREAM.DELETE.{Subjects(firm).stream('normal')}")
            await floor.open()
            with pytest.raises(LogGone, match="made anew"):
                await take(street, 1, Place(made, groups[0].place))
            with pytest.raises(LogGone, match="ends at"):
                await take(street, 1, Place("", 2**60))

    asyncio.run(main())


def test_what_a_server_was_made_to_write_into_a_log_is_passed_over(one_node: Servers) -> None:
    """Whoever asks a server may name any subject for the answer: the server writes it there."""

    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(one_node, firm), a_link(one_node, firm, "street")) as (floor, street):
            seat = await floor.claim(a_seat(), None)
            await floor.append(a_group(0, 2), seat.tokens["normal"])
            await street._bulk.publish("$JS.API.INFO", b"", reply=Subjects(firm).groups("normal", "floor"))
            stream = Subjects(firm).stream("normal")
            assert await floor._bulk.request("$JS.API.INFO", b"")  # the answer before is written by now
            assert (await raw(floor, f"STREAM.INFO.{stream}"))["state"]["messages"] == 3
            assert (await floor.last("normal", "floor")).upto == 2
            await floor.append(a_group(2, 3), seat.tokens["normal"])
            assert [group.upto for group in await take(street, 2)] == [2, 3]
            assert await street.trim("normal", "floor", 2) == 1

    asyncio.run(main())


def test_a_consumer_cannot_be_made_to_speak_for_another_desk(one_node: Servers) -> None:
    async def main() -> None:
        firm, heard = a_firm(), []
        subjects = Subjects(firm)
        async with opened(a_link(one_node, firm), a_link(one_node, firm, "street")) as (floor, street):
            seat = await floor.claim(a_seat(), None)
            await floor.append(a_group(0, 1), seat.tokens["normal"])
            await street.listen("kill", lambda desk, data: heard.append((desk, data)), urgent=True)
            await eventually(lambda: all(one.is_connected for one in street._airing._urgent))
            for target in (subjects.topic("kill", "risk"), subjects.groups("high", "risk")):
                config = {"name": "evil", "deliver_subject": target, "ack_policy": "none"}
                await raw(
                    floor,
                    f"CONSUMER.CREATE.{subjects.stream('normal')}.evil",
                    stream_name=subjects.stream("normal"),
                    config=config,
                )
                await asyncio.sleep(0.2)
                await raw(floor, f"CONSUMER.DELETE.{subjects.stream('normal')}.evil")
            await floor.broadcast("kill", b"real", urgent=True)
            await eventually(lambda: heard)
            assert heard == [("floor", b"real")]
            assert await floor.last("high", "risk") is None

    asyncio.run(main())
