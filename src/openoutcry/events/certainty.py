"""What needs no second look before it is written: one plan per class, made once from its annotations.

`encode` looks through an event for what JSON does not have, and for what is too large or too deep. Then
it reads what it has written and compares. Together that takes ten to forty times as long as writing. A
plan answers without either, at 10 to 20 ns per plain field: every field holds a value of exactly the
class that its annotation names, every float is finite, and nothing is too deep or too large. The rest is
looked at.

A plan that is `kept` is also sure that values are read back as they were. Sure are JSON's own values, the
classes in `_EXACT`, times in UTC or without a zone, enums of texts or of ints, and lists, tuples, sets,
dicts, structs, dataclasses and attrs classes of these, and unions whose members JSON tells apart. Under a
plan that is not kept, a `__post_init__`, a converter or a constraint may change or refuse a value while
it is read. There is no plan for annotations that leave open what is read, nor for classes that keep more
than their fields.

The test of a plan is generated, as the methods of dataclasses are: closures per field take three times as
long.
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from keyword import iskeyword
from math import isfinite
from threading import RLock
from types import MemberDescriptorType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec

from openoutcry.events.bounds import MAX_BYTES, MAX_DEPTH, fields_of
from openoutcry.events.fields import OURS, added_fields, base_of_ours, hints_of
from openoutcry.events.types import EventType

Measure = Callable[[Any, int, int], int]
"""Takes a value, the bytes that are left for it and the levels that it may have; returns the bytes then left.

A negative number says that it is not sure. Bytes are counted low, and only where values may be shared: in
what lies within another class or a collection.
"""

_JSON: Final = frozenset({NoneType, bool, int, float, str})
_EXACT: Final = _JSON | {bytes, Decimal, date, timedelta, UUID}
_LONG: Final = frozenset({str, bytes})
_TIMES: Final = frozenset({datetime, time})
_LISTS: Final = frozenset({list, Sequence, MutableSequence})
_DICTS: Final = frozenset({dict, Mapping, MutableMapping})
_SETS: Final = frozenset({set, frozenset})
_KEYS: Final = frozenset({str, int})
_TEXT: Final = frozenset({str})
_NUMBERS: Final = frozenset({NoneType, bool, int, float})
_TYPES: Final = frozenset({str, EventType})
_OF_EVENT: Final = frozenset({"timestamp_ns", "event_type", "schema_version"})
"""Fields of `Event` that do not hold what they are annotated with."""
_UNSURE: Final = -1
_PART_BYTES: Final = 32
"""What an object counts: it bounds how many are looked at of structures that are shared many times over."""
_NESTED_MOST: Final = 16
"""So many collections within each other are tested in one expression."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How the instances of one class are known to need no second look."""

    measure: Measure
    are_sure: Callable[[Sequence[Any], int, int], bool]
    """Takes events, and the bytes and levels that each of them may have; returns whether all are sure."""
    is_kept: bool
    """Whether reading sets the fields to what was written, and does no more."""

    def is_sure(self, value: object) -> bool:
        """Return True if every value is of the class annotated, finite, and within the bounds of an event."""
        try:
            return self.measure(value, MAX_BYTES, MAX_DEPTH) >= 0
        except Exception:  # noqa: BLE001 - a zone of the user's, an int beyond all floats
            return False


_plans: Final[dict[type, Plan | None]] = {}
_making: Final = RLock()
_under_way: Final[set[type]] = set()
"""Classes whose plan is being made: they may hold others of their own class."""


def comes_back(value: object) -> bool:
    """Return True if an instance of a user's class is within all bounds, and for sure read back as it is."""
    plan = plan_of(type(value))
    return plan is not None and plan.is_kept and plan.is_sure(value)


def plan_of(cls: type) -> Plan | None:
    """Return the plan for the instances of a class, or None if nothing is sure about any of them."""
    if cls not in _plans:
        with _making:
            if cls not in _plans and cls not in _under_way:
                _plan(cls)
    return _plans.get(cls)


def _plan(cls: type) -> None:
    _under_way.add(cls)
    try:
        _plans[cls] = _made(cls)
    except Exception:  # noqa: BLE001 - annotations of the user's that are no types
        _plans[cls] = None
    finally:
        _under_way.discard(cls)


def _measure_again(value: object, left: int, levels: int) -> int:
    """Measure an instance of a class that may hold others of its own class."""
    plan = _plans.get(type(value))
    return plan.measure(value, left, levels) if plan is not None and plan.is_kept else _UNSURE


def measure_json(value: Any, left: int, levels: int) -> int:
    """Measure a value in a field for anything: sure are JSON's own, of exactly their classes."""
    kind = type(value)
    if kind is list:
        return _measure_many(value, left - len(value), levels)
    if kind is dict and set(map(type, value)) <= _TEXT:
        return _measure_many(value.values(), left - len(value) - sum(map(len, value)), levels)
    if kind is str:
        return left - len(value)
    is_sure = kind in _JSON and (kind is not float or value - value == 0)
    return left if is_sure else _UNSURE


def _measure_many(values: Collection[Any], left: int, levels: int) -> int:
    left -= _PART_BYTES
    if left < 0 or levels < 1:
        return _UNSURE
    kinds = set(map(type, values))
    if kinds == _TEXT:
        return left - sum(map(len, values))
    if kinds <= _NUMBERS:
        is_finite = float not in kinds or all(one is None or isfinite(one) for one in values)
        return left if is_finite else _UNSURE
    for one in values:
        left = measure_json(one, left, levels - 1)
        if left < 0:
            break
    return left


def _made(cls: Any) -> Plan | None:
    is_event = hasattr(cls, "_fixed_event_type")
    is_kept = _is_event_kept(cls) if is_event else _is_kept(cls)
    hints = hints_of(cls)
    if is_kept is None:
        return None
    names = added_fields(cls) if is_event and is_kept else fields_of(cls)
    writer = _Writer(is_event=is_event, is_kept=is_kept)
    tested = [name for name in names if not (is_event and name in _OF_EVENT)]
    tests = [writer.test(f"self.{name}", hints[name]) for name in tested]
    if is_event:
        tests.append(writer.test_event(cls._own_version))
    elif cls.__dictoffset__:
        in_slots = sum(isinstance(getattr(cls, name, None), MemberDescriptorType) for name in names)
        tests.append(f"len(self.__dict__) == {len(names) - in_slots}")
    if not all(map(_is_name, names)) or None in tests:
        return None
    msgspec.json.Decoder(cls)  # raises if no data can be read as this class, which is said by who reads it
    return Plan(*writer.compiled([*map(str, tests)]), writer.is_kept)


def _is_name(name: str) -> bool:
    return name.isidentifier() and not iskeyword(name)


def _is_event_kept(cls: Any) -> bool | None:
    """Return True if nothing of a subclass of `Event` but its added fields decides what is read back.

    None: nothing can be said of what does. False: a `__post_init__` of its own does, or fields of `Event`
    that it has annotated anew.
    """
    if not _is_struct_kept(cls):
        return None
    ours = base_of_ours(cls)
    hints, known = hints_of(cls), hints_of(ours)
    maker = next(base for base in cls.__mro__ if "__post_init__" in base.__dict__)
    changed = {name for name in ours.__struct_fields__ if hints.get(name) != known.get(name)} - {"timestamp"}
    return maker.__module__.startswith(OURS) and (
        not changed or (changed == {"event_type"} and hints.get("event_type") is str)
    )


def _is_struct_kept(cls: Any) -> bool:
    config = cls.__struct_config__
    return not (config.array_like or config.omit_defaults or cls.__dictoffset__)


def _is_kept(cls: Any) -> bool | None:
    """Return True if reading an instance of a class sets its fields to what was written, and does no more.

    False if it may do more; None if nothing is known about it.
    """
    kind: type = cls
    if isinstance(cls, msgspec.StructMeta):
        return not hasattr(cls, "__post_init__") if _is_struct_kept(cls) else None
    if dataclasses.is_dataclass(cls):
        makers, is_frozen = ["__post_init__"], getattr(cls, "__dataclass_params__").frozen  # noqa: B009 - no type checker knows it
        is_set, is_converted = all(field.init for field in dataclasses.fields(cls)), False
    elif hasattr(cls, "__attrs_attrs__"):
        makers, is_frozen = ["__attrs_pre_init__", "__attrs_post_init__"], False
        is_set = all(field.init for field in cls.__attrs_attrs__)
        is_converted = any(field.converter or field.validator for field in cls.__attrs_attrs__)
    else:
        return None
    is_plain = (
        is_set
        and (is_frozen or cls.__setattr__ is object.__setattr__)
        and cls.__getattribute__ is object.__getattribute__
        and cls.__new__ is object.__new__
        and all(_is_stored(kind, name) for name in fields_of(cls))
    )
    return not (is_converted or any(hasattr(cls, maker) for maker in makers)) if is_plain else None


def _is_stored(cls: type, name: str) -> bool:
    """Return True if an instance keeps what a field is set to: no property stands in for it."""
    member = inspect.getattr_static(cls, name, None)
    return not name.startswith("_") and (
        isinstance(member, MemberDescriptorType) or not hasattr(type(member), "__set__")
    )


class _Writer:
    """Writes the test of one class as Python's source, and the names that it needs.

    In the source `left` is how many bytes are left, and `levels` how many levels the fields may have.
    """

    def __init__(self, *, is_event: bool, is_kept: bool) -> None:
        self.is_kept = is_kept
        self._is_event = is_event
        self._depth_most = 0
        self.names: dict[str, Any] = {"isfinite": isfinite, "UTC": UTC}

    def compiled(self, tests: list[str]) -> tuple[Measure, Callable[[Sequence[Any], int, int], bool]]:
        """Return the functions of all tests of a class, for one of its instances and for several."""
        if not self._is_event:
            tests = [f"levels >= {self._depth_most}", f"(left := left - {_PART_BYTES}) >= 0", *tests]
        source = " and ".join(f"({test})" for test in tests)
        code = f"""
def measure(self, left, levels):
    return left if {source} else {_UNSURE}

def are_sure(instances, left_most, levels):
    for self in instances:
        left = left_most
        if not ({source}):
            return False
    return True
"""
        exec(code, self.names)  # noqa: S102 - of field names and classes
        return self.names["measure"], self.names["are_sure"]

    def test_event(self, version: int) -> str:
        """Return the test of the fields of `Event` that are not as they are annotated."""
        test = f"self.schema_version == {version}"
        if self.is_kept:
            return test
        return f"{test} and type(self.timestamp_ns) is int and type(self.event_type) in {self._name(_TYPES)}"

    def test(self, value: str, hint: Any, depth: int = 0) -> str | None:
        """Return the test of one value `depth` collections below a field; None if that is too open."""
        hint = self._bare(hint)
        kinds = self._kinds(hint)
        if kinds is not None:
            return self._is_one_of(value, kinds, depth)
        return self._is_other(value, hint, depth) if depth <= _NESTED_MOST else None

    def _is_other(self, value: str, hint: Any, depth: int) -> str | None:
        """Return the test of a value of which its class alone does not decide."""
        if hint is Any:
            return f"(left := {self._name(measure_json)}({value}, left, levels - {depth})) >= 0"
        if hint in _TIMES:
            kind = self._name(hint)
            return f"type({value}) is {kind} and {value}.tzinfo in (None, UTC) and not {value}.fold"
        if get_origin(hint) in (Union, UnionType):
            return self._is_union(value, [self._bare(one) for one in get_args(hint)], depth)
        if get_origin(hint) is Literal:
            return self._is_literal(value, get_args(hint))
        return self._is_inner(value, hint, depth)

    def _name(self, value: object) -> str:
        name = f"known_{len(self.names)}"
        self.names[name] = value
        return name

    def _bare(self, hint: Any) -> Any:
        """Return what is behind aliases and notes. What has constraints is not kept: it may be refused."""
        while True:
            if get_origin(hint) is Annotated:
                if any(isinstance(note, msgspec.Meta) for note in hint.__metadata__):
                    self.is_kept = False
                hint = get_args(hint)[0]
            elif hasattr(hint, "__supertype__"):
                hint = hint.__supertype__
            elif hasattr(hint, "__value__") and not get_args(hint):
                hint = hint.__value__
            else:
                return NoneType if hint is None else hint

    def _kinds(self, hint: Any) -> frozenset[type] | None:
        """Return the classes of which a value may be, if its exact class alone decides that it comes back."""
        if get_origin(hint) in (Union, UnionType):
            members = frozenset(map(self._bare, get_args(hint)))
            others = members - {NoneType}
            if members <= _JSON or (len(others) == 1 and others <= _EXACT):
                return members
            return None
        if hint in _EXACT or _is_sure_enum(hint):
            return frozenset({hint})
        return None

    def _is_one_of(self, value: str, kinds: frozenset[type], depth: int) -> str:
        tests = [self._is_of(value, kind, depth) for kind in kinds if kind in _LONG or kind is float]
        others = kinds - _LONG - {float}
        if len(others) == 1:
            (kind,) = others
            tests.append(f"{value} is None" if kind is NoneType else f"type({value}) is {self._name(kind)}")
        elif others:
            tests.append(f"type({value}) in {self._name(others)}")
        return tests[0] if len(tests) == 1 else f"({' or '.join(tests)})"

    def _is_of(self, value: str, kind: type, depth: int) -> str:
        test = f"type({value}) is {self._name(kind)}"
        if kind is float:
            return f"{test} and {value} - {value} == 0"
        return test if self._is_event and depth == 0 else f"{test} and (left := left - len({value})) >= 0"

    def _is_literal(self, value: str, words: tuple[Any, ...]) -> str | None:
        kinds = frozenset(map(type, words))
        if not kinds <= {str, int, NoneType}:
            return None
        pairs = self._name(frozenset((type(word), word) for word in words))
        return f"type({value}) in {self._name(kinds)} and (type({value}), {value}) in {pairs}"

    def _is_union(self, value: str, members: list[Any], depth: int) -> str | None:
        """Return the test of a value of one of several annotations, if what is written tells which."""
        others = [one for one in members if one is not NoneType]
        if len(others) > 1 and not _are_told_apart(others):
            return None
        tests = [self.test(value, one, depth) for one in members]
        return None if None in tests else "(" + " or ".join(f"({test})" for test in tests) + ")"

    def _is_inner(self, value: str, hint: Any, depth: int) -> str | None:
        """Return the test of a value that holds others."""
        kind, inner = get_origin(hint) or hint, get_args(hint)
        if kind in _LISTS:
            return self._holds(value, list, inner[0] if inner else Any, depth)
        if kind in _SETS:
            return self._holds(value, kind, inner[0], depth) if inner else None
        if kind in _DICTS:
            return self._is_dict(value, inner or (str, Any), depth)
        if kind is tuple and (inner or hint is tuple):  # which `tuple[()]` is not
            return self._is_tuple(value, inner, depth)
        if not isinstance(kind, type) or inner or kind.__module__.startswith(OURS):
            return None
        return self._is_object(value, kind, depth)

    def _is_object(self, value: str, kind: type, depth: int) -> str | None:
        plan = plan_of(kind)
        if plan is not None:
            measure, self.is_kept = plan.measure, self.is_kept and plan.is_kept
        elif kind in _under_way:
            measure = _measure_again
        else:
            return None
        test = f"(left := {self._name(measure)}({value}, left, levels - {depth + 1})) >= 0"
        return f"type({value}) is {self._name(kind)} and {test}"

    def _is_tuple(self, value: str, inner: tuple[Any, ...], depth: int) -> str | None:
        if not inner or inner[-1] is ...:
            return self._holds(value, tuple, inner[0] if inner else Any, depth)
        self._goes_to(depth + 1)
        tests = [self.test(f"{value}[{index}]", hint, depth + 1) for index, hint in enumerate(inner)]
        if None in tests:
            return None
        return " and ".join([f"type({value}) is tuple", f"len({value}) == {len(inner)}", *map(str, tests)])

    def _is_dict(self, value: str, hints: tuple[Any, ...], depth: int) -> str | None:
        keys, inner = self._kinds(self._bare(hints[0])), self._hold(f"{value}.values()", hints[1], depth + 1)
        if inner is None or keys is None or len(keys) > 1 or not keys <= _KEYS:
            return None
        tests = [f"type({value}) is dict", f"set(map(type, {value})) <= {self._name(keys)}"]
        if keys == _TEXT and not (self._is_event and depth == 0):
            tests.append(f"(left := left - sum(map(len, {value}))) >= 0")
        return " and ".join([*tests, *self._counts(value, depth), inner])

    def _holds(self, value: str, kind: type, hint: Any, depth: int) -> str | None:
        inner = self._hold(value, hint, depth + 1)
        if inner is None:
            return None
        return " and ".join([f"type({value}) is {self._name(kind)}", *self._counts(value, depth), inner])

    def _hold(self, values: str, hint: Any, depth: int) -> str | None:
        """Return the test of what is in a collection."""
        self._goes_to(depth)
        kinds = self._kinds(self._bare(hint))
        if kinds is None or (kinds & {float, *_LONG} and len(kinds) > 1):
            each = self._name(None)
            inner = self.test(each, hint, depth)
            return None if inner is None else f"all({inner} for {each} in {values})"
        test = f"set(map(type, {values})) <= {self._name(kinds)}"
        if float in kinds:
            return f"{test} and all(map(isfinite, {values}))"
        return f"{test} and (left := left - sum(map(len, {values}))) >= 0" if kinds & _LONG else test

    def _goes_to(self, depth: int) -> None:
        self._depth_most = max(self._depth_most, depth)

    def _counts(self, value: str, depth: int) -> list[str]:
        return [] if self._is_event and depth == 0 else [f"(left := left - len({value})) >= 0"]


def _are_told_apart(members: list[Any]) -> bool:
    """Return True if JSON tells a union's members apart: its own values, one collection, tagged structs."""
    objects = [one for one in members if one not in _JSON]
    kinds = [get_origin(one) or one for one in objects]
    lists = [kind for kind in kinds if kind in _LISTS or kind in _SETS or kind is tuple]
    structs = [kind for kind in kinds if isinstance(kind, msgspec.StructMeta)]
    if len(lists) > 1 or len(lists) + len(structs) < len(objects):
        return False
    tags = [struct.__struct_config__.tag for struct in structs]
    return len(structs) < 2 or (None not in tags and len(set(tags)) == len(tags))


def _is_sure_enum(hint: Any) -> bool:
    if not (isinstance(hint, type) and issubclass(hint, Enum)) or issubclass(hint, Flag):
        return False
    is_of_one_kind = {type(member.value) for member in hint} in ({str}, {int})
    return is_of_one_kind and (not issubclass(hint, str | int | float) or all(map(_is_its_value, hint)))


def _is_its_value(member: Any) -> bool:
    """Return True if a member that is a text or an int itself, and is written as such, is its value."""
    is_equal: Any = str.__eq__ if issubclass(type(member), str) else int.__eq__
    return is_equal(member, member.value) is True
