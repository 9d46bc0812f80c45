"""The journal as the page shows it: sizes, cursors, starts, what operators did; and its verification."""

from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any, Final

import msgspec

from openoutcry.dashboard.events import line_of, shown
from openoutcry.dashboard.journal_file import Deadline, JournalFile
from openoutcry.dashboard.refusals import Refused
from openoutcry.dashboard.words import answer_in_words, target_in_words
from openoutcry.errors import OpenOutcryError
from openoutcry.journals import JournalReader
from openoutcry.journals.pending import Waiting, count_waiting
from openoutcry.journals.showing import head_of
from openoutcry.ports import Clock, CursorState, Stored
from openoutcry.units import NS_PER_S

STARTS_MAX: Final = 20
ACTIONS_MAX: Final = 50
_GROWTH_S: Final = 10
_STOP_S: Final = 0.5
_STARTED: Final = "run_started"
_ACTED: Final = "operator_action"
_FIELDS: Final = {
    _STARTED: ("version", "python", "sqlite", "app", "process_id", "host"),
    _ACTED: ("operator", "via", "user_id", "verb", "target", "reason", "answer"),
}
"""What is shown of a record beside what every event has."""
Record = dict[str, Any]
_NEEDLES: Final = (f'"{_STARTED}"'.encode(), f'"{_ACTED}"'.encode())


class _OutOfTime(Exception):
    """A count has no more time."""


class Overview:
    """What is known of the journal's file. It belongs to the thread that reads the journal."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reader: JournalReader | None = None
        self._records = _Records()
        self._sizes: deque[tuple[int, int]] = deque(maxlen=90)

    def look(self, reader: JournalReader, deadline: Deadline) -> dict[str, Any]:
        """Return it as it stands now."""
        size = _size(reader.path)
        if reader is not self._reader:  # it may be another file
            self._reader = reader
            self._records = _Records()
            self._sizes.clear()
        self._records.look(reader, deadline)
        return {
            "path": str(reader.path),
            "head": reader.head,
            "first": reader.first,
            "bytes": size,
            "wal_bytes": _size(Path(f"{reader.path}-wal")),
            "growth_per_s": self._growth(size),
            "cursors": _cursors(reader, deadline),
            "suspects": len(reader.suspects()),
            "halts": [halt.to_dict() for halt in reader.halts()[:ACTIONS_MAX]],
            "starts": list(self._records.starts),
            "actions": list(self._records.actions),
            "records_from": self._records.lowest,
        }

    def _growth(self, size: int) -> float | None:
        """Return by how many bytes the file has grown each second; None before it was watched for a while."""
        now_ns = self._clock.now_ns()
        if not self._sizes or now_ns - self._sizes[-1][0] >= _GROWTH_S * NS_PER_S:
            self._sizes.append((now_ns, size))
        began_ns, before = self._sizes[0]
        past_s = (now_ns - began_ns) / NS_PER_S
        return (size - before) / past_s if past_s >= _GROWTH_S else None


class _Records:
    """The newest starts and actions, newest first: looked for backwards once, and then among what is new.

    Attributes:
        lowest: The lowest position that was looked at; what is older was not needed, or comes next time.
        highest: The highest.

    """

    def __init__(self) -> None:
        self.starts: deque[Record] = deque(maxlen=STARTS_MAX)
        self.actions: deque[Record] = deque(maxlen=ACTIONS_MAX)
        self.lowest = 0
        self.highest = 0

    def look(self, reader: JournalReader, deadline: Deadline) -> None:
        head = reader.head
        found: list[Record] = []
        at = self._search(reader, deadline, head + 1, self.highest, found.append)
        if at > self.highest + 1 and at > reader.first:  # too much is new: what was known is not next to it
            self.starts.clear()
            self.actions.clear()
            self.lowest = at
        self.highest = head
        for line in reversed(found):
            self._of(line).appendleft(line)
        self.lowest = self.lowest or at
        is_full = len(self.starts) == STARTS_MAX and len(self.actions) == ACTIONS_MAX
        if self.lowest > reader.first and not is_full:
            self.lowest = self._search(reader, deadline, self.lowest, 0, self._add_older)

    def _of(self, record: Record) -> deque[Record]:
        return self.starts if record["type"] == _STARTED else self.actions

    def _add_older(self, line: Record) -> None:
        known = self._of(line)
        if len(known) < (known.maxlen or 0):
            known.append(line)

    def _search(
        self,
        reader: JournalReader,
        deadline: Deadline,
        before: int,
        down_to: int,
        take: Callable[[Record], None],
    ) -> int:
        """Give what is found between two positions, newest first; return the lowest that was looked at."""
        at = min(before, reader.head + 1)
        with closing(reader.back(before, None, _may_be_record)) as batches:
            for first, entries in batches:
                for entry in reversed(entries):
                    if entry.position > down_to and _is_record(entry):
                        take(_record(entry))
                at = first
                if first <= down_to + 1 or deadline.is_over:
                    break
        return max(at, down_to + 1)


def _record(entry: Stored) -> Record:
    """Return a record's own fields, safe to show, beside what every event has in a list."""
    fields = msgspec.json.decode(entry.payload, type=dict[str, Any])
    names = _FIELDS[head_of(entry).event_type or ""]
    if "answer" in names:
        fields["answer"] = answer_in_words(str(fields.get("verb")), str(fields.get("answer") or ""))
        fields["target"] = target_in_words(str(fields.get("target") or ""))
    own = {name: _shown(fields.get(name)) for name in names}
    return {**msgspec.to_builtins(line_of(entry)), **own}


def _shown(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else shown(str(value))


def _may_be_record(data: bytes) -> bool:
    return any(needle in data for needle in _NEEDLES)


def _is_record(entry: Stored) -> bool:
    return _may_be_record(entry.payload) and head_of(entry).event_type in (_STARTED, _ACTED)


def _cursors(reader: JournalReader, deadline: Deadline) -> list[dict[str, Any]]:
    """Return how far every subscription is, and what waits for it: exactly, where there is time to count."""

    def seen(_position: int) -> None:
        if deadline.is_over:
            raise _OutOfTime

    counts: dict[tuple[str, str], int] | None = None
    with suppress(_OutOfTime):
        counts = {_key(count): count.waiting for count in count_waiting(reader, seen)}
    head = reader.head
    return [
        {
            "name": cursor.subscription,
            "lane": cursor.lane,
            "position": cursor.floor,
            "lag": head - cursor.floor if counts is None else counts.get(_key(cursor), 0),
            "exact": counts is not None,
            "takes": list(cursor.takes),
        }
        for cursor in reader.cursors()
    ]


def _key(which: CursorState | Waiting) -> tuple[str, str]:
    return which.subscription, which.lane


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0


class Verification:
    """Holding the whole journal against its checksums, in a thread of the page's process."""

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._is_stopped = False
        self._failing: tuple[type[Exception], ...] = (OpenOutcryError, OSError, *file.database_errors)
        self._thread: Thread | None = None
        self._said: dict[str, Any] = {"state": "not begun", "done": 0, "total": 0, "findings": []}

    def said(self) -> dict[str, Any]:
        """Return how far it is, and what it has found."""
        return self._said

    def start(self) -> None:
        """Begin. Refused with 409 while it goes on."""
        if self._thread is not None and self._thread.is_alive():
            raise Refused(409, "the journal is being verified already: wait for the end")
        self._said = {"state": "running", "done": 0, "total": 0, "findings": []}
        self._thread = Thread(target=self._run, name="openoutcry-verify", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it at the next batch, and wait a little for that."""
        self._is_stopped = True
        if self._thread is not None:
            self._thread.join(_STOP_S)  # SQLite's own check of a large file has no batches

    def _run(self) -> None:
        try:
            with JournalReader(self._file.path, key=self._file.key) as reader:
                found = reader.verify(self._progress)
        except _OutOfTime:
            return
        except self._failing as problem:
            self._said = {**self._said, "state": "failed", "why": str(problem)}
            return
        self._said = {
            "state": "intact" if found.intact else "damaged",
            "done": found.anchor.position,
            "total": found.anchor.position,
            "entries": found.entries,
            "batches": found.batches,
            "anchor": f"{found.anchor.position}:{found.anchor.checksum}",
            "findings": [{"pos": problem.position, "what": problem.what} for problem in found.problems],
        }

    def _progress(self, done: int, total: int) -> None:
        if self._is_stopped:
            raise _OutOfTime
        self._said = {**self._said, "done": done, "total": total}
