"""When a long run has come to rest. Rules only, and the loop that asks them."""

from collections.abc import Callable, Sequence
from itertools import count

import numpy as np

from edgeward.measure.bench import WORKERS, answer_of
from edgeward.measure.jobs import Contender, Drive, Driven, Load, Ready, encode, unpacked
from edgeward.records.bench import Steady, SteadyWindow

WINDOW_S = 5.0
BURST_S = 2.0
_AT_LEAST_S = 60.0
_WINDOWS = 6
"""So many windows, half a minute, have to agree: the time constant of a small passive heat sink is a minute or two."""
_LATENCY_SHARE = 0.02
"""The half-minute's trend of p50 may be this large a share of it; two runs on a quiet machine differ by as much."""
_DEGREES_PER_MINUTE = 1.0


def is_steady(windows: Sequence[SteadyWindow]) -> bool:
    """Whether neither the median latency nor the temperature has a trend any more.

    Over the last half minute, the middle one of all slopes between two windows (Theil and Sen's, which one spoilt
    window does not bend) moves p50 by at most 2 % and the temperature by at most one degree a minute.
    """
    last = windows[-_WINDOWS:]
    if len(last) < _WINDOWS:
        return False
    moments = [one.at_s for one in last]
    p50 = [one.p50_ms for one in last]
    if abs(slope(moments, p50)) * (moments[-1] - moments[0]) > _LATENCY_SHARE * float(np.median(p50)):
        return False
    heat = [one.temperature_c for one in last if one.temperature_c is not None]
    return len(heat) < len(last) or abs(slope(moments, heat)) * 60 <= _DEGREES_PER_MINUTE


def slope(moments: Sequence[float], values: Sequence[float]) -> float:
    """Theil and Sen's: the median of the slopes of all pairs."""
    pairs = [(low, high) for low in range(len(moments)) for high in range(low + 1, len(moments))]
    return float(np.median([(values[high] - values[low]) / (moments[high] - moments[low]) for low, high in pairs]))


def outcome(burst_ms: float, windows: Sequence[SteadyWindow]) -> Steady:
    """What the windows say in the end."""
    last = windows[-_WINDOWS:]
    has_sensor = all(one.temperature_c is not None for one in windows)
    return Steady(
        windows=tuple(windows), burst_p50_ms=burst_ms, steady_p50_ms=float(np.median([one.p50_ms for one in last])),
        took_s=windows[-1].at_s, is_steady=is_steady(windows),
        watched="latency and temperature" if has_sensor else "latency alone: no temperature sensor is visible here",
    )  # fmt: skip


def run_steady(
    contender: Contender, *, most_s: float, seed: int, temperature: Callable[[], float | None],
    tell: Callable[[str, float], None],
) -> Steady:  # fmt: skip
    """Runs without a pause until it is steady, for a minute at least and `most_s` at most."""
    windows: list[SteadyWindow] = []
    length = min(WINDOW_S, max(0.5, most_s / (2 * _WINDOWS)))
    least = min(_AT_LEAST_S, most_s / 2)
    with WORKERS.take() as partner:
        answer_of(partner.ask(encode(Load(contender)), limit_s=120), Ready)

        def p50(seconds: float, turn: int) -> tuple[float, float]:
            told = answer_of(partner.ask(encode(Drive(seconds, seed + turn)), limit_s=600 + 10 * seconds), Driven)
            return float(np.median(unpacked(told.latencies)["ms"])), told.seconds

        burst, passed = p50(min(BURST_S, length), 0)
        for turn in count(1):
            median, took = p50(length, turn)
            passed += took
            windows.append(SteadyWindow(at_s=passed, p50_ms=median, temperature_c=temperature()))
            tell(f"p50 {median:.3g} ms after {passed:.0f} s", min(1.0, passed / most_s))
            if passed >= most_s or (passed >= least and is_steady(windows)):
                break
    return outcome(burst, windows)
