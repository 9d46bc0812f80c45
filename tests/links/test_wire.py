"""Groups and messages as bytes: what is read is what was written, and nothing else is ever read."""

from contextlib import suppress
from typing import Any
from zlib import crc32

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_kit import a_group, an_entry

from openoutcry.errors import Garbled
from openoutcry.links import wire
from openoutcry.ports import Ended, Entry, Group, Header, Level


def sealed(body: bytes) -> bytes:
    """Bytes with the right checksum before them."""
    return b"oo1 %08x%s" % (crc32(body), body)


def read(data: bytes) -> Group:
    """The group that the bytes are, with its entries, which are read when they are asked for."""
    group = wire.unpack(data)
    return msgspec.structs.replace(group, entries=tuple(group.entries))


def test_a_group_comes_back_as_it_was() -> None:
    for group in (a_group(7, 12), a_group(0, 200), a_group(3, 9, log="high")):
        assert wire.unpack(wire.pack(group)) == read(wire.pack(group)) == group


def test_the_entries_stand_in_a_group_byte_for_byte_a_line_each() -> None:
    group = a_group(0, 3)
    assert wire.pack(group).split(b"\n")[-3:] == [entry.payload for entry in group.entries]


def test_an_event_that_is_written_over_several_lines_comes_back_as_it_was() -> None:
    payload = b'{"event_id": "e1",\n "event_type": "signal"\n}\n'
    group = Group(
        desk="floor",
        journal="j",
        log="normal",
        after=0,
        upto=1,
        positions=(1,),
        entries=(Entry("e1", payload),),
    )
    assert read(wire.pack(group)).entries == (Entry("e1", payload),)


def test_a_header_beside_the_event_goes_before_what_the_event_says() -> None:
    entry = an_entry(1, header=Header(event_id="beside", symbol="X"))
    group = msgspec.structs.replace(a_group(0, 1), entries=(entry,))
    assert wire.unpack(wire.pack(group)).entries[0].event_id == "beside"
    assert wire.unpack(wire.pack(group)) == group


def test_a_group_may_say_that_there_is_nothing_to_export() -> None:
    group = Group(desk="floor", journal="j", log="high", after=3, upto=90)
    assert wire.unpack(wire.pack(group)) == group


def test_where_a_group_ends_is_said_with_its_last_entry() -> None:
    assert wire.ended(wire.pack(a_group(3, 9)), 77) == Ended("j1", 9, 77, 9, "e9")
    empty = Group(desk="floor", journal="j", log="high", after=3, upto=90)
    assert wire.ended(wire.pack(empty), 78) == Ended("j", 90, 78)


def test_a_level_that_journals_do_not_know_is_the_highest_that_they_do() -> None:
    body = wire.pack(a_group(0, 1))[12:].replace(b",1,", b",9,", 1)
    assert wire.unpack(sealed(body)).entries[0].level is Level.DISK


@settings(max_examples=300)
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=3))
def test_a_changed_byte_is_found(flips: list[tuple[int, int]]) -> None:
    data = wire.pack(a_group(0, 3))
    changed = bytearray(data)
    for place, bits in flips:
        changed[place % len(changed)] ^= bits
    if bytes(changed) == data:
        return
    with pytest.raises(Garbled):
        read(bytes(changed))
    with pytest.raises(Garbled):
        wire.ended(bytes(changed), 1)


@pytest.mark.parametrize("cut", [0, 3, 12, 13, 40, 100, -1])
def test_half_a_group_is_none(cut: int) -> None:
    data = wire.pack(a_group(0, 3))
    with pytest.raises(Garbled):
        read(data[:cut])
    with pytest.raises(Garbled):
        read(sealed(data[12:cut]))


@settings(max_examples=300)
@given(data=st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for made in (data, b"oo1 " + data, sealed(data), sealed(b"\n" + data), sealed(b"\n" + data + b"\n[]\n")):
        for reads in (read, lambda made: wire.ended(made, 1)):
            with suppress(Garbled):
                reads(made)
    kinds: list[Any] = [wire.Kill, wire.Beat, wire.Ask, wire.Ticks]
    for kind in kinds:
        with suppress(Garbled):
            wire.read_message(kind, data)


HEAD = b'\n{"desk":"a","journal":"j","log":"normal","after":0,"upto":2,"count":1}\n'
ROW = b'[[1,0,%d,1,"normal"]]\n'


@pytest.mark.parametrize(
    "body",
    [
        HEAD + b'[[1,0,14,1,"normal"]]\n{"event_id":1}',
        HEAD + b'[[1,0,2,1,"normal"]]\n{}',
        HEAD + b'[[1,0,3,1,"normal"]]\nabc',
        HEAD + b'[[1,0,2,1,"normal",{"event_id":"e"}]]\n[]',
        HEAD + b'[[1,0,9,1,"normal",{"event_id":"e"}]]\n{"a":"\xff"}',
        HEAD + b'[[1,0,9999,1,"normal"]]\n{"event_id":"e"}',
        HEAD + b'[[1,0,-1,1,"normal"]]\n{"event_id":"e"}',
        HEAD + b'[[1,0,16,1,"normal"]]\n{"event_id":"e"}trailing',
        HEAD + b'[[1,0,16,1,"high"]]\n{"event_id":"e"}',
        HEAD + b'[[0,0,16,1,"normal"]]\n{"event_id":"e"}',
        HEAD + b'[[3,0,16,1,"normal"]]\n{"event_id":"e"}',
        HEAD + b'[[1,0,16,-1,"normal"]]\n{"event_id":"e"}',
        HEAD + b'[[1,99999999999999999999,16,1,"normal"]]\n{"event_id":"e"}',
        HEAD + b"[]",
        HEAD.replace(b'"after":0', b'"after":3') + b'[[1,0,16,1,"normal"]]\n{"event_id":"e"}',
        HEAD.replace(b"normal", b"other") + b'[[1,0,16,1,"normal"]]\n{"event_id":"e"}',
        HEAD + b'[[1,0,%d,1,"normal"]]\n{"event_id":"e","a":%s}' % (22 + 4000, b"[" * 2000 + b"]" * 2000),
    ],
)
def test_a_group_with_the_right_checksum_whose_parts_do_not_fit_is_none(body: bytes) -> None:
    with pytest.raises(Garbled):
        read(sealed(body))


def test_that_group_without_what_is_wrong_is_one() -> None:
    assert wire.unpack(sealed(HEAD + b'[[1,0,16,1,"normal"]]\n{"event_id":"e"}')).upto == 2


def test_the_error_for_another_version_says_what_to_do() -> None:
    with pytest.raises(Garbled, match="update"):
        wire.unpack(b"oo2 " + wire.pack(a_group(0, 1))[4:])


@settings(max_examples=200)
@given(sizes=st.lists(st.sampled_from([10, 300, 3_000, 100_000, 300_000]), max_size=700))
def test_a_group_takes_what_there_is_room_for_and_at_least_one(sizes: list[int]) -> None:
    count = wire.group_length(iter(sizes))
    assert min(1, len(sizes)) <= count <= wire.ENTRIES_MOST
    if count > 1:
        entries = tuple(
            an_entry(number, size_bytes=size - 60) for number, size in enumerate(sizes[:count], 1)
        )
        group = msgspec.structs.replace(
            a_group(0, 0), upto=2**40, positions=tuple(range(1, count + 1)), entries=entries
        )
        assert len(wire.pack(group)) <= wire.BYTES_MOST + count * 60  # the entries here are a little larger
    if count < min(len(sizes), wire.ENTRIES_MOST):
        assert sum(sizes[: count + 1]) > wire.BYTES_MOST - 2_000 - 80 * (count + 1)


def test_the_largest_group_is_within_its_bound_with_headers_too() -> None:
    header = Header(event_id="e" * 40, event_type="t" * 40, correlation_id="c" * 40)
    entry = an_entry(1, size_bytes=200, header=header)
    count = wire.group_length([wire.size_of(entry)] * 600)
    group = msgspec.structs.replace(
        a_group(0, 0), upto=2**60, positions=tuple(range(2**59, 2**59 + count)), entries=(entry,) * count
    )
    assert wire.BYTES_MOST * 0.9 < len(wire.pack(group)) <= wire.BYTES_MOST


MESSAGES: list[Any] = [
    wire.Kill(event=msgspec.Raw(b'{"event_id": "k", "price": 1.50}'), header=Header(event_id="k"), wall_ns=5),
    wire.Beat(
        holder="p1",
        number=4,
        heads={"high": 3},
        halts=(wire.ActiveHalt("firm", "k1", "risk", "drawdown"),),
        imported=(wire.Imported("street", "normal", "j2", 77),),
        classes={"signal": 2},
    ),
    wire.Ask(desk="floor", log="high", journal="j1", after=12),
    wire.Ticks(number=3, events=[msgspec.Raw(b'{"price": 1.50}')], headers=[None]),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda one: type(one).__name__)
def test_a_message_comes_back_as_it_was(message: wire.Kill | wire.Beat | wire.Ask | wire.Ticks) -> None:
    kind: Any = type(message)
    read: Any = wire.read_message(kind, wire.write_message(message))
    assert wire.write_message(read) == wire.write_message(message)


def test_an_event_in_a_message_keeps_its_bytes() -> None:
    read = wire.read_message(wire.Ticks, wire.write_message(MESSAGES[3]))
    assert [bytes(one) for one in read.events] == [b'{"price": 1.50}']


def test_what_a_newer_version_adds_to_a_message_is_left_out() -> None:
    data = b'{"holder":"p","number":1,"mood":"calm"}'
    assert wire.read_message(wire.Beat, data) == wire.Beat(holder="p", number=1)
