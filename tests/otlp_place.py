"""What receives OTLP over HTTP for a test, and a real collector in front of it.

Owns both servers. The collector is rotel, a binary in a wheel for Linux on x86_64 and Python 3.12;
it listens on the loopback interface only.
"""

import gzip
import importlib.util
import os
import socket
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from redis_server import free_port

__all__ = ["Receiver", "collector", "receiver", "why_no_collector"]

_DEADLINE_SECONDS = 30.0


class Receiver:
    """What has arrived.

    Attributes:
        url: where to export to, without the path.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._arrived = threading.Condition()
        self._spans: list[Any] = []
        self._metrics: list[Any] = []

    def take(self, path: str, body: bytes) -> bytes:
        """Note a request; its answer."""
        with self._arrived:
            if path == "/v1/traces":
                traces = ExportTraceServiceRequest.FromString(body)
                self._spans += [
                    span
                    for resource in traces.resource_spans
                    for scope in resource.scope_spans
                    for span in scope.spans
                ]
                answer: Any = ExportTraceServiceResponse()
            else:
                metrics = ExportMetricsServiceRequest.FromString(body)
                self._metrics += [
                    metric
                    for resource in metrics.resource_metrics
                    for scope in resource.scope_metrics
                    for metric in scope.metrics
                ]
                answer = ExportMetricsServiceResponse()
            self._arrived.notify_all()
        return bytes(answer.SerializeToString())

    def spans(self, count: int) -> dict[str, Any]:
        """The first word of each span's name -> the span, once so many have arrived."""
        self._wait(lambda: len(self._spans) >= count, f"{count} spans")
        return {span.name.split()[0]: span for span in self._spans}

    def metric_names(self, *wanted: str) -> set[str]:
        """All names of metrics, once these are among them."""
        self._wait(lambda: {*wanted} <= {each.name for each in self._metrics}, str(wanted))
        return {each.name for each in self._metrics}

    def _wait(self, is_there: Any, what: str) -> None:
        with self._arrived:
            assert self._arrived.wait_for(is_there, _DEADLINE_SECONDS), f"{what} did not arrive"


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A server that notes all that is exported to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            answer = made.take(self.path, body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def why_no_collector() -> str | None:
    """Why the collector cannot be run here; None: it can."""
    found = importlib.util.find_spec("rotel")
    if found is None or found.origin is None:
        return "rotel has no wheel for this platform"
    tried = subprocess.run(
        [str(_agent()), "--version"], env=_environment(), check=False, capture_output=True
    )
    return None if tried.returncode == 0 else "rotel finds no shared library of this Python"


def _agent() -> Path:
    found = importlib.util.find_spec("rotel")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "rotel-agent"


def _environment() -> dict[str, str]:
    # It embeds Python, whose shared library may be in no folder that the loader knows.
    return {**os.environ, "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}


@contextmanager
def collector(target: str, folder: Path) -> Iterator[str]:
    """A collector that passes all on to `target`; the address for exports to it."""
    http, grpc = free_port(), free_port()
    options = {
        "otlp-http-endpoint": f"127.0.0.1:{http}",
        "otlp-grpc-endpoint": f"127.0.0.1:{grpc}",
        "exporter": "otlp",
        "otlp-exporter-protocol": "http",
        "otlp-exporter-endpoint": target,
        "pid-file": str(folder / "collector.pid"),
        "log-file": str(folder / "collector.log"),
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        [str(_agent()), "start", *words],
        env=_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_port(http, process)
        yield f"http://127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait(_DEADLINE_SECONDS)


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    end_time = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < end_time:
        assert process.poll() is None, "the collector has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the collector does not listen")
