"""Events: what travels on the bus, how it is named, and how it is written down.

`Event` is the envelope that every event of the firm shares; `openoutcry.trading` adds the vocabulary of a
trading firm, and users add theirs, as subclasses of `Event` or as classes of their own (`register_event`).
"""

from openoutcry.events.bounds import MAX_BYTES, MAX_DEPTH
from openoutcry.events.codec import decode, encode, encode_many
from openoutcry.events.content import FirstVersion, differences, first_of
from openoutcry.events.derived import Derivation, derived_id
from openoutcry.events.event import Event, stamp, stamp_round
from openoutcry.events.frozen import FrozenDict
from openoutcry.events.names import EVERYTHING, check_type_name, resembled
from openoutcry.events.pages import Undecodable, decode_many
from openoutcry.events.readback import first_difference
from openoutcry.events.records import (
    RECORDS,
    AnswerRecorded,
    MemoryRestored,
    OperatorAction,
    RoundAbstained,
    RoundLate,
    RoundOpened,
    RoundReleased,
    RunStarted,
    StoodIn,
    TapeRecorded,
    Vote,
    takes_type,
)
from openoutcry.events.registry import event_type_of, fixed_event_type, register_event
from openoutcry.events.sources import install_deriver, new_event_id, stamps
from openoutcry.events.times import timestamp_ns
from openoutcry.events.types import HIGH_PRIORITY_EVENT_TYPES, EventType
from openoutcry.events.upcasting import upcaster

__all__ = [
    "EVERYTHING",
    "HIGH_PRIORITY_EVENT_TYPES",
    "MAX_BYTES",
    "MAX_DEPTH",
    "RECORDS",
    "AnswerRecorded",
    "Derivation",
    "Event",
    "EventType",
    "FirstVersion",
    "FrozenDict",
    "MemoryRestored",
    "OperatorAction",
    "RoundAbstained",
    "RoundLate",
    "RoundOpened",
    "RoundReleased",
    "RunStarted",
    "StoodIn",
    "TapeRecorded",
    "Undecodable",
    "Vote",
    "check_type_name",
    "decode",
    "decode_many",
    "derived_id",
    "differences",
    "encode",
    "encode_many",
    "event_type_of",
    "first_difference",
    "first_of",
    "fixed_event_type",
    "install_deriver",
    "new_event_id",
    "register_event",
    "resembled",
    "stamp",
    "stamp_round",
    "stamps",
    "takes_type",
    "timestamp_ns",
    "upcaster",
]
