"""Metrics in the text that Prometheus collects, written by hand: no package is needed.

`Exposition` is what a `/metrics` answers with, in a process beside the firm's; `collector` puts the same
figures into the registry of a program that has one.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from openoutcry.errors import ConfigError, OpenOutcryError
from openoutcry.observers.metrics import Family, families, families_of_none
from openoutcry.observers.pulse import Buckets, Pulse, Shape

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as ClientMetric

Kind = TypeVar("Kind")
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
FRESH_S: Final = 1.0
"""For so long the same text is the answer to all who ask."""
COLLECT_S: Final = 2.0
"""For so long `collector` waits for the loop of the bus."""


class Watched(Protocol):
    """What is known of a bus, as a `Watcher` keeps it."""

    @property
    def live(self) -> str:
        """`up` while the bus answers."""
        ...

    @property
    def shape(self) -> Shape | None:
        """What rarely changes."""
        ...

    @property
    def pulse(self) -> Pulse | None:
        """The newest pulse."""
        ...

    @property
    def received_s(self) -> float:
        """When that came, on the loop's clock."""
        ...

    def buckets(self, names: Iterable[str]) -> Awaitable[dict[str, Buckets]]:
        """Return distributions by name; raises `ConnectionError` if the bus does not answer."""
        ...


class Exposition:
    """The metrics of one bus as text. However many ask, the bus is asked once a second at most."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._lock = asyncio.Lock()
        self._made_s = 0.0
        self._families: list[Family] | None = None

    async def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return the text and its content type, by what the one who asks accepts. Never raises."""
        async with self._lock:
            now_s = asyncio.get_running_loop().time()
            if self._families is None or now_s - self._made_s >= FRESH_S or not self._is_up:
                self._families = await self._make(now_s)
                self._made_s = asyncio.get_running_loop().time()
            found = self._families
        if "application/openmetrics-text" in accept:
            return openmetrics(found), OPEN_METRICS
        return exposition(found), TEXT

    @property
    def _is_up(self) -> bool:
        return self._watched.live == "up"

    async def _make(self, now_s: float) -> list[Family]:
        watched = self._watched
        shape, pulse = watched.shape, watched.pulse
        if shape is not None and pulse is not None and self._is_up:
            try:
                buckets = await watched.buckets([s.name for s in shape.subscriptions])
            except ConnectionError:
                buckets = {}
            if self._is_up:
                return list(families(shape, pulse, buckets, max(0.0, now_s - watched.received_s)))
        return list(families_of_none(None if pulse is None else max(0.0, now_s - watched.received_s)))


def exposition(found: Iterable[Family]) -> bytes:
    """Return figures in Prometheus's own text format."""
    return "".join(_lines(found, is_open=False)).encode()


def openmetrics(found: Iterable[Family]) -> bytes:
    """Return figures in the format of OpenMetrics."""
    return "".join([*_lines(found, is_open=True), "# EOF\n"]).encode()


def _lines(found: Iterable[Family], *, is_open: bool) -> Iterator[str]:
    for metric, samples in found:
        name = metric.name.removesuffix("_total") if is_open and metric.kind == "counter" else metric.name
        yield f"# HELP {name} {_escaped_help(metric.means)}\n# TYPE {name} {metric.kind}\n"
        for ending, labels, value in samples:
            yield f"{metric.name}{ending}{_labels(labels)} {_number(value)}\n"


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


# -- in the process of the bus -----------------------------------------------------------------------


class Asked(Protocol):
    """What tells the figures of a bus in its own process: `bus.admin`."""

    def shape(self) -> Coroutine[Any, Any, Shape]:
        """Return what rarely changes."""
        ...

    def pulse(self) -> Coroutine[Any, Any, Pulse]:
        """Return counters and states."""
        ...

    def buckets(self, names: Iterable[str]) -> dict[str, Buckets]:
        """Return distributions by name."""
        ...


class Pulsing(Protocol):
    """A bus, as far as it is asked here."""

    @property
    def admin(self) -> Asked:
        """What tells its figures."""
        ...


def collector(bus: Pulsing, loop: asyncio.AbstractEventLoop | None = None) -> "Collector":
    """Return a collector of the figures of a bus for a registry of `prometheus_client`, in the bus's process.

        REGISTRY.register(collector(bus))

    Call it on the loop of the bus, or say which that is. The registry may be asked on that loop, which is
    kept meanwhile, or in any other thread, such as the one of `start_http_server`, which waits for the loop
    at most two seconds. `openoutcry metrics` does the same from outside and costs the firm less.

    Raises:
        ConfigError: Outside a loop, and without one.

    """
    if loop is None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "collector(bus): call it on the loop of the bus, or give that as loop"
            ) from None
    return Collector(bus, loop)


class Collector:
    """Asks a bus whenever its registry is asked. Where the bus does not answer, `openoutcry_up` is 0."""

    def __init__(self, bus: Pulsing, loop: asyncio.AbstractEventLoop) -> None:
        self._bus = bus
        self._loop = loop

    def describe(self) -> list["ClientMetric"]:
        """Return nothing, so that the registry does not ask the bus when this is registered."""
        return []

    def collect(self) -> Iterator["ClientMetric"]:
        """Yield the metrics, as `prometheus_client` has them."""
        from prometheus_client.metrics_core import Metric  # noqa: PLC0415 - only who has a registry has it

        for metric, samples in self._families():
            made = Metric(metric.name.removesuffix("_total"), metric.means, metric.kind)
            for ending, labels, value in samples:
                made.add_sample(metric.name + ending, dict(labels), value)
            yield made

    def _families(self) -> list[Family]:
        try:
            return self._ask()
        except (OpenOutcryError, TimeoutError, RuntimeError):  # not started, stopped, or its loop is closed
            return list(families_of_none(None))

    def _ask(self) -> list[Family]:
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            return _at_once(self._read())
        reading = self._read()
        try:
            found = asyncio.run_coroutine_threadsafe(reading, self._loop)
        except RuntimeError:
            reading.close()
            raise
        try:
            return found.result(COLLECT_S)
        except TimeoutError:
            found.cancel()
            raise

    async def _read(self) -> list[Family]:
        admin = self._bus.admin
        shape, pulse = await admin.shape(), await admin.pulse()
        while shape.number != pulse.shape:  # subscriptions have come or gone in between
            shape, pulse = await admin.shape(), await admin.pulse()
        buckets: Mapping[str, Buckets] = admin.buckets([s.name for s in shape.subscriptions])
        return list(families(shape, pulse, buckets))


def _at_once(reading: Coroutine[Any, Any, Kind]) -> Kind:
    """Return what a coroutine returns that gives the loop back and waits for nothing."""
    try:
        while True:
            reading.send(None)
    except StopIteration as end:
        result: Kind = end.value
        return result
