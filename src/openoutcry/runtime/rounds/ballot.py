"""The vote of one signal, on its way through admission.

```
  prepare ──▶ journal ──▶ cast                     a durable signal votes when it is released
                 └──▶ defer ──▶ outbox ──▶ cast    one of an outbox, when that is committed
  settle                                           any other, as soon as it is admitted
```

Admission knows these four calls and no rounds: `Ballot` fits the protocol that admission declares.
"""

from typing import Any

from openoutcry.runtime.rounds.rounds import Rounds


class Ballot:
    """The vote of one signal: cast when the signal is released, not before, and once.

    Args:
        rounds: Where it is cast.
        signal: The signal.
        agent: Whose it is.
        asked_ns: When the event that it answers was admitted; None if it answers none.

    """

    __slots__ = ("_agent", "_asked_ns", "_is_over", "_rounds", "_signal")

    def __init__(self, rounds: Rounds, signal: Any, agent: str, asked_ns: int | None) -> None:
        self._rounds = rounds
        self._signal = signal
        self._agent = agent
        self._asked_ns = asked_ns
        self._is_over = False

    def prepare(self) -> None:
        """The signal is about to be written: name its round in it, so that the journal has it."""
        self._rounds.name_round(self._signal, self._agent, self._asked_ns)

    def cast(self, _position: int = 0) -> None:
        """The signal is released: take it to its round."""
        self._is_over = True
        self._rounds.arrive(self._signal, self._agent, None, self._asked_ns)

    def defer(self) -> None:
        """The signal waits in an outbox: `cast` is called when that is committed."""
        self._is_over = True

    def settle(self) -> None:
        """The signal was admitted: cast the vote, unless it was cast or deferred."""
        if not self._is_over:
            self.cast()
