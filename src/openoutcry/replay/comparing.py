"""What a replay has published, held against the record: differences with names, and three hashes."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

import msgspec

from openoutcry.events import differences, encode, event_type_of

DECISIONS: Final = frozenset({"decision", "validated_decision", "order", "fill"})
"""The types whose events are decisions."""
_WHAT: Final = b"openoutcry what"
_NOT_HASHED: Final = frozenset({"timestamp", "event_id", "schema_version"})
_VALUE_MOST: Final = 200


class FieldDifference(msgspec.Struct, frozen=True):
    """A field that is not as it was recorded."""

    name: str
    """The field."""
    recorded: Any
    """What the record has."""
    replayed: Any
    """What the replay has made of it."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an agent did otherwise than on the day."""

    kind: str
    """`content`: it published something else. `missing`: it published nothing. `extra`: it published what
    is not in the record. `raised`: a call failed that had not. `abstained`: it abstained where it had not,
    or not where it had. `round`: it opened a round with other terms, or not at all. `vote`: it published a
    signal that did not vote. `late`: it published, but not before everything that follows had to go on."""
    agent: str
    """The subscription or, where that is not known, the source that the event names."""
    event_id: str | None = None
    """The event that differs."""
    event_type: str | None = None
    """Its type."""
    position: int | None = None
    """Where the recorded event stands in the journal."""
    symbol: str | None = None
    """The instrument that it is about."""
    round_id: str | None = None
    """Its round."""
    cause_id: str | None = None
    """The event that was being handled."""
    fields: tuple[FieldDifference, ...] = ()
    """What differs, field by field."""
    said: str = ""
    """What there is to say besides."""
    life: int = 1
    """In which life of the journal."""

    def text(self) -> str:
        """Return it as one sentence."""
        what = self.event_type or "event"
        about = f" on {self.symbol}" if self.symbol else ""
        where = f" (#{self.position})" if self.position else ""
        match self.kind:
            case "content":
                told = "; ".join(f"{f.name} {shown(f.recorded)} -> {shown(f.replayed)}" for f in self.fields)
                return f"{self.agent} published another {what}{about}{where}: {told}"
            case "missing":
                return f"{self.agent} did not publish its {what}{about}{where}"
            case "late":
                return f"{self.agent} published its {what}{about}{where} only when others had gone on"
            case "extra":
                return f"{self.agent} published a {what}{about} that is not in the record ({self.event_id})"
            case _:
                return f"{self.agent} {self.said}{where}"


def shown(value: Any) -> str:
    """Return a value as short text."""
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= _VALUE_MOST else f"{text[:_VALUE_MOST]}... ({len(text):,} characters)"


def compared(recorded: Any, replayed: Any, *, strict: bool = False) -> tuple[FieldDifference, ...]:
    """Return in which fields an event of the replay is not the recorded one."""
    names = list(differences(recorded, replayed))
    if strict and _plain(recorded).get("timestamp") != _plain(replayed).get("timestamp"):
        names.append("timestamp")
    if not names:
        return ()
    first, second = _plain(recorded), _plain(replayed)
    if names == ["*"]:
        return (FieldDifference("event_class", type(recorded).__name__, type(replayed).__name__),)
    return tuple(FieldDifference(name, first.get(name), second.get(name)) for name in names)


def _plain(event: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(encode(event))
    return found


def content(event: Any, *, strict: bool = False) -> bytes:
    """Return what is hashed of an event: its JSON with sorted keys, without what may differ."""
    volatile = frozenset(getattr(type(event), "volatile_fields", ()))
    left_out = (_NOT_HASHED - {"timestamp"} if strict else _NOT_HASHED) | volatile
    plain = {key: value for key, value in _plain(event).items() if key not in left_out}
    return msgspec.json.encode(plain, order="sorted")


class Hashes(msgspec.Struct, frozen=True):
    """What was published, in three hashes of 32 hex digits: BLAKE2b, personalised `openoutcry what`."""

    what: str
    """Over `id SP content LF` of each event, sorted by id: who came first does not matter."""
    decisions: str
    """The same of decisions, validated decisions, orders and fills."""
    order: str
    """Over the ids, each with LF, in the order of the journal."""
    events_count: int = 0
    """How many events `what` is over."""
    decisions_count: int = 0
    """How many events `decisions` is over."""


def hashes_of(events: Iterable[Any], *, strict: bool = False) -> Hashes:
    """Return the hashes of events, which come in the order of the journal."""
    order = blake2b(digest_size=16, person=_WHAT)
    lines: list[tuple[str, bool, bytes]] = []
    for event in events:
        order.update(event.event_id.encode() + b"\n")
        is_decision = event_type_of(event) in DECISIONS
        lines.append((event.event_id, is_decision, content(event, strict=strict)))
    lines.sort()
    decisions = [line for line in lines if line[1]]
    return Hashes(_hash(lines), _hash(decisions), order.hexdigest(), len(lines), len(decisions))


def _hash(lines: Iterable[tuple[str, bool, bytes]]) -> str:
    found = blake2b(digest_size=16, person=_WHAT)
    for event_id, _, data in lines:
        found.update(b"%b %b\n" % (event_id.encode(), data))
    return found.hexdigest()
