"""Each candidate runs on the number of threads that suits it."""

from typing import Any

import pytest

from edgeward.measure.jobs import Contender, SoloResult
from edgeward.measure.place import HERE
from edgeward.optimize.trials import Rig, _on_fitting_threads


class Told:
    """This machine, but for how long an inference takes: that is told by the number of threads."""

    def __init__(self, steady_ms: dict[int, float]) -> None:
        self._steady_ms = steady_ms

    def __getattr__(self, name: str) -> Any:
        return getattr(HERE, name)

    def measure_alone(self, contender: Contender, *, seconds: float = 0.2) -> SoloResult:
        return SoloResult(1.0, 1.0, self._steady_ms[contender.threads], 1)


@pytest.mark.parametrize(
    ("steady_ms", "wanted"),
    [({1: 1.0, 4: 0.4}, 4), ({1: 0.05, 4: 0.08}, 1), ({1: 1.0, 4: 0.95}, 1)],
    ids=["a large model gains", "a small one loses", "a gain within the noise is none"],
)
def test_more_threads_only_where_they_clearly_gain(tmp_path, steady_ms, wanted):
    rig = Rig(Told(steady_ms), (1, 4), tmp_path, {})
    one = Contender("model.onnx", "onnxruntime", 1, "feeds.npz")
    contender, cost = _on_fitting_threads(rig, one, rig.place.measure_alone(one))
    assert (contender.threads, cost.steady_ms) == (wanted, steady_ms[wanted])


def test_a_shorter_inference_in_a_runtime_where_threads_gained_nothing_is_not_tried_on_more(tmp_path):
    rig = Rig(Told({1: 1.0, 4: 0.1}), (1, 4), tmp_path, {"onnxruntime": 2.0})
    one = Contender("model.onnx", "onnxruntime", 1, "feeds.npz")
    contender, _ = _on_fitting_threads(rig, one, rig.place.measure_alone(one))
    assert contender.threads == 1
