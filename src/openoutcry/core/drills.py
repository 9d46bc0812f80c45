"""Drills of the kill lane: at intervals, prove that what is hardly ever used still works.

```
  send ──▶ every subscription that takes kill switches answers in time ──▶ proven ──interval──▶ send
                └── one does not by the deadline ──▶ missed, until a later drill is answered by all
```
"""

from collections.abc import Iterable
from dataclasses import dataclass

from openoutcry.config import DrillConfig
from openoutcry.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class DrillReport:
    """How the kill lane did.

    Attributes:
        drills: Drills that were sent.
        proven_ns_ago: How long ago the last drill was sent that all answered in time; None before the first.
        worst_ns: The slowest answer of the last drill that has ended, or None.
        missed: Who has not answered the last drill whose deadline has passed.
        late: Who answered it after the deadline.

    """

    drills: int
    proven_ns_ago: int | None
    worst_ns: int | None
    missed: tuple[str, ...]
    late: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Whether the last drill that has ended was not answered by all in time."""
        return bool(self.missed or self.late)


class Drills:
    """Keeps track of drills. The runtime sends and answers them."""

    __slots__ = (
        "_answers",
        "_deadline_ns",
        "_due_ns",
        "_every_ns",
        "_expected",
        "_late",
        "_missed",
        "_proven_ns",
        "_sent_ns",
        "_worst_ns",
        "number",
    )

    def __init__(self, config: DrillConfig, now_ns: int) -> None:
        self._every_ns = int(config.every_s * NS_PER_S)
        self._deadline_ns = int(config.deadline_s * NS_PER_S)
        self._due_ns = now_ns
        self.number: int = 0
        self._sent_ns: int | None = None
        self._expected: set[str] = set()
        self._answers: dict[str, int] = {}
        self._missed: tuple[str, ...] = ()
        self._late: tuple[str, ...] = ()
        self._proven_ns: int | None = None
        self._worst_ns: int | None = None

    @property
    def is_out(self) -> bool:
        """Whether a drill was sent and has not ended."""
        return self._sent_ns is not None

    def due_in_ns(self, now_ns: int) -> int:
        """Return how long until `send` or `look` has something to do; 0 if it has now."""
        due_ns = self._due_ns if self._sent_ns is None else self._sent_ns + self._deadline_ns
        return max(0, due_ns - now_ns)

    def send(self, names: Iterable[str], now_ns: int) -> int:
        """Note that a drill goes out to these subscriptions, and return its number."""
        self.look(now_ns, ended=True)
        self.number += 1
        self._sent_ns, self._due_ns = now_ns, now_ns + self._every_ns
        self._expected = set(names)
        self._answers = {}
        return self.number

    def answered(self, number: int, name: str, now_ns: int) -> None:
        """Note an answer. One to an older drill proves nothing about this one."""
        if number == self.number and name in self._expected and name not in self._answers:
            if self._sent_ns is not None:
                self._answers[name] = now_ns - self._sent_ns
                if len(self._answers) == len(self._expected):
                    self.look(now_ns, ended=True)
            else:  # the deadline has passed: it is no longer missing, but late
                self._answers[name] = self._deadline_ns + 1
                self._missed = tuple(other for other in self._missed if other != name)
                self._late = (*self._late, name)

    def withdrawn(self, name: str) -> None:
        """Note that a subscription has ended, so that its answer is not waited for."""
        self._expected.discard(name)
        self._missed = tuple(other for other in self._missed if other != name)
        self._late = tuple(other for other in self._late if other != name)

    def look(self, now_ns: int, *, ended: bool = False) -> None:
        """End the drill that is out, if its deadline has passed or all have answered."""
        if self._sent_ns is None or not (ended or now_ns - self._sent_ns > self._deadline_ns):
            return
        answers = self._answers
        self._missed = tuple(sorted(self._expected - answers.keys()))
        self._late = tuple(sorted(n for n, took in answers.items() if took > self._deadline_ns))
        self._worst_ns = max(answers.values(), default=None)
        if not (self._missed or self._late):
            self._proven_ns = self._sent_ns
        self._sent_ns = None

    def report(self, now_ns: int) -> DrillReport:
        """Return how the lane has done so far."""
        self.look(now_ns)
        proven = None if self._proven_ns is None else now_ns - self._proven_ns
        return DrillReport(self.number, proven, self._worst_ns, self._missed, self._late)
