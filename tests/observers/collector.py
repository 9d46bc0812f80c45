"""An OTLP collector in a thread: takes spans over real HTTP, and decodes them with the official protobuf classes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(one) for one in value.array_value.values]
    return getattr(value, kind)


class Received:
    """One span, as it came."""

    def __init__(self, span: Any, resource: dict[str, Any], scope: str) -> None:
        self.span, self.resource, self.scope = span, resource, scope
        self.name = span.name
        self.trace = span.trace_id.hex()
        self.id = span.span_id.hex()
        self.parent = span.parent_span_id.hex()
        self.attributes = {a.key: value_of(a.value) for a in span.attributes}
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
        self.error = span.status.message
        self.took_ns = span.end_time_unix_nano - span.start_time_unix_nano


class Collector:
    """What has come, and what it answers."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.paths: list[str] = []
        self.status = 200
        self.refuses: Callable[[Received], bool] = lambda _: False
        self.came = threading.Condition()
        self.url = ""

    def take(self, path: str, body: bytes) -> int:
        with self.came:
            self.paths.append(path)
            status, found = self.status, list[Received]()
            for each in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = {a.key: value_of(a.value) for a in each.resource.attributes}
                for scope in each.scope_spans:
                    found += [Received(s, resource, scope.scope.name) for s in scope.spans]
            if any(map(self.refuses, found)):
                status = 400
            if status == 200:
                self.spans += found
            self.came.notify_all()
            return status

    def wait_for(self, what: Any, limit_s: float = 120.0) -> None:
        with self.came:
            assert self.came.wait_for(what, limit_s)

    @property
    def by_name(self) -> dict[str, Received]:
        assert len({s.name for s in self.spans}) == len(self.spans), sorted(s.name for s in self.spans)
        return {s.name: s for s in self.spans}


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = collector.take(self.path, body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
