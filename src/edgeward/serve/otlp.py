"""Metrics to an OpenTelemetry collector, at the one address that the user named, every so often.

The same numbers as /metrics. Only the extra otlp brings the packages; nothing is sent anywhere without the option.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from edgeward import __version__
from edgeward.serve.exposition import Measured
from edgeward.serve.stats import percentiles_ms

Models = Callable[[], Sequence[Measured]]
Callback = Callable[[CallbackOptions], Iterable[Observation]]


class OtlpExporter:
    """A companion that exports from its own thread; a collector that is away costs a line in the log and no request."""

    def __init__(self, models: Models, endpoint: str, every_s: float) -> None:
        exporter = OTLPMetricExporter(endpoint=endpoint, timeout=10)
        self._models = models
        self._reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1000 * every_s)

    def start(self) -> None:
        # Not Resource.create(): its detectors read more of this machine than the user asked us to tell.
        about = Resource({"service.name": "edgeward", "service.version": __version__})
        self._provider = MeterProvider([self._reader], about, shutdown_on_exit=False)
        meter = self._provider.get_meter("edgeward", __version__)
        meter.create_observable_counter("edgeward.requests", [self._requests], "1", "Inference requests by status.")
        meter.create_observable_counter("edgeward.samples", [self._samples], "1", "Samples answered.")
        meter.create_observable_up_down_counter("edgeward.in_flight", [self._in_flight], "1", "Requests under way.")
        meter.create_observable_gauge("edgeward.latency", [self._latency], "ms", "Of the latest requests, by stage.")

    async def stop(self) -> None:
        """After the last numbers were sent, or could not be."""
        await asyncio.get_running_loop().run_in_executor(None, self._provider.shutdown, 5000)

    def _requests(self, _: CallbackOptions) -> Iterable[Observation]:
        for model in self._models():
            for code, count in model.stats.codes.copy().items():
                yield Observation(count, {**_named(model), "code": code})

    def _samples(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(model.stats.samples, _named(model)) for model in self._models()]

    def _in_flight(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(model.stats.in_flight, _named(model)) for model in self._models()]

    def _latency(self, _: CallbackOptions) -> Iterable[Observation]:
        for model in self._models():
            for stage, spent in percentiles_ms(model.stats.recent.copy()).items():
                for quantile, value in (("0.5", spent.p50), ("0.95", spent.p95), ("0.99", spent.p99)):
                    yield Observation(value, {**_named(model), "stage": stage, "quantile": quantile})


def _named(model: Measured) -> dict[str, str]:
    return {"model": model.name, "version": model.version}
