"""OpenTelemetry: sends spans over OTLP, and gives handlers the context of theirs.

pip install 'openoutcry[otel]'
"""

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openoutcry.errors import ConfigError
from openoutcry.observers.current import handling
from openoutcry.observers.spans import Span, is_kept, span_id, trace_id
from openoutcry.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

SEND_S: Final = 10.0
BATCH_MOST: Final = 512
_EXPORTER: Final = "opentelemetry.exporter"
_TRANSIENT: Final = (408, 425, 429)
_CONTENT: Final = (400, 413, 422)
"""The statuses of what was sent; the others below 500 are about the address or the key."""
_OF_THE_SPANS: Final = ("Dropping span batch", "Failed to encode")
"""How what the exporter says begins where it cannot send these spans at all."""


def context(keep: float = 1.0) -> "SpanContext | None":
    """Return the context of the current handler's span, so that spans of your own hang below it.

        parent = otel.context()
        if parent is not None:
            with tracer.start_as_current_span(
                "ask the model", context=set_span_in_context(NonRecordingSpan(parent))
            ): ...

    The span itself is made later, by `openoutcry traces`, which keeps chains with a fill, an alert or a dead
    letter and a share of the others: give that share as `keep`, and the context is marked as sampled for the
    same chains. None outside handlers and the tasks and threads that they start.

    Raises:
        ConfigError: The extra `otel` is not installed, or `keep` is not from 0 to 1.

    """
    if not 0 <= keep <= 1:
        raise ConfigError(f"keep = {keep!r}: it is a share, from 0 to 1")
    now = handling()
    if now is None:
        return None
    trace = _sdk("opentelemetry.trace")
    sampled = trace.TraceFlags.SAMPLED if is_kept(now.correlation_id, keep) else trace.TraceFlags.DEFAULT
    found: SpanContext = trace.SpanContext(
        trace_id(now.correlation_id),
        span_id(now.event_id, now.subscription),
        is_remote=False,
        trace_flags=trace.TraceFlags(sampled),
    )
    return found


class NotTaken(NamedTuple):
    """Why a collector has not taken some spans.

    Attributes:
        why: The reason, in words.
        is_final: Whether it will not take them later either.
        is_general: Whether that holds for whatever it is sent: the address or the key is wrong.

    """

    why: str
    is_final: bool = False
    is_general: bool = False

    @classmethod
    def by(cls, why: str, status: int | None) -> "NotTaken":
        """Return the reason of an HTTP status; without one it is what the exporter says itself."""
        if status is None:
            return cls(why, is_final=why.startswith(_OF_THE_SPANS))
        is_final = 400 <= status < 500 and status not in _TRANSIENT
        return cls(why, is_final, is_final and status not in _CONTENT)


class Sender:
    """Sends spans to a collector with the official exporter: OTLP, protobuf over HTTP.

    Args:
        url: The collector's address; without a path `/v1/traces` is added.
        service: What the spans' resource is called.
        journal: The journal that they come from.

    Raises:
        ConfigError: The extra `otel` is not installed, or the address is none.

    """

    def __init__(self, url: str, service: str, journal: str) -> None:
        self._exporter = _sdk("opentelemetry.exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter(
            endpoint=traces_url(url), timeout=SEND_S
        )
        resource = _sdk("opentelemetry.sdk.resources").Resource
        self._resource = resource.create(
            {"service.name": service, "openoutcry.journal": journal, "telemetry.distro.name": "openoutcry"}
        )
        self._reasons = _Reasons()
        log = _log_of(_EXPORTER)
        log.addHandler(self._reasons)
        log.propagate = False  # what it says of each failed try is said here, once

    def send(self, spans: Iterable[Span]) -> NotTaken | None:
        """Send at most `BATCH_MOST` spans; return why they were not taken. Takes at most 10 s."""
        done = _sdk("opentelemetry.sdk.trace.export").SpanExportResult.SUCCESS
        self._reasons.last = NotTaken("the collector does not take them")
        try:
            result = self._exporter.export([self._as_sdk(span) for span in spans])
        except Exception as error:  # noqa: BLE001 - whatever the exporter, or its HTTP library, raises
            # (What the network is to blame for is an OSError; else the spans are.)
            return NotTaken(f"{type(error).__name__}: {error}", is_final=not isinstance(error, OSError))
        return None if result is done else self._reasons.last

    def close(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()
        log = _log_of(_EXPORTER)
        log.removeHandler(self._reasons)
        log.propagate = True

    def _as_sdk(self, span: Span) -> "ReadableSpan":
        trace, sdk = _sdk("opentelemetry.trace"), _sdk("opentelemetry.sdk.trace")
        status = trace.Status(trace.StatusCode.ERROR, span.error) if span.error else trace.Status()
        made: ReadableSpan = sdk.ReadableSpan(
            name=span.name,
            context=_context(trace, span.trace, span.span),
            parent=None if span.parent is None else _context(trace, span.trace, span.parent),
            resource=self._resource,
            attributes=span.attributes,
            events=_events(sdk, span),
            links=[trace.Link(_context(trace, *link)) for link in span.links],
            kind=trace.SpanKind.CONSUMER if span.handles else trace.SpanKind.PRODUCER,
            instrumentation_scope=_sdk("opentelemetry.sdk.util.instrumentation").InstrumentationScope(
                "openoutcry", __version__
            ),
            status=status,
            start_time=span.begin_ns,
            end_time=span.end_ns,
        )
        return made


def _context(trace: Any, trace_bits: int, span_bits: int) -> Any:
    return trace.SpanContext(
        trace_bits, span_bits, is_remote=False, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED)
    )


def _events(sdk: Any, span: Span) -> list[Any]:
    if not span.error:
        return []
    said = {"exception.message": span.error, "exception.stacktrace": span.traceback}
    return [sdk.Event("exception", {name: text for name, text in said.items() if text}, span.end_ns)]


class _Reasons(logging.Handler):
    """Keeps the last thing that the exporter has logged: it tells in no other way why it has failed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = NotTaken("")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, with the status, which is the one argument that may be one."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        found = (one for one in arguments if isinstance(one, int) and 100 <= one < 600)
        self.last = NotTaken.by(record.getMessage(), next(found, None))


class Outage:
    """When to try again while a collector takes nothing; and when to say so: at once, then once a minute."""

    FIRST_S: Final = 0.5
    LONGEST_S: Final = 30.0
    SAY_EVERY_S: Final = 60.0

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._since_s: float | None = None
        self._said_s = 0.0
        self._wait_s = self.FIRST_S

    @property
    def is_on(self) -> bool:
        """Whether it takes nothing now."""
        return self._since_s is not None

    @property
    def lasted_s(self) -> float:
        """For how long it has taken nothing."""
        return 0.0 if self._since_s is None else self._now_s() - self._since_s

    def failed(self) -> tuple[float, bool]:
        """It has taken nothing again. Return how long to wait, in seconds, and whether to say it."""
        now_s, wait_s = self._now_s(), self._wait_s
        says = self._since_s is None or now_s - self._said_s >= self.SAY_EVERY_S
        if self._since_s is None:
            self._since_s = now_s
        if says:
            self._said_s = now_s
        self._wait_s = min(2 * wait_s, self.LONGEST_S)
        return wait_s, says

    def over(self) -> bool:
        """It has taken something; return True if it had not before."""
        was_out, self._since_s, self._wait_s = self._since_s is not None, None, self.FIRST_S
        return was_out


def traces_url(url: str) -> str:
    """Return the address to which spans go. Raises `ConfigError` for what is none."""
    scheme, mark, rest = url.partition("://")
    host, _, path = rest.partition("/")
    if scheme not in ("http", "https") or not mark or not host or any(c.isspace() for c in url):
        raise ConfigError(f"{url!r} is no address of a collector: write one such as http://localhost:4318")
    return url if path else f"{scheme}://{host}/v1/traces"


def _log_of(name: str) -> logging.Logger:
    return logging.getLogger(name)


def _sdk(module: str) -> Any:
    from importlib import import_module  # noqa: PLC0415 - an optional part is missed only where it is used

    try:
        return import_module(module)
    except ImportError as problem:
        raise ConfigError("OpenTelemetry is not installed: pip install 'openoutcry[otel]'") from problem
