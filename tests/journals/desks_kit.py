"""Journals of desks, as their links would have written them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from msgspec.structs import replace

from openoutcry.journals import SqliteJournal
from openoutcry.ports import LOGS, Changes, Entry, Header, Snapshot

START_NS = 1_764_000_000_000_000_000


def event(name: str, event_type: str = "order", lane: str = "normal", **more: Any) -> Entry:
    payload = json.dumps({"event_id": name, "event_type": event_type, **more}).encode()
    return Entry(name, payload, lane, wall_ns=START_NS)


def state(name: str, of: dict[str, Any]) -> Snapshot:
    text = json.dumps(of).encode()
    return Snapshot(subscription=name, form="json", is_needed=False, lanes={}, state=text)


class DeskJournal:
    """The journal of a desk, being written."""

    def __init__(self, folder: Path, name: str, *, says_so: bool = True, **own: Any) -> None:
        self.path = folder / f"{name}.db"
        self.name = name
        self.journal = SqliteJournal(self.path)
        self.made: list[Entry] = []
        if says_so:
            plain = {"firm": "alpha", "desk": name, "exports": ["*"], "keep": [], "imports": ["*"]}
            self.journal.write([], Changes(snapshots=[state("(link)", {**plain, **own})]))

    @property
    def origin(self) -> str:
        return self.journal.origin

    def make(self, *entries: Entry) -> Self:
        """Publish here."""
        self.journal.write(list(entries))
        self.made += entries
        return self

    def take(self, maker: "DeskJournal", *entries: Entry, upto: int = 10**6, journal: str = "") -> Self:
        """Import from another desk."""
        marked = [as_of(maker.name, entry) for entry in entries]
        come = {"run": f"{journal or maker.origin}:1:0", "position": upto, "made": "m", "number": 7}
        notes = [state(f"(link:{maker.name}:{log})", come) for log in LOGS]
        self.journal.write(marked, Changes(snapshots=notes))
        return self


def as_of(desk: str, entry: Entry) -> Entry:
    return replace(entry, header=replace(entry.header or Header(), desk=desk))


def close(*desks: DeskJournal) -> Sequence[Path]:
    """Close the journals, and return their files."""
    for desk in desks:
        desk.journal.sync()
        desk.journal.close()
    return [desk.path for desk in desks]
