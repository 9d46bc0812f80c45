"""Desks on different versions of openoutcry: it is told in words that help, and nothing is lost or passed over."""

import msgspec
import pytest
from bus_helpers import a_kill, an_order, virtual
from desk_kit import Desk, passes, running
from listening import Listener, entries

from openoutcry.core.link_words import LinkWord
from openoutcry.links import memory, wire
from openoutcry.links.memory import MemoryTransport
from openoutcry.links.memory_hub import MemoryHub


def two(hub, tmp_path):
    return Desk(hub, "floor", tmp_path / "floor"), Desk(hub, "street", tmp_path / "street")


async def publish(desk, first, count):
    for number in range(first, first + count):
        assert await desk.bus.publish(an_order(event_id=f"o-{number}"))


def newer(data):
    """The bytes of a group as a version may write them that this one does not know."""
    return b"oo2 " + data[4:]


@virtual
async def test_groups_of_a_newer_version_are_told_and_read_when_they_can_be(tmp_path, monkeypatch, caplog):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    there = Listener(street, "order")
    async with running(floor, street):
        await publish(floor, 0, 3)
        await passes()
        with monkeypatch.context() as patch:  # the floor was updated
            patch.setattr(memory, "pack", lambda group: newer(wire.pack(group)))
            await publish(floor, 3, 3)
            await passes(3)
            assert there.ids == ["o-0", "o-1", "o-2"]
            word, why = street.linking.standing().word, street.linking.standing().why
            assert word is LinkWord.GAP
            assert "update this one first" in why
            assert "'floor'" in why
            await passes(30)
            assert "update this one first" in street.linking.standing().why
        assert sum("update this one first" in record.message for record in caplog.records) == 1
        await publish(floor, 6, 3)  # it is the old one again
        await passes(90)
        assert there.ids == [f"o-{number}" for number in range(9)]
        assert street.linking.joined.problems == {}


@virtual
async def test_what_a_newer_version_has_written_is_read_by_the_desk_that_is_updated_then(
    tmp_path, monkeypatch
):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor):
        async with running(street):
            await publish(floor, 0, 3)
            await passes()
            with monkeypatch.context() as patch:
                patch.setattr(memory, "pack", lambda group: newer(wire.pack(group)))
                await publish(floor, 3, 3)
                await passes(3)
        for place, message in enumerate(hub._logs["normal"].messages):  # this version reads it
            if message.data.startswith(b"oo2 "):
                hub._logs["normal"].messages[place] = message._replace(data=b"oo1 " + message.data[4:])
        again = Desk(hub, "street", tmp_path / "street")
        there = Listener(again, "order")
        async with running(again):
            await publish(floor, 6, 1)
            await passes(5)
            assert there.ids[-4:] == ["o-3", "o-4", "o-5", "o-6"]
    assert [e.head().event_id for e in entries(tmp_path / "street") if b'"o-' in e.payload] == [
        f"o-{number}" for number in range(7)
    ]


@virtual
async def test_what_stands_in_a_log_and_is_no_group_is_told_until_it_is_known_that_nothing_is_missing(
    tmp_path,
):
    hub = MemoryHub()
    floor, street = two(hub, tmp_path)
    async with running(floor, street):
        await publish(floor, 0, 1)
        await passes()
        hub.append("normal", "floor", b'{"type":"an answer of a server"}', hub.tokens("floor")["normal"])
        told = []
        for _ in range(100):
            await passes(0.01)
            told.append("import floor normal" in street.linking.joined.problems)
        assert any(told)
        assert not told[-1]


@virtual
@pytest.mark.parametrize("imports", ["*", ["order"]])
async def test_beats_and_kill_switches_of_a_newer_version_are_understood_as_far_as_they_are_known(
    tmp_path, monkeypatch, imports
):
    hub = MemoryHub()
    floor = Desk(hub, "floor", tmp_path / "floor")
    street = Desk(hub, "street", tmp_path / "street", imports=imports)
    broadcast = MemoryTransport.broadcast

    async def say_more(self, topic, data, *, urgent=False):
        if self.desk == "floor":
            data = msgspec.json.encode({**msgspec.json.decode(data), "mood": "calm", "words": ["later"]})
        await broadcast(self, topic, data, urgent=urgent)

    monkeypatch.setattr(MemoryTransport, "broadcast", say_more)
    async with running(floor, street):
        await passes()
        await floor.bus.publish(a_kill(event_id="k-1"))
        await passes()
        assert street.active == {"k-1"}
        assert street.linking.standing().word == LinkWord.UP
