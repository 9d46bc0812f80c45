"""Groups and seats as tests make them."""

import json

from openoutcry.ports import Entry, Group, Header, Level, LogName, Seat


def an_entry(
    number: int, *, lane: str = "normal", size_bytes: int = 0, header: Header | None = None
) -> Entry:
    payload = json.dumps(
        {"event_id": f"e{number}", "event_type": "signal", "n": number, "pad": "x" * size_bytes}
    )
    event_id = header.event_id if header is not None and header.event_id else f"e{number}"
    return Entry(event_id, payload.encode(), lane, Level.PROCESS, 1_790_000_000_000_000_000 + number, header)


def a_group(
    after: int,
    upto: int,
    *,
    desk: str = "floor",
    log: LogName = "normal",
    journal: str = "j1",
    size_bytes: int = 0,
) -> Group:
    """All positions from behind one to another."""
    positions = tuple(range(after + 1, upto + 1))
    return Group(
        desk=desk,
        journal=journal,
        log=log,
        after=after,
        upto=upto,
        positions=positions,
        entries=tuple(an_entry(number, lane=log, size_bytes=size_bytes) for number in positions),
    )


def a_seat(desk: str = "floor", holder: str = "process-1") -> Seat:
    return Seat(desk=desk, holder=holder, host="h1", journal="j1")
