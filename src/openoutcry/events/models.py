"""Pydantic models of users as events, by what they can do: pydantic is never imported here.

A model is written in pydantic's JSON form under its aliases, as a dump that can be read again (computed
fields are left out), and read in pydantic's JSON mode, so that its validators run. It works with pydantic
from 2.0 on.
"""

import inspect
from functools import lru_cache
from typing import Any

import msgspec


def is_model(cls: Any) -> bool:
    """Return True for a class of pydantic models."""
    return (
        hasattr(cls, "__pydantic_core_schema__")
        and hasattr(cls, "model_validate_json")
        and isinstance(getattr(cls, "model_fields", None), dict)
    )


def keeps_extra(cls: Any) -> bool:
    """Return True if a model keeps fields that it does not declare."""
    return bool(cls.model_config.get("extra") == "allow")


@lru_cache(maxsize=4096)
def _aliases(cls: Any) -> tuple[tuple[str, str, str], ...]:
    """Return each field's name, the key that it is written under, and the key that validation wants."""
    found = []
    for name, field in cls.model_fields.items():
        written = field.serialization_alias or field.alias or name
        wanted = field.validation_alias
        wanted = getattr(wanted, "choices", [wanted])[0] or field.alias or name
        found.append((name, written, wanted if isinstance(wanted, str) else name))
    return tuple(found)


def written_names(cls: Any) -> dict[str, str]:
    """Return each field's name in the encoded form of a model."""
    return {name: written for name, written, _ in _aliases(cls)}


def dump(event: Any) -> dict[str, Any]:
    """Return a model as JSON values. Raises what pydantic raises for a field that has none."""
    written: Any = event.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
    if not isinstance(written, dict):
        raise TypeError(f"its serializer makes a {type(written).__name__} of it, not a dict")
    return written


def load(fields: dict[str, Any], cls: Any) -> Any:
    """Return the model that JSON values describe. Raises what pydantic and the model's validators raise."""
    wanted = {written: key for _, written, key in _aliases(cls)}
    text = msgspec.json.encode({wanted.get(key, key): value for key, value in fields.items()})
    return cls.model_validate_json(text, by_name=True) if _takes_names(cls) else cls.model_validate_json(text)


@lru_cache(maxsize=4096)
def _takes_names(cls: Any) -> bool:
    """Return True where pydantic can be asked to take nested fields by their names as well (from 2.11 on)."""
    return "by_name" in inspect.signature(cls.model_validate_json).parameters
