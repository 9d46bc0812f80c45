"""Checks of settings. Every error names the setting, its value, the limit and the remedy."""

from collections.abc import Iterable, Mapping
from enum import Enum
from os import PathLike, fsencode
from pathlib import Path

from openoutcry.errors import ConfigError
from openoutcry.events import check_type_name
from openoutcry.printable import unwritable

MOST = 10**12
"""The largest value of a setting that has no other limit: a trillion of anything is a mistake, and beyond it
the arithmetic of times and levels would overflow."""


def check_number(
    name: str,
    value: object,
    low: float,
    high: float = MOST,
    *,
    whole: bool = False,
    above: bool = False,
    because: str = "",
) -> None:
    """Raise `ConfigError` unless `value` is a number from `low` (or `above` it) to `high`.

    `because` explains a limit that is not a constant.
    """
    kind = "a whole number (an int)" if whole else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and isinstance(value, float)):
        raise ConfigError(f"{name} is {value!r}; it must be {kind}")
    if not (low < value if above else low <= value) or not value <= high:
        least = f"above {low}" if above else f"at least {low}"
        reason = f" ({because})" if because else ""
        raise ConfigError(f"{name} is {value!r}; it must be {least} and at most {high}{reason}")


def absolute(name: str, value: object) -> Path:
    """Return the path of a file as an absolute one, or raise `ConfigError` for what is none."""
    if not isinstance(value, str | PathLike) or not str(value):
        raise ConfigError(f"{name} is {value!r}; it must be the path of a file")
    try:
        return Path(value).absolute()
    except OSError as problem:
        raise ConfigError(
            f"{name} is {str(value)!r}, and there is no current directory that it could start from "
            f"({problem.strerror}): give the whole path"
        ) from problem


def nameable(name: str, value: object) -> Path:
    """Return the absolute path of a file that can be called so; what cannot, a journal refuses itself."""
    path = absolute(name, value)
    try:
        fsencode(path)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{name} is {str(value)!r}, which no file can be called; correct the path"
        ) from None
    return path


def check_flag(name: str, value: object) -> None:
    """Raise `ConfigError` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it must be True or False")


def check_names(name: str, value: object) -> frozenset[str]:
    """Return a collection of strings (or str-valued Enum members) as a set, or raise `ConfigError`.

    A single string is refused, since it would be split into its letters.
    """
    names: list[object] = []
    is_collection = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    if isinstance(value, Iterable) and is_collection:
        names = [item.value if isinstance(item, Enum) else item for item in value]
    if not is_collection or not all(isinstance(item, str) and item for item in names):
        what = "its keys must be strings" if isinstance(value, Mapping) else "it must be a list of strings"
        raise ConfigError(f"{name} is {value!r}; {what}, none of them empty")
    for item in map(str, names):
        if problem := unwritable(item):
            raise ConfigError(f"{name} has {item!r}; {problem}: correct it")
    return frozenset(map(str, names))


def check_types(name: str, value: object) -> frozenset[str]:
    """Return a collection of event types as `check_names` does; a slip in one of them is told, or refused."""
    types = check_names(name, value)
    own = {str(item.value) for item in value if isinstance(item, Enum)} if isinstance(value, Iterable) else ()
    for event_type in types:
        check_type_name(event_type, ConfigError, name, is_own=event_type in own)
    return types


def check_word(name: str, value: object, words: tuple[str, ...]) -> None:
    """Raise `ConfigError` unless `value` is one of `words`."""
    if value not in words:
        raise ConfigError(f"{name} is {value!r}; it must be one of {', '.join(words)}")
