"""What is read of an event's data first: its class, its version, and what must not be made up."""

from typing import Any, Final

import msgspec

from openoutcry.errors import InvalidEvent
from openoutcry.events.upcasting import version_in

UNREADABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeError)
"""What msgspec raises for data that it cannot read. Too deep nesting and a broken character are not among
its own errors."""


class Head(msgspec.Struct, gc=False):
    """The fields of the envelope that decide how the rest is read."""

    event_class: str | None = None
    event_type: str | None = None
    event_id: str | None = None
    timestamp: Any = None
    schema_version: Any = msgspec.UNSET

    def version(self, name: str) -> int:
        """Return the version of the class `name` that wrote the data. Raises `InvalidEvent` if it is none."""
        return 1 if self.schema_version is msgspec.UNSET else version_in(self.schema_version, name)


decode_head: Final = msgspec.json.Decoder(Head).decode


def head_of(data: Any) -> Head:
    """Return the head of an event's data. Raises `InvalidEvent` if it has none."""
    try:
        return decode_head(data)
    except UNREADABLE as problem:
        raise InvalidEvent(
            f"not an event: {problem}; the data is cut off or damaged, or not JSON of an event",
        ) from problem
