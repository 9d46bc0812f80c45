"""What a round of the signal barrier demands, validated once and frozen."""

import math
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Any

import msgspec

from openoutcry.core.wording import span
from openoutcry.errors import ConfigError
from openoutcry.printable import unwritable, writable
from openoutcry.spelling import nearest, same_form, warn
from openoutcry.units import NS_PER_S


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Who is expected, how many must answer, and for how long the round holds out. Made by `agree`."""

    roster: frozenset[str]
    """Everybody who is expected to answer, the critical agents included."""
    critical: frozenset[str]
    """Agents without whose answer the outcome is never valid."""
    quorum_count: int
    """How many answers suffice once `signal_timeout_ns` has passed; 0 only for an empty roster."""
    signal_timeout_ns: int
    """How long the round holds out for everybody, counted from its opening."""
    barrier_timeout_ns: int
    """When it is released whatever it has, counted from its opening."""
    blank: dict[str, Any]
    """The roster in the order of names, without opinions: a round copies it and fills it in."""
    stand_in_max_age_ns: int | None = None
    """How old a signal may be to stand in for a missing agent; None: nothing stands in."""


def agree(
    roster: Iterable[str],
    *,
    quorum: float | None = None,
    critical: Iterable[str] = (),
    signal_timeout_ns: int,
    barrier_timeout_ns: int,
    stand_in_max_age_ns: int | None = None,
) -> Terms:
    """Make the terms of a round, or raise `ConfigError` naming the setting, its value and its limit.

    `quorum` is an `int` for a count, a `float` for a share of the roster (rounded up), `None` for
    everybody; `1` is one agent and `1.0` is all of them. Critical agents join the roster.
    """
    check_quorum(quorum)
    must, expected = names("critical", critical), names("roster", roster)
    check_slips("critical", must, expected)
    expected |= must
    _positive("signal_timeout_ns", signal_timeout_ns)
    _positive("barrier_timeout_ns", barrier_timeout_ns)
    if stand_in_max_age_ns is not None:
        _positive("stand_in_max_age_ns", stand_in_max_age_ns)
    if signal_timeout_ns > barrier_timeout_ns:
        raise ConfigError(
            f"signal_timeout is {span(signal_timeout_ns)}, but a round ends at its barrier_timeout of "
            f"{span(barrier_timeout_ns)}: make signal_timeout at most that, or barrier_timeout longer"
        )
    return Terms(
        roster=expected,
        critical=must,
        quorum_count=count_quorum(quorum, len(expected)),
        signal_timeout_ns=signal_timeout_ns,
        barrier_timeout_ns=barrier_timeout_ns,
        blank=dict.fromkeys(sorted(expected)),
        stand_in_max_age_ns=stand_in_max_age_ns,
    )


@lru_cache(maxsize=1024, typed=True)  # typed: 1 is a count, 1.0 is a share
def count_quorum(quorum: int | float | None, roster_size: int) -> int:  # noqa: PYI041 - both mean something
    """Return how many answers meet the quorum: 80 % of 14 is 12.

    A share is read as the decimal number that was written: with binary floats, 0.07 * 100 is
    7.000000000000001, which would round up to 8. A count may be larger than an empty roster, since its rounds
    are over as soon as they open.
    """
    check_quorum(quorum)
    if quorum is None:
        return roster_size
    if isinstance(quorum, float):
        return math.ceil(Fraction(repr(float(quorum))) * roster_size)
    if quorum > roster_size > 0:
        raise ConfigError(
            f"quorum is {quorum}, but only {roster_size} agents are expected: lower it, register more "
            f"agents, or give it as a share such as 0.8"
        )
    return min(quorum, roster_size)


def check_quorum(quorum: Any) -> None:
    """Raise `ConfigError` for a quorum that makes no sense for any roster."""
    if quorum is None:
        return
    if isinstance(quorum, bool) or not isinstance(quorum, int | float):
        raise ConfigError(
            f"quorum is {quorum!r}: give a count such as 12, a share such as 0.8, or None for everybody"
        )
    if isinstance(quorum, float) and not 0 < quorum <= 1:
        raise ConfigError(
            f"quorum is {quorum!r}, but a share lies above 0.0 and at most at 1.0: a count is an int"
        )
    if quorum <= 0:
        raise ConfigError(f"quorum is {quorum}, but a round needs at least 1 answer to be valid")


def names(setting: str, given: Iterable[str]) -> frozenset[str]:
    """Freeze a list of agent names, or raise `ConfigError`, also for a single string."""
    if isinstance(given, str):
        raise ConfigError(
            f"{setting} is the string {given!r}: give a list of agent names, such as [{given!r}]"
        )
    frozen = frozenset(given)
    for name in frozen:
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f"{setting} holds {name!r}: an agent's name is a string of at least one character"
            )
        if problem := unwritable(name):
            raise ConfigError(f"{setting} holds {name!r}: {problem}; correct the name")
    return frozen


def check_answer(agent: str, reason: str) -> str:
    """Return the reason of an abstention as it can be written; raise `ConfigError` for who is no agent."""
    names("agent", [agent])
    return writable(str(reason))


def check_slips(setting: str, given: frozenset[str], known: frozenset[str]) -> None:
    """Refuse an agent who is known but for case or separators; warn of one whose name is like a known one.

    Each would be expected, and never answer.
    """
    for name in sorted(given - known):
        same = same_form(name, known - given)
        if same is not None:
            raise ConfigError(
                f"{setting} has {name!r}: did you mean {same!r}? Names are compared as they are"
            )
        like = nearest(name, known - given)
        if like is not None:
            warn(f"{setting} has {name!r}, whom nobody expects: did you mean {like!r}?")


def to_ns(setting: str, seconds: float) -> int:
    """Convert a duration to whole nanoseconds, or raise `ConfigError` unless it is finite and above zero."""
    number: Any = seconds
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ConfigError(f"{setting} is {number!r}: give a finite number of seconds above 0")
    converted = round(number * NS_PER_S)
    if converted <= 0:
        raise ConfigError(
            f"{setting} is {number!r} s, but it must be at least a nanosecond: give seconds above 0"
        )
    return converted


def _positive(setting: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ConfigError(f"{setting} is {value!r}, but it must be a whole number of nanoseconds above 0")
