"""What is said of times that were not taken on the target."""

import pytest
from msgspec.structs import replace

from edgeward.kit.errors import Unsupported
from edgeward.measure.jobs import Facts
from edgeward.optimize import timing
from edgeward.optimize.choose import Choice, pareto
from edgeward.records.candidate import Latency, Trial
from edgeward.records.target import Budget

HERE = Facts(
    name="devbox", arch="x86_64", cpu_features=("avx2", "avx512_vnni"), hostname="devbox", cpu="Xeon", cpu_count=2,
    kernel="6.1",
)  # fmt: skip
PI = replace(HERE, name="pi5", arch="aarch64", cpu_features=("asimd", "asimddp"))


def trial(recipe: str, p50_ms: float, size_bytes: int) -> Trial:
    return Trial(
        recipe=recipe, steps=(), runtime="onnxruntime", runtime_version="1", precision="int8", file=None, digest=None,
        size_bytes=size_bytes, quality_drop=0.0, latency_ms=Latency(p50=p50_ms, p95=p50_ms, p99=p50_ms, runs=9),
    )  # fmt: skip


def test_figures_of_the_target_itself_need_no_word():
    assert timing.notes("measured", HERE, HERE, Budget(latency_p95_ms=1), threads=None) == ()


def test_a_forecast_says_what_is_one_and_what_holds():
    first, *_ = timing.notes("forecast", PI, HERE, Budget(), threads=1)
    assert "latency, speed, load time and memory were measured on devbox (Xeon), not on pi5" in first
    assert "size holds there too" in first
    assert "int8 kernels of aarch64 may round" in first


def test_int8_answers_may_differ_where_one_cpu_has_another_product():
    older = replace(HERE, name="older", cpu_features=("avx2",))
    assert "no avx512_vnni" in timing.notes("forecast", older, HERE, Budget(), threads=1)[0]
    alike = replace(HERE, name="alike", cpu_features=("avx512_vnni",))
    assert "size and quality hold there too" in timing.notes("forecast", alike, HERE, Budget(), threads=1)[0]


def test_limits_that_were_held_against_forecasts_are_named():
    told = timing.notes("forecast", PI, HERE, Budget(latency_p95_ms=8, bundle_bytes=9, peak_memory_bytes=1), threads=1)
    assert "the limits on p95 and peak memory were held against these forecasts" in told
    assert not [
        note for note in timing.notes("forecast", PI, HERE, Budget(bundle_bytes=9), threads=1) if "held" in note
    ]


def test_threads_that_nobody_chose_are_this_machine_s():
    assert "--threads" in timing.notes("forecast", PI, HERE, Budget(), threads=None)[-1]
    assert "--threads" not in timing.notes("forecast", PI, HERE, Budget(), threads=4)[-1]


def test_emulated_times_are_no_budget_s_measure():
    with pytest.raises(Unsupported, match="p95 cannot be limited on pi5"):
        timing.check_budget("meaningless", PI, Budget(latency_p95_ms=1))
    timing.check_budget("meaningless", PI, Budget(bundle_bytes=1))
    timing.check_budget("forecast", PI, Budget(latency_p95_ms=1))


def test_the_front_of_the_best_sees_no_emulated_time():
    found = [trial("slow-and-small", 9, 10), trial("fast-and-large", 1, 20)]
    assert pareto(timing.comparable("meaningless", found)) == ("slow-and-small",)
    assert pareto(timing.comparable("measured", found)) == ("slow-and-small", "fast-and-large")


def test_the_reason_of_an_emulated_choice_has_no_word_of_speed():
    choice = Choice(trial("small", 9, 10), None, "small is the fastest of 3 that kept the gate")
    assert "fast" not in timing.untimed("meaningless", choice, 3).reason
    assert timing.untimed("forecast", choice, 3) is choice
