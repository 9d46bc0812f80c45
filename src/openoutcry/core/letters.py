"""Which dead letters are meant: one rule for programs, the control socket and the command line."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

from openoutcry.errors import ConfigError

REDRIVE: Final = "redrive"
"""The reason of a letter that the next start is to redrive: how the command line asks for it."""
REDRIVE_ANEW: Final = "redrive anew"
"""The same, with fresh ids for what its event leads to."""


class Letter(Protocol):
    """A dead letter, as in memory or as in a journal."""

    @property
    def letter_id(self) -> int:
        """Its id."""
        ...

    @property
    def wall_ns(self) -> int:
        """When it was buried, in nanoseconds since 1970."""
        ...

    @property
    def event_type(self) -> str:
        """The type of its event."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters are meant: those that meet every condition that is given.

    Attributes:
        letter_ids: Any of these.
        event_type: Events of this type.
        since_ns: Buried at this instant (nanoseconds since 1970) or later.
        until_ns: Buried before this instant.

    """

    letter_ids: frozenset[int] | None = None
    event_type: str | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def __call__(self, letter: Letter) -> bool:
        """Return True if a letter is meant."""
        return (
            (self.letter_ids is None or letter.letter_id in self.letter_ids)
            and (self.since_ns is None or letter.wall_ns >= self.since_ns)
            and (self.until_ns is None or letter.wall_ns < self.until_ns)
            and (self.event_type is None or letter.event_type == self.event_type)
        )


def letter_filter(conditions: dict[str, Any]) -> LetterFilter:
    """Return the filter that some keyword arguments describe. Raises `ConfigError`."""
    known = [field.name for field in fields(LetterFilter)]
    unknown = sorted(conditions.keys() - set(known))
    if unknown:
        raise ConfigError(f"unknown conditions {unknown}; dead letters are chosen by {', '.join(known)}")
    event_type = conditions.get("event_type")
    event_type = getattr(event_type, "value", event_type)
    if not (event_type is None or isinstance(event_type, str)):
        raise ConfigError(f"event_type is {event_type!r}; give one event type, such as 'fill'")
    return LetterFilter(
        letter_ids=_ids(conditions.get("letter_ids")),
        event_type=None if event_type is None else str(event_type),
        since_ns=_instant("since_ns", conditions.get("since_ns")),
        until_ns=_instant("until_ns", conditions.get("until_ns")),
    )


def _ids(given: Any) -> frozenset[int] | None:
    if given is None:
        return None
    ids = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else None
    if ids is None or not all(isinstance(i, int) for i in ids):
        raise ConfigError(f"letter_ids is {given!r}; give a list of numbers, each a DeadLetter.letter_id")
    return frozenset(ids)


def _instant(name: str, given: Any) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    raise ConfigError(f"{name} is {given!r}; give nanoseconds since 1970, as a whole number")
