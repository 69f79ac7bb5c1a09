"""The numbers as Prometheus reads them: its text format, or OpenMetrics where it asks for that.

Written out here: prometheus_client costs 3 MB of a small device's memory to do the same.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from edgeward.serve.stats import ModelStats

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Counted(Protocol):
    """A model as its numbers are labelled."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def stats(self) -> ModelStats: ...


class Measured(Counted, Protocol):
    """One that is served."""

    @property
    def facts(self) -> dict[str, str]: ...


class Family(NamedTuple):
    """Numbers of one name. `kind` is counter, gauge or histogram; each row is a suffix, labels and a value."""

    name: str
    kind: str
    help: str
    rows: list[tuple[str, Mapping[str, str], float]]


def exposed(models: Iterable[Measured], past: Iterable[Counted] = (), *, openmetrics: bool) -> tuple[str, str]:
    """Content type and text."""
    lines = [line for family in families(models, past) for line in _lines(family, openmetrics=openmetrics)]
    end = ["# EOF"] if openmetrics else []
    return (OPENMETRICS if openmetrics else TEXT), "\n".join([*lines, *end, ""])


def families(models: Iterable[Measured], past: Iterable[Counted] = ()) -> list[Family]:
    """Every number there is, of all models, of those that were served before, and of the process."""
    models = list(models)
    requests = Family("edgeward_requests", "counter", "Inference requests by HTTP status.", [])
    seconds = Family("edgeward_inference_seconds", "histogram", "Time of answered requests by stage.", [])
    flying = Family("edgeward_in_flight", "gauge", "Requests being read, waiting or answered.", [])
    samples = Family("edgeward_samples", "counter", "Samples answered.", [])
    info = Family("edgeward_model_info", "gauge", "What is served.", [])
    for model in (*models, *past):
        labels, stats = {"model": model.name, "version": model.version}, model.stats
        requests.rows.extend(
            ("_total", {"code": str(code), **labels}, count) for code, count in sorted(stats.codes.items())
        )
        for stage, histogram in stats.stages.items():
            place = {"model": model.name, "stage": stage, "version": model.version}
            counted = histogram.cumulative()
            seconds.rows.extend(("_bucket", {"le": bound, **place}, count) for bound, count in counted)
            seconds.rows.append(("_count", place, counted[-1][1]))
            seconds.rows.append(("_sum", place, histogram.sum_s))
        flying.rows.append(("", labels, stats.in_flight))
        samples.rows.append(("_total", labels, stats.samples))
    for served in models:
        labels = {"model": served.name, "version": served.version}
        info.rows.append(("", dict(sorted({**labels, **served.facts}.items())), 1))
    return [requests, seconds, flying, samples, info, *_process()]


def _process() -> Iterator[Family]:
    """Of this process, by the names that Prometheus' own clients have for them."""
    page, tick = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
    words = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    boot_s = next(float(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line[:5] == "btime")
    values = [
        ("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", float(words[20])),
        ("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", float(words[21]) * page),
        ("process_start_time_seconds", "gauge", "When it started, since the epoch.", boot_s + float(words[19]) / tick),
        ("process_cpu_seconds", "counter", "User and system CPU time.", (float(words[11]) + float(words[12])) / tick),
        ("process_open_fds", "gauge", "Open files.", float(len(os.listdir("/proc/self/fd")))),  # noqa: PTH208
    ]
    for name, kind, told, value in values:
        yield Family(name, kind, told, [("_total" if kind == "counter" else "", {}, value)])


def _lines(family: Family, *, openmetrics: bool) -> Iterator[str]:
    """The text format calls a counter by its sample's name, OpenMetrics by its family's."""
    name = f"{family.name}_total" if family.kind == "counter" and not openmetrics else family.name
    yield f"# HELP {name} {family.help}"
    yield f"# TYPE {name} {family.kind}"
    for suffix, labels, value in family.rows:
        told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{family.name}{suffix}{{{told}}} {float(value)!r}" if told else f"{family.name}{suffix} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
