"""Settings of the journal."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from openoutcry.config.checks import absolute, check_number, check_types, check_word
from openoutcry.errors import ConfigError

if TYPE_CHECKING:
    from openoutcry.events.given import Given

    PathOrText = Given[Path, str | PathLike[str]]
    PathOrNone = Given[Path | None, str | PathLike[str] | None]
else:
    PathOrText = Path
    PathOrNone = Path | None

LevelName = Literal["memory", "process", "disk", "replicated"]
"""A durability level: what an event must survive."""
LEVELS: Final[tuple[LevelName, ...]] = ("memory", "process", "disk", "replicated")
"""The durability levels, weakest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistenceConfig:
    """Where the journal is, and what is kept in it.

    Attributes:
        path: The journal's file. A relative path is taken from the directory that is current when these
            settings are made, whatever becomes of that later. Beside the file are its write-ahead log, its
            marks and, while a bus runs, the socket over which the command line talks to that bus.
        key: 16 to 64 secret bytes that seal the journal: nobody makes a checksum or a seal without them.
        engine: `sqlite3` (the standard library's), `apsw` (the `speed` extra), or `auto`: apsw if installed.
        level: What ordinary events survive: `memory` nothing (they are not journaled), `process` kill -9,
            `disk` a power cut, `replicated` the loss of this host (which takes a `Link` to an engine with
            three nodes).
        high_priority_level: The same for the types in `HIGH_PRIORITY_EVENT_TYPES`.
        levels: The same by event type; takes precedence over the two above. Market data is `memory` unless it
            is listed here.
        crash_attempts: An event that was in a handler at this many crashes of the process is not tried again,
            but becomes a dead letter (`quarantined`).
        suspect_alone_s: For how long an event that was in a handler at a crash has the bus to itself when it
            is tried again, in seconds. After that the other subscriptions continue beside it.
        cursor_save_s: The progress of subscriptions is saved at most this long after they moved, in seconds.
        retain_s: Entries older than this, in seconds, are deleted; None keeps them. Nothing is deleted that a
            subscription has not settled.
        retain_count: The most entries to keep; None for no limit.
        retain_bytes: The most bytes of entries to keep; None for no limit.
        sync: How to wait for the disk: `inline` on the loop, in a `thread`, or `auto`: inline while the disk
            answers within 2 ms.
        socket: Whether a running bus listens on a local socket beside the file, for the command line.
        record: What the bus records in the journal beside events: `rounds`, how each round was opened and
            released and who was late, each start with its settings, and answers from outside; `replay`, also
            events at `memory` (market data) and the tape: all that it takes to run the day again; `off`,
            nothing of it.

    """

    path: PathOrText = field(default_factory=lambda: cast(Any, Path("openoutcry.db")))
    key: bytes | None = field(default=None, repr=False)
    engine: Literal["auto", "sqlite3", "apsw"] = "auto"
    level: LevelName = "process"
    high_priority_level: LevelName = "disk"
    levels: Mapping[str, LevelName] = field(default_factory=dict)
    crash_attempts: int = 3
    suspect_alone_s: float = 1.0
    cursor_save_s: float = 0.25
    retain_s: float | None = None
    retain_count: int | None = None
    retain_bytes: int | None = None
    sync: Literal["auto", "inline", "thread"] = "auto"
    socket: bool = True
    record: Literal["off", "rounds", "replay"] = "rounds"

    @property
    def is_replicated(self) -> bool:
        """Whether some types are `replicated`."""
        return "replicated" in (self.level, self.high_priority_level, *self.levels.values())

    def __post_init__(self) -> None:
        """Check every setting."""
        object.__setattr__(self, "path", absolute("path", self.path))
        if self.key is not None and not (isinstance(self.key, bytes) and 16 <= len(self.key) <= 64):
            raise ConfigError("key must be 16 to 64 bytes; secrets.token_bytes(32) makes one")
        check_word("engine", self.engine, ("auto", "sqlite3", "apsw"))
        check_word("sync", self.sync, ("auto", "inline", "thread"))
        check_word("record", self.record, ("off", "rounds", "replay"))
        check_word("level", self.level, LEVELS)
        check_word("high_priority_level", self.high_priority_level, LEVELS)
        if not isinstance(self.levels, Mapping):
            raise ConfigError(f"levels is {self.levels!r}; it must map event types to {', '.join(LEVELS)}")
        check_types("levels", self.levels)
        named = {str(getattr(t, "value", t)): level for t, level in self.levels.items()}
        for event_type, level in named.items():
            check_word(f"levels[{event_type!r}]", level, LEVELS)
        object.__setattr__(self, "levels", named)
        check_number("crash_attempts", self.crash_attempts, 1, whole=True)
        check_number("suspect_alone_s", self.suspect_alone_s, 0)
        check_number("cursor_save_s", self.cursor_save_s, 0, above=True)
        if self.retain_s is not None:
            check_number("retain_s", self.retain_s, 0, above=True)
        for name in ("retain_count", "retain_bytes"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 1, whole=True)
