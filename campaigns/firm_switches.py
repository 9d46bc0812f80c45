"""What must be true of the kill switches that the desks of a firm have thrown and released.

- Each that was published was heard within five seconds by every desk that was whole meanwhile;
- who publishes one is answered, and a desk releases what it has heard of;
- every journal has each that was accepted, as its desk has written it, once;
- in the end the same ones are active on every desk: those that were thrown, without those that were released.

A release of what is not active where it was asked for is refused, so that there is none to be heard: so it is
where the desk that was to throw the kill switch had died before it did, or where nobody was told to throw it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

HEARD_NS: Final = 5_000_000_000
"""Within this time a kill switch is heard where nothing is wrong, however busy the machine is."""
SHOWN: Final = 3

Key = tuple[str, str]
"""The id of a kill switch, and `True` where it was thrown, `False` where it was released."""


class Life(NamedTuple):
    """What one life of a desk has told.

    Attributes:
        desk: The desk.
        told: Its lines, as words: `threw ID NS FLAG` before a kill switch is published (True) or a release
            (False), then `kept ID FLAG`, or `inactive ID` of a release that was refused; `heard ID NS FLAG`.
        whole: From when to when it was whole, on the host's monotonic clock: it ran, and reached every node.

    """

    desk: str
    told: Sequence[Sequence[str]]
    whole: Sequence[tuple[int, int]]

    def published(self) -> dict[Key, int]:
        """Return what it has published, as far as it was answered, and when it had begun to."""
        kept = {(words[1], words[2]) for words in self.told if words[0] == "kept"}
        return {key: at_ns for key, at_ns in self.begun().items() if key in kept}

    def begun(self) -> dict[Key, int]:
        """Return what it began to publish, and when."""
        return {(words[1], words[3]): int(words[2]) for words in self.told if words[0] == "threw"}

    def heard(self) -> dict[Key, int]:
        """Return when it has heard each kill switch and release; the first time."""
        heard: dict[Key, int] = {}
        for words in self.told:
            if words[0] == "heard":
                heard.setdefault((words[1], words[3]), int(words[2]))
        return heard


class Heard(NamedTuple):
    """How soon kill switches were heard.

    Attributes:
        late_ns: How late by the desks that had not published them.
        found: What is wrong, in words.

    """

    late_ns: list[int]
    found: list[str]


def heard_in_time(lives: Iterable[Life]) -> Heard:
    """Judge how soon each kill switch and release was heard by every desk that was whole meanwhile."""
    lives = list(lives)
    published = {key: (life.desk, at_ns) for life in lives for key, at_ns in life.published().items()}
    late_ns, found = [], []
    for life in lives:
        found += _unanswered(life) + _refused(life)
        heard = life.heard()
        for key, (thrower, at_ns) in published.items():
            for from_ns, upto_ns in life.whole:
                if not from_ns <= at_ns <= upto_ns:
                    continue
                took_ns = heard.get(key, 0) - at_ns
                if life.desk != thrower and 0 <= took_ns <= upto_ns - at_ns:
                    late_ns.append(took_ns)
                if at_ns + HEARD_NS <= upto_ns and not 0 <= took_ns <= HEARD_NS:
                    when = "never" if took_ns < 0 else f"{took_ns / 1e6:.0f} ms later"
                    found.append(f"{life.desk} heard {_named(key)} by {thrower} {when}")
    return Heard(late_ns, found)


def _named(key: Key) -> str:
    return key[0] if key[1] == "True" else f"the release of {key[0]}"


def _unanswered(life: Life) -> list[str]:
    """A desk that stays whole is answered whether what it publishes was accepted."""
    answered = {(words[1], words[2]) for words in life.told if words[0] == "kept"}
    answered |= {(words[1], "False") for words in life.told if words[0] == "inactive"}
    return [
        f"{life.desk} was not answered for {HEARD_NS / 1e9:g} s when it published {_named(key)}"
        for key, at_ns in life.begun().items()
        if key not in answered and any(a <= at_ns and at_ns + HEARD_NS <= b for a, b in life.whole)
    ]


def _refused(life: Life) -> list[str]:
    """A release is refused only where nobody has heard of what it names, or it was released already."""
    active: set[str] = set()
    found = []
    for words in life.told:
        if words[0] == "heard":
            (active.add if words[3] == "True" else active.discard)(words[1])
        elif words[0] == "inactive" and words[1] in active:
            found.append(f"{life.desk} had heard {words[1]}, and could not release it")
    return found


class Switches:
    """The kill switches and releases that one journal has.

    Attributes:
        thrown: By id, the payload of each that was thrown.
        released: The same of each release.
        ended: The ids that the releases name.
        own: The ids of those that its own desk has made.
        doubles: The ids that it has more than once.

    """

    def __init__(self) -> None:
        self.thrown: dict[str, bytes] = {}
        self.released: dict[str, bytes] = {}
        self.ended: set[str] = set()
        self.own: set[str] = set()
        self.doubles: list[str] = []

    def note(self, event_id: str, payload: bytes, releases: Sequence[str] | None, *, is_own: bool) -> None:
        """Note an entry; `releases` is None where a kill switch was thrown."""
        if is_own:
            self.own.add(event_id)
        known = self.thrown if releases is None else self.released
        if event_id in known:
            self.doubles.append(event_id)
        known[event_id] = payload
        self.ended.update(releases or ())


def lacking(journals: Mapping[str, Switches], accepted: Iterable[Key]) -> dict[str, list[str]]:
    """Return what each journal lacks of what others say their desks have made, and of what was accepted.

    What a desk that died before it had written it was heard to say is not owed to anybody.
    """
    accepted = list(accepted)
    found = {}
    for desk, had in journals.items():
        owed = {event_id for other in journals.values() if other is not had for event_id in other.own}
        lacks = owed - had.thrown.keys() - had.released.keys()
        lacks |= {key[0] for key in accepted if key[0] not in (had.thrown if key[1] == "True" else had.ended)}
        if lacks:
            found[desk] = sorted(lacks)
    return found


def judge_journals(journals: Mapping[str, Switches], accepted: Iterable[Key]) -> list[str]:
    """Return what is wrong with the kill switches in the journals of a firm's desks."""
    found = [
        f"the journal of {desk} lacks {len(lacks)} kill switches or releases: {lacks[:SHOWN]}"
        for desk, lacks in lacking(journals, accepted).items()
    ]
    known: dict[str, bytes] = {}
    for desk, had in journals.items():
        if had.doubles:
            found.append(f"the journal of {desk} has more than once: {had.doubles[:SHOWN]}")
        for event_id, payload in (had.thrown | had.released).items():
            if known.setdefault(event_id, payload) != payload:
                found.append(f"the journal of {desk} has {event_id} in other words than another one")
    return found


def judge_active(journals: Mapping[str, Switches], active: Mapping[str, set[str]]) -> list[str]:
    """Return which desks do not end with those active that were thrown and not released."""
    thrown = {event_id for had in journals.values() for event_id in had.thrown}
    must = thrown.difference(*(had.ended for had in journals.values()))
    return [
        f"on {desk} {sorted(ids - must)[:SHOWN]} are active, and {sorted(must - ids)[:SHOWN]} are not"
        for desk, ids in active.items()
        if ids != must
    ]
