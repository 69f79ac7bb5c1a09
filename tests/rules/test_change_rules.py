"""Changes between two models: intervals over generations, verdicts, and the rule that fails a build."""

import numpy as np
import pytest

from edgeward.kit.errors import WrongInput
from edgeward.measure.changes import check, compared, generations_for, signed_rank_interval
from edgeward.measure.fail_if import conditions_of
from edgeward.measure.generations import Generation
from edgeward.measure.jobs import Loaded


def loaded(load_ms=10.0, peak=50_000_000):
    return Loaded(load_ms, 1.0, 20_000_000, 5_000_000, 1_000_000, peak, "PSS")


def generations(factor, *, count=8, noise=0.003, seed=0, memory=1.0):
    """X takes `factor` times as long as the base; each generation errs by `noise` in both."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        base = generator.lognormal(0, 0.05, (40, 5)) * np.exp(generator.normal(0, noise))
        x = generator.lognormal(0, 0.05, (40, 5)) * factor * np.exp(generator.normal(0, noise))
        found.append(Generation((loaded(peak=int(50e6 * memory)), loaded()), np.stack([x, base])))
    return found


def test_the_interval_is_the_exact_one_of_the_signed_rank_test():
    # Hollander, Wolfe and Chicken: n 8, P(W <= 3) = 5/256, so the 4th average from either end bounds 96.1 %.
    values = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8])
    averages = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    middle, low, high = signed_rank_interval(values, confidence=0.95)
    assert (low, high) == (averages[3], averages[-4])
    assert middle == np.median(averages)


def test_too_few_generations_have_no_interval():
    assert signed_rank_interval(np.zeros(5), confidence=0.95)[1:] == (-np.inf, np.inf)
    assert np.isfinite(signed_rank_interval(np.zeros(6), confidence=0.95)[1])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        _, low, high = signed_rank_interval(generator.standard_t(2, 8), confidence=0.95)
        hits += low <= 0 <= high
    assert 0.945 <= hits / 2000 <= 0.977  # the exact confidence is 96.1 %


def test_the_same_thing_is_no_difference_and_five_percent_is_slower():
    assert compared(generations(1.0), ()).changes[0].verdict == "no difference"
    assert compared(generations(1.05), ()).changes[0].verdict == "slower"
    assert compared(generations(0.9), ()).changes[0].verdict == "faster"
    assert compared(generations(1.015), ()).changes[0].verdict == "no difference"


def test_more_throughput_is_faster_and_more_memory_is_more():
    changes = {one.metric: one for one in compared(generations(0.9, memory=1.2), ()).changes}
    assert changes["throughput"].verdict == "faster"
    assert changes["throughput"].ratio == pytest.approx(1 / 0.9, rel=0.02)
    assert changes["memory"].verdict == "more"


def test_spoilt_generations_make_it_unclear_and_do_not_decide():
    found = generations(1.0)
    for place in (2, 5, 6):
        found[place].times_ms[0] *= 3
        assert compared(found, ()).changes[0].verdict == "unclear"


def test_a_condition_fails_only_with_its_confidence():
    (rise,) = conditions_of("p50>+3%@95%")
    assert check(generations(1.05), rise).failed
    assert not check(generations(1.05, noise=0.1), rise).failed
    assert not check(generations(1.02), rise).failed
    (fall,) = conditions_of("throughput<-3%")
    assert check(generations(1.05), fall).failed
    assert not check(generations(1.01), fall).failed


def test_the_grammar_takes_several_conditions_with_defaults_and_spaces():
    first, second, third = conditions_of("p99>+5%@99%, memory > 10 % ,throughput<-2.5%@90%")
    assert first == ("p99", 0.05, 0.99, "p99>+5%@99%")
    assert (second.metric, second.change, second.confidence) == ("memory", 0.10, 0.95)
    assert (third.metric, third.change, third.is_rise()) == ("throughput", -0.025, False)


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("", 1, "a metric"), ("p98>5%", 1, "'p98' is no metric"), ("p99", 4, "> (fails"), ("p99>+5", 6, "percentage"),
        ("p99>+5%@", 9, "a confidence"), ("p99>+5%@101%", 9, "50% to"), ("p99>+5%,", 9, "a metric"),
        ("p50>5%, p99=5%", 12, "'=5%'"), ("p99>-5%", 5, "> goes with +"), ("p99>5% please", 8, "'please'"),
        ("throughput<120%", 12, "nothing falls"),
    ],
)  # fmt: skip
def test_a_misread_condition_names_the_place(text, place, word):
    with pytest.raises(WrongInput) as told:
        conditions_of(text)
    assert f"character {place}:" in told.value.message
    assert word in told.value.message


def test_a_surer_condition_takes_more_generations():
    assert generations_for(()) == 8
    assert generations_for(conditions_of("p99>5%@99.9%")) == 11
    found = generations(1.5, count=11)
    assert check(found, conditions_of("p99>5%@99.9%")[0]).failed
