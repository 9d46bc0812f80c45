"""Whose instances come back from JSON for sure: one generated test per class, from its annotations.

`encode` reads what it has written once more and compares, which takes several times as long as writing it. A
test here answers without that, at 10 ns per plain field. True: every field holds a value of exactly the class
that its annotation names, and values of that class are read back as they were. False: not sure, so `encode`
tries.

Sure are JSON's own values, the classes in `_EXACT`, times in UTC or without a zone, enums of texts or of
ints, and lists, tuples, sets, dicts, structs, dataclasses and attrs classes of these. Not sure is what may
change a value while it is read: a `__post_init__`, a converter, a constraint, a union of classes that JSON
writes alike.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from keyword import iskeyword
from types import MemberDescriptorType, NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin
from uuid import UUID

import msgspec

from openoutcry.events.bounds import fields_of
from openoutcry.events.fields import OURS, added_fields, base_of_ours, hints_of

Test = Callable[[Any], bool]

_JSON: Final = frozenset({NoneType, bool, int, float, str})
_EXACT: Final = _JSON | {bytes, Decimal, date, timedelta, UUID}
_TIMES: Final = frozenset({datetime, time})
_LISTS: Final = frozenset({list, Sequence, MutableSequence})
_DICTS: Final = frozenset({dict, Mapping, MutableMapping})
_SETS: Final = frozenset({set, frozenset})
_KEYS: Final = frozenset({str, int})
_TEXT: Final = frozenset({str})

_found: Final[dict[type, Test | None]] = {}


def comes_back(value: object) -> bool:
    """Return True if an instance of a user's class is read back for sure as it is. NaN is not looked for."""
    cls = type(value)
    test = _found[cls] if cls in _found else _test_of(cls)
    return test is not None and test(value)


def is_json(value: Any) -> bool:
    """Return True for JSON's own values, exactly of their classes at every depth. NaN is not looked for."""
    kind = type(value)
    if kind is list:
        return set(map(type, value)) <= _JSON or all(map(is_json, value))
    if kind is dict:
        inner = value.values()
        return set(map(type, value)) <= _TEXT and (set(map(type, inner)) <= _JSON or all(map(is_json, inner)))
    return kind in _JSON


def _test_of(cls: type) -> Test | None:
    """Return the test for the instances of a class, or None if it cannot be sure of any."""
    if cls not in _found:
        _found[cls] = _unknown  # it may hold others of its own class
        try:
            _found[cls] = _made(cls)
        except Exception:  # noqa: BLE001 - annotations of the user's that are no types
            _found[cls] = None
    return _found[cls]


def _unknown(_value: object) -> bool:
    return False


def _made(cls: Any) -> Test | None:
    is_event = hasattr(cls, "_fixed_event_type")
    names, hints = added_fields(cls) if is_event else fields_of(cls), hints_of(cls)
    if not (_is_event_kept(cls) if is_event else _is_kept(cls)) or not hints.keys() >= set(names):
        return None
    writer = _Writer()
    tests = [writer.test(f"self.{name}", hints[name]) for name in names]
    if not is_event and cls.__dictoffset__:
        tests.append(f"len(self.__dict__) == {len(names)}")
    if not all(map(_is_name, names)) or None in tests:
        return None
    source = " and ".join(map(str, tests)) or "True"
    exec(f"def test(self): return {source}", writer.names)  # noqa: S102 - of field names and classes
    test: Test = writer.names["test"]
    return test


def _is_name(name: str) -> bool:
    return name.isidentifier() and not iskeyword(name)


def _is_event_kept(cls: Any) -> bool:
    """Return True if nothing of a subclass of `Event` but its added fields decides what is read back."""
    ours = base_of_ours(cls)
    hints, known = hints_of(cls), hints_of(ours)
    maker = next(base for base in cls.__mro__ if "__post_init__" in base.__dict__)
    return (
        maker.__module__.startswith(OURS)
        and all(hints.get(name) == known.get(name) for name in ours.__struct_fields__ if name != "timestamp")
        and _is_struct_kept(cls)
    )


def _is_struct_kept(cls: Any) -> bool:
    config = cls.__struct_config__
    return not (config.array_like or config.omit_defaults or cls.__dictoffset__)


def _is_kept(cls: Any) -> bool:
    """Return True if reading an instance of a class sets its fields to what was written, and does no more."""
    kind: type = cls
    if isinstance(cls, msgspec.StructMeta):
        return not hasattr(cls, "__post_init__") and _is_struct_kept(cls)
    if dataclasses.is_dataclass(cls):
        makers, is_frozen = ["__post_init__"], getattr(cls, "__dataclass_params__").frozen  # noqa: B009 - no type checker knows it
        is_set = all(field.init for field in dataclasses.fields(cls))
    elif hasattr(cls, "__attrs_attrs__"):
        makers, is_frozen = ["__attrs_pre_init__", "__attrs_post_init__"], False
        is_set = all(field.init and field.converter is None for field in cls.__attrs_attrs__)
    else:
        return False
    return (
        is_set
        and not any(hasattr(cls, maker) for maker in makers)
        and (is_frozen or cls.__setattr__ is object.__setattr__)
        and cls.__new__ is object.__new__
        and all(_is_stored(kind, name) for name in fields_of(cls))
    )


def _is_stored(cls: type, name: str) -> bool:
    """Return True if an instance keeps what a field is set to: no property stands in for it."""
    member = inspect.getattr_static(cls, name, None)
    return not name.startswith("_") and (
        isinstance(member, MemberDescriptorType) or not hasattr(type(member), "__set__")
    )


class _Writer:
    """Writes tests as Python's source, and the names that they need."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"is_json": is_json, "comes_back": comes_back, "UTC": UTC}

    def _name(self, value: object) -> str:
        name = f"known_{len(self.names)}"
        self.names[name] = value
        return name

    def test(self, value: str, hint: Any) -> str | None:
        """Return the test of one value, or None if its annotation leaves it open."""
        hint = _bare(hint)
        if hint is Any:
            return f"is_json({value})"
        kinds = _kinds(hint)
        if kinds is not None:
            return self._is_one_of(value, kinds)
        if hint in _TIMES:
            kind = self._name(hint)
            return f"type({value}) is {kind} and {value}.tzinfo in (None, UTC) and not {value}.fold"
        if get_origin(hint) in (Union, UnionType):
            inner = [one for one in get_args(hint) if one is not NoneType]
            found = self.test(value, inner[0]) if len(inner) == 1 else None
            return None if found is None else f"({value} is None or {found})"
        if get_origin(hint) is Literal:
            return self._is_literal(value, get_args(hint))
        return self._is_inner(value, hint)

    def _is_one_of(self, value: str, kinds: frozenset[type]) -> str:
        if len(kinds) == 1:
            (kind,) = kinds
            return f"{value} is None" if kind is NoneType else f"type({value}) is {self._name(kind)}"
        return f"type({value}) in {self._name(kinds)}"

    def _is_literal(self, value: str, words: tuple[Any, ...]) -> str | None:
        kinds = frozenset(map(type, words))
        if not kinds <= {str, int, NoneType}:
            return None
        pairs = self._name(frozenset((type(word), word) for word in words))
        return f"type({value}) in {self._name(kinds)} and (type({value}), {value}) in {pairs}"

    def _is_inner(self, value: str, hint: Any) -> str | None:
        """Return the test of a value that holds others."""
        kind, inner = get_origin(hint) or hint, get_args(hint)
        if kind in _LISTS:
            return self._holds(value, list, inner[0] if inner else Any)
        if kind in _SETS:
            return self._holds(value, kind, inner[0]) if inner else None
        if kind in _DICTS:
            return self._is_dict(value, *(inner or (str, Any)))
        if kind is tuple:
            return self._is_tuple(value, inner)
        if not isinstance(kind, type) or inner or kind.__module__.startswith(OURS) or _test_of(kind) is None:
            return None
        return f"type({value}) is {self._name(kind)} and comes_back({value})"

    def _is_tuple(self, value: str, inner: tuple[Any, ...]) -> str | None:
        if not inner or inner[-1] is ...:
            return self._holds(value, tuple, inner[0] if inner else Any)
        tests = [self.test(f"{value}[{index}]", hint) for index, hint in enumerate(inner)]
        if None in tests:
            return None
        return " and ".join([f"type({value}) is tuple", f"len({value}) == {len(inner)}", *map(str, tests)])

    def _is_dict(self, value: str, key: Any, hint: Any) -> str | None:
        keys, inner = _kinds(_bare(key)), self._hold(f"{value}.values()", hint)
        if inner is None or keys is None or len(keys) > 1 or not keys <= _KEYS:
            return None
        return f"type({value}) is dict and set(map(type, {value})) <= {self._name(keys)} and {inner}"

    def _holds(self, value: str, kind: type, hint: Any) -> str | None:
        inner = self._hold(value, hint)
        return None if inner is None else f"type({value}) is {self._name(kind)} and {inner}"

    def _hold(self, values: str, hint: Any) -> str | None:
        kinds = _kinds(_bare(hint))
        if kinds is not None:
            return f"set(map(type, {values})) <= {self._name(kinds)}"
        each = self._name(None)
        inner = self.test(each, hint)
        return None if inner is None else f"all({inner} for {each} in {values})"


def _bare(hint: Any) -> Any:
    """Return what is behind aliases and notes; a constraint stays as it is, and is not known here."""
    while True:
        if get_origin(hint) is Annotated and not any(
            isinstance(note, msgspec.Meta) for note in hint.__metadata__
        ):
            hint = get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif hasattr(hint, "__value__") and not get_args(hint):
            hint = hint.__value__
        else:
            return NoneType if hint is None else hint


def _kinds(hint: Any) -> frozenset[type] | None:
    """Return the classes of which a value may be, if its exact class alone decides that it comes back."""
    if get_origin(hint) in (Union, UnionType):
        members = frozenset(map(_bare, get_args(hint)))
        others = members - {NoneType}
        if members <= _JSON or (len(others) == 1 and others <= _EXACT):
            return members
        return None
    if hint in _EXACT or _is_sure_enum(hint):
        return frozenset({hint})
    return None


def _is_sure_enum(hint: Any) -> bool:
    if not (isinstance(hint, type) and issubclass(hint, Enum)) or issubclass(hint, Flag):
        return False
    return {type(member.value) for member in hint} in ({str}, {int})
