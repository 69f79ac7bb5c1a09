"""Times of nodes, in a process of its own: each runtime's own account, and a sentence where there is none."""

import numpy as np
import pytest

from edgeward.infer import runtimes
from edgeward.infer.node_times import undisturbed
from edgeward.kit.errors import Unsupported
from edgeward.measure.node_times import node_times


@pytest.fixture(params=["onnxruntime", "litert", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        runtimes.load(name)
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")
    return name


def test_a_runtime_tells_its_one_node_with_a_time_and_a_place(runtime: str) -> None:
    model = runtimes.load(runtime).smoke_model()
    (times,) = node_times(runtime, [model], threads=1, seconds=0.02, feeds={"x": np.ones(256, np.float32)})
    assert not isinstance(times, str)
    work = [node for node in times if not node.is_conversion]
    assert len(work) == 1
    assert work[0].time_ms > 0
    assert work[0].kernel
    assert "float32" in work[0].placement


def test_a_model_that_is_none_is_a_sentence_and_the_others_are_timed(runtime: str) -> None:
    model = runtimes.load(runtime).smoke_model()
    times = node_times(runtime, [model, b"no model", b"", model], threads=1, seconds=0.02, together=2)
    assert [isinstance(found, str) for found in times] == [False, True, True, False]
    assert all(found for found in times)


def test_no_models_take_no_time(runtime: str) -> None:
    assert node_times(runtime, [], threads=1, seconds=0.02) == ()


def test_a_runtime_without_an_account_says_so() -> None:
    with pytest.raises(Unsupported, match="keeps no account"):
        node_times("echo", [b"{}"], threads=1, seconds=0.02)


def test_a_few_slow_runs_do_not_change_what_a_node_takes() -> None:
    quiet = [1.0, 1.01, 1.02, 1.01, 1.0, 1.03, 1.02, 1.01]
    assert undisturbed([*quiet, 50.0, 80.0]) == pytest.approx(undisturbed(quiet), rel=0.01)


@pytest.mark.parametrize("count", [1, 2, 3, 19, 20, 21])
@pytest.mark.parametrize("share", [0.15, 0.5, 1.0])
def test_any_number_of_runs_gives_a_time_among_them(count: int, share: float) -> None:
    times = [1.0 + 0.1 * index for index in range(count)]
    assert min(times) <= undisturbed(times, share) <= max(times)
