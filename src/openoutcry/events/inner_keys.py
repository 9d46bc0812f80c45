"""Keys in data that a class within an event does not have, and that reading would leave out in silence.

An event's own keys are checked by its decoder. For the structs, dataclasses, attrs classes, typed dicts and
pydantic models within it msgspec and pydantic do not, so a field of theirs that was renamed would be read as
its default. What was read is walked beside the data, since values that are written alike may be keys of a
dict or fields of a class.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any, Final, get_args, get_origin

import msgspec

from openoutcry.events.bounds import cached_names
from openoutcry.events.fields import hints_of
from openoutcry.events.foreign import shown
from openoutcry.events.models import dump, is_model
from openoutcry.events.registry import encoded_names

_PLAIN: Final = frozenset((str, int, float, bool, type(None)))
"""The types of what has no keys."""


@dataclass(frozen=True, slots=True)
class StrangeKey:
    """A key that was left out."""

    path: str
    """The way to what has it, from the event: `legs[0]`."""
    key: str
    owner: str
    """The class that does not have it; empty where that is not known."""

    def __str__(self) -> str:
        return f"{self.path}.{self.key}"

    @property
    def problem(self) -> str:
        """What is wrong, as a sentence."""
        owner = f", which {self.owner} does not have" if self.owner else ""
        return f"its {self.path} has a field {shown(self.key)}{owner}"


@lru_cache(maxsize=4096)
def holds_classes(cls: Any) -> bool:
    """Return True if a field of an event's class may hold an instance of a class with fields of its own."""
    hints = hints_of(cls)
    names = encoded_names(cls) or {}
    return not hints.keys() >= names.keys() or any(_is_of_class(hints[name]) for name in names)


def _is_of_class(hint: Any) -> bool:
    """Return True if an annotation names a class with fields, or one of which that cannot be told."""
    hint = getattr(hint, "__value__", hint)  # what an alias stands for
    hint = getattr(hint, "__supertype__", hint)
    if _names_behind(hint) is not None or hasattr(hint, "__total__"):
        return True
    if isinstance(hint, type) and get_origin(hint) is None:
        return hasattr(hint, "_fields") and any(map(_is_of_class, hints_of(hint).values()))
    return any(_is_of_class(inner) for inner in get_args(hint) if inner is not ...)


def _names_behind(hint: Any) -> dict[str, str] | None:
    """Return what `encoded_names` does for the class behind an annotation; None for all other values."""
    cls = get_origin(hint) or hint
    return encoded_names(cls) if isinstance(cls, type) else None


def strange_keys(event: Any, data: Mapping[str, Any]) -> Iterator[StrangeKey]:
    """Yield the keys in an event's data, below its own, that were left out when it was read."""
    cls: Any = type(event)
    if is_model(cls):
        forms = [dump(event)]
        with suppress(Exception):  # a computed field of the user's
            forms.append(event.model_dump(mode="json", warnings=False))
        for key in data:
            yield from _in_forms(data[key], [form[key] for form in forms if key in form], key)
        return
    for name, key in (encoded_names(cls) or {}).items():
        if isinstance(data.get(key), Mapping | list | tuple):
            yield from _in_value(data[key], getattr(event, name), key)


def _in_value(given: Any, kept: Any, path: str) -> Iterator[StrangeKey]:
    if isinstance(given, Mapping):
        if isinstance(kept, Mapping):
            return _in_mapping(given, kept, path)
        return _in_object(given, kept, path)
    if not isinstance(given, list | tuple):
        return iter(())
    if isinstance(kept, AbstractSet):
        return _in_set(given, kept, path)
    if isinstance(kept, msgspec.Struct):
        kept = _as_array(kept)
        if len(given) > len(kept):
            return iter([StrangeKey(path, f"[{len(kept)}]", "")])
    parts = enumerate(zip(given, kept, strict=False))
    return chain.from_iterable(
        _in_value(one, other, f"{path}[{at}]") for at, (one, other) in parts if type(one) not in _PLAIN
    )


def _in_object(given: Mapping[str, Any], kept: Any, path: str) -> Iterator[StrangeKey]:
    cls: Any = type(kept)
    names = encoded_names(cls)
    if names is None:
        return
    accepted = _accepted(cls)
    for key in given:
        if key not in accepted:
            yield StrangeKey(path, key, cls.__name__)
    for name, key in names.items():
        if key in given:
            yield from _in_value(given[key], getattr(kept, name, None), f"{path}.{key}")


@lru_cache(maxsize=4096)
def _accepted(cls: Any) -> frozenset[str]:
    """Return the keys that the data of a struct, a dataclass or an attrs class may have.

    Of an attrs class without slots msgspec writes what a cached property keeps as well.
    """
    config = getattr(cls, "__struct_config__", None)
    tag = () if config is None or config.tag_field is None else (config.tag_field,)
    return cached_names(cls).union((encoded_names(cls) or {}).values(), tag)


def _as_array(struct: Any) -> list[Any]:
    """Return what a struct that is written as an array has in it."""
    tag = [None] if struct.__struct_config__.tag is not None else []
    return [*tag, *(getattr(struct, name) for name in struct.__struct_fields__)]


def _in_mapping(given: Mapping[str, Any], kept: Mapping[Any, Any], path: str) -> Iterator[StrangeKey]:
    """Look into a dict, whose keys may be written otherwise, or a typed dict, which has lost some."""
    if len(given) != len(kept):
        there = set(map(str, kept))
        yield from (StrangeKey(path, key, "") for key in given if str(key) not in there)
        pairs = [(key, given[key], kept[key]) for key in given if key in kept]
    else:
        pairs = [(key, one, other) for (key, one), other in zip(given.items(), kept.values(), strict=True)]
    for key, one, other in pairs:
        yield from _in_value(one, other, f"{path}[{shown(key)}]")


def _in_set(given: Sequence[Any], kept: AbstractSet[Any], path: str) -> Iterator[StrangeKey]:
    """Look at the keys of what a set holds. Which is which cannot be told any more."""
    classes = {cls for cls in set(map(type, kept)) if encoded_names(cls) is not None}
    if not classes:
        return
    accepted = frozenset[str]().union(*map(_accepted, classes))
    for item in given:
        if isinstance(item, Mapping):
            yield from (StrangeKey(path, key, "") for key in item if key not in accepted)


def _in_forms(given: Any, forms: list[Any], path: str) -> Iterator[StrangeKey]:
    """Compare data with the forms that pydantic writes of what it has read: with aliases, and without.

    Keys of dicts may be written otherwise, those that are no names.
    """
    if isinstance(given, dict):
        written = [form for form in forms if isinstance(form, dict)]
        for key in given if written else ():
            inner = [form[key] for form in written if key in form]
            if inner:
                yield from _in_forms(given[key], inner, f"{path}.{key}")
            elif key[:1].isalpha() or key[:1] == "_":
                yield StrangeKey(path, key, "")
    elif isinstance(given, list):
        of_same_length = [form for form in forms if isinstance(form, list) and len(form) == len(given)]
        for at, one in enumerate(given):
            yield from _in_forms(one, [form[at] for form in of_same_length], f"{path}[{at}]")
