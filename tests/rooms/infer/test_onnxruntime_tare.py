"""What ONNX Runtime's profiler adds to a node."""

import numpy as np
import onnx
import pytest

from edgeward.infer import runtimes
from edgeward.infer.onnxruntime_tare import INPUTS, Tare, chain


@pytest.mark.parametrize("inputs", INPUTS)
def test_a_chain_is_a_model_of_so_many_nodes(inputs: int) -> None:
    model = onnx.load_model_from_string(chain(40, inputs))
    onnx.checker.check_model(model, full_check=True)
    assert [len(node.input) for node in model.graph.node] == [inputs] * 40
    session = runtimes.load("onnxruntime").load(chain(40, inputs), threads=1)
    (answer,) = session.run({"t0": np.ones((1, 1, 1, 1), np.float32)})
    assert answer.ravel().tolist() == [1 + 40 * (inputs - 1)]


def test_what_was_added_is_taken_off_and_a_node_takes_at_least_something() -> None:
    tare = Tare((0.002, 0.003, 0.006), 0.0003)
    assert tare.without(0.010, 3) == pytest.approx(0.007)
    assert tare.without(0.010, 6) == pytest.approx(0.0055)
    assert tare.without(0.010, 20) == pytest.approx(0.004)
    assert tare.without(0.002, 9) == 0.0003
