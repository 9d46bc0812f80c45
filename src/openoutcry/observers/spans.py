"""Spans of traces, made from what a journal has of a chain of cause and effect. Nothing is read or sent here.

    quote ── publish quote                                       (a span for each event, no time long)
               ├── trend handles quote                           (a span for each event and subscription)
               │     └── publish signal
               │           └── cio handles signal ── publish decision
               └── carry handles quote ── dead letter            (a span with an error)

All ids are derived, so that the same journal gives the same spans in any process and at any time: the trace's
id from the correlation id, a span's id from the event's id and the subscription's name. So the journals of
several desks give one trace together: the desk that has made an event gives its span, each desk those of what
it does with it. Times are those at
which events were admitted: a handling begins with the admission of what it handles and ends with that of the
last event that it has published, or with its dead letter.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, TypeVar

import msgspec

from openoutcry.events import EventType
from openoutcry.observers.steps import Handlers, Step
from openoutcry.ports import BuriedEvent

K = TypeVar("K")
V = TypeVar("V")
TEXT_MOST: Final = 500
TRACE_MOST: Final = 8_000
_TRACE: Final = b"openoutcry trace"
_SPAN: Final = b"openoutcry span"
_KEEP: Final = b"openoutcry keep"
TELLING: Final = frozenset(
    {
        EventType.FILL,
        EventType.RISK_ALERT,
        EventType.SURVEILLANCE_ALERT,
        EventType.CORRELATION_ALERT,
        EventType.KILL_SWITCH,
    }
)
"""The types of events for which their chain is always kept."""


def trace_id(correlation_id: str) -> int:
    """Return the 128 bits that stand for a chain."""
    return _bits(_TRACE, 16, correlation_id)


def span_id(event_id: str, subscription: str = "") -> int:
    """Return the 64 bits that stand for an event, or for its handling by a subscription."""
    return _bits(_SPAN, 8, event_id, subscription)


def is_kept(correlation_id: str, share: float) -> bool:
    """Return True for about this share of all chains, from 0 to 1: always the same ones."""
    return _bits(_KEEP, 8, correlation_id) < share * (1 << 64)


def _bits(what: bytes, size: int, *texts: str) -> int:
    digest = blake2b(digest_size=size, person=what)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(data), data))
    return int.from_bytes(digest.digest(), "big") or 1  # 0 stands for no id


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """A span, as tracing has it.

    Attributes:
        trace: The id of its trace.
        span: Its id.
        parent: The id of the span above it; None for the first.
        name: What it is, in words.
        handles: Whether an event is handled in it; else one is published.
        begin_ns: When it began, in nanoseconds since 1970.
        end_ns: When it ended.
        attributes: What else is known.
        links: Other spans that have led to it, as (trace, span).
        error: What went wrong; empty if nothing did.
        traceback: The error's traceback as text, or empty.

    """

    trace: int
    span: int
    parent: int | None
    name: str
    handles: bool
    begin_ns: int
    end_ns: int
    attributes: Mapping[str, str | int | bool | Sequence[str]]
    links: Sequence[tuple[int, int]] = ()
    error: str = ""
    traceback: str = ""


class Known:
    """What was seen and made into spans before. Bounded: the oldest is forgotten."""

    STEPS_MOST = 50_000
    SPANS_MOST = 200_000

    def __init__(self) -> None:
        self._spans: dict[int, None] = {}
        self._steps: dict[str, Step] = {}

    def is_new(self, span: int) -> bool:
        """Return True the first time."""
        if span in self._spans:
            return False
        put(self._spans, span, None, self.SPANS_MOST)
        return True

    def note(self, step: Step) -> None:
        """Note an event: others may name it as their cause, or as a signal behind them."""
        put(self._steps, step.event_id, step, self.STEPS_MOST)

    def step(self, event_id: str) -> Step | None:
        """Return an event; None if it is not known, or not any more."""
        return self._steps.get(event_id)


def put(bounded: dict[K, V], key: K, value: V, most: int) -> None:
    """Put something into a dict as the newest, and take out the oldest if there are too many."""
    bounded.pop(key, None)
    bounded[key] = value
    if len(bounded) > most:
        del bounded[next(iter(bounded))]


class Part(msgspec.Struct, kw_only=True):
    """A chain, or what came later of one whose spans were made already.

    Attributes:
        steps: Its events.
        letters: Its dead letters, each with its event.
        is_rest: Whether something came before.

    """

    steps: list[Step]
    letters: list[tuple[Step, BuriedEvent]]
    is_rest: bool = False


def spans_of(part: Part, handlers: Handlers, known: Known) -> list[Span]:
    """Return the spans of a part of a chain that were not made before."""
    chain = _Chain(handlers, known)
    for step in part.steps:
        chain.publish(step)
    for step in part.steps:
        for name in handlers.who_handled(step):
            chain.handle(step, name)
    for step, letter in part.letters:
        chain.fail(step, letter)
    return chain.spans(is_rest=part.is_rest)


class _Handling(msgspec.Struct):
    """One event and one subscription, while it is gathered what has become of them."""

    event_id: str
    name: str
    chain: str
    first_ns: int
    end_ns: int = 0
    end: str = "unknown"
    letter: BuriedEvent | None = None
    published: int = 0


class _Chain:
    """The spans of a chain, while they are gathered."""

    def __init__(self, handlers: Handlers, known: Known) -> None:
        self._handlers = handlers
        self._known = known
        self._steps: dict[str, Step] = {}
        self._imported: dict[str, Step] = {}
        self._failed: dict[str, Step] = {}
        self._makers: dict[str, str] = {}
        self._handlings: dict[tuple[str, str], _Handling] = {}

    def publish(self, step: Step) -> None:
        if step.desk:
            self._imported[step.event_id] = step
            return
        self._steps[step.event_id] = step
        if step.cause is None:
            return
        name = self._makers[step.event_id] = self._handlers.who_made(step)
        if name and not self._is_from_elsewhere(step):
            handling = self._handling(step.cause, name, step)
            handling.end_ns, handling.end = max(handling.end_ns, step.wall_ns), "last event published"
            handling.first_ns = min(handling.first_ns, step.wall_ns)
            handling.published += 1

    def handle(self, step: Step, name: str) -> None:
        self._handling(step.event_id, name, step)

    def fail(self, step: Step, letter: BuriedEvent) -> None:
        self._failed[step.event_id] = step
        handling = self._handling(step.event_id, letter.subscription, step)
        handling.letter, handling.end = letter, "dead letter"
        handling.end_ns = max(handling.end_ns, letter.wall_ns)

    def _handling(self, event_id: str, name: str, near: Step) -> _Handling:
        fresh = _Handling(event_id, name, near.chain, near.wall_ns)
        return self._handlings.setdefault((event_id, name), fresh)

    def _find(self, event_id: str) -> Step | None:
        for steps in (self._steps, self._imported, self._failed):
            if event_id in steps:
                return steps[event_id]
        return self._known.step(event_id)

    def _is_from_elsewhere(self, step: Step) -> bool:
        """Return True if the cause of an event belongs to another chain: the publisher has named one."""
        cause = None if step.cause is None else self._find(step.cause)
        return cause is not None and cause.chain != step.chain

    def spans(self, *, is_rest: bool) -> list[Span]:
        found = [
            self._published(step)
            for step in self._steps.values()
            if self._known.is_new(span_id(step.event_id))
        ]
        for handling in self._handlings.values():
            cause = self._find(handling.event_id)
            is_unseen = cause is None or not cause.position
            if is_unseen and not is_rest and self._known.is_new(span_id(handling.event_id)):
                found.append(_not_kept(handling))
            if self._known.is_new(span_id(handling.event_id, handling.name)):
                found.append(_handled(handling, cause))
        return found

    def _published(self, step: Step) -> Span:
        parent, links, unknown = None, *self._links(step)
        if step.cause is not None:
            handled = span_id(step.cause, self._makers[step.event_id])
            cause = self._find(step.cause)
            if cause is not None and cause.chain != step.chain:
                links.insert(0, (trace_id(cause.chain), handled))
            else:
                parent = handled
        more = {"openoutcry.signals_not_linked": unknown} if unknown else {}
        return Span(
            trace=trace_id(step.chain),
            span=span_id(step.event_id),
            parent=parent,
            name=_text(f"publish {step.event_type}"),
            handles=False,
            begin_ns=step.wall_ns,
            end_ns=step.wall_ns,
            attributes=_attributes(step) | more,
            links=links,
        )

    def _links(self, step: Step) -> tuple[list[tuple[int, int]], list[str]]:
        links, unknown = [], []
        for event_id in step.signals:
            signal = self._find(event_id)
            if signal is None:
                unknown.append(_text(event_id))
            else:
                links.append((trace_id(signal.chain), span_id(event_id)))
        return links, unknown


def _not_kept(handling: _Handling) -> Span:
    """Return the span of an event that is not in the journal, and that something there was caused by."""
    return Span(
        trace=trace_id(handling.chain),
        span=span_id(handling.event_id),
        parent=None,
        name="an event that is not in the journal",
        handles=False,
        begin_ns=handling.first_ns,
        end_ns=handling.first_ns,
        attributes={
            "messaging.system": "openoutcry",
            "messaging.operation.type": "send",
            "messaging.message.id": _text(handling.event_id),
            "openoutcry.begin": "unknown",
            "openoutcry.journaled": False,
        },
    )


def _handled(handling: _Handling, cause: Step | None) -> Span:
    letter, event_type = handling.letter, "an event" if cause is None else cause.event_type
    begin_ns = handling.first_ns if cause is None else cause.wall_ns
    attributes: dict[str, Any] = {} if cause is None else _attributes(cause)
    attributes |= {
        "messaging.system": "openoutcry",
        "messaging.operation.type": "process",
        "messaging.message.id": _text(handling.event_id),
        "openoutcry.subscription": _text(handling.name),
        "openoutcry.begin": "unknown" if cause is None or not cause.position else "admission",
        "openoutcry.end": handling.end,
        "openoutcry.published": handling.published,
    }
    if letter is not None:
        attributes |= {"openoutcry.attempts": letter.attempts, "error.type": _text(letter.reason)}
    return Span(
        trace=trace_id(handling.chain),
        span=span_id(handling.event_id, handling.name),
        parent=span_id(handling.event_id),
        name=_text(f"{handling.name} handles {event_type}"),
        handles=True,
        begin_ns=begin_ns,
        end_ns=max(handling.end_ns, begin_ns),
        attributes=attributes,
        error="" if letter is None else _text(letter.error or letter.reason),
        traceback="" if letter is None else _text(letter.traceback, TRACE_MOST),
    )


def _attributes(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = {
        "messaging.system": "openoutcry",
        "messaging.operation.type": "send",
        "messaging.destination.name": _text(step.event_type),
        "messaging.message.id": _text(step.event_id),
        "messaging.message.conversation_id": _text(step.chain),
        "openoutcry.source_agent": _text(step.agent),
        "openoutcry.symbol": _text(step.symbol or ""),
        "openoutcry.round_id": _text(step.round_id or ""),
        "openoutcry.lane": step.lane,
        "openoutcry.position": step.position,
        "openoutcry.made_by_desk": _text(step.desk),
        "openoutcry.begin": "admission",
    }
    return {name: value for name, value in found.items() if value != ""}


def _text(text: str, most: int = TEXT_MOST) -> str:
    """Return a text that UTF-8 has, at most so long."""
    text = text if len(text) <= most else f"{text[: most - 3]}..."
    return text.encode("utf-8", "backslashreplace").decode()
