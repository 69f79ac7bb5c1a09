"""A mean of three channels reaches LiteRT repeated along a row, and takes nothing off the answers."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import numpy_helper, parser

from edgeward.infer import runtimes
from edgeward.optimize import exporters


def model_with(constant: np.ndarray):
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[1, 4, 6, 3] x) => (float[1, 2, 4, 6] y)'
        "{ t = Transpose<perm = [0, 3, 1, 2]>(x)  a = Add(t, c)  y = Conv(a, w) }"
    )
    weight = np.random.default_rng(0).normal(size=(2, 3, 1, 1)).astype(np.float32)
    model.graph.initializer.extend([numpy_helper.from_array(constant, "c"), numpy_helper.from_array(weight, "w")])
    return model


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        ((1, 3, 1, 1), (1, 1, 6, 3)),
        ((3, 1, 1), (1, 1, 6, 3)),
        ((1, 1, 1, 1), (1, 1, 1, 1)),
        ((1, 3, 4, 6), (1, 4, 6, 3)),
    ],
)
def test_only_a_constant_of_channels_is_repeated_for_a_row(shape, stored):
    constant = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    model = model_with(constant)
    data = exporters.load("litert").export(model).data
    shapes = [tuple(detail["shape"].tolist()) for detail in Interpreter(model_content=data).get_tensor_details()]
    assert stored in shapes
    values = np.random.default_rng(1).normal(size=(1, 4, 6, 3)).astype(np.float32)
    expected = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1).run({"x": values})[0]
    session = runtimes.load("litert").load(data, threads=1)
    np.testing.assert_allclose(session.run({"x": values})[0], expected, rtol=1e-4, atol=1e-4)
