"""The names of event types, and which of them have high priority."""

from enum import Enum, StrEnum
from functools import lru_cache
from typing import Final

from openoutcry.errors import InvalidEvent
from openoutcry.events.foreign import shown


class EventType(StrEnum):
    """The event types of a trading firm. They are strings; any other string can be used as well."""

    MARKET_DATA = "market_data"
    SIGNAL = "signal"
    DECISION = "decision"
    VALIDATED_DECISION = "validated_decision"
    ORDER = "order"
    FILL = "fill"
    RISK_ALERT = "risk_alert"
    SYSTEM = "system"
    ROLL_SIGNAL = "roll_signal"
    ROLL_COMPLETE = "roll_complete"
    SURVEILLANCE_ALERT = "surveillance_alert"
    TRANSACTION_REPORT = "transaction_report"
    STRESS_TEST_RESULT = "stress_test_result"
    CORRELATION_ALERT = "correlation_alert"
    GREEKS_UPDATE = "greeks_update"
    KILL_SWITCH = "kill_switch"
    ORDER_STATE_CHANGE = "order_state_change"


HIGH_PRIORITY_EVENT_TYPES: Final[frozenset[EventType]] = frozenset(
    {EventType.FILL, EventType.VALIDATED_DECISION, EventType.RISK_ALERT, EventType.KILL_SWITCH},
)
"""Types that always take the high-priority lane: money has moved, may move, or must stop moving."""

_MEMBERS: Final[dict[str, EventType]] = {member.value: member for member in EventType}


def type_name(value: object) -> str:
    """Return the one form of an event type that the bus routes by.

    Members of `EventType` stay as they are and strings that equal one become it; a member of any other
    `Enum` becomes its value; other strings stay. Anything else, and the empty string, is an `InvalidEvent`.
    """
    plain = value.value if isinstance(value, Enum) else value
    if not isinstance(plain, str) or not plain:
        raise InvalidEvent(
            f"event_type = {shown(value)}: must be a non-empty string or an Enum member whose value is one; "
            f"use a member of EventType or a string of your own",
        )
    return _MEMBERS.get(plain) or str(plain)


def is_foreign_name(name: str) -> bool:
    """Return True if the plain string is an event type of the user's own, as it is."""
    return bool(name) and name not in _MEMBERS


@lru_cache(maxsize=4096)
def member_name(member: Enum) -> str:
    """Return `type_name(member)`, remembered: reading `.value` costs more than routing a delivery."""
    return type_name(member)
