"""What a desk may do on servers with the configuration that `openoutcry firm permissions` prints, and what not."""

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nats
import pytest
from link_kit import a_group, a_seat
from msgspec.structs import replace
from nats_kit import a_link, eventually, opened, refused

from openoutcry.config import Link
from openoutcry.errors import ConfigError, LinkError, LogGone, Unreachable
from openoutcry.links.nats.access import make_seed
from openoutcry.links.nats.permissions import DeskKey, FirmPermissions, server_config
from openoutcry.links.nats.seating import UNREADABLE
from openoutcry.links.nats.servers import Servers
from openoutcry.links.nats.transport import NatsTransport
from openoutcry.ports import Place

FIRM = "alpha"


class House(NamedTuple):
    """A server with the configuration of a firm, and the seeds of those who may come in."""

    servers: Servers
    folder: Path
    firm: FirmPermissions

    def link(self, desk: str, *, key: str = "", **more: Any) -> Link:
        return a_link(self.servers, FIRM, desk, seed_file=self.folder / f"{key or desk}.seed", **more)


def a_firm_of(folder: Path, **more: Any) -> FirmPermissions:
    keys = {
        name: make_seed(folder / f"{name}.seed") for name in ("floor", "street", "risk", "admin", "other")
    }
    return FirmPermissions(
        firm=FIRM,
        desks={
            "floor": DeskKey(key=keys["floor"], trims=True),
            "street": DeskKey(key=keys["street"]),
            "risk": DeskKey(key=keys["risk"], releases=True),
        },
        admin=keys["admin"],
        store=str(folder / "store"),
        **more,
    )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    folder = tmp_path
    firm = a_firm_of(folder)
    other = make_seed(folder / "another-account.seed")
    config = server_config(firm).replace(
        "accounts {", f"accounts {{\n  another: {{ jetstream: enabled, users: [ {{ nkey: {other} }} ] }}", 1
    )
    with Servers(folder, has_jetstream=False, more=config) as servers:
        yield House(servers, folder, firm)


def in_house(test: Callable[[House], Any]) -> Callable[[House], None]:
    def run(house: House) -> None:
        asyncio.run(test(house))

    run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
    return run


async def said_to(house: House, key: str, *attempts: Callable[[Any], Any]) -> list[str]:
    """What the server says to a bare client with somebody's key that tries something."""
    said: list[str] = []

    async def hear(problem: Exception) -> None:
        said.append(str(problem).lower())

    seed = (house.folder / f"{key}.seed").read_text().strip()
    client = await nats.connect(
        house.servers.urls[0], nkeys_seed_str=seed, error_cb=hear, allow_reconnect=False, inbox_prefix="oo.x"
    )
    try:
        for attempt in attempts:
            await attempt(client)
        await client.flush()
        await eventually(lambda: len(said) >= len(attempts))
    finally:
        await client.close()
    return said


@in_house
async def test_desks_do_together_what_they_must(house: House) -> None:
    heard: list[tuple[str, bytes]] = []
    async with opened(house.link("floor"), house.link("street"), house.link("risk")) as (floor, street, risk):
        assert (await floor.facts()).is_synced, "the servers are asked by an import of the system account"
        seat = await floor.claim(a_seat("floor"), None)
        await floor.append(a_group(0, 2), seat.tokens["normal"])
        await floor.append(a_group(2, 4), seat.tokens["normal"])
        seat = await floor.renew(seat)
        groups = street.read("normal", "floor", Place())
        assert [(await anext(groups)).upto for _ in range(2)] == [2, 4]
        await groups.aclose()  # type: ignore[attr-defined]
        for topic in ("kill", "beat", "md", "ask", "release"):
            await street.listen(topic, lambda desk, data: heard.append((desk, data)), urgent=topic == "kill")
        for topic in ("kill", "beat", "md", "ask"):
            await floor.broadcast(topic, topic.encode(), urgent=topic == "kill")
        await risk.broadcast("release", b"release")
        await eventually(lambda: len(heard) == 5)
        expected = [("floor", topic) for topic in (b"ask", b"beat", b"kill", b"md")] + [("risk", b"release")]
        assert sorted(heard) == expected
        assert await floor.trim("normal", "floor", 2) == 1
        await floor.leave(seat)


@in_house
async def test_an_administrator_trims_and_drops_and_a_desk_does_not(house: House) -> None:
    async with opened(house.link("street")) as (street,):
        seat = await street.claim(a_seat("street"), None)
        for number in range(3):
            await street.append(a_group(number, number + 1, desk="street"), seat.tokens["normal"])
        for call in (street.trim("normal", "street", 2), street.drop("floor"), street.drop("street")):
            problem = await refused(call)
            assert not isinstance(problem, Unreachable)
            assert "does not permit" in str(problem)
        assert (await street.last("normal", "street")).upto == 3
        await street.append(a_group(3, 4, desk="street"), seat.tokens["normal"])
        async with opened(house.link("nobody", key="admin"), onlooker=True) as (admin,):
            assert await admin.trim("normal", "street", 2) == 2
            await admin.drop("street")
            assert "street" not in [one.desk for one in await admin.seats()]


def publishing(subject: str) -> Callable[[Any], Any]:
    return lambda client: client.publish(subject, b"{}")


def subscribing(subject: str) -> Callable[[Any], Any]:
    return lambda client: client.subscribe(subject)


OF_OTHERS = [
    "oo.alpha.log.high.floor",
    "oo.alpha.log.normal.floor",
    "oo.alpha.seat.high.floor",
    "oo.alpha.seat.normal.floor",
    "oo.alpha.lease.floor",
    "oo.alpha.kill.floor",
    "oo.alpha.beat.floor",
    "oo.alpha.md.floor",
    "oo.alpha.ask.floor",
    "oo.alpha.inbox.floor.1",
    "oo.alpha.release.street",
    "oo.alpha.release.risk",
    "oo.alpha.kill.street.more",
    "oo.beta.kill.street",
    "anything",
]
OF_ADMINISTRATORS = [
    f"$JS.API.{verb}.OO_alpha_{stream}{rest}"
    for stream in ("high", "normal", "seats")
    for verb, rest in (
        ("STREAM.PURGE", ""),
        ("STREAM.DELETE", ""),
        ("STREAM.UPDATE", ""),
        ("STREAM.MSG.DELETE", ""),
        ("STREAM.SNAPSHOT", ""),
        ("STREAM.RESTORE", ""),
        ("STREAM.LEADER.STEPDOWN", ""),
        ("STREAM.PEER.REMOVE", ""),
        ("CONSUMER.CREATE", ".any"),
        ("CONSUMER.DURABLE.CREATE", ".any"),
    )
] + [
    "$JS.API.STREAM.CREATE.mine",
    "$JS.API.META.LEADER.STEPDOWN",
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.ACCOUNT.PING",
]


@in_house
async def test_a_desk_publishes_under_no_other_name(house: House) -> None:
    async with opened(house.link("floor")) as (floor,):
        before = await floor.facts()
        said = await said_to(house, "street", *map(publishing, OF_OTHERS))
        for subject, words in zip(OF_OTHERS, said, strict=True):
            assert words == f'nats: permissions violation for publish to "{subject.lower()}"'
        assert await floor.facts() == before


@in_house
async def test_a_desk_neither_purges_nor_edits_nor_deletes(house: House) -> None:
    async with opened(house.link("floor")) as (floor,):
        before = await floor.facts()
        said = await said_to(house, "street", *map(publishing, OF_ADMINISTRATORS))
        for subject, words in zip(OF_ADMINISTRATORS, said, strict=True):
            assert words == f'nats: permissions violation for publish to "{subject.lower()}"'
        assert await floor.facts() == before


@in_house
async def test_a_desk_hears_neither_the_answers_of_others_nor_the_servers(house: House) -> None:
    subjects = [
        ">",
        "oo.>",
        "oo.alpha.>",
        "oo.alpha.inbox.floor.>",
        "oo.alpha.*.street",
        "$SYS.>",
        "_INBOX.>",
    ]
    said = await said_to(house, "street", *map(subscribing, subjects))
    for subject, words in zip(subjects, said, strict=True):
        assert words.startswith(f'nats: permissions violation for subscription to "{subject.lower()}"')


@in_house
async def test_a_desk_recovers_its_seat_when_another_has_a_server_write_into_it(house: House) -> None:
    """Whoever asks a server may name any subject for the answer: it says nothing that anybody would believe."""
    async with opened(house.link("floor"), house.link("street")) as (floor, street):
        seat = await floor.claim(a_seat("floor", "victim"), None)
        for subject in ("lease.floor", "seat.high.floor", "seat.normal.floor", "log.normal.floor"):
            await street._bulk.publish("$JS.API.INFO", b"", reply=f"oo.alpha.{subject}")
        await street._bulk.request("$JS.API.INFO", b"")  # the answers before are written by now
        assert (await seat_of(floor)).holder == UNREADABLE
        seat = await floor.renew(seat)
        with pytest.raises(LogGone, match="none of ours"):
            await floor.append(a_group(10, 11), seat.tokens["normal"])
        seat = await floor.claim(seat, seat)
        await floor.append(a_group(10, 11), seat.tokens["normal"])
        assert (await street.last("normal", "floor")).upto == 11
        await floor.leave(seat)


async def seat_of(transport: NatsTransport, desk: str = "floor") -> Any:
    return next((seat for seat in await transport.seats() if seat.desk == desk), None)


@in_house
async def test_another_account_sees_nothing_of_the_firm(house: House) -> None:
    seed = house.folder / "another-account.seed"
    heard: list[bytes] = []
    link = a_link(house.servers, FIRM, "street", seed_file=seed)
    async with opened(house.link("floor"), link) as (floor, stranger):
        seat = await floor.claim(a_seat("floor", "again"), None)
        await floor.append(a_group(0, 1), seat.tokens["normal"])
        await stranger.listen("kill", lambda _desk, data: heard.append(data), urgent=True)
        await floor.broadcast("kill", b"1", urgent=True)
        assert await stranger.seats() == []
        assert await stranger.last("normal", "floor") is None
        assert heard == []


@in_house
async def test_who_has_no_key_or_a_strange_one_is_told_what_to_do(house: House) -> None:
    make_seed(house.folder / "stranger.seed")
    for link in (house.link("floor", key="stranger"), a_link(house.servers, FIRM)):
        transport = NatsTransport(link)
        problem = await refused(transport.open())
        await transport.close()
        assert not isinstance(problem, Unreachable)
        assert "refuses this desk" in str(problem)
        assert "seed_file" in str(problem)


@in_house
async def test_a_desk_with_the_key_of_another_gets_nowhere(house: House) -> None:
    """Its name is that of the settings; the server knows its key."""
    impostor = NatsTransport(house.link("floor", key="street"))
    try:
        with pytest.raises(LinkError, match=r"does not permit oo\.alpha\.inbox\.floor"):
            await impostor.open()
    finally:
        await impostor.close()


def test_a_seed_is_read_from_a_file_that_nobody_else_can_read(tmp_path: Path) -> None:
    path = tmp_path / "floor.seed"
    key = make_seed(path)
    assert len(key) == 56
    assert key.startswith("U")
    with pytest.raises(ConfigError, match="exists"):
        make_seed(path)
    link = Link(firm="alpha", desk="floor", seed_file=path)
    NatsTransport(link)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="can be read by others"):
        asyncio.run(NatsTransport(link).open())
    path.chmod(0o600)
    for text, words in (("nothing", "no seed"), ("SU" + "A" * 56, "no seed"), ("é", "cannot be read")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words):
            asyncio.run(NatsTransport(link).open())
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        asyncio.run(NatsTransport(link).open())


def test_keys_that_a_server_would_not_take_are_refused(tmp_path: Path) -> None:
    firm = a_firm_of(tmp_path)
    seed = (tmp_path / "floor.seed").read_text().strip()
    for key, words in ((seed, "a seed, which is secret"), ("", "''"), ("U" + "a" * 55, "56 characters")):
        with pytest.raises(ConfigError, match=words) as caught:
            server_config(FirmPermissions(firm="alpha", desks={"floor": DeskKey(key=key)}))
        assert seed not in str(caught.value)
    twice = {"floor": firm.desks["floor"], "street": firm.desks["floor"]}
    with pytest.raises(ConfigError, match="floor, street have the same key"):
        server_config(FirmPermissions(firm="alpha", desks=twice))


# -- TLS


def make_certificates(folder: Path) -> None:
    """A certificate authority, and certificates of a server and a desk, by the program openssl."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    may_sign = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # from 3.13 on Python asks for that
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", *may_sign)
    for name in ("server", "desk"):
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", "-addext", names)
        openssl("req", "-new", *ec[:5], *request)
        signed = (
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-copy_extensions",
            "copy",
        )
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def tls_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    files = {"tls_cert": "server.pem", "tls_key": "server.key", "tls_ca": "ca.pem"}
    firm = a_firm_of(folder, **{name: str(folder / file) for name, file in files.items()})
    with Servers(folder, has_jetstream=False, more=server_config(firm)) as servers:
        yield House(servers, folder, firm)


def tls_link(house: House, **more: Any) -> Link:
    url = f"tls://127.0.0.1:{house.servers.nodes[0].port}"
    files = {"tls_ca": "ca.pem", "tls_cert": "desk.pem", "tls_key": "desk.key"} | more
    given = {name: house.folder / file for name, file in files.items() if file}
    return a_link(url, FIRM, "floor", seed_file=house.folder / "floor.seed", **given)


def test_desks_talk_over_tls(tls_house: House) -> None:
    async def main() -> None:
        heard: list[bytes] = []
        async with opened(tls_link(tls_house)) as (floor,):
            seat = await floor.claim(a_seat(), None)
            await floor.append(a_group(0, 1), seat.tokens["normal"])
            await floor.listen("beat", lambda _desk, data: heard.append(data), urgent=True)
            assert (await floor.last("normal", "floor")).upto == 1

    asyncio.run(main())


def test_a_server_that_cannot_be_trusted_and_a_desk_without_a_certificate_are_refused(
    tls_house: House,
) -> None:
    async def main() -> None:
        for link in (tls_link(tls_house, tls_ca=""), tls_link(tls_house, tls_cert="", tls_key="")):
            transport = NatsTransport(link)
            problem = await refused(transport.open())
            await transport.close()
            assert "tls_ca" in str(problem), problem
            assert "certificate" in str(problem).lower()

    asyncio.run(main())


def test_nothing_is_said_in_the_clear_where_tls_was_asked_for(house: House) -> None:
    async def main() -> None:
        url = f"tls://127.0.0.1:{house.servers.nodes[0].port}"
        transport = NatsTransport(a_link(url, FIRM, seed_file=house.folder / "floor.seed"))
        problem = await refused(transport.open())
        await transport.close()
        assert "offers no TLS" in str(problem)

    asyncio.run(main())


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    link = Link(firm="alpha", desk="floor", tls_ca=tmp_path / "no.pem")
    with pytest.raises(ConfigError, match=r"tls_ca .*no\.pem"):
        asyncio.run(NatsTransport(link).open())


def test_the_configuration_is_what_a_server_reads(tmp_path: Path) -> None:
    text = server_config(a_firm_of(tmp_path))
    assert json.dumps("oo.alpha.log.high.floor") in text
    assert ".seed" not in text


@pytest.mark.parametrize("slow_count", [0, 1])
def test_the_servers_are_believed_when_every_one_of_them_says_that_it_syncs(
    tmp_path: Path, slow_count: int
) -> None:
    firm = replace(a_firm_of(tmp_path), store="")
    servers = Servers(tmp_path, 3, sync_always=True, more=server_config(firm))
    for node in servers.nodes[:slow_count]:
        node.config = node.config.replace("sync_interval: always", "sync_interval: 2m")

    async def main() -> None:
        async with opened(House(servers, tmp_path, firm).link("floor")) as (floor,):
            facts = await floor.facts()
            assert facts.replicas == 3
            assert facts.is_synced == (slow_count == 0)

    with servers:
        asyncio.run(main())
