"""Energy arithmetic against a simulated meter whose energy is known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeward.kit.errors import Unsupported
from edgeward.measure.energy import Meter, Sample, per_inference, spent

COUNTER = Meter("RAPL package-0", "processor package", "counter", 262_143_328_850.0)
SAMPLER = Meter("INA VDD_IN", "board input", "power")
IDLE_W, SWING_W, PERIOD_S = 5.0, 1.5, 0.7


def joules(at_s, busy_w):
    """The true energy since zero of a load that swings around IDLE_W + busy_w."""
    angle = 2 * math.pi * at_s / PERIOD_S
    return (IDLE_W + busy_w) * at_s + SWING_W * (1 - math.cos(angle)) * PERIOD_S / (2 * math.pi)


def watts(at_s, busy_w):
    return IDLE_W + busy_w + SWING_W * math.sin(2 * math.pi * at_s / PERIOD_S)


def moments(seconds, hz, jitter):
    count = int(seconds * hz)
    inner = [(index + jitter[index % len(jitter)]) / hz for index in range(1, count)]
    return [0.0, *inner, seconds]


def lost(values, dropped):
    """Drops those of `dropped`, never two beside each other nor an end."""
    return [
        None if 0 < index < len(values) - 1 and index % 7 == 3 and index // 7 in dropped else value
        for index, value in enumerate(values)
    ]


jitters = st.lists(st.floats(-0.4, 0.4), min_size=1, max_size=9)
losses = st.sets(st.integers(0, 60))


@given(st.floats(0.5, 40), st.floats(2, 12), st.floats(0, 1), jitters, losses, st.floats(0, 1))
def test_a_counter_that_starts_again_gives_the_true_energy(busy_w, seconds, start, jitter, dropped, reach):
    # a range so small that it goes round several times in the window, and never twice in one gap
    meter = COUNTER._replace(range_uj=(4 + 40 * reach) * 1e6)
    at = moments(seconds, 50, jitter)
    true = [joules(one, busy_w) * 1e6 for one in at]
    quantum = 61.0
    shown = [float(int((value + start * meter.range_uj) / quantum) * quantum % meter.range_uj) for value in true]
    found = spent(meter, [Sample(*pair) for pair in zip(at, lost(shown, dropped), strict=True)], most_w=60)
    assert found.energy_mj == pytest.approx(true[-1] / 1000, rel=0.01)
    assert found.dropped == sum(one is None for one in lost(shown, dropped))


@given(st.floats(0.5, 40), st.floats(2, 12), jitters, losses)
def test_power_samples_are_integrated_with_their_real_moments(busy_w, seconds, jitter, dropped):
    at = moments(seconds, 50, jitter)
    values = lost([watts(one, busy_w) * 1000 for one in at], dropped)
    found = spent(SAMPLER, [Sample(*pair) for pair in zip(at, values, strict=True)])
    assert found.energy_mj == pytest.approx(joules(seconds, busy_w) * 1000, rel=0.01)


@given(st.floats(1, 40), st.sampled_from([COUNTER, SAMPLER]))
def test_net_is_gross_without_the_idle_before_and_after(busy_w, meter):
    def run(busy, periods):
        at = moments(periods * PERIOD_S, 50, [0.0])
        told = [joules(one, busy) * 1e6 if meter is COUNTER else watts(one, busy) * 1000 for one in at]
        return spent(meter, [Sample(*pair) for pair in zip(at, told, strict=True)])

    found = per_inference(meter, run(busy_w, 6), [run(0, 2), run(0, 2)], 1000)
    assert found.gross_mj == pytest.approx((IDLE_W + busy_w) * 6 * PERIOD_S, rel=0.01)
    assert found.net_mj == pytest.approx(busy_w * 6 * PERIOD_S, rel=0.01)
    assert found.idle_mw == pytest.approx(IDLE_W * 1000, rel=0.01)


def steady(meter, watts_now, seconds=2.0, hz=50):
    count = int(seconds * hz) + 1
    scale = 1000.0 if meter.kind == "power" else None
    values = [watts_now * (scale or 1e6 * index / hz) + (index % 2 if scale else 0) for index in range(count)]
    return spent(meter, [Sample(index / hz, value) for index, value in enumerate(values)])


def test_net_is_not_told_where_it_is_inside_what_idle_varies_by():
    found = per_inference(SAMPLER, steady(SAMPLER, 5.2), [steady(SAMPLER, 4.8), steady(SAMPLER, 5.3)], 100)
    assert found.net_mj is None
    assert "idle itself varies" in found.note
    assert found.gross_mj == pytest.approx(104, rel=0.01)


@pytest.mark.parametrize(
    ("meter", "samples", "why"),
    [
        (SAMPLER, [Sample(i / 10, 5.0) for i in range(5)], "5 samples in the window"),
        (SAMPLER, [Sample(i / 50, None) for i in range(50)], "0 samples in the window"),
        (SAMPLER, [Sample(i / 50 + (i > 30) * 2, 5.0) for i in range(60)], "no sample for 2 s"),
        (COUNTER, [Sample(i / 50, 1e6 * (i // 20)) for i in range(100)], "changed 4 times"),
        (COUNTER._replace(range_uj=1e6), [Sample(i / 50, i * 9e4 % 1e6) for i in range(100)], "more than once"),
        (
            COUNTER._replace(range_uj=None),
            [Sample(i / 50, 5e6 - 1e4 * i) for i in range(100)],
            "range at which it starts",
        ),
    ],
)
def test_what_the_meter_does_not_resolve_is_refused_in_a_sentence(meter, samples, why):
    with pytest.raises(Unsupported, match=why):
        spent(meter, samples)


def test_a_sensor_that_never_moves_while_the_model_runs_is_too_slow():
    still = spent(SAMPLER, [Sample(i / 50, 5000.0) for i in range(100)])
    with pytest.raises(Unsupported, match="too slow"):
        per_inference(SAMPLER, still, [still, still], 10)
