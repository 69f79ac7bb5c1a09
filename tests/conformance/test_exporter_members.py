"""One suite over every exporter: the file it writes answers as the ONNX model does, operator by operator."""

import numpy as np
import onnx
import pytest

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize import exporters

CHAINS = {
    "conv": "y = Conv<pads=[1,1,1,1]>(x, w)",
    "conv-stride-unequal-pads": "y = Conv<strides=[2,2], pads=[0,0,1,1]>(x, w)",
    "conv-same-upper": 'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)',
    "conv-dilated": "y = Conv<dilations=[2,2]>(x, w)",
    "conv-bias-relu": "c = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(c)",
    "conv-relu6": "c = Conv<pads=[1,1,1,1]>(x, w, b) y = Clip(c, zero, six)",
    "conv-used-twice": "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) y = Add(c, r)",
    "depthwise": "y = Conv<pads=[1,1,1,1], group=4>(x, dw)",
    "transposed-conv": "y = ConvTranspose<strides=[2,2]>(x, tw)",
    "residual": "c = Conv<pads=[1,1,1,1]>(x, sw) s = Add(c, x) y = Relu(s)",
    "maxpool": "y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)",
    "maxpool-padded": "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
    "averagepool": "y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(x)",
    "globalpool-flatten-gemm": "g = GlobalAveragePool(x) f = Flatten(g) y = Gemm<transB=1>(f, gw, b)",
    "flatten-of-planes": "f = Flatten(x) y = Relu(f)",
    "batchnorm": "y = BatchNormalization(x, four, four, four, four)",
    "sigmoid-mul": "s = Sigmoid(x) y = Mul(x, s)",
    "hardswish": "y = HardSwish(x)",
    "softmax-of-channels": "y = Softmax<axis=1>(x)",
    "reduce-mean": "y = ReduceMean<axes=[2,3], keepdims=0>(x)",
    "concat-channels": "r = Relu(x) y = Concat<axis=1>(x, r)",
    "transpose": "t = Transpose<perm=[0,2,3,1]>(x) y = Relu(t)",
    "there-and-back": "t = Transpose<perm=[0,2,3,1]>(x) r = Relu(t) u = Transpose<perm=[0,3,1,2]>(r) y = Conv(u, w)",
    "channel-scale": "y = Mul(x, perchannel)",
    "matmul-of-rows": "t = Transpose<perm=[0,2,3,1]>(x) y = MatMul(t, mw)",
    "pad-relu": "p = Pad(x, pads) y = Relu(p)",
    "gelu-by-hand": "d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
    "gelu-half-first": "d = Div(x, root2) h = Mul(half, x) e = Erf(d) a = Add(one, e) y = Mul(h, a)",
    "gelu-half-in-the-middle": "d = Div(x, root2) e = Erf(d) a = Add(e, one) m = Mul(a, half) y = Mul(x, m)",
    "subtract-square-root": "s = Sub(x, one) q = Mul(s, s) a = Add(q, one) y = Sqrt(a)",
    "leaky": "y = LeakyRelu<alpha=0.1>(x)",
    "softplus": "y = Softplus(x)",
    "mish": "s = Softplus(x) t = Tanh(s) y = Mul(x, t)",
    "softsign": "y = Softsign(x)",
    "elu-half": "y = Elu<alpha=0.5>(x)",
    "selu": "y = Selu(x)",
    "celu": "y = Celu<alpha=0.5>(x)",
    "instance-normalisation": "y = InstanceNormalization(x, four, four)",
    "layer-normalisation": "y = LayerNormalization<axis=-1>(x, ten)",
    "l2-normalisation": "n = ReduceL2<axes=[1], keepdims=1>(x) y = Div(x, n)",
    "sum-of-sizes": "y = ReduceL1<axes=[2], keepdims=0>(x)",
    "sum-of-squares": "y = ReduceSumSquare<axes=[1], keepdims=0>(x)",
    "transposed-conv-padded": "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, tw3, five)",
    "transposed-conv-same": "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, tw4)",
    "transposed-conv-groups": "y = ConvTranspose<strides=[2,2], group=2>(x, tw)",
    "transposed-conv-auto": 'y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, tw3)',
    "transposed-conv-of-a-row": "f = Reshape(x, row) y = ConvTranspose<strides=[2], pads=[1,1]>(f, trow)",
    "maxpool-of-relu-padded": "r = Relu(x) y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(r)",
    "maxpool-ceil": "y = MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",
    "averagepool-padded": "y = AveragePool<kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]>(x)",
    "averagepool-counting-pads": "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)",
    "averagepool-unequal": "y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)",
    "averagepool-ceil": "y = AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(x)",
    "pad-reflect": 'y = Pad<mode="reflect">(x, pads)',
    "pad-edge": 'y = Pad<mode="edge">(x, pads)',
    "resize-nearest": 'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", '
    'nearest_mode="floor">(x, "", double)',
    "resize-nearest-odd": 'y = Resize<mode="nearest">(x, "", odd)',
    "resize-nearest-half-pixel": 'y = Resize<mode="nearest">(x, "", double)',
    "resize-linear": 'y = Resize<mode="linear">(x, "", double)',
    "resize-linear-corners": 'y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, "", double)',
    "pixel-shuffle": 'y = DepthToSpace<blocksize=2, mode="CRD">(x)',
    "depth-to-space": "y = DepthToSpace<blocksize=2>(x)",
    "space-to-depth": "y = SpaceToDepth<blocksize=2>(x)",
    "channel-shuffle": "a = Reshape(x, twos) t = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(t, planes)",
    "flip": "y = Slice(x, last, before, two, back)",
    "where": "g = Greater(x, one) y = Where(g, x, half)",
    "without-nan": "r = Sqrt(x) n = IsNaN(r) y = Where(n, half, r)",
    "one-channel": "r = Relu(x) y = Gather<axis=1>(r, first)",
    "last-row": "t = Transpose<perm=[0,2,3,1]>(x) y = Gather<axis=1>(t, final)",
    "a-run-of-columns": "y = Gather<axis=3>(x, run)",
    "columns-out-of-order": "y = Gather<axis=3>(x, mixed)",
    "argmax": "a = ArgMax<axis=1>(x) y = Cast<to=1>(a)",
    "argmax-without-the-axis": "a = ArgMax<axis=1, keepdims=0>(x) y = Cast<to=1>(a)",
    "tile": "y = Tile(x, twice)",
    "running-sum": "y = CumSum(x, two)",
    "expand": "m = ReduceMax<axes=[1]>(x) y = Expand(m, planes)",
    "einsum-heads": 'a = Reshape(x, rows) y = Einsum<equation="bnc,chd->bhnd">(a, heads)',
    "einsum-scores": 'y = Einsum<equation="bcnd,bcmd->bcnm">(x, x)',
    "einsum-to-front": 'y = Einsum<equation="bcnd,bcmd->bncm">(x, x)',
}


REFUSED = {"tvm": {"celu", "resize-nearest-odd", "resize-nearest-half-pixel"}}
"""What an exporter says no to, since its runtime would answer wrongly."""


def _constants() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    normal = lambda *shape: generator.normal(size=shape).astype(np.float32)  # noqa: E731
    return {
        "w": normal(6, 4, 3, 3), "dw": normal(4, 1, 3, 3), "tw": normal(4, 5, 2, 2), "sw": normal(4, 4, 3, 3),
        "b": normal(6), "gw": normal(6, 4), "mw": normal(4, 7), "four": np.float32([0.5, 1, 1.5, 2]),
        "perchannel": normal(1, 4, 1, 1), "pads": np.int64([0, 0, 1, 1, 0, 0, 2, 1]), "zero": np.float32(0),
        "tw3": normal(4, 5, 3, 3), "tw4": normal(4, 5, 4, 4), "trow": normal(4, 3, 3), "five": normal(5),
        "ten": normal(10), "row": np.int64([1, 4, 80]), "rows": np.int64([1, 80, 4]), "heads": normal(4, 2, 3),
        "double": np.float32([1, 1, 2, 2]), "odd": np.float32([1, 1, 1.5, 1.25]), "twos": np.int64([1, 2, 2, 8, 10]),
        "planes": np.int64([1, 4, 8, 10]), "last": np.int64([-1]), "before": np.int64([-100]), "two": np.int64([2]),
        "back": np.int64([-1]), "first": np.int64(0), "final": np.int64(-1), "run": np.int64([3, 4, 5]),
        "mixed": np.int64([3, 5, 4]),
        "twice": np.int64([1, 2, 1, 3]),
        "six": np.float32(6), "one": np.float32(1), "half": np.float32(0.5), "root2": np.float32(1.4142135),
    }  # fmt: skip


def _model(nodes: str) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[1,4,8,10] x) => (float y) {{ {nodes} }}'
    model = onnx.parser.parse_model(text)
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(values, name) for name, values in _constants().items() if name in used
    )
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


@pytest.fixture(params=exporters.names())
def exporter(request: pytest.FixtureRequest) -> tuple[str, exporters.Exporter]:
    try:
        return request.param, exporters.load(request.param)
    except Unsupported as error:
        pytest.skip(f"{error.message}: {error.hint}")


def _runtime_for(form: str) -> runtimes.Runtime:
    return runtimes.load({"onnx": "onnxruntime"}.get(form, form))


@pytest.mark.parametrize("chain", CHAINS)
def test_the_exported_model_answers_as_the_onnx_model(exporter, chain):
    form, writer = exporter
    model = _model(CHAINS[chain])
    if chain in REFUSED.get(form, ()):
        with pytest.raises(Unsupported, match="wrongly"):
            writer.export(model)
        return
    values = np.random.default_rng(0).normal(size=(1, 4, 8, 10)).astype(np.float32)
    expected = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1).run({"x": values})
    session = _runtime_for(form).load(writer.export(model).data, threads=1)
    (got,) = session.run({"x": values})
    assert got.shape == expected[0].shape
    np.testing.assert_allclose(got, expected[0], rtol=2e-5, atol=2e-5)


def test_an_exporter_leaves_the_model_as_it_is(exporter):
    model = _model(CHAINS["conv-bias-relu"])
    before = model.SerializeToString(deterministic=True)
    exporter[1].export(model)
    assert model.SerializeToString(deterministic=True) == before
