"""Metrics go to the collector that was named, and say no more than /metrics does."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from serve_small_models import echo, served

pytest.importorskip("opentelemetry.sdk", reason="the extra otlp is not installed")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from edgeward.serve.otlp import OtlpExporter
from edgeward.serve.stats import Spent


class Collector(HTTPServer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[ExportMetricsServiceRequest] = []
        self.arrived = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/metrics"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/metrics"
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(ExportMetricsServiceRequest.FromString(body))
        self.server.arrived.set()
        reply = ExportMetricsServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_numbers_arrive_and_the_last_ones_at_the_stop(collector: Collector) -> None:
    model = served("echo", "echo", echo((3,)))
    model.stats.answered(Spent(0.001, 0.002, 0.0, 0.004), 5)
    model.stats.ended(200)

    async def export() -> None:
        exporter = OtlpExporter(lambda: [model], collector.url, 0.1)
        exporter.start()
        assert await asyncio.to_thread(collector.arrived.wait, 60)
        model.stats.ended(503)
        await exporter.stop()

    asyncio.run(export())
    (resource,) = collector.got[-1].resource_metrics
    assert {one.key for one in resource.resource.attributes} == {"service.name", "service.version"}
    metrics = {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
    assert set(metrics) == {"edgeward.requests", "edgeward.samples", "edgeward.in_flight", "edgeward.latency"}
    points = metrics["edgeward.requests"].sum.data_points
    codes = {next(a.value.int_value for a in one.attributes if a.key == "code"): one.as_int for one in points}
    assert codes == {200: 1, 503: 1}
    assert metrics["edgeward.samples"].sum.data_points[0].as_int == 5
    assert max(one.as_double for one in metrics["edgeward.latency"].gauge.data_points) == pytest.approx(4.0)


def test_a_collector_that_is_away_does_not_hold_up_the_end(collector: Collector) -> None:
    url = collector.url.replace(str(collector.server_port), "1")

    async def export() -> None:
        exporter = OtlpExporter(list, url, 60)
        exporter.start()
        async with asyncio.timeout(30):
            await exporter.stop()

    asyncio.run(export())
    assert collector.got == []
