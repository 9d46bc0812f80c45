"""The error tree. Every message states the value, the limit and the remedy.

```
OpenOutcryError
├── ConfigError            a setting is out of range (also a ValueError)
├── InvalidEvent           an event or one of its fields is not acceptable (also a ValueError)
│   ├── IllegalTransition  an order state change that no legal transition allows
│   ├── NewerSchemaVersion data of a newer version of its event class than the one here
│   └── UnknownEventType   a stored event whose type is not registered
├── PublishError           an event was kept out of the bus
│   ├── BusClosed          the bus is stopping or stopped
│   ├── NotAuthorised      this source may not publish this event
│   ├── DecidedOtherwise   a handler made another event than when it handled the same event before
│   └── SignalRefused      a signal found no room, so it has no vote
├── SubscriptionError      a subscription could not be made, found or changed
│   ├── DuplicateName      the name belongs to another subscription
│   ├── RestoreFailed      a subscription did not get its memory back
│   └── NotSubscribed      no such subscription
├── RoundError             a barrier round could not be opened or found
│   ├── DuplicateRound     a round of that id exists
│   └── UnknownRound       no round of that id exists
├── JournalError           the journal cannot do what it was asked
│   ├── JournalDead        a sync or a write failed: this generation of the file takes nothing more
│   ├── JournalFull        no room on the disk: nothing was written, and it works again when there is room
│   ├── JournalCorrupt     stored bytes are not what was written
│   ├── JournalLocked      another process, or another journal of this one, writes to the file
│   ├── NotAJournal        the file is something else
│   ├── RecordTooThin      the journal does not say enough of a day for it to be replayed
│   ├── SchemaTooNew       the file was made by a newer version
│   └── UnknownReference   the journal has nothing of that name to explain
├── LinkError              other desks cannot be reached, or not as asked
│   ├── Unreachable        the engine does not answer: what waits stays in the journal
│   ├── Fenced             another process has claimed this desk
│   │   └── SeatLost       this process holds its desk no longer: it must end
│   ├── Taken              another process holds the desk, or has just claimed it
│   ├── LogFull            the log has no room: it is tried again
│   ├── LogGone            the log was deleted, or made anew
│   ├── GroupTooLarge      a message is larger than the engine takes
│   └── Garbled            what came is damaged, or of a newer version
├── WrongThread            a call from a thread that does not own the bus (also a RuntimeError)
│   ├── WrongLoop          a call on another event loop than the bus's, in the same thread
│   ├── LoopClosed         the loop on which the bus was started is closed
│   └── ForkedBus          a call in a child that was forked while the bus was in use
├── ReplayError            a recorded day could not be replayed
│   ├── EffectDenied       an agent of a replay was about to do something outside of it
│   └── InvalidRow         a row of a table cannot be an event (also a ValueError)
└── NotYetAvailable        a capability this version does not have (also a NotImplementedError)
```

A refusal for lack of room is not an error: `publish` returns `False` and counts it under a reason.
"""

from openoutcry.printable import printable


class OpenOutcryError(Exception):
    """The root of every error that openoutcry raises on purpose. Its text is safe to show."""

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(OpenOutcryError, ValueError):
    """A setting is out of range. The message names the setting, its value, the limit and the remedy."""


class InvalidEvent(OpenOutcryError, ValueError):
    """An event, or one of its fields, is not acceptable. Nothing was published."""


class IllegalTransition(InvalidEvent):
    """An order was to go from one state to another although no transition allows it."""


class NewerSchemaVersion(InvalidEvent):
    """Data was written by a newer version of its event class than the one here, so it is not read at all.

    What is in a journal stays there byte for byte, and is read again by the release that knows the version.

    Attributes:
        event_class: The name of the class.
        written_version: The version in the data.
        known_version: The version of the class here.

    """

    def __init__(
        self, message: str, event_class: str = "", written_version: int = 0, known_version: int = 0
    ) -> None:
        super().__init__(message)
        self.event_class = event_class
        self.written_version = written_version
        self.known_version = known_version


class UnknownEventType(InvalidEvent):
    """Stored bytes name an event type for which no class is registered. Register it, then decode again."""


class PublishError(OpenOutcryError):
    """An event was kept out of the bus for a reason other than lack of room."""


class BusClosed(PublishError):
    """The bus is stopping or stopped: nothing is admitted from outside."""


class NotAuthorised(PublishError):
    """The source of the event may not publish it."""


class DecidedOtherwise(PublishError):
    """A handler that handles an event again has published another event than the first time, under its id.

    The first one was accepted and stands; the second was not published. The event being handled becomes a
    dead letter of its subscription, whatever the handler does with this error: `bus.admin.redrive` with
    `anew=True` has it handled again with new ids, once it is clear that the first event is not enough.

    Attributes:
        event_id: The id of both.
        subscription: Whose handler it is.
        fields: The names of the fields in which they differ.

    """

    def __init__(
        self, message: str, event_id: str = "", subscription: str = "", fields: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.event_id = event_id
        self.subscription = subscription
        self.fields = fields


class SignalRefused(PublishError):
    """A signal was refused for lack of room: it was not delivered and has no vote."""


class SubscriptionError(OpenOutcryError):
    """A subscription could not be made, found or changed."""


class RestoreFailed(SubscriptionError):
    """A subscription did not get its memory back, so it handles nothing. The message says what is missing."""


class DuplicateName(SubscriptionError):
    """The subscription name belongs to another handler."""


class NotSubscribed(SubscriptionError):
    """There is no such subscription."""


class RoundError(OpenOutcryError):
    """A barrier round could not be opened or found."""


class DuplicateRound(RoundError):
    """A round with that id is open, or was open recently."""


class UnknownRound(RoundError):
    """There is no round with that id."""


class JournalError(OpenOutcryError):
    """The journal cannot do what it was asked. Reading usually still works."""


class JournalDead(JournalError):
    """A sync or a write has failed, so it is not known what is on the disk: this journal file is finished.

    Nothing is retried, and every later durable call raises this too. Reading still works. Continue in a new
    file, which `recover_into` builds from the rows that verify.
    """


class JournalFull(JournalError):
    """There was no room on the disk. Nothing was written; the same call succeeds when there is room."""


class JournalCorrupt(JournalError):
    """Stored bytes are not what was written.

    Attributes:
        position: The first position that cannot be trusted, or None if the damage has no position.

    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class JournalLocked(JournalError):
    """The file already has a writer.

    Attributes:
        pid: The process that holds it, or None if that is not known.
        is_passing: Whether it is held for the length of a transaction, by a program that is no other bus, so
            that the same call may succeed a moment later. A bus has tried again for some seconds.

    """

    def __init__(self, message: str, pid: int | None = None, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.pid = pid
        self.is_passing = is_passing


class NotAJournal(JournalError):
    """The file exists, but is not an openoutcry journal. It was not touched."""


class RecordTooThin(JournalError):
    """The journal does not say enough of a day for it to be replayed. The message says what to record."""


class SchemaTooNew(JournalError):
    """The journal was made by a newer version of openoutcry. It was not touched."""


class UnknownReference(JournalError):
    """The journal has no event, order, execution, decision, round or position of that name."""


class LinkError(OpenOutcryError):
    """The desks of a firm cannot be joined as asked. The message says what to do."""


class Unreachable(LinkError):
    """The engine does not answer, or is not there. What waits for it stays in the journal."""


class Fenced(LinkError):
    """Another process has claimed this desk since: the engine takes nothing more from here."""


class SeatLost(Fenced):
    """The process does not hold its desk any more. It accepts no durable event, and must end."""


class Taken(LinkError):
    """Another process holds the desk, or has claimed it at the same moment."""


class LogFull(LinkError):
    """The engine's log has no room. Nothing was appended; it is tried again."""


class LogGone(LinkError):
    """The engine's log was deleted, or is another one than before. It is filled again from the journals."""


class GroupTooLarge(LinkError):
    """A message is larger than the engine takes."""


class Garbled(LinkError):
    """What came from another desk is damaged, or was written by a newer version. Nothing of it was taken."""


class WrongThread(OpenOutcryError, RuntimeError):
    """The bus belongs to one event loop and its thread. Use `publish_threadsafe` from other threads.

    Nothing was done: no event was admitted, and nothing has changed.
    """


class WrongLoop(WrongThread):
    """Another event loop runs here than the one that the bus belongs to. Make the call there."""


class LoopClosed(WrongThread):
    """The loop on which the bus was started was closed without a stop.

    `stop` on a new loop closes the journal, and `start` on one goes on.
    """


class ForkedBus(WrongThread):
    """A call in a child that was forked while the bus was in use. It is the parent's: make another there."""


class ReplayError(OpenOutcryError):
    """A recorded day could not be replayed: its app could not be set up, or its process has died."""


class EffectDenied(ReplayError):
    """An agent of a replay was about to do something outside of it: a connection, a process, a file written.

    What came from there on the day belongs into the record: `await bus.recorded(...)`.
    """


class InvalidRow(ReplayError, ValueError):
    """A row of a table for a backtest cannot be an event, or not at this place. Nothing was run.

    Attributes:
        path: The file.
        row: The line of a text file, its head being the first; else the row, counted from 1.
        column: The column; empty where it is about the row as a whole.
        value: What stands there, as text.

    """

    def __init__(self, message: str, path: str = "", row: int = 0, column: str = "", value: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.row = row
        self.column = column
        self.value = value


class NotYetAvailable(OpenOutcryError, NotImplementedError):
    """A capability that this version does not have. The message says what to use instead."""
