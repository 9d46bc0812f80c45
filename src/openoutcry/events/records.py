"""Records: the events that the bus writes into its journal itself: of rounds, runs, answers and operators.

They are delivered to nobody but subscriptions that name their type, or their class. `"*"` and base classes do
not take them, and nobody else may publish them.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

import msgspec

from openoutcry.errors import InvalidEvent
from openoutcry.events.bounds import MAX_BYTES
from openoutcry.events.checks import put, settle_json
from openoutcry.events.codec import encode
from openoutcry.events.event import Event
from openoutcry.events.frozen import FrozenDict
from openoutcry.events.given import Texts
from openoutcry.events.registry import CLASS_KEY
from openoutcry.events.writing import encode_json
from openoutcry.printable import writable

_NOTHING: Final[FrozenDict[str, Any]] = FrozenDict()
_NOBODY: Final = cast(Any, ())


def encode_record(record: Event) -> bytes:
    """Return what `encode` does of a record. In what it quotes of users half a surrogate pair is escaped."""
    try:
        return encode(record)
    except InvalidEvent:
        return encode(escaped(record))


def escaped(value: Any) -> Any:
    """Return a value whose texts can be written, those within lists, mappings and structs included."""
    if isinstance(value, str):
        return writable(value)
    if isinstance(value, list | tuple):
        return list(map(escaped, value)) if isinstance(value, list) else tuple(map(escaped, value))
    if isinstance(value, Mapping):
        return {escaped(key): escaped(one) for key, one in value.items()}
    if isinstance(value, msgspec.Struct):
        texts = {name: getattr(value, name) for name in value.__struct_fields__}
        changed = {name: new for name, old in texts.items() if (new := escaped(old)) != old}
        return msgspec.structs.replace(value, **changed)
    return value


class Vote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One signal that a round has taken. In JSON it is a list of its fields, in this order."""

    agent: str
    """Who gave it."""
    symbol: str
    """The instrument that it is about."""
    signal_id: str
    """The id of the signal, which is in the journal unless signals are kept at `memory`."""
    after_ns: int
    """From the opening of the round to its arrival, in nanoseconds."""


class StoodIn(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A signal of an earlier round, shown for an agent that was missing. In JSON a list of its fields."""

    agent: str
    """Who was missing."""
    symbol: str
    """The instrument that the signal is about."""
    signal_id: str
    """The id of the signal."""
    age_ns: int
    """From its arrival to the release of this round, in nanoseconds."""
    round_id: str
    """The round in which it voted."""


class RoundOpened(Event, kw_only=True):
    """A round was opened. Its `round_id` says which, its timestamp when.

    There is none of a round that was released before it was written: `RoundReleased` says all of it too.
    While a subscription names this type, there is one of every round.

    Its id is `round:<round id>:opened`, from the second use of a round's id in one journal
    `round:<round id>:<ordinal>:opened`.
    """

    event_type: str = "round_opened"
    ordinal: int = 1
    """The how manieth use of the round's id it is, in one journal."""
    opened_by: str = ""
    """The subscription whose handler has opened it; empty for a main program. `causation_id` names the event
    that was being handled."""
    symbol: str | None = None
    """The symbol of that event, if it has one."""
    roster: Texts = _NOBODY
    """Everybody who is expected, by name."""
    critical: Texts = _NOBODY
    """Those of them without whose answer the outcome is not valid."""
    quorum_count: int
    """How many answers suffice once `signal_timeout_ns` has passed."""
    signal_timeout_ns: int
    """How long the round holds out for everybody, from its opening."""
    barrier_timeout_ns: int
    """When it is released whatever it has, from its opening."""
    stand_in_max_age_ns: int | None = None
    """How old a signal may be to stand in for a missing agent; None: nothing stands in."""


class RoundReleased(Event, kw_only=True):
    """A round has its outcome. Its `round_id` says which, its timestamp when the rule held.

    It says what `RoundOpened` says as well: `causation_id` names the event that was handled at the opening.
    Its id is `round:<round id>`, from the second use of a round's id in one journal
    `round:<round id>:<ordinal>`. All times count from the opening.
    """

    event_type: str = "round_released"
    ordinal: int = 1
    """As in `RoundOpened`."""
    status: str
    """`complete`, `quorate`, `expired` or `empty`."""
    valid: bool
    """Whether a decision may be based on it."""
    reason: str
    """Why it was released, in a few words."""
    opened_by: str = ""
    """As in `RoundOpened`."""
    symbol: str | None = None
    """The symbol of the event for which it was opened, or else of all votes; None if there is not one."""
    opened_wall_ns: int
    """When it was opened, in nanoseconds since 1970 UTC."""
    took_ns: int
    """When the rule held."""
    noticed_ns: int
    """When that was noticed: later than `took_ns` if the loop was busy."""
    roster: Texts = _NOBODY
    """Everybody who was expected, by name."""
    critical: Texts = _NOBODY
    """Those of them without whose answer the outcome is not valid."""
    quorum_count: int
    """How many answers sufficed once `signal_timeout_ns` had passed."""
    signal_timeout_ns: int
    """How long the round held out for everybody."""
    barrier_timeout_ns: int
    """When it was to be released whatever it had."""
    stand_in_max_age_ns: int | None = None
    """How old a signal was allowed to be to stand in for a missing agent; None: nothing stood in."""
    votes: tuple[Vote, ...] = ()
    """The signals that it has taken, in order of arrival; of those that were replaced later, all as well."""
    missing: Texts = _NOBODY
    """Who gave neither an opinion nor an abstention."""
    abstained: Mapping[str, str] = _NOTHING
    """Reasons by agent."""
    abstained_ns: Mapping[str, int] = _NOTHING
    """When each of them abstained first, in nanoseconds; also of those who gave an opinion after that."""
    heartbeats: Mapping[str, int] = _NOTHING
    """The last sign of life, by agent, in nanoseconds."""
    let_go: Mapping[str, int] = _NOTHING
    """How many events of the round a subscription has let go for lack of room, by its name."""
    strangers: Mapping[str, int] = _NOTHING
    """How many signals came from agents that are not on the roster."""
    stand_ins: tuple[StoodIn, ...] = ()
    """The signals that were shown for missing agents."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        for name in ("abstained", "abstained_ns", "heartbeats", "let_go", "strangers"):
            given = getattr(self, name)
            if given == {}:
                put(self, name, _NOTHING)
            elif type(given) is not FrozenDict:
                settle_json(self, name)


_Released: Final = msgspec.defstruct(
    "RoundReleased",
    [(name, Any) for name in RoundReleased.__struct_fields__],
    tag_field=CLASS_KEY,
    tag=RoundReleased.__name__,
    gc=False,
)


def encode_released(*fields: object) -> bytes:
    """Return what `encode` does of a `RoundReleased`, given all of its fields in their order.

    The bus writes one for every round. It knows what is in the fields, so no event is made and checked for
    that, which takes three quarters as long again. Votes and stand-ins may be tuples.

    Raises `InvalidEvent` if it is larger than an event may be.
    """
    try:
        data = encode_json(_Released(*fields))
    except UnicodeEncodeError:
        data = encode_json(_Released(*map(escaped, fields)))
    if len(data) > MAX_BYTES:
        raise InvalidEvent(
            f"the record of a round has {len(data):,} bytes: an event has at most {MAX_BYTES:,}"
        )
    return data


class RoundLate(Event, kw_only=True):
    """An answer came after the release of its round, and did not count. Its timestamp says when it came.

    Its id is `round:<round id>:late:<agent>:<number>`, from the second use of a round's id in one journal
    `round:<round id>:<ordinal>:late:<agent>:<number>`. Of each round the first 1,024 are recorded.
    """

    event_type: str = "round_late"
    ordinal: int = 1
    """As in `RoundOpened`."""
    agent: str
    """Whose answer it was."""
    number: int
    """The how manieth late answer to that round it was, from 1."""
    late_ns: int
    """From the release to its arrival, in nanoseconds."""
    signal_id: str | None = None
    """The id of the signal; None for an abstention."""
    symbol: str | None = None
    """The instrument that the signal is about."""
    reason: str | None = None
    """The reason of an abstention; None for a signal."""


class RoundAbstained(Event, kw_only=True):
    """An agent has abstained in a round of another desk. Its `round_id` says in which.

    It is written by the desk of the agent, and counts on the desk that has opened the round.
    """

    event_type: str = "round_abstained"
    agent: str
    """Whose answer it is."""
    reason: str = ""
    """Why it has no opinion."""


class RunStarted(Event, kw_only=True):
    """A bus was started on the journal: by what, where, and with which settings."""

    event_type: str = "run_started"
    version: str
    """The version of openoutcry."""
    python: str
    """The version of Python."""
    sqlite: str = ""
    """The version of SQLite that writes the journal; empty for a journal that is no file."""
    origin: str = ""
    """The name that the journal got when it was made, and that all its copies have."""
    generation: str = ""
    """The name of this file among the copies of the journal; empty for a journal that is no file."""
    settings: Mapping[str, Any] = _NOTHING
    """The settings of the bus, without secrets."""
    app: str = ""
    """What `openoutcry run` was given, as `module:app`; empty for a bus that was started otherwise."""
    broker: str = ""
    """The venue that filled its orders, as `module:app`; empty outside of a backtest."""
    process_id: int
    """The process."""
    host: str
    """The name of the machine."""
    seed: int | None = None
    """What the random numbers of the bus are seeded by; None in what an older version wrote."""
    halts: Mapping[str, Any] = _NOTHING
    """The kill switches that were active at the start, by event id, as `Halt.to_dict` has them: the first
    thousand."""

    def __post_init__(self) -> None:
        Event.__post_init__(self)
        for name in ("settings", "halts"):
            if type(getattr(self, name)) is not FrozenDict:
                settle_json(self, name)


class MemoryRestored(Event, kw_only=True):
    """A subscription was given its memory back at a start: from which state, and from which entries.

    There is one with `record="replay"`, so that a replay can begin where this run began.
    `openoutcry.journals.Recording` reads it.
    """

    event_type: str = "memory_restored"
    subscription: str
    """The subscription."""
    form: str
    """How its state was saved: `bytes` or `json`; `none`: it had none, and is folded from the start."""
    state_size_bytes: int = 0
    """How large that state is."""
    is_whole: bool = True
    """Whether the state is in this record: one of more than 4 MiB is left out."""
    begins: str
    """The state, and which entries are folded on top of it, packed."""


class AnswerRecorded(Event, kw_only=True):
    """An agent, or the main program, was answered from outside of the bus: by a model, a broker, a service.

    `causation_id` names the event that was being handled. Its timestamp says when the answer came.
    """

    event_type: str = "answer_recorded"
    name: str
    """What was asked, as it was named."""
    subscription: str = ""
    """Whose handler has asked; empty for a main program."""
    ordinal: int = 1
    """The how manieth question of that name it was, of that subscription for that event, in this run."""
    ended: str
    """`returned`, `raised`, or `cancelled`: nobody waited for the answer any more."""
    took_ns: int
    """From the question to the answer, in nanoseconds."""
    answer: str | None = None
    """The answer as JSON; None where there was none, or its hash alone is kept."""
    answer_hash: str = ""
    """The BLAKE2b-128 of its JSON, in hexadecimal; empty where there was none."""
    error_type: str = ""
    """The class of what was raised, as `module:name`."""
    error: str = ""
    """What was raised, as text."""


class TapeRecorded(Event, kw_only=True):
    """Part of the tape of a day that is recorded: what the subscriptions took, in which order and when.

    `openoutcry.journals.Recording` reads it.
    """

    event_type: str = "tape_recorded"
    number: int
    """The how manieth part of its run it is, from 1."""
    is_last: bool = False
    """Whether the run has ended with it."""
    left_out: int = 0
    """How many notes and events are missing: they were too many, or could not be written."""
    upto_ns: int
    """Until when it goes, from the start of the run, in nanoseconds."""
    steps: str
    """The notes, packed."""


class OperatorAction(Event, kw_only=True):
    """An operator has had the bus do something. `source_agent` is empty: no agent did it."""

    event_type: str = "operator_action"
    operator: str
    """The name of the user who did it."""
    via: str
    """Over what: `socket` (the command line) or `page`."""
    user_id: int | None = None
    """The user of the process at the other end of the socket, as the operating system says."""
    process_id: int | None = None
    """That process."""
    verb: str
    """What was asked, such as `halt`, `release`, `pause` or `redrive`."""
    target: str = ""
    """Of what: the scope, subscription or dead letter."""
    reason: str = ""
    """Why, in the operator's words."""
    answer: str = ""
    """What the bus answered: what was done, or why not."""


RECORDS: Final[Mapping[str, type[Event]]] = {
    "round_opened": RoundOpened,
    "round_released": RoundReleased,
    "round_late": RoundLate,
    "round_abstained": RoundAbstained,
    "run_started": RunStarted,
    "answer_recorded": AnswerRecorded,
    "memory_restored": MemoryRestored,
    "tape_recorded": TapeRecorded,
    "operator_action": OperatorAction,
}
"""The classes of records, by their types. No other event has one of these types."""

BEGINNINGS: Final = tuple(f'{{"event_class":"{cls.__name__}"'.encode() for cls in RECORDS.values())
"""How the JSON of a record begins: one of these."""
_SELECTORS: Final = frozenset[Any](RECORDS) | frozenset[Any](RECORDS.values())


def is_record(payload: bytes) -> bool:
    """Return True if the JSON of an event is that of a record."""
    return payload.startswith(BEGINNINGS)


def name_records(selectors: frozenset[Any]) -> bool:
    """Return True if some of the types and classes that a subscription takes are those of records."""
    return not selectors.isdisjoint(_SELECTORS)


def takes_type(takes: Collection[str], event_type: str | None) -> bool:
    """Return True if what was saved of a subscription takes events of a type; `*` takes no records."""
    return event_type in takes or ("*" in takes and event_type not in RECORDS)
