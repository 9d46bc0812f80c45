"""Delivers spans to a collector: waits while it is away, and finds those that it refuses for good.

```
  taken ◀── send ──▶ away (no answer, 408, 429, 5xx) ──▶ wait, ever longer, and send again
              │
              ├────▶ refuses these spans ──TRIES──▶ in halves, down to what it refuses: let go, and said
              └────▶ refuses whatever it is sent (401, 403, 404, ...) ──TRIES──▶ `Failed`: nothing is let go
```
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final, Protocol

from openoutcry.cli.mistakes import Failed
from openoutcry.core.wording import counted
from openoutcry.observers.otel import BATCH_MOST, NotTaken, Outage
from openoutcry.observers.spans import Span

log = logging.getLogger("openoutcry")

GIVE_UP_S: Final = 60.0
"""For how long a collector may be away unless the journal is followed."""
TRIES: Final = 4
"""So often something is sent that is refused, in case it was not meant so."""
ALONE_MOST: Final = 20
"""So many spans of a batch are refused singly; if it takes none of them, the others are let go with them."""
_SLICE_S: Final = 0.1


class Taker(Protocol):
    """What sends spans to a collector."""

    def send(self, spans: Sequence[Span]) -> NotTaken | None:
        """Send some spans; return why they were not taken."""
        ...


class Stopped(BaseException):
    """The process was asked to end while a collector is away: what is being sent is sent again next time."""


class StopSignal:
    """Whether the process was asked to end: by SIGINT or SIGTERM. A second one ends it at once.

    Attributes:
        number: By which signal; 0 as long as it was not.
        interrupts: Whether the first ends what goes on by raising `Stopped`.

    """

    def __init__(self) -> None:
        self.number: int = 0
        self.interrupts: bool = False

    @contextmanager
    def heeded(self) -> Iterator["StopSignal"]:
        """Take the signals within the context. In another thread than the main one they are left alone."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        if self.interrupts:
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Wait, and raise `Stopped` as soon as the process was asked to end."""
        until_s = time.monotonic() + seconds
        while not self.number and (left_s := until_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _SLICE_S))
        if self.number:
            raise Stopped


class Delivery:
    """Delivers spans, in order.

    Args:
        taker: What sends them.
        patience_s: For how many seconds a collector may be away until `Failed` is raised; None: for ever.
        stop: Whether to end.
        now_s: The time in seconds.

    Attributes:
        sent_count: How many spans were taken.
        refused_count: How many were refused for good, and let go.

    """

    def __init__(
        self, taker: Taker, patience_s: float | None, stop: StopSignal, now_s: Callable[[], float]
    ) -> None:
        self.sent_count: int = 0
        self.refused_count: int = 0
        self._taker = taker
        self._patience_s = patience_s
        self._stop = stop
        self._outage = Outage(now_s)

    def deliver(self, spans: Sequence[Span]) -> None:
        """Send some spans, and wait for as long as the collector is away.

        Raises:
            Failed: It is away for too long, or refuses whatever it is sent.
            Stopped: The process was asked to end meanwhile: the spans may or may not have been taken.

        """
        for at in range(0, len(spans), BATCH_MOST):
            self._deliver_batch(spans[at : at + BATCH_MOST])

    def _deliver_batch(self, batch: Sequence[Span]) -> None:
        refused = self._send(batch, TRIES)
        if refused is None:
            return
        left, found, taken_before = [batch], list[Span](), self.sent_count
        while left:
            some = left.pop()
            if len(found) >= ALONE_MOST and self.sent_count == taken_before:
                found += some
                continue
            if self._stop.number:
                raise Stopped
            why = refused if some is batch else self._send(some, 1)
            if why is None:
                continue
            refused = why
            if len(some) == 1:
                found += some
                continue
            half = len(some) // 2
            left += [some[half:], some[:half]]  # the first half is next
        self._let_go(found, len(batch), refused)

    def _let_go(self, spans: Sequence[Span], batch_size: int, refused: NotTaken) -> None:
        self.refused_count += len(spans)
        if spans:
            log.error(
                "the collector refuses %s of %d for good; they are let go, first %r of trace %032x: %s",
                counted(len(spans), "span"),
                batch_size,
                spans[0].name,
                spans[0].trace,
                refused.why,
            )

    def _send(self, spans: Sequence[Span], tries: int) -> NotTaken | None:
        """Send until they are taken, or were refused so many times: then return why."""
        while (missed := self._send_once(spans)) is not None:
            if missed.is_final:
                tries -= 1
                if tries <= 0 and missed.is_general:
                    raise Failed(
                        f"the collector refuses whatever it is sent: {missed.why}; nothing was let go: see "
                        "to its address, and to the key in OTEL_EXPORTER_OTLP_HEADERS"
                    )
                if tries <= 0:
                    self._outage.over()
                    return missed
            self._wait(missed)
        if self._outage.over():
            log.info("the collector takes spans again")
        self.sent_count += len(spans)
        return None

    def _send_once(self, spans: Sequence[Span]) -> NotTaken | None:
        self._stop.interrupts = self._outage.is_on
        try:
            return self._taker.send(spans)
        finally:
            self._stop.interrupts = False

    def _wait(self, missed: NotTaken) -> None:
        wait_s, says = self._outage.failed()
        if self._patience_s is not None and self._outage.lasted_s >= self._patience_s and not missed.is_final:
            raise Failed(f"the collector has been away for a minute: {missed.why}")
        if says:
            log.warning("the spans wait, since the collector does not take them: %s", missed.why)
        self._stop.wait(wait_s)
