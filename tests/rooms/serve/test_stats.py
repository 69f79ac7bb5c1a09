"""Durations to buckets and percentiles."""

from typing import ClassVar

import pytest
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from edgeward.serve.catalog import Catalog
from edgeward.serve.exposition import exposed
from edgeward.serve.stats import BUCKETS_S, RECENT, Histogram, ModelStats, Spent, percentiles_ms


def test_a_duration_on_a_bound_counts_below_it_as_prometheus_has_it() -> None:
    histogram = Histogram()
    for seconds in (0.00005, 0.00006, 99.0):
        histogram.add(seconds)
    found = dict(histogram.cumulative())
    assert (found["5e-05"], found["0.0001"], found["10"], found["+Inf"]) == (1, 2, 2, 3)
    assert histogram.sum_s == pytest.approx(99.00011)
    assert list(BUCKETS_S) == sorted(BUCKETS_S)


def test_percentiles_are_in_milliseconds_by_stage() -> None:
    found = percentiles_ms([Spent(0.001, 0.01 * index, 0, 0.5) for index in range(101)])
    assert (found["infer"].p50, found["infer"].p95, found["infer"].p99) == (500, 950, 990)
    assert (found["pre"].p50, found["total"].p99) == (1, 500)
    assert percentiles_ms([]) == {}


def test_percentiles_forget_what_is_long_past() -> None:
    stats = ModelStats()
    for _ in range(RECENT):
        stats.answered(Spent(1, 1, 1, 1), 1)
    for _ in range(RECENT):
        stats.answered(Spent(0.001, 0.001, 0.001, 0.001), 2)
    assert percentiles_ms(stats.recent)["total"].p99 == 1
    assert stats.samples == 3 * RECENT


def test_errors_are_the_codes_from_400() -> None:
    stats = ModelStats()
    for code in (200, 200, 400, 499, 503):
        stats.ended(code)
    assert (stats.requests, stats.errors) == (5, 3)


def test_numbers_outlive_a_model_that_is_served_no_more_and_go_on_when_it_comes_back() -> None:
    class Model:
        facts: ClassVar = {"runtime": "echo"}

        def __init__(self, version):
            self.name, self.version, self.stats = "digits", version, ModelStats()

    first, second = Model("1.0.0"), Model("1.1.0")
    catalog = Catalog([first])
    first.stats.ended(200)
    catalog.put([second])
    second.stats.ended(200)
    second.stats.ended(400)
    first.stats.ended(200)  # what had begun ends on it

    def counts() -> dict[str, float]:
        _, text = exposed(catalog.models, catalog.past.values(), openmetrics=False)
        found = {}
        for family in text_parser.text_string_to_metric_families(text):
            for one in family.samples:
                if one.name in ("edgeward_requests_total", "edgeward_model_info"):
                    found[f"{one.name} {one.labels['version']} {one.labels.get('code', '')}"] = one.value
        return found

    assert counts() == {
        "edgeward_requests_total 1.0.0 200": 2, "edgeward_requests_total 1.1.0 200": 1,
        "edgeward_requests_total 1.1.0 400": 1, "edgeward_model_info 1.1.0 ": 1,
    }  # fmt: skip
    back = Model("1.0.0")
    catalog.put([back])
    back.stats.ended(200)
    assert counts()["edgeward_requests_total 1.0.0 200"] == 3
    for number in range(100):
        catalog.put([Model(f"2.0.{number}")])
    assert len(catalog.past) == 16


@pytest.mark.parametrize("openmetrics", [False, True])
def test_prometheus_own_client_reads_every_number(openmetrics: bool) -> None:
    class Model:
        name, version, facts = "digits", '1 "beta"\n', {"runtime": "echo"}
        stats = ModelStats()

    model = Model()
    model.stats.answered(Spent(0.001, 0.002, 0.003, 0.006), 4)
    model.stats.ended(200)
    _, text = exposed([model], openmetrics=openmetrics)
    read = openmetrics_parser if openmetrics else text_parser
    samples = {one.name: one for family in read.text_string_to_metric_families(text) for one in family.samples}
    assert samples["edgeward_requests_total"].labels == {"code": "200", "model": "digits", "version": '1 "beta"\n'}
    assert samples["edgeward_samples_total"].value == 4
    assert samples["edgeward_inference_seconds_sum"].value == pytest.approx(0.003)
    assert samples["process_resident_memory_bytes"].value > 1e6
    assert 0 < samples["process_cpu_seconds_total"].value < 1e6
