"""Payloads that nobody has encoded: a typed error, or an event that survives being written and read."""

import json
from contextlib import suppress

import pytest
from campaigns.fuzz_targets import PAYLOADS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openoutcry.errors import InvalidEvent
from openoutcry.events import Event, decode, encode
from openoutcry.events.pages import Undecodable, decode_many

GOOD = [json.loads(data) for data in PAYLOADS.seeds()]
NAMES = sorted({name for fields in GOOD for name in fields})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
few = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@few
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    PAYLOADS.run(data)


@few
@given(
    st.sampled_from(GOOD),
    st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3),
    st.sets(st.sampled_from(NAMES), max_size=2),
)
def test_an_event_with_some_fields_replaced_or_missing_is_read_or_refused(fields, other, gone):
    changed = {name: value for name, value in {**fields, **other}.items() if name not in gone}
    PAYLOADS.run(json.dumps(changed).encode())
    with suppress(InvalidEvent):
        Event.from_dict(changed)


@few
@given(st.sampled_from(PAYLOADS.seeds()), st.integers(min_value=0), st.binary(max_size=4), st.integers(0, 4))
def test_an_event_that_is_damaged_somewhere_is_read_or_refused(data, at, put, gone):
    at %= len(data)
    PAYLOADS.run(data[:at] + put + data[at + gone :])


@pytest.mark.parametrize(
    "data",
    [
        b'{"":"","":8,"event_type":"\xc2"',
        b'{"a":' * 5_000,
        b"[" * 100_000,
        PAYLOADS.seeds()[0][:-1] + b',"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
    ids=["half a character", "deep objects", "deep lists", "a deep field"],
)
def test_what_json_readers_stumble_over_is_an_invalid_event(data):
    with pytest.raises(InvalidEvent):
        decode(data)
    (left,) = decode_many([data])
    assert isinstance(left, Undecodable)
    assert isinstance(left.error, InvalidEvent)


def test_text_with_half_a_surrogate_pair_is_an_invalid_event():
    with pytest.raises(InvalidEvent):
        decode('{"event_class":"\udcab"}')
    event = Event.from_dict({**GOOD[0], "symbol": "\udcab"})
    with pytest.raises(InvalidEvent):
        encode(event)


@pytest.mark.parametrize("key", ["event_class", "event_type"])
@pytest.mark.parametrize("value", [[], {}, 3, True])
def test_from_dict_refuses_a_class_or_type_that_is_no_text(key, value):
    with pytest.raises(InvalidEvent, match=key):
        Event.from_dict({**GOOD[0], key: value})
