"""Expected rates: which sources should have published by now, and have not.

A batch of events is looked at only when a source is due to be heard again, a sixteenth of its shortest
interval after it was last heard. So a bus on which every source publishes pays one comparison per batch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from openoutcry.sessions import Expectation, Window, window_at
from openoutcry.units import NS_PER_S

NEVER_NS = 1 << 62
_SHARE = 16


@dataclass(frozen=True, slots=True)
class Silence:
    """Something expected that has not come.

    Attributes:
        expectation: What was expected.
        silent_ns: For how long, within the open session.
        ever: Whether it was heard at all since watching began.

    """

    expectation: Expectation
    silent_ns: int
    ever: bool


class _Source:
    """One (type, agent) from which events are expected, and when it was heard last."""

    __slots__ = ("agent", "due_ns", "event_type", "ever", "heard_ns", "step_ns")

    def __init__(self, event_type: str, agent: str | None, now_ns: int) -> None:
        self.event_type, self.agent = event_type, agent
        self.heard_ns = self.due_ns = now_ns
        self.step_ns = NEVER_NS
        self.ever = False

    def heard(self, now_ns: int) -> None:
        self.heard_ns = now_ns
        self.due_ns = now_ns + self.step_ns
        self.ever = True


class _Watched:
    """One expectation, and the current period in which its sessions are open or closed."""

    __slots__ = ("every_ns", "expectation", "source", "window")

    def __init__(self, expectation: Expectation, source: _Source) -> None:
        self.expectation, self.source = expectation, source
        self.every_ns = int(expectation.every_s * NS_PER_S)
        self.window = Window(is_open=False, since_ns=0, until_ns=0)
        source.step_ns = min(source.step_ns, self.every_ns // _SHARE)

    def silence(self, now_ns: int, wall_ns: int) -> Silence | None:
        if not self.window.since_ns <= wall_ns < self.window.until_ns:
            self.window = window_at(self.expectation.sessions, wall_ns)
        if not self.window.is_open:
            return None
        silent_ns = min(now_ns - self.source.heard_ns, wall_ns - self.window.since_ns)
        return Silence(self.expectation, silent_ns, self.source.ever) if silent_ns > self.every_ns else None


class Rates:
    """Watches a set of expectations. All count as met at the beginning.

    Attributes:
        due_ns: Before this time there is no need to look at events: compare with it first, it is cheap.

    """

    __slots__ = ("_sources", "_watched", "due_ns")

    def __init__(self, expectations: Iterable[Expectation], now_ns: int) -> None:
        self._sources: dict[str, dict[str | None, _Source]] = {}
        self._watched: list[_Watched] = []
        for expectation in expectations:
            kind, agent = expectation.event_type, expectation.agent
            source = self._sources.setdefault(kind, {}).setdefault(agent, _Source(kind, agent, now_ns))
            self._watched.append(_Watched(expectation, source))
        self.due_ns: int = now_ns if self._watched else NEVER_NS

    def _all(self) -> Iterator[_Source]:
        return (source for agents in self._sources.values() for source in agents.values())

    def restart(self, now_ns: int) -> None:
        """Count everything as met now: the bus has just started."""
        for source in self._all():
            source.heard_ns = source.due_ns = now_ns
        self.due_ns = now_ns if self._watched else NEVER_NS

    def look(self, events: Sequence[Any], now_ns: int, *, mixed: bool = True) -> None:
        """Note which sources published these events. `mixed`: whether their types may differ."""
        if now_ns < self.due_ns or not events:
            return
        agents = {} if mixed else self._sources.get(_type_of(events[0]), {})
        due = {(s.event_type, s.agent): s for s in (self._all() if mixed else agents.values())}
        missing = {key: source for key, source in due.items() if source.due_ns <= now_ns}
        for event in reversed(events) if missing else ():
            kind = _type_of(event)
            for key in ((kind, None), (kind, getattr(event, "source_agent", None))):
                source = missing.pop(key, None)
                if source is not None:
                    source.heard(now_ns)
            if not missing:
                break
        self.due_ns = min(source.due_ns for source in self._all())

    def silences(self, now_ns: int, wall_ns: int) -> list[Silence]:
        """Return what should have come by now and has not, longest first."""
        found = [s for watched in self._watched if (s := watched.silence(now_ns, wall_ns)) is not None]
        return sorted(found, key=lambda silence: -silence.silent_ns)


def _type_of(event: Any) -> str:
    kind = getattr(event, "event_type", "")
    return str(getattr(kind, "value", kind))
