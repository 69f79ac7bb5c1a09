"""Each pass against the model before it, on real samples, in the real runtime."""

import numpy as np
import onnx
import pytest
from graph_models import branching_net, conv_net, dense_net
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeward.infer import Predictor, runtimes
from edgeward.kit.errors import Unsupported
from edgeward.optimize import passes
from edgeward.records.candidate import Step
from edgeward.records.model import ColorOrder, Detrend, Normalize, OneHot, Resize, Standardize, ToLayout

NAMES = {"x"}


def samples_of(shape, count=6, seed=1):
    generator = np.random.default_rng(seed)
    return [{"x": generator.integers(0, 256, shape).astype(np.uint8)} for _ in range(count)]


def applied(model, steps, samples, preprocess=(), kind="image"):
    for name, options in steps:
        context = passes.Context(samples, kind, preprocess)
        model, preprocess, _ = passes.load(name).apply(model, Step(use=name, options=options), context)
    return model, preprocess


def answers(model, preprocess, samples):
    session = runtimes.load("onnxruntime").load(model.SerializeToString(), threads=1)
    return np.concatenate([batch[0] for batch in Predictor(session, preprocess=preprocess).outputs_of(samples)])


def input_type(model):
    return model.graph.input[0].type.tensor_type.elem_type


def assert_folded_alike(model, preprocess, samples, kind="image", pixels=False):
    folded, left = applied(model, [("fold-preprocess", {"pixels": pixels})], samples, preprocess, kind)
    before, after = answers(model, preprocess, samples), answers(folded, left, samples)
    assert input_type(folded) == onnx.TensorProto.UINT8
    np.testing.assert_allclose(after, before, rtol=2e-4, atol=2e-4 * max(1.0, np.abs(before).max()))
    return folded, left


channel = st.floats(0.05, 0.95)


@settings(max_examples=40, deadline=None)
@given(
    mean=st.tuples(channel, channel, channel), std=st.tuples(channel, channel, channel), bgr=st.booleans(),
    nhwc=st.booleans(), padded=st.booleans(), seed=st.integers(0, 5), pixels=st.booleans(),
)  # fmt: skip
def test_a_folded_graph_on_raw_bytes_answers_as_the_preprocessing_and_the_graph_before(
    mean, std, bgr, nhwc, padded, seed, pixels
):
    model = conv_net(nhwc=nhwc, pads=(1, 1, 1, 1) if padded else (0, 0, 0, 0), seed=seed)
    steps = [Normalize(mean=mean, std=std)]
    if bgr:
        steps.insert(seed % 2, ColorOrder(order="BGR"))
    if not nhwc:
        steps.append(ToLayout(layout="NCHW"))
    folded, left = assert_folded_alike(model, tuple(steps), samples_of((8, 8, 3)), pixels=pixels)
    assert left == ()
    arithmetic = {node.op_type for node in folded.graph.node} & {"Mul", "Sub", "Gather"}
    assert arithmetic == set(), "scale and channel order belong into the weights"


def test_without_padding_the_mean_goes_into_the_bias_too():
    steps = (Normalize(mean=(0.5,), std=(0.2,)), ToLayout(layout="NCHW"))
    folded, _ = assert_folded_alike(conv_net(pads=(0, 0, 0, 0)), steps, samples_of((8, 8, 3)))
    assert "Add" not in {node.op_type for node in folded.graph.node}


@pytest.mark.parametrize("gemm", [True, False])
@pytest.mark.parametrize("features", [1, 6])
def test_a_dense_first_layer_takes_raw_bytes_too(gemm, features):
    steps = (Normalize(mean=tuple([0.3] * features), std=tuple([0.4] * features)),)
    assert_folded_alike(dense_net(features=features, gemm=gemm), steps, samples_of((features,)), "tensor")


def test_one_mean_serves_every_feature_of_a_dense_layer():
    assert_folded_alike(dense_net(), (Normalize(mean=(0.3,), std=(0.4,)),), samples_of((6,)), "tensor")


def test_where_no_weights_stand_first_the_arithmetic_stays_in_the_graph():
    steps = (Normalize(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)), ColorOrder(order="BGR"), ToLayout(layout="NCHW"))
    assert_folded_alike(branching_net(), steps, samples_of((8, 8, 3)))


def test_what_precedes_the_values_stays_outside():
    resize = Resize(height=8, width=8)
    steps = (resize, Normalize(), ToLayout(layout="NCHW"))
    _, left = assert_folded_alike(conv_net(), steps, samples_of((12, 10, 3)))
    assert left == (resize,)


def test_float_samples_are_left_as_they_are():
    floats = [{"x": np.ones((3, 8, 8), np.float32)}]
    folded, left = applied(conv_net(), [("fold-preprocess", {})], floats, (Normalize(),), "tensor")
    assert left == (Normalize(),)
    assert input_type(folded) == onnx.TensorProto.FLOAT


def columns_of(features, count=12, seed=1):
    rows = np.random.default_rng(seed).normal(size=(count, features)) * np.geomspace(0.1, 100, features) + 5
    return [{"x": row.astype(np.float32)} for row in rows]


@settings(max_examples=25, deadline=None)
@given(gemm=st.booleans(), features=st.integers(1, 6), one=st.booleans(), seed=st.integers(0, 5))
def test_a_graph_that_standardises_answers_as_the_step_and_the_graph_before(gemm, features, one, seed):
    count = 1 if one else features
    step = Standardize(mean=tuple(range(1, count + 1)), std=tuple(np.geomspace(0.1, 100, count).tolist()))
    samples, model = columns_of(features, seed=seed), dense_net(features=features, gemm=gemm, seed=seed)
    inside, left = applied(model, [("fold-preprocess", {})], samples, (step,), "tensor")
    assert left == ()
    assert (answers(inside, (), samples) == answers(model, (step,), samples)).all(), "the same arithmetic"
    folded, left = applied(inside, [("fold-leading", {"rounded": False})], samples, (), "tensor")
    assert {node.op_type for node in folded.graph.node} <= {"Gemm", "MatMul", "Add"}
    wanted = answers(model, (step,), samples)
    np.testing.assert_allclose(answers(folded, (), samples), wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "steps",
    [
        (Standardize(mean=(0.0,), std=(2.0,), fill=(0.0,)),),
        (OneHot(column=0, values=("a",)), Standardize(mean=(0.0,), std=(2.0,))),
        (Standardize(mean=(0.0,), std=(2.0,)), Detrend()),
    ],
    ids=["fills-what-is-missing", "reads-words", "is-not-last"],
)
def test_standardising_that_no_graph_does_stays_outside(steps):
    inside, left = applied(dense_net(), [("fold-preprocess", {})], columns_of(6), steps, "tensor")
    assert left == steps
    assert inside.SerializeToString() == dense_net().SerializeToString()


def test_steps_that_make_floats_of_bytes_keep_the_graph_from_taking_bytes():
    steps = (Detrend(method="constant"),)
    inside, left = applied(dense_net(), [("fold-preprocess", {})], samples_of((6,)), steps, "tensor")
    assert left == steps
    assert input_type(inside) == onnx.TensorProto.FLOAT


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kernel", "pads"), [(3, (1, 1, 1, 1)), (5, (2, 2, 2, 2)), (7, (3, 3, 3, 3)), (3, (0, 0, 2, 2))]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_reading_in_blocks_gives_the_same_sums(channels, kernel, pads, stride):
    model = conv_net(channels=channels, size=16, kernel=kernel, stride=stride, pads=pads)
    samples = samples_of((16, 16, channels))
    steps = (ToLayout(layout="NCHW"),)
    plain, left = applied(model, [("fold-preprocess", {})], samples, steps)
    blocked, _ = applied(plain, [("block-first-conv", {})], samples, left)
    before = answers(plain, left, samples)
    np.testing.assert_allclose(answers(blocked, left, samples), before, rtol=1e-4, atol=1e-4 * np.abs(before).max())


@pytest.mark.parametrize(
    "model", [conv_net(channels=8), conv_net(pads=(0, 0, 0, 0)), branching_net(), dense_net(features=3)],
    ids=["many-channels", "shrinks", "branches", "dense"],
)  # fmt: skip
def test_blocks_do_not_apply_to_other_heads(model):
    with pytest.raises(passes.DoesNotApply):
        applied(model, [("block-first-conv", {})], samples_of((8, 8, 3)))


def test_stripping_changes_no_answer_and_no_outer_name():
    model = conv_net()
    floats = [{"x": np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)} for _ in range(4)]
    stripped, _ = applied(model, [("strip", {})], floats, (), "tensor")
    assert [v.name for v in (*stripped.graph.input, *stripped.graph.output)] == ["x", "y"]
    assert stripped.ByteSize() < model.ByteSize()
    assert (answers(stripped, (), floats) == answers(model, (), floats)).all()


def test_raw_bytes_enter_the_quantised_graph_as_they_are():
    samples, steps = samples_of((8, 8, 3), count=16), (ToLayout(layout="NCHW"),)
    int8, left = applied(conv_net(), [("fold-preprocess", {}), ("quantize-static", {})], samples, steps)
    operators = [node.op_type for node in int8.graph.node]
    assert "Cast" not in operators
    assert operators.index("DequantizeLinear") < operators.index("Conv")
    before, after = answers(conv_net(), steps, samples), answers(int8, left, samples)
    assert np.abs(after - before).max() < 0.05 * np.abs(before).max()


def test_a_quantised_model_is_not_quantised_again():
    samples, steps = samples_of((8, 8, 3)), (ToLayout(layout="NCHW"),)
    int8, left = applied(conv_net(), [("fold-preprocess", {}), ("quantize-static", {})], samples, steps)
    with pytest.raises(Unsupported, match="quantised already"):
        applied(int8, [("quantize-static", {})], samples, left)


def test_no_pass_changes_the_model_it_was_given():
    model, samples = conv_net(), samples_of((8, 8, 3))
    before = model.SerializeToString(deterministic=True)
    steps = (Normalize(), ToLayout(layout="NCHW"))
    applied(model, [(name, {}) for name in ("simplify", "fold-preprocess", "quantize-static", "strip")], samples, steps)
    assert model.SerializeToString(deterministic=True) == before
