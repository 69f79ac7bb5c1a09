"""Heads that read the same values become one convolution, and answer as before."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser
from test_graph_passes import applied

from edgeward.infer import runtimes
from edgeward.optimize import passes
from edgeward.optimize.passes.base import STAYS_FLOAT
from edgeward.records.candidate import Step

pytest.importorskip("onnxruntime")
COLUMNS, ROWS = "columns", "rows"
SIZES = {1: (4, 6), 2: (2, 3)}
"""Height and width of the two scales."""
OPENVINO = {"entry": "cast", "float_tail": True, "reduce_range": True}


def pyramid(kinds, *, layout=COLUMNS, free=False, samples=0, channels=5, ending="", bias=True, **words):
    """Two scales with a head of each kind, `kinds` by its number of outputs; `words` stand in for lines of the graph.

    `free`: height and width are known when it runs. `ending`: what is behind the joins, which give `<kind>_all`.
    """
    size = "h,w" if free else "8,12"
    lines = ["c1 = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w1)", "r1 = Relu (c1)"]
    lines += ["c2 = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (r1, w2)", "r2 = Relu (c2)"]
    generator = np.random.default_rng(0)
    constants = {
        "w1": generator.normal(size=(channels, 3, 3, 3)), "w2": generator.normal(size=(channels, channels, 3, 3)),
        "slim": generator.normal(size=(channels, 1, 1, 1)), "square": generator.normal(size=(30, 30)),
        "two": np.array([0, -1, 2]), "yes": np.array(True),
    }  # fmt: skip
    for kind, outputs in kinds.items():
        for scale, (height, width) in SIZES.items():
            name, places = f"{kind}{scale}", -1 if samples == 0 else height * width
            constants[f"{name}_w"] = generator.normal(size=(outputs, channels, 1, 1))
            constants[f"{name}_b"] = generator.normal(size=outputs)
            size_here, stride = (3, 1) if kind == "boxes" else (1, 2)
            constants[f"{name}_wide"] = generator.normal(size=(outputs, channels, size_here, size_here))
            target = [samples, outputs, places] if layout == COLUMNS else [samples, places, outputs]
            constants[f"{name}_shape"] = np.array(target)
            told = {
                "conv": f"{name} = Conv (r{scale}, {name}_w{f', {name}_b' if bias else ''})",
                "turn": "" if layout == COLUMNS else f"{name}_t = Transpose <perm = [0, 2, 3, 1]> ({name})",
                "flat": f"{name}_flat = Reshape ({name}{'' if layout == COLUMNS else '_t'}, {name}_shape)",
            } | {key: text.format(name=name, kind=kind, scale=scale, stride=stride) for key, text in words.items()}
            lines += [line for line in told.values() if line]
        lines.append(f"{kind}_all = Concat <axis = {2 if layout == COLUMNS else -2}> ({kind}1_flat, {kind}2_flat)")
    answers = ", ".join(f"float[a{n},b{n},c{n}] {kind}_all" for n, kind in enumerate(kinds))
    if ending:
        lines.append(ending)
        answers = "float[a,b,c] y"
    text = f"g (float[batch,3,{size}] x) => ({answers}) {{\n" + "\n".join(lines) + "\n}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{text}')
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32) if value.dtype.kind == "f" else value, name)
        for name, value in constants.items()
        if name in used
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def joined(model):
    return passes.load("join-heads").apply(model, Step(use="join-heads"), passes.Context([], "tensor", ()))


def convolutions(model):
    return [node for node in model.graph.node if node.op_type == "Conv"]


def answers(model, runtime="onnxruntime", samples=3):
    x = np.random.default_rng(7).normal(size=(samples, 3, 8, 12)).astype(np.float32)
    session = runtimes.load(runtime).load(model.SerializeToString(), threads=1)
    return dict(zip([spec.name for spec in session.outputs], session.run({"x": x}), strict=True))


def check_same_answers(before, after):
    onnx.checker.check_model(after, full_check=True)
    for name, value in answers(before).items():
        np.testing.assert_allclose(answers(after)[name], value, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    kinds=st.dictionaries(st.sampled_from(["boxes", "scores", "centre"]), st.integers(1, 9), min_size=2),
    layout=st.sampled_from([COLUMNS, ROWS]), free=st.booleans(), bias=st.booleans(),
)  # fmt: skip
def test_any_number_of_heads_becomes_one_for_each_scale_and_answers_the_same(kinds, layout, free, bias):
    before = pyramid(kinds, layout=layout, free=free, bias=bias)
    after = joined(before).model
    assert len(convolutions(before)) == 2 + 2 * len(kinds)
    assert len(convolutions(after)) == 2 + 2
    assert [value.name for value in after.graph.output] == [f"{kind}_all" for kind in kinds]
    check_same_answers(before, after)


def test_a_head_without_a_bias_has_one_of_zeros_beside_others():
    before = pyramid({"boxes": 4, "scores": 3})
    for node in convolutions(before):
        if node.output[0].startswith("boxes"):
            del node.input[2]
    check_same_answers(before, joined(before).model)


def test_samples_are_free_where_the_places_are_known():
    before = pyramid({"boxes": 4, "scores": 3}, samples=-1)
    check_same_answers(before, joined(before).model)


def test_weights_that_scales_share_they_share_still():
    before = pyramid({"boxes": 4, "scores": 3}, conv="{name} = Conv (r{scale}, {kind}1_w, {kind}1_b)")
    after = joined(before).model
    check_same_answers(before, after)
    assert len({node.input[1] for node in convolutions(after)[2:]}) == 1
    assert after.ByteSize() < before.ByteSize() + 1000


def test_old_constants_go_and_the_note_counts():
    before = pyramid({"boxes": 4, "scores": 3})
    passed = joined(before)
    assert passed.notes == ("4 convolutions of heads became 2: the same values are read by one",)
    read = {name for node in passed.model.graph.node for name in node.input}
    assert {tensor.name for tensor in passed.model.graph.initializer} <= read
    assert {node.name for node in convolutions(passed.model)} >= {"boxes1+scores1", "boxes2+scores2"}
    assert len(before.graph.node) == len(pyramid({"boxes": 4, "scores": 3}).graph.node)


def test_in_int8_what_both_heads_make_stays_in_float_and_scores_keep_their_bits():
    """Boxes are a thousand times as large: with one scale for both nothing would be left of the scores."""
    pytest.importorskip("openvino")
    before = pyramid({"boxes": 4, "scores": 3})
    for tensor in before.graph.initializer:
        if tensor.name.startswith("boxes") and tensor.name[-2:] in ("_w", "_b"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1000, tensor.name))
    generator = np.random.default_rng(7)
    samples = [{"x": generator.normal(size=(3, 8, 12)).astype(np.float32)} for _ in range(24)]
    after, _ = applied(before, [("join-heads", {}), ("quantize-static", OPENVINO)], samples, kind="tensor")
    makers = {name: node for node in after.graph.node for name in node.output}
    for node in convolutions(after):
        assert all(makers[name].op_type == "DequantizeLinear" for name in node.input[:2])
    for node in after.graph.node:
        if node.op_type in ("Reshape", "Concat", "Split"):
            assert node.name.startswith(STAYS_FLOAT)
            assert "Linear" not in makers[node.input[0]].op_type
    for name, value in answers(before).items():
        for runtime in ("onnxruntime", "openvino"):
            error = np.abs(answers(after, runtime)[name] - value).mean()
            assert error < 0.03 * np.ptp(value), (name, runtime)


KEPT_APART = {
    "one head": pyramid({"boxes": 4}),
    "two boxes at each place": pyramid(
        {"boxes": 4, "scores": 4}, layout=ROWS, flat="{name}_flat = Reshape ({name}_t, two)"
    ),
    "places unknown and samples too": pyramid({"boxes": 4, "scores": 3}, samples=-1, free=True),
    "kernels of two sizes that the graph leaves to the weights": pyramid(
        {"boxes": 4, "scores": 3}, conv='{name} = Conv <auto_pad = "SAME_UPPER"> (r{scale}, {name}_wide)'
    ),
    "strides of two sizes": pyramid(
        {"boxes": 4, "scores": 3}, flat="{name}_flat = Reshape ({name}, {name}_shape)",
        conv="{name} = Conv <strides = [{stride}, {stride}]> (r{scale}, {name}_w)",
    ),
    "a branch that may read what a head makes": pyramid(
        {"boxes": 4, "scores": 3}, ending="y = If (yes) <then_branch = then () => (float[a,b,c] t) "
        "{ t = Identity (boxes_all) }, else_branch = other () => (float[a,b,c] e) { e = Identity (scores_all) }>",
    ),
    "one sample where more may come": pyramid({"boxes": 4, "scores": 3}, samples=1),
    "a layer behind them": pyramid(
        {"boxes": 4, "scores": 3}, ending="z = Concat <axis = 1> (boxes_all, scores_all)\n y = MatMul (z, square)"
    ),
    "groups": pyramid({"boxes": 5, "scores": 5}, conv="{name} = Conv <group = 5> (r{scale}, slim)"),
    "another order of axes": pyramid(
        {"boxes": 4, "scores": 4}, layout=ROWS, turn="{name}_t = Transpose <perm = [0, 3, 2, 1]> ({name})"
    ),
    "an activation on each": pyramid(
        {"boxes": 4, "scores": 3}, flat="{name}_a = Sigmoid ({name})\n{name}_flat = Reshape ({name}_a, {name}_shape)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("model", KEPT_APART.values(), ids=KEPT_APART.keys())
def test_there_is_nothing_to_do_for(model):
    with pytest.raises(passes.DoesNotApply):
        joined(model)
