"""Which dead letters a condition means (CONTRACT 10)."""

import pytest

from openoutcry.core.letters import letter_filter
from openoutcry.core.retries import DeadLetter
from openoutcry.errors import ConfigError
from openoutcry.events import EventType, decode_many, encode
from openoutcry.ports import BuriedEvent
from openoutcry.trading import MarketDataEvent

TICK = MarketDataEvent(symbol="ES", price=1.0)
LETTER = DeadLetter("risk", "normal", TICK, "failed", "", "", 1, 100, 7)
BURIED = BuriedEvent(
    subscription="risk",
    lane="normal",
    position=1,
    payload=encode(TICK),
    reason="failed",
    wall_ns=100,
    letter_id=7,
)


@pytest.mark.parametrize(
    ("conditions", "is_meant"),
    [
        ({}, True),
        ({"letter_ids": [7, 8]}, True),
        ({"letter_ids": {8}}, False),
        ({"letter_ids": []}, False),
        ({"event_type": "market_data"}, True),
        ({"event_type": EventType.MARKET_DATA}, True),
        ({"event_type": "fill"}, False),
        ({"since_ns": 100}, True),
        ({"since_ns": 101}, False),
        ({"until_ns": 101}, True),
        ({"until_ns": 100}, False),
        ({"letter_ids": [7], "event_type": "fill"}, False),
    ],
)
def test_a_condition_means_the_same_letters_in_memory_and_in_a_journal(conditions, is_meant):
    which = letter_filter(conditions)
    assert (which(LETTER), which(BURIED)) == (is_meant, is_meant)


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"letter_ids": 7},
        {"letter_ids": "7"},
        {"letter_ids": ["7"]},
        {"event_type": 7},
        {"since_ns": 1.0},
        {"until_ns": True},
    ],
)
def test_a_condition_that_cannot_be_meant_is_an_error(wrong):
    with pytest.raises(ConfigError):
        letter_filter(wrong)


@pytest.mark.parametrize(
    ("payload", "event_type"),
    [
        (b'{"event_class":"Gone","event_id":"x","event_type":"gone"}', "gone"),
        (b'{"event_class":"Gone","event_id":"x","event_type":7}', ""),
        (b"not JSON", ""),
        (b'{"event_class":"Gone","event_id":"x","event_type":"gone","symbol":5}', "gone"),
    ],
)
def test_the_type_of_what_cannot_be_read_is_told_alike(payload, event_type):
    (event,) = decode_many([payload])
    letter = DeadLetter("risk", "normal", event, "unreadable", "", "", 0, 0)
    stored = BuriedEvent(subscription="risk", lane="normal", position=1, payload=payload, reason="unreadable")
    assert (letter.event_type, letter.to_dict()["event_type"], stored.event_type) == (event_type,) * 3
