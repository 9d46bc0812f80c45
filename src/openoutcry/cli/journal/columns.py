"""The fields of known event types as columns of a table: which there are, of what kind, and their values.

A column holds one kind of value. What is nested, or of different kinds in different types, is JSON text. A
value that is not of its column's kind is left out there and counted: it stands in the event's JSON beside it.
"""

import enum
import types
import typing
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec

from openoutcry.events.registry import KnownClass, encoded_names, find_by_name
from openoutcry.ports import Header

Kind = Literal["int", "float", "bool", "text", "time", "json"]
PREFIX: Final = "field_"
"""Goes before the name of a field that would be called as a column that every event has."""
_OF_NO_USE: Final = frozenset(("event_class", "schema_version"))
_HEAD: Final = frozenset(Header.__struct_fields__) - {"desk", "votes"}
_KINDS: Final[dict[type, Kind]] = {
    bool: "bool",
    int: "int",
    float: "float",
    **dict.fromkeys((str, Decimal, datetime, date, time_of_day, timedelta, UUID, bytes), "text"),
}
"""What JSON makes of plain types."""
_INT64: Final = 2**63
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class _Class(msgspec.Struct):
    event_class: Any = None


_read_class: Final = msgspec.json.Decoder(_Class).decode


class Column(NamedTuple):
    """A column.

    Attributes:
        name: What it is called.
        key: The key of its field in the JSON of an event.
        kind: What its values are.

    """

    name: str
    key: str
    kind: Kind


class Columns:
    """The columns for the fields of some event classes.

    Attributes:
        columns: In the order of the classes, and of their fields.
        misfits: How many values were not of the kind of their column, by the column's name.

    """

    def __init__(self, classes: Iterable[KnownClass], taken: Iterable[str]) -> None:
        self.misfits: Counter[str] = Counter()
        kinds: dict[str, Kind] = {}
        self._keys: dict[str, frozenset[str]] = {}
        for known in classes:
            own = _kinds_of(known)
            self._keys[known.name] = frozenset(own)
            for key, kind in own.items():
                kinds[key] = _merged(kinds.get(key, kind), kind)
        used = {*taken, *kinds}
        self.columns: list[Column] = []
        for key, kind in kinds.items():
            name = key
            if key in set(taken):
                while name in used:
                    name = PREFIX + name
                used.add(name)
            self.columns.append(Column(name, key, kind))

    def values(self, payload: bytes) -> dict[str, Any]:
        """Return the values of an event by the names of their columns; none for a type that is not known."""
        keys = self._keys.get(class_of(payload) or "")
        if keys is None:
            return {}
        fields = _decode(payload)
        found = {}
        for name, key, kind in self.columns:
            value = fields.get(key) if key in keys else None
            if value is not None:
                fitted = _fitted(value, kind)
                if fitted is None:
                    self.misfits[name] += 1
                else:
                    found[name] = fitted
        return found


def class_of(payload: bytes) -> str | None:
    """Return the name of the class of an event, from its JSON."""
    try:
        name = _read_class(payload).event_class
    except msgspec.MsgspecError:
        return None
    return name if isinstance(name, str) else None


def known_of(names: Iterable[str]) -> list[KnownClass]:
    """Return the classes of these names that are known, in the order of their names."""
    found = (find_by_name(name) for name in sorted(set(names)))
    return [known for known in found if known is not None]


def _kinds_of(known: KnownClass) -> dict[str, Kind]:
    """Return the fields of a class, by their keys in the JSON, that no column of every event has."""
    try:
        hints = typing.get_type_hints(known.cls)
    except Exception:  # noqa: BLE001 - annotations are the user's code
        hints = {}
    names = encoded_names(known.cls) or {}
    own = {names.get(name, name): hint for name, hint in hints.items()}
    kinds: dict[str, Kind] = {}
    for key in [*(key for key in own if key in known.keys), *sorted(known.keys - own.keys())]:
        kind: Kind = "time" if key == "timestamp" and known.own else _kind_of(own.get(key))
        if key not in _OF_NO_USE and not (key in _HEAD and kind == "text"):
            kinds[key] = kind
    return kinds


def _kind_of(hint: Any) -> Kind:
    """Return of what kind the values of an annotation are, None aside."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _kind_of(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return _common(_kind_of(one) for one in typing.get_args(hint) if one is not types.NoneType)
    if origin is Literal:
        return _common(_kind_of(type(one)) for one in typing.get_args(hint) if one is not None)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _common(_kind_of(type(one.value)) for one in hint)
    bases = hint.__mro__ if isinstance(hint, type) else ()
    known: list[Kind] = [_KINDS[base] for base in bases if base in _KINDS]
    return known[0] if known else "json"


def _common(kinds: Iterable[Kind]) -> Kind:
    found: Kind | None = None
    for kind in kinds:
        found = kind if found is None else _merged(found, kind)
    return found or "json"


def _merged(one: Kind, other: Kind) -> Kind:
    if one == other:
        return one
    return "float" if {one, other} == {"int", "float"} else "json"


def _fitted(value: Any, kind: Kind) -> Any:
    """Return a value as its column has it; None if it is not of that kind, or cannot be held exactly."""
    if kind == "json":
        return _encode(value).decode()
    if kind == "text":
        return value if isinstance(value, str) else _encode(value).decode()
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind == "float":
        return _as_float(value)
    return value if isinstance(value, int) and -_INT64 <= value < _INT64 else None


def _as_float(value: float) -> float | None:
    try:
        return float(value) if float(value) == value else None
    except OverflowError:
        return None
