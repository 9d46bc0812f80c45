"""What the process of a desk is given, what it is asked, and what it writes to standard output."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from openoutcry.firm.crash.words import Life, Word

FLOOR, DESK, STREET = "floor", "desk", "street"
NODE = "node"
"""What lies between the desks: the server."""


class Duties(NamedTuple):
    """What a desk does.

    Attributes:
        people: Who works there, in words.
        exports: What it gives to the others.
        imports: What it takes from them.

    """

    people: str
    exports: tuple[str, ...]
    imports: tuple[str, ...]


_MARKET: Final = ("session_opened", "market_data", "market_closed")
DESKS: Final[Mapping[str, Duties]] = MappingProxyType(
    {
        FLOOR: Duties("market, strategies, CIO", (*_MARKET, "decision"), ("fill",)),
        DESK: Duties(
            "risk, compliance, execution, portfolio",
            ("order", "order_state_change"),
            (*_MARKET, "decision", "fill", "order_state_change"),
        ),
        STREET: Duties(
            "the broker's gateway", ("fill", "order_state_change"), (*_MARKET, "order", "order_state_change")
        ),
    }
)
"""The desks of the firm."""


class DeskLife(Life, frozen=True, kw_only=True):
    """What one life of a desk is given at its start.

    Attributes:
        desk: Which desk it is.
        servers: Where the engine can be reached.

    """

    desk: str
    servers: tuple[str, ...]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A line to a desk.

    Attributes:
        what: `count` (say how far you are when all is settled), `go on` (the step of the day is settled at
            every desk), `wait` (hold at this place to be killed) or `finish` (the last day is over).
        number: Of a count, returned with its answer.
        place: As in `Life`.
        day: As in `Life`.
        nth: As in `Life`.

    """

    what: str
    number: int = 0
    place: str = ""
    day: int = 0
    nth: int = 1


class Far(msgspec.Struct, frozen=True, array_like=True):
    """How far a desk has come with one log.

    Attributes:
        log: Which log.
        exported: The position of its journal up to which it has exported.
        rest: How many newer entries are still to be exported, or to be looked at.
        imported: The positions of the other desks' journals up to which it has imported.

    """

    log: str
    exported: int
    rest: int
    imported: dict[str, int]


class DeskWord(Word, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a desk. Beside those of a firm there are `step` (a step of the day is settled at the floor)
    and `count` (the answer to a count).

    Attributes:
        asked: The number of the count.
        head: The newest position of its journal.
        logs: How far it has come.
        troubles: Its dead letters, and events whose id its journal had for another event.

    """  # noqa: D205 - two sentences that belong together

    asked: int = 0
    head: int = 0
    logs: tuple[Far, ...] = ()
    troubles: int = 0
