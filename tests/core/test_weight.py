"""What events take in memory: estimated closely where it is much, and hardly ever measured where it is little."""

import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest

from openoutcry import Event, MarketDataEvent
from openoutcry.core import weight as weight_module
from openoutcry.core.weight import EVERY, SMALL_BYTES, Scales, weight_of

MB = 1_000_000


@dataclass
class Plain:
    payload: Any = None
    others: list[Any] = field(default_factory=list)


class Slotted:
    __slots__ = ("payload",)

    def __init__(self, payload: Any) -> None:
        self.payload = payload


class Note(Event, kw_only=True):
    event_type: str = "note.of.weight"
    payload: Any = None


def texts(size: int) -> list[Any]:
    """The same bytes in every shape that a payload comes in."""
    chunk = size // 1_000
    return [
        "x" * size,
        b"x" * size,
        bytearray(size),
        memoryview(bytearray(size)),
        ["x" * chunk + str(n) for n in range(1_000)],
        tuple("x" * chunk + str(n) for n in range(1_000)),
        {"x" * chunk + str(n) for n in range(1_000)},
        {n: "x" * chunk + str(n) for n in range(1_000)},
        {"x" * chunk + str(n): n for n in range(1_000)},
        deque("x" * chunk + str(n) for n in range(1_000)),
        [[["x" * size]]],
        {"a": {"b": {"c": "x" * size}}},
        list(range(size // 36)),
    ]


@pytest.mark.parametrize("make", [Plain, Slotted, lambda payload: Note(payload=payload), lambda p: [p]])
def test_a_large_payload_is_found_in_every_shape(make):
    for payload in texts(MB):
        assert 0.9 * MB < weight_of(make(payload)) < 1.5 * MB, type(payload)


def test_an_ordinary_event_is_small():
    assert 200 < weight_of(MarketDataEvent(symbol="ES", price=1.0)) < SMALL_BYTES
    assert weight_of(None) == sys.getsizeof(None)


def test_a_circle_and_a_hostile_class_come_to_an_end():
    class Hostile:
        def __sizeof__(self) -> int:
            raise ValueError

    circle: list[Any] = []
    circle += [circle, Hostile()]
    assert weight_of(circle) > 0


def measured_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    measured: list[Any] = []

    def measure(event: Any) -> int:
        measured.append(event)
        return weight_of(event)

    monkeypatch.setattr(weight_module, "weight_of", measure)
    return measured


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize("mixed", [False, True])
def test_ordinary_events_are_measured_once_in_many(monkeypatch, size, mixed):
    measured, scales = measured_of(monkeypatch), Scales(10_000)
    batch = [MarketDataEvent(symbol="ES", price=1.0)] * size
    batches = 7_000 // size
    total = sum(scales.weigh(batch, mixed=mixed) for _ in range(batches))
    assert len(measured) <= 7_000 / min(size, EVERY) + 1
    assert len(measured) <= max(batches, 7_000 / EVERY + 1)
    assert total == pytest.approx(7_000 * weight_of(batch[0]), rel=0.05)


def test_every_event_of_a_class_is_measured_for_a_while_after_a_heavy_one(monkeypatch):
    measured, scales = measured_of(monkeypatch), Scales(100)
    scales.weigh([Note(payload="x" * MB)], mixed=False)
    for _ in range(50):
        assert scales.weigh([Note()], mixed=False) < SMALL_BYTES
        assert (
            scales.weigh([Note(), Note(payload="x" * MB), MarketDataEvent(symbol="ES", price=1)], mixed=True)
            > MB
        )
    measured.clear()
    for _ in range(100 + EVERY):
        scales.weigh([Note()], mixed=False)
    assert len(measured) < 105
