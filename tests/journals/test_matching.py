"""Filters find the events of users' classes, whatever types their fields have."""

import json
from typing import Any

import pytest

from openoutcry.journals.matching import matching, own_ns, texts_of
from openoutcry.ports import Filter, Level, Stored


def an_event(**fields: Any) -> Stored:
    payload = json.dumps({"event_id": "e", "event_type": "own", **fields}).encode()
    return Stored(1, payload, "normal", Level.PROCESS, 5)


def a_filter(name: str, value: str) -> Filter:
    given: dict[str, Any] = {name: value}
    return Filter(**given)


@pytest.mark.parametrize(
    ("symbol", "found_by", "not_by"),
    [
        (7, "7", "8"),
        (1.5, "1.5", "1"),
        (True, "true", "1"),
        (None, None, "None"),
        ("5000.25", "5000.25", "5000.250"),
        ({"root": "ES", "month": {"code": "Z", "year": 5}}, "Z", "root"),
        (["ES", "NQ"], "NQ", "ESNQ"),
        (2**70, str(2**70), "0"),
    ],
)
@pytest.mark.parametrize(("option", "field"), [("symbol", "symbol"), ("agent", "source_agent")])
def test_a_field_is_found_by_what_it_says(
    symbol: Any, found_by: str | None, not_by: str, option: str, field: str
) -> None:
    entry = an_event(**{field: symbol})
    if found_by is not None:
        assert matching(a_filter(option, found_by))(entry)
    assert not matching(a_filter(option, not_by))(entry)


@pytest.mark.parametrize("name", ["event_id", "correlation_id", "causation_id", "round_id"])
def test_ids_are_found_as_numbers_too(name: str) -> None:
    assert matching(a_filter(name, "12"))(an_event(**{name: 12, "symbol": 3}))
    assert not matching(a_filter(name, "12"))(an_event(**{name: 13, "symbol": 3}))


def test_the_type_is_found_beside_fields_of_any_type() -> None:
    assert matching(Filter(types=frozenset({"own"})))(an_event(symbol=3, source_agent={"a": 1}))


@pytest.mark.parametrize(
    ("timestamp", "ns"),
    [
        (12, 12),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:00+01:00", 0),
        ("soon", None),
        (1.5, None),
    ],
)
def test_an_events_own_time_is_read_from_its_json(timestamp: Any, ns: int | None) -> None:
    entry = an_event(timestamp=timestamp)
    assert own_ns(entry.payload) == ns
    if ns is not None:
        assert matching(Filter(own_since_ns=ns, own_until_ns=ns + 1))(entry)
        assert not matching(Filter(own_since_ns=ns + 1))(entry)
    assert not matching(Filter(own_until_ns=ns or 0))(entry)


def test_what_is_no_object_says_nothing() -> None:
    assert own_ns(b"[1]") is None
    assert texts_of(b"not json", "symbol") == []
