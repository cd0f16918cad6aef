"""Receive metrics as OpenTelemetry's collector does, on loopback."""

from __future__ import annotations

import gzip
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class MetricsCollector:
    """
    What Airflow's processes have said, without Airflow's prefix.

    :param url: Where they say it.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._points: list[tuple[str, dict[str, str], float]] = []

    @property
    def environment(self) -> dict[str, str]:
        """Settings with which Airflow tells this collector."""
        return {
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
        }

    def points(self, name: str, **tags: str) -> list[float]:
        """Values of a metric with at least these tags, in the order in which they came."""
        with self._lock:
            return [value for told, of, value in self._points if told == name and tags.items() <= of.items()]

    def tags(self, name: str) -> list[dict[str, str]]:
        """Tags of the points of a metric."""
        with self._lock:
            return [of for told, of, _ in self._points if told == name]

    def everything(self) -> list[tuple[str, dict[str, str]]]:
        """Names and tags of all points."""
        with self._lock:
            return [(told, of) for told, of, _ in self._points]

    def add(self, content: bytes) -> None:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

        request: Any = ExportMetricsServiceRequest()
        request.ParseFromString(content)
        metrics = [m for of in request.resource_metrics for scope in of.scope_metrics for m in scope.metrics]
        with self._lock:
            for metric in metrics:
                kind = metric.WhichOneof("data")
                for point in getattr(metric, kind).data_points:
                    tags = {pair.key: pair.value.string_value for pair in point.attributes}
                    whole = getattr(point, "count", None) if "histogram" in kind else None
                    value = whole if whole is not None else (point.as_double or point.as_int)
                    self._points.append((metric.name.removeprefix("airflow."), tags, value))


@contextmanager
def metrics_collector() -> Iterator[MetricsCollector]:
    """Run a collector."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                content = gzip.decompress(content)
            if self.path == "/v1/metrics":
                collector.add(content)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = MetricsCollector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
