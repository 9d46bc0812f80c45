"""Structs that msgspec would write without the fields that have their default: `omit_defaults`.

A default may be another one in the release that reads them. So they are written in full, as events and within
events.
"""

import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Any, Final, get_args, get_origin

import msgspec

from openoutcry.events.fields import hints_of
from openoutcry.events.registry import encoded_names

_WITH_FIELDS: Final = ("__struct_fields__", "__attrs_attrs__", "__total__", "_fields")
"""What structs, attrs classes, typed dicts and named tuples have."""


@lru_cache(maxsize=4096)
def is_sparse(cls: Any) -> bool:
    """Return True if instances of a class, or what lies within them, would be written without defaults."""
    return _is_sparse(cls, ())


def _is_sparse(hint: Any, above: tuple[Any, ...]) -> bool:
    bare = getattr(hint, "__value__", hint)  # what an alias stands for
    bare = getattr(bare, "__supertype__", bare)
    cls = get_origin(bare) or bare
    if isinstance(cls, msgspec.StructMeta) and cls.__struct_config__.omit_defaults:
        return True
    inner = [one for one in get_args(bare) if one is not ...]
    if bare is not hint:
        if hint in above:
            return False  # an alias that stands for something with itself within
        above = (*above, hint)
    if _has_fields(cls) and cls not in above:
        inner += hints_of(cls).values()
        above = (*above, cls)
    return any(_is_sparse(one, above) for one in inner)


def _has_fields(cls: Any) -> bool:
    return dataclasses.is_dataclass(cls) or any(hasattr(cls, mark) for mark in _WITH_FIELDS)


def in_full(value: Any) -> Any:
    """Return what is written of a value, with every field of what lies within it."""
    if isinstance(value, Mapping):
        return {key: in_full(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | AbstractSet):
        return [in_full(inner) for inner in value]
    names = encoded_names(type(value))
    if names is None:
        return value
    config = getattr(value, "__struct_config__", None)
    if config is not None and config.array_like:
        return value  # of which msgspec writes every field
    written = {} if config is None or config.tag is None else {config.tag_field: config.tag}
    is_event = hasattr(value, "_fixed_event_type")
    for name, key in names.items():
        inner = getattr(value, "timestamp_ns" if is_event and name == "timestamp" else name)
        if inner is not msgspec.UNSET:
            written[key] = in_full(inner)
    return written
