"""How long events waited for a worker, and how long the handler took.

A read of the clock costs about as much as a fast call. So a worker measures

- **call by call** from the start on and after every call that took more than 1 ms, until 256 calls in a row
  were faster; always, where calls are dear anyway: those for kill switches, in threads, with an outbox;
- **by the batch** otherwise: the time that a batch took is shared among its calls, and of batches of one
  every sixteenth counts, for sixteen.

So every call of a slow handler counts by itself: retries, time-outs and abandoned calls too. What is not
known exactly is the batch in which a handler that was fast turns slow. If its calls took over 1 ms on
average, each counts with that; else one of them counts with all that the batch took beyond the usual.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from openoutcry.core.lanes import Batch
from openoutcry.core.latency import Latencies
from openoutcry.runtime.delivery.loops import Drive

SLOW_NS: Final = 1_000_000
"""A call that takes longer is slow."""
FAST_CALLS: Final = 256
"""So many fast calls in a row, and they are measured by the batch."""
SAMPLED: Final = 15
"""Of fast batches of one, every sixteenth is measured, and counts for all of them."""


class Stopwatch:
    """Measures the calls of one worker.

    Args:
        waits: Gets the times from admission to the beginning of an event's first call.
        durations: Gets the times from the beginning of a call to its end.
        clock_ns: Reads the bus's clock.
        always: Whether every call is measured by itself.

    Attributes:
        by_call: Whether calls are to be measured one by one; for a batch of one, that is its time.
        apart: Whether a batch takes longer than its calls, as where an outbox commits what they published.

    """

    __slots__ = (
        "_began_ns",
        "_clock_ns",
        "_durations",
        "_fast_left",
        "_usual_ns",
        "_waits",
        "always",
        "apart",
        "by_call",
    )

    def __init__(
        self,
        waits: Latencies,
        durations: Latencies,
        clock_ns: Callable[[], int],
        *,
        always: bool,
        apart: bool,
    ) -> None:
        self._waits = waits
        self._durations = durations
        self._clock_ns = clock_ns
        self._fast_left = FAST_CALLS
        self._usual_ns = 0
        self._began_ns: int | None = None
        self.always: bool = always
        self.apart: bool = apart
        self.by_call: bool = True

    # -- call by call -------------------------------------------------------------------------------

    def timing(self, drive: Drive, batch: Batch) -> Drive:
        """Return what calls the handler as `drive` does, and measures each call."""
        admitted_ns = None if batch.attempts else batch.admitted_ns
        return lambda events, handler: drive(self._timed(events, admitted_ns), handler)

    def _timed(self, events: Iterator[Any], admitted_ns: int | None) -> Iterator[Any]:
        """Yield the events: whoever asks for the next one has ended the call for the last."""
        clock_ns, waits = self._clock_ns, self._waits
        for event in events:
            self._began_ns = began_ns = clock_ns()
            if admitted_ns is not None:
                waits.record(began_ns - admitted_ns)
            yield event
            self._call_ended()

    def _call_ended(self) -> None:
        began_ns, self._began_ns = self._began_ns, None
        if began_ns is None:
            return  # it was given up, and counted then
        took_ns = self._clock_ns() - began_ns
        self._durations.record(took_ns)
        self._judge(took_ns)

    def _judge(self, took_ns: int) -> None:
        """Decide by a call that was measured whether the next ones are."""
        if took_ns > SLOW_NS:
            self.by_call = True
            self._fast_left = FAST_CALLS
        elif not self.always:
            self._fast_left -= 1
            self.by_call = self._fast_left > 0

    # -- by the batch -------------------------------------------------------------------------------

    def batch_ended(self, batch: Batch, began_ns: int, took_ns: int, calls: int) -> None:
        """Count a batch whose calls were not timed: of one call, or of several fast ones."""
        is_sample = calls == 1 and not self.by_call and took_ns <= SLOW_NS
        stands_for = SAMPLED + 1 if is_sample else calls
        if not batch.attempts:
            self._waits.record(began_ns - batch.admitted_ns, stands_for)
        if took_ns <= SLOW_NS or calls == 1 or took_ns > calls * SLOW_NS:
            self._durations.record(took_ns // calls, stands_for)
        else:
            others = calls - 1
            self._durations.record(self._usual_ns, others)
            self._durations.record(max(took_ns - others * self._usual_ns, took_ns // calls))
        if took_ns <= SLOW_NS:
            self._usual_ns = took_ns // calls
        if self.by_call or took_ns > SLOW_NS:
            self._judge(took_ns)

    # -- calls that did not return ------------------------------------------------------------------

    def call_failed(self, batch: Batch, began_ns: int, *, timed: bool) -> None:
        """A call raised, or was cancelled; `began_ns` is when its batch began, `timed` if by `timing`."""
        if timed:
            self._call_ended()
        else:
            self.batch_ended(batch, began_ns, self._clock_ns() - began_ns, max(1, batch.begun))
        self._judge(SLOW_NS + 1)  # whatever it took, the next ones are worth a look

    def call_given_up(self, batch: Batch | None, began_ns: int) -> None:
        """The bus goes on without the current call: it counts with the time that it has taken so far."""
        if self._began_ns is not None:
            self._call_ended()
        elif batch is not None:
            self.batch_ended(batch, began_ns, self._clock_ns() - began_ns, 1)
