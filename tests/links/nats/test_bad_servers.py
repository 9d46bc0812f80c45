"""Servers, streams and settings that cannot be used: each is refused with what to do about it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from link_kit import a_group, a_seat, an_entry
from msgspec.structs import replace
from nats_kit import a_firm, a_link, opened, refused

from openoutcry.config import Link
from openoutcry.errors import GroupTooLarge, LinkError, LogFull, Unreachable
from openoutcry.links.nats.servers import Servers
from openoutcry.links.nats.subjects import Subjects
from openoutcry.links.nats.transport import NatsTransport


async def opening(link: Link) -> str:
    """What opening a transport is refused with; not that nobody answers."""
    transport = NatsTransport(link)
    try:
        problem = await refused(transport.open())
    finally:
        await transport.close()
    assert not isinstance(problem, Unreachable), problem
    return str(problem)


@asynccontextmanager
async def a_server_that_says(**info: Any) -> AsyncIterator[str]:
    """Something that greets as a NATS server does, and answers pings."""
    greeting = {
        "server_id": "x",
        "version": "2.11.0",
        "headers": True,
        "max_payload": 2**20,
        "proto": 1,
    } | info

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + json.dumps(greeting).encode() + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"version": "2.10.29"}, r"version 2\.10; it must be 2\.11 or newer"),
        ({"version": "1.4.1"}, r"version 1\.4; it must be 2\.11 or newer"),
        ({"version": "something else"}, r"it must be 2\.11 or newer"),
        ({"max_payload": 65_536}, r"takes 65,536 bytes in one message; it must be 307,200 at least"),
    ],
)
def test_a_server_that_is_too_old_or_too_small_is_refused(info: dict[str, Any], words: str) -> None:
    async def main() -> None:
        async with a_server_that_says(**info) as url:
            transport = NatsTransport(a_link(url, a_firm()))
            with pytest.raises(LinkError, match=words):
                await transport.open()
            await transport.close()

    asyncio.run(main())


def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    with Servers(tmp_path, has_jetstream=False) as servers:
        assert "store_dir" in asyncio.run(opening(a_link(servers, a_firm())))


def test_an_account_without_jetstream_is_refused(tmp_path: Path) -> None:
    config = (
        "accounts { with: { jetstream: enabled }, without: { users: [ { user: desk, password: pw } ] } }\n"
        "no_auth_user: desk"
    )
    with Servers(tmp_path, more=config) as servers:
        said = asyncio.run(opening(a_link(servers, a_firm())))
    assert "jetstream: enabled" in said


def test_an_account_with_too_little_room_is_refused(tmp_path: Path) -> None:
    config = """accounts { small: { jetstream: { max_file: 2MB }, users: [ { user: desk, password: pw } ] } }
        no_auth_user: desk"""
    with Servers(tmp_path, more=config) as servers:
        said = asyncio.run(opening(a_link(servers, a_firm())))
    assert "max_bytes = 8,388,608" in said
    assert "account's limits" in said


def test_more_replicas_than_nodes_are_refused(one_node: Servers) -> None:
    said = asyncio.run(opening(a_link(one_node, a_firm(), replicas=3)))
    assert "3 replicas" in said
    assert "the nodes" in said


def test_nobody_who_answers_is_waited_for_and_found_when_it_comes(tmp_path: Path) -> None:
    async def main() -> None:
        servers = Servers(tmp_path)
        transport = NatsTransport(a_link(servers, a_firm()))
        with pytest.raises(Unreachable, match="no server answers"):
            await transport._bulk.open(0.3)
        assert not transport.is_connected
        for call in (transport.facts(), transport.seats(), transport.broadcast("kill", b"", urgent=True)):
            assert isinstance(await refused(call), Unreachable)
        try:
            await asyncio.to_thread(servers.start)
            await transport.open()
            assert transport.is_connected
        finally:
            await transport.close()
            servers.stop()

    asyncio.run(main())


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"subjects": ["{firm}.orders"]}, "subjects is"),
    ({"discard": "old"}, "discard is 'old' and not 'new'"),
    ({"retention": "interest"}, "retention is 'interest'"),
    ({"storage": "memory"}, "storage is 'memory'"),
    ({"max_age": 60 * 10**9}, "max_age is"),
    ({"max_msgs": 1_000}, "max_msgs is 1000"),
    ({"max_msgs_per_subject": 1}, "max_msgs_per_subject is 1"),
    ({"max_bytes": 1_000}, "may take 1,000 bytes; it must be 1,048,576 or more"),
]


@pytest.mark.parametrize(("other", "words"), WRONG, ids=[next(iter(other)) for other, _ in WRONG])
def test_a_stream_of_that_name_that_is_somebody_elses_is_refused_and_left_alone(
    one_node: Servers, other: dict[str, Any], words: str
) -> None:
    async def main() -> None:
        firm = a_firm()
        subjects = Subjects(firm)
        stream = subjects.stream("normal")
        config = {
            "name": stream,
            "subjects": [subjects.groups("normal"), subjects.claims("normal")],
            "discard": "new",
            "storage": "file",
            "retention": "limits",
        } | other
        config["subjects"] = [one.replace("{firm}", firm) for one in config["subjects"]]
        async with opened(a_link(one_node, a_firm()), onlooker=True) as (admin,):
            made = await admin._jetstream.call(f"STREAM.CREATE.{stream}", config)
            said = await opening(a_link(one_node, firm))
            assert words in said
            assert stream in said
            after = await admin._jetstream.call(f"STREAM.INFO.{stream}")
            assert after["config"] == made["config"]

    asyncio.run(main())


def test_subjects_that_another_stream_takes_are_named(one_node: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(one_node, a_firm()), onlooker=True) as (admin,):
            name = f"all-of-{firm}"
            await admin._jetstream.call(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"oo.{firm}.>"]})
            said = await opening(a_link(one_node, firm))
            assert "subjects overlap" in said
            assert "other streams" in said

    asyncio.run(main())


def test_a_log_that_another_desk_made_smaller_or_larger_is_used_as_it_is(one_node: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        small = a_link(one_node, firm, max_bytes=2 * 2**20)
        large = a_link(one_node, firm, "street", max_bytes=16 * 2**20)
        async with opened(small, large) as (floor, street):
            for transport in (floor, street):
                assert {log.most_bytes for log in (await transport.facts()).logs} == {2 * 2**20}

    asyncio.run(main())


def test_desks_that_open_at_the_same_moment_make_one_set_of_logs(three_nodes: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        links = [
            a_link(three_nodes, firm, f"desk-{number}", max_bytes=(number + 2) * 2**20) for number in range(6)
        ]
        transports = [NatsTransport(link) for link in links]
        try:
            facts = await asyncio.gather(*(transport.open() for transport in transports))
            assert len({tuple(log.made for log in one.logs) for one in facts}) == 1
        finally:
            for transport in transports:
                await transport.close()

    asyncio.run(main())


def test_a_message_above_the_servers_limit_is_an_error_and_the_link_goes_on(tmp_path: Path) -> None:
    async def main(servers: Servers) -> None:
        async with opened(a_link(servers, a_firm())) as (floor,):
            seat = await floor.claim(a_seat(), None)
            large = replace(a_group(0, 1), entries=(an_entry(1, size_bytes=400_000),))
            with pytest.raises(GroupTooLarge, match="400,000: set its max_payload"):
                await floor.append(large, seat.tokens["normal"])
            await floor.append(a_group(0, 1), seat.tokens["normal"])

    with Servers(tmp_path, more="max_payload: 400000") as servers:
        asyncio.run(main(servers))


def test_a_log_that_is_full_is_full_for_groups_and_claims_and_says_what_to_do(one_node: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(one_node, firm, max_bytes=2**20)) as (floor,):
            seat = await floor.claim(a_seat(), None)
            for number in range(5):
                await floor.append(a_group(number, number + 1, size_bytes=200_000), seat.tokens["normal"])
            assert "firm trim" in str(
                await until_full(lambda: floor.append(a_group(5, 6), seat.tokens["normal"]))
            )
            assert "firm drop" in str(await until_full(lambda: floor.claim(a_seat(), None)))
            assert (await floor.renew(await one_seat(floor))).holder == seat.holder

    asyncio.run(main())


async def until_full(call: Any) -> LogFull:
    for _ in range(10_000):
        try:
            await call()
        except LogFull as problem:
            return problem
    raise AssertionError("it never was")


async def one_seat(transport: NatsTransport) -> Any:
    (seat,) = await transport.seats()
    return seat


def test_who_looks_on_makes_no_logs(one_node: Servers) -> None:
    async def main() -> None:
        firm = a_firm()
        async with opened(a_link(one_node, firm), onlooker=True) as (onlooker,):
            assert (await onlooker.facts()).logs == ()
            with pytest.raises(LinkError, match="stream not found"):
                await onlooker.last("normal", "floor")
            with pytest.raises(LinkError, match="stream not found"):
                await onlooker.seats()

    asyncio.run(main())
