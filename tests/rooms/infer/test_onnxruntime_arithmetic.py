"""What ONNX Runtime computes in is told from the graph it runs, not from the one it was given.

It makes a product with weights in int8 a MatMulNBits, which quantises the activations while it runs.
"""

import pytest

from edgeward.infer.runtimes.onnxruntime import plugin

parser = pytest.importorskip("onnx.parser")

_HEAD = '<ir_version: 8, opset_import: ["": 13]> g '
_FLOAT = "(float[n,4] x) => (float[n,2] y) <float[4,2] w={1,2,3,4,5,6,7,8}> { y = MatMul(x, w) }"
_QUANTISED = """(float[n,4] x) => (float[n,2] y)
<float s={0.02}, uint8 z={128}, float ws={0.01}, int8 wz={0}, int8[4,2] w={1,2,3,4,5,6,7,8}>
{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) v = DequantizeLinear(w, ws, wz)
  p = MatMul(d, v) r = QuantizeLinear(p, s, z) y = DequantizeLinear(r, s, z) }"""
_WEIGHTS_ONLY = """(float[n,4] x) => (float[n,2] y) <float ws={0.01}, int8 wz={0}, int8[4,2] w={1,2,3,4,5,6,7,8}>
{ v = DequantizeLinear(w, ws, wz) y = MatMul(x, v) }"""
_NO_PRODUCT = "(float[n] x) => (float[n] y) { y = Add(x, x) }"


@pytest.mark.parametrize(
    ("graph", "wanted"),
    [(_FLOAT, "float32"), (_QUANTISED, "int8"), (_WEIGHTS_ONLY, "int8"), (_NO_PRODUCT, None)],
    ids=["float", "quantised", "weights-only", "no-product"],
)
def test_the_arithmetic_is_that_of_the_products_that_run(graph, wanted):
    assert plugin.arithmetic_of(parser.parse_model(_HEAD + graph).SerializeToString()) == wanted
