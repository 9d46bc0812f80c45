"""The figures of a link between desks: a part of `metrics`, made from a `LinkStanding`."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from openoutcry.core.link_words import AWAY, LinkWord
from openoutcry.observers.pulse import Pulse
from openoutcry.observers.standing import DeskStanding, ImportStanding, LinkStanding, LogStanding

_NS: Final = 1e-9
_LOG: Final = ("log",)
_DESK: Final = ("desk",)
_DESK_LOG: Final = ("desk", "log")

Values = Iterator[tuple[tuple[str, ...], float]]
OfLink = Callable[[LinkStanding, Pulse], Iterable[tuple[tuple[str, ...], float]]]


def _one(value: Callable[[LinkStanding], float]) -> OfLink:
    return lambda link, _: [((), value(link))]


def _logs(value: Callable[[LogStanding], float]) -> OfLink:
    return lambda link, _: [((log.log,), value(log)) for log in link.logs]


def _desks(value: Callable[[DeskStanding], float]) -> OfLink:
    return lambda link, _: [((desk.desk,), value(desk)) for desk in link.desks]


def _imports(value: Callable[[ImportStanding], float]) -> OfLink:
    return lambda link, _: [((desk.desk, log.log), value(log)) for desk in link.desks for log in desk.logs]


def _since(then_ns: int, pulse: Pulse) -> float:
    return max(0, pulse.now_ns - then_ns) * _NS if then_ns else 0.0


def _info(link: LinkStanding, _: Pulse) -> Values:
    yield (link.firm, link.desk, link.engine), 1.0


def _word(link: LinkStanding, _: Pulse) -> Values:
    yield from (((word.value,), float(word == link.word)) for word in LinkWord)


def _seat_age(link: LinkStanding, pulse: Pulse) -> Values:
    if link.renewed_ns:
        yield (), _since(link.renewed_ns, pulse)


def _waiting_s(link: LinkStanding, pulse: Pulse) -> Values:
    yield from (((log.log,), _since(log.waiting_since_ns, pulse)) for log in link.logs)


def _heard(link: LinkStanding, pulse: Pulse) -> Values:
    yield from (((d.desk,), _since(d.heard_ns, pulse)) for d in link.desks if d.heard_ns and d.word != AWAY)


def _desk_word(link: LinkStanding, _: Pulse) -> Values:
    yield from (((d.desk, d.word), 1.0) for d in link.desks if d.word)


LINK: Final[tuple[tuple[str, Literal["counter", "gauge"], tuple[str, ...], str, OfLink], ...]] = (
    (
        "info",
        "gauge",
        ("firm", "desk", "engine"),
        "1, with what the firm, the desk and the engine are called.",
        _info,
    ),
    ("word", "gauge", ("word",), "1 for the word that says how the link stands.", _word),
    ("connected", "gauge", (), "1 while a node of the engine answers.", _one(lambda x: x.is_connected)),
    ("replicas", "gauge", (), "How many nodes keep each log.", _one(lambda x: x.replicas)),
    ("synced", "gauge", (), "1 if every node syncs before it acknowledges.", _one(lambda x: x.is_synced)),
    ("seat_age_seconds", "gauge", (), "How long ago the last good renewal of the seat was sent.", _seat_age),
    ("lease_seconds", "gauge", (), "For how long a renewal holds.", _one(lambda x: x.lease_s)),
    ("export_events_total", "counter", _LOG, "Events exported.", _logs(lambda log: log.events)),
    ("export_groups_total", "counter", _LOG, "Groups that they were in.", _logs(lambda log: log.groups)),
    (
        "export_refusals_total",
        "counter",
        _LOG,
        "Groups that the engine did not take at once.",
        _logs(lambda log: log.refusals),
    ),
    (
        "export_waiting_positions",
        "gauge",
        _LOG,
        "How many positions of the journal wait to be exported.",
        _logs(lambda log: log.waiting),
    ),
    (
        "export_waiting_seconds",
        "gauge",
        _LOG,
        "For how long something has waited to be exported.",
        _waiting_s,
    ),
    (
        "log_size_bytes",
        "gauge",
        _LOG,
        "What the log takes, all desks together.",
        _logs(lambda log: log.size_bytes),
    ),
    (
        "log_limit_bytes",
        "gauge",
        _LOG,
        "What it may take; 0: as much as it likes.",
        _logs(lambda log: log.most_bytes),
    ),
    ("ticks_sent_total", "counter", (), "Ticks sent to other desks.", _one(lambda x: x.ticks_sent)),
    (
        "desk_heard_age_seconds",
        "gauge",
        _DESK,
        "How long ago another desk was heard; none for one that was stopped.",
        _heard,
    ),
    (
        "desk_word",
        "gauge",
        ("desk", "word"),
        "1, with the word for how the link of another desk stands.",
        _desk_word,
    ),
    (
        "desk_clock_ahead_seconds",
        "gauge",
        _DESK,
        "How far the clock of another desk is ahead of this one's.",
        _desks(lambda desk: desk.ahead_ns * _NS),
    ),
    (
        "desk_kill_switches",
        "gauge",
        _DESK,
        "Kill switches active on another desk.",
        _desks(lambda desk: desk.halts),
    ),
    (
        "import_events_total",
        "counter",
        _DESK_LOG,
        "Events imported from another desk.",
        _imports(lambda log: log.events),
    ),
    (
        "import_duplicates_total",
        "counter",
        _DESK_LOG,
        "Events of another desk that were there already.",
        _imports(lambda log: log.duplicates),
    ),
    (
        "import_waiting_positions",
        "gauge",
        _DESK_LOG,
        "How many positions of another desk's journal are exported, and not imported here.",
        _imports(lambda log: log.waiting),
    ),
    (
        "import_gap",
        "gauge",
        _DESK_LOG,
        "1 while events of another desk are missing in the log.",
        _imports(lambda log: bool(log.gap)),
    ),
    ("ticks_total", "counter", _DESK, "Ticks of another desk that came.", _desks(lambda desk: desk.ticks)),
    (
        "ticks_conflated_total",
        "counter",
        _DESK,
        "Ticks that a newer one replaced before the bus saw them.",
        _desks(lambda desk: desk.ticks_conflated),
    ),
    (
        "ticks_lost_total",
        "counter",
        _DESK,
        "Ticks of another desk that never came.",
        _desks(lambda desk: desk.ticks_lost),
    ),
)
"""The figures, by what follows `openoutcry_link_`."""
