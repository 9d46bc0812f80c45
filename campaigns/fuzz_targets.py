"""What bad input is given to, and what must come of it: a typed error, or what was really there.

A target takes bytes and raises `Escaped` when something came of them that must not. Any other exception that
leaves it is a finding too.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from openoutcry.config import load_config
from openoutcry.errors import ConfigError, InvalidEvent
from openoutcry.events import Event, decode, encode
from openoutcry.events.pages import Undecodable, decode_many
from openoutcry.runtime.api.bus import EventBus
from openoutcry.trading import FillEvent, MarketDataEvent, OrderEvent, OrderSide, SignalDirection, SignalEvent


class Escaped(AssertionError):
    """Bad input had a consequence that it must not have."""


class Target(NamedTuple):
    """Something that takes input from outside.

    Attributes:
        packages: Where new lines are worth keeping an input for, as prefixes of module names.
        seeds: Good inputs to begin with.
        words: What stands in good inputs, to be put into others.
        run: Takes an input; raises where it has found something.

    """

    packages: tuple[str, ...]
    seeds: Callable[[], Sequence[bytes]]
    words: tuple[bytes, ...]
    run: Callable[[bytes], None]


@cache
def room() -> Path:
    """Return a folder in memory, where there is one, for the files of this process."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it has a name of its own
    base = memory if os.access(memory, os.W_OK) else None
    holder = tempfile.TemporaryDirectory(prefix="openoutcry-fuzz-", dir=base, ignore_cleanup_errors=True)
    _holders.append(holder)
    return Path(holder.name)


_holders: Final[list[tempfile.TemporaryDirectory[str]]] = []


# Payloads


def good_payloads() -> list[bytes]:
    """Return events of several classes, encoded."""
    events = [
        MarketDataEvent(symbol="AAPL", price=187.25, source_agent="feed"),
        OrderEvent(order_id="o-1", symbol="IBM", side=OrderSide.BUY, quantity=100),
        SignalEvent(
            strategy_name="trend", symbol="IBM", direction=SignalDirection.LONG, data_sources=("bars",)
        ),
        FillEvent(order_id="o-1", symbol="IBM", side=OrderSide.BUY, filled_quantity=100, fill_price=20.5),
        Event(event_type="weather", source_agent="sky"),
    ]
    return [encode(event) for event in events]


def try_payload(data: bytes) -> None:
    """Decode in every way; what can be decoded must survive the way to JSON and back."""
    event = _decoded(data)
    before, after = good_payloads()[:2]
    page = decode_many([before, data, after])
    if len(page) != 3 or page[0] != decode(before) or page[2] != decode(after):
        raise Escaped("decode_many lost its neighbours")
    if isinstance(page[1], Undecodable) != (event is None):
        raise Escaped(f"decode says {event!r}, decode_many {page[1]!r}")
    if isinstance(page[1], Undecodable):
        if page[1].payload != data or not isinstance(page[1].error, InvalidEvent):
            raise Escaped(f"decode_many changed the payload, or its error is {page[1].error!r}")
    elif page[1] != event:
        raise Escaped(f"decode read {event!r}, decode_many {page[1]!r}")
    with suppress(InvalidEvent):
        decode(data.decode("utf-8", "surrogateescape"))
    if event is not None:
        try:
            same = decode(encode(event)) == event
        except InvalidEvent as problem:
            raise Escaped(f"{event!r} was decoded, and cannot be written and read again: {problem}") from None
        if not same:
            raise Escaped(f"{event!r} became {decode(encode(event))!r}")
    _from_dict(data)


def _decoded(data: bytes) -> Any:
    try:
        return decode(data)
    except InvalidEvent:
        return None


def _from_dict(data: bytes) -> None:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return
    for cls in (Event, OrderEvent):
        if isinstance(fields, dict):
            with suppress(InvalidEvent):
                cls.from_dict(fields)
            fields = {name: value for name, value in fields.items() if name != "event_class"}


_FIELDS: Final = (
    b'"event_class"', b'"event_type"', b'"event_id"', b'"timestamp"', b'"schema_version"', b'"source_agent"',
    b'"symbol"', b'"price"', b'"quantity"', b'"side"', b'"order_id"', b'"metadata"', b'"confidence"',
    b"null", b"true", b"1e999", b"-1", b"9223372036854775808", b"NaN", b"[]", b"{}", b'""', b'"\\ud800"',
    b"[" * 2000, b'{"a":' * 1500, b"9" * 5000, b"\xff", b"\x00",
)  # fmt: skip


# Configuration files


_SETTINGS: Final = b"""[bus]
max_queue_size = 1000
kill_switch_releasers = ["ops"]

[backpressure]
warning_threshold = 0.4
shed_first = ["market_data"]

[persistence]
path = "firm.db"
level = "process"
levels = { fill = "disk" }
retain_count = 100000

[health]
check_s = 1.0
recover = true

[health.drills]
every_s = 60.0

[health.ladder]
back_offs = 3
"""


def good_settings() -> list[bytes]:
    """Return a settings file with everything, and its parts."""
    return [_SETTINGS, b"", *(part + b"\n" for part in _SETTINGS.split(b"\n\n")), *_one_setting_each()]


@cache
def _setting_names() -> tuple[str, ...]:
    """Return `section name` for all there are, as the dataclasses have them."""
    from dataclasses import fields  # noqa: PLC0415 - here alone

    from openoutcry import config  # noqa: PLC0415

    sections = {
        "bus": config.BusConfig,
        "backpressure": config.BackpressureConfig,
        "persistence": config.PersistenceConfig,
        "health": config.HealthCheckConfig,
        "health.drills": config.DrillConfig,
        "health.ladder": config.LadderConfig,
    }
    return tuple(f"{name} {field.name}" for name, cls in sections.items() for field in fields(cls))


def _one_setting_each() -> list[bytes]:
    parts = (line.split() for line in _setting_names())
    return [f"[{section}]\n{name} = 1\n".encode() for section, name in parts]


def try_settings(data: bytes) -> None:
    """Load a settings file, and make a bus by it."""
    path = room() / "settings.toml"
    path.write_bytes(data)
    with suppress(ConfigError):
        config = load_config(path)
        EventBus(**config.arguments())


_VALUES: Final = (
    b"[bus]", b"[backpressure]", b"[persistence]", b"[health]", b"[health.drills]", b"[health.ladder]",
    b" = ", b"true", b"0", b"-1", b"1", b"0.5", b"inf", b"nan", b"-inf", b"1e400", b"9223372036854775808",
    b"99999999999999999999999999999", b'""', b'"a\\u0000b"', b"[]", b"[[]]", b"[1]", b'["a"]', b"{}",
    b"{a=1}", b"{ a = [] }", b"2025-11-24", b"16:00:00", b"0x10", b"\n", b"#", b"\xff", b"\x00", b"[" * 1200,
    b"a." * 1200, b"[[bus]]", b"9" * 5000,
)  # fmt: skip


PAYLOADS: Final = Target(("openoutcry.events", "openoutcry.trading"), good_payloads, _FIELDS, try_payload)
CONFIG: Final = Target(
    ("openoutcry.config", "openoutcry.sessions", "openoutcry.runtime"), good_settings, _VALUES, try_settings
)
