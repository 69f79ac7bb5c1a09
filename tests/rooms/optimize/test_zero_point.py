"""The mean of raw bytes as the zero point of the first integer kernel, in the runtimes that read it."""

import numpy as np
import onnx
import pytest
from graph_models import branching_net, conv_net
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from test_graph_passes import answers, applied, samples_of

from edgeward.infer import runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize.parent import check_alike, read_stored
from edgeward.optimize.wiring import making
from edgeward.records.model import ColorOrder, Normalize, ToLayout

CAST = {"entry": "cast", "float_tail": True, "reduce_range": True}
HEAD = ("Cast", "Transpose", "QuantizeLinear", "DequantizeLinear")
mean = st.floats(0.05, 0.95)


def quantised(model, steps, samples, pixels=True, **options):
    passes = [("fold-preprocess", {"pixels": pixels}), ("quantize-static", {**CAST, **options})]
    return applied(model, passes, samples, steps)


def makers_of(model):
    return {name: node for node in model.graph.node for name in node.output}


def first_conv(model):
    return next(node for node in model.graph.node if node.op_type == "Conv")


def head_of(model):
    """What stands between the bytes and the first convolution, from there on."""
    makers, found, name = makers_of(model), [], first_conv(model).input[0]
    while name in makers:
        found.insert(0, makers[name].op_type)
        name = makers[name].input[0]
    return tuple(found)


def zeros_of(model):
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return constants[makers_of(model)[first_conv(model).input[0]].input[2]].tolist()


def run(runtime, model, frame):
    session = runtimes.load(runtime).load(model.SerializeToString(), threads=1)
    return session.run({"x": frame[None]})[0]


@settings(max_examples=25, deadline=None)
@given(mean=st.tuples(mean, mean, mean), bgr=st.booleans(), pixels=st.booleans(), seed=st.integers(0, 5))
def test_bytes_go_into_the_kernel_as_they_are_and_answers_stay(mean, bgr, pixels, seed):
    samples = samples_of((8, 8, 3), count=16, seed=seed)
    steps = (*((ColorOrder(order="BGR"),) if bgr else ()), Normalize(mean=mean), ToLayout(layout="NCHW"))
    model = conv_net(seed=seed)
    int8, left = quantised(model, steps, samples, pixels)
    assert head_of(int8) == HEAD
    wanted = [round(part * 255) for part in (reversed(mean) if bgr else mean)]
    assert np.abs(np.subtract(zeros_of(int8), wanted)).max() <= 1, "a mean on half a number may go either way"
    onnx.checker.check_model(int8, full_check=True)
    scales = {tensor.name: list(tensor.dims) for tensor in int8.graph.initializer}
    rounding = next(node for node in int8.graph.node if node.op_type == "QuantizeLinear")
    assert [scales[name] for name in rounding.input[1:]] == [[], []], "a list of one is a scale for each of one channel"
    before, after = answers(model, steps, samples), answers(int8, left, samples)
    assert np.abs(after - before).max() < 0.05 * max(1.0, np.abs(before).max())


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_border_is_padded_with_the_mean_of_each_channel(runtime):
    frame, others = samples_of((8, 8, 3), count=1)[0]["x"], samples_of((8, 8, 3), count=16)
    steps = (Normalize(mean=(10.4 / 255, 120 / 255, 250.3 / 255)), ToLayout(layout="NCHW"))
    int8, _ = quantised(conv_net(), steps, others)
    exact, _ = applied(conv_net(), [("fold-preprocess", {})], others, steps)
    assert zeros_of(int8) == [10, 120, 250]
    found = run(runtime, making(int8, [first_conv(int8).output[0]]), frame)
    wanted = run("onnxruntime", making(exact, ["c"]), frame)
    tolerance = 0.02 * np.abs(wanted).max()
    for border in (np.s_[..., 0, :], np.s_[..., -1, :], np.s_[..., :, 0], np.s_[..., :, -1], np.s_[..., 1:-1, 1:-1]):
        np.testing.assert_allclose(found[border], wanted[border], atol=tolerance)
    black = run("onnxruntime", making(exact, ["c"]), np.zeros_like(frame))
    assert np.abs(black - wanted).max() > 10 * tolerance, "such a tolerance tells one frame from another"


def executed(model, frame):
    """Kind and kernel of what OpenVINO runs, in order."""
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    read = core.read_model(model.SerializeToString())
    read.reshape([1, *frame.shape])
    request = core.compile_model(read, "CPU", {"PERF_COUNT": True, "INFERENCE_NUM_THREADS": 1}).create_infer_request()
    request.infer([frame[None]])
    ran = [entry for entry in request.profiling_info if str(entry.status).endswith("EXECUTED")]
    return [(entry.node_type, entry.exec_type.lower()) for entry in ran]


def test_openvino_computes_the_first_layer_in_integers_and_little_before_it():
    samples, before = samples_of((8, 8, 3), count=16), []
    for last in (0.6, 1.1):  # which no byte is: there the arithmetic stays
        model, _ = quantised(conv_net(), (Normalize(mean=(0.4, 0.5, last)), ToLayout(layout="NCHW")), samples)
        ran = executed(model, samples[0]["x"])
        place = [kind for kind, _ in ran].index("Convolution")
        assert ran[place][1].endswith("_i8")
        before.append([kind for kind, _ in ran[:place]])
    assert set(before[0]) <= {"Reorder"}, "of some processors kernels want their own layout"
    assert {*before[1]} - {"Reorder"}


def test_a_parent_of_another_mean_is_built_differently():
    samples = samples_of((8, 8, 3), count=16)
    files = [
        quantised(conv_net(), (Normalize(mean=mean), ToLayout(layout="NCHW")), samples)[0].SerializeToString()
        for mean in ((0.4, 0.5, 0.6), (0.4, 0.5, 0.6), (0.4, 0.5, 0.7))
    ]
    same, again, other = (read_stored(data, "onnx") for data in files)
    check_alike(same, again)
    with pytest.raises(Unsupported, match="built differently"):
        check_alike(same, other)


def test_before_there_was_a_zero_point_for_each_channel_the_arithmetic_stays():
    samples, steps = samples_of((8, 8, 3), count=16), (Normalize(mean=(0.4, 0.5, 0.6)), ToLayout(layout="NCHW"))
    old = conv_net()
    old.opset_import[0].version = 12
    int8, left = quantised(old, steps, samples, per_channel=False)
    assert "edgeward_entry_zeros" not in {tensor.name for tensor in int8.graph.initializer}
    assert np.isfinite(answers(int8, left, samples)).all()


@pytest.mark.parametrize(
    ("why", "model", "mean", "options"),
    [
        ("no byte is its mean", conv_net(), (-0.1, 0.5, 0.5), {}),
        ("no byte is its mean", conv_net(), (0.5, 0.5, 1.1), {}),
        ("the convolution stays in float", conv_net(), (0.4, 0.5, 0.6), {"keep_float": "conv"}),
        ("another reads the pixels too", branching_net(), (0.4, 0.5, 0.6), {}),
        ("activations have no zero point", conv_net(), (0.4, 0.5, 0.6), {"activations": "int8"}),
        ("a runtime reads bytes by one zero point", conv_net(), (0.4, 0.5, 0.6), {"entry": "bytes"}),
        ("no mean is left outside the bias", conv_net(pads=(0, 0, 0, 0)), (0.4, 0.5, 0.6), {}),
    ],
)
def test_elsewhere_the_arithmetic_stays(why, model, mean, options):
    samples, steps = samples_of((8, 8, 3), count=16), (Normalize(mean=mean), ToLayout(layout="NCHW"))
    int8, left = quantised(model, steps, samples, **options)
    assert "edgeward_entry_zeros" not in {tensor.name for tensor in int8.graph.initializer}, why
    assert np.isfinite(answers(int8, left, samples)).all()
