"""What is tried, what is kept, and which one wins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from edgeward.kit.errors import WrongInput
from edgeward.measure.limits import parse_budget, violations_of
from edgeward.optimize.choose import CLOSE, PERHAPS, choose, close_to_fastest, is_no_slower, pareto
from edgeward.optimize.propose import AS_GIVEN, recipes
from edgeward.records.candidate import Latency, Trial, Violation
from edgeward.records.target import Budget


def trial(recipe: str, p50: float, drop: float, size: int, **more: object) -> Trial:
    made = Trial(
        recipe=recipe, steps=(), runtime="echo", runtime_version="1", precision="int8", file=None, digest=None,
        size_bytes=size, quality={"top1": 0.9 - drop}, quality_drop=drop, quality_drop_ci=(drop, drop),
        latency_ms=Latency(p50=p50, p95=p50, p99=p50, runs=1), **more,
    )  # fmt: skip
    return Trial(**{**{f: getattr(made, f) for f in made.__struct_fields__},
                    "violations": violations_of(made, Budget(), 0.01)})  # fmt: skip


def test_a_budget_reads_units():
    budget = parse_budget("p95<8ms, size<=1.5MB,peak-memory<64MiB,p50<250us")
    assert budget == Budget(latency_p95_ms=8, bundle_bytes=1_500_000, peak_memory_bytes=64 * 2**20, latency_p50_ms=0.25)


@pytest.mark.parametrize("text", ["p95", "p95<8", "p95<8MB", "speed<1ms", "size<0B", "p95>8ms", "p95<1.2.3ms"])
def test_a_budget_that_cannot_be_read_names_the_part(text):
    with pytest.raises(WrongInput, match="--budget"):
        parse_budget(text)


def test_the_fastest_that_keeps_the_gate_wins():
    trials = [trial(AS_GIVEN, 2, 0, 100), trial("good", 1, 0.005, 30), trial("fast-but-wrong", 0.5, 0.2, 30)]
    choice = choose(trials, {"good": True}, gate="top1 within 0.01")
    assert choice.chosen is not None
    assert choice.chosen.recipe == "good"


def test_noise_does_not_make_what_was_slower_close_to_the_fastest():
    generator = np.random.default_rng(0)
    fastest, slower, slow, missed = (generator.lognormal(np.log(ms), 0.5, (20, 5)) for ms in (1, 1.06, 3, 0.5))
    trials = [trial("a", 1, 0, 9), trial("b", 1.06, 0, 1), trial("c", 3, 0, 1), trial("d", 0.5, 0.2, 1)]
    times = [fastest, slower * np.median(fastest) / np.median(slower) * 1.06, slow, missed]
    assert close_to_fastest(trials, times, least=PERHAPS, seed=0) == [0, 1]
    assert close_to_fastest(trials, times, least=CLOSE, seed=0) == [0]
    assert close_to_fastest(trials[3:], times[3:], least=CLOSE, seed=0) == []


def test_among_ties_the_most_accurate_of_the_smallest_wins():
    trials = [trial("large", 1, 0, 100), trial("small", 1.01, 0.005, 31), trial("small-and-better", 1.01, 0.002, 32)]
    choice = choose(trials, dict.fromkeys(("large", "small", "small-and-better"), True), gate="the gate")
    assert choice.chosen is not None
    assert choice.chosen.recipe == "small-and-better"


def test_what_ran_slower_than_the_model_as_given_is_no_equal_of_it():
    speeds = {"slower": 0.96, "alike": 0.995, "faster": 1.2}
    told = {name: is_no_slower(trial(name, 1, 0, 1, speedup_p50=ratio)) for name, ratio in speeds.items()}
    assert told == {"slower": False, "alike": True, "faster": True}


def test_when_nothing_is_faster_it_says_to_leave_the_model_as_it_is():
    choice = choose([trial(AS_GIVEN, 1, 0, 100), trial("slow", 2, 0, 90)], {AS_GIVEN: True}, gate="the gate")
    assert "leave it as it is" in choice.reason


def test_when_nothing_keeps_the_gate_the_nearest_is_named():
    choice = choose([trial("far", 1, 0.5, 1), trial("near", 1, 0.02, 1)], {}, gate="top1 within 0.01")
    assert choice.chosen is None
    assert choice.nearest == "near"


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("latency_p95_ms", "p95 latency 9 ms over 8 ms"),
        ("peak_memory_bytes", "peak memory 9 B over 8 B"),
        ("energy_mj", "energy 9 mJ over 8 mJ"),
        ("cold_start_ms", "cold start 9 ms over 8 ms"),
        ("quality_drop", "quality drop 9.0000 over 8"),
    ],
)
def test_a_miss_is_told_in_words_and_not_in_field_names(limit, told):
    missed = replace(trial("near", 1, 0, 1), violations=(Violation(limit=limit, allowed=8, measured=9),))
    assert choose([missed], {}, gate="the gate").reason.endswith(f"near: {told}")


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(-0.1, 0.1), st.integers(1, 1000)), min_size=1, max_size=12))
def test_what_is_chosen_always_keeps_the_limits_and_stands_among_the_trials(figures):
    trials = [trial(f"r{index}", *figure) for index, figure in enumerate(figures)]
    choice = choose(trials, {}, gate="the gate")
    assert (choice.chosen is None) == all(one.violations for one in trials)
    assert choice.chosen is None or (choice.chosen in trials and not choice.chosen.violations)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(-0.1, 0.1), st.integers(1, 1000)), min_size=1, max_size=12))
def test_the_front_is_never_empty_and_nothing_beats_it(figures):
    trials = [trial(f"r{index}", *figure) for index, figure in enumerate(figures)]
    front = pareto(trials)
    assert front
    fastest = min(figures)
    assert any(figures[int(name[1:])][0] == fastest[0] for name in front)


@pytest.mark.parametrize(
    ("arch", "features", "reduced"),
    [("x86_64", {"avx2"}, True), ("x86_64", {"avx512_vnni"}, False), ("aarch64", {"asimddp"}, False)],
)
def test_weights_get_seven_bits_only_where_sums_would_overflow(arch, features, reduced):
    ours = [recipe for recipe in recipes(arch, features) if recipe.runtime == "onnxruntime"]
    quantising = [step for recipe in ours for step in recipe.steps if step.use == "quantize-static"]
    assert quantising
    assert all(step.options["reduce_range"] is reduced for step in quantising)
