"""How often `edgeward trace` blames the right one: ten seeded runs of each disturbance. Wants root and bpftrace."""

import sys
from pathlib import Path

import pytest

from edgeward.measure import bpftrace_run

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/system"))
from trace_study import CASES, is_right, study

_RUNS, _ENOUGH = 10, 9


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_the_right_one_is_blamed(name, tmp_path):
    if (found := bpftrace_run.missing()) is not None:
        pytest.skip(f"{found.why}; try: {found.mend}")
    runs = [study(CASES[name], seed, tmp_path) for seed in range(_RUNS)]
    right = sum(is_right(CASES[name], run) for run in runs)
    confidence = sorted(run.blame.confidence for run in runs)[_RUNS // 2]
    print(f"\n{name}: {right} of {_RUNS} right, median share of lost time explained {confidence:.2f}")
    assert right >= _ENOUGH
