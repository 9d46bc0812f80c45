"""Servers that die, stand still or cannot be reached: nothing is lost, and every call ends."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from campaigns.link_proxy import Mode, Proxy
from link_kit import a_group, a_seat
from nats_kit import LONG_S, a_firm, a_link, eventually, opened, refused, until_answered

from openoutcry.errors import Fenced, Unreachable
from openoutcry.links.nats.servers import Servers
from openoutcry.links.nats.subjects import Subjects
from openoutcry.links.nats.transport import NatsTransport
from openoutcry.ports import Group, Place


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Servers]:
    with Servers(tmp_path) as servers:
        yield servers


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Servers]:
    with Servers(tmp_path, 3) as servers:
        yield servers


def _has(found: list[Group], count: int) -> bool:
    return len(found) >= count


async def follow(transport: NatsTransport, found: list[Group], upto: int) -> None:
    """Read as an importer does: on, behind what it has, whenever there is an answer again."""
    after = Place()
    while not found or found[-1].upto < upto:
        try:
            groups = transport.read("normal", "floor", after)
            async for group in groups:
                found.append(group)
                after = Place("", group.place)
                if group.upto >= upto:
                    break
            await groups.aclose()  # type: ignore[attr-defined]
        except Unreachable:
            await asyncio.sleep(0.05)


def test_a_node_that_is_killed_and_comes_back_has_everything_and_readers_go_on(node: Servers) -> None:
    async def main() -> None:
        found: list[Group] = []
        firm = a_firm()
        async with opened(a_link(node, firm), a_link(node, firm, "street")) as (floor, street):
            seat = await floor.claim(a_seat(), None)
            reading = asyncio.create_task(follow(street, found, 20))
            for number in range(20):
                if number % 7 == 3:
                    await eventually(partial(_has, found, number))
                    node.nodes[0].kill()
                    assert isinstance(await refused(floor.append(a_group(0, 1), 1)), Unreachable)
                    node.nodes[0].start()
                group = a_group(number, number + 1)
                await until_answered(partial(floor.append, group, seat.tokens["normal"]))
            async with asyncio.timeout(LONG_S):
                await reading
            assert list(dict.fromkeys(group.upto for group in found)) == list(range(1, 21))
            assert (await floor.renew(seat)).tokens == seat.tokens

    asyncio.run(main())


def test_a_leader_that_stands_still_is_noticed_and_another_takes_over(cluster: Servers) -> None:
    async def main() -> None:
        found: list[Group] = []
        firm = a_firm()
        stream = Subjects(firm).stream("normal")
        async with opened(a_link(cluster, firm), a_link(cluster, firm, "street")) as (floor, street):
            seat = await floor.claim(a_seat(), None)
            reading = asyncio.create_task(follow(street, found, 4))
            for number in range(4):
                info = await until_answered(lambda: floor._jetstream.call(f"STREAM.INFO.{stream}"))
                leader = next(node for node in cluster.nodes if node.name == info["cluster"]["leader"])
                if number % 2:
                    leader.pause()
                group = a_group(number, number + 1)
                await until_answered(partial(floor.append, group, seat.tokens["normal"]))
                leader.resume()
                await asyncio.to_thread(leader.wait)
            async with asyncio.timeout(LONG_S):
                await reading
            assert list(dict.fromkeys(group.upto for group in found)) == [1, 2, 3, 4]

    asyncio.run(main())


def test_a_holder_whose_answers_come_too_late_is_refused_when_another_has_claimed(node: Servers) -> None:
    """It hangs in a black hole with a group on its way: that group is refused when it gets through."""

    async def main() -> None:
        firm = a_firm()
        proxy = Proxy("127.0.0.1", node.nodes[0].port)
        await proxy.start()
        old = NatsTransport(a_link(f"nats://127.0.0.1:{proxy.port}", firm))
        try:
            await old.open()
            seat = await old.claim(a_seat("floor", "old"), None)
            await old.append(a_group(0, 1), seat.tokens["normal"])
            proxy.mode = Mode.HOLE
            late = asyncio.create_task(refused(old.append(a_group(1, 9), seat.tokens["normal"])))
            await asyncio.sleep(0.1)
            async with opened(a_link(node, firm)) as (new,):
                claimed = await new.claim(a_seat("floor", "new"), seat)
                await new.append(a_group(1, 2), claimed.tokens["normal"])
                proxy.mode = Mode.OPEN
                assert isinstance(await late, Unreachable | Fenced)
                problem = await refused(
                    until_answered(lambda: old.append(a_group(1, 9), seat.tokens["normal"]))
                )
                assert isinstance(problem, Fenced)
                await new.append(a_group(2, 3), claimed.tokens["normal"])
                found: list[Group] = []
                await follow(new, found, 3)
                assert [group.upto for group in found] == [1, 2, 3]
        finally:
            await old.close()
            await proxy.stop()

    asyncio.run(main())


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.HOLE])
def test_a_node_behind_a_cut_or_a_black_hole_is_noticed_and_found_again(node: Servers, mode: Mode) -> None:
    async def main() -> None:
        firm = a_firm()
        proxy = Proxy("127.0.0.1", node.nodes[0].port)
        await proxy.start()
        floor = NatsTransport(a_link(f"nats://127.0.0.1:{proxy.port}", firm))
        try:
            await floor.open()
            seat = await floor.claim(a_seat(), None)
            proxy.mode = mode
            large = a_group(0, 400, size_bytes=500)  # more than the socket takes at once, several times over
            calls = [
                asyncio.create_task(refused(floor.append(large, seat.tokens["normal"]))) for _ in range(20)
            ]
            async with asyncio.timeout(LONG_S):
                assert all(isinstance(problem, Unreachable) for problem in await asyncio.gather(*calls))
            await eventually(lambda: not floor.is_connected)
            proxy.mode = Mode.OPEN
            await eventually(lambda: floor.is_connected)
            await until_answered(lambda: floor.append(a_group(0, 1), seat.tokens["normal"]))
        finally:
            await floor.close()
            await proxy.stop()

    asyncio.run(main())


def test_closing_ends_at_once_in_a_black_hole(node: Servers) -> None:
    async def main() -> None:
        proxy = Proxy("127.0.0.1", node.nodes[0].port)
        await proxy.start()
        floor = NatsTransport(a_link(f"nats://127.0.0.1:{proxy.port}", a_firm()))
        await floor.open()
        seat = await floor.claim(a_seat(), None)
        proxy.mode = Mode.HOLE
        large = a_group(0, 400, size_bytes=500)
        calls = [asyncio.create_task(refused(floor.append(large, seat.tokens["normal"]))) for _ in range(20)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(LONG_S):
            await floor.close()
            assert all(isinstance(problem, Unreachable) for problem in await asyncio.gather(*calls))
        await proxy.stop()

    asyncio.run(main())


def test_what_is_urgent_is_heard_with_two_of_three_nodes_gone(cluster: Servers) -> None:
    """JetStream answers nobody then."""

    async def main() -> None:
        firm = a_firm()
        heard: list[bytes] = []
        async with opened(a_link(cluster, firm), a_link(cluster, firm, "street")) as (floor, street):
            await street.listen("kill", lambda _desk, data: heard.append(data), urgent=True)
            await floor.broadcast("kill", b"three", urgent=True)
            cluster.nodes[0].kill()
            await floor.broadcast("kill", b"two", urgent=True)
            await eventually(lambda: len(heard) >= 2)
            cluster.nodes[1].kill()
            await floor.broadcast("kill", b"one", urgent=True)
            await eventually(lambda: len(heard) >= 3)
            for node in cluster.nodes:
                node.start()
            await until_answered(floor.facts)
            await asyncio.to_thread(lambda: [node.wait() for node in cluster.nodes])
            connections = [*floor._airing._urgent, *street._airing._urgent]
            await eventually(lambda: all(one.is_connected for one in connections))
            await floor.broadcast("kill", b"again", urgent=True)
            await eventually(lambda: len(heard) >= 4)
            assert heard == [b"three", b"two", b"one", b"again"]

    asyncio.run(main())


def test_a_call_that_is_cancelled_leaves_nothing_behind(node: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(node, firm)) as (floor,):
            seat = await floor.claim(a_seat(), None)
            for number in range(30):
                call = asyncio.create_task(floor.append(a_group(0, 1), seat.tokens["normal"]))
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                assert not floor._bulk._waiting
            await floor.append(a_group(0, 2), seat.tokens["normal"])
            assert (await floor.last("normal", "floor")).upto == 2

    asyncio.run(main())


def test_a_slow_reader_of_a_large_log_gets_all_of_it(node: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        links = [a_link(node, firm, desk, max_bytes=128 * 2**20) for desk in ("floor", "street")]
        async with opened(*links) as (floor, street):
            seat = await floor.claim(a_seat(), None)
            for number in range(300):
                await floor.append(a_group(number, number + 1, size_bytes=200_000), seat.tokens["normal"])
            found: list[int] = []
            groups = street.read("normal", "floor", Place())
            async for group in groups:
                found.append(group.upto)
                if len(found) % 100 == 0:
                    await asyncio.sleep(0.5)
                if len(found) == 300:
                    break
            await groups.aclose()  # type: ignore[attr-defined]
            assert found == list(range(1, 301))

    asyncio.run(main())


def test_a_cluster_that_has_not_decided_about_an_earlier_group_does_not_call_the_holder_an_old_one(
    cluster: Servers,
) -> None:
    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(cluster, firm), a_link(cluster, firm)) as (floor, again):
            seat = await until_answered(lambda: floor.claim(a_seat(), None))

            async def append(number: int) -> int | Unreachable:
                transport = (floor, again)[number % 2]
                try:
                    return await transport.append(a_group(number, number + 1), seat.tokens["normal"])
                except Unreachable as problem:
                    return problem

            found = await asyncio.gather(*map(append, range(100)))
            assert [one for one in found if isinstance(one, int)]
            assert await append(100)

    asyncio.run(main())
